"""The losses ell of Eq. 1, averaged over the batch, each with its cotangent df = d loss / d f.

f, df and y are (..., B, k), the loss is (...,). cross_entropy takes rows of y that sum to 1,
logistic and exponential take y = -1 or +1 (k = 1 in the paper), mean_squared_error any y.
ValueError or TypeError for other y; training steps call the unchecked function, `loss.rule`.
"""

import functools

import numpy

from . import checks
from .backend import namespace


def _checked(rule):
    @functools.wraps(rule)
    def loss(f, y):
        checks.matrices("f", f)
        check_targets(loss, y, f.shape)
        return rule(f, y)

    loss.rule = rule
    return loss


@_checked
def cross_entropy(f, y):
    """-sum_c y_c log softmax(f)_c, mean over the batch: loss (...,), df (..., B, k)."""
    xp = namespace(f)
    shifted = f - f.max(axis=-1, keepdims=True)  # the softmax is the same, and exp can't overflow
    log_softmax = shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))
    loss = -(y * log_softmax).sum(axis=-1).mean(axis=-1)
    return loss, (xp.exp(log_softmax) - y) / f.shape[-2]


@_checked
def mean_squared_error(f, y):
    """(f - y)^2, mean over the batch and the k outputs: loss (...,), df (..., B, k)."""
    error = f - y
    loss = (error * error).mean(axis=-1).mean(axis=-1)
    return loss, 2 * error / (f.shape[-2] * f.shape[-1])


@_checked
def logistic(f, y):
    """log(1 + exp(-y f)), mean over the batch and the k outputs: loss (...,), df (..., B, k)."""
    xp = namespace(f)
    margin = y * f
    d_margin = -xp.exp(-xp.logaddexp(0, margin))  # -1 / (1 + exp(margin)), without overflow
    loss = xp.logaddexp(0, -margin).mean(axis=-1).mean(axis=-1)
    return loss, y * d_margin / (f.shape[-2] * f.shape[-1])


@_checked
def exponential(f, y):
    """exp(-y f), mean over the batch and the k outputs: loss (...,), df (..., B, k)."""
    value = namespace(f).exp(-(y * f))
    loss = value.mean(axis=-1).mean(axis=-1)
    return loss, -(y * value) / (f.shape[-2] * f.shape[-1])


LOSSES = {f.__name__: f for f in (cross_entropy, mean_squared_error, logistic, exponential)}


def rule_of(loss):
    """The unchecked function of `loss`, a name in LOSSES or a function (f, y) -> loss, df."""
    function = LOSSES.get(loss) if isinstance(loss, str) else loss
    rule = f"loss must be one of {', '.join(LOSSES)}, or a function (f, y) -> loss, df"
    checks.require(callable(function), rule, repr(loss))
    return getattr(function, "rule", function)


def check_targets(loss, y, shape, like=None):
    """Check that y has the last axes of f, whose shape (..., B, k) is given: others broadcast.

    ValueError, too, for values that `loss` has no meaning for; on the host only.
    """
    checks.array("y", y, like)
    axes = tuple(shape[-2:])
    form = f"y must have f's last axes {axes}: one-hot rows, or a column of -1 and +1"
    checks.require(y.shape[-2:] == axes, form, y)
    rule, wrong = rule_of(loss), ()
    if namespace(y) is not numpy:
        return  # on a device, looking at values means waiting for them
    if rule is cross_entropy.rule:
        sums = y @ numpy.ones(y.shape[-1], "float32")  # faster than y.sum(axis=-1)
        wrong = sums[~(abs(sums - 1) < 1e-3)]  # NaN is wrong, too
        allowed = "rows of y that sum to 1"
    elif rule in (logistic.rule, exponential.rule):
        wrong, allowed = y[abs(y) != 1], "y = -1 or +1"
    if len(wrong) > 0:
        raise ValueError(f"{rule.__name__} takes {allowed}, got {wrong[0]:g}")
