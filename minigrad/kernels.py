"""train_epoch and predict for NumPy arrays, faster and smaller: reused buffers, and work in blocks that stay in the cache.

Nothing is explained here that layers.py, network.py and optim.py don't show; tests/test_kernels.py holds it to them. With
Numba (the extra "fast") the loops over entries are compiled. PATH names what computes, for a result's provenance.
"""

import functools

import numpy

from .backend import swap
from .layers import ACTIVATION, EPS
from .losses import LOSSES
from .network import Stats

try:
    import numba
except ImportError:
    numba = None

COMPILED = numba is not None and not numba.config.DISABLE_JIT
PATH = f"numba {numba.__version__}" if COMPILED else "numpy"
BLOCK = 1 << 18 if COMPILED else 1 << 16  # entries of W that are updated at a time, with their gradient
FEW = 8  # samples up to which a compiled update forms the gradient entry by entry as it goes, which BLAS does slower
SLICE = 1 << 10  # samples that are evaluated at a time
SMALL = 1 << 16  # entries of W up to which U W costs the same whichever of W's axes is contiguous


def applies(params, x, y, velocity=None, rows=None):
    """Whether what is here takes these: NumPy arrays of one precision, every matrix and its velocity laid out alike."""
    velocity = params if velocity is None else velocity
    return (
        all(type(a) is numpy.ndarray and a.dtype == x.dtype and a.dtype.kind == "f" and a.ndim > 1
            for a in (x, y, *params.values(), *velocity.values()))
        and all(_by_rows(W) is not None and _layout(W) == _layout(velocity[key]) for key, W in params.items())
        and x.ndim == 2
        and (rows is None or rows.size > 0 and 0 <= rows.min() and rows.max() < len(x))
    )


def train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, momentum):
    """As train.train_epoch. Runs stacked side by side are trained one after the other, each as it would be alone."""
    R = rows.shape[1:-1]
    for run in numpy.ndindex(R):
        alone = ({key: W[run] for key, W in stacked.items()} for stacked in (params, velocity))
        program = Program(graph, *alone, rows.shape[-1], loss)
        scalars = [numpy.broadcast_to(a, (*R, 1, 1))[run].item() for a in (eta, 2 * lam, momentum)]
        for batch in rows[(slice(None), *run)]:
            program.step(x, y, batch, *map(x.dtype.type, scalars))


def predict(graph, params, x, stats=None):
    """As network.predict, in slices of samples. Of runs stacked side by side each is computed as it would be alone."""
    R = params[graph.E_T[0]].shape[:-2]
    normalized = [p for p, layer in enumerate(graph.layers, start=1) if layer.batchnorm]
    f = numpy.empty((*R, len(x), graph.width(graph.L)), x.dtype)
    A, b = ({p: numpy.empty((*R, 1, graph.width(p)), x.dtype) for p in normalized} for _ in range(2))
    for mine, given in zip((A, b), stats or ()):
        for p in normalized:
            mine[p][:] = given[p]
    for run in numpy.ndindex(R):
        f[run] = _predict(graph, *({key: a[run] for key, a in stacked.items()} for stacked in (params, A, b)), x, stats is None)
    return f, stats or Stats(A, b)


def _predict(graph, params, A, b, x, own):
    """f of one network; `own` writes the statistics of x into A and b first."""
    v, slices = {1: x}, [slice(a, a + SLICE) for a in range(0, len(x), SLICE)]
    last_reader = {q: p for p in range(2, graph.L + 1) for q in graph.pred[p]}
    for p in range(2, graph.L + 1):
        layer, pred = graph.layers[p - 1], graph.pred[p]
        free = [v[q] for q in pred if q > 1 and last_reader[q] == p and graph.width(q) == layer.width]
        z = free[0] if free else numpy.empty((len(x), layer.width), x.dtype)
        for rows in slices:
            parts = (v[q][rows] @ params[p, q].T if (p, q) in params else v[q][rows] for q in pred)
            z[rows] = functools.reduce(numpy.add, parts)
        if layer.batchnorm and own:
            numpy.mean(z, axis=0, keepdims=True, out=b[p])
            squares = sum(numpy.square(z[rows] - b[p]).sum(axis=0) for rows in slices)
            A[p][:] = (squares / len(x) + EPS) ** -0.5
        for rows in slices:
            a = z[rows]
            if layer.batchnorm:
                a -= b[p]
                a *= params["gamma", p] * A[p]
                a += params["beta", p]
            if layer.activation == "relu":
                numpy.maximum(a, 0, out=a)
            elif layer.activation != "identity":
                a[:] = ACTIVATION[layer.activation][0](a)
        for q in pred:
            if last_reader[q] == p:
                del v[q]
        v[p] = z
    return v[graph.L]


class Program:
    """The SGD step of one network on B samples, in place in `params` and `velocity`, whose arrays must stay the same."""

    def __init__(self, graph, params, velocity, B, loss):
        self.graph, self.params, self.velocity, self.loss = graph, params, velocity, LOSSES[loss]
        self.descend = descend_by_few(B) if COMPILED and B <= FEW else descend_by_blas
        dtype, widths = params[graph.E_T[0]].dtype, [layer.width for layer in graph.layers]
        self.target = numpy.empty((B, widths[-1]), dtype)
        self.v, self.U, self.normalized, self.A, self.sums = {1: numpy.empty((B, widths[0]), dtype)}, {}, {}, {}, {}
        for p, width in enumerate(widths[1:], start=2):
            self.v[p], self.U[p] = (numpy.empty((B, width), dtype) for _ in range(2))
            if graph.layers[p - 1].batchnorm:
                self.normalized[p], self.sums[p] = numpy.empty((B, width), dtype), numpy.empty((3, width), dtype)
                self.A[p] = numpy.empty(width, dtype)
        self.room = [numpy.empty(max(BLOCK, B * max(widths), *widths), dtype) for _ in range(2)]
        self.blocks = {edge: list(self._blocks(*edge)) for edge in graph.E_T}

    def _blocks(self, p, q):
        """Rows of W (or of its transpose) and its velocity, the factors of their gradient, and room for that and one more."""
        W, V, left, right = _by_rows(self.params[p, q]), _by_rows(self.velocity[p, q]), self.U[p], self.v[q]
        if not self.params[p, q].flags.c_contiguous:
            left, right = right, left
        step = max(1, BLOCK // W.shape[1])
        for a in range(0, len(W), step):
            rows = slice(a, a + step)
            room = (buffer[: W[rows].size].reshape(W[rows].shape) for buffer in self.room)
            yield W[rows], V[rows], left[:, rows].T, right, *room

    def step(self, x, y, batch, eta, decay, momentum):
        """Forward, backward and update on the rows `batch` of x and y; decay is 2 lambda."""
        L, U = self.graph.L, self.U
        x.take(batch, axis=0, out=self.v[1], mode="clip")
        y.take(batch, axis=0, out=self.target, mode="clip")
        for p in range(2, L + 1):
            self._forward(p)
        U[L][:] = self.loss(self.v[L], self.target)[1]
        reached = {L}
        for p in range(L, 1, -1):
            if p not in reached:
                U[p][:] = 0
            self._backward(p, eta, momentum)
            for q in self.graph.pred[p]:
                if q > 1:
                    self._pull(p, q, q in reached)
                    reached.add(q)
                for block in self.blocks.get((p, q), ()):
                    self.descend(*block, eta, decay, momentum)

    def _forward(self, p):
        z = self.v[p]
        for i, q in enumerate(self.graph.pred[p]):
            out = z if i == 0 else self.room[0][: z.size].reshape(z.shape)
            W = self.params.get((p, q))
            from_q = self.v[q] if W is None else numpy.matmul(self.v[q], W.T, out=out)
            if i > 0:
                z += from_q
            elif W is None:
                z[:] = from_q
        layer = self.graph.layers[p - 1]
        if layer.batchnorm:
            gamma, beta = self.params["gamma", p], self.params["beta", p]
            normalize(z, gamma, beta, self.normalized[p], self.A[p], self.sums[p], self.U[p])
        if layer.activation == "relu":
            numpy.maximum(z, 0, out=z)
        elif layer.activation != "identity":
            z[:] = ACTIVATION[layer.activation][0](z)

    def _backward(self, p, eta, momentum):
        """From the cotangent of v_p in U[p] to that of z_p, and the step of gamma and beta."""
        U, layer = self.U[p], self.graph.layers[p - 1]
        if layer.activation == "relu":
            switch(U, self.v[p])
        elif layer.activation != "identity":
            U[:] = ACTIVATION[layer.activation][1](U, self.v[p])
        if layer.batchnorm:
            scales = (d[name, p] for name in ("gamma", "beta") for d in (self.params, self.velocity))
            unnormalize(U, *scales, self.normalized[p], self.A[p], self.sums[p], layer.detached, eta, momentum)

    def _pull(self, p, q, add):
        """Put, or add, the cotangent that layer q gets from layer p into U[q]."""
        W, U = self.params.get((p, q)), self.U[p]
        if W is None:
            from_p = U
        elif W.flags.c_contiguous or W.size <= SMALL:
            from_p = numpy.matmul(U, W, out=self.room[0][: self.U[q].size].reshape(self.U[q].shape) if add else self.U[q])
        else:
            from_p = numpy.matmul(W.T, U.T, out=self.room[0][: self.U[q].size].reshape(self.U[q].shape[::-1])).T
        if add:
            self.U[q] += from_p
        elif from_p is not self.U[q]:
            self.U[q][:] = from_p


def _by_rows(W):
    """W or its transpose, whichever has its rows one after the other in memory; None if neither has."""
    for view in (W, swap(W)):
        if view[(0,) * (view.ndim - 2)].flags.c_contiguous:
            return view
    return None


def _layout(W):
    """The strides of the axes longer than 1; NumPy gives the others any."""
    return [(size, stride) for size, stride in zip(W.shape, W.strides) if size > 1]


def descend_by_blas(W, V, left, right, gradient, room, eta, decay, momentum):
    descend(W, V, numpy.matmul(left, right, out=gradient), room, eta, decay, momentum)


if COMPILED:
    # As IEEE says but for the order of sums: NaN and infinity stay what they are.
    compiled = numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})

    @compiled
    def descend(W, V, gradient, room, eta, decay, momentum):
        w, s, g = W.ravel(), V.ravel(), gradient.ravel()
        for i in range(w.size):
            s[i] = momentum * s[i] + g[i] + decay * w[i]
            w[i] -= eta * s[i]

    @functools.cache
    def descend_by_few(B):
        """The same with the sum over samples inside; B, a constant for the compiler, lets it unroll that sum."""

        @compiled
        def descend(W, V, left, right, gradient, room, eta, decay, momentum):
            for i in range(W.shape[0]):
                for j in range(W.shape[1]):
                    s = momentum * V[i, j] + decay * W[i, j]
                    for b in range(B):
                        s += left[i, b] * right[b, j]
                    V[i, j] = s
                    W[i, j] -= eta * s

        return descend

    @compiled
    def switch(U, v):
        u, on = U.ravel(), v.ravel()
        for i in range(u.size):
            u[i] *= on[i] > 0

    @compiled
    def normalize(z, gamma, beta, normalized, A, sums, room):
        B, d = z.shape
        b, g, shift = sums[0], sums[1], sums[2]  # unpacked, they would lose their layout, and sums their order
        g[:] = gamma[0]  # one scalar for all units, or one each
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
                z[i, j] = g[j] * normalized[i, j] + shift[j]

    @compiled
    def unnormalize(U, gamma, gamma_velocity, beta, beta_velocity, normalized, A, sums, detached, eta, momentum):
        B, d = U.shape
        total, product, scale = sums[0], sums[1], sums[2]
        scale[:] = gamma[0]
        total[:] = 0
        product[:] = 0
        for i in range(B):
            for j in range(d):
                total[j] += U[i, j]
                product[j] += U[i, j] * normalized[i, j]
        descend_scale(gamma, gamma_velocity, product, eta, momentum)
        descend_scale(beta, beta_velocity, total, eta, momentum)
        for j in range(d):
            total[j] /= B
            product[j] /= B
            scale[j] *= A[j]
        if detached:
            for i in range(B):
                for j in range(d):
                    U[i, j] = scale[j] * (U[i, j] - total[j])
        else:
            for i in range(B):
                for j in range(d):
                    U[i, j] = scale[j] * (U[i, j] - total[j] - normalized[i, j] * product[j])

    @compiled
    def descend_scale(gamma, velocity, by_unit, eta, momentum):
        """The step of one scalar for all units, whose gradient is the sum of theirs, or of one each."""
        if gamma.shape[1] == 1:
            velocity[0, 0] = momentum * velocity[0, 0] + by_unit.sum()
        else:
            for j in range(by_unit.size):
                velocity[0, j] = momentum * velocity[0, j] + by_unit[j]
        for j in range(gamma.shape[1]):
            gamma[0, j] -= eta * velocity[0, j]

else:

    def descend(W, V, gradient, room, eta, decay, momentum):
        V *= momentum
        V += gradient
        V += numpy.multiply(W, decay, out=room)
        W -= numpy.multiply(V, eta, out=room)

    def switch(U, v):
        U *= v > 0

    def normalize(z, gamma, beta, normalized, A, sums, room):
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

    def unnormalize(U, gamma, gamma_velocity, beta, beta_velocity, normalized, A, sums, detached, eta, momentum):
        total, product, scale = sums[0], sums[1], sums[2]
        scalar = gamma.shape[1] == 1
        numpy.add.reduce(U, axis=0, out=total)
        if not (scalar and detached):
            numpy.einsum("ij,ij->j", U, normalized, out=product)
        dgamma = numpy.vdot(U, normalized) if scalar else product  # one pass at the speed of BLAS, where it is enough
        dbeta = total.sum() if scalar else total
        numpy.multiply(A, gamma[0], out=scale)
        for value, velocity, gradient in ((gamma, gamma_velocity, dgamma), (beta, beta_velocity, dbeta)):
            velocity *= momentum
            velocity += gradient
            value -= eta * velocity
        total /= len(U)
        U -= total
        if not detached:
            product /= len(U)
            normalized *= product  # nothing reads it after this
            U -= normalized
        U *= scale
