"""Numbers in, one picture out: histories against epochs, a column per setting, a row per measure."""

from typing import NamedTuple

import numpy
from matplotlib import style
from matplotlib.lines import Line2D

from . import layout, looks, marks
from .layout import APART, EPOCH, Axis


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


def histories(columns, rows, title, note, legend_title, grey=None, keys=()):
    """Every row's field against the column's x: the mean over finite seeds, their range as a band.

    A diverged run ends in a cross at its last finite value, at the upper edge if it has none; crosses that
    would hide one another stand side by side. A hollow triangle at an edge says that the mean goes on beyond
    it, to 0 perhaps on a log axis. The legend names the lines (not if its title is None), has the rows of
    looks.Key in `keys`, and explains the marks that occur and, in the words of `grey`, grey lines.
    """
    with style.context(layout.STYLE, after_reset=True):  # a user's matplotlibrc must not change the picture
        figure, axes, heading = layout.begin(columns, rows, title, note)
        marked = set()
        for row, panels in zip(rows, axes):
            marked |= _draw_row(row, columns, panels)
        if legend_title is not None:
            names = _names_of_lines(columns, legend_title)
            heading += layout.legend(figure, [handle for row in names for handle in row], 3, len(names))
        for row in keys:
            heading += layout.legend(figure, [looks.handle(key) for key in row], 3)
        heading += layout.legend(figure, _names_of_marks(columns, marked, grey), 1.5)
        layout.finish(figure, axes, heading, columns)
    return figure


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
    layout.end_y(row, panels[0])
    marked = set()
    for axis, line, column, _ in drawn:
        at, values = _stack(line, row.field, column.x)
        marked |= marks.mark(axis, line, row.field, column.x, at, values.mean(axis=0))
    return marked


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
