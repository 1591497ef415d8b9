"""SGD near a convergence point, in float64 on networks without batch norm and with one output.

The objects are the residuals of Eq. 9, g_i = l'_i df(x_i) / dW + 2 lambda W, one per sample.
W is a convergence point of SGD with B < m if and only if all of them are zero (Eq. 6 to 9).
"""

import numpy

from minigrad.losses import LOSSES
from minigrad.network import backward, factors, forward, init_params
from minigrad.train import batches, train_epoch

from .lemmas import nonzero
from .sizes import GONE, TOLERANCE, log_spaced

STAYS = GONE**0.5  # of its first value: a gradient above it does not go to zero
ALMOST = 1e-2  # of its first value: below it, training steps are small
LAST = 20  # steps in which a kink is crossed to and fro


def residuals(graph, params, x, y, loss, lam):
    """l'_i (m,), f(x_i) (m,) and {(p, q): g_i (m, d_p, d_q)} at W, the residuals of Eq. 9."""
    cache = forward(graph, params, x)
    f = cache.v[graph.L]
    _, df = LOSSES[loss](f, y)
    slope = df * len(x)  # that of sample i's own loss: the loss is a mean
    U, _ = backward(graph, params, cache, slope)
    g = {e: factor.terms() + 2 * lam * params[e] for e, factor in factors(graph, cache, U).items()}
    return slope[:, 0], f[:, 0], g


def euler(params, slope, f, g, lam):
    """The error of <g_i, W> = l'_i f(x_i) + 2 lambda ||W||^2 in every layer (E_T,), relative to its terms.

    Euler's identity: without batch norm, f of an MLP is homogeneous of degree 1 in each layer's W.
    """
    errors = []
    for e, W in params.items():
        inner = (g[e] * W).sum(axis=(1, 2))
        decay = 2 * lam * (W**2).sum()
        size = (abs(slope * f) + decay).max()
        errors.append(abs(inner - slope * f - decay).max() / nonzero(size))
    return numpy.array(errors)


def look(graph, params, x, y, epoch, loss, lam):
    """What `descend` records of W; `epoch` is the batches of the epoch that W begins, as rows of x."""
    slope, f, g = residuals(graph, params, x, y, loss, lam)
    every = numpy.concatenate([r.reshape(len(x), -1) for r in g.values()], axis=1)
    on_batches = [numpy.linalg.norm(every[rows].mean(axis=0)) for rows in epoch]
    largest = numpy.linalg.norm(g[2, 1], axis=(1, 2)).max()
    size = 2 * lam * numpy.linalg.norm(params[2, 1])
    return {
        "gradient": numpy.mean(on_batches),
        "residual": largest / size if size else numpy.nan,
        "slope": abs(slope).max(),
        "least": abs(slope * f).min(),
        "output": abs(f).max(),
        "euler": euler(params, slope, f, g, lam).max(),
    }


def descend(graph, x, y, B, eta, lam, loss, steps, seed=0):
    """SGD without momentum from He's initialization: what was seen in some forty steps, and the last W.

    The first is after one epoch. gradient: the mean of ||gradient of Eq. 6|| over an epoch's batches;
    residual: max_i ||g_i|| / (2 lambda ||W||) at the input, NaN where that is 0 / 0; slope: max_i |l'_i|;
    least: min_i |l'_i f(x_i)|; output: max_i |f(x_i)|; euler: the largest error of Euler's identity.
    """
    params = init_params(graph, numpy.random.default_rng(seed), dtype="float64", init="he")
    velocity = {name: numpy.zeros_like(W) for name, W in params.items()}
    seen = []
    marks = log_spaced(steps * B // len(x), 40)
    for start, end in zip([0, *marks], marks):
        rows = numpy.concatenate([batches(len(x), B, seed, epoch) for epoch in range(start, end)])
        train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, 0.0)
        step = end * (len(x) // B)
        seen.append({"step": step} | look(graph, params, x, y, batches(len(x), B, seed, end), loss, lam))
    return {name: numpy.array([entry[name] for entry in seen]) for name in seen[0]}, params


def converged(history):
    """How far the gradient on the batches fell, how large f, l'_i and g_i are in the end, and what it says.

    fits: it went to zero, and f did not; zero: both did; never: it did not; almost: steps are small, and no
    l'_i f(x_i) is 0. converges: fits or zero. prop_1: never or zero, all that Prop. 1 leaves to SGD.
    """
    end = {name: history[name][-1] for name in ("residual", "slope", "least", "output")}
    fall = history["gradient"][-1] / history["gradient"][0]
    gone, never = fall < GONE, fall > STAYS
    fits = gone and end["output"] > STAYS
    zero = gone and end["output"] < GONE
    return end | {
        "fall": fall,
        "fits": bool(fits),
        "zero": bool(zero),
        "never": bool(never),
        "almost": bool(GONE < fall < ALMOST and end["least"] > 0),
        "converges": bool(fits or zero),
        "prop_1": bool(never or zero),
    }


def along(history):
    """Whether Euler's identity held at every look, and its largest error."""
    error = history["euler"].max()
    return {"error": error, "looks": len(history["euler"]), "holds": bool(error < TOLERANCE)}


def balance(graph, params, x, y, loss, lam):
    """Are the norms of all layers equal, as Euler's identity demands of a convergence point with lambda > 0?

    Summed over the samples it leaves ||W||^2 = -mean_i l'_i f(x_i) / 2 lambda, for gradient descent too.
    spread: the largest norm over the least, less 1; error: that of the equation, relative to the largest.
    """
    slope, f, _ = residuals(graph, params, x, y, loss, lam)
    squares = numpy.array([(W**2).sum() for W in params.values()])
    error = abs(squares + (slope * f).mean() / (2 * lam)).max() / squares.max()
    spread = (squares.max() / squares.min()) ** 0.5 - 1
    holds = spread < GONE and error < GONE
    return {"norm": squares**0.5, "spread": spread, "error": error, "holds": bool(holds)}


def at_kinks(graph, start, x, y, etas, lam, loss, steps):
    """More gradient descent from `start` with each eta: the gradient left, and the kinks crossed to and fro.

    A kink is where a unit's input changes its sign on a sample; it counts if that happens twice or more in
    the LAST steps. It holds that the minimum lies on kinks, where no gradient exists, if every eta crosses
    some and none has a tenth of another's gradient.
    """
    gradient, crossed = [], []
    everything = numpy.arange(len(x))[None]
    for eta in etas:
        params = {name: W.copy() for name, W in start.items()}
        velocity = {name: numpy.zeros_like(W) for name, W in start.items()}
        on = []
        for step in range(steps + 1):
            if step >= steps - LAST:
                cache = forward(graph, params, x)
                on.append(numpy.concatenate([cache.v[p] > 0 for p in range(2, graph.L)], axis=1))
            if step < steps:
                train_epoch(graph, params, velocity, x, y, everything, loss, eta, lam, 0.0)
        _, _, g = residuals(graph, params, x, y, loss, lam)
        gradient.append(sum((r.mean(axis=0) ** 2).sum() for r in g.values()) ** 0.5)
        changes = numpy.diff(on, axis=0).sum(axis=0)
        crossed.append(int((changes > 1).sum()))
    holds = min(crossed) > 0 and min(gradient) > max(gradient) / 10
    return {"eta": etas, "gradient": gradient, "crossed": crossed, "last": LAST, "holds": bool(holds)}
