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


def histories(columns, rows, title, note, legend_title):
    """Every row's field against epochs: the mean over seeds, and their range as a band; a Figure."""
    with matplotlib.style.context(Path(__file__).with_name("paper.mplstyle")):
        figure = Figure(figsize=(7.2, 1.6 * len(rows) + 1.7), layout="constrained")
        note = "\n".join(textwrap.wrap(note, 118))
        figure.suptitle(f"{title}\n{note}", fontsize=8)
        axes = figure.subplots(len(rows), len(columns), sharex="col", sharey="row", squeeze=False)
        for row, panels in zip(rows, axes):
            for column, axis in zip(columns, panels):
                if row.log:
                    axis.set_yscale("log")
                for line in column.lines:
                    _draw(axis, line, row)
            panels[0].set_ylabel(row.label)
        for column, top, bottom in zip(columns, axes[0], axes[-1]):
            top.set_title(column.title)
            bottom.set_xlabel("epoch")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, title=legend_title, loc="outside upper center", ncols=len(labels))
    return figure


def _draw(axis, line, row):
    style = line.style % len(COLOURS)
    look = {"color": COLOURS[style], "linestyle": DASHES[style], "marker": MARKERS[style]}
    epoch, low, mean, high = _summary(line, row.field)
    axis.plot(epoch, mean, label=line.label, markevery=(0.05 * style, 0.3), **look)
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
