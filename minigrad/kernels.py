"""train_epoch for NumPy arrays, faster: reused buffers, and updates in blocks that stay in the cache.

Nothing is explained here that layers.py, network.py and optim.py don't show; tests/test_kernels.py holds it
to them. The loops over entries are Numba's (the extra "fast") or NumPy's: PATH says which, for provenance.
"""

from typing import NamedTuple

import numpy

from .layers import ACTIVATION
from .losses import rule_of

try:
    import numba
except ImportError:
    numba = None

COMPILED = numba is not None and not numba.config.DISABLE_JIT
PATH = f"numba {numba.__version__}" if COMPILED else "numpy"
if COMPILED:
    from . import loops_numba as LOOPS
else:
    from . import loops_numpy as LOOPS

SMALL = 1 << 16  # entries of W up to which U W costs the same whichever of W's axes is contiguous


def applies(params, x, y, velocity=None, rows=None):
    """Whether this takes them: NumPy arrays of one precision, a matrix and its velocity laid out alike."""
    velocity = params if velocity is None else velocity
    for a in (x, y, *params.values(), *velocity.values()):
        if type(a) is not numpy.ndarray or a.dtype != x.dtype or a.dtype.kind != "f" or a.ndim < 2:
            return False
    for key, W in params.items():
        if _order(W) is None or _order(W) != _order(velocity[key]):
            return False
    known = rows is None or (rows.size > 0 and 0 <= rows.min() and rows.max() < len(x))
    return x.ndim == 2 and known


def _order(W):
    """In which order, "C" or "F", each matrix of a stack lies in memory; None if in neither."""
    flags = W[(0,) * (W.ndim - 2)].flags
    if flags.c_contiguous:
        return "C"
    return "F" if flags.f_contiguous else None


def train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, momentum, loops=LOOPS):
    """As train.train_epoch. Runs stacked side by side are trained in turn, each as it would be alone."""
    R = rows.shape[1:-1]
    for run in numpy.ndindex(R):
        its_params = {key: W[run] for key, W in params.items()}
        its_velocity = {key: a[run] for key, a in velocity.items()}
        program = Program(graph, its_params, its_velocity, rows.shape[-1], loss, loops)
        scalars = [numpy.broadcast_to(a, (*R, 1, 1))[run].item() for a in (eta, 2 * lam, momentum)]
        scalars = [x.dtype.type(a) for a in scalars]
        for batch in rows[(slice(None), *run)]:
            program.step(x, y, batch, *scalars)


class Block(NamedTuple):
    """What one call of sgd_step takes: rows of W, or of its transpose, whose gradient is left @ right."""

    W: numpy.ndarray
    velocity: numpy.ndarray
    left: numpy.ndarray  # U or V, of which a column belongs to each row; transposed
    right: numpy.ndarray  # the other
    gradient: numpy.ndarray  # room for it
    room: numpy.ndarray  # as much again


class Program:
    """The SGD step of one network on B samples, always in the arrays that params and velocity hold now."""

    def __init__(self, graph, params, velocity, B, loss, loops):
        self.graph, self.params, self.velocity, self.loops = graph, params, velocity, loops
        self.loss = rule_of(loss)
        self.sgd_step = loops.sgd_step_by_few(B) if B <= loops.FEW else loops.sgd_step
        dtype, widths = params[graph.E_T[0]].dtype, [layer.width for layer in graph.layers]
        self.target = numpy.empty((B, widths[-1]), dtype)
        self.v, self.U, self.normalized, self.A, self.sums = {}, {}, {}, {}, {}
        for p, layer in enumerate(graph.layers, start=1):
            self.v[p], self.U[p] = (numpy.empty((B, layer.width), dtype) for _ in range(2))
            if layer.batchnorm:
                self.normalized[p] = numpy.empty((B, layer.width), dtype)
                self.A[p] = numpy.empty(layer.width, dtype)
                self.sums[p] = numpy.empty((3, layer.width), dtype)
        self.room = [numpy.empty(max(loops.BLOCK, B * max(widths)), dtype) for _ in range(2)]
        self.blocks = {edge: list(self._blocks(*edge)) for edge in graph.E_T}

    def _blocks(self, p, q):
        W, velocity, left, right = self.params[p, q], self.velocity[p, q], self.U[p], self.v[q]
        if not W.flags.c_contiguous:
            W, velocity, left, right = W.T, velocity.T, right, left
        step = max(1, self.loops.BLOCK // W.shape[1])
        for start in range(0, len(W), step):
            rows = slice(start, start + step)
            gradient, room = (buffer[: W[rows].size].reshape(W[rows].shape) for buffer in self.room)
            yield Block(W[rows], velocity[rows], left[:, rows].T, right, gradient, room)

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
                    self.sgd_step(*block, eta, decay, momentum)

    def _forward(self, p):
        z, layer = self.v[p], self.graph.layers[p - 1]
        for i, q in enumerate(self.graph.pred[p]):
            from_q = self.v[q]
            if (p, q) in self.params:
                out = self.room[0][: z.size].reshape(z.shape) if i > 0 else z
                from_q = numpy.matmul(from_q, self.params[p, q].T, out=out)
            if i > 0:
                z += from_q
            elif from_q is not z:
                z[:] = from_q
        if layer.batchnorm:
            gamma, beta = self.params["gamma", p], self.params["beta", p]
            self.loops.batchnorm(z, gamma, beta, self.normalized[p], self.A[p], self.sums[p], self.U[p])
        if layer.activation == "relu":
            numpy.maximum(z, 0, out=z)
        elif layer.activation != "identity":
            z[:] = ACTIVATION[layer.activation][0](z)

    def _backward(self, p, eta, momentum):
        """From the cotangent of v_p in U[p] to that of z_p, and the step of gamma and beta."""
        U, layer = self.U[p], self.graph.layers[p - 1]
        if layer.activation == "relu":
            self.loops.relu_backward(U, self.v[p])
        elif layer.activation != "identity":
            U[:] = ACTIVATION[layer.activation][1](U, self.v[p])
        if layer.batchnorm:
            gamma, beta = ("gamma", p), ("beta", p)
            self.loops.batchnorm_backward(
                U, self.params[gamma], self.velocity[gamma], self.params[beta], self.velocity[beta],
                self.normalized[p], self.A[p], self.sums[p], layer.detached, eta, momentum,
            )

    def _pull(self, p, q, add):
        """Put, or add, the cotangent that layer q gets from layer p into U[q]."""
        W, U, into = self.params.get((p, q)), self.U[p], self.U[q]
        room = self.room[0][: into.size]
        if W is None:
            from_p = U
        elif W.flags.c_contiguous or W.size <= SMALL:
            from_p = numpy.matmul(U, W, out=room.reshape(into.shape) if add else into)
        else:
            from_p = numpy.matmul(W.T, U.T, out=room.reshape(into.shape[::-1])).T
        if add:
            into += from_p
        elif from_p is not into:
            into[:] = from_p
