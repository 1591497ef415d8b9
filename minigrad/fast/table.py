"""A training step of one network as operations on matrices that lie in one flat array."""

import itertools
import math
from functools import partial

import numpy

from .. import layers
from ..losses import cross_entropy, rule_of
from . import compiled


class Step:
    """The calls of a step on B samples, and by name the matrices that they work on."""

    def __init__(self, graph, B, rule, scalars):
        self.few = B in compiled.FEW and all(a.width % 4 == 0 for a in graph.layers[:-1])
        self._allocate(graph, B, scalars.dtype)
        self.program = []  # rows of tables, and calls from Python, most of them of BLAS
        self._forward(graph)
        self._backward(graph, rule)
        self.calls = []
        for kind, entries in itertools.groupby(self.program, type):
            if kind is list:
                table = numpy.array(list(entries), "int64")
                entries = [partial(compiled.run, self.memory, table, scalars)]
            self.calls.extend(entries)

    def _allocate(self, graph, B, dtype):
        """Make the flat array, and `at`: its views by name. Those of parameters are transposed."""
        shapes = {"target": (B, graph.width(graph.L))}
        for p, layer in enumerate(graph.layers, start=1):
            shapes["v", p] = shapes["U", p] = shapes["normalized", p] = (B, layer.width)
            shapes["units", p] = (6, layer.width)  # scratch rows of batch norm
        for key, shape in graph.shapes().items():
            shapes[key] = shapes["velocity", key] = shape[::-1]
        shapes["scratch"] = (1, max(map(math.prod, shapes.values())))
        ends = numpy.cumsum([math.prod(shape) for shape in shapes.values()])
        self.memory = numpy.zeros(ends[-1], dtype)  # U of a layer without a path to L stays 0
        parts = zip(shapes.items(), numpy.split(self.memory, ends))
        self.at = {name: part.reshape(shape) for (name, shape), part in parts}

    def _scratch(self, shape):
        return self.at["scratch"][0, : math.prod(shape)].reshape(shape)

    def _operation(self, operation, *matrices, flag=False):
        """Append a row: see compiled.run."""
        row = [operation, flag]
        for a in matrices:
            row += [(a.ctypes.data - self.memory.ctypes.data) // a.itemsize, *a.shape]
        self.program.append(row + [0] * (2 + 3 * compiled.MATRICES - len(row)))

    def _forward(self, graph):
        at = self.at
        for p, layer in enumerate(graph.layers[1:], start=2):
            z, pred = at["v", p], graph.pred[p]
            for q in pred:
                self._edge(compiled.MATMUL, z, at["v", q], at.get((p, q)), q != pred[0])
            if layer.batchnorm:
                scale = at["gamma", p], at["beta", p]
                self._operation(compiled.BATCHNORM, z, *scale, at["normalized", p], at["units", p])
            if layer.activation == "relu":
                self._operation(compiled.RELU, z)

    def _backward(self, graph, rule):
        """Every parameter takes its step once its gradient is known and its value used."""
        at = self.at
        df, f, y = at["U", graph.L], at["v", graph.L], at["target"]
        if rule is rule_of(cross_entropy):
            self._operation(compiled.CROSS_ENTROPY, df, f, y)
        else:  # copyto would broadcast
            self.program.append(lambda: numpy.concatenate([rule(f, y)[1]], out=df))
        for p in range(graph.L, 1, -1):
            U, layer = at["U", p], graph.layers[p - 1]
            if layer.activation == "relu":
                self._operation(compiled.RELU_BACKWARD, U, at["v", p])
            if layer.batchnorm:
                of_norm = U, at["gamma", p], at["normalized", p], at["units", p]
                self._operation(compiled.BATCHNORM_BACKWARD, *of_norm, flag=layer.detached)
                for row, name in enumerate(("beta", "gamma")):
                    scale, velocity = at[name, p], at["velocity", (name, p)]
                    gradient = at["units", p][row : row + 1, : len(scale)]
                    self._operation(compiled.DESCEND, scale, velocity, gradient)
            for q in graph.pred[p]:
                W, velocity, v = at.get((p, q)), at.get(("velocity", (p, q))), at["v", q]
                if q > 1:
                    accumulate = any(e.q == q and e.p > p for e in graph.edges)
                    self._edge(compiled.MATMUL_BACKWARD, at["U", q], U, W, accumulate)
                if W is not None and self.few:
                    self._operation(compiled.DESCEND_FEW, W, velocity, v, U)
                elif W is not None:
                    gradient = self._scratch(W.shape)
                    self.program.append(partial(numpy.matmul, v.T, U, gradient))
                    self._operation(compiled.DESCEND, W, velocity, gradient, flag=True)

    def _edge(self, operation, to, rows, W, accumulate):
        """Write or add to `to`: rows W (MATMUL), rows W^T (MATMUL_BACKWARD), without W the rows."""
        term = self._scratch(to.shape) if accumulate else to
        if W is None:
            term = rows
        elif self.few:
            self._operation(operation, term, rows, W)
        elif operation == compiled.MATMUL:
            self.program.append(partial(numpy.matmul, rows, W, term))
        else:
            # BLAS was measured to be faster at W^T U than at its transpose.
            term = self._scratch(to.shape[::-1]).T
            self.program.append(partial(numpy.matmul, W, rows.T, term.T))
        if accumulate:
            self.program.append(partial(numpy.add, to, term, to))
        elif term is not to:
            self.program.append(partial(numpy.copyto, to, term))


def train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, momentum):
    """As train.train_epoch. Runs side by side are trained in turn, each as it would be alone."""
    R = rows.shape[1:-1]
    for run in numpy.ndindex(R):
        scalars = [numpy.broadcast_to(a, (*R, 1, 1))[run].item() for a in (eta, 2 * lam, momentum)]
        scalars = numpy.array([*scalars, layers.EPS], x.dtype)
        given = {key: W[run] for key, W in params.items()}
        given |= {("velocity", key): W[run] for key, W in velocity.items()}
        step = Step(graph, rows.shape[-1], rule_of(loss), scalars)
        for key, W in given.items():
            step.at[key][:] = W.T
        for batch in rows[(slice(None), *run)]:
            x.take(batch, axis=0, out=step.at["v", 1], mode="clip")
            y.take(batch, axis=0, out=step.at["target"], mode="clip")
            for call in step.calls:
                call()
        for key, W in given.items():
            W.T[:] = step.at[key]
