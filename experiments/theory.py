"""make theory: the memo's lemmas, propositions and theorem as numbers that could contradict them.

STATEMENTS are the rows of the page. A chapter measures some of them, in their order, and yields for
each what was measured, on what, and the verdict. theory_checks has the mathematics.
"""

import collections
import functools
import itertools
import textwrap
from pathlib import Path

import matplotlib.style
import numpy
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import minigrad as mg

from . import report, theory_checks

ROUNDING = 1e-10  # relative: float64 leaves about 1e-15
GONE = 1e-8  # of its first value: a gradient that has fallen this far has gone to zero
STAYS = 1e-4  # of its first value: a gradient above this has not
ALMOST = 1e-2  # of its first value: below this, training steps are small
COLOURS = ("#0072b2", "#009e73", "#d55e00")
STYLE = Path(__file__).with_name("paper.mplstyle")

SCALES = "at initialization but for γ = 1.5, 0.7 and β = 0.5, −0.5 in turn"
RANKS = (4, 16, 64)  # B* of Theorem 1
MEMO_LAM = 5e-4
BUDGET_LAM = 0.0809  # gives 9,600 steps on 640 images the decay budget of the memo's 500 epochs
TIMES = f"{BUDGET_LAM / MEMO_LAM:.0f} times the memo's λ"
SAMPLES, SMALL = 40, 4  # of Section 3.1's problems: m, and B of SGD
ETA, LAM = 0.5, 0.05
GD_0, SGD_0 = "GD (B = m), λ = 0", f"SGD (B = {SMALL}), λ = 0"
GD, SGD = f"GD (B = m), λ = {LAM}", f"SGD (B = {SMALL}), λ = {LAM}"
DESCENTS = {GD_0: (SAMPLES, 0.0), SGD_0: (SMALL, 0.0), GD: (SAMPLES, LAM), SGD: (SMALL, LAM)}
EVEN_ODD = "even and odd digits"
PROBLEMS = {"digits 0 and 1": ((0,), (1,)), EVEN_ODD: ((0, 2, 4, 6, 8), (1, 3, 5, 7, 9))}

# A preset: widths of Lemma 1's networks and of the others, B of Lemma 2, steps of Section 3.1,
# epochs of Theorem 1 at BUDGET_LAM and MEMO_LAM, the number of batches in the minimum of Eq. 10.
Size = collections.namedtuple("Size", "wide width batches steps epochs memo_epochs random_batches")
PRESETS = {
    "quick": Size(500, 100, (2, 4, 8, 16), 10_000, 240, 20, 100),
    "smoke": Size(8, 8, (2, 3), 50, 2, 1, 12),
}
Verdict = collections.namedtuple("Verdict", "statement place measured on verdict")
# The page's rows, the numbers in its pictures, and the data sets that synthetic data replaces.
Found = collections.namedtuple("Found", "verdicts drawn synthetic")


def holds(truth):
    """The verdict on a statement."""
    return "holds" if truth else "does not hold"


def exact(error):
    """The verdict on an equation or a rank by its relative error."""
    return holds(error < ROUNDING)


def worst(results):
    """The largest of each number, by name."""
    results = list(results)
    return {name: max(result[name] for result in results) for name in results[0]}


def balanced(y, m):
    """The rows of the first m / 10 samples of each class, in their order; y one-hot."""
    return numpy.sort(numpy.concatenate([numpy.flatnonzero(column)[: m // 10] for column in y.T]))


def images(load):
    """Twenty images of CIFAR-10 in float64, and what to call them."""
    x, y, label = load("cifar10")
    return x[balanced(y, 20)].astype("float64"), label


def binary(load, problem):
    """SAMPLES digits, centred, of mean square length 1: x (m, n), y (m, 1) of -1 and +1."""
    x, y, _ = load("mnist")
    minus, plus = PROBLEMS[problem]
    rows = balanced(y, 10 * SAMPLES // len(minus + plus))
    digit = y[rows].argmax(axis=1)
    among = numpy.isin(digit, minus + plus)
    x = x[rows][among].astype("float64")
    x = x - x.mean(axis=0)
    x = x / (x**2).sum(axis=1).mean() ** 0.5
    return x, numpy.where(numpy.isin(digit[among], plus), 1.0, -1.0)[:, None]


def untrained(name, n, detached=True):
    """A graph with 10 outputs and its initial weights in float64; gamma is not 1, beta not 0."""
    graph = mg.parse(name, n, 10, detached)
    params = mg.init_params(graph, numpy.random.default_rng(0), dtype="float64")
    return graph, theory_checks.off_the_start(graph, params)


def lemma_1(size, load, drawn):
    """Lemma 1 and Eq. 13 and 14, without batch norm."""
    x, label = images(load)
    names = f"MLP-5-{size.wide}", f"RES-5-{size.wide}"
    rng = numpy.random.default_rng(1)

    def measure(name):
        return theory_checks.lemma_1(*untrained(name, x.shape[1]), x[:4], rng)

    on = f"{' and '.join(names)} at initialization, {label}, 4 samples, 10 outputs"
    found = worst(measure(name) for name in names)
    normalized = measure(f"MLP-BN-5-{size.wide}")["rank"]
    excluded = f"with batch norm, which the lemma excludes, up to {normalized:.2f}"
    yield f"σ₂/σ₁ ≤ {found['rank']:.1e} ({excluded})", on, exact(found["rank"])
    yield f"relative error {found['outer']:.1e}", on, exact(found["outer"])
    yield f"relative error {found['path']:.1e}", on, exact(found["path"])


def lemma_2(size, load, drawn):
    """Eq. 5, Lemma 2 and Eq. 20 to 24, with batch norm, and what they need A detached for."""
    x, label = images(load)
    names = f"MLP-BN-5-{size.width}", f"RES-BN-2-{size.width}"

    def on(*batches):
        return f"{' and '.join(names)} {SCALES}, {label}, B = {', '.join(map(str, batches))}"

    def measure(detached, hold_A, batches):
        found = []
        for name, B in itertools.product(names, batches):
            rng = numpy.random.default_rng(B)
            network = untrained(name, x.shape[1], detached)
            weight = rng.normal(size=(B, 10))
            found.append(theory_checks.lemma_2(*network, x[:B], weight, rng, hold_A))
        return worst(found)

    error = max(theory_checks.eq_5(*untrained(name, x.shape[1]), x) for name in names)
    yield f"error {error:.1e}", on(len(x)), exact(error)

    found = measure(True, True, size.batches)
    here = on(*size.batches)
    yield f"σ₍B+1₎/σ₁ ≤ {found['rank']:.1e}", here, exact(found["rank"])
    yield f"σ₍B₎/σ₁ ≤ {found['sharper']:.1e}", here, exact(found["sharper"])
    yield f"relative error {found['outer']:.1e}", here, exact(found["outer"])

    name, rng = "MLP-BN-3-16", numpy.random.default_rng(0)
    network = untrained(name, x.shape[1])
    mended = theory_checks.eq_23_error(*network, x[:4], rng)
    printed = theory_checks.eq_23_error(*network, x[:4], rng, as_printed=True)
    measured = f"relative error {mended:.1e}; with Q_q D_q 1 β_q in u², as printed, {printed:.2g}"
    verdict = "holds, its slips mended" if mended < ROUNDING else "does not hold"
    yield measured, f"{name} {SCALES}, {label}, B = 4", verdict

    found = measure(False, False, size.batches)
    measured = (
        f"σ₍B+1₎/σ₁ ≤ {found['rank']:.1e}, normalized σ₍B₎/σ₁ ≤ {found['sharper']:.1e}; "
        f"the sum is that of the true gradient's U, to {found['outer']:.1e}"
    )
    yield measured, here, exact(max(found.values()))
    error = measure(True, False, size.batches[-1:])["outer"]
    measured = f"off by up to {error:.2g} times the true gradient's size"
    yield measured, on(size.batches[-1]), "needs A detached" if error > ROUNDING else "holds"


def section_3_1(size, load, drawn):
    """Eq. 6 to 9 and Propositions 1 and 2, by training on PROBLEMS."""
    *_, label = load("mnist")
    setting = f"MLP-2-16, {label}, m = {SAMPLES}, η = {ETA}, {size.steps:,} steps"
    squared = f"{setting}, squared loss, {' and '.join(PROBLEMS)}"
    not_reached = f"not reached in {size.steps:,} steps"

    def descend(problem, descent, loss="mean_squared_error"):
        x, y = binary(load, problem)
        B, lam = DESCENTS[descent]
        graph = mg.mlp(x.shape[1], 2, 16, 1)
        history, _ = theory_checks.descend(graph, x, y, B, ETA, lam, loss, size.steps)
        return history | {"fall": history["gradient"][-1] / history["gradient"][0]}

    def ends(runs, symbol, name):
        """How far the gradient has fallen in each run, and the last value of another number."""
        words = [f"{key}: {run['fall']:.1g} and {run[name][-1]:.2g}" for key, run in runs.items()]
        return f"last over first ‖gradient of a batch‖, and max |{symbol}|: {'; '.join(words)}"

    def reached(runs):
        """On which problems the gradient has gone to zero, and f has not."""
        there = [key for key, run in runs.items() if run["fall"] < GONE < run["output"][-1]]
        if len(there) == len(runs):
            return "holds"
        return f"reached on {there[0]}, elsewhere {not_reached}" if there else not_reached

    found = {problem: {name: descend(problem, name) for name in DESCENTS} for problem in PROBLEMS}
    c = {problem: theory_checks.off_the_samples(binary(load, problem)[0]) for problem in PROBLEMS}
    drawn["descents"] = {"runs": found, "c": c, "label": label}

    least = {}
    for problem, runs in found.items():
        least[problem] = min(runs[name]["residual"].min() for name in (GD, SGD))
    words = "; ".join(f"{key}: {least[key]:.2f}, c = {c[key]:.2f}" for key in PROBLEMS)
    above = all(least[key] >= c[key] and c[key] ** 2 > ROUNDING for key in PROBLEMS)
    yield f"least max ‖gᵢ‖ / 2λ‖W‖: {words}", f"{squared}, λ = {LAM}", holds(above)

    runs = {problem: found[problem][SGD] for problem in PROBLEMS}
    runs[f"{EVEN_ODD}, logistic loss"] = descend(EVEN_ODD, SGD, "logistic")
    never = [run["fall"] > STAYS for run in runs.values()]
    zero = [run["fall"] < GONE and run["output"][-1] < GONE for run in runs.values()]
    on = f"{squared}, and logistic loss, B = {SMALL}, λ = {LAM}"
    yield ends(runs, "f(xᵢ)", "output"), on, holds(numpy.logical_or(never, zero).all())

    runs = {problem: found[problem][GD] for problem in PROBLEMS}
    yield ends(runs, "f(xᵢ)", "output"), f"{squared}, λ = {LAM}", reached(runs)

    runs = {problem: found[problem][SGD_0] for problem in PROBLEMS}
    fitted = all(run["most"][-1] < GONE for run in runs.values() if run["fall"] < GONE)
    verdict = reached(runs) if fitted else "does not hold"
    yield ends(runs, "ℓ′ᵢ f(xᵢ)", "most"), f"{squared}, B = {SMALL}, λ = 0", verdict

    run = descend(EVEN_ODD, SGD_0, "logistic")
    almost = GONE < run["fall"] < ALMOST and run["least"][-1] > 0
    words = f"{ends({EVEN_ODD: run}, 'ℓ′ᵢ', 'fit')}; min |ℓ′ᵢ f(xᵢ)| is {run['least'][-1]:.1g}"
    on = f"{setting}, logistic loss, B = {SMALL}, λ = 0"
    yield words, on, "holds" if almost else not_reached


def train(load, size, network, m, B, lam, epochs, milestones=()):
    """Both sides of Eq. 10 along a training on CIFAR-10; Eq. 18 and U_S at its end.

    m = 0 takes all samples. Training is in float32, everything else in float64.
    """
    x, y, label = load("cifar10")
    if m:
        rows = balanced(y, m)
        x, y = x[rows], y[rows]
    loss, eta = "cross_entropy", 0.01
    graph = mg.parse(network, x.shape[1], y.shape[1])
    params = mg.init_params(graph, numpy.random.default_rng(0))
    velocity = {name: numpy.zeros_like(W) for name, W in params.items()}
    marks = numpy.unique(numpy.geomspace(1, epochs + 1, 8).round().astype(int)) - 1
    sides = []
    for epoch in range(epochs + 1):
        if epoch in marks:
            W = {name: value.astype("float64") for name, value in params.items()}
            rng = numpy.random.default_rng(epoch)
            of_batches = (RANKS, size.random_batches, rng)
            sides.append(theory_checks.theorem_1(graph, W, x, y, loss, lam, *of_batches))
        if epoch < epochs:
            rows = mg.batches(len(x), B, 0, epoch)
            now = mg.step_decay(eta, epoch, milestones)
            mg.train_epoch(graph, params, velocity, x, y, rows, loss, now, lam, 0.9)
    equality, beyond = [], []
    for r in RANKS[:2]:
        rows = rng.choice(len(x), r, replace=False)
        batch, targets = x[rows].astype("float64"), y[rows].astype("float64")
        equality.append(theory_checks.eq_18(graph, W, batch, targets, loss, lam, rng))
        _, df = mg.cross_entropy(mg.forward(graph, W, batch).v[graph.L], targets)
        beyond.append(theory_checks.lemma_2(graph, W, batch, df, rng)["rank"])
    accuracy = float(mg.evaluate(graph, params, x, y, loss)[1])
    learned = "" if accuracy >= 0.5 else ", not learned"
    return {name: numpy.array([side[name] for side in sides]) for name in sides[0]} | {
        "title": f"{network}, λ = {lam:g}, train accuracy {100 * accuracy:.0f} %{learned}",
        "setting": f"{label}, m = {len(x):,}, B = {B}, η = {eta}, λ = {lam:g}, epochs: {epochs}",
        "epoch": marks,
        "equality": max(equality),
        "beyond": max(beyond),
    }


def excess(right, left):
    """right / left, NaN where left is 0."""
    return right / numpy.where(left > 0, left, numpy.nan)


def tightness(found):
    """The percentage of cases where Eq. 10's right side is below ||W||; its excess, in words."""
    below = found["right"] < found["size"][..., None] * (1 - ROUNDING)
    percent = 100 * below.mean()
    left, right = (found[side][-1, 0].mean(axis=0) for side in ("left", "right"))
    ratios = ", ".join(f"{value:.0f}" for value in excess(right, left))
    return percent, f"{found['title']}: {ratios}; right side below ‖W‖ in {percent:.0f} %"


def theorem_1(size, load, drawn):
    """Eq. 10 and 18 along three trainings, and how tight Eq. 10 is."""
    mlp, res = f"MLP-BN-10-{size.width}", f"RES-BN-5-{size.width}"
    budget = (640, 16, BUDGET_LAM, size.epochs, (29, 48, 96))
    reduced = [train(load, size, name, *budget) for name in (mlp, res)]
    memo = train(load, size, mlp, 0, 64, MEMO_LAM, size.memo_epochs)
    drawn["trained"] = trained = [*reduced, memo]
    on = f"{mlp} and {res}, {reduced[0]['setting']}"
    here = f"{mlp}, {memo['setting']}"
    both = f"{on}; {here}"

    sides = []
    for name in ("left", "right"):
        sides.append(numpy.concatenate([found[name].ravel() for found in trained]))
    left, right = sides
    least = numpy.nanmin(excess(right, left))
    cases = f"{left.size:,} cases (W, B*, epoch, spectral and Frobenius norm)"
    measured = f"right side at least {least:.2f} times the left in {cases}"
    yield measured, both, holds((left <= right * (1 + ROUNDING)).all())
    error = max(found["equality"] for found in trained)
    yield f"relative error {error:.1e}", both, exact(error)
    error = max(found["beyond"] for found in trained)
    yield f"σ₍B*+1₎/σ₁ ≤ {error:.1e} at the end, B* = {RANKS[0]} and {RANKS[1]}", both, exact(error)
    percents, words = zip(*map(tightness, reduced))
    yield "; ".join(words), on, f"says more than ‖W‖ in {numpy.mean(percents):.0f} % of the cases"
    percent, words = tightness(memo)
    yield words, here, f"says more than ‖W‖ in {percent:.0f} % of the cases"


def forgetting(size, load, drawn):
    """How many steps are left in W at the settings of the figures."""
    usual, shortest = (theory_checks.remembered(0.1, lam, 0.9) for lam in (MEMO_LAM, 6e-3))
    least = min(4 * usual / 500, 16 * shortest / 100)  # Figures 4 and 5, and Figure 3
    measured = (
        f"{usual:,} steps until 1e-4 of W is left at λ = 5e-4, {shortest} at λ = 6e-3; "
        f"times B, at least {least:.0f} times the width"
    )
    verdict = "they are enough for full rank" if least >= 1 else "holds"
    yield measured, "η = 0.1, momentum 0.9, Figures 2 to 7", verdict


STATEMENTS = (  # chapter, place in the memo, words
    (lemma_1, "Lemma 1", "∂f(x)/∂W has rank at most 1, for every x and every trainable W"),
    (lemma_1, "Eq. 13", "∂f(x)/∂W = u(x) v(x)ᵀ, with u and v as backpropagation has them"),
    (lemma_1, "Eq. 14", "f(x) = Σ E_p(x) W x over the W from the input, with ∂f(x)/∂W = E_p(x) xᵀ"),
    (lemma_2, "Eq. 5", "a normalized layer has mean β and variance γ² over its batch, but for ε"),
    (lemma_2, "Lemma 2", "Σ βⱼ ∂f(xⱼ)/∂W over a batch has rank at most B, A detached"),
    (lemma_2, "sharper than Lemma 2", "into a normalized layer, the rank is at most B − 1"),
    (lemma_2, "Eq. 24", "the sum is that of backpropagation's B outer products, A detached"),
    (lemma_2, "Eq. 20 to 23", "∂f(x)/∂W = Σⱼ u¹ⱼ (u²ⱼ + u³ⱼ)ᵀ, A detached"),
    (lemma_2, "beyond Lemma 2", "with A not detached, the ranks are at most B and B − 1 too"),
    (lemma_2, "beyond Eq. 24", "with A not detached, the sum is the same"),
    (
        section_3_1,
        "Eq. 6 to 9, Prop. 1",
        "away from W = 0 the residuals gᵢ of Eq. 9 can't all be small: max ‖gᵢ‖ ≥ c · 2λ‖W‖, "
        "W the input matrix, c from the directions of the samples",
    ),
    (section_3_1, "Prop. 1", "at λ > 0, SGD with B < m converges to f ≡ 0 or not at all"),
    (section_3_1, "our addition", "at λ > 0, gradient descent (B = m) converges to f ≢ 0"),
    (section_3_1, "Prop. 2", "at λ = 0, SGD converges where every sample has ℓ′ᵢ = 0 or f(xᵢ) = 0"),
    (
        section_3_1,
        "Prop. 2",
        "with an exponential-type loss SGD almost converges: the gradient gets small, "
        "but no ℓ′ᵢ f(xᵢ) is 0",
    ),
    (
        theorem_1,
        "Theorem 1, Eq. 10",
        "W is as near to rank B* as the least gradient on B* samples says",
    ),
    (theorem_1, "Eq. 18", "Eq. 10 is ‖W − U_S‖ = ‖gradient‖ / 2λ"),
    (theorem_1, "Eq. 18", "U_S has rank at most B*"),
    (
        theorem_1,
        "Theorem 1, how tight",
        f"the right side of Eq. 10 over its left at the end, at {TIMES}, "
        "spectral norm, means over W, B* = 4, 16, 64",
    ),
    (theorem_1, "Theorem 1, how tight", "the same at the memo's λ"),
    (
        forgetting,
        "not in the memo",
        "weight decay forgets: the steps that W remembers are too few for full rank",
    ),
)


def measure(preset, data=None, jobs=1, synthetic=()):
    """Found: the statements tried one by one, under a progress bar.

    `data` is the folder of the data sets. `synthetic` names those that synthetic data replaces,
    with the preset smoke all. A matrix product has `jobs` threads.
    """
    synthetic = ("mnist", "cifar10") if preset == "smoke" else tuple(synthetic)

    @functools.cache
    def load(name):
        label = {"mnist": "MNIST", "cifar10": "CIFAR-10"}[name]
        if name in synthetic:
            name, label = f"synthetic-{name}", f"synthetic {label}"
        found = mg.load_dataset(name, data)
        return found.x_train, found.y_train, label

    verdicts, drawn = [], {}
    with threadpool_limits(jobs), tqdm(total=len(STATEMENTS), unit="statement") as bar:
        for chapter, rows in itertools.groupby(STATEMENTS, key=lambda row: row[0]):
            results = chapter(PRESETS[preset], load, drawn)
            for _, place, words in rows:
                bar.set_description(place)
                verdicts.append(Verdict(words, place, *next(results)))
                bar.update()
    return Found(verdicts, drawn, synthetic)


def panels(note, columns, rows):
    """A figure and its panels, one for each column's title and row's label; logarithmic y axes."""
    figure = Figure(figsize=(7.2, 5), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), sharex="col", sharey="row")
    figure.supxlabel(textwrap.fill(note, 130), fontsize=7)
    for axes, column in zip(grid[0], columns):
        axes.set_title(column)
    for axes, label in zip(grid[:, 0], rows):
        axes.set_ylabel(label)
        axes.set_yscale("log")
    return figure, grid


def legend(figure, title, lines, words):
    """A legend above the panels, under the figure's title: a suptitle would be drawn over it."""
    place = "outside upper center"
    figure.legend(lines, words, loc=place, ncols=3, title=title, title_fontsize=9)


def prop_1_picture(drawn, reduced):
    """The gradient and the residuals of Eq. 9 along DESCENTS; `reduced` ends the title."""
    runs, c, label = (drawn["descents"][name] for name in ("runs", "c", "label"))
    note = (
        f"MLP-2-16, {SAMPLES} samples of {label} as −1 and +1, squared loss, η = {ETA}, no "
        "momentum. gᵢ is the gradient of sample i's own regularized loss (Eq. 9): SGD has "
        "converged where all are 0, gradient descent (GD) where their mean is. (b): input matrix."
    )
    figure, grid = panels(note, runs, ("(a) ‖gradient‖ of a batch", "(b) max ‖gᵢ‖ / 2λ‖W‖"))
    for (problem, histories), (upper, lower) in zip(runs.items(), grid.T):
        for name, history in histories.items():
            B, lam = DESCENTS[name]
            style = {"color": COLOURS[2 if lam else 0], "linestyle": "-" if B == SAMPLES else "--"}
            upper.plot(history["step"], numpy.maximum(history["gradient"], 1e-17), **style)
            lower.plot(history["step"], history["residual"], **style)
        bound = lower.axhline(c[problem], color="black", linestyle=":")
        lower.set(xscale="log", xlabel="training step")
    title = "Proposition 1: with weight decay, SGD converges to f ≡ 0 or not at all"
    legend(figure, title + reduced, [*upper.lines, bound], [*DESCENTS, "c: no W ≠ 0 is below this"])
    return figure


def theorem_1_picture(drawn, reduced):
    """Both sides of Eq. 10 and their ratio along three trainings; `reduced` ends the title."""
    trained = drawn["trained"]
    note = (
        f"Means over the trainable W; (b) is their ratio. Left, middle: {trained[0]['setting']}; "
        f"{TIMES}, the decay budget of its 500 epochs. "
        f"Right: {trained[2]['setting']}. The bound is the least of random batches, which keeps it "
        "valid. Training in float32, both sides in float64."
    )
    columns = [found["title"].replace(", train", "\ntrain") for found in trained]
    figure, grid = panels(note, columns, ("(a) spectral norm", "(b) bound / distance"))
    for found, (upper, lower) in zip(trained, grid.T):
        epoch = found["epoch"]
        left, right, size = (found[name][:, 0].mean(axis=1) for name in ("left", "right", "size"))
        for distance, bound, colour in zip(left.T, right.T, COLOURS):
            upper.plot(epoch, distance, color=colour)
            upper.plot(epoch, bound, "--", color=colour)
            lower.plot(epoch, excess(bound, distance), "-.", color=colour)
        upper.plot(epoch, size, ":", color="black")
        lower.set_xscale("symlog", linthresh=1)
        lower.set(xlabel="epochs trained", xlim=(0, None))
    kinds = {
        "distance of W to rank B*": "-",
        "bound by batches of B*": "--",
        "bound / distance": "-.",
        "‖W‖": ":",
    }
    lines = [Line2D([], [], color=colour) for colour in COLOURS]
    lines += [Line2D([], [], color="black", linestyle=dashes) for dashes in kinds.values()]
    title = "Theorem 1 along training: the distance of W to rank B* and its bound by the gradient"
    legend(figure, title + reduced, lines, [*(f"B* = {r}" for r in RANKS), *kinds])
    return figure


def save(preset, found, folder):
    """Write the page theory.md, its rows as theory.csv, and the two pictures; their paths."""
    name, reduced, head = "theory", " (reduced)", f"Preset {preset}."
    if preset == "smoke":
        name, reduced = "theory-smoke", " (tests the program)"
        head += " This tests the program: no verdict means anything."
    elif found.synthetic:
        name = "theory-synthetic"
    head += " Equal means to 1e-10, in float64, where rounding leaves about 1e-15."
    rows = [(*verdict[:-1], f"**{verdict.verdict}**") for verdict in found.verdicts]
    table = report.markdown(("statement", "in the memo", "measured", "on", "verdict"), rows)
    stem = Path(folder) / name
    paths = [
        report.write_text(f"{stem}.md", f"{head}\n\n{table}"),
        report.write_csv(f"{stem}.csv", [verdict._asdict() for verdict in found.verdicts]),
    ]
    # After a reset, so that a user's matplotlibrc doesn't change the pictures.
    with matplotlib.style.context(STYLE, after_reset=True):
        paths += report.write_picture(f"{stem}-prop1", prop_1_picture(found.drawn, reduced))
        paths += report.write_picture(f"{stem}-theorem1", theorem_1_picture(found.drawn, reduced))
    return paths
