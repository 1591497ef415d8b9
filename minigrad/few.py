"""Calls of kernels.py on 4 or 8 samples, joined into one that Numba compiles.

There a call from Python costs as much as its work, and BLAS is slow. Calls that follow one another become
rows of a table that a loop goes through. Below, i is a sample, j a unit of layer q, `to` one of layer p.
"""

from functools import partial
from itertools import groupby

import numpy

from . import loops_numba as loops
from .loops_numba import compiled

RUN = 128  # rows of W that are summed in turn
MOST = 7  # matrices that a call has

FUNCTIONS = (
    loops.product, loops.pull, loops.pass_on, loops.update, loops.relu, loops.relu_backward,
    loops.batchnorm, loops.batchnorm_backward, loops.softmax_minus_target,
)
PRODUCT, PULL, PASS_ON, UPDATE, RELU, RELU_BACKWARD, BATCHNORM, BATCHNORM_BACKWARD, LOSS = range(9)


def joined(calls, memory, *scalars):
    """The same calls, with one in place of those that stand side by side and are known here."""
    found = []
    for is_known, group in groupby(calls, lambda call: call.func in FUNCTIONS):
        found += [partial(run, memory, table(list(group), memory), *scalars)] if is_known else group
    return found


def table(calls, memory):
    """A row for each call: which function, its flag, and for every matrix its start, rows and columns."""
    found = numpy.zeros((len(calls), 2 + 3 * MOST), "int64")
    for row, call in zip(found, calls):
        matrices = [a for a in call.args if isinstance(a, numpy.ndarray)][:MOST]
        flags = [a for a in call.args if isinstance(a, bool)]
        row[0] = FUNCTIONS.index(call.func)
        row[1] = any(flags)
        for i, a in enumerate(matrices):
            start = (a.ctypes.data - memory.ctypes.data) // memory.itemsize
            row[2 + 3 * i : 5 + 3 * i] = start, *a.shape
    return found


@compiled
def product(z, v, W, room, first):
    """Two samples and four rows of W at a time.

    Sums of RUN rows are added up: one sum over all rows in turn would round more than BLAS does.
    """
    (B, n), d = v.shape, z.shape[1]
    if first:
        z[:] = 0
    for start in range(0, n, RUN):
        stop = min(start + RUN, n)
        fours = stop - (stop - start) % 4
        room[:] = 0
        for j in range(start, fours, 4):
            for i in range(0, B, 2):
                a, b = v[i], v[i + 1]
                a0, a1, a2, a3 = a[j], a[j + 1], a[j + 2], a[j + 3]
                b0, b1, b2, b3 = b[j], b[j + 1], b[j + 2], b[j + 3]
                for to in range(d):
                    w0, w1, w2, w3 = W[j, to], W[j + 1, to], W[j + 2, to], W[j + 3, to]
                    room[i, to] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
                    room[i + 1, to] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3
        for j in range(fours, stop):
            for i in range(B):
                for to in range(d):
                    room[i, to] += v[i, j] * W[j, to]
        z += room


@compiled
def pull(dv, U, W, first):
    """Four samples at a time."""
    (B, d), n, zero = U.shape, len(W), W.dtype.type(0)
    if first:
        dv[:] = 0
    for i in range(0, B, 4):
        for j in range(n):
            s0, s1, s2, s3 = zero, zero, zero, zero
            for to in range(d):
                s0 += U[i, to] * W[j, to]
                s1 += U[i + 1, to] * W[j, to]
                s2 += U[i + 2, to] * W[j, to]
                s3 += U[i + 3, to] * W[j, to]
            dv[i, j] += s0
            dv[i + 1, j] += s1
            dv[i + 2, j] += s2
            dv[i + 3, j] += s3


@compiled
def matrix(memory, call, i):
    """The i-th matrix of a call."""
    start, rows, columns = call[2 + 3 * i], call[3 + 3 * i], call[4 + 3 * i]
    return memory[start : start + rows * columns].reshape(rows, columns)


def _update_of(B):
    """The step of W from so many samples: a constant, so that the compiler unrolls."""

    @compiled
    def update(W, velocity, v, U, eta, decay, momentum):
        for j in range(W.shape[0]):
            for to in range(W.shape[1]):
                total = momentum * velocity[j, to] + decay * W[j, to]
                for i in range(B):
                    total += v[i, j] * U[i, to]
                velocity[j, to] = total
                W[j, to] -= eta * total

    return update


update_of_4, update_of_8 = _update_of(4), _update_of(8)


@compiled
def run(memory, table, eta, decay, momentum):
    """One call after another."""
    for call in table:
        function, flag = call[0], call[1] != 0
        m0, m1, m2 = matrix(memory, call, 0), matrix(memory, call, 1), matrix(memory, call, 2)
        m3, m4 = matrix(memory, call, 3), matrix(memory, call, 4)
        m5, m6 = matrix(memory, call, 5), matrix(memory, call, 6)
        if function == PRODUCT:
            product(m0, m1, m2, m3, flag)
        elif function == PULL:
            pull(m0, m1, m2, flag)
        elif function == PASS_ON and flag:
            m0[:] = m1
        elif function == PASS_ON:
            m0 += m1
        elif function == UPDATE and len(m2) == 4:
            update_of_4(m0, m1, m2, m3, eta, decay, momentum)
        elif function == UPDATE:
            update_of_8(m0, m1, m2, m3, eta, decay, momentum)
        elif function == RELU:
            loops.relu(m0)
        elif function == RELU_BACKWARD:
            loops.relu_backward(m0, m1)
        elif function == BATCHNORM:
            loops.batchnorm(m0, m1, m2, m3, m4)
        elif function == BATCHNORM_BACKWARD:
            loops.batchnorm_backward(m0, m1, m2, m3, m4, m5, m6, flag, eta, momentum)
        elif function == LOSS:
            loops.softmax_minus_target(m0, m1, m2)
