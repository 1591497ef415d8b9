"""Plan: a figure under a preset: from its name to its runs, and from their results to a picture."""

import itertools
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy

from . import captions, files, plots
from .figures import BATCHES, FIGURES, POINTS, Times
from .looks import Look
from .results import LEARNED, View, csv_rows, history
from .runs import Run, grid

LONGEST = 200  # characters of a file's name, less than systems allow
MOST_SEEDS = 1000


class Setting(NamedTuple):
    """One line of a figure: its name, its style, the paper's run, those in its place, and their name."""

    label: str
    style: int | Look
    paper: Run
    runs: list  # one per seed
    trained: str  # its name in legends: lambda is the runs' own


class Plan:
    """A figure under a preset: .columns is a list of (title, [Setting])."""

    def __init__(self, name, preset, seeds=None, settings=None, stand_ins=()):
        """`settings` replace fields of Run and View, and values of the figure's axes (a tuple for several).

        Data sets in `stand_ins` are replaced by synthetic ones. ValueError for what does not fit.
        """
        self.name, self.figure, self.preset, self.stand_ins = name, FIGURES[name], preset, tuple(stand_ins)
        self.reduction = self.figure.presets[preset]
        self.seeds = self.reduction.seeds if seeds is None else seeds
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise ValueError(f"the number of seeds must be from 1 to {MOST_SEEDS}, got {self.seeds}")
        self.given = dict(settings or {})
        settings = dict(self.given)
        axes = {axis: self._values(axis, settings.pop(axis, None)) for axis in self.figure.axes}
        self.view = View(**{f.name: settings.pop(f.name) for f in fields(View) if f.name in settings})
        self._refuse_what_axes_set(settings)
        self.settings = settings
        self.columns = []
        for values in itertools.product(*(axes[axis] for axis in self.figure.columns)):
            chosen = dict(zip(self.figure.columns, values))
            lines = [self._line(place, chosen, value) for place, value in enumerate(axes[self.figure.line])]
            self.columns.append((self._column_title(chosen, lines[0].runs[0]), lines))
        if len(self.stem()) > LONGEST:
            raise ValueError(f"so many settings make no name for {name}'s files: give fewer at a time")

    def _refuse_what_axes_set(self, settings):
        """ValueError for a setting by hand that the figure's axes don't leave room for."""
        varied = f"{self.name} varies {', '.join(self.figure.axes)}"
        for field, values in settings.items():
            if field in POINTS:
                raise ValueError(f"{varied}, not {field}")
            if field in self._set_by_axes():
                raise ValueError(f"{varied}, which set {field}: it can't be set by hand too")
            if isinstance(values, tuple) and field != "milestones":
                raise ValueError(f"{field} takes one value, {varied}: got {values}")

    def _set_by_axes(self):
        """The fields that the points of its axes set, whatever their own value."""
        named = [known for known in self.figure.axes.values() if isinstance(known, dict)]
        points = [point for known in named for point in known.values()]
        return {field for point in points for field, value in point.items() if not isinstance(value, Times)}

    def _values(self, axis, given):
        """The values of an axis: those of the figure, or those given by hand."""
        known = self.figure.axes[axis]
        if given is None:
            return tuple(known)
        values = given if isinstance(given, tuple) else (given,)
        unknown = [value for value in values if value not in known]
        if isinstance(known, dict) and unknown:
            raise ValueError(f"{axis} must be one of {', '.join(known)} in {self.name}, got {unknown[0]}")
        return values

    def _line(self, place, chosen, value):
        chosen = chosen | {self.figure.line: value}
        paper, run = self._at(chosen, {}), self._at(chosen, self.reduction.fields | self.settings)
        style = self.figure.looks.get(value, place)
        if self.figure.line == "B":  # the same in every figure; other batch sizes come after these
            style = BATCHES.index(value) if value in BATCHES else len(BATCHES) + place
        label = captions.written(self.figure.line, value)
        reduced = self._reduced(paper, run)
        trained = captions.trained(self.figure.line, value, paper, reduced)
        return Setting(label, style, paper, grid(reduced, seed=range(self.seeds)), trained)

    def _at(self, chosen, given):
        """The figure's run with the fields `given`, at one point of every axis."""
        base, changes = self.figure.base, dict(given)
        for axis, value in chosen.items():
            known = self.figure.axes[axis]
            point = known[value] if isinstance(known, dict) else {axis: value}
            for field, new in point.items():
                own = given.get(field, getattr(base, field))
                changes[field] = own * new if isinstance(new, Times) else new
        return replace(base, **changes)

    def _column_title(self, chosen, run):
        """Where the column lies on its axes; data set and network are those that are really trained."""
        shown = {
            axis: getattr(run, axis) if axis in ("dataset", "network") else value
            for axis, value in chosen.items()
        }
        return ", ".join(captions.named(axis, value) for axis, value in shown.items())

    def another(self, preset=None, given=()):
        """The same figure under another preset, or with more set by hand."""
        seeds = self.seeds if self.seeds != self.reduction.seeds else None
        return Plan(self.name, preset or self.preset, seeds, self.given | dict(given), self.stand_ins)

    def groups(self):
        """{names of lines: what the columns whose lines have them share}; lambda may differ, as trained."""
        titles = {}
        for title, lines in self.columns:
            titles.setdefault(tuple(line.trained for line in lines), []).append(title)
        return {names: captions.shared(alike) for names, alike in titles.items()}

    def runs(self):
        """All of them, in the order in which they are drawn."""
        return [run for _, lines in self.columns for line in lines for run in line.runs]

    def _reduced(self, paper, run):
        """`run`, in place of `paper`, with the preset's width, data and, if it scales, lambda."""
        if self.reduction.width and "network" not in self.settings:
            run = replace(run, network=re.sub(r"\d+$", str(self.reduction.width), run.network))
        replaced = self.preset == "smoke" or run.dataset in self.stand_ins
        if replaced and not run.dataset.startswith("synthetic-"):
            run = replace(run, dataset="synthetic-" + run.dataset)
        return self._scaled(paper, run) if self.reduction.scaled else run

    def _scaled(self, paper, run):
        """`run` with the decay budget of `paper`: fewer steps, a larger lambda."""
        if "milestones" not in self.settings:
            drops = [round(epoch * run.begun() / paper.begun()) for epoch in paper.milestones]
            run = replace(run, milestones=tuple(drops))
        eta_steps = run.beginning().eta_steps()
        if eta_steps == 0:
            raise ValueError(f"factor={run.factor} leaves no learning rate")
        return replace(run, lam=run.lam * paper.beginning().eta_steps() / eta_steps)

    def title(self):
        """The picture's title: it says what shortens or reduces the paper's setting."""
        return captions.title(self)

    def note(self):
        """The lines under the title: the reduction, the data, what was set by hand, the seeds."""
        return captions.note(self)

    def stem(self):
        """The name of its files, without the suffix."""
        seeds = self.seeds if self.seeds != self.reduction.seeds else None
        return captions.variation(self.name, self.preset, self.given, seeds, self.stand_ins)

    def draw(self, results, folder):
        """Draw `results`, {run: (meta, arrays)}, into folder/STEM.png, .svg and .csv; the paths."""
        read = {run: history(*results[run], self.view) for run in self.runs()}
        return files.save_picture(Path(folder) / self.stem(), *self.picture(read))

    def picture(self, read):
        """The picture of {run: history}, and the numbers in it as rows of a CSV."""
        columns, groups = [], self.groups()
        for title, lines in self.columns:
            drawn, group = [], groups[tuple(line.trained for line in lines)]
            for line in lines:
                seeds = [self._drawn(run, read[run]) for run in line.runs]
                learned = all(made["learned"] for made in seeds)
                drawn.append(plots.Line(line.trained, line.style, seeds, grey=not learned))
            columns.append(plots.Column(title, drawn, self.figure.x, group))
        symbol = captions.SYMBOLS.get(self.figure.line, "")
        grey, keys = captions.grey(LEARNED), self.figure.keys
        panels = columns, self.figure.rows
        if self.figure.below:
            panels = below_each_other(*panels)
        picture = plots.histories(*panels, self.title(), self.note(), symbol, grey, keys)
        fields = [row.field for row in self.figure.rows]
        table = []
        for run in dict.fromkeys(self.runs()):
            table += csv_rows(self.preset, run, read[run], self.view, fields)
        return picture, table

    def _drawn(self, run, made):
        """What is drawn of a run's history: of one with a tail that alone, against its own epochs."""
        if not run.tail_epochs:
            return made
        shown = made["epoch"] > run.begun()
        shown[-1] = True  # a run that diverged before has its cross where the tail begins
        fields = [row.field for row in self.figure.rows]
        epochs = numpy.maximum(made["epoch"] - run.begun(), 1)
        return made | {"epoch": epochs[shown]} | {field: made[field][shown] for field in fields}


def below_each_other(columns, rows):
    """The columns and rows of panels in which columns whose titles begin alike lie in a row of their own."""
    beside, below = {}, {}
    for column in columns:
        name, _, title = column.title.partition(", ")
        of_its_own = {row.field: f"{row.field}, {name}" for row in rows}  # what is drawn in that row alone
        for row in rows:
            field = of_its_own[row.field]
            below[field] = row._replace(field=field, label=f"{name}\n{row.label}")
        lines = beside.setdefault(title, [])
        for line in column.lines:
            histories = []
            for made in line.histories:
                histories.append(made | {new: made[old] for old, new in of_its_own.items()})
            lines.append(line._replace(histories=histories))
    panels = [plots.Column(title, lines, columns[0].x) for title, lines in beside.items()]
    return panels, list(below.values())
