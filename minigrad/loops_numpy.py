"""The loops of kernels.py by NumPy alone: rules of layers.py and optim.py, in place.

v, z, U, da, `normalized` and room are (B, d); W is (d_q, d_p) and gamma (1, 1) or (d, 1), transposed; `sums`
is (4, d), room but for its last row, which is A. What a matrix holds is overwritten where `first`, else added
to.
"""

import numpy

from .layers import EPS

BLOCK = 1 << 16  # entries of W that are updated at a time, with their gradient
FEW = ()  # samples for which few.py is faster: none
LOSSES = {}  # rules of losses.py that are faster here


def product(z, v, W, room, first):
    """W v, as rows."""
    if first:
        numpy.matmul(v, W, out=z)
    else:
        z += numpy.matmul(v, W, out=room)


def pull(dv, U, W, room, first):
    """W^T U, as rows: what layer q gets from layer p."""
    if by_columns(U, W):
        pass_on(dv, numpy.matmul(W, U.T, out=room.reshape(room.shape[::-1])).T, first)
    else:
        product(dv, U, W.T, room, first)


def by_columns(U, W):
    """Whether BLAS is faster at W^T U than at its transpose, as was measured."""
    return W.size > 1 << 16 or 8 < len(U) <= 32


def pass_on(to, source, first):
    """What goes over a constant edge."""
    if first:
        to[:] = source
    else:
        to += source


def update(W, velocity, v, U, gradient, room, eta, decay, momentum):
    """The step of W, where the loss has the gradient U v^T; `gradient` and `room` are shaped as W."""
    velocity *= momentum
    velocity += numpy.matmul(v.T, U, out=gradient)
    velocity += numpy.multiply(W, decay, out=room)
    W -= numpy.multiply(velocity, eta, out=room)


def relu(z):
    """z becomes v."""
    numpy.maximum(z, 0, out=z)


def relu_backward(dv, v):
    """dv becomes da."""
    dv *= v > 0


def batchnorm(z, gamma, beta, normalized, sums):
    """z becomes a; A and `normalized` are computed."""
    b, A = sums[0], sums[3]
    numpy.add.reduce(z, axis=0, out=b)
    b /= len(z)
    numpy.subtract(z, b, out=normalized)
    numpy.multiply(normalized, normalized, out=z)
    numpy.add.reduce(z, axis=0, out=A)
    A /= len(z)
    A += EPS
    numpy.sqrt(A, out=A)
    numpy.divide(1, A, out=A)
    normalized *= A
    numpy.multiply(normalized, gamma.T, out=z)
    z += beta.T


def batchnorm_backward(
    da, gamma, gamma_velocity, beta, beta_velocity, normalized, sums, detached, eta, momentum
):
    """da becomes dz, and gamma and beta take their step."""
    total, product, scale, A = sums
    scalar = len(gamma) == 1
    numpy.add.reduce(da, axis=0, out=total)
    if not (scalar and detached):
        numpy.einsum("ij,ij->j", da, normalized, out=product)
    dgamma = numpy.vdot(da, normalized) if scalar else product[:, None]  # BLAS's one pass, where it is enough
    dbeta = total.sum() if scalar else total[:, None]
    numpy.multiply(A, gamma[:, 0], out=scale)
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
