"""The steps of train_epoch, compiled by Numba; train.train_step shows all that they compute.

They are used for graphs that this package knows, and only if they agree with train_step on a small
network: after a change in layers.py, say, train_step trains. Numba is imported when first needed.
"""

import functools
import itertools

import numpy

from ..graph import Edge, Graph, Layer, resnet

ENGINE = 6  # raised when the last bits change
TOLERANCE = 1e-4  # relative to the largest entry of a matrix; rounding makes 1e-6 in float32


def version():
    """Numba's version and the engine's number, for provenance."""
    import numba

    return f"numba {numba.__version__}, engine {ENGINE}"


@functools.cache
def unavailable(dtype="float32"):
    """Why steps in that precision can't be compiled in this process, as a text; "" if they can."""
    kinds = itertools.product((4, 8, 10), (True, False), (True, False))  # B, detached, scalar
    try:
        import numba

        if numba.config.DISABLE_JIT:
            return "NUMBA_DISABLE_JIT switches Numba off"
        difference = numpy.max([_difference(dtype, *kind) for kind in kinds])  # NaN if one is
    except Exception as error:  # Numba is missing or broken, or its compiler or cache fails
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        way_out = "install it, or, if its cache is damaged, delete minigrad/fast/__pycache__"
        return f"Numba can't be used here ({reason}): {way_out}"
    if not difference <= TOLERANCE:
        return f"a rule was changed: the compiled step differs from train_step by {difference:.0e}"
    return ""


def knows_graph(graph):
    """Whether fields known here describe all of graph: one added to Layer must not be ignored."""
    layers = [Layer(a.width, a.activation, a.batchnorm, a.detached, a.scalar) for a in graph.layers]
    edges = [Edge(e.p, e.q, e.trainable) for e in graph.edges]
    activations = {layer.activation for layer in layers[1:]}
    return graph == Graph(layers, edges) and activations <= {"relu", "identity"}


@numpy.errstate(divide="ignore", over="ignore", invalid="ignore")  # as train_epoch
def _difference(dtype, B, detached, scalar):
    """The largest difference after two steps of both, relative to the largest entry of a matrix."""
    from .. import network, train
    from . import table

    graph = resnet(12, 1, 8, 3, True, detached, scalar)
    rng = numpy.random.default_rng(0)
    params = network.init_params(graph, rng, dtype=dtype, init="he")
    params["gamma", 4] *= 10  # large, so that a rule for large numbers counts
    velocity = {key: rng.normal(size=W.shape).astype(dtype) for key, W in params.items()}
    x = (0.01 * rng.normal(size=(2 * B, 12))).astype(dtype)  # small, so that EPS counts
    y = numpy.eye(3, dtype=dtype)[rng.integers(0, 3, 2 * B)]
    rows = rng.permutation(2 * B).reshape(2, B)
    expected = [{key: a.copy() for key, a in given.items()} for given in (params, velocity)]
    settings = "cross_entropy", 0.1, 0.2, 0.5  # and eta, lambda, momentum
    table.train_epoch(graph, params, velocity, x, y, rows, *settings)
    train.train_epoch(graph, *expected, x, y, rows, *settings, engine="reference")
    return numpy.max([abs(params[k] - W).max() / abs(W).max() for k, W in expected[0].items()])
