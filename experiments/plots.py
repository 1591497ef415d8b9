"""Numbers in, a picture out: a panel for every row and column; knows no figure and no file."""

import textwrap
from typing import NamedTuple

import numpy
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

styled = style.context("experiments.paper", after_reset=True)  # whatever the user's matplotlibrc
WIDTH = 7.2  # inches, the text width of a page
# Okabe and Ito's colours, safe for colour-blind eyes; dashes and markers differ in grey too.
COLOURS = ("#000000", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9")
DASHES = (
    "-", (0, (6, 1.5)), (0, (3, 1.2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = "os^DP*<"
GREY = "0.65"
ENDS = {  # marks of runs that ended before their last epoch
    "diverged": {"marker": "x", "markersize": 5, "markeredgewidth": 1.4},
    "collapsed": {"marker": "v", "markersize": 5, "markerfacecolor": "white"},
}


class Row(NamedTuple):
    """A row of panels: the field drawn, its label, its axis, and the field drawn against."""

    field: str
    label: str
    log: bool = False
    floor: float = 0.0  # the axis ends there; on a log axis 0 stands for matplotlib's choice
    top: float | None = None
    x: str = "epoch"  # or "layer", "tol"


class Line(NamedTuple):
    """One line: its label, its number in the cycle of colours, and an item for each seed."""

    label: str
    style: int
    seeds: list  # runs in a plan of figures.py, histories (dicts) in a picture


@styled
def picture(columns, rows, title, note):
    """The figure of columns (title, [Line]). In colour: the mean of the seeds that learned.

    A band is their range, a thin grey line any other seed. Runs that ended early have a mark where
    they ended, or at the upper edge where no number is finite.
    """
    shape = len(rows), len(columns)
    figure, panels = sheet(shape, 1.6 * len(rows) + 1.2, title, sharex="col", sharey="row")
    for row, its_panels in zip(rows, panels):
        for (_, lines), panel in zip(columns, its_panels):
            for line in lines:
                draw(panel, row, line)
        finish_row(row, its_panels)
    for (name, lines), top, bottom in zip(columns, panels[0], panels[-1]):
        top.set_title(column_title(name, lines, 100 // len(columns)))
        label_x(bottom, rows[-1], len(lines[0].seeds[0]["layer"]))
    add_legend(figure, [line for _, lines in columns for line in lines], note)
    return figure


def sheet(shape, height, title, **shared):
    """A figure under its title, and its panels, an array (rows, columns)."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(textwrap.fill(title, 95), fontsize=10)
    return figure, figure.subplots(*shape, squeeze=False, **shared)


def draw(panel, row, line):
    """Draw one line in one panel."""
    line_style = style_of(line)
    if row.x != "layer":  # few markers, each line's at other places
        every = max(1, len(line.seeds[0][row.x]) // 4)
        line_style["markevery"] = (line.style * every // 6 % every, every)
    thin_grey = {"color": GREY, "linewidth": 0.7, "zorder": 1.5}
    for history in line.seeds:
        if not history["learned"]:
            panel.plot(*curve(history, row), **line_style | thin_grey)
        for end, mark in ENDS.items():
            if history[end]:
                mark_end(panel, row, line, history, mark | {"color": line_style["color"]})
    curves = [curve(history, row) for history in line.seeds if history["learned"]]
    if curves:
        x, learned = curves[0][0], [y for _, y in curves]
        panel.plot(x, numpy.mean(learned, axis=0), **line_style)
        band = {"color": line_style["color"], "alpha": 0.25, "linewidth": 0}
        panel.fill_between(x, numpy.min(learned, axis=0), numpy.max(learned, axis=0), **band)


def style_of(line):
    """Colour, dash and marker of a line."""
    cycles = {"color": COLOURS, "linestyle": DASHES, "marker": MARKERS}
    return {name: cycle[line.style % len(cycle)] for name, cycle in cycles.items()}


def curve(history, row):
    """x and y of a history. The output layer, of rank at most k, stands apart behind a gap."""
    x, y = history[row.x].astype("float64"), history[row.field]
    if row.x == "layer":
        x = numpy.array([*x[:-1], numpy.nan, x[-1] + 1])
        y = numpy.array([*y[:-1], numpy.nan, y[-1]])
    return x, y


def mark_end(panel, row, line, history, mark):
    """Mark a run that ended early at its last finite value, or at the upper edge if it has none."""
    x, y = curve(history, row)
    finite = numpy.flatnonzero(numpy.isfinite(y))
    mark |= {"linestyle": "", "clip_on": False, "zorder": 4}
    if len(finite):
        panel.plot(x[finite[-1]], y[finite[-1]], **mark)
    else:
        x = x[-1] if row.x == "epoch" else x[line.style % len(x)]  # side by side
        panel.plot(x, 1, transform=panel.get_xaxis_transform(), **mark)


def finish_row(row, panels):
    """Label a row's y axis, which its panels share, and let it end where it should."""
    first = panels[0]
    first.set_ylabel(row.label)
    drawn = numpy.concatenate([line.get_ydata() for panel in panels for line in panel.lines])
    if row.log and (drawn > 0).any():
        first.set_yscale("log", nonpositive="clip")  # a line that falls to 0 runs off the bottom
    first.set_ylim(row.floor or (None if row.log else 0), row.top)  # None: matplotlib's choice
    if not row.log and row.top is None:  # its margin is a part of the range, which may be small
        highest = numpy.max(drawn, where=numpy.isfinite(drawn), initial=0)
        first.set_ylim(top=max(first.get_ylim()[1], 1.03 * highest))


def label_x(panel, row, last):
    """Label the x axis of a column's lowest panel; `last` is the output layer's number."""
    if row.x == "epoch":
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
    elif row.x == "layer":
        some = range(1, last, (last + 5) // 6)  # six numbers at most
        panel.set_xlabel("layer (out: rank ≤ 10)")
        panel.set_xticks([*some, last + 1], [*map(str, some), "out"])
    else:
        panel.set(xlabel="cutoff / ‖W‖ (the memo's: $10^{-4}$)", xscale="log")


def column_title(title, lines, width):
    """The column's title, and below it the lines of which not every seed learned."""
    paragraphs, dead = [title], []
    for line in lines:
        learned = sum(history["learned"] for history in line.seeds)
        if learned == 0:
            dead.append(line.label)
        elif learned < len(line.seeds):
            paragraphs.append(f"{line.label}: {learned} of {len(line.seeds)} seeds learned")
    if dead:
        paragraphs.append(f"not learned: {', '.join(dead)}")
    return "\n".join(textwrap.fill(text, width, break_on_hyphens=False) for text in paragraphs)


def add_legend(figure, lines, note):
    """Write the note, and what the lines and marks mean, below the panels."""
    histories = [history for line in lines for history in line.seeds]
    if not all(history["learned"] for history in histories):
        note += " Grey: not learned (train accuracy below 50 %, ended early, or a W decayed to 0)."
    handles = {line.label: Line2D([], [], **style_of(line)) for line in lines}
    for end, mark in ENDS.items():
        if any(history[end] for history in histories):
            handles[end] = Line2D([], [], color="0.3", linestyle="", **mark)
    widest = max(map(len, handles))
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=max(1, 110 // (widest + 6)),
        title=textwrap.fill(note, 120) or None,
    )
