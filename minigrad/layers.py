"""The rules of Eq. 3 to 5, each with its derivative directly below it.

Shapes: v, z, a and their cotangents are (..., B, d); W is (..., d_p, d_q); A, b are (..., 1, d); gamma, beta (..., 1, 1).
"""

from .backend import namespace, swap

EPS = 1e-5  # added to the variance; Eq. 5 has none and divides by zero on a dead unit
SLOPE = 0.01  # of leaky ReLU on the negative side


def linear(W, v):
    """W v for every row v_j (Eq. 3): (..., d_p, d_q), (..., B, d_q) -> (..., B, d_p)."""
    return v @ swap(W)


def linear_backward(dz, W):
    """dv_j = W^T dz_j: (..., B, d_p), (..., d_p, d_q) -> (..., B, d_q)."""
    return dz @ W


def relu(a):
    """sigma(a) = max(a, 0)."""
    return namespace(a).maximum(a, 0)


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


def identity(a):
    """sigma(a) = a, the same array."""
    return a


def identity_backward(dv, v):
    """da = dv, the same array: never add in place into a cotangent."""
    return dv


ACTIVATION = {
    "relu": (relu, relu_backward),
    "leaky_relu": (leaky_relu, leaky_relu_backward),
    "sigmoid": (sigmoid, sigmoid_backward),
    "identity": (identity, identity_backward),
}


def batch_statistics(z):
    """The diagonal of A_l and the mean b_l of Eq. 5 over the batch: (..., B, d) -> two of (..., 1, d)."""
    b = z.mean(axis=-2, keepdims=True)
    centred = z - b
    return ((centred * centred).mean(axis=-2, keepdims=True) + EPS) ** -0.5, b


def batchnorm(z, gamma, beta, A, b):
    """n_l(z) = gamma A (z - b) + 1 beta (Eq. 5). Returns it and A (z - b), both (..., B, d)."""
    normalized = A * (z - b)
    return gamma * normalized + beta, normalized


def batchnorm_backward(da, gamma, A, normalized, mean_is_constant=False):
    """dz_j = gamma A (da_j - mean_i da_i): A is detached, the batch mean b is not (unless b was given as a constant).

    Returns dz (..., B, d) and the gradients of the scalars gamma and beta, each (..., 1, 1).
    """
    if mean_is_constant:
        dz = gamma * A * da
    else:
        dz = gamma * A * (da - da.mean(axis=-2, keepdims=True))
    # One axis at a time: the order of the sum, and so its last bit, is then the same with and without leading axes.
    dgamma = (da * normalized).sum(axis=-1, keepdims=True).sum(axis=-2, keepdims=True)
    return dz, dgamma, da.sum(axis=-1, keepdims=True).sum(axis=-2, keepdims=True)
