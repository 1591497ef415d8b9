"""Small networks and data that the tests of the theory share."""

import numpy as np

import minigrad as mg


def network(name, rng, n=9, k=3):
    """A graph and He's weights in float64."""
    graph = mg.parse(name, n, k)
    return graph, mg.init_params(graph, rng, dtype="float64", init="he")


def clusters(rng, m=8, n=6):
    """Two opposite clusters, -1 and +1, of mean square length 1: no unit is on for both."""
    y = np.where(np.arange(m) % 2, 1.0, -1.0)[:, None]
    x = y * np.linspace(1, 2, n) + 0.3 * rng.normal(size=(m, n))
    return x / (x**2).sum(axis=1).mean() ** 0.5, y


def one_more_term(forward):
    """`forward` of a network in which f depends on W in one more way, u^T W v.

    That is one more rank than the lemmas allow.
    """

    def leaking(graph, params, x, A=None):
        cache = forward(graph, params, x, A=A)
        u, v = (np.cos(np.arange(1, size + 1)) for size in params[2, 1].shape[-2:])
        cache.v[graph.L] = cache.v[graph.L] + ((u @ params[2, 1]) @ v)[..., None, None]
        return cache

    return leaking
