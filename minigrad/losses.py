"""The loss ell of Eq. 1 averaged over the batch, and its cotangent df = d loss / d f (which holds the 1/B).

f and y are (..., B, k); the loss is (...,). cross_entropy and mean_squared_error take one-hot rows or real
targets, logistic and exponential take y = -1 or +1 (k = 1, the paper's univariate setting).
"""

from .backend import namespace


def cross_entropy(f, y):
    """-sum_c y_c log softmax(f)_c, mean over the batch; rows of y sum to 1: loss (...,), df (..., B, k)."""
    xp = namespace(f)
    shifted = f - f.max(axis=-1, keepdims=True)  # softmax doesn't change and no exponential overflows
    log_softmax = shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))
    return -(y * log_softmax).sum(axis=-1).mean(axis=-1), (xp.exp(log_softmax) - y) / f.shape[-2]


def mean_squared_error(f, y):
    """(f - y)^2, mean over the batch and the k outputs. Returns loss (...,) and df (..., B, k)."""
    error = f - y
    return (error * error).mean(axis=-1).mean(axis=-1), 2 * error / (f.shape[-2] * f.shape[-1])


def logistic(f, y):
    """log(1 + exp(-y f)), mean over the batch and the outputs. Returns loss (...,) and df (..., B, k)."""
    xp = namespace(f)
    margin = y * f
    zero = xp.zeros_like(margin)
    d_margin = -xp.exp(-xp.logaddexp(zero, margin))  # -1 / (1 + exp(margin)), which can't overflow this way
    loss = xp.logaddexp(zero, -margin).mean(axis=-1).mean(axis=-1)
    return loss, y * d_margin / (f.shape[-2] * f.shape[-1])


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
