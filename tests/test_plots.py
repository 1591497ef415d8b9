"""The picture shows the numbers and only them: what is drawn is read back from the Figure and compared."""

import csv
import hashlib

import matplotlib
import numpy
import pytest

from experiments import layout, looks, plots
from experiments.files import save_picture
from experiments.layout import Row
from experiments.plots import Column, Line
from texts import assert_no_text_overlaps

ROWS = (
    Row("distance", "(a) $d(W_{t+1}, W_t)$", log=True),
    Row("train_accuracy", "(b) train accuracy (%)", floor=0, ceiling=103),
    Row("train_loss", "(c) train loss", log=True),
    Row("rank", "(d) average rank", floor=0),
)
DISTANCE = ROWS[:1]
NOTE = "Reduced: MLP-5-100 (paper: MLP-5-2000), 100 training samples; λ is 78 times the paper's. "
NOTE += "2 seeds: mean and range. "
NOTE *= 2


@pytest.fixture
def rng(request):
    return numpy.random.default_rng(int(hashlib.sha256(request.node.name.encode()).hexdigest()[:8], 16))


def history(rng, epochs=21, diverged=False, **fields):
    """Made-up numbers over seven decades; a diverged one ends in NaN, as `runner.train` stores it."""
    made = {"epoch": 10.0 * numpy.arange(epochs), "train_accuracy": rng.uniform(0, 100, epochs)}
    made |= {name: 10 ** rng.uniform(-6, 1, epochs) for name in ("distance", "train_loss")}
    made |= {"rank": rng.uniform(0, 85, epochs), "diverged": diverged} | fields
    made["distance"][0] = numpy.nan
    if diverged:
        for name in ("distance", "train_accuracy", "train_loss", "rank"):
            made[name][-1] = numpy.nan
    return made


def grid(rng, titles=("MNIST, cross-entropy", "CIFAR-10, squared loss"), lines=3, seeds=2):
    """A column for every title, with as many made-up lines and seeds."""
    columns = []
    for title in titles:
        made = [[history(rng) for _ in range(seeds)] for _ in range(lines)]
        columns.append(Column(title, [Line(f"1e-{s}", s, histories) for s, histories in enumerate(made)]))
    return columns


def one(history):
    return [Column("MNIST", [Line("0", 0, [history])])]


def draw(columns, rows=ROWS, title="Figure 1", note=NOTE):
    return plots.histories(columns, rows, title, note, "λ")


def drawn(axis, label):
    """The artists of `axis` with that label; marks have theirs after an underscore."""
    return [artist for artist in axis.lines if artist.get_label() == label]


def test_a_line_is_drawn_in_the_rows_whose_field_it_has(rng):
    whole, part = history(rng), history(rng)
    del part["rank"]
    columns = [Column("MNIST", [Line("whole", 0, [whole]), Line("part", 1, [part])])]
    figure = draw(columns)
    assert [len(drawn(axis, "part")) for axis in figure.axes] == [1, 1, 1, 0]
    assert drawn(figure.axes[3], "whole")
    fields = {record["field"] for record in plots.tidy(columns, ROWS) if record["line"] == "part"}
    assert fields == {row.field for row in ROWS[:3]}


def legends(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_the_csv_holds_exactly_the_plotted_numbers(rng, tmp_path):
    columns = grid(rng, lines=2, seeds=3)
    figure = draw(columns, ROWS[1:3])
    save_picture(tmp_path / "fig", figure, plots.tidy(columns, ROWS[1:3]))
    with open(tmp_path / "fig.csv", newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    panels = numpy.reshape(figure.axes, (len(ROWS[1:3]), len(columns)))
    seen = 0
    for r, row in enumerate(ROWS[1:3]):
        for c, column in enumerate(columns):
            for n, line in enumerate(column.lines):
                name = (column.title, line.label, row.field)
                mine = [e for e in records if (e["column"], e["line"], e["field"]) == name]
                by_epoch = {}
                for record in mine:
                    by_epoch.setdefault(float(record["epoch"]), []).append(float(record["value"]))
                (artist,) = drawn(panels[r, c], line.label)
                x, y = artist.get_xdata(), numpy.ma.filled(artist.get_ydata(), numpy.nan)
                assert list(x[numpy.isfinite(y)]) == list(by_epoch)
                means = [numpy.mean(values) for values in by_epoch.values()]
                numpy.testing.assert_allclose(y[numpy.isfinite(y)], means, rtol=1e-15)
                paths = panels[r, c].collections[n].get_paths()
                band = {tuple(vertex) for path in paths for vertex in path.vertices}
                assert band == {(e, end(v)) for e, v in by_epoch.items() for end in (min, max)}
                seen += len(mine)
    assert seen == len(records) > 0


def test_a_single_seed_is_drawn_and_written_unrounded(rng):
    made = history(rng)
    (artist,) = drawn(draw(one(made), DISTANCE).axes[0], "0")
    values = [record["value"] for record in plots.tidy(one(made), DISTANCE)]
    assert list(artist.get_ydata().compressed()) == values == list(made["distance"][1:])


def test_a_diverged_run_ends_in_a_cross_at_its_last_finite_value_and_never_at_zero(rng):
    short, whole = history(rng, epochs=8, diverged=True), history(rng)
    columns = [Column("MNIST", [Line("0", 0, [whole]), Line("1", 1, [short])])]
    figure = draw(columns)
    for axis, row in zip(figure.axes, ROWS):
        (cross,) = drawn(axis, "_diverged")
        assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (short["epoch"][-2], short[row.field][-2])
        (line,) = drawn(axis, "1")
        assert line.get_xdata()[~numpy.ma.getmaskarray(line.get_ydata())].max() == short["epoch"][-2]
        assert (line.get_ydata().compressed() > 0).all()
    assert "diverged" in legends(figure)
    records = plots.tidy(columns, ROWS)
    assert numpy.isfinite([record["value"] for record in records]).all()
    assert {record["line"] for record in records if record["diverged"]} == {"1"}


def test_a_diverged_seed_leaves_the_mean_to_the_others(rng):
    short, whole = history(rng, epochs=8, diverged=True), history(rng)
    (line,) = drawn(draw([Column("MNIST", [Line("0", 0, [short, whole])])], DISTANCE).axes[0], "0")
    assert list(line.get_ydata()[7:]) == list(whole["distance"][7:])


def pixels(artist):
    """Where an artist's points are drawn, in pixels (points, 2)."""
    return artist.get_transform().transform(artist.get_xydata())


@pytest.mark.parametrize("end", [1, 20])
def test_crosses_that_would_hide_one_another_stand_side_by_side(rng, end):
    """At the last finite value, which they share. The faults: all at one place, or moved out of the panel."""
    lines = [Line("whole", 0, [history(rng)])]
    for place in range(1, 7):
        seeds = [history(rng, epochs=end + 1, diverged=True) for _ in range(2)]
        for made in seeds:
            made["rank"][end - 1] = 50
        lines.append(Line(str(place), place, seeds, grey=True))
    figure = draw([Column("MNIST", lines), Column("CIFAR-10", lines)], ROWS[3:])
    for axis in figure.axes:
        crosses = drawn(axis, "_diverged")
        ends = {(*cross.get_xdata(), *cross.get_ydata()) for cross in crosses}
        assert ends == {(10 * (end - 1), 10 * (end - 1), 50, 50)} and len(crosses) == 6
        assert [cross.get_color() for cross in crosses] == list(looks.COLOURS[1:])
        x = sorted(pixels(cross)[0, 0] for cross in crosses)
        assert numpy.diff(x).min() >= 5.9 * figure.dpi / 72 and len({pixels(c)[0, 1] for c in crosses}) == 1
        assert axis.bbox.x0 < x[0] and x[-1] < axis.bbox.x1
        assert axis.transData.transform((10 * (end - 1), 50))[0] == pytest.approx(x[0 if end == 1 else -1])


def test_a_grey_line_s_triangles_and_band_are_grey(rng):
    """A cross alone keeps its colour. The fault: a triangle in colour, at the end of a grey line."""
    seeds = [history(rng, rank=numpy.full(21, rank)) for rank in (50.0, 60.0)]
    for made in seeds:
        made["rank"][3], made["rank"][9] = -1, 300
    row = Row("rank", "rank", floor=0, ceiling=100)
    (axis,) = draw([Column("MNIST", [Line("4", 1, seeds, grey=True)])], [row]).axes
    assert len(axis.lines) == 3 and {line.get_color() for line in axis.lines} == {looks.GREY}
    (band,) = axis.collections
    assert (band.get_facecolor()[0, :3] == float(looks.GREY)).all()


LAYER = layout.Axis("layer", "layer", kind="places", apart="out")


def test_a_place_apart_is_behind_a_gap_and_no_line_leads_there(rng):
    """The fault: it is the line's last point, one step from the one before."""
    lines, made_up = [], {"layer": numpy.arange(1, 12), "diverged": False}
    for place in range(3):
        seeds = [made_up | {"rank": rng.uniform(0, 99, 11)} for _ in range(2)]
        lines.append(Line(f"{place}", place, seeds, grey=place == 1))
    figure = draw([Column("MNIST", lines, LAYER)], ROWS[3:])
    (axis,) = figure.axes
    places = []
    for line in lines:
        joined, alone = drawn(axis, line.label)
        means = numpy.mean([made["rank"] for made in line.histories], axis=0)
        assert list(joined.get_xdata()) == [*range(1, 11)]
        assert [*joined.get_ydata(), *alone.get_ydata()] == list(means)
        assert joined.get_linestyle() != "None" and alone.get_linestyle() == "None"
        assert joined.get_color() == alone.get_color() and joined.get_marker() == alone.get_marker()
        assert (alone.get_color() == looks.GREY) == line.grey
        places += list(alone.get_xdata())
    assert len(set(places)) == 3 and min(places) > 11.4 and max(places) < 12.6
    figure.canvas.draw()
    names = {label.get_text(): tick for label, tick in zip(axis.get_xticklabels(), axis.get_xticks())}
    assert names == {"1": 1, "4": 4, "7": 7, "10": 10, "out": 12}
    assert_no_text_overlaps(figure, least=10)


def test_columns_of_several_groups_have_a_row_each_in_the_legend(rng):
    """The fault: names of the first group for all columns."""
    columns = []
    for title, names in (("MNIST, a", "xy"), ("MNIST, b", "xy"), ("CIFAR-10", "uv")):
        lines = [Line(name, place, [history(rng)]) for place, name in enumerate(names)]
        columns.append(Column(title, lines, group=title.split(",")[0]))
    figure = draw(columns, DISTANCE)
    (legend,) = figure.legends
    assert legends(figure) == ["MNIST:", "CIFAR-10:", "λ = x", "λ = u", "λ = y", "λ = v"]  # down the columns
    figure.draw_without_rendering()
    rows = {}
    for text in legend.get_texts():
        rows.setdefault(round(text.get_window_extent().y0), []).append(text.get_text())
    assert list(rows.values()) == [["MNIST:", "λ = x", "λ = y"], ["CIFAR-10:", "λ = u", "λ = v"]]


def test_keys_say_what_one_side_of_a_look_means_and_may_stand_for_the_lines_names(rng):
    keys = [[looks.Key("cold", looks.Look(colour=1))], [looks.Key("many", looks.Look(dash=1))]]
    columns = [Column("MNIST", [Line("a", looks.Look(1, 1, 2), [history(rng)])])]
    for title, names in ((None, []), ("", ["a"])):
        figure = plots.histories(columns, DISTANCE, "title", "", title, keys=keys)
        assert legends(figure) == [*names, "cold", "many"]
    cold, many = (legend.legend_handles[0] for legend in figure.legends[1:])
    (line,) = drawn(figure.axes[0], "a")
    assert cold.get_color() == line.get_color() == looks.COLOURS[1] and line.get_marker() == "^"
    assert many.get_color() == looks.NEUTRAL and str(many._dash_pattern) == str(line._dash_pattern)


def test_a_run_that_diverged_before_any_finite_value_is_marked_at_the_upper_edge(rng):
    lost = history(rng, epochs=2, diverged=True, distance=numpy.full(2, numpy.inf))
    columns = [Column("MNIST", [Line("0", 0, [history(rng)]), Line("1", 1, [lost])])]
    axis = draw(columns, DISTANCE).axes[0]
    (cross,) = drawn(axis, "_diverged")
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (lost["epoch"][-1], axis.get_ylim()[1])


@pytest.mark.parametrize("floor", [None, 1e-5])
def test_zeros_on_a_log_axis_are_marked_at_the_lower_edge_each_time_the_line_falls(rng, floor):
    made = history(rng, distance=10 ** rng.uniform(-4, 1, 21))
    made["distance"][[5, 6, 7, 12]] = 0
    row = Row("distance", "d", log=True, floor=floor)
    figure = draw(one(made), [row])
    axis = figure.axes[0]
    marks = drawn(axis, "_below the axis, or 0")
    edge = axis.get_ylim()[0]
    places = [(mark.get_xdata()[0], mark.get_ydata()[0]) for mark in marks]
    assert places == [(made["epoch"][i], edge) for i in (5, 12)]
    assert {mark.get_marker() for mark in marks} == {"v"} and "below the axis, or 0" in legends(figure)
    assert [r["value"] for r in plots.tidy(one(made), [row])].count(0) == 4


def test_values_beyond_a_floor_or_a_ceiling_are_marked(rng):
    made = history(rng, rank=numpy.full(21, 50.0))
    made["rank"][3], made["rank"][9] = -1, 200
    axis = draw(one(made), [Row("rank", "rank", floor=0, ceiling=100)]).axes[0]
    for name, epoch, edge in (("_below the axis, or 0", 30, 0), ("_above the axis", 90, 100)):
        (mark,) = drawn(axis, name)
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (epoch, edge)


@pytest.mark.parametrize("value", [0.0, 1e-9, numpy.nan])
def test_a_row_with_nothing_above_its_floor_is_drawn_without_a_warning(rng, tmp_path, value):
    made = history(rng, distance=numpy.full(21, value))
    figure = draw(one(made), [Row("distance", "d", log=True, floor=1e-6)])
    save_picture(tmp_path / "fig", figure, plots.tidy(one(made), DISTANCE))
    low, high = figure.axes[0].get_ylim()
    assert low < high and bool(drawn(figure.axes[0], "_below the axis, or 0")) == numpy.isfinite(value)


def test_a_gap_is_not_bridged(rng):
    made = history(rng)
    made["rank"][10] = numpy.nan
    (line,) = drawn(draw(one(made), ROWS[3:]).axes[0], "0")
    assert numpy.ma.getmaskarray(line.get_ydata())[10]


def test_redrawing_is_byte_equal_whatever_the_users_matplotlibrc(rng, tmp_path):
    columns = grid(rng)
    other = {"axes.linewidth": 3, "svg.hashsalt": None, "savefig.bbox": "tight"}
    for name, settings in {"first": {}, "second": other}.items():
        with matplotlib.rc_context(settings):
            save_picture(tmp_path / name / "fig", draw(columns, DISTANCE), plots.tidy(columns, DISTANCE))
    for suffix in ("png", "svg", "csv"):
        first, second = (tmp_path / name / f"fig.{suffix}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("failing", ["png", "svg", "csv"])
def test_a_failing_write_leaves_the_old_files_and_nothing_else(rng, tmp_path, monkeypatch, failing):
    columns = grid(rng, lines=1, seeds=1)
    figure, records = draw(columns, DISTANCE), plots.tidy(columns, DISTANCE)
    paths = [tmp_path / f"fig.{suffix}" for suffix in ("png", "svg", "csv")]
    for path in paths:
        path.write_bytes(b"old")

    def full_disk(path, format, **options):
        path.write_bytes(b"half")
        if format == failing:
            raise OSError("no space left on device")

    monkeypatch.setattr(figure, "savefig", full_disk)
    if failing == "csv":
        class Unwritable:
            def __str__(self):
                raise OSError("no space left on device")

        records = [records[0], records[1] | {"value": Unwritable()}]
    with pytest.raises(OSError, match="no space"):
        save_picture(tmp_path / "fig", figure, records)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(paths, b"old")


def test_a_dot_in_the_name_is_kept(rng, tmp_path):
    columns = grid(rng, lines=1, seeds=1)
    paths = save_picture(tmp_path / "new" / "lam1.5", draw(columns, DISTANCE), plots.tidy(columns, DISTANCE))
    assert [path.name for path in paths] == ["lam1.5.png", "lam1.5.svg", "lam1.5.csv"]


@pytest.mark.parametrize("hard", [False, True], ids=["usual", "long-texts-and-many-lines"])
def test_no_text_overlaps_another_or_leaves_the_figure(rng, hard):
    losses = ("cross-entropy", "squared loss")
    titles = [f"{data}, {loss}" for data in ("MNIST", "CIFAR-10") for loss in losses]
    if hard:
        titles = tuple(f"synthetic ({title})'s shape of numbers" for title in titles)
    columns = grid(rng, titles, lines=9 if hard else 5, seeds=1)
    columns[0].lines[1].histories[0] = history(rng, epochs=8, diverged=True)
    columns[1].lines[1].histories[0]["distance"][10:] = 0
    rows = ROWS[:2] if hard else ROWS
    title, note = "Figure 1: convergence ", NOTE
    if hard:
        title, note = 6 * title, 3 * note.upper()
    figure = draw(columns, rows, title, note)
    assert_no_text_overlaps(figure, least=31)


def test_every_line_is_told_apart_without_colour_and_looks_the_same_in_every_panel(rng):
    figure = draw(grid(rng, lines=9, seeds=1), ROWS[:2])

    def look_of(line):
        return str(line._dash_pattern), line.get_marker()

    seen = [{line.get_label(): look_of(line) for line in axis.lines} for axis in figure.axes]
    assert all(look == seen[0] for look in seen) and len(set(seen[0].values())) == 9
    assert len({looks.look_of(style)[1:] for style in range(42)}) == 42  # dash and marker
    kept_for_marks = {mark["marker"] for mark in looks.MARKS.values()}
    assert not kept_for_marks & set(looks.MARKERS)


def test_the_legend_names_every_line_once_and_only_the_marks_that_occur(rng):
    columns = grid(rng, lines=2)
    columns[1].lines.append(Line("only here", 2, [history(rng)]))
    assert legends(draw(columns, DISTANCE)) == ["λ = 1e-0", "λ = 1e-1", "λ = only here"]


def test_panels_of_a_row_share_their_scale_and_only_the_outer_ones_are_labelled(rng):
    figure = draw(grid(rng))
    panels = numpy.reshape(figure.axes, (len(ROWS), 2))
    assert all(left.get_ylim() == right.get_ylim() for left, right in panels)
    assert [left.get_ylabel() for left in panels[:, 0]] == [row.label for row in ROWS]
    assert not any(right.get_ylabel() for right in panels[:, 1])
    assert [axis.get_xlabel() for axis in figure.axes] == [""] * 6 + ["epoch"] * 2
    assert [axis.get_title() for axis in panels[0]] == ["MNIST, cross-entropy", "CIFAR-10, squared loss"]


def test_columns_of_one_kind_share_the_scale_of_their_x(rng):
    """Also where every line of a column ends early."""
    columns = grid(rng, ("long", "short"))
    for line in columns[1].lines:
        line.histories[:] = [history(rng, epochs=4, diverged=True) for _ in range(2)]
    figure = draw(columns)
    limits = {axis.get_xlim() for axis in figure.axes}
    assert len(limits) == 1 and max(limits)[1] >= 200


@pytest.mark.parametrize("kind", ["time", "places"])
@pytest.mark.parametrize("base", [None, 2, 10])
def test_an_axis_carries_its_label_and_scale_and_a_legend_may_go_without_a_symbol(rng, base, kind):
    x = layout.Axis("width", "width H", base, kind)
    made = {"diverged": False, "width": numpy.array([2, 4, 8, 16]), "rank": rng.uniform(0, 17, 4)}
    column = Column("MNIST", [Line("GD", 0, [made])], x)
    figure = plots.histories([column], [Row("rank", "rank", floor=0)], "Lemma 1", "", "")
    (axis,) = figure.axes
    assert axis.get_xlabel() == "width H" and legends(figure) == ["GD"]
    assert axis.get_xscale() == ("log" if base else "linear")
    (artist,) = drawn(axis, "GD")
    numpy.testing.assert_array_equal(artist.get_xydata(), numpy.column_stack([made["width"], made["rank"]]))
    assert all(tick % 1 == 0 for tick in axis.get_yticks())
    figure.canvas.draw()
    if base == 2:
        assert {"4", "16"} <= {label.get_text() for label in axis.get_xticklabels()}
