"""What all contestants train, and how much of it is measured."""

from typing import NamedTuple

import numpy

import minigrad as mg

ETA, LAM, MOMENTUM = 1e-3, 5e-4, 0.9
MEASURE_EVERY = 5  # epochs, as the figures have it
SAMPLES, INPUTS, CLASSES = 50_000, 3072, 10
MLP_5_2000 = {(2000, 3072): 1, (2000, 2000): 4, (10, 2000): 1}  # shape: how many of its matrices have it


class Size(NamedTuple):
    """How much is measured, and how often."""

    rounds: int
    cells: list  # (network, B) whose steps are timed
    epochs: list  # (network, B) of which a whole epoch is
    measured: list  # (network, B) of which a whole epoch is, and what measures it
    shapes: list  # of the matrices whose ranks are counted
    rank_rounds: int


QUICK = Size(
    rounds=3,
    cells=[("MLP-BN-10-100", 4), ("MLP-BN-10-100", 128), ("RES-BN-5-500", 4), ("MLP-5-500", 128)],
    epochs=[("MLP-BN-10-100", 128)],
    measured=[("MLP-BN-10-100", 128)],
    shapes=[(100, 100), (500, 500)],
    rank_rounds=2,
)
BATCHES = (4, 8, 16, 32, 64, 128)
FIGURES = [(name, B) for name in ("MLP-BN-10-100", "RES-BN-5-500", "MLP-5-500") for B in BATCHES]  # 2 to 7
WHOLE = Size(
    rounds=7,
    cells=[*FIGURES, ("MLP-5-2000", 128)],
    epochs=[("MLP-BN-10-100", B) for B in BATCHES],
    measured=FIGURES,
    shapes=[*QUICK.shapes, *MLP_5_2000],
    rank_rounds=3,
)


def data(m):
    """m random samples of CIFAR-10's shape: x (m, INPUTS), one-hot y (m, CLASSES)."""
    rng = numpy.random.default_rng(0)
    x = rng.standard_normal((m, INPUTS), dtype="float32")
    labels = rng.integers(0, CLASSES, m)
    return x, numpy.eye(CLASSES, dtype="float32")[labels]


def start(name, detached=True):
    """The graph of a network, and the parameters that all contestants start from."""
    graph = mg.parse(name, n=INPUTS, k=CLASSES, detached=detached)
    return graph, mg.init_params(graph, numpy.random.default_rng(1))


def at_rest(params, order):
    """A copy of params in memory order "C" or "F", and its velocity, zero."""
    params = {key: numpy.array(W, order=order) for key, W in params.items()}
    velocity = {key: numpy.zeros_like(W) for key, W in params.items()}
    return params, velocity
