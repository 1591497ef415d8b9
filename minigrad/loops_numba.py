"""The loops of kernels.py compiled by Numba: what loops_numpy.py has, under the same names."""

import hashlib
from pathlib import Path

import numba
import numpy

from .layers import EPS
from .losses import cross_entropy
from .loops_numpy import pass_on, product, pull  # BLAS has them

BLOCK = 1 << 19  # entries of W that are updated at a time, with their gradient
FEW = (4, 8)  # samples for which few.py is faster; it takes no others

SOURCES = [Path(__file__).with_name(name) for name in ("layers.py", "loops_numba.py", "few.py")]
VERSION = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()[:8]


def compiled(rule):
    """As IEEE says but for the order of sums: NaN and infinity stay what they are."""
    # Numba looks for it on disk by its name, and compiles anew when its own file changes, not another's.
    rule.__qualname__ += f"_{VERSION}"
    return numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})(rule)


def update(W, velocity, v, U, gradient, room, eta, decay, momentum):
    _update(W, velocity, numpy.matmul(v.T, U, out=gradient), eta, decay, momentum)


@compiled
def _update(W, velocity, gradient, eta, decay, momentum):
    W, velocity, gradient = W.ravel(), velocity.ravel(), gradient.ravel()
    for i in range(W.size):
        velocity[i] = momentum * velocity[i] + gradient[i] + decay * W[i]
        W[i] -= eta * velocity[i]


@compiled
def relu(z):
    z, zero = z.ravel(), z.dtype.type(0)
    for i in range(z.size):
        z[i] = zero if z[i] < zero else z[i]  # NaN stays


@compiled
def relu_backward(dv, v):
    dv, v = dv.ravel(), v.ravel()
    for i in range(dv.size):
        dv[i] *= v[i] > 0


@compiled
def batchnorm(z, gamma, beta, normalized, sums):
    B, d = z.shape
    b, scale, shift, A = sums[0], sums[1], sums[2], sums[3]  # unpacking would lose their layout
    scale[:] = gamma[:, 0]  # one scalar for all units, or one each
    shift[:] = beta[:, 0]
    b[:] = 0
    A[:] = 0
    for i in range(B):
        for j in range(d):
            b[j] += z[i, j]
    for j in range(d):
        b[j] /= B
    for i in range(B):
        for j in range(d):
            normalized[i, j] = z[i, j] - b[j]
            A[j] += normalized[i, j] * normalized[i, j]
    for j in range(d):
        A[j] = 1 / numpy.sqrt(A[j] / B + EPS)
    for i in range(B):
        for j in range(d):
            normalized[i, j] *= A[j]
            z[i, j] = scale[j] * normalized[i, j] + shift[j]


@compiled
def batchnorm_backward(
    da, gamma, gamma_velocity, beta, beta_velocity, normalized, sums, detached, eta, momentum
):
    B, d = da.shape
    total, product, scale, A = sums[0], sums[1], sums[2], sums[3]
    scale[:] = gamma[:, 0]
    total[:] = 0
    product[:] = 0
    for i in range(B):
        for j in range(d):
            total[j] += da[i, j]
            product[j] += da[i, j] * normalized[i, j]
    _update_scale(gamma, gamma_velocity, product, eta, momentum)
    _update_scale(beta, beta_velocity, total, eta, momentum)
    for j in range(d):
        total[j] /= B
        product[j] *= (not detached) / B
        scale[j] *= A[j]
    for i in range(B):
        for j in range(d):
            da[i, j] = scale[j] * (da[i, j] - total[j] - normalized[i, j] * product[j])


@compiled
def _update_scale(gamma, velocity, by_unit, eta, momentum):
    """The step of one scalar for all units, whose gradient is the sum of theirs, or of one each."""
    whole = by_unit.sum()
    for j in range(len(gamma)):
        velocity[j, 0] = momentum * velocity[j, 0] + (whole if len(gamma) == 1 else by_unit[j])
        gamma[j, 0] -= eta * velocity[j, 0]


@compiled
def softmax_minus_target(df, f, y):
    """The cotangent of the cross-entropy."""
    B, k = f.shape
    for i in range(B):
        largest = f[i].max()
        total = largest - largest  # NaN where that is not finite, as in losses.py
        for j in range(k):
            df[i, j] = numpy.exp(f[i, j] - largest)
            total += df[i, j]
        for j in range(k):
            df[i, j] = (df[i, j] / total - y[i, j]) / B


LOSSES = {cross_entropy.rule: softmax_minus_target}
