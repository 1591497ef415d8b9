"""Lemmas 1 and 2: beside each case where they hold stands a fault that makes them report that they do not."""

import numpy as np
import pytest

import minigrad as mg
from experiments.theory import lemmas

from problems import network, one_more_term


@pytest.mark.parametrize("name", ["MLP-3-7", "RES-2-7"])
def test_lemma_1_holds_without_batch_norm_and_eq_13_with_backward_s_factors(name, rng, monkeypatch):
    graph, params = network(name, rng)
    x = rng.normal(size=(3, 9))
    found = lemmas.lemma_1(graph, params, x, rng)
    assert found["rank_holds"] and found["equality_holds"] and found["ratio"].shape == (len(graph.E_T), 9) and found["gradients"] > 0
    backward = lemmas.backward
    monkeypatch.setattr(lemmas, "backward", lambda *a: ({p: U * (1 + 1e-9 * (p == 3)) for p, U in backward(*a)[0].items()}, {}))
    broken = lemmas.lemma_1(graph, params, x, rng)
    assert broken["rank_holds"] and not broken["equality_holds"]
    monkeypatch.setattr(lemmas, "forward", one_more_term(lemmas.forward))
    broken = lemmas.lemma_1(graph, params, x, rng)
    assert not broken["rank_holds"] and broken["largest"] > 1e-3


def test_lemma_1_does_not_hold_with_batch_norm(rng):
    graph, params = network("MLP-BN-3-7", rng)
    found = lemmas.lemma_1(graph, params, rng.normal(size=(4, 9)), rng)
    assert not found["rank_holds"] and not found["equality_holds"] and found["largest"] > 0.01


def test_the_sketch_is_the_gradient_entry_by_entry(rng):
    """With r = d_p = d_q it is a rotation of the gradient, which central differences give; float32 has its own precision."""
    graph, params = network("MLP-BN-2-5", rng, n=5)
    x = rng.normal(size=(4, 5))
    A = mg.forward(graph, params, x).A
    slopes = np.empty((4, 3, 5, 5))
    for i, j in np.ndindex(5, 5):
        step = np.zeros((5, 5))
        step[i, j] = 1e-6
        after, before = (mg.forward(graph, params | {(3, 2): params[3, 2] + sign * step}, x, A=A).v[4] for sign in (1, -1))
        slopes[:, :, i, j] = (after - before) / 2e-6
    for dtype, tolerance in (("float64", 1e-8), ("float32", 1e-4)):
        cast = {key: W.astype(dtype) for key, W in params.items()}
        found, P, Q = lemmas.sketch(graph, cast, x.astype(dtype), (3, 2), 5, rng, {p: a.astype(dtype) for p, a in A.items()})
        np.testing.assert_allclose(P.T @ found @ Q, slopes, rtol=0, atol=tolerance * abs(slopes).max())
        np.testing.assert_allclose(P @ P.T, np.eye(5), atol=tolerance)
        assert found.dtype == dtype


def test_the_sketch_keeps_the_rank_up_to_its_size(rng, monkeypatch):
    """The gradient of the sum of log(1 + W^2) has full rank, that of u^T W v rank one, that of two such terms rank two."""
    graph, params = network("MLP-1-6", rng)
    u, v = rng.normal(size=(2, 6)), rng.normal(size=(2, 9))
    for terms, rank in ((1, 1), (2, 2), (None, 4)):
        def f(W):
            return np.log(1 + W**2).sum(axis=(-1, -2)) if terms is None else sum((u[t] @ W) @ v[t] for t in range(terms))

        monkeypatch.setattr(lemmas, "forward", lambda g, p, x, A=None: mg.Cache({3: f(p[2, 1])[:, None, None]}, {}, {}, {}, False, False))
        found, _, _ = lemmas.sketch(graph, params, None, (2, 1), 4, rng)
        s = np.linalg.svd(found[0, 0], compute_uv=False)
        assert (s > lemmas.TOLERANCE * s[0]).sum() == rank


@pytest.mark.parametrize("name", ["MLP-BN-2-8", "RES-BN-1-8"])
def test_lemma_2_its_sharper_form_and_eq_24(name, rng, monkeypatch):
    graph, params = network(name, rng)
    x = rng.normal(size=(4, 9))
    found = lemmas.lemma_2(graph, params, x, rng)
    assert found["rank_holds"] and found["sharper_holds"] and found["equality_holds"]
    assert found["rank"][found["normalized"]].max() == 3  # reached, so that a bound of B - 2 would be seen to fail
    free = lemmas.lemma_2(graph, params, x, rng, detached=False)
    assert free["rank_holds"] and free["sharper_holds"] and not free["equality_holds"]
    forward = lemmas.forward
    monkeypatch.setattr(lemmas, "forward", lambda g, p, x, A=None: forward(g, p, x, A=A, b=A and forward(graph, params, x).b))
    fixed_mean = lemmas.lemma_2(graph, params, x, rng)  # b detached too: nothing makes the sum of U vanish
    assert fixed_mean["rank_holds"] and not fixed_mean["sharper_holds"] and not fixed_mean["equality_holds"]

    monkeypatch.setattr(lemmas, "forward", one_more_term(forward))
    broken = lemmas.lemma_2(graph, params, x, rng)  # the residual network's input layer isn't normalized: rank B there, and now B + 1
    assert not broken["sharper_holds"] and broken["rank_holds"] is not name.startswith("RES")


def test_a_gradient_that_is_zero_has_rank_0(rng):
    """All units of a layer are off: the edges before it, and the one after, get no gradient from any sample."""
    for name in ("MLP-2-5", "MLP-BN-2-5"):
        graph, params = network(name, rng)
        params[3, 2] = -abs(params[3, 2])
        if ("beta", 3) in params:
            params["gamma", 3], params["beta", 3] = np.zeros((1, 1)), -np.ones((1, 1))
        found = lemmas.lemma_2(graph, params, abs(rng.normal(size=(3, 9))), rng)
        assert found["rank_holds"] and found["equality_holds"] and found["rank"].max() == 0 and found["error"] == 0
    assert lemmas.lemma_1(*network("MLP-1-1", rng), rng.normal(size=(3, 9)), rng)["rank_holds"]
