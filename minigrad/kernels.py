"""train_epoch for NumPy arrays, faster: the calls of a step are listed once, on arrays laid out for them.

Nothing is explained here that layers.py, network.py and optim.py don't show; tests/test_kernels.py holds it
to them. The loops over entries are Numba's (the extra "fast") or NumPy's: PATH says which, for provenance.
"""

import math
from functools import partial

import numpy

from .layers import ACTIVATION
from .losses import rule_of

try:
    import numba
except ImportError:
    numba = None

ENGINE = 4  # raised when the last bits change
COMPILED = numba is not None and not numba.config.DISABLE_JIT
PATH = f"numba {numba.__version__}" if COMPILED else "numpy"
if COMPILED:
    from . import few
    from . import loops_numba as LOOPS
else:
    from . import loops_numpy as LOOPS


def applies(params, x, y, velocity=None, rows=None):
    """Whether this takes them: NumPy arrays of one precision, and rows that x and y have."""
    velocity = params if velocity is None else velocity
    for a in (x, y, *params.values(), *velocity.values()):
        if type(a) is not numpy.ndarray or a.dtype != x.dtype or a.dtype.kind != "f" or a.ndim < 2:
            return False
    known = rows is None or (rows.size > 0 and 0 <= rows.min() and rows.max() < len(x))
    return x.ndim == 2 and known


def train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, momentum, loops=LOOPS):
    """As train.train_epoch. Runs stacked side by side are trained in turn, each as it would be alone."""
    R = rows.shape[1:-1]
    for run in numpy.ndindex(R):
        scalars = [numpy.broadcast_to(a, (*R, 1, 1))[run].item() for a in (eta, 2 * lam, momentum)]
        scalars = [x.dtype.type(a) for a in scalars]
        given = {key: W[run] for key, W in params.items()}
        given |= {("velocity", key): a[run] for key, a in velocity.items()}
        program = Program(graph, given, rows.shape[-1], rule_of(loss), scalars, loops)
        program.train(x, y, rows[(slice(None), *run)])


class Program:
    """The calls of an SGD step of one network on B samples, on matrices that lie in one array, `memory`."""

    def __init__(self, graph, given, B, rule, scalars, loops):
        self.graph, self.given, self.B, self.loops = graph, given, B, loops
        largest = max(W.size for W in given.values())
        # few.py takes whole matrices, whose entries lie side by side.
        self.block = largest if B in loops.FEW else min(loops.BLOCK, largest)
        shapes = dict(self._shapes())
        ends = numpy.cumsum([math.prod(shape) for shape in shapes.values()])
        # Zero is also the cotangent of a layer that leads nowhere, which nothing writes.
        self.memory = numpy.zeros(ends[-1], given[graph.E_T[0]].dtype)
        self.at = {}
        for (name, shape), end in zip(shapes.items(), ends):
            self.at[name] = self.memory[end - math.prod(shape) : end].reshape(shape)
        self.calls = [*self._forward(), self._loss(rule), *self._backward(*scalars)]
        if B in loops.FEW:
            self.calls = few.joined(self.calls, self.memory, *scalars)

    def _shapes(self):
        """Name and shape of every matrix; parameters are transposed, so that a column of W is contiguous."""
        widths = [layer.width for layer in self.graph.layers]
        yield "target", (self.B, widths[-1])
        yield "room", (2, max(self.B * max(widths), self.block))
        for p, layer in enumerate(self.graph.layers, start=1):
            yield ("v", p), (self.B, layer.width)
            yield ("U", p), (self.B, layer.width)
            if layer.batchnorm:
                yield ("normalized", p), (self.B, layer.width)
                yield ("sums", p), (4, layer.width)
        for key, W in self.given.items():
            yield key, W.shape[::-1]

    def _room(self, shape, row=0):
        return self.at["room"][row, : math.prod(shape)].reshape(shape)

    def _forward(self):
        """The calls of network.forward."""
        at, loops = self.at, self.loops
        for p, layer in enumerate(self.graph.layers[1:], start=2):
            z = at["v", p]
            for q in self.graph.pred[p]:
                first = q == self.graph.pred[p][0]
                if (p, q) in at:
                    yield partial(loops.product, z, at["v", q], at[p, q], self._room(z.shape), first)
                else:
                    yield partial(loops.pass_on, z, at["v", q], first)
            if layer.batchnorm:
                scale = at["gamma", p], at["beta", p]
                yield partial(loops.batchnorm, z, *scale, at["normalized", p], at["sums", p])
            if layer.activation == "relu":
                yield partial(loops.relu, z)
            elif layer.activation != "identity":
                yield partial(_put, z, ACTIVATION[layer.activation][0], z)

    def _loss(self, rule):
        df, f, y = self.at["U", self.graph.L], self.at["v", self.graph.L], self.at["target"]
        if rule in self.loops.LOSSES:
            return partial(self.loops.LOSSES[rule], df, f, y)
        return partial(_put, df, lambda f, y: rule(f, y)[1], f, y)

    def _backward(self, eta, decay, momentum):
        """The calls of network.backward; those of optim.sgd_step as soon as a gradient is known."""
        at, loops = self.at, self.loops
        reached = {self.graph.L}
        for p in range(self.graph.L, 1, -1):
            U, layer = at["U", p], self.graph.layers[p - 1]
            if layer.activation == "relu":
                yield partial(loops.relu_backward, U, at["v", p])
            elif layer.activation != "identity":
                yield partial(_put, U, ACTIVATION[layer.activation][1], U, at["v", p])
            if layer.batchnorm:
                keys = [("gamma", p), ("velocity", ("gamma", p)), ("beta", p), ("velocity", ("beta", p))]
                keys += [("normalized", p), ("sums", p)]
                matrices = [at[key] for key in keys]
                yield partial(loops.batchnorm_backward, U, *matrices, layer.detached, eta, momentum)
            for q in self.graph.pred[p]:
                if q > 1 and (p, q) in at:
                    room = self._room(at["U", q].shape)
                    yield partial(loops.pull, at["U", q], U, at[p, q], room, q not in reached)
                elif q > 1:
                    yield partial(loops.pass_on, at["U", q], U, q not in reached)
                reached.add(q)
                if (p, q) in at:
                    yield from self._updates(p, q, eta, decay, momentum)

    def _updates(self, p, q, *scalars):
        """The step of W, in blocks of rows that stay in the cache with their gradient."""
        W, velocity, v, U = self.at[p, q], self.at["velocity", (p, q)], self.at["v", q], self.at["U", p]
        step = max(1, self.block // W.shape[1])
        for start in range(0, len(W), step):
            rows = slice(start, start + step)
            room = [self._room(W[rows].shape, row) for row in (0, 1)]
            yield partial(self.loops.update, W[rows], velocity[rows], v[:, rows], U, *room, *scalars)

    def train(self, x, y, rows):
        """A step for every batch of rows (S, B), on what is given, in place."""
        for key, W in self.given.items():
            self.at[key][:] = W.T
        for batch in rows:
            x.take(batch, axis=0, out=self.at["v", 1], mode="clip")
            y.take(batch, axis=0, out=self.at["target"], mode="clip")
            for call in self.calls:
                call()
        for key, W in self.given.items():
            W.T[:] = self.at[key]


def _put(out, rule, *args):
    out[:] = rule(*args)
