"""A training step of one network as operations on matrices that lie in one flat array."""

import math
from functools import partial

import numpy

from .. import layers
from ..losses import cross_entropy, rule_of
from . import compiled
from .compiled import Operation

BLOCK = 1 << 19  # entries of W that are updated at a time, so that gradients stay in the cache
LINE = 16  # entries; matrices that begin where cache lines do save a tenth of the time


class Step:
    """A step on B samples: `calls` alternates between products by BLAS and tables of operations."""

    def __init__(self, graph, given, B, rule, scalars):
        self.graph, self.given, self.scalars, self.few = graph, given, scalars, B in compiled.FEW
        self.block = min(BLOCK, max(W.size for W in given.values()))
        shapes = dict(self._shapes(B))
        sizes = [-(-math.prod(shape) // LINE) * LINE for shape in shapes.values()]
        starts = numpy.cumsum([0, *sizes])
        # Zero is also the cotangent of a layer without a path to L, which nothing writes.
        memory = numpy.zeros(starts[-1] + LINE, scalars.dtype)
        self.memory = memory[-memory.ctypes.data // memory.itemsize % LINE :]
        self.at = {}
        for (name, shape), start in zip(shapes.items(), starts):
            self.at[name] = self.memory[start : start + math.prod(shape)].reshape(shape)
        self.calls, self.table = [], []
        self._forward()
        self._loss(rule)
        self._backward()
        self._end_table()

    def _shapes(self, B):
        """Name and shape of every matrix; those of parameters are transposed."""
        yield "target", (B, self.graph.width(self.graph.L))
        yield "scratch", (1, max(B * max(layer.width for layer in self.graph.layers), self.block))
        for p, layer in enumerate(self.graph.layers, start=1):
            yield ("v", p), (B, layer.width)
            yield ("U", p), (B, layer.width)
            if layer.batchnorm:
                yield ("normalized", p), (B, layer.width)
                yield ("units", p), (4, layer.width)
        for key, W in self.given.items():
            yield key, W.shape[::-1]

    def _scratch(self, shape):
        return self.at["scratch"][0, : math.prod(shape)].reshape(shape)

    def _operation(self, operation, *matrices, flag=False):
        """Append a row to the table."""
        row = numpy.zeros(2 + 3 * compiled.MATRICES, "int64")
        row[:2] = operation, flag
        for i, a in enumerate(matrices):
            start = (a.ctypes.data - self.memory.ctypes.data) // a.itemsize
            row[2 + 3 * i : 5 + 3 * i] = start, *a.shape
        self.table.append(row)

    def _end_table(self):
        if self.table:
            table = numpy.array(self.table)
            self.calls.append(partial(compiled.run, self.memory, table, self.scalars))
            self.table = []

    def _python(self, function, *args):
        """Append a call from Python, usually numpy.matmul."""
        self._end_table()
        self.calls.append(partial(function, *args))

    def _forward(self):
        at = self.at
        for p, layer in enumerate(self.graph.layers[1:], start=2):
            z, pred = at["v", p], self.graph.pred[p]
            for q in pred:
                if (p, q) in at:
                    self._matmul(z, at["v", q], at[p, q], accumulate=q != pred[0])
                else:
                    self._operation(Operation.ADD, z, at["v", q], flag=q != pred[0])
            if layer.batchnorm:
                scale = at["gamma", p], at["beta", p]
                self._operation(Operation.BATCHNORM, z, *scale, at["normalized", p], at["units", p])
            if layer.activation == "relu":
                self._operation(Operation.RELU, z)

    def _matmul(self, z, v, W, accumulate):
        scratch = self._scratch(z.shape)
        if self.few:
            self._operation(Operation.MATMUL, z, v, W, scratch, flag=accumulate)
            return
        self._python(numpy.matmul, v, W, scratch if accumulate else z)
        if accumulate:
            self._operation(Operation.ADD, z, scratch, flag=True)

    def _loss(self, rule):
        df, f, y = self.at["U", self.graph.L], self.at["v", self.graph.L], self.at["target"]
        if rule is rule_of(cross_entropy):
            self._operation(Operation.CROSS_ENTROPY, df, f, y)
        else:
            self._python(lambda: numpy.copyto(df, rule(f, y)[1]))

    def _backward(self):
        """Every parameter takes its step once its gradient is known and its value used."""
        at = self.at
        reached = {self.graph.L}
        for p in range(self.graph.L, 1, -1):
            U, layer = at["U", p], self.graph.layers[p - 1]
            if layer.activation == "relu":
                self._operation(Operation.RELU_BACKWARD, U, at["v", p])
            if layer.batchnorm:
                gamma = at["gamma", p], at["velocity", ("gamma", p)]
                beta = at["beta", p], at["velocity", ("beta", p)]
                matrices = U, *gamma, *beta, at["normalized", p], at["units", p]
                self._operation(Operation.BATCHNORM_BACKWARD, *matrices, flag=layer.detached)
            for q in self.graph.pred[p]:
                if q > 1 and (p, q) in at:
                    self._matmul_backward(at["U", q], U, at[p, q], accumulate=q in reached)
                elif q > 1:
                    self._operation(Operation.ADD, at["U", q], U, flag=q in reached)
                reached.add(q)
                if (p, q) in at:
                    self._descend(at[p, q], at["velocity", (p, q)], at["v", q], U)

    def _matmul_backward(self, dv, U, W, accumulate):
        if self.few:
            self._operation(Operation.MATMUL_BACKWARD, dv, U, W, flag=accumulate)
        elif accumulate or W.size > 1 << 16 or len(U) <= 32:
            # BLAS was measured to be faster at W^T U than at its transpose.
            columns = self._scratch(dv.shape[::-1])
            self._python(numpy.matmul, W, U.T, columns)
            self._operation(Operation.ADD_TRANSPOSED, dv, columns, flag=accumulate)
        else:
            self._python(numpy.matmul, U, W.T, dv)

    def _descend(self, W, velocity, v, U):
        if self.few:
            self._operation(Operation.DESCEND_FEW, W, velocity, v, U)
            return
        step = max(1, self.block // W.shape[1])
        for start in range(0, len(W), step):
            rows = slice(start, start + step)
            gradient = self._scratch(W[rows].shape)
            self._python(numpy.matmul, v[:, rows].T, U, gradient)
            self._operation(Operation.DESCEND, W[rows], velocity[rows], gradient)

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


def train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, momentum):
    """As train.train_epoch. Runs side by side are trained in turn, each as it would be alone."""
    R = rows.shape[1:-1]
    for run in numpy.ndindex(R):
        scalars = [numpy.broadcast_to(a, (*R, 1, 1))[run].item() for a in (eta, 2 * lam, momentum)]
        given = {key: W[run] for key, W in params.items()}
        given |= {("velocity", key): W[run] for key, W in velocity.items()}
        scalars = numpy.array([*scalars, layers.EPS], x.dtype)
        step = Step(graph, given, rows.shape[-1], rule_of(loss), scalars)
        step.train(x, y, rows[(slice(None), *run)])
