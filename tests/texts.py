"""Where the texts of a picture lie."""

from itertools import combinations

from matplotlib.text import Text


def assert_no_text_overlaps(figure, least):
    """No text overlaps another or leaves the figure, and there are at least so many."""
    figure.draw_without_rendering()
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
    texts = [t for t in texts if t.get_window_extent().width]
    # ticks beyond the limits have texts too, which are never drawn
    hidden = set()
    for axis in figure.axes:
        for one_axis in (axis.xaxis, axis.yaxis):
            shown = {id(tick) for tick in one_axis._update_ticks()}
            every = one_axis.get_major_ticks() + one_axis.get_minor_ticks()
            for tick in every:
                if id(tick) not in shown:
                    hidden |= {id(tick.label1), id(tick.label2)}
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if id(t) not in hidden]
    assert len(boxes) >= least
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0, (text, box)
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, (text, box)
    for (text, box), (other, its) in combinations(boxes, 2):
        overlap = min(box.x1, its.x1) - max(box.x0, its.x0), min(box.y1, its.y1) - max(box.y0, its.y0)
        assert min(overlap) <= 0, (text, other, overlap)
