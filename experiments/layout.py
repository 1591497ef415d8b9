"""A page of panels: what they are drawn against, its heading, its legends, its file; everything in its place.

Nothing is known here of how lines are drawn.
"""

import math
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.text import Text

from . import marks

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


class Row(NamedTuple):
    """Which field of the histories a row of panels draws, and how."""

    field: str
    label: str
    log: bool = False
    floor: float | None = None  # the axis ends there: what lies below is not drawn, and marked
    ceiling: float | None = None


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
        *others, last = column.lines[0].histories[0][x.field]
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


def write(figure, path, kind):
    """Write the picture as "png" or "svg", the same numbers to the same bytes."""
    options = {"png": {"dpi": 200}, "svg": {"metadata": {"Date": None}}}
    with style.context(STYLE, after_reset=True):
        figure.savefig(path, format=kind, **options[kind])
