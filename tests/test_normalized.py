"""Eq. 23 and 24 at beta != 0: beside each case that holds stands a fault that does not."""

import numpy as np
import pytest

import minigrad as mg
from experiments.theory import lemmas, normalized

from problems import network

HIDDEN = [(3, 2), (4, 3)]  # the W of MLP-BN-3 between hidden layers


def setting(rng):
    graph, params = network("MLP-BN-3-7", rng)
    return graph, params, normalized.off_their_start(graph, params), rng.normal(size=(4, 9))


def per_sample_gradients(graph, params, x):
    """{edge: d f_c(x_j) / d W}, (B, k, d_p, d_q) each, by a seed for every sample and output."""
    cache, k = mg.forward(graph, params, x), graph.width(graph.L)
    seeds = np.eye(len(x) * k).reshape(len(x), k, len(x), k)
    return mg.gradients(graph, cache, *mg.backward(graph, params, cache, seeds))


def test_gamma_and_beta_leave_their_start_in_both_directions_and_nothing_else_does(rng):
    graph, params, changed, _ = setting(rng)
    gammas = [changed["gamma", p].item() for p in (2, 3, 4)]
    betas = [changed["beta", p].item() for p in (2, 3, 4)]
    assert gammas == [1.5, 0.7, 1.5] and betas == [0.5, -0.5, 0.5]
    assert changed.keys() == params.keys() and params["gamma", 2] == 1 and params["beta", 2] == 0
    assert all(changed[e] is params[e] for e in graph.E_T)


@pytest.mark.parametrize("edge", HIDDEN)
def test_eq_23_is_backpropagation_s_and_as_printed_only_at_beta_0(edge, rng):
    graph, at_start, changed, x = setting(rng)
    for params, printed_is_right in ((at_start, True), (changed, False)):
        expected = per_sample_gradients(graph, params, x)[edge]
        corrected = normalized.eq_23(graph, params, x, *edge, as_printed=False)
        printed = normalized.eq_23(graph, params, x, *edge, as_printed=True)
        np.testing.assert_allclose(corrected, expected, rtol=0, atol=1e-12 * abs(expected).max())
        apart = abs(printed - expected).max() / abs(expected).max()
        assert apart < 1e-12 if printed_is_right else apart > 0.1


def test_eq_23_as_printed_is_judged_by_slopes_of_f(rng, monkeypatch):
    """The fault: slopes that let A vary, which neither form has."""
    graph, at_start, changed, x = setting(rng)
    found = normalized.written_out(graph, changed, x, rng)
    assert not found["holds"] and found["error"] > 0.1 and found["without_Q"] < 1e-12
    found = normalized.written_out(graph, at_start, x, rng)
    assert found["holds"] and found["error"] < 1e-12
    sketch = normalized.sketch

    def with_A_free(graph, params, x, edge, r, rng, A):
        return sketch(graph, params, x, edge, r, rng)

    monkeypatch.setattr(normalized, "sketch", with_A_free)
    found = normalized.written_out(graph, at_start, x, rng)
    assert not found["holds"] and found["without_Q"] > 0.01


@pytest.mark.parametrize("name", ["MLP-BN-2-8", "RES-BN-1-8"])
def test_eq_24_holds_off_the_start_which_shows_a_gamma_that_is_forgotten(name, rng, monkeypatch):
    graph, at_start = network(name, rng)
    changed, x = normalized.off_their_start(graph, at_start), rng.normal(size=(4, 9))
    assert lemmas.lemma_2(graph, changed, x, rng)["equality_holds"]

    def without_gamma(graph, params, cache, df):
        ones = {("gamma", p): at_start["gamma", p] for p in cache.A}
        return mg.backward(graph, params | ones, cache, df)

    monkeypatch.setattr(lemmas, "backward", without_gamma)
    assert lemmas.lemma_2(graph, at_start, x, rng)["equality_holds"]
    assert not lemmas.lemma_2(graph, changed, x, rng)["equality_holds"]
