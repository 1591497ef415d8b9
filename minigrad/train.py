"""Training as in Section 4.1: batches, a step, an epoch, and evaluation at test time."""

import numpy

from . import checks, fast
from .backend import namespace
from .losses import check_targets, rule_of
from .network import backward, factors, forward, predict
from .optim import sgd_step

AT_ONCE = 4096  # samples that are evaluated in one pass


def batches(m, B, seed, epoch):
    """Row indices (m // B, B) of an epoch, drawn by (seed, epoch) alone; m % B rows are left out.

    ValueError for a batch size outside 1 to m, NumPy's for a seed or epoch that is negative.
    """
    checks.require(1 <= B <= m, f"the batch size must satisfy 1 <= B <= m={m}", f"B={B}")
    order = numpy.random.default_rng((seed, epoch)).permutation(m)
    return order[: m - m % B].reshape(-1, B)


def train_step(graph, params, velocity, x, y, loss, eta, lam, momentum):
    """One step of Eq. 2 on the batch x (..., B, n), y (..., B, k), in place; returns its factors.

    `loss` is a name of losses.LOSSES or a function (f, y) -> loss, df. The factors, as those of
    network.factors, are of the weights before the step. Nothing is checked: train_epoch does that.
    """
    cache = forward(graph, params, x)
    _, df = rule_of(loss)(cache.v[graph.L], y)
    U, dscale = backward(graph, params, cache, df)
    of_step = factors(graph, cache, U)
    sgd_step(params, velocity, of_step, dscale, eta, lam, momentum)
    return of_step


# A run that diverges is recorded as such, without warnings. Some BLAS set flags in right products.
@numpy.errstate(divide="ignore", over="ignore", invalid="ignore")
def train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, momentum, engine=None):
    """One step in place for each of S batches: rows (S, ..., B) index x (m, n) and y (m, k).

    Axes of rows between S and B are runs side by side, each with its own batches. Returns velocity,
    zeros at the start if None. `engine` is "reference" (train_step), "fast" (the same, compiled) or
    None (fast where possible). ValueError or TypeError, before any step, for arguments that don't
    fit together or an engine that can't be had; on a device, values of y and rows go unchecked.
    """
    checks.epoch(graph, params, velocity, x, rows)
    check_targets(loss, y, (len(x), graph.width(graph.L)), x)
    checks.require(y.ndim == 2, "y must be (m, k)", y)
    W = next(iter(params.values()))
    eta, lam = checks.number("eta", eta, W=W), checks.number("lam", lam, W=W)
    momentum = checks.number("momentum", momentum, below=1, W=W)
    if velocity is None:
        velocity = {key: namespace(W).zeros_like(W) for key, W in params.items()}
    why_not = why_reference(engine, graph, namespace(x), x.dtype.name)
    if engine == "fast" and why_not:
        raise ValueError(f"engine='fast' can't be had, use None or 'reference': {why_not}")
    if why_not:
        for batch in rows:
            train_step(graph, params, velocity, x[batch], y[batch], loss, eta, lam, momentum)
    else:
        from .fast import table  # imports Numba

        table.train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, momentum)
    return velocity


def why_reference(engine, graph, xp, dtype="float32"):
    """Why train_step, not the compiled step, trains, as a text; "" where the compiled step does."""
    if engine not in (None, "fast", "reference"):
        raise ValueError(f"engine must be 'fast', 'reference' or None, got {engine!r}")
    if engine == "reference":
        return "it was asked for"
    if xp is not numpy:
        return "the compiled step is for NumPy"
    if not fast.knows_graph(graph):
        return "the compiled step doesn't know this graph"
    return fast.unavailable(dtype)


@numpy.errstate(divide="ignore", over="ignore", invalid="ignore")
def evaluate(graph, params, x, y, loss, stats=None):
    """Loss (...,), accuracy (...,) in [0, 1] on x (m, n), y (m, k), and the Stats used by predict.

    Accuracy compares argmax, and for k = 1 signs. It is NaN where the loss is not finite; both are
    NaN where a variance of Eq. 5 has overflowed. ValueError or TypeError for arguments that don't
    fit together.
    """
    checks.prediction(graph, params, x, stats)
    xp, m = namespace(x), x.shape[-2]
    check_targets(loss, y, (m, graph.width(graph.L)), x)
    # Batch statistics are those of all samples and need them at once. Chunks take less memory.
    need_all = stats is None and any(layer.batchnorm for layer in graph.layers)
    size = m if need_all else AT_ONCE
    parts = [predict(graph, params, x[..., i : i + size, :], stats) for i in range(0, m, size)]
    f, stats = xp.concatenate([f for f, _ in parts], axis=-2), parts[0][1]
    value, _ = rule_of(loss)(f, y)
    for A in stats.A.values():
        # An infinite variance makes A = 0, which turns any input into beta: the loss is finite.
        value = xp.where((A == 0).any(axis=-1).any(axis=-1), float("nan"), value)
    if y.shape[-1] == 1:
        hit = f[..., 0] * y[..., 0] > 0
    else:
        hit = f.argmax(axis=-1) == y.argmax(axis=-1)
    return value, xp.where(xp.isfinite(value), hit.mean(axis=-1), float("nan")), stats
