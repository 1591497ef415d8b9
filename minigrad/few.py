"""The steps of kernels.py on few samples, many of them in one call compiled by Numba.

There a call from Python costs as much as its work, and BLAS is slow. The calls are the same, and become rows
of a table that a loop goes through. Below, i is a sample, j a unit of layer q, `to` one of layer p.
"""

import numpy

from . import loops_numba as loops
from .loops_numba import compiled

RUN = 128  # rows of W that are summed in turn
CHUNK = 32  # steps whose samples are gathered at a time
MOST = 7  # matrices that a call has

FUNCTIONS = (
    loops.product, loops.pull, loops.pass_on, loops.update, loops.relu, loops.relu_backward,
    loops.batchnorm, loops.batchnorm_backward, loops.softmax_minus_target,
)
PRODUCT, PULL, PASS_ON, UPDATE, RELU, RELU_BACKWARD, BATCHNORM, BATCHNORM_BACKWARD, LOSS = range(9)


def takes(calls):
    """Whether it knows all of them."""
    return all(call.func in FUNCTIONS for call in calls)


def train(program, x, y, rows):
    """A step for every batch of rows (S, B)."""
    v, target, calls = program.at["v", 1], program.at["target"], table(program)
    for start in range(0, len(rows), CHUNK):
        some = rows[start : start + CHUNK]
        steps(program.memory, calls, v, target, x[some], y[some], *program.scalars)


def table(program):
    """A row for each call: which function, its flag, and for every matrix its start, rows and columns."""
    memory = program.memory
    found = numpy.zeros((len(program.calls), 2 + 3 * MOST), "int64")
    for row, call in zip(found, program.calls):
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
    """Eight rows of W at a time: with more, the compiler gives up on making sure that `room` is none of them.

    Sums of RUN rows are added up: one sum over all rows in turn would round more than BLAS does.
    """
    (B, n), d = v.shape, z.shape[1]
    if first:
        z[:] = 0
    for start in range(0, n, RUN):
        stop = min(start + RUN, n)
        eights = stop - (stop - start) % 8
        room[:] = 0
        for j in range(start, eights, 8):
            for i in range(B):
                v0, v1, v2, v3 = v[i, j], v[i, j + 1], v[i, j + 2], v[i, j + 3]
                v4, v5, v6, v7 = v[i, j + 4], v[i, j + 5], v[i, j + 6], v[i, j + 7]
                for to in range(d):
                    half = v0 * W[j, to] + v1 * W[j + 1, to] + v2 * W[j + 2, to] + v3 * W[j + 3, to]
                    other = v4 * W[j + 4, to] + v5 * W[j + 5, to] + v6 * W[j + 6, to] + v7 * W[j + 7, to]
                    room[i, to] += half + other
        for j in range(eights, stop):
            for i in range(B):
                for to in range(d):
                    room[i, to] += v[i, j] * W[j, to]
        z += room


@compiled
def pull(dv, U, W, first):
    """Four samples and two rows of W at a time; where fewer are left, the last one is taken again."""
    (B, d), n, zero = U.shape, len(W), W.dtype.type(0)
    if first:
        dv[:] = 0
    for i0 in range(0, B, 4):
        i1, i2, i3 = min(i0 + 1, B - 1), min(i0 + 2, B - 1), min(i0 + 3, B - 1)
        for j in range(0, n, 2):
            k = min(j + 1, n - 1)
            j0, j1, j2, j3, k0, k1, k2, k3 = zero, zero, zero, zero, zero, zero, zero, zero
            for to in range(d):
                j0 += U[i0, to] * W[j, to]
                j1 += U[i1, to] * W[j, to]
                j2 += U[i2, to] * W[j, to]
                j3 += U[i3, to] * W[j, to]
                k0 += U[i0, to] * W[k, to]
                k1 += U[i1, to] * W[k, to]
                k2 += U[i2, to] * W[k, to]
                k3 += U[i3, to] * W[k, to]
            # All are read before one is written: taken twice, an entry is still added to once.
            of_j = dv[i0, j] + j0, dv[i1, j] + j1, dv[i2, j] + j2, dv[i3, j] + j3
            of_k = dv[i0, k] + k0, dv[i1, k] + k1, dv[i2, k] + k2, dv[i3, k] + k3
            dv[i0, j], dv[i1, j], dv[i2, j], dv[i3, j] = of_j
            dv[i0, k], dv[i1, k], dv[i2, k], dv[i3, k] = of_k


@compiled
def matrix(memory, call, i):
    """The i-th matrix of a call."""
    start, rows, columns = call[2 + 3 * i], call[3 + 3 * i], call[4 + 3 * i]
    return memory[start : start + rows * columns].reshape(rows, columns)


def _update_of(few):
    """The step of W from so many samples, or from any number if 0: a constant lets the compiler unroll."""

    @compiled
    def update(W, velocity, v, U, eta, decay, momentum):
        B = few or len(v)
        for j in range(W.shape[0]):
            for to in range(W.shape[1]):
                total = momentum * velocity[j, to] + decay * W[j, to]
                for i in range(B):
                    total += v[i, j] * U[i, to]
                velocity[j, to] = total
                W[j, to] -= eta * total

    return update


update_of_4, update_of_8, update_of_any = _update_of(4), _update_of(8), _update_of(0)


@compiled
def steps(memory, table, v, target, x, y, eta, decay, momentum):
    """A step on x (S, B, n), y (S, B, k) after another."""
    for step in range(len(x)):
        v[:] = x[step]
        target[:] = y[step]
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
            elif function == UPDATE and len(v) == 4:
                update_of_4(m0, m1, m2, m3, eta, decay, momentum)
            elif function == UPDATE and len(v) == 8:
                update_of_8(m0, m1, m2, m3, eta, decay, momentum)
            elif function == UPDATE:
                update_of_any(m0, m1, m2, m3, eta, decay, momentum)
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
