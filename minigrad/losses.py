"""The loss ell of Eq. 1 averaged over the batch, and its cotangent df = d loss / d f (which holds the 1/B).

f and y are (..., B, k); the loss is (...,). cross_entropy and mean_squared_error take one-hot rows or real
targets, logistic and exponential take y = -1 or +1 (k = 1, the paper's univariate setting).

ValueError, or TypeError, for y of another shape than f's, or values that the loss has no meaning for: to a
caller from outside. A step takes the `rule` of a loss, which checks nothing.
"""

import functools

import numpy

from . import checks
from .backend import namespace


def _checked(rule):
    """The loss of that rule, for callers from outside a step."""

    @functools.wraps(rule)
    def loss(f, y):
        checks.is_array("f", f)
        checks.targets(y, f.shape)
        check_values(loss, y)
        return rule(f, y)

    loss.rule = rule
    return loss


@_checked
def cross_entropy(f, y):
    """-sum_c y_c log softmax(f)_c, mean over the batch; rows of y sum to 1: loss (...,), df (..., B, k)."""
    xp = namespace(f)
    shifted = f - f.max(axis=-1, keepdims=True)  # softmax doesn't change and no exponential overflows
    log_softmax = shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))
    return -(y * log_softmax).sum(axis=-1).mean(axis=-1), (xp.exp(log_softmax) - y) / f.shape[-2]


@_checked
def mean_squared_error(f, y):
    """(f - y)^2, mean over the batch and the k outputs. Returns loss (...,) and df (..., B, k)."""
    error = f - y
    return (error * error).mean(axis=-1).mean(axis=-1), 2 * error / (f.shape[-2] * f.shape[-1])


@_checked
def logistic(f, y):
    """log(1 + exp(-y f)), mean over the batch and the outputs. Returns loss (...,) and df (..., B, k)."""
    xp = namespace(f)
    margin = y * f
    zero = xp.zeros_like(margin)
    d_margin = -xp.exp(-xp.logaddexp(zero, margin))  # -1 / (1 + exp(margin)), which can't overflow this way
    loss = xp.logaddexp(zero, -margin).mean(axis=-1).mean(axis=-1)
    return loss, y * d_margin / (f.shape[-2] * f.shape[-1])


@_checked
def exponential(f, y):
    """exp(-y f), mean over the batch and the outputs. Returns loss (...,) and df (..., B, k)."""
    value = namespace(f).exp(-y * f)
    return value.mean(axis=-1).mean(axis=-1), -y * value / (f.shape[-2] * f.shape[-1])


LOSSES = {
    "cross_entropy": cross_entropy,
    "mean_squared_error": mean_squared_error,
    "logistic": logistic,
    "exponential": exponential,
}


def rule_of(loss):
    """What a step calls for `loss`, a name in LOSSES or a function (f, y) -> loss, df; else ValueError."""
    known = LOSSES.get(loss) if isinstance(loss, str) else loss
    if not callable(known):
        names = ", ".join(LOSSES)
        raise ValueError(f"loss must be one of {names}, or a function (f, y) -> loss, df, got {loss!r}")
    return getattr(known, "rule", known)


def check_values(loss, y):
    """Refuse y whose rows don't sum to 1, or that isn't -1 or +1, where the loss needs that.

    On the host alone, in microseconds: to look at a device's values is to wait for it.
    """
    rule = rule_of(loss)
    if not checks.on_host(y):
        return
    if rule is cross_entropy.rule:
        sums = y @ numpy.ones(y.shape[-1], y.dtype)  # y.sum(axis=-1), 25 times faster for few columns
        odd = sums[~(abs(sums - 1) < 1e-3)]  # so is NaN
        if odd.size > 0:
            raise ValueError(f"cross_entropy takes rows of y that sum to 1 (one-hot rows), got {odd[0]:g}")
    elif rule in (logistic.rule, exponential.rule):
        odd = y[abs(y) != 1]
        if odd.size > 0:
            raise ValueError(f"{rule.__name__} takes y = -1 or +1, got {odd[0]:g}")
