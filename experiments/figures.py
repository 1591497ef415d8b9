"""The paper's figures and our own as rows of a table; Experiment: a figure's runs and picture."""

import itertools
import re
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy

from minigrad.datasets import DATASETS

from . import plots
from .plots import Row
from .results import View, csv_rows, history
from .runs import LOSSES, Run, changed_rules, grid

LAMBDAS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
BATCH_SIZES = (4, 8, 16, 32, 64, 128)
ETAS = (0.001, 0.01, 0.1)
WIDE_ETAS = (0.0125, 0.025, 0.05, 0.1)
# Variants of Eq. 5's batch norm: whether A is detached, and gamma and beta are one per layer.
VARIANTS = {
    "memo": {},
    "true": {"detached": False},
    "per-unit": {"scalar": False},
    "standard": {"detached": False, "scalar": False},
}
# The control asks: is it the batch size, or the number of steps and with it the decay budget?
CELLS = {
    "a": {"B": 128},
    "b": {"B": 32, "steps_of_B": 128},  # as many steps as a, and its decay budget
    "c": {"B": 32},
    "d": {"B": 32, "eta": 0.0125},  # linear scaling: the eta / B of a
    "e": {"B": 32, "lam": 1.25e-4},  # the decay budget of a by lambda alone
}

LABELS = {
    "cross_entropy": "cross-entropy",
    "mean_squared_error": "squared loss",
    "memo": "the memo's text",
    "true": "true gradient",
    "per-unit": "detached, γ, β per unit",
    "standard": "standard batch norm",
    "a": "a: B = 128",
    "b": "b: B = 32, steps of a",
    "c": "c: B = 32",
    "d": "d: B = 32, η / 4",
    "e": "e: B = 32, λ / 4",
    "B": "B",
    "eta": "η",
    "lam": "λ",
}
NORMS = {  # by detached and scalar
    (True, True): ", batch norm of the memo's text",
    (False, True): ", true gradient of batch norm",
    (True, False): ", detached batch norm with γ, β per unit",
    (False, False): ", standard batch norm",
}


class Reduction(NamedTuple):
    """How much of the paper's runs a preset runs: the fields replaced, and the network's width."""

    seeds: int
    fields: dict = {}
    width: int | None = None
    keeps_decay_budget: bool = False  # lambda and the drops of eta follow the number of steps


SMOKE = Reduction(2, {"m": 640, "m_test": 100, "epochs": 2}, width=8, keeps_decay_budget=True)
QUICK = Reduction(1, {"epochs": 10})  # `make fig2` ends in five minutes on two cores with Numba
PAPER = Reduction(3)
NIGHT = Reduction(3, {"epochs": 100})
FIRST_EPOCHS = {"smoke": SMOKE, "quick": QUICK, "night": NIGHT, "paper": PAPER}
NARROWED = FIRST_EPOCHS | {"quick": QUICK._replace(width=100)}  # of networks of width 500
CONVERGENCE = {
    "smoke": Reduction(2, {"m": 60, "m_test": 60, "B": 20, "epochs": 5}, 8, True),
    "quick": Reduction(2, {"m": 100, "m_test": 100, "B": 20, "measure_every": 20}, 100, True),
    "night": Reduction(1, {"measure_every": 20}, width=200),
    "paper": PAPER,
}
DESCENT = {  # smoke keeps the 5,000 images, one of the batch sizes
    "smoke": Reduction(2, {"m_test": 100, "epochs": 2}, width=8, keeps_decay_budget=True),
    "quick": Reduction(1, {"epochs": 30}),
    "night": Reduction(3, {"epochs": 1000}),
    "paper": PAPER,
}
PRESETS = tuple(FIRST_EPOCHS)


@dataclass(frozen=True)
class Figure:
    """One figure: its base run, its axes, its rows of panels, its presets.

    The last axis makes the lines, the others make the columns.
    """

    title: str
    base: Run
    axes: dict  # field of Run -> its values, or a name -> {value: the fields that it stands for}
    rows: tuple
    presets: dict


TRAINING = (
    Row("rank", "average rank"),
    Row("train_accuracy", "train accuracy (%)", top=103),
    Row("test_accuracy", "test accuracy (%)", top=103),
)
LAYERS = (Row("layer_rank", "rank", x="layer"),)
CONVERGING = (
    Row("distance", "(a) $d(W_{t+1}, W_t)$", log=True, floor=1e-6),
    Row("train_accuracy", "(b) train accuracy (%)", top=103),
    Row("train_loss", "(c) train loss", log=True),
    Row("rank", "(d) average rank"),
)
MLP_BN = Run(measure_every=5)
RES_BN = replace(MLP_BN, network="RES-BN-5-500")
MLP = replace(MLP_BN, network="MLP-5-500")
BY_BATCH = {"eta": ETAS, "B": BATCH_SIZES}
BY_LAYER = {"eta": WIDE_ETAS, "B": BATCH_SIZES[3:]}

FIGURES = {
    "fig1": Figure(
        "Figure 1: convergence of {network} trained with SGD",
        replace(MLP_BN, network="MLP-5-2000", momentum=0.0, milestones=(), epochs=2000),
        {"dataset": ("mnist", "cifar10"), "loss": LOSSES, "lam": LAMBDAS},
        CONVERGING, CONVERGENCE,
    ),
    "fig2": Figure(
        "Figure 2{norm}: rank of {network} trained on {dataset} with varying batch sizes",
        MLP_BN, BY_BATCH, TRAINING, FIRST_EPOCHS,
    ),
    "fig3": Figure(
        "Figure 3{norm}: rank of {network} trained on {dataset} with varying weight decay",
        MLP_BN,
        {"B": BATCH_SIZES[2:], "lam": (0.0, 1e-4, 2e-4, 4e-4, 8e-4, 6e-3)}, TRAINING, FIRST_EPOCHS,
    ),
    "fig4": Figure(
        "Figure 4{norm}: rank of {network} trained on {dataset} with varying batch sizes",
        RES_BN, BY_BATCH, TRAINING, NARROWED,
    ),
    "fig5": Figure(
        "Figure 5{norm}: rank of {network} trained on {dataset} with varying batch sizes",
        MLP, BY_BATCH, TRAINING, NARROWED,
    ),
    "fig6": Figure(
        "Figure 6{norm}: ranks across the layers of {network} trained on {dataset}",
        MLP_BN, BY_LAYER, LAYERS, FIRST_EPOCHS,
    ),
    "fig7": Figure(
        "Figure 7{norm}: ranks across the layers of {network} trained on {dataset}",
        RES_BN, BY_LAYER, LAYERS, NARROWED,
    ),
}
TWINS = ("true", "standard")
FIGURES |= {
    f"{name}-{variant}": replace(figure, base=replace(figure.base, **VARIANTS[variant]))
    for variant in TWINS
    for name, figure in FIGURES.items()
    if figure.base.normalized()
}
FIGURES["norms"] = Figure(
    "Four variants of batch norm: rank of {network} trained on {dataset}, η = {eta}",
    replace(MLP_BN, eta=0.01),
    {"batchnorm": VARIANTS, "B": BATCH_SIZES},
    TRAINING[:2], FIRST_EPOCHS,
)
FIGURES["control"] = Figure(
    "Control: batch size, or steps and decay budget? {network} trained on {dataset}, η = {eta}",
    replace(MLP_BN, eta=0.05),
    {"batchnorm": {name: VARIANTS[name] for name in TWINS}, "cell": CELLS},
    TRAINING[:2], FIRST_EPOCHS,
)
FIGURES["descent"] = Figure(
    "Does gradient descent lower the rank? "
    "{network} on m = {m} images of {dataset}{norm}, η = {eta}",
    replace(  # an epoch has the 39 steps of B = 128, whatever B
        MLP_BN, m=5000, epochs=5000, milestones=(600, 1000, 2000), steps_of_B=128, measure_every=50,
        **VARIANTS["true"],
    ),
    {"B": (32, 64, 128, 5000)},
    TRAINING[:2], DESCENT,
)
LONGEST = 200  # characters of a file's name; systems allow 255
OWN_AXES = ("batchnorm", "cell")  # axes that are no field of Run


class Line(NamedTuple):
    """One line of a figure: its colour's number, the paper's run, and the runs, one per seed."""

    label: str
    style: int
    paper: Run
    runs: list


class Experiment:
    """A figure under a preset and settings: .columns are (title, [Line]), .view counts ranks."""

    def __init__(self, name, preset, seeds=None, settings=None, synthetic=()):
        """`settings` are values of fields of Run and View and of axes (a tuple for several).

        Data sets named in `synthetic` are replaced by their synthetic twins. ValueError for
        settings that don't fit.
        """
        self.name, self.figure, self.preset = name, FIGURES[name], preset
        self.reduction = self.figure.presets[preset]
        self.seeds = seeds or self.reduction.seeds
        self.settings, self.synthetic = settings or {}, synthetic
        self._check()
        self.view = View(**self._settings_of(View))
        self.columns = self._columns()

    def _settings_of(self, kind):
        """The settings that are fields of Run or of View, without those of axes."""
        names = {field.name for field in fields(kind)} - set(self.figure.axes)
        return {name: value for name, value in self.settings.items() if name in names}

    def _columns(self):
        """A column for every point of the axes but the last, whose values are its lines."""
        *axes, last = self.figure.axes
        columns = []
        for values in itertools.product(*map(self._values, axes)):
            chosen = dict(zip(axes, values))
            points = [chosen | {last: value} for value in self._values(last)]
            lines = [self._line(index, point) for index, point in enumerate(points)]
            run = lines[0].runs[0]
            names = [named(axis, getattr(run, axis, value)) for axis, value in chosen.items()]
            columns.append((", ".join(names), lines))
        return columns

    def _values(self, axis):
        """The values of an axis, those of the figure or those set."""
        known = self.figure.axes[axis]
        if axis not in self.settings:
            return tuple(known)
        values = as_tuple(self.settings[axis])
        if len(set(values)) < len(values):
            raise ValueError(f"{axis} has a value twice: {values}")
        unknown = [value for value in values if value not in known]
        if isinstance(known, dict) and unknown:
            raise ValueError(f"{axis} must be one of {', '.join(known)}, got {unknown[0]}")
        return values

    def _check(self):
        """ValueError for a setting that conflicts with the figure's axes, or for too many."""
        axes = self.figure.axes
        points = [known for known in axes.values() if isinstance(known, dict)]
        taken = {field for known in points for point in known.values() for field in point}
        for field, value in self.settings.items():
            if field in axes:
                continue
            if field in taken or field in OWN_AXES:
                raise ValueError(f"{field} can't be set: the figure varies {', '.join(axes)}")
            if isinstance(value, tuple) and field != "milestones":
                raise ValueError(f"the figure has one {field} at a time, got {value}")
        if len(self.stem()) > LONGEST:
            raise ValueError("so many settings make too long a file name: give fewer at a time")

    def _line(self, index, chosen):
        """The Line of one point of the axes."""
        point = {}
        for axis, value in chosen.items():
            known = self.figure.axes[axis]
            point |= known[value] if isinstance(known, dict) else {axis: value}
        paper = replace(self.figure.base, **point)
        changed = self.reduction.fields | self._settings_of(Run) | point
        run = self._reduced(replace(self.figure.base, **changed), paper)
        if axis == "B":  # a batch size has the same colour in every figure
            others = len(BATCH_SIZES) + index
            index = BATCH_SIZES.index(value) if value in BATCH_SIZES else others
        return Line(named(axis, value), index, paper, grid(run, seed=range(self.seeds)))

    def _reduced(self, run, paper):
        """The run with the preset's width and data and, if it keeps that, the decay budget."""
        if self.reduction.width and "network" not in self.settings:
            run = replace(run, network=re.sub(r"\d+$", str(self.reduction.width), run.network))
        twin = f"synthetic-{run.dataset}"
        if twin in DATASETS and (self.preset == "smoke" or run.dataset in self.synthetic):
            run = replace(run, dataset=twin)
        if not self.reduction.keeps_decay_budget:
            return run
        if "milestones" not in self.settings:
            drops = [round(epoch * run.epochs / paper.epochs) for epoch in paper.milestones]
            run = replace(run, milestones=tuple(drops))
        if run.eta_steps() == 0:
            raise ValueError(f"factor={run.factor} leaves no learning rate")
        return replace(run, lam=run.lam * paper.eta_steps() / run.eta_steps())

    def runs(self):
        """All runs, in the order in which they are drawn."""
        return [run for _, lines in self.columns for line in lines for run in line.runs]

    def title(self):
        """The picture's title, with all that shortens or reduces the paper's setting."""
        run, paper = self.runs()[0], self.columns[0][1][0].paper
        norm = NORMS[run.detached, run.scalar] if run.normalized() else ""
        dataset = DATASETS[run.dataset].title
        text = self.figure.title.format(
            network=run.network, dataset=dataset, norm=norm, eta=run.eta, m=run.samples()
        )
        reductions = []
        if self.preset == "smoke":
            reductions.append("smoke test of the program, no result")
        elif self.reduction.keeps_decay_budget:
            reductions.append("reduced")
        elif run.epochs < paper.epochs:
            reductions.append(f"first {run.epochs} of {paper.epochs} epochs")
        if run.network != paper.network and not self.reduction.keeps_decay_budget:
            reductions.append(f"{run.network} for {paper.network}")
        reductions.append(f"{self.seeds} seed{'s' if self.seeds > 1 else ''}")
        return f"{text} ({', '.join(reductions)})"

    def note(self):
        """The lines under the title: the reduction, replaced data, settings by hand, seeds."""
        run, paper = self.runs()[0], self.figure.base
        sentences = []
        if self.reduction.keeps_decay_budget:
            lines = [line for _, lines in self.columns for line in lines]
            times = {f"{line.paper.eta_steps() / line.runs[0].eta_steps():.3g}" for line in lines}
            batch = f", B = {run.B}" if "B" in self.reduction.fields else ""
            sentences.append(
                f"Reduced from {paper.network}, {paper.epochs} epochs, all samples, "
                f"to {run.network}, {run.epochs} epochs, m = {run.samples()}{batch}. "
                f"To keep the decay budget Σ 2ηλ, λ is {' or '.join(sorted(times))} times "
                "the paper's, which the legend has."
            )
        if changed_rules():
            sentences.append("Changed rules: minigrad's mathematics is not as published.")
        if self.synthetic:
            names = " and ".join(DATASETS[name].title for name in self.synthetic)
            sentences.append(f"Synthetic data in place of {names}, which was not found.")
        if self.settings:
            sentences.append(f"Set by hand: {self._written(', ')}.")
        if self.seeds > 1:
            sentences.append("Lines: means over the seeds that learned; bands: their ranges.")
        return " ".join(sentences)

    def _written(self, separator):
        """Settings as on the command line: B=16,64."""
        values = {name: map(str, as_tuple(value)) for name, value in sorted(self.settings.items())}
        return separator.join(f"{name}={','.join(texts)}" for name, texts in values.items())

    def stem(self):
        """The name of its files, without the suffix; quick alone is not named."""
        parts = [self.name]
        if self.preset != "quick":
            parts.append(self.preset)
        if self.settings:
            parts.append(self._written("-"))
        if self.seeds != self.reduction.seeds:
            parts.append(f"seeds={self.seeds}")
        if self.synthetic:
            parts.append("synthetic")
        return "-".join(parts)

    def picture(self, results):
        """The picture of {run: (meta, arrays)}, and the numbers in it as rows of a CSV."""
        histories = {run: history(*results[run], self.view) for run in self.runs()}
        columns = []
        for title, lines in self.columns:
            drawn = []
            for label, style, _, runs in lines:
                drawn.append(plots.Line(label, style, [histories[run] for run in runs]))
            columns.append((title, drawn))
        rows = self.figure.rows
        picture = plots.picture(columns, rows, self.title(), self.note())
        table, drawn_fields = [], [row.field for row in rows]
        for run, run_history in histories.items():
            table += csv_rows(self.preset, run, run_history, self.view, drawn_fields)
        return picture, table


def as_tuple(value):
    """A value that isn't a tuple as one of length 1."""
    return value if isinstance(value, tuple) else (value,)


def named(axis, value):
    """A value of an axis as pictures have it: "η = 0.1", "λ = 5e-4", "MNIST"."""
    if axis == "dataset":
        return DATASETS[value].title
    if axis not in LABELS:
        return LABELS.get(value, str(value))
    text = f"{value:g}"
    if axis == "lam" and value:
        text = numpy.format_float_scientific(value, trim="-", exp_digits=1)
    return f"{LABELS[axis]}\u00a0=\u00a0{text}"
