"""The measurements that take turns; each returns numbers, {name: [one per turn]}."""

import functools
import statistics
import time

import numpy

import minigrad as mg

from . import contestants
from .problem import ETA, LAM, MOMENTUM, at_rest, start

SHARE = 0.4  # seconds that one turn of one contestant takes at least


def seconds(function, *args):
    """How long one call takes."""
    begun = time.perf_counter()
    function(*args)
    return time.perf_counter() - begun


def in_turns(functions, rounds):
    """{name: [seconds]}: A, B, A, B, ..., so that what else the machine does falls on all of them alike."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return times


def scaled(times, factor):
    """The same times in another unit."""
    return {name: [factor * t for t in values] for name, values in times.items()}


def agree(name, x, y):
    """The largest difference from minigrad after 4 steps at B = 8, relative to the largest entry of its W.

    The median of 5 orders of the data: where a ReLU's input is zero up to rounding, single steps may differ
    by much more.
    """
    graph, params = start(name)
    differences = []
    for order in range(5):
        rows = mg.batches(len(x), 8, seed=order, epoch=1)[:4]
        ends = {}
        for contestant, make in contestants.TRAINING.items():
            advance, weights = make(graph, params, x, y)
            advance(rows)
            ends[contestant] = weights()
        ours = ends.pop("minigrad")
        differences.append(max(_difference(end, ours, graph.E_T) for end in ends.values()))
    return statistics.median(differences)


def _difference(end, ours, edges):
    return max(abs(end[edge] - ours[edge]).max() / abs(ours[edge]).max() for edge in edges)


def steps(name, B, x, y, rounds):
    """{contestant: microseconds a step, one per turn}."""
    graph, params = start(name)
    rows = mg.batches(len(x), B, seed=0, epoch=1)
    runs = {contestant: make(graph, params, x, y)[0] for contestant, make in contestants.CONTESTANTS.items()}
    ours = runs["minigrad"]
    ours(rows[:2])  # Numba compiles
    one_step = seconds(ours, rows[:8]) / 8
    # What an epoch does once, such as copying parameters, must not count as if it had three steps.
    rows = rows[: max(20, round(SHARE / one_step))]
    turns = {contestant: functools.partial(advance, rows) for contestant, advance in runs.items()}
    for turn in turns.values():
        turn()  # JAX compiles for this length
    return scaled(in_turns(turns, rounds), 1e6 / len(rows))


def epochs(name, B, x, y):
    """{contestant: seconds of one whole epoch}."""
    graph, params = start(name)
    rows = mg.batches(len(x), B, seed=0, epoch=1)
    runs = {contestant: make(graph, params, x, y)[0] for contestant, make in contestants.TRAINING.items()}
    runs["JAX scan"](rows)  # compiles for this length
    return {contestant: [seconds(advance, rows)] for contestant, advance in runs.items()}


def measured_epoch(name, B, x, y):
    """{part: [seconds, once]} of one epoch of minigrad with its measures."""
    graph, params = start(name)
    advance, weights = contestants.minigrad(graph, params, x, y)
    rows = mg.batches(len(x), B, seed=0, epoch=1)
    advance(rows[:2])  # Numba compiles

    def evaluate():
        stats = mg.evaluate(graph, weights(), x, y, "cross_entropy")[2]
        mg.evaluate(graph, weights(), x[:10_000], y[:10_000], "cross_entropy", stats)

    def count_ranks():
        for edge in graph.E_T:
            mg.rank(weights()[edge])

    parts = {"steps": functools.partial(advance, rows), "evaluation": evaluate, "ranks": count_ranks}
    return in_turns(parts, rounds=1)


def gradients_of_norm(B, x, y, rounds):
    """{gradient: microseconds a step} of MLP-BN-10-100 with A detached, and with the true gradient."""
    rows = mg.batches(len(x), B, seed=0, epoch=1)[:300]
    turns = {}
    for gradient, detached in {"detached": True, "true": False}.items():
        advance, _ = contestants.minigrad(*start("MLP-BN-10-100", detached), x, y)
        turns[gradient] = functools.partial(advance, rows)
        turns[gradient]()
    return scaled(in_turns(turns, rounds), 1e6 / len(rows))


def ranks(shapes, rounds):
    """{shape: {way: [seconds]}}: counting the rank, against NumPy's SVD of float32.

    The matrices have a rank to be found; AssertionError where minigrad counts another than float64 does.
    """
    rng = numpy.random.default_rng(2)
    times = {}
    for shape in shapes:
        r = min(shape) // 2
        W = rng.normal(size=(shape[0], r)) @ rng.normal(size=(r, shape[1])) + 1e-3 * rng.normal(size=shape)
        W = W.astype("float32")
        exact = rank_by_svd(W.astype("float64"))
        assert mg.rank(W) == exact, (shape, mg.rank(W), exact)
        ways = {"minigrad": functools.partial(mg.rank, W), "numpy svd": functools.partial(rank_by_svd, W)}
        times[shape] = in_turns(ways, rounds)
    return times


def rank_by_svd(W):
    """The rank as minigrad defines it, in W's own precision."""
    s = numpy.linalg.svd(W, compute_uv=False)
    return (s > 1e-4 * numpy.linalg.norm(s)).sum()


def denormals(x, y, rounds):
    """Microseconds a step of MLP-5-100, B = 128, of usual weights, and of some decayed to denormal ones."""
    graph, params = start("MLP-5-100")
    rows = mg.batches(len(x), 128, seed=0, epoch=1)[:40]
    usual, decayed = at_rest(params, "F"), at_rest(params, "F")

    def train(state, lam):
        mg.train_epoch(graph, *state, x, y, rows, "cross_entropy", ETA, lam, MOMENTUM)

    turns = {
        "lambda = 5e-4": functools.partial(train, usual, LAM),
        "lambda = 20, denormal weights": functools.partial(train, decayed, 20),
    }
    weights = decayed[0].values()
    while max(abs(W).max() for W in weights) >= numpy.finfo("float32").smallest_normal:
        train(decayed, 20)
    times = in_turns(turns, rounds)
    zero = "the weights have decayed to zero itself, which says nothing about denormals"
    assert all(W.any() for W in weights), zero
    return scaled(times, 1e6 / len(rows))
