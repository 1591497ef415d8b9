"""make theory: the memo's lemmas, propositions and theorem as numbers that could contradict them.

lemmas, section_3_1 and theorem_1 yield the rows of the page; theory_checks has the mathematics.
"""

import textwrap
from collections import namedtuple

import numpy
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import minigrad as mg
from minigrad.datasets import DATASETS

from . import plots, report, theory_checks
from .train import balanced

ROUNDING = 1e-10  # relative: float64 leaves about 1e-15
GONE = 1e-8  # of its first value: a gradient that has fallen this far has gone to zero
STAYS = 1e-4  # of its first value: a gradient above this has not
ALMOST = 1e-2  # of its first value: below this, training steps are small

SCALES = {"gamma": (1.5, 0.7), "beta": (0.5, -0.5)}  # in even layers, in odd ones
SCALES_TEXT = "at initialization but for γ = 1.5, β = 0.5 in even layers, 0.7, −0.5 in odd ones"

SAMPLES, ETA = 40, 0.5  # of Section 3.1's problem
DESCENTS = {  # loss, B, λ, colour, dashes
    "GD, λ = 0": ("mean_squared_error", SAMPLES, 0.0, plots.COLOURS[1], "-"),
    "SGD, λ = 0": ("mean_squared_error", 4, 0.0, plots.COLOURS[1], "--"),
    "GD, λ = 0.05": ("mean_squared_error", SAMPLES, 0.05, plots.COLOURS[4], "-"),
    "SGD, λ = 0.05": ("mean_squared_error", 4, 0.05, plots.COLOURS[4], "--"),
    "logistic loss, SGD, λ = 0": ("logistic", 4, 0.0, plots.COLOURS[6], "-."),
    "logistic loss, SGD, λ = 0.05": ("logistic", 4, 0.05, plots.COLOURS[3], "-."),
}

RANKS = (4, 16, 64)  # B* of Theorem 1
MEMO_LAM = 5e-4
BUDGET_LAM = 0.0809  # gives 9,600 steps on 640 images the decay budget of the memo's 500 epochs

# A preset: width of the networks, steps of Section 3.1, epochs of Theorem 1 at BUDGET_LAM and at
# MEMO_LAM, and the number of random batches in the minimum of Eq. 10.
Size = namedtuple("Size", "width steps epochs memo_epochs random_batches")
PRESETS = {"quick": Size(100, 10_000, 240, 20, 100), "smoke": Size(8, 50, 2, 1, 3)}
Row = namedtuple("Row", "place statement measured on verdict")  # of the page


def holds(truth):
    """The verdict on a statement."""
    return "holds" if truth else "does not hold"


def exact(place, statement, quantity, error, on):
    """The row of an equation or a rank, by its relative error."""
    return Row(place, statement, f"{quantity} {error:.1e}", on, holds(error < ROUNDING))


def worst(check, names, x, batches):
    """The largest of check(graph, params, x) over batches and untrained networks of 10 outputs."""
    found = []
    for name in names:
        graph = mg.parse(name, x.shape[1], 10)
        params = mg.init_params(graph, numpy.random.default_rng(0), dtype="float64")
        for kind, p in params:
            if kind in SCALES:
                params[kind, p][:] = SCALES[kind][p % 2]
        found += [check(graph, params, x[batch]) for batch in batches]
    return numpy.max(found, axis=0)


def lemmas(width, x, label):
    """Lemmas 1 and 2, Eq. 5, 13, 14 and 20 to 24, on untrained networks."""
    names = f"MLP-5-{width}", f"RES-5-{width}"
    on = f"{' and '.join(names)} at initialization, 4 samples of {label}, 10 outputs"
    rank, error = worst(theory_checks.lemmas, names, x, [[0], [1], [2], [3]])
    statement = "∂f(x)/∂W has rank at most 1, for every x and every trainable W"
    yield exact("Lemma 1", statement, "σ₂/σ₁ ≤", rank, on)
    statement = "∂f(x)/∂W = u(x) v(x)ᵀ, with u and v as backpropagation has them"
    yield exact("Eq. 13", statement, "relative error", error, on)
    statement = "f(x) = Σ E_p(x) W x over the W from the input, with ∂f(x)/∂W = E_p(x) xᵀ"
    error = worst(theory_checks.eq_14_error, names, x, [range(4)])
    yield exact("Eq. 14", statement, "relative error", error, on)

    names = f"MLP-BN-5-{width}", f"RES-BN-2-{width}"
    batches = [range(B) for B in (2, 4, 8, 16)]
    on = f"{' and '.join(names)} {SCALES_TEXT}, {label}, B = 2, 4, 8, 16"
    statement = "A (z − b) has mean 0 and variance 1 over its batch, but for ε"
    error = worst(theory_checks.eq_5_error, names, x, batches)
    yield exact("Eq. 5", statement, "error", error, on)
    rank, error = worst(theory_checks.lemmas, names, x, batches)
    statement = "Σ βⱼ ∂f(xⱼ)/∂W over a batch has rank at most B, A detached"
    yield exact("Lemma 2", statement, "σ₍B+1₎/σ₁ ≤", rank, on)
    statement = "the sum is that of backpropagation's B outer products, A detached"
    yield exact("Eq. 24", statement, "relative error", error, on)

    error, printed = worst(theory_checks.eq_23_errors, ["MLP-BN-3-16"], x, [range(4)])
    statement = "∂f(x)/∂W = Σⱼ u¹ⱼ (u²ⱼ + u³ⱼ)ᵀ, A detached, the memo's slips mended"
    quantity = f"with Q_q D_q 1 β_q in u², as printed, relative error {printed:.2g}; mended"
    on = f"MLP-BN-3-16 {SCALES_TEXT}, {label}, B = 4"
    yield exact("Eq. 20 to 23", statement, quantity, error, on)


def zeros_and_ones(mnist):
    """SAMPLES digits 0 and 1, centred, of mean square length 1: x (m, n), y (m, 1) of -1 and +1."""
    x, digits = balanced(mnist.x_train, mnist.y_train[:, :2], SAMPLES, "m")
    x = x.astype("float64")
    x -= x.mean(axis=0)
    return x / (x**2).sum(axis=1).mean() ** 0.5, numpy.where(digits[:, 1:] == 1, 1.0, -1.0)


def section_3_1(runs, c, on):
    """Eq. 6 to 9 and Propositions 1 and 2, from the histories of DESCENTS and off_the_samples."""
    fall = {name: run["gradient"][-1] / run["gradient"][0] for name, run in runs.items()}
    last = {name: {key: values[-1] for key, values in run.items()} for name, run in runs.items()}
    not_reached = f"not reached in {last['SGD, λ = 0']['step']:,} steps"

    def end(name, symbol, key):
        falls = f"last over first ‖gradient of a batch‖ = {fall[name]:.1g}"
        return f"{name}: {falls}, {symbol} = {last[name][key]:.2g}"

    statement = "for the input W ≠ 0 not all gᵢ of Eq. 9 are small: max ‖gᵢ‖ ≥ c · 2λ‖W‖, c > 0"
    least = min(runs[name]["residual"].min() for name in ("GD, λ = 0.05", "SGD, λ = 0.05"))
    measured = f"GD and SGD, λ = 0.05: least max ‖gᵢ‖ / 2λ‖W‖ = {least:.2f}, c = {c:.2f}"
    yield Row("Eq. 6 to 9, Prop. 1", statement, measured, on, holds(least >= c > ROUNDING**0.5))

    statement = "at λ > 0, SGD with B < m converges to f ≡ 0 or not at all"
    names = ("SGD, λ = 0.05", "logistic loss, SGD, λ = 0.05")
    measured = "; ".join(end(name, "max |f(xᵢ)|", "output") for name in names)
    either = [fall[name] > STAYS or max(fall[name], last[name]["output"]) < GONE for name in names]
    yield Row("Prop. 1", statement, measured, on, holds(all(either)))

    statement = "at λ = 0, SGD converges where every sample has ℓ′ᵢ = 0 or f(xᵢ) = 0"
    name = "SGD, λ = 0"
    verdict = holds(last[name]["most"] < GONE) if fall[name] < GONE else not_reached
    yield Row("Prop. 2", statement, end(name, "max |ℓ′ᵢ f(xᵢ)|", "most"), on, verdict)

    statement = "with an exponential-type loss the gradient gets small, but no ℓ′ᵢ f(xᵢ) is 0"
    name = "logistic loss, SGD, λ = 0"
    almost = fall[name] > GONE and last[name]["least"] > 0
    verdict = holds(almost) if fall[name] < ALMOST else not_reached
    yield Row("Prop. 2", statement, end(name, "min |ℓ′ᵢ f(xᵢ)|", "least"), on, verdict)


def train(tries, network, label, x, y, B, lam, epochs, milestones=()):
    """Both sides of Eq. 10 along a training in float32, and Eq. 18 at its end, in float64."""
    loss, eta = "cross_entropy", 0.01
    graph = mg.parse(network, x.shape[1], y.shape[1])
    params = mg.init_params(graph, numpy.random.default_rng(0))
    velocity, sides = None, []
    measured = numpy.unique(numpy.geomspace(1, epochs + 1, 8).round().astype(int)) - 1
    for epoch in tqdm(range(epochs + 1), desc=f"Theorem 1, {network}", unit="epoch"):
        if epoch in measured:
            W = {name: value.astype("float64") for name, value in params.items()}
            rng = numpy.random.default_rng(epoch)
            sides.append(theory_checks.theorem_1(graph, W, x, y, loss, lam, RANKS, tries, rng))
        if epoch < epochs:
            rows = mg.batches(len(x), B, 0, epoch)
            now = mg.step_decay(eta, epoch, milestones)
            velocity = mg.train_epoch(graph, params, velocity, x, y, rows, loss, now, lam, 0.9)
    found = {name: numpy.array([side[name] for side in sides]) for name in sides[0]}
    rows = rng.choice(len(x), RANKS[0], replace=False)
    error = theory_checks.eq_18_error(graph, W, x[rows].astype("float64"), y[rows], loss, lam, rng)
    _, accuracy, _ = mg.evaluate(graph, params, x, y, loss)
    title = f"{network}, λ = {lam:g}\ntrain accuracy {100 * accuracy:.0f} %"
    on = f"{network}, {label}, m = {len(x):,}, B = {B}, η = {eta}, λ = {lam:g}, epochs: {epochs}"
    return found | {"epoch": measured, "error": error, "title": title, "on": on}


def theorem_1(trained):
    """Eq. 10 and 18 along trainings, and how tight Eq. 10 is."""
    on = "; ".join(found["on"] for found in trained)
    statement = "W is as near to rank B* as the least gradient on B* samples says"
    left = numpy.concatenate([found["left"].ravel() for found in trained])
    right = numpy.concatenate([found["right"].ravel() for found in trained])
    least = (right[left > 0] / left[left > 0]).min()
    cases = f"{left.size:,} cases (W, B*, epoch; spectral norm)"
    measured = f"right side at least {least:.2f} times the left in {cases}"
    verdict = holds((left <= right * (1 + ROUNDING)).all())
    yield Row("Theorem 1, Eq. 10", statement, measured, on, verdict)

    error = max(found["error"] for found in trained)
    yield exact("Eq. 18", "Eq. 10 is ‖W − U_S‖ = ‖gradient‖ / 2λ", "relative error", error, on)

    statement = "Eq. 10 says more than the trivial bound ‖W‖"
    for found in trained:
        with numpy.errstate(divide="ignore"):  # of width 8, W has no distance to rank 16
            ratios = found["right"][-1].mean(axis=-1) / found["left"][-1].mean(axis=-1)
        words = ", ".join(f"{ratio:.0f}" for ratio in ratios)
        measured = f"right side over left at the end, means over W, B* = 4, 16, 64: {words}"
        below = found["right"] < found["size"][:, None] * (1 - ROUNDING)
        verdict = f"in {100 * below.mean():.0f} % of the cases"
        yield Row("Theorem 1, Eq. 10", statement, measured, found["on"], verdict)


@plots.styled
def prop_1_picture(runs, c, on):
    """The gradient and the residuals of Eq. 9 along DESCENTS."""
    words = "Proposition 1: with weight decay, SGD converges to f ≡ 0 or not at all"
    figure, [(left, right)] = plots.sheet((1, 2), 4, words)
    for name, run in runs.items():
        *_, colour, dashes = DESCENTS[name]
        left.loglog(run["step"], numpy.maximum(run["gradient"], 1e-17), dashes, color=colour)
        right.loglog(run["step"], run["residual"], dashes, color=colour, label=name)
    right.axhline(c, color="black", linestyle=":", label="c: no W ≠ 0 is below this")
    left.set(title="‖gradient‖ of a batch", xlabel="training step")
    right.set(title="max ‖gᵢ‖ / 2λ‖W‖", xlabel="training step")
    note = textwrap.fill(
        f"{on}. GD: B = m; SGD: B = 4. Squared loss but for two lines. gᵢ is the gradient of "
        "sample i's own regularized loss (Eq. 9), W the input matrix. SGD has converged where all "
        "gᵢ are 0, GD where their mean is.", 130,
    )
    figure.legend(handles=right.lines, title=note, ncols=3, loc="outside lower center")
    return figure


@plots.styled
def theorem_1_picture(trained):
    """Both sides of Eq. 10 along trainings, and ||W||: means over the trainable W."""
    words = "Theorem 1 along training: the distance of W to rank B* and its bound by the gradient"
    figure, [row] = plots.sheet((1, len(trained)), 4, words, sharey=True)
    for panel, found in zip(row, trained):
        epoch = found["epoch"]
        left, right, size = (found[side].mean(axis=-1) for side in ("left", "right", "size"))
        for r, distance, bound, colour in zip(RANKS, left.T, right.T, plots.COLOURS[1:]):
            panel.plot(epoch, distance, color=colour, label=f"distance to rank {r}")
            panel.plot(epoch, bound, "--", color=colour, label=f"bound, B* = {r}")
        panel.plot(epoch, size, ":", color="black", label="‖W‖")
        panel.set_xscale("symlog", linthresh=1)
        panel.set(title=found["title"], yscale="log", xlabel="epochs trained", xlim=(0, None))
    note = textwrap.fill(
        "Spectral norm, means over the trainable W. Left and middle: m = 640, at "
        f"{BUDGET_LAM / MEMO_LAM:.0f} times the memo's λ, which gives the decay budget of its 500 "
        "epochs. Right: all images. The bound is the least over random batches, and so "
        "still valid.", 130,
    )
    figure.legend(handles=row[0].lines, title=note, ncols=4, loc="outside lower center")
    return figure


def write(preset, data, jobs, replaced, folder):
    """Try the statements, and write the page theory.md and its two pictures; returns their paths.

    `data` is the folder of the data sets, of which those in `replaced` give way to synthetic ones.
    A matrix product has `jobs` threads.
    """
    size = PRESETS[preset]
    names = [f"synthetic-{name}" if name in replaced else name for name in ("mnist", "cifar10")]
    mnist, cifar = (mg.load_dataset(name, data) for name in names)
    digits, images = (DATASETS[name].title for name in names)
    with threadpool_limits(jobs):
        x, _ = balanced(cifar.x_train, cifar.y_train, 20, "m")
        rows = [*lemmas(size.width, x.astype("float64"), images)]
        x, y = zeros_and_ones(mnist)
        graph, runs = mg.mlp(x.shape[1], 2, 16, 1), {}
        for name, (loss, B, lam, *_) in tqdm(DESCENTS.items(), desc="Section 3.1"):
            runs[name], _ = theory_checks.descend(graph, x, y, B, ETA, lam, loss, size.steps)
        c = theory_checks.off_the_samples(x)
        on = f"MLP-2-16, {SAMPLES} digits 0 and 1 of {digits}, η = {ETA}, {size.steps:,} steps"
        rows += section_3_1(runs, c, on)
        mlp, res = f"MLP-BN-10-{size.width}", f"RES-BN-5-{size.width}"
        x, y, tries = cifar.x_train, cifar.y_train, size.random_batches
        few = images, *balanced(x, y, 640, "m"), 16, BUDGET_LAM, size.epochs, (29, 48, 96)
        memo = images, x, y, 64, MEMO_LAM, size.memo_epochs
        trained = [train(tries, mlp, *few), train(tries, res, *few), train(tries, mlp, *memo)]
        rows += theorem_1(trained)
    stem = folder / (f"theory-{preset}-synthetic" if replaced else "theory")
    head = f"Preset {preset}. Equal means to a relative 1e-10; float64 rounding leaves about 1e-15."
    table = report.markdown(Row._fields, [(*row[:-1], f"**{row.verdict}**") for row in rows])
    paths = [report.write_text(f"{stem}.md", f"{head}\n\n{table}")]
    paths += report.write_picture(f"{stem}-prop1", prop_1_picture(runs, c, on))
    paths += report.write_picture(f"{stem}-theorem1", theorem_1_picture(trained))
    return paths
