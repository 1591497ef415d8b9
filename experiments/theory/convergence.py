"""SGD near a convergence point, in float64 on networks without batch norm and with one output.

The objects are the residuals of Eq. 9, g_i = l'_i df(x_i) / dW + 2 lambda W, one per sample: W is a convergence point of
SGD with B < m if and only if all of them are zero (Eq. 6 to 9).
"""

import numpy

from minigrad.losses import LOSSES
from minigrad.network import backward, factors, forward, init_params
from minigrad.train import batches, train_epoch

from .sizes import log_spaced

GONE = 1e-8  # of its first value: a gradient that has fallen this far goes to zero, one that stays above GONE**0.5 does not
ALMOST = 1e-2  # of its first value: below, training steps are small


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
    input, NaN where that is 0 / 0; slope: max_i |l'_i|; least: min_i |l'_i f(x_i)|; output: max_i |f(x_i)|.
    """
    params = init_params(graph, numpy.random.default_rng(seed), dtype="float64", init="he")
    velocity = {name: numpy.zeros_like(W) for name, W in params.items()}
    history = {name: [] for name in ("step", "gradient", "residual", "slope", "least", "output")}
    marks = log_spaced(steps * B // len(x), 40)
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
        history["least"].append(abs(slope * f).min())
        history["output"].append(abs(f).max())
    return {name: numpy.array(values) for name, values in history.items()} | {"diverged": False}, params


def converged(history):
    """How far the gradient on the batches fell, and how large f and l'_i are in the end: what that says of convergence.

    holds: to a function that is not zero; zero: to f = 0; never: not at all; almost: steps are small, and no l'_i f(x_i) is 0.
    """
    fall, slope, least, output = (history[name][-1] for name in ("gradient", "slope", "least", "output"))
    fall = fall / history["gradient"][0]
    return {
        "fall": fall, "slope": slope, "least": least, "output": output, "holds": bool(fall < GONE and output > GONE**0.5),
        "zero": bool(fall < GONE and output < GONE), "never": bool(fall > GONE**0.5), "almost": bool(GONE < fall < ALMOST and least > 0),
    }


def at_kinks(graph, start, x, y, etas, lam, loss, steps):
    """More gradient descent from `start` with each eta: the gradient's size in the end, and the kinks crossed to and fro.

    A kink is where a unit's input changes its sign on a sample; crossed twice or more in the last 20 steps. It holds that
    the minimum lies on kinks, where no gradient exists, if there are such and no eta has a tenth of another's gradient.
    """
    gradient, crossed = [], []
    for eta in etas:
        params, velocity = ({name: form(W) for name, W in start.items()} for form in (numpy.copy, numpy.zeros_like))
        on = []
        for step in range(steps + 1):
            if step >= steps - 20:
                cache = forward(graph, params, x)
                on.append(numpy.concatenate([cache.v[p] > 0 for p in range(2, graph.L)], axis=1))
            if step < steps:
                train_epoch(graph, params, velocity, x, y, numpy.arange(len(x))[None], loss, eta, lam, 0.0)
        _, _, g = residuals(graph, params, x, y, loss, lam)
        gradient.append(sum((r.mean(axis=0) ** 2).sum() for r in g.values()) ** 0.5)
        crossed.append(int((numpy.diff(on, axis=0).sum(axis=0) > 1).sum()))
    return {"gradient": gradient, "crossed": crossed, "holds": bool(min(crossed) > 0 and min(gradient) > max(gradient) / 10)}
