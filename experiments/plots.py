"""Numbers in, a picture out: a panel for every row and column; knows no figure and no file."""

import math
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

STYLE = Path(__file__).with_name("paper.mplstyle")
WIDTH = 7.2  # inches, the text width of a page
# Okabe and Ito's colours, safe for colour-blind eyes; dashes and markers tell lines apart in grey too.
COLOURS = ("#000000", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9")
DASHES = ("-", (0, (6, 1.5)), (0, (3, 1.2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = "os^DP*<"
GREY = "0.65"
ENDS = {  # marks of runs that ended before their last epoch
    "diverged": {"marker": "x", "markersize": 5, "markeredgewidth": 1.4},
    "collapsed": {"marker": "v", "markersize": 5, "markerfacecolor": "white"},
}
GREY_MEANS = "Grey: not learned (train accuracy below 50 %, ended early, or a W decayed to 0)."


class Row(NamedTuple):
    """A row of panels: the field drawn, its label, its axis, and the field that it is drawn against."""

    field: str
    label: str
    log: bool = False
    floor: float = 0.0  # the axis ends there; on a log axis 0 stands for matplotlib's choice
    top: float | None = None
    x: str = "epoch"  # or "layer"


class Line(NamedTuple):
    """One line: its label, its number in the cycle of colours, and a history (a dict) per seed."""

    label: str
    style: int
    histories: list


class Column(NamedTuple):
    """The lines of one column of panels."""

    title: str
    lines: list


def picture(columns, rows, title, note):
    """The figure. Of each line the seeds that learned give a mean in colour and their range as a band.

    Every other seed is a thin grey line. Runs that ended early have a mark where they ended, or at the upper
    edge where no number is finite.
    """
    with style.context(STYLE, after_reset=True):  # a user's matplotlibrc must not change the picture
        height = 1.6 * len(rows) + 1.2
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.suptitle(textwrap.fill(title, 95), fontsize=10)
        panels = figure.subplots(len(rows), len(columns), sharex="col", sharey="row", squeeze=False)
        for row, its_panels in zip(rows, panels):
            for column, panel in zip(columns, its_panels):
                for line in column.lines:
                    draw(panel, row, line)
            finish_row(row, its_panels)
        for column, top, bottom in zip(columns, panels[0], panels[-1]):
            top.set_title(column_title(column, 100 // len(columns)))
            label_x(bottom, rows[-1], column)
        histories = [made for column in columns for line in column.lines for made in line.histories]
        if not all(made["learned"] for made in histories):
            note = f"{note} {GREY_MEANS}"
        handles = legend_handles(columns, histories)
        widest = max(len(handle.get_label()) for handle in handles)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=max(1, 110 // (widest + 6)),
            title=textwrap.fill(note, 120) or None, title_fontsize=7,
        )
    return figure


def draw(panel, row, line):
    """Draw one line in one panel."""
    look = look_of(line)
    if row.x == "epoch":  # few markers, each line's at other places
        every = max(1, len(line.histories[0]["epoch"]) // 4)
        look["markevery"] = (line.style * every // 6 % every, every)
    learned = [made for made in line.histories if made["learned"]]
    for made in line.histories:
        if not made["learned"]:
            panel.plot(*curve(made, row), **look | {"color": GREY, "linewidth": 0.7, "zorder": 1.5})
    if learned:
        x, values = curve(learned[0], row)[0], numpy.array([curve(made, row)[1] for made in learned])
        panel.plot(x, values.mean(axis=0), **look)
        band = {"color": look["color"], "alpha": 0.25, "linewidth": 0}
        panel.fill_between(x, values.min(axis=0), values.max(axis=0), **band)
    for made in line.histories:
        for end, mark in ENDS.items():
            if made[end]:
                mark_end(panel, row, line, made, mark | {"color": look["color"]})


def look_of(line):
    """Colour, dash and marker of a line."""
    return {
        "color": COLOURS[line.style % len(COLOURS)],
        "linestyle": DASHES[line.style % len(DASHES)],
        "marker": MARKERS[line.style % len(MARKERS)],
    }


def curve(made, row):
    """x and y of a history. The output layer, whose rank is at most k, stands apart behind a gap."""
    x, y = made[row.x].astype("float64"), made[row.field]
    if row.x == "layer":
        x = numpy.array([*x[:-1], numpy.nan, x[-1] + 1])
        y = numpy.array([*y[:-1], numpy.nan, y[-1]])
    return x, y


def mark_end(panel, row, line, made, mark):
    """Mark a run that ended early at its last finite value, or at the upper edge if it has none."""
    x, y = curve(made, row)
    finite = numpy.flatnonzero(numpy.isfinite(y))
    mark |= {"linestyle": "", "clip_on": False, "zorder": 4}
    if len(finite):
        panel.plot(x[finite[-1]], y[finite[-1]], **mark)
    else:
        x = 1 + line.style if row.x == "layer" else x[-1]  # side by side: all end at once
        panel.plot(x, 1, transform=panel.get_xaxis_transform(), **mark)


def finish_row(row, panels):
    """Label a row's y axis, which its panels share, and let it end where it should."""
    first = panels[0]
    first.set_ylabel(row.label)
    drawn = [line.get_ydata() for panel in panels for line in panel.lines]
    if row.log and any(numpy.any(numpy.asarray(y) > 0) for y in drawn):
        first.set_yscale("log", nonpositive="clip")  # a line that falls to 0 runs off the bottom
    low, high = first.get_ylim()
    bottom = row.floor or (low if row.log else 0)
    first.set_ylim(bottom, max(row.top or high, bottom + 1e-9))


def label_x(panel, row, column):
    """Label the x axis of a column's lowest panel."""
    if row.x == "epoch":
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
        return
    last = len(column.lines[0].histories[0]["layer"])
    some = range(1, last, math.ceil(last / 6))
    panel.set_xlabel("layer (out: rank ≤ 10)")
    panel.set_xticks([*some, last + 1], [*map(str, some), "out"])


def column_title(column, width):
    """The column's title, and below it the lines of which not every seed learned."""
    paragraphs, dead = [column.title], []
    for line in column.lines:
        learned = sum(made["learned"] for made in line.histories)
        if learned == 0:
            dead.append(line.label)
        elif learned < len(line.histories):
            paragraphs.append(f"{line.label}: {learned} of {len(line.histories)} seeds learned")
    if dead:
        paragraphs.append(f"not learned: {', '.join(dead)}")
    return "\n".join(textwrap.fill(text, width, break_on_hyphens=False) for text in paragraphs)


def legend_handles(columns, histories):
    """A handle for every line, and for the marks that occur."""
    lines = {line.label: line for column in columns for line in column.lines}
    handles = [Line2D([], [], label=label, **look_of(line)) for label, line in lines.items()]
    for end, mark in ENDS.items():
        if any(made[end] for made in histories):
            handles.append(Line2D([], [], label=end, color="0.3", linestyle="", **mark))
    return handles
