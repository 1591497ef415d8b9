"""Networks and data that several test files share."""

from functools import partial

import numpy as np

import minigrad as mg
from minigrad.layers import ACTIVATION


def skip_graph(batchnorm=False, detached=True, scalar=True):
    """Layers 2 and 3 share the cotangent of layer 4 by constant edges: `+=` corrupts U[4]."""
    hidden = mg.Layer(6, "relu", batchnorm, detached, scalar)
    layers = [mg.Layer(5), hidden, hidden, mg.Layer(6, "identity"), mg.Layer(3, "identity")]
    trainable = [mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(4, 1), mg.Edge(5, 4)]
    return mg.Graph(layers, [*trainable, mg.Edge(4, 3, False), mg.Edge(4, 2, False)])


def mixed_graph():
    """Every activation, standard batch norm, and layer 4, which nothing reads."""
    normalized = mg.Layer(6, "sigmoid", True, False, False)
    layers = [mg.Layer(5), mg.Layer(6, "leaky_relu"), normalized, mg.Layer(4), mg.Layer(6)]
    trainable = [mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(4, 2), mg.Edge(5, 3), mg.Edge(6, 5)]
    edges = [*trainable, mg.Edge(5, 2, False), mg.Edge(6, 1)]
    return mg.Graph([*layers, mg.Layer(3, "identity")], edges)


mlp, resnet = partial(mg.mlp, 5, 3, 6, 3), partial(mg.resnet, 5, 2, 6, 3)
NETWORKS = {
    "mlp": mlp(),
    "mlp-bn": mlp(True),
    "res": resnet(),
    "res-bn": resnet(True),
    "skip": skip_graph(),
    "skip-bn": skip_graph(True),
    "mlp-standard": mlp(True, detached=False, scalar=False),
    "res-true": resnet(True, detached=False),
}


def random_dag(rng, batchnorm=True, detached=None):
    """Layers of every kind; each batch norm is detached or not, unless `detached` says which."""
    L, width = int(rng.integers(3, 8)), 4
    layers, edges = [mg.Layer(width)], []
    for _ in range(L - 2):
        normalized, own, scalar = (bool(rng.random() < 0.5) for _ in range(3))
        norm = batchnorm and normalized, own if detached is None else detached, scalar
        layers.append(mg.Layer(width, str(rng.choice(list(ACTIVATION))), *norm))
    for p in range(2, L + 1):
        count = int(rng.integers(1, min(p, 4)))
        for q in rng.choice(np.arange(1, p), size=count, replace=False):
            edges.append(mg.Edge(p, int(q), p == L or bool(rng.random() < 0.7)))
    return mg.Graph([*layers, mg.Layer(3, "identity")], edges)


def setting(graph, rng, B=7, dtype="float64"):
    """He's params with gamma and beta that are not 1 and 0, and x (B, n)."""
    params = mg.init_params(graph, rng, dtype=dtype, init="he")
    for name in params:
        if name[0] in ("gamma", "beta"):
            params[name] += (0.3 * rng.normal(size=params[name].shape)).astype(dtype)
    return params, rng.normal(size=(B, graph.width(1))).astype(dtype)


def targets(loss, shape, rng):
    """Rows (..., B, k) that the loss of that name takes."""
    if loss in ("logistic", "exponential"):
        return rng.choice([-1.0, 1.0], size=shape)
    return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]


def zeros_like(params):
    return {key: np.zeros_like(W) for key, W in params.items()}


def clusters(rng, m=8, n=6):
    """Two opposite clusters, -1 and +1, of mean square length 1: no unit is on for both."""
    y = np.where(np.arange(m) % 2, 1.0, -1.0)[:, None]
    x = y * np.linspace(1, 2, n) + 0.3 * rng.normal(size=(m, n))
    return x / (x**2).sum(axis=1).mean() ** 0.5, y
