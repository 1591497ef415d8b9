"""Section 3.1, measured in float64 on networks without batch norm and with one output: when can SGD converge, and when not?

The objects are the residuals of Eq. 9, g_i = l'_i df(x_i) / dW + 2 lambda W, one per sample: W is a convergence point of
SGD with B < m if and only if all of them are zero (Eq. 6 to 9).
"""

import numpy

from minigrad.losses import LOSSES
from minigrad.network import backward, factors, forward, init_params
from minigrad.train import batches, train_epoch

from .lemmas import TOLERANCE

GONE = 1e-8  # of its first value: a gradient that has fallen this far goes to zero, one that stays above GONE**0.5 does not


def residuals(graph, params, x, y, loss, lam):
    """l'_i (m,), f(x_i) (m,) and {(p, q): g_i (m, d_p, d_q)} at W, the residuals of Eq. 9."""
    cache = forward(graph, params, x)
    f = cache.v[graph.L]
    _, df = LOSSES[loss](f, y)
    slope = df * len(x)  # that of sample i's own loss: the loss is a mean
    U, _ = backward(graph, params, cache, slope)
    return slope[:, 0], f[:, 0], {e: factor.terms() + 2 * lam * params[e] for e, factor in factors(graph, cache, U).items()}


def descend(graph, x, y, B, eta, lam, loss, steps, seed=0):
    """SGD without momentum from He's initialization, looked at in some forty steps from the first epoch on; and the last W.

    gradient: the mean of ||gradient of Eq. 6|| over an epoch's batches; residual: max_i ||g_i|| / (2 lambda ||W||) at the
    input, NaN where that is 0 / 0; slope: max_i |l'_i|; output: max_i |f(x_i)|; norm: ||W||.
    """
    params = init_params(graph, numpy.random.default_rng(seed), dtype="float64", init="he")
    velocity = {name: numpy.zeros_like(W) for name, W in params.items()}
    history = {name: [] for name in ("step", "gradient", "residual", "slope", "output", "norm")}
    marks = numpy.unique(numpy.geomspace(1, steps * B // len(x), 40).round().astype(int))
    for start, end in zip([0, *marks], marks):
        rows = numpy.concatenate([batches(len(x), B, seed, epoch) for epoch in range(start, end)])
        train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, 0.0)
        slope, f, g = residuals(graph, params, x, y, loss, lam)
        flat = numpy.concatenate([r.reshape(len(x), -1) for r in g.values()], axis=1)
        size = 2 * lam * numpy.linalg.norm(params[2, 1])
        history["step"].append(end * (len(x) // B))
        history["gradient"].append(numpy.mean([numpy.linalg.norm(flat[rows].mean(axis=0)) for rows in batches(len(x), B, seed, end)]))
        history["residual"].append(numpy.linalg.norm(g[2, 1], axis=(1, 2)).max() / size if size else numpy.nan)
        history["slope"].append(abs(slope).max())
        history["output"].append(abs(f).max())
        history["norm"].append(sum((params[e] ** 2).sum() for e in g) ** 0.5)
    return {name: numpy.array(values) for name, values in history.items()} | {"diverged": False}, params


def prop_1(history, x):
    """Prop. 1 as an inequality at every W: max_i ||g_i|| >= c 2 lambda ||W^{21}||, and c > 0 but for collinear samples.

    c = s / (2 + s), s the largest sine between two samples. With a = ||l'_i E_{p,i} x_i^T||: ||g_i - g_j|| >= a s (no
    multiple of x_j is nearer), and ||g_i|| >= 2 lambda ||W|| - a. No a makes both small, so SGD converges only to W = 0.
    """
    unit = x / numpy.linalg.norm(x, axis=1, keepdims=True)
    s = max(numpy.linalg.norm(unit - numpy.outer(unit @ u, u), axis=1).max() for u in unit)
    least, c = numpy.nanmin(history["residual"]), s / (2 + s)
    return {"least": least, "c": c, "holds": bool(least >= c > TOLERANCE)}


def converged(history):
    """Whether the gradient on the batches went to zero and f did not: how far it fell, and how large f is."""
    fall = history["gradient"][-1] / history["gradient"][0]
    return {
        "fall": fall, "end": history["gradient"][-1], "output": history["output"][-1], "norm": history["norm"][-1],
        "holds": bool(fall < GONE and history["output"][-1] > GONE**0.5), "never": bool(fall > GONE**0.5),
    }


def nearest_kink(params, x):
    """The least |cos| between a sample and a row of W^{21}, among the rows that have not decayed: 0 on a kink of ReLU."""
    length = numpy.linalg.norm(params[2, 1], axis=1)
    living = length > 1e-3 * length.max()
    cosines = params[2, 1][living] @ x.T / numpy.outer(length[living], numpy.linalg.norm(x, axis=1))
    return abs(cosines).min()


def zero_point(graph, x, y, lam):
    """W = 0 is a convergence point: the largest ||g_i|| there, over samples, edges and losses; no rounding, so exactly 0."""
    params = {(p, q): numpy.zeros((graph.width(p), graph.width(q))) for p, q in graph.E_T}
    largest = max(abs(g).max() for loss in ("mean_squared_error", "logistic", "exponential")
                  for g in residuals(graph, params, x, y, loss, lam)[2].values())
    return {"largest": largest, "holds": bool(largest == 0)}


def collinear_data(direction, m, lam, rng):
    """Prop. 1's exception, built: x_i = c_i x_0 and y_i = c_i + lambda / c_i, for a network of three matrices, ||x_0|| = 1.

    At f(x_0) = 1 every l'_i c_i = 2 c_i (c_i - y_i) is the same -2 lambda, and so is every g_i (f is homogeneous in x); they
    vanish at the rank-one matrices of norm 1 with f(x_0) = 1.
    """
    c = rng.uniform(0.5, 1.5, (m, 1))
    return c * direction / numpy.linalg.norm(direction), c + lam / c


def prop_2(graph, params, x, y, loss):
    """Prop. 2 as an inequality at lambda = 0: ||g_i|| ||W|| >= |l'_i f(x_i)| at the input, so g_i = 0 only if one is 0.

    Its equality is Eq. 14: <g_i, W> = l'_i f(x_i), summed over the edges from the input; `error` is relative to the right.
    """
    slope, f, g = residuals(graph, params, x, y, loss, 0.0)
    inputs = [e for e in g if e[1] == 1]
    inner = sum((g[e] * params[e]).sum(axis=(1, 2)) for e in inputs)
    upper = sum((g[e] ** 2).sum(axis=(1, 2)) for e in inputs) ** 0.5 * sum((params[e] ** 2).sum() for e in inputs) ** 0.5
    right = abs(slope * f)
    error = abs(inner - slope * f).max() / right.max()
    return {
        "least": (upper[right > 0] / right[right > 0]).min(), "error": error,
        "holds": bool((upper >= right * (1 - TOLERANCE)).all() and error < TOLERANCE),
    }


def almost_convergence(x, y, networks, seeds, **training):
    """The largest |l'_i| after training (networks, seeds), and whether it falls with the width from one to the next.

    Two networks are told apart if their ranges over the seeds don't overlap: holds if some pair falls and none rises.
    """
    slopes = numpy.array([[descend(graph, x, y, seed=seed, **training)[0]["slope"][-1] for seed in range(seeds)] for graph in networks])
    falls = slopes[1:].max(axis=1) < slopes[:-1].min(axis=1)
    rises = slopes[1:].min(axis=1) > slopes[:-1].max(axis=1)
    return {"slopes": slopes, "falls": int(falls.sum()), "rises": int(rises.sum()), "holds": bool(falls.any() and not rises.any())}
