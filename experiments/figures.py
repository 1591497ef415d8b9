"""The paper's figures and our own as rows of a table; Experiment: a figure's runs and picture."""

import itertools
import re
from dataclasses import replace
from typing import NamedTuple

import numpy

from minigrad.datasets import DATASETS

from . import plots
from .results import View, csv_rows, history
from .runs import LOSSES, Run, changed_rules

BATCH_SIZES = (4, 8, 16, 32, 64, 128)
ETAS = (0.001, 0.01, 0.1)
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
    "cross_entropy": "cross-entropy", "mean_squared_error": "squared loss",
    "a": "a: B = 128",
    "b": "b: B = 32, steps of a",
    "c": "c: B = 32",
    "d": "d: B = 32, η / 4",
    "e": "e: B = 32, λ / 4",
    "B": "B", "eta": "η", "lam": "λ",
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


class Figure(NamedTuple):
    """One figure of rows of panels; its last axis makes the lines, the others the columns."""

    title: str
    base: Run
    axes: dict  # field of Run -> its values, or a name -> {value: the fields that it stands for}
    rows: tuple
    presets: dict = FIRST_EPOCHS


TRAINING = (
    plots.Row("rank", "average rank"),
    plots.Row("train_accuracy", "train accuracy (%)", top=103),
    plots.Row("test_accuracy", "test accuracy (%)", top=103),
)
LAYERS = (plots.Row("layer_rank", "rank", x="layer"),)
BY_CUTOFF = (plots.Row("tol_rank", "average rank", x="tol"),)
CONVERGING = (
    plots.Row("distance", "(a) $d(W_{t+1}, W_t)$", log=True, floor=1e-6),
    plots.Row("train_accuracy", "(b) train accuracy (%)", top=103),
    plots.Row("train_loss", "(c) train loss", log=True),
    plots.Row("rank", "(d) average rank"),
)
MLP_BN = Run(measure_every=5)
RES_BN = replace(MLP_BN, network="RES-BN-5-500")
MLP = replace(MLP_BN, network="MLP-5-500")
BY_BATCH = {"eta": ETAS, "B": BATCH_SIZES}
BY_LAYER = {"eta": (0.0125, 0.025, 0.05, 0.1), "B": BATCH_SIZES[3:]}
BY_SIZE = "{norm}: rank of {network} trained on {dataset} with varying batch sizes"
ACROSS = "{norm}: ranks across the layers of {network} trained on {dataset}"

FIGURES = {
    "fig1": Figure(
        "Figure 1: convergence of {network} trained with SGD",
        replace(MLP_BN, network="MLP-5-2000", momentum=0.0, milestones=(), epochs=2000),
        {"dataset": ("mnist", "cifar10"), "loss": LOSSES, "lam": (0.0, 1e-6, 1e-5, 1e-4, 1e-3)},
        CONVERGING, CONVERGENCE,
    ),
    "fig2": Figure(f"Figure 2{BY_SIZE}", MLP_BN, BY_BATCH, TRAINING),
    "fig3": Figure(
        "Figure 3{norm}: rank of {network} trained on {dataset} with varying weight decay",
        MLP_BN, {"B": BATCH_SIZES[2:], "lam": (0.0, 1e-4, 2e-4, 4e-4, 8e-4, 6e-3)}, TRAINING,
    ),
    "fig4": Figure(f"Figure 4{BY_SIZE}", RES_BN, BY_BATCH, TRAINING, NARROWED),
    "fig5": Figure(f"Figure 5{BY_SIZE}", MLP, BY_BATCH, TRAINING, NARROWED),
    "fig6": Figure(f"Figure 6{ACROSS}", MLP_BN, BY_LAYER, LAYERS),
    "fig7": Figure(f"Figure 7{ACROSS}", RES_BN, BY_LAYER, LAYERS, NARROWED),
    "spectra": Figure(
        "Ranks of Figure 2 after the last epoch by cutoff{norm}: {network} trained on {dataset}",
        MLP_BN, BY_BATCH, BY_CUTOFF,
    ),
}
TWINS = ("true", "standard")
FIGURES |= {
    f"{name}-{variant}": figure._replace(base=replace(figure.base, **VARIANTS[variant]))
    for variant in TWINS
    for name, figure in FIGURES.items()
    if figure.base.normalized()
}
FIGURES["norms"] = Figure(
    "Four variants of batch norm: rank of {network} trained on {dataset}, η = {eta}",
    replace(MLP_BN, eta=0.01),
    {"batchnorm": VARIANTS, "B": BATCH_SIZES}, TRAINING[:2],
)
FIGURES["control"] = Figure(
    "Control: batch size, or steps and decay budget? {network} trained on {dataset}, η = {eta}",
    replace(MLP_BN, eta=0.05),
    {"batchnorm": {name: VARIANTS[name] for name in TWINS}, "cell": CELLS}, TRAINING[:2],
)
FIGURES["descent"] = Figure(
    "Does gradient descent lower the rank? "
    "{network} on m = {m} images of {dataset}{norm}, η = {eta}",
    replace(  # an epoch has the 39 steps of B = 128, whatever B
        MLP_BN, m=5000, epochs=5000, milestones=(600, 1000, 2000), steps_of_B=128, measure_every=50,
        **VARIANTS["true"],
    ),
    {"B": (32, 64, 128, 5000)}, TRAINING[:2], DESCENT,
)
OWN_AXES = ("batchnorm", "cell")  # axes that are no field of Run
LONGEST = 200  # characters of a file's name; systems allow 255


class Experiment:
    """A figure under a preset and settings: .columns are (title, [Line]), .view counts ranks."""

    def __init__(self, name, preset, seeds=None, settings=None, synthetic=()):
        """`settings` are tuples of values of fields of Run and View and of axes.

        Data sets named in `synthetic` are replaced by synthetic ones. ValueError for settings that
        don't fit.
        """
        self.name, self.figure, self.preset = name, FIGURES[name], preset
        self.reduction = self.figure.presets[preset]
        self.seeds = seeds or self.reduction.seeds
        self.settings, self.synthetic = dict(sorted((settings or {}).items())), synthetic
        self.fixed = self._fixed()
        of_view = self.fixed.keys() & vars(View())
        self.view = View(**{name: self.fixed.pop(name) for name in of_view})
        self.times = set()  # factors, as text, by which reduced runs have a larger λ than the paper
        self.columns = self._columns()
        if len(self.stem()) > LONGEST:
            raise ValueError("so many settings make too long a file name: give fewer at a time")

    def _fixed(self):
        """The settings of fields that are no axes; ValueError where they conflict with the axes."""
        axes, drawn_against = self.figure.axes, {row.x for row in self.figure.rows}
        taken = {*OWN_AXES, *drawn_against}
        for axis in OWN_AXES:
            taken.update(*axes.get(axis, {}).values())
        fixed = {name: values for name, values in self.settings.items() if name not in axes}
        for name, values in fixed.items():
            if name in taken:
                varied = ", ".join([*axes, *drawn_against])
                raise ValueError(f"{name} can't be set: the figure varies {varied}")
            if len(values) > 1 and name != "milestones":
                raise ValueError(f"the figure has one {name} at a time, got {values}")
        return {name: v if name == "milestones" else v[0] for name, v in fixed.items()}

    def _columns(self):
        """A column for every point of the axes but the last, whose values are its lines."""
        *axes, last = ([(axis, value) for value in self._values(axis)] for axis in self.figure.axes)
        columns = []
        for point in itertools.product(*axes):
            lines = [self._line(index, [*point, end]) for index, end in enumerate(last)]
            run = lines[0].seeds[0]
            names = [named(axis, getattr(run, axis, value)) for axis, value in point]
            columns.append((", ".join(names), lines))
        return columns

    def _values(self, axis):
        """The values of an axis, those of the figure or those set."""
        known = self.figure.axes[axis]
        values = self.settings.get(axis, tuple(known))
        if isinstance(known, dict) and not known.keys() >= set(values):
            raise ValueError(f"{axis} must be one of {', '.join(known)}, got {', '.join(values)}")
        return values

    def _line(self, index, point):
        """The Line of one point of the axes, given as a list of (axis, value)."""
        fields = {}
        for axis, value in point:
            known = self.figure.axes[axis]
            fields |= known[value] if isinstance(known, dict) else {axis: value}
        paper = replace(self.figure.base, **fields)
        run = replace(self.figure.base, **self.reduction.fields | self.fixed | fields)
        run = self._reduced(run, paper)
        if axis == "B":  # a batch size has the same colour in every figure
            index = list(dict.fromkeys((*BATCH_SIZES, *self._values("B")))).index(value)
        runs = [replace(run, seed=seed) for seed in range(self.seeds)]
        shown = getattr(paper, axis, value)  # of the axis batchnorm: Run.batchnorm, in words
        return plots.Line(named(axis, shown), index, runs)

    def _reduced(self, run, paper):
        """The run with the preset's width and data and, if it keeps that, the decay budget."""
        if self.reduction.width and "network" not in self.settings:
            run = replace(run, network=re.sub(r"\d+$", str(self.reduction.width), run.network))
        synthetic = f"synthetic-{run.dataset}"
        if synthetic in DATASETS and (self.preset == "smoke" or run.dataset in self.synthetic):
            run = replace(run, dataset=synthetic)
        if not self.reduction.keeps_decay_budget:
            return run
        if "milestones" not in self.settings:
            drops = [round(epoch * run.epochs / paper.epochs) for epoch in paper.milestones]
            run = replace(run, milestones=tuple(drops))
        if run.eta_steps() == 0:
            raise ValueError(f"factor={run.factor} leaves no learning rate")
        self.times.add(f"{paper.eta_steps() / run.eta_steps():.3g}")
        return replace(run, lam=run.lam * paper.eta_steps() / run.eta_steps())

    def runs(self):
        """All runs, in the order in which they are drawn."""
        return [run for _, lines in self.columns for line in lines for run in line.seeds]

    def title(self):
        """The picture's title, with all that shortens or reduces the paper's setting."""
        run, paper, whole = self.runs()[0], self.figure.base, not self.reduction.keeps_decay_budget
        reductions = [
            self.preset == "smoke" and "smoke test of the program, no result",
            not whole and self.preset != "smoke" and "reduced",
            whole and run.epochs < paper.epochs and f"first {run.epochs} of {paper.epochs} epochs",
            whole and run.network != paper.network and f"{run.network} for {paper.network}",
            f"{self.seeds} seed{'s' if self.seeds > 1 else ''}",
        ]
        norm = f", {run.batchnorm}" if run.normalized() else ""
        words = vars(run) | {"dataset": DATASETS[run.dataset].title, "m": run.samples()}
        in_brackets = ", ".join(filter(None, reductions)).replace(" ", "\u00a0")  # on one line
        return f"{self.figure.title.format(**words, norm=norm)} ({in_brackets})"

    def note(self):
        """The lines under the title: the reduction, replaced data, settings by hand, seeds."""
        replaced = " and ".join(DATASETS[name].title for name in self.synthetic)
        sentences = [
            self.reduction.keeps_decay_budget and self._reduction_note(),
            changed_rules() and "Changed rules: minigrad's mathematics is not as published.",
            replaced and f"Synthetic data in place of {replaced}, which was not found.",
            self.settings and f"Set by hand: {self._written(', ')}.",
            self.seeds > 1 and "Lines: means over the seeds that learned; bands: their ranges.",
        ]
        return " ".join(filter(None, sentences))

    def _reduction_note(self):
        """How runs that keep the decay budget differ from the paper's."""
        run, paper = self.runs()[0], self.figure.base
        batch = f", B = {run.B}" if "B" in self.reduction.fields else ""
        return (
            f"Reduced from {paper.network}, {paper.epochs} epochs, all samples, to {run.network}, "
            f"{run.epochs} epochs, m = {run.samples()}{batch}. To keep the decay budget Σ 2ηλ, "
            f"λ is {' or '.join(sorted(self.times))} times the paper's, which the legend shows."
        )

    def _written(self, separator):
        """Settings as on the command line: B=16,64."""
        texts = [f"{name}={','.join(map(str, values))}" for name, values in self.settings.items()]
        return separator.join(texts)

    def stem(self):
        """The name of its files, without the suffix; quick alone is not named."""
        parts = [
            self.name,
            self.preset != "quick" and self.preset,
            self._written("-"),
            self.seeds != self.reduction.seeds and f"seeds={self.seeds}",
            self.synthetic and "synthetic",
        ]
        return "-".join(filter(None, parts))

    def picture(self, results):
        """The picture of {run: (meta, arrays)}, and the numbers in it as rows of a CSV."""
        histories = {run: history(*results[run], self.view) for run in self.runs()}
        columns = []
        for title, lines in self.columns:
            drawn = [line._replace(seeds=[histories[run] for run in line.seeds]) for line in lines]
            columns.append((title, drawn))
        table, fields = [], [(row.field, row.x) for row in self.figure.rows]
        for run, run_history in histories.items():
            table += csv_rows(self.preset, run, run_history, self.view, fields)
        return plots.picture(columns, self.figure.rows, self.title(), self.note()), table


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
