"""Numbers in, one picture out: things as points that a line joins; colours and markers say what they are."""

from typing import NamedTuple

import numpy
from matplotlib import style
from matplotlib.lines import Line2D

from . import layout, looks

# Of Okabe and Ito's colours, from cold to warm. Circles that are filled are seen before those that are not.
COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00")
MARKERS = {
    "circle": {"marker": "o", "markersize": 3.2},
    "hollow triangle": {"marker": "^", "markersize": 3, "markerfacecolor": "white"},
    "hollow diamond": {"marker": "D", "markersize": 2.3, "markerfacecolor": "white"},
    "hollow square": {"marker": "s", "markersize": 2.3, "markerfacecolor": "white"},
    "plus": {"marker": "P", "markersize": 3.6, "markeredgewidth": 0},
    "star": {"marker": "*", "markersize": 4.4, "markeredgewidth": 0},
}

class Trace(NamedTuple):
    """The points (x, y) of one thing in a row of panels, where y is NaN a cross at the upper edge."""

    label: str
    row: str  # the field of the row that it is drawn in
    colour: str  # a key of the picture's colours
    x: tuple
    y: tuple
    markers: tuple  # for each point a key of the picture's markers, None for no marker


class Column(NamedTuple):
    """The traces of one column of panels, against the axis `x`, and a thin vertical line in each of them."""

    title: str
    traces: list
    x: layout.Axis
    guide: float | None = None


def classes(name, limits):
    """What the classes between these limits are called, from low to high, one more than there are limits."""
    between = [f"{name} {low} to {high}" for low, high in zip(limits, limits[1:])]
    return [f"{name} below {limits[0]}", *between, f"{name} above {limits[-1]}"]


def picture(columns, rows, title, note, colours, markers):
    """A panel for every row and column, with the traces that are theirs.

    `colours` are {label: colour}, `markers` {label: key of MARKERS}; the legend has those that occur.
    """
    with style.context(layout.STYLE, after_reset=True):
        figure, axes, heading = layout.begin(columns, rows, title, note)
        for row, panels in zip(rows, axes):
            for column, panel in zip(columns, panels):
                _draw_panel(panel, row, column, colours, markers)
            layout.end_y(row, panels[0])
            for column, panel in zip(columns, panels):
                _cross_out(panel, row, column, colours)
        traces = [trace for column in columns for trace in column.traces]
        heading += layout.legend(figure, _names_of_markers(traces, markers), 1)
        for handles in _names_of_colours(traces, colours):
            heading += layout.legend(figure, handles, 1.5)
        layout.finish(figure, axes, heading, columns)
    return figure


def _draw_panel(panel, row, column, colours, markers):
    if column.x.base:
        panel.set_xscale("log", base=column.x.base)
    if column.guide is not None:
        panel.axvline(column.guide, color="0.3", linestyle=(0, (4, 2)), linewidth=0.7, zorder=1)
    for trace in column.traces:
        if trace.row == row.field:
            _draw(panel, trace, colours, markers)


def _draw(panel, trace, colours, markers):
    colour = colours[trace.colour]
    height = 1.5 if colour == looks.GREY else 2  # grey lies behind
    panel.plot(trace.x, trace.y, label=trace.label, color=colour, linewidth=0.7, zorder=height)
    for x, y, name in zip(trace.x, trace.y, trace.markers):
        if name is not None:
            look = MARKERS[markers[name]]
            panel.plot(x, y, "", color=colour, clip_on=False, zorder=height + 1, **look)


def _cross_out(panel, row, column, colours):
    """A cross at the upper edge for every trace that has no value."""
    top = panel.get_ylim()[1]
    for trace in column.traces:
        if trace.row == row.field and numpy.isnan(trace.y).any():
            look = looks.MARKS[looks.DIVERGED] | {"markersize": 4}
            colour = colours[trace.colour]
            panel.plot(trace.x[0], top, "", label=f"_{looks.DIVERGED}", color=colour, clip_on=False, **look)


def _names_of_markers(traces, markers):
    """The legend's handles of the markers that occur, the cross at last."""
    used = {name for trace in traces for name in trace.markers}
    handles = []
    for name, look in markers.items():
        if name in used:
            handles.append(Line2D([], [], label=name, color=looks.NEUTRAL, linestyle="", **MARKERS[look]))
    if any(numpy.isnan(trace.y).any() for trace in traces):
        handles += looks.of_marks({looks.DIVERGED})
    return handles


def _names_of_colours(traces, colours):
    """The handles of the colours that occur, and apart from them that of grey."""
    used = {trace.colour for trace in traces}
    coloured, grey = [], []
    for label, colour in colours.items():
        if label in used:
            handles = grey if colour == looks.GREY else coloured
            handles.append(Line2D([], [], label=label, color=colour, linewidth=2))
    return coloured, grey
