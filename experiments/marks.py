"""Marks on panels: triangles where a mean leaves the axis, crosses where runs diverged."""

import numpy
from matplotlib.transforms import offset_copy

from . import looks

ASIDE = 6  # points from a cross to the next that would hide it


def mark(axis, line, field, x, at, mean):
    """Mark where a line's `mean` leaves the axis, each time anew, and where runs diverged; marks' names."""
    (low, high), look = axis.get_ylim(), looks.look_of(line.style)
    points = [(looks.BELOW, place, low) for place in _leaving(at, mean < low)]
    points += [(looks.ABOVE, place, high) for place in _leaving(at, mean > high)]
    colour = looks.drawn(look, line.grey)["color"]
    for name, place, y in points:
        axis.plot(place, y, "", label=f"_{name}", color=colour, clip_on=False, zorder=4, **looks.MARKS[name])
    ends = [_end(history, field, x, low, high) for history in line.histories if history["diverged"]]
    if ends:
        # A grey line's too has its colour: often a cross is all that is left of a run.
        colour = looks.drawn(look)["color"]
        cross = looks.MARKS[looks.DIVERGED] | {"color": colour, "linestyle": "", "clip_on": False}
        axis.plot(*zip(*ends), label=f"_{looks.DIVERGED}", zorder=4, **cross)
    names = {name for name, _, _ in points}
    return names | {looks.DIVERGED} if ends else names


def _end(history, field, x, low, high):
    """Where the cross of a diverged run stands: at the first of places, for it has no number at any."""
    if x.kind == "places":
        return history[x.field][0], high
    last, value = _last_finite(history, field, x)
    return last, high if value is None else numpy.clip(value, low, high)


def spread_crosses(figure, panel):
    """Move a line's crosses aside, toward the panel's middle, until they hide no other line's."""
    taken = []
    middle = panel.bbox.x0 + panel.bbox.width / 2
    for cross in panel.lines:
        if cross.get_label() != f"_{looks.DIVERGED}":
            continue
        pixels = panel.transData.transform(cross.get_xydata())
        points, aside = 72 / figure.dpi * pixels, numpy.zeros(2)
        toward = ASIDE if pixels[:, 0].mean() <= middle else -ASIDE
        while any((abs(points + aside - other).max(axis=1) < ASIDE - 0.1).any() for other in taken):
            aside[0] += toward
        cross.set_transform(offset_copy(panel.transData, figure, *aside, units="points"))
        taken += list(points + aside)


def _leaving(at, beyond):
    """The places where a line is beyond an edge and was not just before."""
    beyond = numpy.ma.filled(beyond, False)
    return at[beyond & ~numpy.concatenate([[False], beyond[:-1]])]


def _last_finite(history, field, x):
    """Where a run's last finite value stands, and the value; its end and None if there is none."""
    finite = numpy.flatnonzero(numpy.isfinite(history[field]))
    if not len(finite):
        return history[x.field][-1], None
    return history[x.field][finite[-1]], history[field][finite[-1]]
