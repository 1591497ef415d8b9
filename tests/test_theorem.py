"""Theorem 1: beside each case that holds stands a fault that does not."""

import numpy as np
import pytest

import minigrad as mg
from experiments.theory import lemmas, theorem

from problems import network, one_more_term


def fitted(rng, name="MLP-BN-2-8"):
    graph, params = network(name, rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    velocity = {key: np.zeros_like(W) for key, W in params.items()}
    rows = np.concatenate([mg.batches(20, 5, 0, epoch) for epoch in range(20)])
    mg.train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", 0.05, 0.01, 0.9)
    return graph, params, x, y


def test_theorem_1_and_eq_18_and_a_gradient_that_misses_a_factor(rng, monkeypatch):
    graph, params, x, y = fitted(rng)
    found = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (1, 2, 4), 3, rng)
    assert found["bound_holds"] and found["equality_holds"] and found["left"].shape == found["right"].shape == (2, 3, 3)
    for place, r in enumerate((1, 2, 4)):
        assert found["left"][0, 0, place] == mg.distance_to_rank(params[2, 1], r) and found["left"][1, 1, place] == mg.distance_to_rank(params[3, 2], r, "frobenius")
    everything = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (20,), 1, rng)  # a batch of all: the right side's value
    cache = mg.forward(graph, params, x)
    _, df = mg.cross_entropy(cache.v[graph.L], y)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    for number, e in enumerate(graph.E_T):
        for norm, kind in enumerate((2, "fro")):
            np.testing.assert_allclose(everything["right"][norm, number, 0], np.linalg.norm(grads[e] / 0.02 + params[e], kind), rtol=1e-10)
    assert theorem.rank_of_U_S(graph, params, x, y, "cross_entropy", (1, 2, 4), rng)["holds"]
    monkeypatch.setattr(lemmas, "forward", one_more_term(lemmas.forward))
    assert not theorem.rank_of_U_S(*fitted(rng, "MLP-2-8"), "mean_squared_error", (4,), rng)["holds"]  # into normalized layers B - 1 leaves room
    gradients = theorem.gradients
    u, v = rng.normal(size=8), rng.normal(size=9)
    gap = params[2, 1] + grads[2, 1] / 0.02
    across = np.outer(u, v) - (np.outer(u, v) * gap).sum() / (gap**2).sum() * gap
    monkeypatch.setattr(theorem, "gradients", lambda *a: {key: g + 1e-6 * across if key == (2, 1) else g for key, g in gradients(*a).items()})
    assert not theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (20,), 1, rng)["equality_holds"]  # not seen along gap
    for factor in (2, 0.5, -1):
        monkeypatch.setattr(theorem, "gradients", lambda *a, factor=factor: {key: factor * g for key, g in gradients(*a).items()})
        assert not theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (2,), 1, rng)["equality_holds"]


def test_theorem_1_fails_where_it_is_tight_and_the_rank_is_off_by_one(rng, monkeypatch):
    """At W = U_S of a batch of two: both sides vanish, and the distance to rank one does not."""
    graph = mg.mlp(5, 1, 6, 4)
    graph = mg.Graph((graph.layers[0], mg.Layer(6, "identity"), graph.layers[2]), graph.edges)  # linear, so without kinks
    params = mg.init_params(graph, rng, dtype="float64", init="he")
    x, y, lam = rng.normal(size=(2, 5)), np.eye(4)[:2] * 3, 0.02
    velocity = {key: np.zeros_like(W) for key, W in params.items()}
    mg.train_epoch(graph, params, velocity, x, y, np.tile(np.arange(2), (5000, 1)), "mean_squared_error", 0.1, lam, 0.9)
    found = theorem.theorem_1(graph, params, x, y, "mean_squared_error", lam, (2,), 1, rng)
    assert found["bound_holds"] and 0 <= found["left"].max() < 1e-6 and found["right"].max() < 1e-6
    monkeypatch.setattr(theorem, "distance_to_rank", lambda W, r, norm: mg.distance_to_rank(W, max(r - 1, 0), norm))
    assert not theorem.theorem_1(graph, params, x, y, "mean_squared_error", lam, (2,), 1, rng)["bound_holds"]


def test_the_bound_says_something_only_below_the_norm_of_W(rng):
    graph, params, x, y = fitted(rng)
    assert theorem.theorem_1(graph, params, x, y, "cross_entropy", 1e-6, (2,), 2, rng)["informative"].max() == 0
    found = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (2, 20), 2, rng)
    for norm, kind in enumerate((2, "fro")):
        sizes = [np.linalg.norm(params[e], kind) for e in graph.E_T]
        np.testing.assert_allclose(found["size"][norm], sizes)
        np.testing.assert_array_equal(found["informative"][norm], (found["right"][norm] < np.array(sizes)[:, None]).mean(axis=0))


def test_the_least_of_more_batches_is_no_larger(rng):
    graph, params = network("MLP-BN-2-8", rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    few, many = (theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (5,), samples, np.random.default_rng(1))["right"] for samples in (1, 8))
    assert (many <= few).all() and (many < few).any()


def test_the_rank_of_U_S_is_asked_of_the_loss_s_own_slopes_and_of_every_batch(rng, monkeypatch):
    graph, params, x, y = fitted(rng)
    seen = []

    def lemma_2(graph, params, x, rng, beta):
        _, df = mg.cross_entropy(mg.forward(graph, params, x).v[graph.L], y[[(row == everything).all(axis=1).argmax() for row in x]])
        np.testing.assert_array_equal(beta, df)
        seen.append(len(x))
        return {"beyond": {1: 1e-16, 2: 1e-5, 4: 1e-12}[len(x)]}

    everything = x
    monkeypatch.setattr(theorem, "lemma_2", lemma_2)
    assert theorem.rank_of_U_S(graph, params, x, y, "cross_entropy", (1, 2, 4), rng) == {"beyond": 1e-5, "holds": False} and seen == [1, 2, 4]
    assert theorem.rank_of_U_S(graph, params, x, y, "cross_entropy", (1, 4), rng)["holds"]
