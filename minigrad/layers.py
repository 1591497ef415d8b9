"""The rules of Eq. 3 to 5, each with its derivative directly below it.

Eq. 5 writes v_l for what batch norm is applied to: z, the sum of W v of Eq. 3. Layer L has neither
batch norm nor sigma (Eq. 4). Shapes are those of the legend; gamma and beta are (..., 1, 1), one
per layer as in Eq. 5, or (..., 1, d), one per unit.
"""

import numpy

from .backend import fused, namespace, swap

EPS = 1e-5  # added to the variance; Eq. 5 has none and divides by zero on a dead unit
SLOPE = 0.01  # of leaky ReLU on the negative side


def linear(W, v):
    """W v_j for every row v_j (Eq. 3): (..., d_p, d_q), (..., B, d_q) -> (..., B, d_p)."""
    # On a GPU a transposed operand of a stacked product is copied: let it be the smaller one.
    if W.ndim > 2 and v.size < W.size and namespace(W) is not numpy:
        return swap(W @ swap(v))
    return v @ swap(W)


def linear_backward(dz, W):
    """dv_j = W^T dz_j: (..., B, d_p), (..., d_p, d_q) -> (..., B, d_q)."""
    return dz @ W


def relu(a):
    """sigma(a) = max(a, 0)."""
    return namespace(a).maximum(a, 0)


@fused
def relu_backward(dv, v):
    """da = dv where the unit is on. At a = 0 the derivative is taken to be 0."""
    return dv * (v > 0)


def leaky_relu(a):
    """sigma(a) = a where a > 0, else SLOPE a."""
    return namespace(a).where(a > 0, a, SLOPE * a)


def leaky_relu_backward(dv, v):
    """da = dv where the unit is on, else SLOPE dv; v > 0 exactly where a > 0."""
    return namespace(v).where(v > 0, dv, SLOPE * dv)


def sigmoid(a):
    """sigma(a) = 1 / (1 + exp(-a)), written so that no exponential overflows."""
    xp = namespace(a)
    return xp.exp(-xp.logaddexp(xp.zeros_like(a), -a))


def sigmoid_backward(dv, v):
    """da = dv v (1 - v)."""
    return dv * v * (1 - v)


ACTIVATION = {  # sigma(a) -> v, and its derivative (dv, v) -> da
    "relu": (relu, relu_backward),
    "leaky_relu": (leaky_relu, leaky_relu_backward),
    "sigmoid": (sigmoid, sigmoid_backward),
    "identity": (lambda a: a, lambda dv, v: dv),  # the same array: never add in place
}


def batch_statistics(z):
    """The diagonal of A_l and the mean b_l of Eq. 5 over the batch, each (..., 1, d)."""
    b = z.mean(axis=-2, keepdims=True)
    centred = z - b
    return ((centred * centred).mean(axis=-2, keepdims=True) + EPS) ** -0.5, b


@fused
def batchnorm(z, gamma, beta, A, b):
    """n_l(z) = gamma A (z - b) + 1 beta (Eq. 5), and A (z - b), both (..., B, d)."""
    normalized = A * (z - b)
    return gamma * normalized + beta, normalized


def batchnorm_backward(da, gamma, A, normalized, A_is_constant=True, b_is_constant=False):
    """dz (..., B, d), and the gradients of gamma and beta in their shape; normalized n = A (z - b).

    With A detached (Section 2.1), dz_j = gamma A (da_j - mean_i da_i). The true gradient, that of
    A = (variance + EPS)^(-1/2), also subtracts gamma A n_j mean_i(da_i n_i). Where b is a constant,
    mean_i da_i drops out.
    """
    along_normalized = da * normalized
    through_b = 0 if b_is_constant else da.mean(axis=-2, keepdims=True)
    through_A = 0
    if not A_is_constant:
        # The variance is about the batch's own mean, where n is not centred if b was given.
        n = normalized - normalized.mean(axis=-2, keepdims=True) if b_is_constant else normalized
        through_A = n * along_normalized.mean(axis=-2, keepdims=True)
    dz = _rescaled(da, gamma, A, through_b, through_A)
    return dz, _sum_like(gamma, along_normalized), _sum_like(gamma, da)


@fused
def _rescaled(da, gamma, A, through_b, through_A):
    return gamma * A * (da - through_b - through_A)


def _sum_like(gamma, terms):
    """The sum of terms (..., B, d) over samples, and over units too where they share one gamma."""
    # Axis by axis, so that the order of the sum, and its last bit, doesn't depend on leading axes.
    if gamma.shape[-1] == 1:
        terms = terms.sum(axis=-1, keepdims=True)
    return terms.sum(axis=-2, keepdims=True)
