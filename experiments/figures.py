"""The paper's figures as rows of a table, the presets that reduce them, and the way from a name to a picture."""

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy

from minigrad.measures import norm_of_spectrum, rank_of_spectrum
from minigrad.optim import step_decay

from . import plots
from .runs import Run, grid

LAMBDAS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
BATCHES = (4, 8, 16, 32, 64, 128)
ETAS = (0.001, 0.01, 0.1)
LABELS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "synthetic-mnist": "synthetic (MNIST's shape)",
          "synthetic-cifar10": "synthetic (CIFAR-10's shape)",
          "cross_entropy": "cross-entropy", "mean_squared_error": "squared loss"}
SYMBOLS = {"lam": "λ", "eta": "η", "B": "B"}
TRAIN_SIZE = {"mnist": 60_000, "cifar10": 50_000, "synthetic-mnist": 10_000, "synthetic-cifar10": 10_000}


@dataclass(frozen=True)
class Figure:
    """What the paper ran for one figure, the fields that make its columns and its lines, its rows, and its reduction."""

    title: str
    base: Run
    axes: dict  # field -> the values that the figure varies
    columns: tuple
    line: str
    rows: tuple
    quick: dict  # fields of Run that --preset quick replaces, and "width", that of the network
    smoke: dict  # likewise
    x: str = "epoch"  # or "layer": the last epoch's ranks against the layer's index


@dataclass(frozen=True, kw_only=True)
class View:
    """How stored spectra are read (Section 4.1): changing it trains nothing."""

    tol: float = 1e-4
    norm: str = "frobenius"  # or "spectral"
    output_layer: bool = True  # whether the output matrix counts in the average

    def __post_init__(self):
        if not 0 <= self.tol < 1:
            raise ValueError(f"tol must be in [0, 1), got {self.tol!r}")
        if self.norm not in ("frobenius", "spectral"):
            raise ValueError(f"norm must be frobenius or spectral, got {self.norm!r}")


TRAINING = (
    plots.Row("rank", "average rank", floor=0),
    plots.Row("train_accuracy", "train accuracy (%)", floor=0, ceiling=103),
    plots.Row("test_accuracy", "test accuracy (%)", floor=0, ceiling=103),
)
LAYERS = (plots.Row("layer_rank", "rank", floor=0),)

# Why the quick settings are what they are, and what else was tried: README, "The quick preset".
SUBSET = {"m": 640, "m_test": 1000, "measure_every": 10}
SMOKE = {"width": 8, "m": 640, "m_test": 100, "epochs": 2}

FIGURES = {
    "fig1": Figure(
        title="Figure 1: convergence of {network} trained with SGD",
        base=Run(network="MLP-5-2000", momentum=0.0, milestones=(), epochs=2000, measure_every=10),
        axes={"dataset": ("mnist", "cifar10"), "loss": ("cross_entropy", "mean_squared_error"), "lam": LAMBDAS},
        columns=("dataset", "loss"),
        line="lam",
        rows=(
            plots.Row("distance", "(a) $d(W_{t+1}, W_t)$", log=True, floor=1e-6),
            plots.Row("train_accuracy", "(b) train accuracy (%)", floor=0, ceiling=103),
            plots.Row("train_loss", "(c) train loss", log=True),
            plots.Row("rank", "(d) average rank", floor=0),
        ),
        quick={"width": 100, "m": 100, "m_test": 100, "B": 20, "measure_every": 20},
        smoke={"width": 8, "m": 60, "m_test": 60, "B": 20, "epochs": 5},
    ),
    "fig2": Figure(
        title="Figure 2: rank of {network} trained on {dataset} with varying batch sizes",
        base=Run(), axes={"eta": ETAS, "B": BATCHES}, columns=("eta",), line="B", rows=TRAINING,
        quick=SUBSET | {"epochs": 240}, smoke=SMOKE,
    ),
    "fig3": Figure(
        title="Figure 3: rank of {network} trained on {dataset} with varying weight decay",
        base=Run(), axes={"B": BATCHES[2:], "lam": (0.0, 1e-4, 2e-4, 4e-4, 8e-4, 6e-3)}, columns=("B",), line="lam", rows=TRAINING,
        quick=SUBSET | {"epochs": 320}, smoke=SMOKE,
    ),
    "fig4": Figure(
        title="Figure 4: rank of {network} trained on {dataset} with varying batch sizes",
        base=Run(network="RES-BN-5-500"), axes={"eta": ETAS, "B": BATCHES}, columns=("eta",), line="B", rows=TRAINING,
        quick=SUBSET | {"width": 100, "epochs": 240}, smoke=SMOKE,
    ),
    "fig5": Figure(
        title="Figure 5: rank of {network} trained on {dataset} with varying batch sizes",
        base=Run(network="MLP-5-500"), axes={"eta": ETAS, "B": BATCHES}, columns=("eta",), line="B", rows=TRAINING,
        quick=SUBSET | {"width": 100, "epochs": 400}, smoke=SMOKE,
    ),
    "fig6": Figure(
        title="Figure 6: ranks across the layers of {network} trained on {dataset}",
        base=Run(), axes={"eta": (0.0125, 0.025, 0.05, 0.1), "B": BATCHES[3:]}, columns=("eta",), line="B", rows=LAYERS, x="layer",
        quick=SUBSET | {"m": 1280, "epochs": 400}, smoke=SMOKE,
    ),
    "fig7": Figure(
        title="Figure 7: ranks across the layers of {network} trained on {dataset}",
        base=Run(network="RES-BN-5-500"), axes={"eta": (0.0125, 0.025, 0.05, 0.1), "B": BATCHES[3:]}, columns=("eta",), line="B",
        rows=LAYERS, x="layer", quick=SUBSET | {"width": 100, "m": 1280, "epochs": 400}, smoke=SMOKE,
    ),
}

SPREAD = ["Lines are means over the seeds, bands their ranges."]
PRESETS = {"paper": 3, "quick": 2, "smoke": 2}  # seeds
REDUCED = {"paper": "", "quick": "reduced, ", "smoke": "smoke test of the program, no result, "}  # in the title


class Plan:
    """A figure under a preset: .columns[c] is a list of (the paper's run, the runs in its place, one per seed)."""

    def __init__(self, name, preset, seeds=None, settings=None, stand_ins=()):
        """`settings` replace fields of Run (a tuple of values for a field that the figure varies) and of View.

        Data sets in `stand_ins` are replaced by synthetic ones. ValueError for a field or value that does not fit.
        """
        self.name, self.figure, self.preset, self.stand_ins = name, FIGURES[name], preset, tuple(stand_ins)
        self.seeds = PRESETS[preset] if seeds is None else seeds
        if self.seeds < 1:
            raise ValueError(f"the number of seeds must be at least 1, got {self.seeds}")
        self.reduction = {"quick": self.figure.quick, "smoke": self.figure.smoke}.get(preset, {})
        settings = dict(settings or {})
        axes = {field: settings.pop(field, values) for field, values in self.figure.axes.items()}
        axes = {field: values if isinstance(values, tuple) else (values,) for field, values in axes.items()}
        for field, values in settings.items():
            if isinstance(values, tuple) and field != "milestones":
                raise ValueError(f"{field} takes one value, {name} varies {', '.join(axes)}: got {values}")
        self.view = View(**{f.name: settings.pop(f.name) for f in fields(View) if f.name in settings})
        self.settings = settings
        self.columns = []
        for column in grid(self.figure.base, **{field: axes[field] for field in self.figure.columns}):
            lines = grid(column, **{self.figure.line: axes[self.figure.line]})
            self.columns.append([(paper, grid(self._run(paper), seed=range(self.seeds))) for paper in lines])

    def runs(self):
        """All of them, in the order in which they are drawn."""
        return [run for lines in self.columns for _, runs in lines for run in runs]

    def _run(self, paper):
        """`paper` under the preset, which keeps E = sum_t eta_t 2 lambda / (1 - momentum): fewer steps, a larger lambda."""
        changes = dict(self.reduction)
        width = changes.pop("width", None)
        if width:
            changes["network"] = re.sub(r"\d+$", str(width), paper.network)
        run = replace(paper, **changes | self.settings)
        if self.preset == "smoke" and not run.dataset.startswith("synthetic-") or run.dataset in self.stand_ins:
            run = replace(run, dataset="synthetic-" + run.dataset)
        if not self.reduction:
            return run
        if "milestones" not in self.settings:
            run = replace(run, milestones=tuple(round(epoch * run.epochs / paper.epochs) for epoch in paper.milestones))
        return replace(run, lam=self.settings.get("lam", paper.lam) * _eta_steps(paper) / _eta_steps(run))

    def title(self):
        """The picture's title: it says what reduces the paper's setting."""
        run = self.runs()[0]
        return self.figure.title.format(network=run.network, dataset=LABELS[run.dataset]) + standing(self.preset, self.seeds)

    def note(self):
        """The lines under the title: the reduction, the data, what was set by hand, the seeds."""
        return " ".join(self.differences() + SPREAD * (self.seeds > 1))

    def differences(self):
        """Sentences on what differs from the paper."""
        run, paper = self.runs()[0], self.figure.base
        sentences = []
        if self.reduction:
            ratios = sorted({_eta_steps(p) / _eta_steps(runs[0]) for lines in self.columns for p, runs in lines})
            pairs = [
                (run.network, paper.network, "{}"), (run.m or "all", "all", "{} training samples"), (run.epochs, paper.epochs, "{} epochs"),
            ]
            if "B" not in self.figure.axes:
                pairs.insert(2, (run.B, paper.B, "B = {}"))
            smaller = [form.format(f"{new} (paper: {old})") for new, old, form in pairs if new != old]
            scales = " or ".join(f"{b:.3g}" for a, b in zip([0, *ratios], ratios) if b > 1.02 * a)
            drops = ", the learning rate drops at the same fractions of them" if run.milestones and run.epochs != paper.epochs else ""
            sentences.append(
                f"Reduced: {', '.join(smaller)}{drops}; λ is {scales} times {self._unscaled()}, "
                "so that the decay budget Σ 2ηλ over the steps is the paper's."
            )
        if self.stand_ins:
            names = " and ".join(LABELS[name] for name in self.stand_ins)
            sentences.append(f"Synthetic stand-in for {names}, which could be neither found nor fetched.")
        if self.settings:
            sentences.append("Set by hand: " + ", ".join(f"{k} = {v}" for k, v in self.settings.items()) + ".")
        return sentences

    def _unscaled(self):
        if "lam" in self.settings:
            return f"the given {written('lam', self.settings['lam'])}"
        return "the paper's" + (", which stands in the legend" if self.figure.line == "lam" else " " + written("lam", self.figure.base.lam))

    def draw(self, results, folder):
        """Draw `results` (in the order of runs()) into folder/NAME.png, .svg and .csv; the paths."""
        remaining, figure = iter(results), self.figure
        columns = []
        for lines in self.columns:
            drawn, run = [], lines[0][1][0]
            names = {field: written(field, getattr(run, field)) for field in figure.columns}
            title = ", ".join(f"{SYMBOLS[field]} = {name}" if field in SYMBOLS else name for field, name in names.items())
            for place, (paper, runs) in enumerate(lines):
                style = BATCHES.index(paper.B) if figure.line == "B" and paper.B in BATCHES else place
                values = [history(*next(remaining), self.view) for _ in runs]
                drawn.append(plots.Line(written(figure.line, getattr(paper, figure.line)), style, values))
            columns.append(plots.Column(title, drawn, figure.x))
        picture = plots.histories(columns, figure.rows, self.title(), self.note(), SYMBOLS[figure.line])
        return plots.save(picture, plots.tidy(columns, figure.rows), Path(folder) / self.name)


def standing(preset, seeds):
    """What a title ends with: how far to trust the picture."""
    return f" ({REDUCED[preset]}{seeds} seed{'s' * (seeds > 1)})"


def written(field, value):
    """A value of a run's field as pictures have it."""
    if field == "lam":
        return numpy.format_float_scientific(value, trim="-", exp_digits=1) if value else "0"
    return LABELS.get(value, str(value))


def history(meta, arrays, view):
    """One stored run as the numbers that figures draw, against "epoch": scalars, rank and norm averaged over E_T."""
    spectra = [values for name, values in arrays.items() if name.startswith("spectrum ")]
    ranks = [rank_of_spectrum(s, view.tol, view.norm) for s in spectra]
    averaged = len(spectra) if view.output_layer else len(spectra) - 1
    measured = {name: values for name, values in arrays.items() if values.ndim == 1}
    diverged = meta["status"] == "diverged"  # at its end it has no rank, whatever can still be counted
    rank = numpy.mean(ranks[:averaged], axis=0)
    return measured | {
        "train_accuracy": 100 * measured["train_accuracy"],
        "test_accuracy": 100 * measured["test_accuracy"],
        "rank": rank,
        "final_rank": numpy.nan if diverged else rank[-1],
        "norm": numpy.mean([norm_of_spectrum(s, "frobenius") for s in spectra[:averaged]], axis=0),
        "layer": numpy.arange(1, len(spectra) + 1),
        "layer_rank": numpy.array([numpy.nan if diverged else r[-1] for r in ranks]),
        "diverged": diverged,
    }


def budget(run):
    """E = sum over the steps of 2 eta_t lambda / (1 - momentum): a direction that nothing refreshes shrinks by exp(-E)."""
    return _eta_steps(run) * 2 * run.eta * run.lam / (1 - run.momentum)


def _eta_steps(run):
    """Sum over the steps of eta_t / eta."""
    steps = (run.m or TRAIN_SIZE[run.dataset]) // run.B
    return steps * sum(step_decay(1.0, epoch, run.milestones, run.factor) for epoch in range(run.epochs))
