"""The paper's figures as rows of a table, the presets that reduce them, and the way from a name to a picture."""

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy

from minigrad.measures import norm_of_spectrum, rank_of_spectrum

from . import plots
from .runs import Run, grid

LAMBDAS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
LABELS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "synthetic-mnist": "synthetic (MNIST's shape)",
          "synthetic-cifar10": "synthetic (CIFAR-10's shape)",
          "cross_entropy": "cross-entropy", "mean_squared_error": "squared loss"}
TRAIN_SIZE = {"mnist": 60_000, "cifar10": 50_000}


@dataclass(frozen=True)
class Figure:
    """What the paper ran for one figure, the fields that make its columns and its lines, and its rows."""

    title: str
    base: Run
    axes: dict  # field -> the values that the figure varies
    columns: tuple
    line: str
    rows: tuple


@dataclass(frozen=True)
class Preset:
    """How runs are reduced: fields replaced, the network's width, and lambda scaled to keep the decay budget."""

    seeds: int
    width: int | None = None
    fields: dict = field(default_factory=dict)
    synthetic: bool = False


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
    ),
}

PRESETS = {
    "paper": Preset(seeds=3),
    # Why these numbers, and what else was tried: README, "The quick preset".
    "quick": Preset(seeds=2, width=100, fields={"m": 100, "m_test": 100, "B": 20, "measure_every": 20}),
    "smoke": Preset(seeds=2, width=8, fields={"m": 60, "m_test": 60, "B": 20, "epochs": 5}, synthetic=True),
}


class Plan:
    """A figure under a preset: .columns[c] is a list of (the paper's run, the runs in its place, one per seed)."""

    def __init__(self, name, preset, seeds=None, settings=None, stand_ins=()):
        """`settings` replace fields of Run (a tuple of values for a field that the figure varies) and of View.

        Data sets in `stand_ins` are replaced by synthetic ones. ValueError for a field or value that does not fit.
        """
        self.name, self.figure, self.preset, self.stand_ins = name, FIGURES[name], preset, tuple(stand_ins)
        self.seeds = PRESETS[preset].seeds if seeds is None else seeds
        if self.seeds < 1:
            raise ValueError(f"the number of seeds must be at least 1, got {self.seeds}")
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
        """`paper` under the preset. Fewer steps take a larger lambda, so that E = sum_t eta 2 lambda is the paper's."""
        preset = PRESETS[self.preset]
        changes = preset.fields | self.settings
        if preset.width and "network" not in changes:
            changes["network"] = re.sub(r"\d+$", str(preset.width), paper.network)
        if preset.synthetic or paper.dataset in self.stand_ins:
            changes["dataset"] = "synthetic-" + paper.dataset
        run = replace(paper, **changes)
        return replace(run, lam=paper.lam * _steps(paper) / _steps(run)) if preset.fields else run

    def title(self):
        """The picture's title: it says what reduces the paper's setting."""
        reduced = {"paper": "", "quick": " (reduced)", "smoke": " (smoke test of the program, no result)"}[self.preset]
        return self.figure.title.format(network=self.runs()[0].network) + reduced

    def note(self):
        """The lines under the title: the reduction, the data, the seeds, what differs from the paper."""
        run, paper = self.runs()[0], self.figure.base
        sentences = []
        if PRESETS[self.preset].fields:
            ratios = sorted({_steps(p) / _steps(runs[0]) for lines in self.columns for p, runs in lines})
            pairs = (
                (run.network, paper.network, "{}"), (run.m or "all", "all", "{} training samples"), (run.B, paper.B, "B = {}"),
                (run.epochs, paper.epochs, "{} epochs"),
            )
            smaller = [form.format(f"{new} (paper: {old})") for new, old, form in pairs if new != old]
            scales = " or ".join(f"{ratio:.3g}" for ratio in ratios)
            sentences.append(
                f"Reduced: {', '.join(smaller)}; λ is {scales} times the paper's, which stands in the legend, "
                "so that the decay budget Σ 2ηλ over the steps is the paper's."
            )
        if self.stand_ins:
            names = " and ".join(LABELS[name] for name in self.stand_ins)
            sentences.append(f"Synthetic stand-in for {names}, which could be neither found nor fetched.")
        if self.settings:
            sentences.append("Set by hand: " + ", ".join(f"{k} = {v}" for k, v in self.settings.items()) + ".")
        sentences.append(f"{self.seeds} seeds: mean and range." if self.seeds > 1 else "1 seed.")
        return " ".join(sentences)

    def draw(self, results, folder):
        """Draw `results` (in the order of runs()) into folder/NAME.png, .svg and .csv; the paths."""
        remaining = iter(results)
        columns = []
        for lines in self.columns:
            title = ", ".join(LABELS[getattr(lines[0][1][0], field)] for field in self.figure.columns)
            drawn = []
            for style, (paper, runs) in enumerate(lines):
                label = numpy.format_float_scientific(paper.lam, trim="-", exp_digits=1) if paper.lam else "0"
                drawn.append(plots.Line(label, style, [history(*next(remaining), self.view) for _ in runs]))
            columns.append(plots.Column(title, drawn))
        figure = plots.histories(columns, self.figure.rows, self.title(), self.note(), "λ")
        return plots.save(figure, plots.tidy(columns, self.figure.rows), Path(folder) / self.name)


def history(meta, arrays, view):
    """One stored run as the numbers that figures draw, against "epoch": scalars, rank and norm averaged over E_T."""
    spectra = [values for name, values in arrays.items() if name.startswith("spectrum ")]
    averaged = spectra if view.output_layer else spectra[:-1]
    measured = {name: values for name, values in arrays.items() if values.ndim == 1}
    return measured | {
        "train_accuracy": 100 * measured["train_accuracy"],
        "test_accuracy": 100 * measured["test_accuracy"],
        "rank": numpy.mean([rank_of_spectrum(s, view.tol, view.norm) for s in averaged], axis=0),
        "norm": numpy.mean([norm_of_spectrum(s, "frobenius") for s in averaged], axis=0),
        "diverged": meta["status"] == "diverged",
    }


def _steps(run):
    return run.epochs * ((run.m or TRAIN_SIZE[run.dataset]) // run.B)
