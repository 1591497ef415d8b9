"""The loops of kernels.py compiled by Numba: what loops_numpy.py has, under the same names."""

import functools

import numba
import numpy

from .layers import EPS

BLOCK = 1 << 18  # entries of W that are updated at a time, with their gradient
FEW = 8  # samples up to which sgd_step_by_few is faster than sgd_step: BLAS is slow at few

# As IEEE says but for the order of sums: NaN and infinity stay what they are.
compiled = numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


def sgd_step(W, velocity, left, right, gradient, room, eta, decay, momentum):
    _sgd_step(W, velocity, numpy.matmul(left, right, out=gradient), eta, decay, momentum)


@compiled
def _sgd_step(W, velocity, gradient, eta, decay, momentum):
    W, velocity, gradient = W.ravel(), velocity.ravel(), gradient.ravel()
    for i in range(W.size):
        velocity[i] = momentum * velocity[i] + gradient[i] + decay * W[i]
        W[i] -= eta * velocity[i]


@functools.cache
def sgd_step_by_few(B):
    """sgd_step with the sum over samples inside; B, a constant for the compiler, lets it unroll that sum."""

    @compiled
    def step(W, velocity, left, right, gradient, room, eta, decay, momentum):
        for i in range(W.shape[0]):
            for j in range(W.shape[1]):
                total = momentum * velocity[i, j] + decay * W[i, j]
                for b in range(B):
                    total += left[i, b] * right[b, j]
                velocity[i, j] = total
                W[i, j] -= eta * total

    return step


@compiled
def relu_backward(dv, v):
    dv, v = dv.ravel(), v.ravel()
    for i in range(dv.size):
        dv[i] *= v[i] > 0


@compiled
def batchnorm(z, gamma, beta, normalized, A, sums, room):
    B, d = z.shape
    b, scale, shift = sums[0], sums[1], sums[2]  # unpacking loses their layout, and changes the order of sums
    scale[:] = gamma[0]  # one scalar for all units, or one each
    shift[:] = beta[0]
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
    da, gamma, gamma_velocity, beta, beta_velocity, normalized, A, sums, detached, eta, momentum
):
    B, d = da.shape
    total, product, scale = sums[0], sums[1], sums[2]
    scale[:] = gamma[0]
    total[:] = 0
    product[:] = 0
    for i in range(B):
        for j in range(d):
            total[j] += da[i, j]
            product[j] += da[i, j] * normalized[i, j]
    _sgd_step_of_scale(gamma, gamma_velocity, product, eta, momentum)
    _sgd_step_of_scale(beta, beta_velocity, total, eta, momentum)
    for j in range(d):
        total[j] /= B
        product[j] /= B
        scale[j] *= A[j]
    if detached:
        for i in range(B):
            for j in range(d):
                da[i, j] = scale[j] * (da[i, j] - total[j])
    else:
        for i in range(B):
            for j in range(d):
                da[i, j] = scale[j] * (da[i, j] - total[j] - normalized[i, j] * product[j])


@compiled
def _sgd_step_of_scale(gamma, velocity, by_unit, eta, momentum):
    """The step of one scalar for all units, whose gradient is the sum of theirs, or of one each."""
    whole = by_unit.sum()
    for j in range(gamma.shape[1]):
        velocity[0, j] = momentum * velocity[0, j] + (whole if gamma.shape[1] == 1 else by_unit[j])
        gamma[0, j] -= eta * velocity[0, j]
