"""Numbers in, one picture out: histories against epochs, a column per setting, a row per measure."""

import csv
import os
import textwrap
from pathlib import Path
from typing import NamedTuple

import matplotlib
import matplotlib.style
import numpy
from matplotlib.figure import Figure

COLOURS = ("#000000", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7")  # Okabe and Ito's, safe for colour-blind eyes
DASHES = ("-", (0, (6, 1.5)), (0, (3, 1.2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = "os^DvP"


class Line(NamedTuple):
    """One line: its label, its place in the cycle of styles, and one dict of arrays per seed, "epoch" among them."""

    label: str
    style: int
    histories: list


class Column(NamedTuple):
    """The lines of one column of panels."""

    title: str
    lines: list


class Row(NamedTuple):
    """Which field of the histories a row of panels draws, and how."""

    field: str
    label: str
    log: bool = False
    floor: float | None = None  # the axis ends there: what lies below is not drawn, and marked
    ceiling: float | None = None


def histories(columns, rows, title, note, legend_title):
    """Every row's field against epochs: the mean over seeds, and their range as a band; a Figure.

    A diverged run ends in a cross. Where a log axis is cut at its floor, a triangle at the edge says that a line goes on.
    """
    with matplotlib.style.context(Path(__file__).with_name("paper.mplstyle")):
        note = textwrap.wrap(note, 132)
        inch = 0.75 + 0.14 * len(note)  # the title, the note and the legend stand above the panels
        height = inch + 1.45 * len(rows) + 0.75
        figure = Figure(figsize=(7.2, height))
        figure.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontsize=10)
        figure.text(0.5, 1 - 0.30 / height, "\n".join(note), ha="center", va="top", fontsize=7)
        axes = figure.subplots(len(rows), len(columns), sharex="col", sharey="row", squeeze=False)
        figure.subplots_adjust(0.085, 0.4 / height, 0.99, 1 - (inch + 0.3) / height, wspace=0.1, hspace=0.14)
        for row, panels in zip(rows, axes):
            if row.log:
                panels[0].set_yscale("log", nonpositive="mask")
            for column, axis in zip(columns, panels):
                for line in column.lines:
                    _draw(axis, line, row)
            panels[0].set_ylim(row.floor, row.ceiling)
            panels[0].set_ylabel(row.label)
        figure.align_ylabels(axes[:, 0])
        for column, top, bottom in zip(columns, axes[0], axes[-1]):
            top.set_title(column.title)
            bottom.set_xlabel("epoch")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, [f"{legend_title} = {label}" for label in labels], loc="upper center", ncols=len(labels),
            bbox_to_anchor=(0.5, 1 - (inch - 0.33) / height), handlelength=3,
        )
    return figure


def _draw(axis, line, row):
    style = line.style % len(COLOURS)
    look = {"color": COLOURS[style], "linestyle": DASHES[style], "marker": MARKERS[style]}
    epoch, low, mean, high = _summary(line, row.field)
    axis.plot(epoch, mean, label=line.label, markevery=(0.05 * style, 0.3), **look)
    below = numpy.flatnonzero(mean < (row.floor or 0))
    if len(below):
        edge = axis.get_xaxis_transform()
        axis.plot(epoch[below[0]], 0.03, "v", color=COLOURS[style], markersize=4, transform=edge, clip_on=False, zorder=3)
    axis.fill_between(epoch, low, high, color=COLOURS[style], alpha=0.25, linewidth=0)
    for history in line.histories:
        if history["diverged"]:
            drawable = numpy.isfinite(history[row.field])
            if drawable.any():
                last = numpy.flatnonzero(drawable)[-1]
                axis.plot(history["epoch"][last], history[row.field][last], "x", color=COLOURS[style], markersize=6)


def _summary(line, field):
    """epoch, and the least, mean and largest value over the seeds, where at least one is finite."""
    epoch = max((h["epoch"] for h in line.histories), key=len)
    values = numpy.full((len(line.histories), len(epoch)), numpy.nan)
    for row, history in zip(values, line.histories):
        row[: len(history[field])] = history[field]
    values[~numpy.isfinite(values)] = numpy.nan
    keep = numpy.isfinite(values).any(axis=0)
    values = values[:, keep]
    return epoch[keep], numpy.nanmin(values, axis=0), numpy.nanmean(values, axis=0), numpy.nanmax(values, axis=0)


def tidy(columns, rows):
    """Every number behind the picture, one dict each."""
    return [
        {"column": column.title, "lambda": line.label, "seed": seed, "epoch": int(epoch), "measure": row.field, "value": float(value)}
        for column in columns
        for line in column.lines
        for seed, history in enumerate(line.histories)
        for row in rows
        for epoch, value in zip(history["epoch"], history[row.field])
    ]


def save(figure, records, stem):
    """Write stem.png, stem.svg and stem.csv, each whole or not at all; their paths."""
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    with matplotlib.rc_context({"svg.hashsalt": "minigrad", "svg.fonttype": "none"}):
        for suffix in ("png", "svg", "csv"):
            path = stem.with_suffix(f".{suffix}")
            partial = path.with_name(f".{path.name}.tmp")
            if suffix == "csv":
                with open(partial, "w", newline="") as file:
                    writer = csv.DictWriter(file, records[0])
                    writer.writeheader()
                    writer.writerows(records)
            else:
                figure.savefig(partial, format=suffix, dpi=200, metadata={"Date": None} if suffix == "svg" else None)
            os.replace(partial, path)
            paths.append(path)
    return paths
