"""make theory: the memo's statements as numbers that could contradict them, in a table and in pictures.

A chapter runs some of the functions of lemmas, propositions, theorem and appendices on real data, and says on what.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from minigrad.graph import mlp, parse
from minigrad.network import init_params
from minigrad.optim import step_decay
from minigrad.train import batches, evaluate, train_epoch

from . import appendices, lemmas, plots, propositions, runner, tables, theorem
from .figures import LABELS, Plan, written
from .runs import INPUTS

CLASSES = {"digits 0 and 1": ((0,), (1,)), "even and odd digits": ((0, 2, 4, 6, 8), (1, 3, 5, 7, 9))}
SAMPLES = 40  # of the binary problems: few enough for GD to converge within ten thousand steps
LAMBDA, ETA, SMALL = 0.05, 0.5, 4  # of Section 3.1's runs: weight decay, learning rate, the batch of SGD


class Check(NamedTuple):
    """A row of the table: the statement, its place in the memo, what was measured and on what, and whether it holds."""

    statement: str
    place: str
    measured: str
    setting: str
    holds: bool


class Picture(NamedTuple):
    """What plots.histories draws, and its file's name after "theory-"."""

    name: str
    title: str
    note: str
    columns: list
    rows: list


@dataclass(frozen=True)
class Size:
    """How large everything is. The defaults are --preset quick; smoke tries the program, and its verdicts mean nothing."""

    preset: str = "quick"
    mnist: str = "mnist"
    cifar10: str = "cifar10"
    wide: int = 500  # of Lemma 1's networks: the paper's
    width: int = 100
    batches: tuple = (2, 4, 8, 16)  # of Lemma 2
    steps: int = 10_000  # of Section 3.1's runs
    widths: tuple = (4, 8, 16, 32, 64, 128)
    seeds: int = 3
    ranks: tuple = (4, 16, 64)  # B* of Theorem 1
    epochs: int = 50  # of the moving window
    samples: int = 640  # in it

    @property
    def datasets(self):
        """The data sets to find."""
        return self.mnist, self.cifar10

    def on(self, stand_ins):
        """The same with synthetic data in place of those in `stand_ins`."""
        return replace(self, **{name: f"synthetic-{name}" for name in stand_ins})


SIZES = {
    "quick": Size(),
    "smoke": Size("smoke", "synthetic-mnist", "synthetic-cifar10", wide=8, width=8, batches=(2, 3), steps=50, widths=(2, 4), seeds=1,
                  ranks=(1, 2), epochs=2, samples=40),
}


def data(name, folder, m):
    """The first m training samples of a data set, balanced, in float64: x (m, n), y (m, 10)."""
    x, y, _, _ = runner.load(name, folder, m, 10)
    return x.astype("float64"), y.astype("float64")


def binary(name, folder, classes):
    """SAMPLES digits, the two groups of `classes` as -1 and +1: x (m, n), centred, of mean square length 1; y (m, 1)."""
    each = SAMPLES // sum(map(len, classes))
    x, y = data(name, folder, 10 * each)
    label = y.argmax(axis=1)
    rows = numpy.isin(label, classes[0] + classes[1])
    x = x[rows] - x[rows].mean(axis=0)
    return x / (x**2).sum(axis=1).mean() ** 0.5, numpy.where(numpy.isin(label[rows], classes[1]), 1.0, -1.0)[:, None]


def line(label, style, **history):
    """A line of a picture with one history."""
    return plots.Line(label, style, [{"diverged": False} | history])


def lemma_1(size, folder):
    """Lemma 1 and Eq. 13 on the paper's networks without batch norm."""
    x, _ = data(size.cifar10, folder, 10)
    checks, columns = [], []
    for family in ("MLP", "RES"):
        found = {}
        for name, dtype in ((f"{family}-5-{size.wide}", "float64"), (f"{family}-5-{size.wide}", "float32"), (f"{family}-BN-5-{size.wide}", "float64")):
            graph = parse(name, x.shape[1], 10)
            params = init_params(graph, numpy.random.default_rng(0), dtype=dtype)
            found[dtype if "BN" not in name else "BN"] = lemmas.lemma_1(graph, params, x[:4].astype(dtype), numpy.random.default_rng(1))
        exact, single, normalized = (found[key] for key in ("float64", "float32", "BN"))
        setting = f"{family}-5-{size.wide} at initialization, {LABELS[size.cifar10]}, 4 samples, 10 outputs"
        checks.append(Check(
            "∂f(x)/∂W has rank at most 1, for every x and every trainable W", "Lemma 1",
            f"σ₂/σ₁ ≤ {exact['largest']:.1e} in {exact['gradients']} gradients (in float32 {single['largest']:.1e}; with batch norm, which the lemma excludes, up to {normalized['largest']:.2f})",
            setting, exact["rank_holds"]))
        checks.append(Check(
            "∂f(x)/∂W = u(x) v(x)ᵀ, with u and v as backpropagation has them", "Eq. 13",
            f"relative error {exact['error']:.1e} (in float32 {single['error']:.1e})", setting, exact["equality_holds"]))
        labels = {"float64": "float64", "float32": "float32", "BN": "float64, with batch norm: not the lemma's case"}
        columns.append(plots.Column(f"{family}-5-{size.wide}", [
            line(labels[key], place, matrix=numpy.arange(1, len(f["ratio"]) + 1), ratio=numpy.nanmax(f["ratio"], axis=1)) for place, (key, f) in enumerate(found.items())
        ], "matrix"))
    return checks, Picture(
        "lemma1", "Lemma 1: without batch norm, the gradient of every output for every sample has rank 1",
        f"σ₂/σ₁ of ∂f(x)/∂W, the largest of {4 * 10} gradients (4 samples of {LABELS[size.cifar10]}, 10 outputs), at initialization, for every trainable W "
        "from the input to the output. The gradients are slopes of f along random directions: they know nothing of factors.",
        columns, [plots.Row("ratio", "largest σ₂ / σ₁", log=True)])


def lemma_2(size, folder):
    """Lemma 2, its sharper form and Eq. 24, with A detached and not."""
    x, _ = data(size.cifar10, folder, max(10 * (-(-max(size.batches) // 10)), 10))
    checks, columns = [], []
    for name in (f"MLP-BN-5-{size.width}", f"RES-BN-2-{size.width}"):
        graph = parse(name, x.shape[1], 10)
        params = init_params(graph, numpy.random.default_rng(0), dtype="float64")
        found = {detached: [lemmas.lemma_2(graph, params, x[:B], numpy.random.default_rng(B), detached) for B in size.batches] for detached in (True, False)}
        single = lemmas.lemma_2(graph, {key: W.astype("float32") for key, W in params.items()}, x[: size.batches[-1]].astype("float32"), numpy.random.default_rng(1))
        pseudo, true = found[True], found[False]
        last, into = pseudo[-1]["B"], pseudo[0]["normalized"]
        setting = f"{name} at initialization, {LABELS[size.cifar10]}, B = {', '.join(map(str, size.batches))}"

        def most(key, results=pseudo):
            return max(f[key] for f in results)

        checks += [
            Check("Σ βⱼ ∂f(xⱼ)/∂W over a batch has rank at most B, A detached", "Lemma 2",
                  f"σ₍B+1₎/σ₁ ≤ {most('beyond'):.1e} (in float32 {single['beyond']:.1e}); rank {pseudo[-1]['rank'].max()} at B = {last}", setting, all(f["rank_holds"] for f in pseudo)),
            Check("into a normalized layer, the rank is at most B − 1", "sharper than Lemma 2",
                  f"σ₍B₎/σ₁ ≤ {most('sharper'):.1e}; rank {pseudo[-1]['rank'][into].max()} at B = {last}", setting, all(f["sharper_holds"] for f in pseudo)),
            Check("the sum is that of backpropagation's B outer products, A detached", "Eq. 23 and 24", f"relative error {most('error'):.1e}", setting, all(f["equality_holds"] for f in pseudo)),
            Check("with A not detached, the ranks are still at most B and B − 1", "Lemma 2 without its assumption",
                  f"σ₍B+1₎/σ₁ ≤ {most('beyond', true):.1e}, normalized σ₍B₎/σ₁ ≤ {most('sharper', true):.1e}", setting, all(f["rank_holds"] and f["sharper_holds"] for f in true)),
            Check("with A not detached, the sum is still Eq. 24's", "Eq. 23 and 24 without their assumption",
                  f"the true gradient differs by {min(f['error'] for f in true):.2g} to {most('error', true):.2g} times its size; a single sample's, into the last normalized layer, "
                  f"has rank {true[-1]['rank'][into][-1, 0]}, detached {pseudo[-1]['rank'][into][-1, 0]} (B = {last})", setting, all(f["equality_holds"] for f in true)),
        ]
        B = numpy.array(size.batches)
        lines = [("into normalized layers", True, into), ("into normalized layers, A not detached", False, into), ("into the other layers", True, ~into)]
        columns.append(plots.Column(name, [line("bound of Lemma 2: B", 0, B=B, rank=B)] + [
            line(label, place, B=B, rank=numpy.array([f["rank"][rows, 1].max() for f in found[detached]])) for place, (label, detached, rows) in enumerate(lines, start=1)], "B"))
    return checks, Picture(
        "lemma2", "Lemma 2: with batch norm, the gradient of a batch has rank at most B, and B − 1 into a normalized layer",
        f"The largest rank over the trainable W of Σ βⱼ ∂f(xⱼ)/∂W, one random β over samples and 10 outputs (so the output matrix has rank 10 at most), {LABELS[size.cifar10]}, at initialization; "
        "σ > 1e-10 σ₁ counts, in float64, and the gradients are slopes of f along random directions.",
        columns, [plots.Row("rank", "largest rank", floor=0)])


RUNS = {"GD (B = m), λ = 0": (SAMPLES, 0.0), f"SGD (B = {SMALL}), λ = 0": (SMALL, 0.0),
        f"GD (B = m), λ = {LAMBDA}": (SAMPLES, LAMBDA), f"SGD (B = {SMALL}), λ = {LAMBDA}": (SMALL, LAMBDA)}


def prop_1(size, folder):
    """Eq. 6 to 9 and Proposition 1: SGD with weight decay converges to the zero function or not at all."""
    graph = mlp(INPUTS[size.mnist], 2, 16, 1)
    checks, columns = [], []
    for title, classes in CLASSES.items():
        x, y = binary(size.mnist, folder, classes)
        ends = {label: propositions.descend(graph, x, y, B, ETA, lam, "mean_squared_error", size.steps) for label, (B, lam) in RUNS.items()}
        histories = {label: history for label, (history, _) in ends.items()}
        gd, sgd = (label for label, (_, lam) in RUNS.items() if lam)
        bound, fell = propositions.prop_1(histories[sgd], x), {label: propositions.converged(h) for label, h in histories.items()}
        setting = f"MLP-2-16, {LABELS[size.mnist]}, {title}, m = {SAMPLES}, squared loss, η = {ETA}, {size.steps} steps"
        angle = propositions.nearest_kink(ends[gd][1], x)
        checks += [
            Check("away from W = 0 the residuals of Eq. 9 can't all be small: max ‖gᵢ‖ ≥ c · 2λ‖W‖", "Eq. 6 to 9, Prop. 1",
                  f"max ‖gᵢ‖ ≥ {bound['least']:.2f} · 2λ‖W‖ along SGD; c = {bound['c']:.3f} from the angles of the samples", setting + f", λ = {LAMBDA}", bound["holds"]),
            Check("SGD with B < m does not converge at λ > 0", "Prop. 1", f"the gradient on a batch falls to {fell[sgd]['fall']:.2g} of its first value, and max f(xᵢ) is {fell[sgd]['output']:.2g}",
                  setting + f", B = {SMALL}, λ = {LAMBDA}", fell[sgd]["never"]),
            Check("gradient descent (B = m) does converge at λ > 0", "Section 3.1, end", f"the gradient falls to {fell[gd]['fall']:.1g} of its first value, and max f(xᵢ) is {fell[gd]['output']:.2g}; "
                  f"the nearest kink of a living unit is at an angle of {angle:.1g}", setting + f", λ = {LAMBDA}", fell[gd]["holds"]),
        ]
        lines = [line(label, place, **h) for place, (label, h) in enumerate(histories.items())]
        step = histories[sgd]["step"]
        constant = line("Prop. 1 in numbers: no W ≠ 0 is below", 4, step=step, residual=numpy.full(len(step), bound["c"]), gradient=numpy.full(len(step), numpy.nan))
        columns.append(plots.Column(title, [*lines, constant], "step"))
    x, y = binary(size.mnist, folder, CLASSES["even and odd digits"])
    history, _ = propositions.descend(graph, x, y, SMALL, ETA, LAMBDA, "logistic", size.steps)
    vanished = propositions.converged(history)
    point = propositions.zero_point(graph, x, y, LAMBDA)
    line_x, line_y = propositions.collinear_data(x[0], SAMPLES, LAMBDA, numpy.random.default_rng(0))
    history, _ = propositions.descend(graph, line_x, line_y, 1, 0.1, LAMBDA, "mean_squared_error", size.steps)
    exception, bound = propositions.converged(history), propositions.prop_1(history, line_x)
    checks += [
        Check("W = 0 is a convergence point", "Prop. 1", f"max ‖gᵢ‖ = {point['largest']:g} there", f"MLP-2-16, {LABELS[size.mnist]}, squared, logistic and exponential loss", point["holds"]),
        Check("where SGD does converge at λ > 0, it is to f ≡ 0", "Prop. 1", f"‖W‖ ends at {vanished['norm']:.1g}, max f(xᵢ) at {vanished['output']:.1g}",
              f"as above, even and odd digits, logistic loss, B = {SMALL}", bool(vanished["norm"] < propositions.GONE)),
        Check("collinear samples admit convergence to f ≢ 0", "Prop. 1, exception", f"the gradient falls to {exception['fall']:.1g} of its first value, max ‖gᵢ‖ to {history['residual'][-1]:.1g} · 2λ‖W‖, "
              f"and max f(xᵢ) is {exception['output']:.2g}", f"MLP-2-16, {SAMPLES} multiples of one digit, targets built to fit, B = 1, η = 0.1, λ = {LAMBDA}", exception["holds"] and not bound["holds"]),
    ]
    return checks, Picture(
        "prop1", "Proposition 1: with weight decay, SGD does not converge; gradient descent can",
        f"MLP-2-16, {SAMPLES} digits of {LABELS[size.mnist]} as −1 and +1, squared loss, η = {ETA}, no momentum. gᵢ is the gradient of sample i's own regularized loss (Eq. 9); SGD has converged only where all are zero. "
        "Right: at λ > 0 the minimum lies on kinks of ReLU, where no gradient exists, and gradient descent goes back and forth across them.",
        columns, [plots.Row("gradient", "(a) ‖gradient‖ of a batch", log=True, floor=1e-15),
                  plots.Row("residual", "(b) max ‖gᵢ‖ / 2λ‖W‖", log=True)])


def prop_2(size, folder):
    """Proposition 2: without weight decay the squared loss converges by fitting, an exponential-type loss only almost."""
    title, classes = list(CLASSES.items())[1]
    x, y = binary(size.mnist, folder, classes)
    graph = mlp(x.shape[1], 2, 16, 1)
    setting = f"MLP-2-16, {LABELS[size.mnist]}, {title}, m = {SAMPLES}, B = {SMALL}, λ = 0, η = {ETA}, {size.steps} steps"
    checks, lines = [], []
    for place, loss in enumerate(("mean_squared_error", "logistic")):
        history, params = propositions.descend(graph, x, y, SMALL, ETA, 0.0, loss, size.steps)
        _, early = propositions.descend(graph, x, y, SMALL, ETA, 0.0, loss, SAMPLES // SMALL)
        fell, equation = propositions.converged(history), propositions.prop_2(graph, early, x, y, loss)
        name = {"mean_squared_error": "squared loss", "logistic": "logistic loss"}[loss]
        lines.append(line(name, place, **history))
        numbers = f"the largest ℓ′ᵢ falls to {history['slope'][-1]:.1g}, the gradient on a batch to {fell['fall']:.1g} of its first value"
        if loss == "logistic":
            checks.append(Check("an exponential-type loss does not converge by fitting: ℓ′ᵢ ≠ 0 and f(xᵢ) ≠ 0", "Prop. 2", numbers + f", and max f(xᵢ) is {fell['output']:.2g}", f"{setting}, {name}", bool(not fell["holds"] and history["slope"][-1] > 0)))
        else:
            checks.append(Check("the squared loss reaches zero gradient on every batch by fitting", "Prop. 2, end", numbers, f"{setting}, {name}", fell["holds"]))
        checks.append(Check("‖gᵢ‖ ‖W‖ ≥ abs(ℓ′ᵢ f(xᵢ)), by ⟨gᵢ, W⟩ = ℓ′ᵢ f(xᵢ): a convergence point fits sample i or has f(xᵢ) = 0", "Prop. 2, Eq. 14",
                            f"equality to {equation['error']:.1e}; left side at least {equation['least']:.2f} times the right", f"{setting.rsplit(',', 1)[0]}, after one epoch, {name}", equation["holds"]))
    networks = [mlp(x.shape[1], 2, width, 1) for width in size.widths]
    wide = propositions.almost_convergence(x, y, networks, size.seeds, B=SMALL, eta=ETA, lam=0.0, loss="logistic", steps=size.steps // 4)
    means = ", ".join(f"{s.mean():.1g}" for s in wide["slopes"])
    checks.append(Check("almost convergence improves with the width: the largest abs(ℓ′ᵢ) falls", "Section 3.1, after Prop. 2",
                        f"{means} at width {', '.join(map(str, size.widths))}: {wide['falls']} of {len(networks) - 1} neighbours fall, {wide['rises']} rise, beyond the range over {size.seeds} seeds",
                        f"{setting.replace('MLP-2-16', 'MLP-2-H').replace(f'{size.steps} steps', f'{size.steps // 4} steps')}, logistic loss", wide["holds"]))
    final = [{"diverged": False, "width": numpy.array(size.widths), "slope": wide["slopes"][:, seed], "gradient": numpy.full(len(size.widths), numpy.nan)} for seed in range(size.seeds)]
    columns = [plots.Column("MLP-2-16", lines, "step"), plots.Column(f"MLP-2-H after {size.steps // 4} steps", [plots.Line("logistic loss", 1, final)], "width")]
    return checks, Picture(
        "prop2", "Proposition 2: without weight decay, SGD converges with the squared loss, and almost with the logistic loss",
        f"{LABELS[size.mnist]}, {title} as −1 and +1, m = {SAMPLES}, B = {SMALL}, η = {ETA}, no momentum; ℓ′ᵢ is the derivative of sample i's loss by f(xᵢ). Right: mean and range over {size.seeds} seeds.",
        columns, [plots.Row("slope", "max |ℓ′ᵢ|", log=True, floor=1e-15)])


def theorem_1(size, folder):
    """Theorem 1 and Eq. 18 along the runs of Figures 2 and 4 at B = 16, eta = 0.01."""
    checks, columns = [], []
    for figure in ("fig2", "fig4"):
        plan = Plan(figure, size.preset, seeds=1, stand_ins=["cifar10"] * (size.cifar10 != "cifar10"))
        (run,) = (run for run in plan.runs() if (run.B, run.eta) == (16, 0.01))
        x, y, _, _ = runner.load(run.dataset, folder, run.m, run.m_test)
        graph = run.graph()
        params = init_params(graph, numpy.random.default_rng(0))
        velocity = {name: numpy.zeros_like(W) for name, W in params.items()}
        marks = numpy.unique(numpy.geomspace(1, run.epochs + 1, 8).round().astype(int) - 1)
        found = []
        for mark, end in zip(marks, [*marks[1:], 0]):
            exact = {name: W.astype("float64") for name, W in params.items()}
            found.append(theorem.theorem_1(graph, exact, x.astype("float64"), y.astype("float64"), run.loss, run.lam, size.ranks, 6, numpy.random.default_rng(mark)))
            for epoch in range(mark, end):
                eta = step_decay(run.eta, epoch, run.milestones, run.factor)
                train_epoch(graph, params, velocity, x, y, batches(run.m, run.B, 0, epoch), run.loss, eta, run.lam, run.momentum)
        low = lemmas.lemma_2(graph, exact, x[: size.ranks[0]].astype("float64"), numpy.random.default_rng(0))
        left, right, informative = (numpy.array([f[key] for f in found]) for key in ("left", "right", "informative"))  # (marks, norms, E_T, ranks)
        ratio = right.mean(axis=2) / left.mean(axis=2)
        accuracy = float(evaluate(graph, params, x, y, run.loss)[1])
        setting = f"{run.network}, {LABELS[run.dataset]}, m = {run.m}, B = {run.B}, η = {run.eta}, λ = {written('lam', float(f'{run.lam:.2g}'))}, {run.epochs} epochs (train accuracy {100 * accuracy:.0f} %)"
        for norm, number in (("spectral", 0), ("Frobenius", 1)):
            tight = "; ".join(f"B* = {r}: {ratio[:, number, k].min():.2g} to {ratio[:, number, k].max():.2g}" for k, r in enumerate(size.ranks))
            checks.append(Check(f"W is as near to rank B* as Eq. 10 says, {norm} norm", "Theorem 1, Eq. 10", f"right over left side, means over W: {tight}; the right side is below ‖W‖ itself in "
                                f"{100 * informative[:, number].mean():.0f} % of the cases", setting, all(f["bound_holds"] for f in found)))
        checks.append(Check("Eq. 10 is ‖W − U_S‖ = ‖gradient‖ / 2λ for a U_S of rank at most B*", "Theorem 1, Eq. 18", f"relative error {max(f['error'] for f in found):.1e}; at the end of training σ₍B*+1₎/σ₁ of U_S "
                            f"is at most {low['beyond']:.1e}, B* = {size.ranks[0]}", setting, low["rank_holds"] and all(f["equality_holds"] for f in found)))
        lines = []
        for k, r in enumerate(size.ranks):
            sides = {f"distance of W to rank {r}": left, f"bound from batches of {r}": right}
            for side, (words, values) in enumerate(sides.items()):
                fields = {"spectral": values[:, 0, :, k].mean(axis=1), "frobenius": values[:, 1, :, k].mean(axis=1)}
                fields["ratio"] = numpy.full(len(marks), numpy.nan) if side else ratio[:, 0, k]
                lines.append(line(words, 2 * k + side, epoch=marks, **fields))
        columns.append(plots.Column(f"{run.network}, B = {run.B}, η = {run.eta}", lines))
    reduced = " (reduced)" if size.preset == "quick" else ""
    return checks, Picture(
        "theorem1", f"Theorem 1 along training: the distance of W to rank B* and its bound by the gradient{reduced}",
        f"Means over the trainable W. The settings are those of {size.preset} Figures 2 and 4, with their λ ({run.lam:.2g}; the paper's is 5e-4); the least gradient of 6 random batches of size B*, which keeps the bound valid. "
        "Training in float32, both sides in float64.",
        columns, [plots.Row("spectral", "(a) spectral norm", log=True, floor=1e-5), plots.Row("frobenius", "(b) Frobenius norm", log=True, floor=1e-5), plots.Row("ratio", "(c) right / left, spectral", log=True)])


def window(size, folder):
    """SGD unrolled: the identity, and how far back W_T remembers."""
    x, y = data(size.mnist, folder, size.samples)
    checks, columns = [], []
    for name in (f"MLP-BN-5-{size.width}", f"MLP-5-{size.width}"):
        graph = parse(name, x.shape[1], 10)
        params = init_params(graph, numpy.random.default_rng(0), dtype="float64", init="he")
        found = theorem.window(graph, params, x, y, "cross_entropy", 8, 0.01, 0.02, 0.9, size.epochs, (4, 3), 0)
        accuracy = float(evaluate(graph, params, x, y, "cross_entropy")[1])
        setting = f"{name}, third matrix, {LABELS[size.mnist]}, m = {len(x)}, B = 8, η = 0.01, λ = 0.02, momentum 0.9, {found['age'][-1]} steps (train accuracy {100 * accuracy:.0f} %)"
        checks += [
            Check("W_T is decayed W₀ plus decayed terms of rank at most B", "Section 3.2, unrolled", f"relative error {found['error']:.1e}", setting, found["equality_holds"]),
            Check("what is older than s steps has shrunk by exp(−E), E = 2ηλs / (1 − momentum)", "decay budget", f"‖older part‖ / ‖W_T‖ over exp(−E): {found['shrunk'].min():.2f} to {found['shrunk'].max():.2f}; "
                  f"under 1e-4 from E = {found['budget'][found['age'] >= found['memory']][0]:.1f} on", setting, found["decay_holds"]),
            Check("counting bounds the rank of W_T: B times the steps in memory is below the width", "moving window, our addition",
                  f"rank {found['final']:.0f}; {found['memory']} steps until less than 1e-4 is left, and the last {found['enough']} alone have this rank", setting, found["count_holds"]),
        ]
        ages = {"age": found["age"]}
        columns.append(plots.Column(name, [
            line("written in the last s steps; all that is older", 0, **ages, rank=found["rank"], rest=found["rest"]),
            line("W after the last step", 1, **ages, rank=numpy.full(len(found["age"]), found["final"]), rest=numpy.full(len(found["age"]), numpy.nan)),
            line("bound: s B; decay: exp(−E)", 2, **ages, rank=found["bound"], rest=numpy.exp(-found["budget"])),
        ], "age"))
    return checks, Picture(
        "window", "The moving window: of W after T steps, how much was written in the last s of them",
        f"{LABELS[size.mnist]}, m = {len(x)}, B = 8, η = 0.01, λ = 0.02, momentum 0.9, the matrix between hidden layers 2 and 3. SGD unrolled: W = decayed start + decayed gradients, each of rank at most B. "
        "The rank counts σ above 1e-4 of the norm.",
        columns, [plots.Row("rank", "rank", floor=0), plots.Row("rest", "‖older part‖ / ‖W‖", log=True, floor=1e-6)])


def appendix_e(size, folder):
    """Appendix E: the residual of Eq. 26 and the rank of the normalized matrices."""
    title, classes = next(iter(CLASSES.items()))
    x, y = binary(size.mnist, folder, classes)
    graph = mlp(x.shape[1], 2, 16, 1)
    checks, columns = [], []
    for rho in (10, 100):
        setting = f"MLP-2-16, {LABELS[size.mnist]}, {title}, m = {SAMPLES}, exponential loss, ρ = {rho}, {size.steps // 2} steps"
        lines = []
        for place, (label, B) in enumerate({"GD (B = m)": SAMPLES, f"SGD (B = {SMALL})": SMALL}.items()):
            history, V = appendices.normalized_descent(graph, x, y, B, 1 / rho, rho, size.steps // 2)
            lines.append(line(label, place, **history))
            found = appendices.appendix_e(graph, V, rho, x, y, SMALL, 20, numpy.random.default_rng(0))
            checks += [
                Check("training reaches the stationary points of Eq. 26", "Appendix E, Eq. 26", f"residual {history['residual'][-1]:.1g} of its terms, average rank of V from {history['rank'][0]:.1f} to {history['rank'][-1]:.1f}, least margin {history['margin'][-1]:.2g}",
                      f"{setting}, {label}", bool(history["residual"][-1] < 1e-3)),
                Check("V is as near to rank B* as the residual of Eq. 26 on B* samples", "Appendix E, rank constraint", f"B* = {SMALL}: right sides {', '.join(f'{r:.2g}' for r in found['right'])}, left {', '.join(f'{v:.2g}' for v in found['left'])}; "
                      f"as equality, and Eq. 26 as the gradient of the normalized loss, to {found['error']:.1e}", f"{setting}, {label}", found["holds"] and found["equality_holds"]),
            ]
        columns.append(plots.Column(f"ρ = {rho}", lines, "step"))
    return checks, Picture(
        "appendixE", "Appendix E: exponential loss, normalized matrices, no weight decay",
        f"MLP-2-16, {LABELS[size.mnist]}, {title} as −1 and +1, m = {SAMPLES}. ρ is the product of the norms, held. The residual is the left side of Eq. 26 on all samples, relative to its terms, the largest over the matrices.",
        columns, [plots.Row("residual", "residual of Eq. 26", log=True), plots.Row("rank", "average rank of V", floor=0)])


def appendix_d(size, folder):
    """Appendix D: Eq. 25 on networks of one parameter, and what it asks of the paper's."""
    found = appendices.eq_25(bits=8, epsilon=0.1, delta=0.05, trials=2000, rng=numpy.random.default_rng(0))
    graph = parse("MLP-5-500", 3072, 10)
    parameters = sum(graph.width(p) * graph.width(q) for p, q in graph.E_T)
    M = appendices.sample_bound(parameters, 32, 0.1, 0.05)
    return [Check("M samples suffice for an error of ε beyond the least, with probability 1 − δ", "Appendix D, Eq. 25",
                  f"at M = {found['M']} it fails in {100 * found['share']:.2g} % of 2000 trials (δ = 5 %). MLP-5-500 on CIFAR-10: {M:.2g} samples, and there are 50,000",
                  "256 functions with independent errors, ε = 0.1", found["holds"])], None


CHAPTERS = (lemma_1, lemma_2, prop_1, prop_2, theorem_1, window, appendix_d, appendix_e)  # in the memo's order


def _chapter(number, size, folder):
    with threadpool_limits(1):
        found = CHAPTERS[number](size, folder)
    runner.report(1)
    return found


def measure(size, folder, jobs=None):
    """What every chapter finds, (checks, picture) each, `jobs` chapters at a time."""
    order = sorted(range(len(CHAPTERS)), key=lambda n: CHAPTERS[n] is not theorem_1)  # the longest first, so that no core waits
    with tqdm(total=len(CHAPTERS), desc="theory", bar_format="{desc}: {n} of {total} chapters|{bar}| {elapsed} gone", delay=0.5) as bar:
        found = runner.in_parallel(functools.partial(_chapter, size=size, folder=folder), order, jobs or runner.cores(), bar)
    return [found[order.index(n)] for n in range(len(CHAPTERS))]


def save(size, found, figures):
    """figures/theory.md and .csv, and a picture of every chapter that has one as .png, .svg and .csv; their paths."""
    checks, paths = [check for some, _ in found for check in some], []
    for picture in (picture for _, picture in found if picture):
        title = picture.title + " (smoke test of the program, no result)" * (size.preset == "smoke")
        drawn = plots.histories(picture.columns, picture.rows, title, picture.note, "")
        paths += plots.save(drawn, plots.tidy(picture.columns, picture.rows), Path(figures) / f"theory-{picture.name}")
    verdict = {True: "holds", False: "does not hold"}
    header = ("statement", "in the memo", "measured", "on", "verdict")
    rows = [(c.statement, c.place, c.measured, c.setting, f"**{verdict[c.holds]}**") for c in checks]
    records = [{"preset": size.preset} | c._asdict() | {"holds": verdict[c.holds]} for c in checks]
    head = f"Preset {size.preset}{', which tests the program: no verdict means anything' * (size.preset == 'smoke')}. Ranks are decided in float64, at 1e-10 of the largest singular value: rounding leaves 1e-15."
    return tables.save(Path(figures) / "theory", head, header, rows, records) + paths
