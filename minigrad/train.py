"""Training as in Section 4.1: the batches of an epoch, a step, the epoch, and evaluation at test time."""

import numpy

from . import checks, kernels, slices
from .backend import namespace
from .losses import check_values, rule_of
from .network import backward, factors, forward, predict
from .optim import sgd_step


def batches(m, B, seed, epoch):
    """Row indices (m // B, B) of an epoch: a permutation by (seed, epoch) alone; the rest is dropped.

    ValueError for a batch larger than m, and for what is negative or no integer.
    """
    for name, value in (("m", m), ("B", B), ("seed", seed), ("epoch", epoch)):
        checks.whole(name, value)
    if not 1 <= B <= m:
        raise ValueError(f"the batch size must satisfy 1 <= B <= m={m}, got B={B}")
    order = numpy.random.default_rng((seed, epoch)).permutation(m)
    return order[: m - m % B].reshape(-1, B)


def train_step(graph, params, velocity, x, y, loss, eta, lam, momentum):
    """One step of Eq. 2 on the batch x (..., B, n), y (..., B, k), in place; returns its factors.

    `loss` is a name of losses.LOSSES, or a function (f, y) -> loss, df. The factors, {(p, q): GradFactors},
    are those before the step. Nothing is checked here: train_epoch does that, once.
    """
    cache = forward(graph, params, x)
    _, df = rule_of(loss)(cache.v[graph.L], y)
    U, dscale = backward(graph, params, cache, df)
    of_step = factors(graph, cache, U)
    sgd_step(params, velocity, of_step, dscale, eta, lam, momentum)
    return of_step


@numpy.errstate(over="ignore", invalid="ignore")  # a diverging run is recorded as such, not warned about
def train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, momentum):
    """One step in place per entry of rows (S, ..., B), indices into x (m, n) and y (m, k), on their device.

    Axes of rows between S and B are runs stacked side by side, each with its own batches. Returns velocity;
    in place of None it is zeros. ValueError or TypeError, before any step, for what doesn't fit together; the
    values of y and rows on a device are not looked at.
    """
    checks.epoch(graph, params, velocity, x, y, rows, eta, lam, momentum)
    check_values(loss, y)
    if velocity is None:
        velocity = {key: namespace(W).zeros_like(W) for key, W in params.items()}
    if kernels.applies(params, x, y, velocity, rows):
        kernels.train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, momentum)
    else:
        for batch in rows:
            train_step(graph, params, velocity, x[batch], y[batch], loss, eta, lam, momentum)
    return velocity


@numpy.errstate(over="ignore", invalid="ignore")
def evaluate(graph, params, x, y, loss, stats=None):
    """Loss (...,), accuracy (...,) in [0, 1] on x (m, n), y (m, k), the Stats used: training set first.

    Accuracy compares argmax rows, and for k = 1 signs. It is NaN where the loss is not finite; both are NaN
    where a variance of Eq. 5 has overflowed. ValueError, or TypeError, for what doesn't fit together.
    """
    checks.prediction(graph, params, x, stats, y)
    check_values(loss, y)
    xp = namespace(x)
    at_test_time = slices.predict if kernels.applies(params, x, y) else predict
    f, stats = at_test_time(graph, params, x, stats)
    value, _ = rule_of(loss)(f, y)
    for A in stats.A.values():
        # An infinite variance makes A = 0, which turns any input into beta and leaves the loss finite.
        overflown = (A == 0).any(axis=-1).any(axis=-1)
        value = xp.where(overflown, xp.full_like(value, float("nan")), value)
    if y.shape[-1] == 1:
        hit = f[..., 0] * y[..., 0] > 0
    else:
        hit = f.argmax(axis=-1) == y.argmax(axis=-1)
    accuracy = hit.mean(axis=-1)
    return value, xp.where(xp.isfinite(value), accuracy, xp.full_like(accuracy, float("nan"))), stats
