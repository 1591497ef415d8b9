"""The operations of a training step, compiled by Numba, and the loop that runs a table of them.

Every matrix lies in one flat array, in C order. Samples are rows, as in layers.py. Parameters,
their velocities and gradients are transposed: W is (d_q, d_p), gamma (d_p, 1) or (1, 1). i is a
sample, j a unit of layer q, `to` one of layer p. EPS and the like are arguments, because Numba
freezes globals. Scalars have the matrices' dtype: a float64 doubles the time.
"""

import numba
import numpy

FEW = (4, 8)  # batch sizes whose products are faster compiled here than by BLAS
CHUNK = 128  # rows of W that are summed in turn: one sum over all would round more than BLAS
MATRICES = 5  # of an operation, at most

# The operations that run knows.
MATMUL, MATMUL_BACKWARD, DESCEND_FEW, DESCEND, RELU, RELU_BACKWARD = range(6)
BATCHNORM, BATCHNORM_BACKWARD, CROSS_ENTROPY = range(6, 9)

# IEEE arithmetic but for the order of sums: NaN and infinity stay what they are.
compiled = numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


@compiled
def matmul(z, v, W):
    """z = W v, two samples and four rows of W at a time; d_q is a multiple of four."""
    z[:] = 0
    part = numpy.empty_like(z)
    for start in range(0, len(W), CHUNK):
        part[:] = 0
        for j in range(start, min(start + CHUNK, len(W)), 4):
            for i in range(0, len(v), 2):
                a0, a1, a2, a3 = v[i, j], v[i, j + 1], v[i, j + 2], v[i, j + 3]
                b0, b1, b2, b3 = v[i + 1, j], v[i + 1, j + 1], v[i + 1, j + 2], v[i + 1, j + 3]
                for to in range(z.shape[1]):
                    w0, w1, w2, w3 = W[j, to], W[j + 1, to], W[j + 2, to], W[j + 3, to]
                    part[i, to] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
                    part[i + 1, to] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3
        z += part


@compiled
def matmul_backward(dv, U, W):
    """dv = W^T U, four samples and two rows of W at a time; d_q is even."""
    for i in range(0, len(U), 4):
        for j in range(0, len(W), 2):
            zero = W.dtype.type(0)
            a0, a1, a2, a3 = zero, zero, zero, zero
            b0, b1, b2, b3 = zero, zero, zero, zero
            for to in range(W.shape[1]):
                a, b = W[j, to], W[j + 1, to]
                a0, b0 = a0 + U[i, to] * a, b0 + U[i, to] * b
                a1, b1 = a1 + U[i + 1, to] * a, b1 + U[i + 1, to] * b
                a2, b2 = a2 + U[i + 2, to] * a, b2 + U[i + 2, to] * b
                a3, b3 = a3 + U[i + 3, to] * a, b3 + U[i + 3, to] * b
            dv[i, j], dv[i + 1, j], dv[i + 2, j], dv[i + 3, j] = a0, a1, a2, a3
            dv[i, j + 1], dv[i + 1, j + 1], dv[i + 2, j + 1], dv[i + 3, j + 1] = b0, b1, b2, b3


@compiled
def descend_few(W, velocity, v, U, eta, decay, momentum):
    """The step of W on four or eight samples: loops of constant length are unrolled."""
    are_eight = len(v) == 8
    for j in range(W.shape[0]):
        for to in range(W.shape[1]):
            total = momentum * velocity[j, to] + decay * W[j, to]
            for i in range(4):
                total += v[i, j] * U[i, to]
            if are_eight:
                for i in range(4, 8):
                    total += v[i, j] * U[i, to]
            velocity[j, to] = total
            W[j, to] -= eta * total


@compiled
def descend(W, velocity, gradient, eta, decay, momentum):
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
    dv, v, zero, one = dv.ravel(), v.ravel(), v.dtype.type(0), v.dtype.type(1)
    for i in range(dv.size):
        dv[i] *= one if v[i] > zero else zero


@compiled
def batchnorm(z, gamma, beta, normalized, units, eps):
    """z becomes gamma n + beta; A is kept in a row of `units`."""
    (B, d), one = z.shape, z.dtype.type(1)
    share = one / z.dtype.type(B)
    scale, shift, b, A = units[0], units[1], units[2], units[3]  # unpacking would lose their layout
    scale[:] = gamma[:, 0]  # one scalar for all units, or one each
    shift[:] = beta[:, 0]
    units[2:4] = 0
    for i in range(B):
        for j in range(d):
            b[j] += z[i, j]
    b *= share
    for i in range(B):
        for j in range(d):
            normalized[i, j] = z[i, j] - b[j]
            A[j] += normalized[i, j] * normalized[i, j]
    A[:] = one / numpy.sqrt(A * share + eps)
    for i in range(B):
        for j in range(d):
            normalized[i, j] *= A[j]
            z[i, j] = scale[j] * normalized[i, j] + shift[j]


@compiled
def batchnorm_backward(da, gamma, normalized, units, detached):
    """da becomes dz; the first two rows of `units` become the gradients of beta and gamma."""
    (B, d), zero, one = da.shape, da.dtype.type(0), da.dtype.type(1)
    share = one / da.dtype.type(B)
    dbeta, dgamma, scale, A = units[0], units[1], units[2], units[3]
    through_b, through_A = units[4], units[5]
    scale[:] = gamma[:, 0]
    units[:2] = 0
    for i in range(B):
        for j in range(d):
            dbeta[j] += da[i, j]
            dgamma[j] += da[i, j] * normalized[i, j]
    through_b[:] = dbeta * share
    through_A[:] = dgamma * (zero if detached else share)
    scale *= A
    if len(gamma) == 1:
        dbeta[0], dgamma[0] = dbeta.sum(), dgamma.sum()
    for i in range(B):
        for j in range(d):
            da[i, j] = scale[j] * (da[i, j] - through_b[j] - normalized[i, j] * through_A[j])


@compiled
def cross_entropy(df, f, y):
    (B, k), samples = f.shape, f.dtype.type(len(f))
    for i in range(B):
        largest = f[i].max()
        total = largest - largest  # NaN where that is not finite, as in losses.py
        for j in range(k):
            df[i, j] = numpy.exp(f[i, j] - largest)
            total += df[i, j]
        for j in range(k):
            df[i, j] = (df[i, j] / total - y[i, j]) / samples


@compiled
def matrix(memory, row, i):
    """The i-th matrix of an operation: its start and shape stand in the row."""
    start, rows, columns = row[2 + 3 * i], row[3 + 3 * i], row[4 + 3 * i]
    return memory[start : start + rows * columns].reshape(rows, columns)


@compiled
def run(memory, table, scalars):
    """Run the table: each row is an operation, a flag, and start and shape of its matrices."""
    eta, decay, momentum, eps = scalars[0], scalars[1], scalars[2], scalars[3]
    for row in table:
        operation, flag = row[0], row[1] != 0
        m0, m1 = matrix(memory, row, 0), matrix(memory, row, 1)
        m2, m3 = matrix(memory, row, 2), matrix(memory, row, 3)
        if operation == RELU:
            relu(m0)
        elif operation == RELU_BACKWARD:
            relu_backward(m0, m1)
        elif operation == MATMUL:
            matmul(m0, m1, m2)
        elif operation == MATMUL_BACKWARD:
            matmul_backward(m0, m1, m2)
        elif operation == DESCEND_FEW:
            descend_few(m0, m1, m2, m3, eta, decay, momentum)
        elif operation == DESCEND:
            descend(m0, m1, m2, eta, decay if flag else scalars.dtype.type(0), momentum)
        elif operation == CROSS_ENTROPY:
            cross_entropy(m0, m1, m2)
        elif operation == BATCHNORM:
            batchnorm(m0, m1, m2, m3, matrix(memory, row, 4), eps)
        elif operation == BATCHNORM_BACKWARD:
            batchnorm_backward(m0, m1, m2, m3, flag)
