"""The picture shows the numbers and only them: what is drawn is read back and compared."""

import matplotlib
import numpy
import pytest

from experiments import plots, report
from experiments.plots import Line, Row

ROWS = (
    Row("distance", "distance", log=True, floor=1e-6),
    Row("train_accuracy", "train accuracy (%)", top=103),
    Row("rank", "average rank"),
)
RANK = ROWS[2:]
LAYERS = (Row("layer_rank", "rank", x="layer"),)


def history(rng, epochs=11, **fields):
    """Made-up numbers of a run that learned; `distance` has none before training."""
    made = {
        "epoch": 10.0 * numpy.arange(epochs),
        "distance": 10 ** rng.uniform(-5, 1, epochs),
        "train_accuracy": rng.uniform(50, 100, epochs),
        "rank": rng.uniform(0, 85, epochs),
        "layer": numpy.arange(1, 12),
        "layer_rank": rng.uniform(0, 99, 11),
        "learned": True,
        "diverged": False,
        "collapsed": False,
    }
    made["distance"][0] = numpy.nan
    return made | fields


def ended(rng, end, epochs=5):
    """A run that ended early, with no finite number at its last epoch if it diverged."""
    made = history(rng, epochs, learned=False, layer_rank=numpy.full(11, numpy.nan)) | {end: True}
    if end == "diverged":
        for name in ("distance", "train_accuracy", "rank"):
            made[name][-1] = numpy.nan
    return made


def draw(*lines, rows=RANK, titles=("MNIST",)):
    """The picture of lines, each a list of histories, in every column."""
    lines = [Line(f"line {place}", place, histories) for place, histories in enumerate(lines)]
    picture = plots.picture([(title, lines) for title in titles], rows, "title", "note")
    picture.draw_without_rendering()
    return picture


def curves(panel):
    """What is drawn in a panel as lines."""
    return [line for line in panel.lines if line.get_linestyle() != "None"]


def marks(panel):
    """What is drawn in a panel as a mark: (x, y, marker)."""
    found = [line for line in panel.lines if line.get_linestyle() == "None"]
    return [(*line.get_xdata(), *line.get_ydata(), line.get_marker()) for line in found]


def texts(picture):
    return [text.get_text() for legend in picture.legends for text in legend.get_texts()]


def test_seeds_that_learned_are_a_mean_in_colour_and_their_range(rng):
    seeds = [history(rng) for _ in range(3)]
    (panel,) = draw(seeds).axes
    (curve,) = curves(panel)
    for epoch, mean in curve.get_xydata():
        values = [made["rank"][round(epoch / 10)] for made in seeds]
        assert mean == pytest.approx(sum(values) / 3, rel=1e-12)
    (band,) = panel.collections
    corners = {tuple(vertex) for path in band.get_paths() for vertex in path.vertices}
    for bound in (numpy.min, numpy.max):
        values = bound([made["rank"] for made in seeds], axis=0)
        assert set(zip(seeds[0]["epoch"], values)) <= corners
    assert curve.get_color() == plots.COLOURS[0]


def test_a_seed_that_has_not_learned_is_a_thin_grey_line_and_not_in_the_mean(rng):
    learned, dead = history(rng), history(rng, learned=False)
    picture = draw([dead, learned])
    grey, curve = curves(picture.axes[0])
    assert list(grey.get_ydata()) == list(dead["rank"]) and grey.get_color() == plots.GREY
    assert list(curve.get_ydata()) == list(learned["rank"]) and curve.get_color() != plots.GREY
    assert grey.get_linewidth() < curve.get_linewidth()
    assert "1 of 2 seeds" in picture.axes[0].get_title()


def test_grey_is_explained_only_where_it_occurs(rng):
    for learned in (True, False):
        (legend,) = draw([history(rng, learned=learned)]).legends
        assert ("Grey" in legend.get_title().get_text()) == (not learned)


@pytest.mark.parametrize("end", ["diverged", "collapsed"])
def test_a_run_that_ended_early_has_a_mark_at_its_last_finite_value(rng, end):
    made, whole = ended(rng, end), history(rng)
    picture = draw([whole], [made], rows=ROWS)
    last = -2 if end == "diverged" else -1
    for panel, row in zip(picture.axes, ROWS):
        place = made["epoch"][last], made[row.field][last]
        assert marks(panel) == [(*place, plots.ENDS[end]["marker"])]
        (mark,) = [line for line in panel.lines if line.get_linestyle() == "None"]
        assert mark.get_color() == plots.COLOURS[1]
    assert texts(picture) == ["line 0", "line 1", end]


def test_a_run_without_a_finite_value_is_marked_at_the_upper_edge_and_never_drawn_at_zero(rng):
    made = ended(rng, "diverged", epochs=2) | {"rank": numpy.full(2, numpy.nan)}
    (panel,) = draw([history(rng)], [made]).axes
    assert marks(panel) == [(10, 1, "x")]  # 1: the upper edge, in parts of the axis
    assert all(0 not in curve.get_ydata() for curve in curves(panel))


def test_marks_of_runs_without_ranks_by_layer_stand_side_by_side(rng):
    (panel,) = draw([ended(rng, "diverged")], [ended(rng, "collapsed")], rows=LAYERS).axes
    assert len({x for x, _, _ in marks(panel)}) == 2 and {y for _, y, _ in marks(panel)} == {1}


def test_no_line_leads_to_the_output_layer(rng):
    made = history(rng)
    (panel,) = draw([made], rows=LAYERS).axes
    (curve,) = curves(panel)
    numpy.testing.assert_array_equal(curve.get_xdata(), [*range(1, 11), numpy.nan, 12])
    expected = [*made["layer_rank"][:-1], numpy.nan, made["layer_rank"][-1]]
    numpy.testing.assert_array_equal(curve.get_ydata(), expected)
    names = [label.get_text() for label in panel.get_xticklabels()]
    assert names[-1] == "out" and panel.get_xticks()[-1] == 12


@pytest.mark.parametrize("value", [0.0, 1e-9, numpy.nan])
def test_a_log_panel_with_nothing_above_its_floor_is_drawn_without_a_warning(rng, tmp_path, value):
    picture = draw([history(rng, distance=numpy.full(11, value))], rows=ROWS[:1])
    report.write_picture(tmp_path / "fig", picture)
    assert picture.axes[0].get_ylim()[0] == 1e-6


def test_panels_of_a_row_share_their_axis_which_ends_where_the_row_says(rng):
    lines = [history(rng)], [ended(rng, "diverged")]
    picture = draw(*lines, rows=ROWS, titles=("MNIST", "CIFAR-10"))
    panels = numpy.reshape(picture.axes, (len(ROWS), 2))
    assert all(left.get_ylim() == right.get_ylim() for left, right in panels)
    assert panels[0, 0].get_ylim()[0] == 1e-6
    assert panels[1, 0].get_ylim() == (0, 103)
    assert panels[2, 0].get_ylim()[0] == 0


def test_redrawing_gives_equal_bytes_whatever_the_user_s_matplotlibrc(tmp_path):
    others = {"axes.linewidth": 3, "svg.hashsalt": None, "savefig.bbox": "tight"}
    for name, settings in {"first": {}, "second": others}.items():
        rng = numpy.random.default_rng(0)
        with matplotlib.rc_context(settings):
            report.write_picture(tmp_path / name, draw([history(rng), history(rng)]))
    for suffix in ("png", "svg"):
        first, second = (tmp_path / f"{name}.{suffix}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
