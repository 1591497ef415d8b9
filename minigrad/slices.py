"""predict for NumPy arrays, in slices of samples that stay in the cache, with few layers in memory at a time.

Nothing is explained here that layers.py and network.py don't show; tests/test_kernels.py holds it to them.
"""

import functools

import numpy

from .layers import ACTIVATION, EPS
from .network import Stats

SLICE = 1 << 10  # samples that are evaluated at a time


def predict(graph, params, x, stats=None):
    """As network.predict. Of runs stacked side by side each is computed as it would be alone."""
    R = params[graph.E_T[0]].shape[:-2]
    A, b = {}, {}
    for p, layer in enumerate(graph.layers, start=1):
        if layer.batchnorm:
            A[p], b[p] = (numpy.empty((*R, 1, layer.width), x.dtype) for _ in range(2))
            if stats is not None:
                A[p][:] = stats.A[p]
                b[p][:] = stats.b[p]
    f = numpy.empty((*R, len(x), graph.width(graph.L)), x.dtype)
    for run in numpy.ndindex(R):
        its_params = {key: W[run] for key, W in params.items()}
        its_A = {p: a[run] for p, a in A.items()}
        its_b = {p: a[run] for p, a in b.items()}
        f[run] = _predict(graph, its_params, its_A, its_b, x, own=stats is None)
    return f, Stats(A, b) if stats is None else stats


def _predict(graph, params, A, b, x, own):
    """f of one network; `own` writes the statistics of x into A and b first."""
    v = {1: x}
    slices = [slice(start, start + SLICE) for start in range(0, len(x), SLICE)]
    last_reader = {q: p for p in range(2, graph.L + 1) for q in graph.pred[p]}
    for p in range(2, graph.L + 1):
        layer, pred = graph.layers[p - 1], graph.pred[p]
        read = [q for q in pred if last_reader[q] == p]  # for the last time
        free = [v[q] for q in read if q > 1 and graph.width(q) == layer.width]
        z = free[0] if free else numpy.empty((len(x), layer.width), x.dtype)
        moments = Moments()
        for rows in slices:
            _sum_of_edges(params, v, p, pred, rows, z[rows])
            if layer.batchnorm and own:
                moments.add(z[rows])
        if layer.batchnorm and own:
            A[p][:], b[p][:] = moments.statistics()
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
        for q in read:
            del v[q]
        v[p] = z
    return v[graph.L]


def _sum_of_edges(params, v, p, pred, rows, z):
    """z of these rows, (rows, d_p), which may be where a v_q lies that is read here for the last time."""
    parts = [v[q][rows] @ params[p, q].T if (p, q) in params else v[q][rows] for q in pred]
    z[:] = functools.reduce(numpy.add, parts)


class Moments:
    """Mean and variance of what comes in slices: sums over a slice in its precision, over all in float64."""

    def __init__(self):
        self.m, self.about, self.total, self.squares = 0, None, 0, 0

    def add(self, z):
        """Take z (rows, d) in."""
        if self.about is None:
            self.about = z.mean(axis=0)  # near the mean of all, so that no digits cancel
        centred = z - self.about
        self.m += len(z)
        self.total = self.total + centred.sum(axis=0).astype("float64")
        self.squares = self.squares + numpy.square(centred, out=centred).sum(axis=0).astype("float64")

    def statistics(self):
        """The diagonal of A and b of Eq. 5, (d,) each."""
        mean = self.total / self.m
        variance = self.squares / self.m - mean**2
        return (variance + EPS) ** -0.5, self.about + mean
