"""The rules in some twenty numbers: a change of the mathematics changes one, a comment none."""

import functools

import numpy

from .datasets import DATASETS, normalized
from .graph import Edge, Graph, Layer, parse
from .measures import distance, singular_values
from .network import init_params
from .optim import step_decay
from .train import batches, evaluate, train_epoch

VARIANTS = (  # loss, and of a layer: activation, batchnorm, detached, scalar
    ("cross_entropy", "relu", True, True, True),
    ("mean_squared_error", "leaky_relu", True, False, True),
    ("logistic", "sigmoid", True, True, False),
    ("exponential", "identity", True, False, False),
)


@functools.cache
def fingerprint():
    """Numbers that stand for all rules, in float64 on the host.

    None is a small difference of large numbers, and no unit is near its kink, so another BLAS
    changes them by 1e-11 at most.
    """
    numbers = [*trained(parse("MLP-BN-2-5", 6, 3, False, False), "uniform", "cross_entropy")]
    numbers += trained(parse("RES-BN-2-5", 6, 3, False, False), "he", "mean_squared_error")
    edges = [Edge(2, 1), Edge(3, 2), Edge(3, 1), Edge(4, 3), Edge(4, 2)]
    for loss, *kind in VARIANTS:
        layers = [Layer(6), Layer(5, *kind), Layer(5), Layer(3, "identity")]
        numbers += trained(Graph(layers, edges), "uniform", loss)
    rng = numpy.random.default_rng(1)
    for dtype in ("float32", "float64"):  # singular values take another path for each
        before, after = rng.normal(size=(2, 2, 4, 6)).astype(dtype)
        numbers += [weighted(singular_values(a)) for a in (after, before.swapaxes(1, 2))]
        numbers.append(distance(after, before, (0, 1)))
    numbers.append(weighted([step_decay(0.1, epoch) for epoch in (0, 60, 100, 200)]))
    numbers.append(weighted(batches(30, 4, seed=1, epoch=2)))
    for source in (DATASETS["mnist"], DATASETS["cifar10"]):
        images = rng.integers(0, 256, (2, source.inputs)).astype("uint8")
        numbers.append(weighted(normalized(images, source)))
    return tuple(map(float, numbers))


def trained(graph, init, loss):
    """After an epoch: losses and accuracy, and all squared parameters, summed."""
    rng = numpy.random.default_rng(0)
    x = rng.normal(size=(24, graph.width(1)))
    y = numpy.eye(graph.width(graph.L))[rng.integers(0, graph.width(graph.L), len(x))]
    if loss in ("logistic", "exponential"):
        y = 2 * y - 1
    params = init_params(graph, rng, dtype="float64", init=init)
    rows = batches(len(x), 8, seed=0, epoch=1)
    train_epoch(graph, params, None, x, y, rows, loss, 0.1, 0.02, 0.9, engine="reference")
    value, accuracy, stats = evaluate(graph, params, x, y, loss)
    of_test, _, _ = evaluate(graph, params, x[:9], y[:9], loss, stats)
    squares = numpy.concatenate([W.ravel() ** 2 for W in params.values()])
    return value + accuracy + of_test, weighted(squares)


def weighted(numbers):
    """A sum that depends on the order of the numbers, too."""
    numbers = numpy.asarray(numbers, "float64").ravel()
    return numbers @ (1 + 0.1 * numpy.arange(numbers.size) / numbers.size)
