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
    assert found["rank"]["holds"] and found["equality"]["holds"]
    assert found["ratio"].shape == (len(graph.E_T), 9) and found["rank"]["gradients"] > 0
    backward = lemmas.backward

    def off_in_layer_3(*a):
        U, dscale = backward(*a)
        return U | {3: U[3] * (1 + 1e-9)}, dscale

    monkeypatch.setattr(lemmas, "backward", off_in_layer_3)
    broken = lemmas.lemma_1(graph, params, x, rng)
    assert broken["rank"]["holds"] and not broken["equality"]["holds"]
    monkeypatch.setattr(lemmas, "forward", one_more_term(lemmas.forward))
    broken = lemmas.lemma_1(graph, params, x, rng)
    assert not broken["rank"]["holds"] and broken["rank"]["largest"] > 1e-3


def test_lemma_1_does_not_hold_with_batch_norm(rng):
    graph, params = network("MLP-BN-3-7", rng)
    found = lemmas.lemma_1(graph, params, rng.normal(size=(4, 9)), rng)
    assert not found["rank"]["holds"] and not found["equality"]["holds"] and found["rank"]["largest"] > 0.01


def test_the_sketch_is_the_gradient_entry_by_entry(rng):
    """With r = d_p = d_q it is a rotation of the gradient, which central differences give.

    float32 has its own precision.
    """
    graph, params = network("MLP-BN-2-5", rng, n=5)
    x = rng.normal(size=(4, 5))
    A = mg.forward(graph, params, x).A
    slopes = np.empty((4, 3, 5, 5))
    for i, j in np.ndindex(5, 5):
        step = np.zeros((5, 5))
        step[i, j] = 1e-6
        after = mg.forward(graph, params | {(3, 2): params[3, 2] + step}, x, A=A).v[4]
        before = mg.forward(graph, params | {(3, 2): params[3, 2] - step}, x, A=A).v[4]
        slopes[:, :, i, j] = (after - before) / 2e-6
    for dtype, tolerance in (("float64", 1e-8), ("float32", 1e-4)):
        cast = {key: W.astype(dtype) for key, W in params.items()}
        held = {p: a.astype(dtype) for p, a in A.items()}
        found, P, Q = lemmas.sketch(graph, cast, x.astype(dtype), (3, 2), 5, rng, held)
        np.testing.assert_allclose(P.T @ found @ Q, slopes, rtol=0, atol=tolerance * abs(slopes).max())
        np.testing.assert_allclose(P @ P.T, np.eye(5), atol=tolerance)
        assert found.dtype == dtype


def test_the_sketch_keeps_the_rank_up_to_its_size(rng, monkeypatch):
    """The gradient of u^T W v has rank one, that of two such terms rank two, that of sum log(1 + W^2) all."""
    graph, params = network("MLP-1-6", rng)
    u, v = rng.normal(size=(2, 6)), rng.normal(size=(2, 9))

    def one_term(W):
        return (u[0] @ W) @ v[0]

    def two_terms(W):
        return (u[0] @ W) @ v[0] + (u[1] @ W) @ v[1]

    def every_entry(W):
        return np.log(1 + W**2).sum(axis=(-1, -2))

    for f, rank in ((one_term, 1), (two_terms, 2), (every_entry, 4)):
        def forward(graph, params, x, A=None, f=f):
            return mg.Cache({3: f(params[2, 1])[:, None, None]}, {}, {}, {}, False, False)

        monkeypatch.setattr(lemmas, "forward", forward)
        found, _, _ = lemmas.sketch(graph, params, None, (2, 1), 4, rng)
        s = np.linalg.svd(found[0, 0], compute_uv=False)
        assert (s > lemmas.TOLERANCE * s[0]).sum() == rank


@pytest.mark.parametrize("name", ["MLP-BN-2-8", "RES-BN-1-8"])
def test_lemma_2_its_sharper_form_and_eq_24(name, rng, monkeypatch):
    graph, params = network(name, rng)
    x = rng.normal(size=(4, 9))
    found = lemmas.lemma_2(graph, params, x, rng)
    assert found["rank_holds"] and found["sharper_holds"] and found["equality_holds"]
    # B - 1 is reached, so that a bound of B - 2 would be seen to fail.
    assert found["rank"][found["normalized"]].max() == 3
    forward = lemmas.forward

    def b_detached_too(g, p, x, A=None):
        b = forward(graph, params, x).b if A else None
        return forward(g, p, x, A=A, b=b)

    monkeypatch.setattr(lemmas, "forward", b_detached_too)
    fixed_mean = lemmas.lemma_2(graph, params, x, rng)  # nothing makes the sum of U vanish
    assert fixed_mean["rank_holds"] and not fixed_mean["sharper_holds"] and not fixed_mean["equality_holds"]

    monkeypatch.setattr(lemmas, "forward", one_more_term(forward))
    broken = lemmas.lemma_2(graph, params, x, rng)
    # The residual network's input layer isn't normalized: rank B there, and now B + 1.
    assert not broken["sharper_holds"] and broken["rank_holds"] is not name.startswith("RES")


def test_what_lies_beyond_a_rank_is_that_of_the_worst_spectrum():
    """The fault: their mean. A matrix that is zero has nothing beyond."""
    spectra = np.array([[[8.0, 1.0, 0.0], [4.0, 2.0, 1.0]], [[0.0, 0.0, 0.0], [2.0, 0.5, 0.25]]])
    for r, beyond in enumerate((1, 1 / 2, 1 / 4, 0)):
        assert lemmas.beyond_rank(spectra, r) == beyond
        assert lemmas.beyond_rank(spectra[0, 1], r) == beyond


def test_the_worst_batch_decides_and_the_last_one_s_rank_is_told():
    def found(B, beyond, sharper, error):
        holds = {"rank_holds": beyond < 1, "sharper_holds": sharper < 1, "equality_holds": error < 1}
        rank = np.array([[B, B], [B - 1, B - 2]])
        numbers = {"B": B, "rank": rank, "normalized": np.array([False, True])}
        return numbers | {"beyond": beyond, "sharper": sharper, "error": error} | holds

    good, bad = found(4, 0.1, 0.2, 0.3), found(3, 4, 5, 6)
    for results, holds in (([good, good], True), ([good, bad], False), ([bad, good], False)):
        worst = lemmas.over_batches(results)
        assert [statement["holds"] for statement in worst.values()] == [holds] * 4
    assert worst["rank"] == {"beyond": 4, "rank": 4, "B": 4, "holds": False}
    assert worst["sharper"] == {"beyond": 5, "rank": 3, "B": 4, "holds": False}
    assert worst["equality"] == {"error": 6, "holds": False}
    assert worst["all"] == {"beyond": 4, "sharper": 5, "error": 6, "holds": False}
    for one in (found(4, 4, 0, 0), found(4, 0, 5, 0), found(4, 0, 0, 6)):
        assert not lemmas.over_batches([one])["all"]["holds"]


@pytest.mark.parametrize("name", ["MLP-BN-2-8", "RES-BN-1-8"])
def test_lemma_2_needs_no_detaching_but_another_U(name, rng, monkeypatch):
    """The fault: backpropagation that detaches A, beside slopes that don't."""
    graph, params = network(name, rng)
    true_graph = mg.parse(name, 9, 3, detached=False)
    x = rng.normal(size=(4, 9))
    found = lemmas.lemma_2(true_graph, params, x, rng)
    assert found["rank_holds"] and found["sharper_holds"] and found["equality_holds"]
    assert found["rank"][found["normalized"]].max() == 3
    apart = lemmas.without_detaching(graph, true_graph, params, x, (3, 4))
    assert not apart["holds"] and min(apart["errors"]) > 0.1
    same = lemmas.without_detaching(graph, graph, params, x, (3, 4))
    assert same == {"errors": [0, 0], "holds": True}

    def detaching(graph_, *a):
        return mg.backward(graph, *a)

    monkeypatch.setattr(lemmas, "backward", detaching)
    mixed = lemmas.lemma_2(true_graph, params, x, np.random.default_rng(4))
    assert mixed["rank_holds"] and mixed["sharper_holds"] and not mixed["equality_holds"]
    # About the same from slopes along random directions as from factors, for the same beta.
    assert 0.3 < mixed["error"] / apart["errors"][1] < 3


def test_a_gradient_that_is_zero_has_rank_0(rng):
    """All units of a layer are off: the edges before it, and the one after, get none from any sample."""
    for name in ("MLP-2-5", "MLP-BN-2-5"):
        graph, params = network(name, rng)
        params[3, 2] = -abs(params[3, 2])
        if ("beta", 3) in params:
            params["gamma", 3], params["beta", 3] = np.zeros((1, 1)), -np.ones((1, 1))
        found = lemmas.lemma_2(graph, params, abs(rng.normal(size=(3, 9))), rng)
        assert found["rank_holds"] and found["equality_holds"]
        assert found["rank"].max() == 0 and found["error"] == 0
    assert lemmas.lemma_1(*network("MLP-1-1", rng), rng.normal(size=(3, 9)), rng)["rank"]["holds"]
