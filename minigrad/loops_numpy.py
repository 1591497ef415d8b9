"""The loops of kernels.py by NumPy alone: rules of layers.py and optim.py, in place.

z, da, dv, v, `normalized` are (B, d), A is (d,), `sums` (3, d) is room; gamma and beta are as in layers.py.
"""

import numpy

from .layers import EPS

BLOCK = 1 << 16  # entries of W that are updated at a time, with their gradient
FEW = 0  # samples up to which something is faster than sgd_step


def sgd_step(W, velocity, left, right, gradient, room, eta, decay, momentum):
    """The step of W where the loss has the gradient left @ right; `gradient` and `room` are shaped as W."""
    velocity *= momentum
    velocity += numpy.matmul(left, right, out=gradient)
    velocity += numpy.multiply(W, decay, out=room)
    W -= numpy.multiply(velocity, eta, out=room)


def relu_backward(dv, v):
    """dv becomes da."""
    dv *= v > 0


def batchnorm(z, gamma, beta, normalized, A, sums, room):
    """z becomes a; A and `normalized` are computed. room is (B, d)."""
    b = numpy.add.reduce(z, axis=0, out=sums[0])
    b /= len(z)
    numpy.subtract(z, b, out=normalized)
    numpy.multiply(normalized, normalized, out=room)
    numpy.add.reduce(room, axis=0, out=A)
    A /= len(z)
    A += EPS
    numpy.sqrt(A, out=A)
    numpy.divide(1, A, out=A)
    normalized *= A
    numpy.multiply(normalized, gamma, out=z)
    z += beta


def batchnorm_backward(
    da, gamma, gamma_velocity, beta, beta_velocity, normalized, A, sums, detached, eta, momentum
):
    """da becomes dz, and gamma and beta take their step."""
    total, product, scale = sums[0], sums[1], sums[2]
    scalar = gamma.shape[1] == 1
    numpy.add.reduce(da, axis=0, out=total)
    if not (scalar and detached):
        numpy.einsum("ij,ij->j", da, normalized, out=product)
    dgamma = numpy.vdot(da, normalized) if scalar else product  # BLAS's one pass, where it is enough
    dbeta = total.sum() if scalar else total
    numpy.multiply(A, gamma[0], out=scale)
    for value, velocity, gradient in ((gamma, gamma_velocity, dgamma), (beta, beta_velocity, dbeta)):
        velocity *= momentum
        velocity += gradient
        value -= eta * velocity
    total /= len(da)
    da -= total
    if not detached:
        product /= len(da)
        normalized *= product  # nothing reads it after this
        da -= normalized
    da *= scale
