"""Theorem 1 along training, and training unrolled: what a weight matrix is made of, and how far back it remembers."""

import numpy

from minigrad.losses import LOSSES
from minigrad.measures import distance_to_rank, norm_of_spectrum, rank, singular_values
from minigrad.network import backward, factors, forward, gradients
from minigrad.optim import sgd_step
from minigrad.train import batches

from .lemmas import STEP, TOLERANCE

NORMS = ("spectral", "frobenius")
FORGOTTEN = 1e-4  # of ||W||: the tolerance of the rank (Section 4.1)


def theorem_1(graph, params, x, y, loss, lam, ranks, samples, rng):
    """Both sides of Eq. 10 at W, in both norms: left and right (norms, E_T, ranks), and the error of Eq. 18, the equality.

    The right side is the least over `samples` random batches: not less than the least over all of them, so it stays a
    bound. Eq. 18: ||W - U_S||_F, from the factors, is the slope of L_S^lambda along W - U_S (a complex step) over 2 lambda.
    informative (norms, ranks): the share of E_T where the right side is below ||W||, which bounds the left side anyway.
    """
    weights = {e: params[e] for e in graph.E_T}
    left = numpy.array([[[distance_to_rank(W, r, norm) for r in ranks] for W in weights.values()] for norm in NORMS])
    right, errors = numpy.full(left.shape, numpy.inf), []
    for place, B in enumerate(ranks):
        for sample in range(samples):
            rows = rng.choice(len(x), B, replace=False)
            cache = forward(graph, params, x[rows])
            _, df = LOSSES[loss](cache.v[graph.L], y[rows])
            grads = gradients(graph, cache, *backward(graph, params, cache, df))
            for number, (e, W) in enumerate(weights.items()):
                spectrum = singular_values(grads[e] + 2 * lam * W)
                for norm, bounds in zip(NORMS, right):
                    bounds[number, place] = min(bounds[number, place], norm_of_spectrum(spectrum, norm) / (2 * lam))
                if sample == 0:
                    gap = W + grads[e] / (2 * lam)  # W - U_S
                    length = numpy.linalg.norm(gap)
                    shifted = params | {e: W + STEP * 1j * gap / length}
                    value, _ = LOSSES[loss](forward(graph, shifted, x[rows], A=cache.A).v[graph.L], y[rows])
                    slope = (value + lam * (shifted[e] ** 2).sum()).imag / STEP
                    errors.append(abs(slope / (2 * lam) - length) / length)
    size = numpy.array([[norm_of_spectrum(singular_values(W), norm) for W in weights.values()] for norm in NORMS])
    return {
        "left": left, "right": right, "informative": (right < size[..., None]).mean(axis=1), "error": max(errors),
        "bound_holds": bool((left <= right * (1 + TOLERANCE)).all()), "equality_holds": bool(max(errors) < TOLERANCE),
    }


def unrolled(eta, lam, momentum, steps):
    """W_T = decay W_0 - sum over s < T of share[s] g_{T-1-s} for the steps of Eq. 2 with momentum: decay, and share (T,).

    A step is linear in (W, velocity) and g; share[s] is what s further steps leave of a step's own eta.
    """
    step = numpy.array([[1 - 2 * eta * lam, -eta * momentum], [2 * lam, momentum]])  # (W, velocity) at g = 0
    row, share = numpy.array([1.0, 0.0]), numpy.empty(steps)
    for s in range(steps):
        share[s] = row @ [eta, -1]
        row = row @ step
    return row[0], share


def window(graph, params, x, y, loss, B, eta, lam, momentum, epochs, edge, seed):
    """SGD with momentum and decay, unrolled: W_T is decayed W_0 and the decayed terms of every step, each of rank <= B.

    Trains `params` in place. Against the age s, in steps before T: `rank` of the part written in the last s, `rest`, the
    norm of all that is older over ||W_T||, and the decay budget E = 2 eta lambda s / (1 - momentum) that it has seen:
    `shrunk` is rest / exp(-E), `memory` the age from which on rest < 1e-4, `enough` that of the part that has W_T's rank.
    """
    start, velocity = params[edge].copy(), {name: numpy.zeros_like(W) for name, W in params.items()}
    written = []
    for rows in numpy.concatenate([batches(len(x), B, seed, epoch) for epoch in range(epochs)]):
        cache = forward(graph, params, x[rows])
        _, df = LOSSES[loss](cache.v[graph.L], y[rows])
        U, dscale = backward(graph, params, cache, df)
        written.append(factors(graph, cache, U)[edge])
        sgd_step(params, velocity, factors(graph, cache, U), dscale, eta, lam, momentum)
    W, size, T = params[edge], numpy.linalg.norm(params[edge]), len(written)
    decay, share = unrolled(eta, lam, momentum, T)
    ages = numpy.unique(numpy.geomspace(1, T, 60).round().astype(int))
    ranks, rests, part = [], [], numpy.zeros_like(W)
    for young, old in zip([0, *ages], ages):
        for s in range(young, old):
            part -= share[s] * written[T - 1 - s].matrix()
        ranks.append(float(rank(part)))
        rests.append(numpy.linalg.norm(W - part) / size)
    budget, rest, ranks = 2 * eta * lam * ages / (1 - momentum), numpy.array(rests), numpy.array(ranks)
    shrunk = (rest * numpy.exp(budget))[rest > FORGOTTEN / 100]
    memory = int(ages[numpy.argmax(rest < FORGOTTEN)] if rest.min() < FORGOTTEN else T)
    error = numpy.linalg.norm(W - part - decay * start) / size
    return {
        "age": ages, "budget": budget, "rank": ranks, "rest": rest, "bound": numpy.minimum(ages * B, min(W.shape)), "shrunk": shrunk,
        "final": float(rank(W)), "memory": memory, "enough": int(ages[numpy.argmax(ranks >= rank(W))]), "error": error,
        "equality_holds": bool(error < TOLERANCE), "decay_holds": bool(shrunk.min() > 0.5 and shrunk.max() < 2), "count_holds": memory * B < min(W.shape),
    }
