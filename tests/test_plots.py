"""The picture shows the numbers and only them: what is drawn is read back. Files are whole."""

from pathlib import Path

import matplotlib
import numpy
import pytest

from experiments import plots, report
from experiments.plots import Line, Row

ROWS = (
    Row("distance", "distance", log=True, floor=1e-6),
    Row("rank", "average rank", top=103),
)
LAYERS = (Row("layer_rank", "rank", x="layer"),)


def history(rng, epochs=11, **fields):
    """Made-up numbers of a run that learned; `distance` has none before training."""
    made = {
        "epoch": 10.0 * numpy.arange(epochs),
        "distance": 10 ** rng.uniform(-5, 1, epochs),
        "rank": rng.uniform(0, 85, epochs),
        "layer": numpy.arange(1, 12),
        "layer_rank": rng.uniform(0, 99, 11),
    }
    made["distance"][0] = numpy.nan
    return made | {"learned": True, "diverged": False, "collapsed": False} | fields


def ended(rng, end, finite):
    """A run that ended at epoch 40, with as many finite numbers."""
    made = history(rng, 5, learned=False, layer_rank=numpy.full(11, numpy.nan)) | {end: True}
    for row in ROWS:
        made[row.field][finite:] = numpy.nan
    return made


def draw(*lines, rows=ROWS[1:]):
    """The picture of lines, each a list of histories, in one column."""
    lines = [Line(f"line {place}", place, histories) for place, histories in enumerate(lines)]
    picture = plots.picture([("title", lines)], rows, "title", "note")
    picture.draw_without_rendering()
    return picture


def marks(panel):
    """What is drawn in a panel as a mark: (x, y, marker, colour)."""
    found = [line for line in panel.lines if line.get_linestyle() == "None"]
    return [(*mark.get_xydata()[0], mark.get_marker(), mark.get_color()) for mark in found]


def test_seeds_that_learned_are_a_mean_and_their_range_and_others_are_grey_lines(rng):
    dead, *seeds = [history(rng, learned=learned) for learned in (False, True, True, True)]
    picture = draw([dead, *seeds])
    (panel,) = picture.axes
    grey, mean = panel.lines
    ranks = numpy.array([made["rank"] for made in seeds])
    numpy.testing.assert_allclose(mean.get_ydata(), sum(ranks) / 3, rtol=1e-12)
    assert list(grey.get_ydata()) == list(dead["rank"])
    assert (grey.get_color(), mean.get_color()) == (plots.GREY, plots.COLOURS[0])
    (band,) = panel.collections
    corners = {tuple(vertex) for path in band.get_paths() for vertex in path.vertices}
    for bound in (ranks.min(axis=0), ranks.max(axis=0)):
        assert set(zip(dead["epoch"], bound)) <= corners
    assert "3 of 4 seeds" in panel.get_title()
    assert "Grey" in picture.legends[0].get_title().get_text()
    assert "Grey" not in draw(seeds).legends[0].get_title().get_text()


@pytest.mark.parametrize("end, finite", [("diverged", 4), ("collapsed", 5)])
def test_a_run_that_ended_early_has_a_mark_at_its_last_finite_value(rng, end, finite):
    made = ended(rng, end, finite)
    picture = draw([history(rng)], [made], rows=ROWS)
    for panel, row in zip(picture.axes, ROWS):
        place = made["epoch"][finite - 1], made[row.field][finite - 1]
        assert marks(panel) == [(*place, plots.ENDS[end]["marker"], plots.COLOURS[1])]
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["line 0", "line 1", end]
    assert "line 1" in picture.axes[0].get_title()


def test_without_a_finite_value_the_mark_is_at_the_upper_edge_and_nothing_at_zero(rng):
    """Ranks by layer of runs that ended early: there the marks stand side by side."""
    runs = [[ended(rng, "diverged", 0)], [ended(rng, "collapsed", 0)]]
    panels = [*draw(*runs).axes, *draw(*runs, rows=LAYERS).axes]
    for panel, places in zip(panels, [(40, 40), (1, 2)]):
        assert [mark[:3] for mark in marks(panel)] == [(places[0], 1, "x"), (places[1], 1, "v")]
        assert not any(0 in line.get_ydata() for line in panel.lines)


def test_no_line_leads_to_the_output_layer(rng):
    made = history(rng)
    (panel,) = draw([made], rows=LAYERS).axes
    (line,) = panel.lines
    *hidden, last = made["layer_rank"]
    numpy.testing.assert_array_equal(line.get_xdata(), [*range(1, 11), numpy.nan, 12])
    numpy.testing.assert_array_equal(line.get_ydata(), [*hidden, numpy.nan, last])
    assert panel.get_xticklabels()[-1].get_text() == "out" and panel.get_xticks()[-1] == 12


def test_an_axis_ends_where_its_row_says(rng):
    distance, rank = draw([history(rng)], rows=ROWS).axes
    assert distance.get_ylim()[0] == 1e-6 and distance.get_yscale() == "log"
    assert rank.get_ylim() == (0, 103)


@pytest.mark.parametrize("value", [0.0, numpy.nan])
def test_a_log_panel_without_a_positive_number_is_drawn_without_a_warning(rng, value):
    draw([history(rng, distance=numpy.full(11, value))], rows=ROWS[:1])


def test_redrawing_gives_equal_bytes_whatever_the_user_s_matplotlibrc(tmp_path):
    others = {"axes.linewidth": 3, "svg.hashsalt": None, "savefig.bbox": "tight"}
    for name, settings in {"first": {}, "second": others}.items():
        rng = numpy.random.default_rng(0)
        with matplotlib.rc_context(settings):
            report.write_picture(tmp_path / name, draw([history(rng), history(rng)]))
    for suffix in ("png", "svg"):
        first, second = (tmp_path / f"{name}.{suffix}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path, write_bytes = report.write_text(tmp_path / "page.md", "old"), Path.write_bytes

    def half(path, content):
        write_bytes(path, content[:1])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="disk full"):
        report.write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
