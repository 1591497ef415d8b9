"""Training unrolled: what a weight matrix is made of, and how far back it remembers."""

import numpy

from minigrad.graph import parse
from minigrad.measures import rank
from minigrad.network import init_params
from minigrad.train import batches, evaluate, train_step

from ..captions import LABELS, written
from ..figures import FIGURES
from ..runs import Run, grid
from ..verdicts import Statement
from .sizes import TOLERANCE, data, log_spaced

FORGOTTEN = 1e-4  # of ||W||: the tolerance of the rank (Section 4.1)
LOSS = "cross_entropy"
SETTING = {"B": 8, "eta": 0.01, "lam": 0.02, "momentum": 0.9}
PAPER = [f"fig{number}" for number in range(1, 8)]
USUAL = Run()  # Section 4.1's settings
EDGE = (4, 3)  # the matrix that is unrolled: between hidden layers 2 and 3

UNROLLED = Statement(
    "Section 3.2, unrolled",
    "W_T is decayed W₀ plus decayed terms of rank at most B",
    "relative error {error:.1e}",
)
DECAY = Statement(
    "decay budget",
    "what is older than s steps is W_T₋ₛ, shrunk by pure decay: "
    "to first order by exp(−E), E = 2ηλs / (1 − momentum)",
    "‖older part‖ / ‖W_T₋ₛ‖ over pure decay: {over_pure}, over exp(−E): {over_budget}, with E up to {E:.0f}",
)
COUNTED = Statement(
    "moving window, our addition",
    "counting bounds the rank of W_T: B times the steps in memory is below the width",
    "steps until less than 1e-4 is left: {memory:.0f} (η, λ and momentum alone say {alone}); "
    "rank {final:.0f}, that of the last {full:.0f} steps, where counting allows all, {written:.0f}, "
    "and W's own from the last {enough:.0f} on (nan: never)",
)
COUNTED_IN_FIGURES = Statement(
    "moving window, our addition",
    "counting bounds the rank somewhere in the paper's figures: "
    "B times the steps in memory is below the width",
    "η, λ and momentum alone: {usual} steps until 1e-4 is left at {usual_setting}, "
    "and at least {least}, at {least_setting}; B times the steps is at least {widths:.0f} times the width",
)


def recurrence(eta, lam, momentum):
    """What a step of Eq. 2 with momentum does to (W, velocity) at g = 0."""
    return numpy.array([[1 - 2 * eta * lam, -eta * momentum], [2 * lam, momentum]])


def pure_decay(eta, lam, momentum):
    """By what W shrinks per step at g = 0, in the long run: the recurrence's largest eigenvalue."""
    return abs(numpy.linalg.eigvals(recurrence(eta, lam, momentum))).max()


def remembered(eta, lam, momentum):
    """The number of steps until pure decay leaves FORGOTTEN."""
    return round(numpy.log(FORGOTTEN) / numpy.log(pure_decay(eta, lam, momentum)))


def unrolled(eta, lam, momentum, steps):
    """W_T = decay W_0 - sum over s < T of share[s] g_{T-1-s}, for the steps of Eq. 2: decay, and share (T,).

    A step is linear in (W, velocity) and g; share[s] is what s further steps leave of a step's own eta.
    """
    row, share, step = numpy.array([1.0, 0.0]), numpy.empty(steps), recurrence(eta, lam, momentum)
    for s in range(steps):
        share[s] = row @ [eta, -1]
        row = row @ step
    return row[0], share


def trained(graph, params, x, y, loss, B, eta, lam, momentum, epochs, edge, seed):
    """SGD in place; of each of its T steps the gradient at `edge` as factors, and ||W|| before it, (T,)."""
    velocity = {name: numpy.zeros_like(W) for name, W in params.items()}
    terms, sizes = [], []
    for epoch in range(epochs):
        for rows in batches(len(x), B, seed, epoch):
            sizes.append(numpy.linalg.norm(params[edge]))
            factors = train_step(graph, params, velocity, x[rows], y[rows], loss, eta, lam, momentum)
            terms.append(factors[edge])
    return terms, numpy.array(sizes)


def by_age(W, terms, share, marks):
    """What the last s steps wrote into W and what is older, for s = 1 to T.

    The norm of all that is older (T,), the rank of what they wrote at the `marks` among s, by singular values
    above FORGOTTEN ||W||, and what all T of them wrote.
    """
    size, written = numpy.linalg.norm(W), numpy.zeros_like(W)
    older, ranks = [], []
    for s, weight in enumerate(share):
        written -= weight * terms[-1 - s].matrix()
        older.append(numpy.linalg.norm(W - written))
        if s + 1 in marks:
            ranks.append(float(rank(written, FORGOTTEN * size, None)))
    return numpy.array(older), numpy.array(ranks), written


def first(ages, true):
    """The first age at which it is `true`, NaN if it never is."""
    return float(ages[true].min()) if true.any() else numpy.nan


def window(graph, params, x, y, loss, B, eta, lam, momentum, epochs, edge, seed):
    """SGD, in place, and W_T at `edge` unrolled: decayed W_0 and a decayed term of rank <= B for every step.

    `history` is against the age s, in steps before T; the others are what the statements need.
    """
    start = params[edge].copy()
    terms, sizes = trained(graph, params, x, y, loss, B, eta, lam, momentum, epochs, edge, seed)
    W, T = params[edge], len(terms)
    size, width = numpy.linalg.norm(W), min(W.shape)
    decay, share = unrolled(eta, lam, momentum, T)
    ages, marks = numpy.arange(1, T + 1), log_spaced(T, 60)
    older, ranks, written = by_age(W, terms, share, marks)
    rest, bound = older / size, numpy.minimum(marks * B, width)
    error = numpy.linalg.norm(W - written - decay * start) / size
    budget = 2 * eta * lam * ages / (1 - momentum)
    history = {
        "age": marks,
        "rank": ranks,
        "bound": bound,
        "rest": rest[marks - 1],
        "budget": budget[marks - 1],
    }
    return {
        "history": history,
        "width": width,
        "identity": {"error": error, "holds": bool(error < TOLERANCE)},
        "decay": judge_decay(older / sizes[::-1], pure_decay(eta, lam, momentum) ** ages, budget),
        "count": judge_count(history, rank(W), width, B, first(ages, rest < FORGOTTEN))
        | {"alone": remembered(eta, lam, momentum)},
    }


def judge_decay(left, pure, budget):
    """Whether what is `left` of W_{T-s} is what pure decay leaves, within a factor of two; by age, (T,).

    Beside it over exp(-E), E = 2 eta lambda s / (1 - momentum), the first order.
    """
    over_pure, over_budget = left / pure, left / numpy.exp(-budget)
    holds = bool(over_pure.min() > 0.5 and over_pure.max() < 2)
    return {"over_pure": over_pure, "over_budget": over_budget, "E": budget[-1], "holds": holds}


def judge_count(history, final, width, B, memory):
    """Low rank by counting: whether B times the steps in `memory`, not yet forgotten, is below the width.

    The last `enough` steps wrote W_T's `final` rank; the last `full` could write any, and wrote `written`.
    """
    age, ranks = history["age"], history["rank"]
    full = first(age, history["bound"] == width)
    return {
        "memory": memory,
        "final": float(final),
        "full": full,
        "written": ranks[age == full].sum(),
        "enough": first(age, ranks >= final),
        "holds": bool(memory * B < width),
    }


def counted(runs):
    """Low rank by counting in `runs`, where pure decay at their first eta remembers the `least` steps.

    `widths` is the least of B times the steps over the network's width H. Later drops of eta only lengthen
    the memory; at lambda = 0 it has no end.
    """
    forgetting = [run for run in runs if run.lam > 0]
    steps = [remembered(run.eta, run.lam, run.momentum) for run in forgetting]
    shortest = forgetting[numpy.argmin(steps)]
    widths = min(run.B * number / run.graph().width(2) for run, number in zip(forgetting, steps))
    return {
        "usual": remembered(USUAL.eta, USUAL.lam, USUAL.momentum),
        "usual_setting": _eta_and_lambda(USUAL),
        "least": min(steps),
        "least_setting": _eta_and_lambda(shortest),
        "widths": widths,
        "holds": bool(widths < 1),
    }


def in_figures():
    """The paper's runs of Figures 1 to 7."""
    figures = [FIGURES[name] for name in PAPER]
    return [run for figure in figures for run in grid(figure.base, **figure.axes)]


def _eta_and_lambda(run):
    return f"η = {run.eta}, λ = {written('lam', run.lam)}"


def measure_window(size, folder):
    """SGD unrolled: the identity, and how far back W_T remembers."""
    x, y = data(size.mnist, folder, size.samples)
    verdicts, networks = [], {}
    for name in (f"MLP-BN-5-{size.width}", f"MLP-5-{size.width}"):
        graph = parse(name, x.shape[1], 10)
        params = init_params(graph, numpy.random.default_rng(0), dtype="float64", init="he")
        found = window(graph, params, x, y, LOSS, **SETTING, epochs=size.epochs, edge=EDGE, seed=0)
        accuracy = float(evaluate(graph, params, x, y, LOSS)[1])
        setting = (
            f"{name}, third matrix, {LABELS[size.mnist]}, m = {len(x)}, B = {SETTING['B']}, "
            f"η = {SETTING['eta']}, λ = {SETTING['lam']}, momentum {SETTING['momentum']}, "
            f"{found['history']['age'][-1]} steps (train accuracy {100 * accuracy:.0f} %)"
        )
        ranges = {key: _from_to(found["decay"][key]) for key in ("over_pure", "over_budget")}
        verdicts += [
            UNROLLED.judged(found["identity"], setting),
            DECAY.judged(found["decay"] | ranges, setting),
            COUNTED.judged(found["count"], setting),
        ]
        networks[name] = {
            "history": found["history"],
            "final": found["count"]["final"],
            "width": found["width"],
            "accuracy": accuracy,
        }
    figures = "the settings of Figures 1 to 7 with λ > 0"
    verdicts.append(COUNTED_IN_FIGURES.judged(counted(in_figures()), figures))
    return verdicts, SETTING | {"m": len(x), "networks": networks}


def _from_to(values):
    return f"{values.min():.2f} to {values.max():.2f}"
