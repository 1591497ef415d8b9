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

from .tables import together, write_csv

STYLE = Path(__file__).with_name("paper.mplstyle")
WIDTH = 7.2  # inches, a page's text width: nothing is scaled down there

# Okabe and Ito's colours, safe for colour-blind eyes. Six dashes and seven markers: no two of 42 lines look alike, even
# in grey. The triangle that points down and the cross are kept for the marks.
COLOURS = ("#000000", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9")
DASHES = ("-", (0, (6, 1.5)), (0, (3, 1.2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = "os^DP*<"
GREY = "0.65"
MARKS = {
    "diverged": {"marker": "x", "markersize": 6, "markeredgewidth": 1.4},
    "below the axis, or 0": {"marker": "v", "markersize": 4.5, "markerfacecolor": "white"},
    "above the axis": {"marker": (3, 0, 0), "markersize": 4.5, "markerfacecolor": "white"},
}


# What lines are drawn against: the axis's label, and its base if it is logarithmic.
AXES = {
    "epoch": ("epoch", None), "begun": ("epoch that begins; at 1, nothing has been trained", 10), "layer": ("layer", None), "B": ("batch size B", 2),
    "matrix": ("trainable W, counted from the input", None), "step": ("training step", 10), "age": ("age s, in steps before the last", 10), "width": ("width H", 2),
}


class Line(NamedTuple):
    """One line: its label, its place in the cycle of styles, and one dict of arrays per seed, the abscissa among them.

    It is drawn in the rows whose field it has.
    """

    label: str
    style: int
    histories: list
    grey: bool = False  # drawn without its colour


class Column(NamedTuple):
    """The lines of one column of panels, against `x`: a key of AXES."""

    title: str
    lines: list
    x: str = "epoch"


class Row(NamedTuple):
    """Which field of the histories a row of panels draws, and how."""

    field: str
    label: str
    log: bool = False
    floor: float | None = None  # the axis ends there: what lies below is not drawn, and marked
    ceiling: float | None = None


def histories(columns, rows, title, note, legend_title, grey=None):
    """Every row's field against the column's x: the arithmetic mean over seeds (of those still finite), their range as a band.

    A diverged run ends in a cross at its last finite value, at the upper edge if it has none. A hollow triangle at an
    edge says that the mean goes on beyond it, to 0 perhaps on a log axis. The legend explains the marks that occur,
    and in the words of `grey` what it means that a line is grey.
    """
    with style.context(STYLE, after_reset=True):  # a user's matplotlibrc must not change the picture
        figure = Figure(figsize=(WIDTH, 1))
        heading = [figure.text(0.5, 1, "", ha="center", va="top", fontsize=size) for size in (10, 7)]
        for artist, text in zip(heading, (title, note)):
            _fit(artist, text, WIDTH - 0.3)
        axes = figure.subplots(len(rows), len(columns), sharex="col", sharey="row", squeeze=False)
        marks = set()
        for row, panels in zip(rows, axes):
            lines = [(axis, line, column.x) for column, axis in zip(columns, panels) for line in column.lines if row.field in line.histories[0]]
            if row.log and any((_stack(line, row.field, x)[1] > 0).any() for _, line, x in lines):
                # clip, not mask: a line that falls to 0 is seen to leave through the lower edge, and its band with it
                panels[0].set_yscale("log", nonpositive="clip")
            for axis, line, x in lines:
                if AXES[x][1]:
                    axis.set_xscale("log", base=AXES[x][1])
                _draw(axis, line, row, x)
            low, high = panels[0].get_ylim()
            if panels[0].get_yscale() == "linear":
                high += 0.04 * high  # room above lines that run along the top
                panels[0].yaxis.get_major_locator().set_params(integer=high > 5)  # no rank of 2.5
            ends = zip((low, high), (row.floor, row.ceiling))
            # sorted: a floor above every value must not turn the axis upside down
            panels[0].set_ylim(sorted(auto if end is None else end for auto, end in ends))
            panels[0].set_ylabel(row.label)
            marks = marks.union(*(_mark(axis, line, row, x) for axis, line, x in lines))
        looks = {f"{legend_title} = {line.label}" if legend_title else line.label: _look(line.style) for column in columns for line in column.lines}
        heading += _legend(figure, [Line2D([], [], label=label, **look) for label, look in looks.items()], 3)
        notes = [Line2D([], [], label=m, color="0.3", linestyle="", **MARKS[m]) for m in MARKS if m in marks]
        if any(line.grey for column in columns for line in column.lines):
            notes.append(Line2D([], [], label=grey, color=GREY, marker=""))
        heading += _legend(figure, notes, 1.5)
        for kind in {column.x for column in columns}:
            alike = [axis for column, axis in zip(columns, axes[0]) if column.x == kind]
            ends = numpy.array([axis.get_xlim() for axis in alike])
            for axis in alike:
                axis.set_xlim(ends[:, 0].min(), ends[:, 1].max())
        for column, top, bottom in zip(columns, axes[0], axes[-1]):
            _fit(top.set_title(column.title), column.title, 0.88 * WIDTH / len(columns))
            bottom.set_xlabel(AXES[column.x][0])
            if not AXES[column.x][1]:
                bottom.xaxis.get_major_locator().set_params(integer=True)
            if AXES[column.x][1] == 2:
                bottom.xaxis.set_major_formatter("{x:.0f}")
        _arrange(figure, axes, heading)
    return figure


def _fit(artist, text, inches):
    """Break `text` into lines that are measured to be no wider than `inches`."""
    artist.set_text(text)
    for characters in range(min(len(text), 160), 8, -1):
        artist.set_text("\n".join(textwrap.wrap(text, characters)))
        if _inches(artist).width <= inches:
            return


def _inches(artist):
    return artist.get_window_extent().transformed(artist.get_figure().dpi_scale_trans.inverted())


def _legend(figure, handles, handlelength):
    """[the legend] in as few lines as fit, which are read from left to right; [] if there is nothing to explain."""
    for lines in range(1, len(handles) + 1):
        n = math.ceil(len(handles) / lines)
        across = [handle for first in range(n) for handle in handles[first::n]]  # matplotlib fills column by column
        legend = figure.legend(handles=across, loc="upper center", ncols=n, handlelength=handlelength)
        if _inches(legend).width <= WIDTH or n == 1:
            return [legend]
        legend.remove()
    return []


def _arrange(figure, axes, heading):
    """Stack what stands above the panels by its measured height, so that nothing overlaps however long the note is."""
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


def _look(place, grey=False):
    cycles = {"color": (GREY,) if grey else COLOURS, "linestyle": DASHES, "marker": MARKERS}
    return {name: cycle[place % len(cycle)] for name, cycle in cycles.items()}


def _draw(axis, line, row, x):
    at, values = _stack(line, row.field, x)
    if values.count():
        look = _look(line.style, line.grey)
        every = (0.05 * (line.style % 6), 0.3) if x in ("epoch", "begun", "step", "age") else None
        behind = 1.5 if line.grey else 2
        axis.plot(at, values.mean(axis=0), label=line.label, markevery=every, zorder=behind, **look)
        axis.fill_between(at, values.min(axis=0), values.max(axis=0), color=look["color"], alpha=0.25, linewidth=0)


def _mark(axis, line, row, x):
    """Mark where the mean leaves the axis (each time anew) and where a run diverged; the names of the marks used."""
    (at, values), (low, high) = _stack(line, row.field, x), axis.get_ylim()
    points = []
    mean = values.mean(axis=0)
    for name, beyond, edge in (("below the axis, or 0", mean < low, low), ("above the axis", mean > high, high)):
        leaves = numpy.diff(numpy.ma.filled(beyond, False), prepend=False) & numpy.ma.filled(beyond, False)
        points += [(name, place, edge) for place in at[leaves]]
    for history in line.histories:
        if x == "B":  # every value is a run of its own
            points += [("diverged", place, high) for place in at[~numpy.isfinite(history[row.field])]]
        elif history["diverged"] and x == "layer":  # a place for every line, so that none hides another
            points.append(("diverged", at[line.style % len(at)], high))
        elif history["diverged"]:
            finite = numpy.flatnonzero(numpy.isfinite(history[row.field]))
            last, y = (finite[-1], history[row.field][finite[-1]]) if len(finite) else (-1, high)
            points.append(("diverged", history[x][last], numpy.clip(y, low, high)))
    colour = _look(line.style)["color"]  # a grey line's too, or nobody could tell which one it was
    for name, place, y in points:
        axis.plot(place, y, "", label=f"_{name}", color=colour, clip_on=False, zorder=4, **MARKS[name])
    return {name for name, _, _ in points}


def _stack(line, field, x):
    """x (E,) and values (seeds, E), masked where not finite. A diverged run's epochs are the first of the others'."""
    at = max((h[x] for h in line.histories), key=len)
    values = numpy.full((len(line.histories), len(at)), numpy.nan)
    for row, history in zip(values, line.histories):
        row[: len(history[field])] = history[field]
    return at, numpy.ma.masked_invalid(values)


def tidy(columns, rows):
    """The numbers behind the picture, one dict each: every finite one; `diverged` is about the whole run."""
    return [
        {"column": column.title, "line": line.label, "seed": seed, "diverged": bool(history["diverged"]),
         column.x: int(at) if at % 1 == 0 else float(at), "field": row.field, "value": float(value)}
        for column in columns
        for line in column.lines
        for seed, history in enumerate(line.histories)
        for row in rows
        if row.field in history
        for at, value in zip(history[column.x], history[row.field])
        if numpy.isfinite(value)
    ]


def save(figure, records, stem):
    """Write stem.png, stem.svg and stem.csv, each whole or not at all, the same numbers to the same bytes; their paths."""
    with together(stem, "png", "svg", "csv") as (paths, partial):
        with style.context(STYLE, after_reset=True):
            figure.savefig(partial[0], format="png", dpi=200)
            figure.savefig(partial[1], format="svg", metadata={"Date": None})
        write_csv(partial[2], records)
    return paths
