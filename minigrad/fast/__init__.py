"""The steps of train_epoch, compiled by Numba; train.train_step shows all that they compute.

They are used for graphs that this package knows, and only if they agree with train_step on a small
network: after a change in layers.py, say, train_step trains. Numba is imported when first needed.
"""

import functools
from pathlib import Path

import numpy

from ..graph import Edge, Graph, Layer

ENGINE = 5  # raised when the last bits change
TOLERANCE = 1e-4  # relative to the largest entry of a matrix; rounding makes 1e-6 in float32


def version():
    """Numba's version and the engine's number, for provenance."""
    import numba

    return f"numba {numba.__version__}, engine {ENGINE}"


@functools.cache
def unavailable(dtype="float32"):
    """None, or one sentence why steps in that precision can't be compiled in this process."""
    try:
        import numba

        if numba.config.DISABLE_JIT:
            return "NUMBA_DISABLE_JIT switches Numba off"
        difference = numpy.max([_difference(B, dtype) for B in (4, 8, 10)])  # NaN if one is
    except ImportError as error:
        return f"Numba can't be imported ({error})"
    except Exception as error:  # of a broken installation, of the compiler, or of its cache
        cache = Path(__file__).with_name("__pycache__")
        reason = f"{type(error).__name__}: {error}"
        return f"Numba can't be used here ({reason}); if its cache is damaged, delete {cache}"
    if not difference <= TOLERANCE:
        return f"a rule was changed: the compiled step differs from train_step by {difference:.0e}"
    return None


def knows_graph(graph):
    """Whether known fields describe the graph whole: a field added to Layer must not be ignored."""
    layers = [Layer(a.width, a.activation, a.batchnorm, a.detached, a.scalar) for a in graph.layers]
    edges = [Edge(e.p, e.q, e.trainable) for e in graph.edges]
    return (
        graph == Graph(layers, edges)
        and all(layer.activation in ("relu", "identity") for layer in layers[1:])
        and all(layer.batchnorm in (True, False) for layer in layers)
    )


def train_epoch(*args):
    """As train.train_epoch, for a known graph and arrays of NumPy."""
    from . import table

    table.train_epoch(*args)


@numpy.errstate(divide="ignore", over="ignore", invalid="ignore")  # as train_epoch
def _difference(B, dtype):
    """The largest difference after two steps of both, relative to the largest entry of a matrix."""
    from ..network import init_params
    from ..train import train_step

    variants = ((True, True), (True, False), (False, True), (False, False))
    normalized = [Layer(7, "relu", True, detached, scalar) for detached, scalar in variants]
    layers = [Layer(9), Layer(7), *normalized, Layer(7, "identity"), Layer(3, "identity")]
    trainable = [(2, 1), (3, 2), (4, 2), (5, 2), (6, 2), (7, 3), (7, 4), (7, 5), (8, 7), (8, 2)]
    edges = [Edge(p, q) for p, q in trainable]
    graph = Graph(layers, [*edges, Edge(7, 6, trainable=False), Edge(7, 2, trainable=False)])

    rng = numpy.random.default_rng(0)
    params = init_params(graph, rng, dtype=dtype, init="he")
    velocity = {key: rng.normal(size=W.shape).astype(dtype) for key, W in params.items()}
    x = (0.01 * rng.normal(size=(2 * B, 9))).astype(dtype)  # small, so that EPS counts
    y = numpy.eye(3, dtype=dtype)[rng.integers(0, 3, 2 * B)]
    rows = rng.permutation(2 * B).reshape(2, B)
    expected = [{key: a.copy() for key, a in given.items()} for given in (params, velocity)]
    settings = "cross_entropy", 0.1, 0.2, 0.5  # and eta, lambda, momentum
    train_epoch(graph, params, velocity, x, y, rows, *settings)
    for batch in rows:
        train_step(graph, *expected, x[batch], y[batch], *settings)
    return numpy.max([
        abs(found[key] - a).max() / abs(a).max()
        for found, by_rules in zip((params, velocity), expected)
        for key, a in by_rules.items()
    ])
