"""Numbers in, one picture out: histories against epochs, a column per setting, a row per measure."""

import math
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from . import looks, marks

STYLE = Path(__file__).with_name("paper.mplstyle")
WIDTH = 7.2  # inches, a page's text width: nothing is scaled down there
APART = 1  # how much farther a place that stands apart is drawn


class Axis(NamedTuple):
    """What lines are drawn against: a field of the histories, its label, its base if it is logarithmic.

    Kind "time": a run moves along it, and where it diverges it ends. "places": side by side, at one time.
    The last place is called `apart` if it must not be read as one more of the others: it then stands behind
    a gap, and no line leads there.
    """

    field: str
    label: str
    base: int | None = None
    kind: str = "time"
    apart: str = ""


EPOCH = Axis("epoch", "epoch")


class Line(NamedTuple):
    """One line: its label, its style, and one dict of arrays per seed, x among them.

    It is drawn in the rows whose field it has. The style is a place in the cycles of looks, or a Look.
    """

    label: str
    style: int | looks.Look
    histories: list
    grey: bool = False  # drawn without its colour


class Column(NamedTuple):
    """The lines of one column of panels, against the axis `x`.

    Columns of one `group` have the same labels; of several groups the legend has a row each.
    """

    title: str
    lines: list
    x: Axis = EPOCH
    group: str = ""


class Row(NamedTuple):
    """Which field of the histories a row of panels draws, and how."""

    field: str
    label: str
    log: bool = False
    floor: float | None = None  # the axis ends there: what lies below is not drawn, and marked
    ceiling: float | None = None


def histories(columns, rows, title, note, legend_title, grey=None, keys=()):
    """Every row's field against the column's x: the mean over finite seeds, their range as a band.

    A diverged run ends in a cross at its last finite value, at the upper edge if it has none; crosses that
    would hide one another stand side by side. A hollow triangle at an edge says that the mean goes on beyond
    it, to 0 perhaps on a log axis. The legend names the lines (not if its title is None), has the rows of
    looks.Key in `keys`, and explains the marks that occur and, in the words of `grey`, grey lines.
    """
    with style.context(STYLE, after_reset=True):  # a user's matplotlibrc must not change the picture
        figure, axes, heading = begin(columns, rows, title, note)
        marked = set()
        for row, panels in zip(rows, axes):
            marked |= _draw_row(row, columns, panels)
        if legend_title is not None:
            names = _names_of_lines(columns, legend_title)
            heading += legend(figure, [handle for row in names for handle in row], 3, len(names))
        for row in keys:
            heading += legend(figure, [looks.handle(key) for key in row], 3)
        heading += legend(figure, _names_of_marks(columns, marked, grey), 1.5)
        finish(figure, axes, heading, columns)
    return figure


def begin(columns, rows, title, note):
    """A figure, its panels (rows, columns), and what stands above them: [the title, the note]."""
    figure = Figure(figsize=(WIDTH, 1))
    heading = [figure.text(0.5, 1, "", ha="center", va="top", fontsize=size) for size in (10, 7)]
    for artist, text in zip(heading, (title, note)):
        _fit(artist, text, WIDTH - 0.3)
    axes = figure.subplots(len(rows), len(columns), sharex="col", sharey="row", squeeze=False)
    return figure, axes, heading


def finish(figure, axes, heading, columns):
    """Name the columns and their x, and put everything in its place, when all is drawn."""
    _share_the_scale_of_x(columns, axes[0])
    for column, top, bottom in zip(columns, axes[0], axes[-1]):
        _fit(top.set_title(column.title), column.title, 0.88 * WIDTH / len(columns))
        _label_x(bottom, column)
    _arrange(figure, axes, heading)
    for panel in axes.flat:
        marks.spread_crosses(figure, panel)


def _draw_row(row, columns, panels):
    """Draw one field in every column's panel; the names of the marks used."""
    drawn = []
    for column, axis in zip(columns, panels):
        for place, line in enumerate(column.lines):
            if row.field in line.histories[0]:
                drawn.append((axis, line, column, place))
    if row.log and any((_stack(line, row.field, column.x)[1] > 0).any() for _, line, column, _ in drawn):
        # clip, not mask: a line that falls to 0 is seen to leave through the lower edge, and its band with it
        panels[0].set_yscale("log", nonpositive="clip")
    for axis, line, column, place in drawn:
        if column.x.base:
            axis.set_xscale("log", base=column.x.base)
        _draw(axis, line, row, column, place)
    end_y(row, panels[0])
    marked = set()
    for axis, line, column, _ in drawn:
        at, values = _stack(line, row.field, column.x)
        marked |= marks.mark(axis, line, row.field, column.x, at, values.mean(axis=0))
    return marked


def end_y(row, axis):
    """Label the y axis, and let it end at the row's floor and ceiling."""
    low, high = axis.get_ylim()
    if axis.get_yscale() == "linear":
        high += 0.04 * high  # room above lines that run along the top
        axis.yaxis.get_major_locator().set_params(integer=high > 5)  # no rank of 2.5
    bottom = low if row.floor is None else row.floor
    top = high if row.ceiling is None else row.ceiling
    # A floor above every value must not turn the axis upside down.
    axis.set_ylim(min(bottom, top), max(bottom, top))
    axis.set_ylabel(row.label)


def _names_of_lines(columns, legend_title):
    """Rows of the legend's handles, one for every group of columns, with its name if there are several."""
    start = f"{legend_title} = " if legend_title else ""
    groups = {}
    for column in columns:
        named = groups.setdefault(column.group, {})
        for line in column.lines:
            named[line.label, line.style] = looks.Key(start + line.label, looks.look_of(line.style))
    rows = []
    for group, named in groups.items():
        name = [looks.heading(group)] if len(groups) > 1 else []
        rows.append(name + [looks.handle(key) for key in named.values()])
    return rows


def _names_of_marks(columns, marked, grey):
    """The handles of the marks that occur, and of grey if a line is."""
    handles = looks.of_marks(marked)
    if any(line.grey for column in columns for line in column.lines):
        handles.append(Line2D([], [], label=grey, color=looks.GREY, marker=""))
    return handles


def _share_the_scale_of_x(columns, panels):
    """Panels against the same axis end at the same values."""
    for x in {column.x for column in columns}:
        alike = [panel for column, panel in zip(columns, panels) if column.x == x]
        ends = numpy.array([panel.get_xlim() for panel in alike])
        for panel in alike:
            panel.set_xlim(ends[:, 0].min(), ends[:, 1].max())


def _label_x(panel, column):
    x = column.x
    panel.set_xlabel(x.label)
    if x.apart:
        *others, last = _stack(column.lines[0], x.field, x)[0]
        some = others[:: math.ceil(len(others) / 4)]
        panel.set_xticks([*some, last + APART], [*map(str, some), x.apart])
    elif x.base is None:
        panel.xaxis.get_major_locator().set_params(integer=True)
    elif x.base == 2:
        panel.xaxis.set_major_formatter("{x:.0f}")


def _fit(artist, text, inches):
    """Break `text` into lines that are measured to be no wider than `inches`."""
    artist.set_text(text)
    for characters in range(min(len(text), 160), 8, -1):
        artist.set_text("\n".join(textwrap.wrap(text, characters)))
        if _inches(artist).width <= inches:
            return


def _inches(artist):
    return artist.get_window_extent().transformed(artist.get_figure().dpi_scale_trans.inverted())


def legend(figure, handles, handlelength, least=1):
    """[the legend] in as few lines as fit, `least` or more, read from left to right; [] without handles."""
    for lines in range(least, len(handles) + 1):
        n = math.ceil(len(handles) / lines)
        # matplotlib fills column by column
        across = [handle for first in range(n) for handle in handles[first::n]]
        drawn = figure.legend(handles=across, loc="upper center", ncols=n, handlelength=handlelength)
        if _inches(drawn).width <= WIDTH or n == 1:
            return [drawn]
        drawn.remove()
    return []


def _arrange(figure, axes, heading):
    """Stack what stands above the panels by its measured height, so that nothing overlaps."""
    tops = [0.08]
    for artist in heading:
        tops.append(tops[-1] + _inches(artist).height + 0.08)
    above = tops[-1] + max(_inches(axis.title).height for axis in axes[0]) + 0.13
    height = above + 1.45 * len(axes) + 0.4
    figure.set_size_inches(WIDTH, height)
    for artist, top in zip(heading, tops):
        place = artist.set_position if isinstance(artist, Text) else artist.set_bbox_to_anchor
        place((0.5, 1 - top / height))
    figure.align_ylabels(axes[:, 0])
    figure.subplots_adjust(0.1, 0.4 / height, 0.985, 1 - above / height, wspace=0.1, hspace=0.16)
    labels = max(axis.bbox.x0 - axis.get_tightbbox().x0 for axis in axes[:, 0]) / figure.dpi
    figure.subplots_adjust(left=(labels + 0.05) / WIDTH)


def _draw(axis, line, row, column, place):
    """Draw a line, the column's number `place`, and its band."""
    at, values = _stack(line, row.field, column.x)
    if not values.count():
        return
    look = looks.drawn(looks.look_of(line.style), line.grey)
    behind = 1.5 if line.grey else 2
    # few markers, each line's at other places
    few = (0.05 * (place % 6), 0.3) if column.x.kind == "time" else None
    joined = slice(-1) if column.x.apart else slice(None)
    low, high = values.min(axis=0), values.max(axis=0)
    axis.plot(
        at[joined], values.mean(axis=0)[joined], label=line.label, markevery=few, zorder=behind, **look
    )
    axis.fill_between(at[joined], low[joined], high[joined], color=look["color"], alpha=0.25, linewidth=0)
    if column.x.apart:
        _draw_apart(axis, line, at[-1] + APART + _beside(place, column), values[:, -1], look, behind)


def _beside(place, column):
    """By how much the column's line number `place` is moved where all lines have one x, from -0.4 to 0.4."""
    return 0.8 * ((place + 0.5) / len(column.lines) - 0.5)


def _draw_apart(axis, line, at, values, look, height):
    """The mean and the range of `values` (seeds,) in a strip of its own."""
    axis.axvspan(round(at) - 0.5, round(at) + 0.5, color="0.93", linewidth=0, zorder=0)
    axis.plot([at, at], [values.min(), values.max()], "", color=look["color"], alpha=0.25, linewidth=3)
    axis.plot(at, values.mean(), label=line.label, zorder=height, **look | {"linestyle": ""})


def _stack(line, field, x):
    """x (E,) and values (seeds, E), masked where not finite. A diverged run has fewer x."""
    at = max((h[x.field] for h in line.histories), key=len)
    values = numpy.full((len(line.histories), len(at)), numpy.nan)
    for row, history in zip(values, line.histories):
        row[: len(history[field])] = history[field]
    return at, numpy.ma.masked_invalid(values)


def tidy(columns, rows):
    """The numbers behind the picture, one dict each: every finite one; `diverged` is about the whole run."""
    records = []
    for column in columns:
        for line in column.lines:
            for seed, history in enumerate(line.histories):
                for row in rows:
                    if row.field in history:
                        about = {"column": column.title, "line": line.label, "seed": seed}
                        about["diverged"] = bool(history["diverged"])
                        records += _finite(about, history, row.field, column.x.field)
    return records


def _finite(about, history, field, x):
    for at, value in zip(history[x], history[field]):
        if numpy.isfinite(value):
            place = int(at) if at % 1 == 0 else float(at)
            yield about | {x: place, "field": field, "value": float(value)}


def write(figure, path, kind):
    """Write the picture as "png" or "svg", the same numbers to the same bytes."""
    options = {"png": {"dpi": 200}, "svg": {"metadata": {"Date": None}}}
    with style.context(STYLE, after_reset=True):
        figure.savefig(path, format=kind, **options[kind])
