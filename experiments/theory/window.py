"""Training unrolled: what a weight matrix is made of, and how far back it remembers."""

import numpy

from minigrad.graph import parse
from minigrad.measures import rank
from minigrad.network import init_params
from minigrad.train import batches, evaluate, train_step

from .. import plots
from ..captions import LABELS
from ..verdicts import Check
from .pictures import AGE, Picture, line
from .sizes import TOLERANCE, data, log_spaced

FORGOTTEN = 1e-4  # of ||W||: the tolerance of the rank (Section 4.1)


def recurrence(eta, lam, momentum):
    """What a step of Eq. 2 with momentum does to (W, velocity) at g = 0: both shrink, per step, by its largest eigenvalue."""
    return numpy.array([[1 - 2 * eta * lam, -eta * momentum], [2 * lam, momentum]])


def unrolled(eta, lam, momentum, steps):
    """W_T = decay W_0 - sum over s < T of share[s] g_{T-1-s} for the steps of Eq. 2 with momentum: decay, and share (T,).

    A step is linear in (W, velocity) and g; share[s] is what s further steps leave of a step's own eta.
    """
    row, share, step = numpy.array([1.0, 0.0]), numpy.empty(steps), recurrence(eta, lam, momentum)
    for s in range(steps):
        share[s] = row @ [eta, -1]
        row = row @ step
    return row[0], share


def first(ages, true):
    """The first age at which it is `true`, NaN if it never is."""
    return float(ages[true].min()) if true.any() else numpy.nan


def window(graph, params, x, y, loss, B, eta, lam, momentum, epochs, edge, seed):
    """SGD with momentum and decay, unrolled: W_T is decayed W_0 and the decayed terms of every step, each of rank <= B.

    Trains `params` in place. Against the age s, in steps before T: `rank` of the part written in the last s, by singular
    values above FORGOTTEN ||W_T||; `rest`, the norm of all that is older over ||W_T||; and the decay budget
    E = 2 eta lambda s / (1 - momentum), the first order of pure decay. All that is older is W_{T-s}, shrunk: `shrunk` is its
    norm over that of W_{T-s} and pure decay, `budgeted` over that and exp(-E). rest < FORGOTTEN from the age `memory` on,
    and pure decay from `alone` on; the part of age `enough` has W_T's rank, that of age `full` could have any. NaN: never.
    """
    start, velocity = params[edge].copy(), {name: numpy.zeros_like(W) for name, W in params.items()}
    terms, sizes = [], []
    for rows in numpy.concatenate([batches(len(x), B, seed, epoch) for epoch in range(epochs)]):
        sizes.append(numpy.linalg.norm(params[edge]))
        terms.append(train_step(graph, params, velocity, x[rows], y[rows], loss, eta, lam, momentum)[edge])
    W, size, T = params[edge], numpy.linalg.norm(params[edge]), len(terms)
    decay, share = unrolled(eta, lam, momentum, T)
    marks = log_spaced(T, 60)
    ranks, rest, part = [], [], numpy.zeros_like(W)
    for s in range(T):
        part -= share[s] * terms[T - 1 - s].matrix()
        rest.append(numpy.linalg.norm(W - part) / size)
        if s + 1 in marks:
            ranks.append(float(rank(part, FORGOTTEN * size, None)))
    age, rest, ranks, bound = numpy.arange(1, T + 1), numpy.array(rest), numpy.array(ranks), numpy.minimum(marks * B, min(W.shape))
    budget, pure = 2 * eta * lam * age / (1 - momentum), abs(numpy.linalg.eigvals(recurrence(eta, lam, momentum))).max()
    shrunk, budgeted = (rest * size / sizes[::-1] / decayed for decayed in (pure**age, numpy.exp(-budget)))
    error, memory = numpy.linalg.norm(W - part - decay * start) / size, first(age, rest < FORGOTTEN)
    return {
        "age": marks, "budget": budget[marks - 1], "rank": ranks, "rest": rest[marks - 1], "bound": bound, "shrunk": shrunk, "budgeted": budgeted,
        "final": float(rank(W)), "memory": memory, "alone": round(numpy.log(FORGOTTEN) / numpy.log(pure)),
        "enough": first(marks, ranks >= rank(W)), "full": first(marks, bound == min(W.shape)), "error": error,
        "equality_holds": bool(error < TOLERANCE), "decay_holds": bool(shrunk.min() > 0.5 and shrunk.max() < 2),
        "count_holds": bool(memory * B < min(W.shape)),
    }


def report_window(size, folder):
    """SGD unrolled: the identity, and how far back W_T remembers."""
    x, y = data(size.mnist, folder, size.samples)
    checks, columns = [], []
    for name in (f"MLP-BN-5-{size.width}", f"MLP-5-{size.width}"):
        graph = parse(name, x.shape[1], 10)
        params = init_params(graph, numpy.random.default_rng(0), dtype="float64", init="he")
        found = window(graph, params, x, y, "cross_entropy", 8, 0.01, 0.02, 0.9, size.epochs, (4, 3), 0)
        accuracy, full = float(evaluate(graph, params, x, y, "cross_entropy")[1]), found["rank"][found["age"] == found["full"]]
        setting = f"{name}, third matrix, {LABELS[size.mnist]}, m = {len(x)}, B = 8, η = 0.01, λ = 0.02, momentum 0.9, {found['age'][-1]} steps (train accuracy {100 * accuracy:.0f} %)"
        checks += [
            Check("W_T is decayed W₀ plus decayed terms of rank at most B", "Section 3.2, unrolled", f"relative error {found['error']:.1e}", setting, found["equality_holds"]),
            Check("what is older than s steps is W_T₋ₛ, shrunk by pure decay: to first order by exp(−E), E = 2ηλs / (1 − momentum)", "decay budget", f"‖older part‖ / ‖W_T₋ₛ‖ over pure decay: {found['shrunk'].min():.2f} to {found['shrunk'].max():.2f}, "
                  f"over exp(−E): {found['budgeted'].min():.2f} to {found['budgeted'].max():.2f}, with E up to {found['budget'][-1]:.0f}", setting, found["decay_holds"]),
            Check("counting bounds the rank of W_T: B times the steps in memory is below the width", "moving window, our addition",
                  f"steps until less than 1e-4 is left: {found['memory']:.0f} (η, λ and momentum alone say {found['alone']}); rank {found['final']:.0f}, that of the last {found['full']:.0f} steps, where counting allows all, {full.sum():.0f}, "
                  f"and W's own from the last {found['enough']:.0f} on (nan: never)", setting, found["count_holds"]),
        ]
        age = found["age"]
        columns.append(plots.Column(name, [
            line("what the last s steps wrote", 0, age=age, rank=found["rank"]),
            line("W after the last step", 1, age=age, rank=numpy.full(len(age), found["final"])),
            line(f"bound: sB, at most {min(params[4, 3].shape)}", 2, age=age, rank=found["bound"]),
            line("what is older", 3, age=age, rest=found["rest"]), line("exp(−E)", 4, age=age, rest=numpy.exp(-found["budget"])),
        ], AGE))
    return checks, Picture(
        "window", "The moving window: of W after T steps, how much was written in the last s of them",
        f"{LABELS[size.mnist]}, m = {len(x)}, B = 8, η = 0.01, λ = 0.02, momentum 0.9, the matrix between hidden layers 2 and 3. SGD unrolled: W = decayed start + decayed gradients, each of rank at most B. "
        "The rank counts σ above 1e-4 ‖W‖. E = 2ηλs / (1 − momentum) is pure decay to first order.",
        columns, [plots.Row("rank", "(a) rank", floor=0), plots.Row("rest", "(b) norm / ‖W‖", log=True)], size.mnist)
