"""Appendices D and E: beside each case that holds stands a fault that does not."""

import numpy as np
import pytest

import minigrad as mg
from experiments.theory import appendices, lemmas

from problems import clusters, one_more_term


def test_eq_25_in_numbers():
    assert appendices.sample_bound(2_541_000, 32, 0.1, 0.05) == pytest.approx(1.127e10, rel=1e-3)
    assert appendices.sample_bound(1, 1, 1.0, 1.0) == pytest.approx(2 * np.log(4))


def test_eq_25_suffices_and_a_wrong_exponent_does_not(rng):
    assert appendices.eq_25(8, 0.1, 0.05, 400, rng)["holds"]
    for wrong in (lambda W, k, e, d: appendices.sample_bound(W, k, e**0.5, d), lambda W, k, e, d: appendices.sample_bound(W, k, e, d) / 8):
        found = appendices.eq_25(8, 0.1, 0.05, 400, rng, wrong)
        assert not found["holds"] and found["share"] > 0.05


def test_eq_26_and_its_rank_constraint_and_what_breaks_them(rng, monkeypatch):
    x, y = clusters(rng)
    graph = mg.mlp(6, 2, 5, 1)
    history, V = appendices.normalized_descent(graph, x, y, 2, 0.1, 10, 400)
    np.testing.assert_allclose([np.linalg.norm(W) for W in V.values()], 1, rtol=1e-12)
    _, first = appendices.normalized_descent(graph, x, y, 8, 0.1, 10, 1)
    start = {e: appendices.unit(W) for e, W in mg.init_params(graph, np.random.default_rng(0), dtype="float64", init="he").items()}
    for e, (R, _) in appendices.eq_26(graph, start, 10, x, y)[0].items():
        np.testing.assert_allclose(first[e], appendices.unit(start[e] + 0.1 * 10 / 8 * R), rtol=1e-10)
    assert 0.5 < history["residual"][-1] < history["residual"][0] <= 1.1 and history["margin"][-1] > 0
    descended, _ = appendices.normalized_descent(mg.mlp(6, 2, 16, 1), x, y, 8, 0.1, 10, 1600)
    assert appendices.stationary(descended)["holds"] and not appendices.stationary(history)["holds"]
    for B in (1, 2):
        found = appendices.appendix_e(graph, V, 10, x, y, B, 5, rng)
        assert found["holds"] and found["gradient_holds"]
    everything = appendices.appendix_e(graph, V, 10, x, y, 8, 1, rng)
    R, c = appendices.eq_26(graph, V, 10, x, y)
    np.testing.assert_allclose(everything["right"], [np.linalg.norm(R[e][0]) / abs(c) for e in V])
    one, some = (appendices.appendix_e(graph, V, 10, x, y, 1, samples, np.random.default_rng(0)) for samples in (1, 8))
    assert (some["right"] <= one["right"]).all() and (some["right"] < one["right"]).any()
    np.testing.assert_allclose(one["left"], [np.linalg.norm(np.linalg.svd(W)[1][1:]) for W in V.values()], atol=1e-14)
    ends = {
        "residual": max(np.linalg.norm(R) / np.linalg.norm(G) for rows in mg.batches(8, 2, 0, 100) for R, G in appendices.eq_26(graph, V, 10, x[rows], y[rows])[0].values()),
        "rank": np.mean([mg.rank(W) for W in V.values()]), "margin": (y * mg.forward(graph, V, x).v[graph.L]).min(),
    }
    for name, value in ends.items():
        assert history[name][-1] == pytest.approx(value, rel=1e-12)
    dead = {e: -abs(W) if e == (3, 2) else W for e, W in V.items()}  # f = 0 everywhere: no bound
    assert np.isinf(appendices.appendix_e(graph, dead, 10, x, y, 1, 5, rng)["right"]).all()
    eq_26 = appendices.eq_26
    faults = {
        "without V f": lambda g, V, rho, x, y: ({e: (G, G) for e, (R, G) in eq_26(g, V, rho, x, y)[0].items()}, eq_26(g, V, rho, x, y)[1]),
        "without rho": lambda g, V, rho, x, y: eq_26(g, V, 1, x, y),
        "spectral norm": lambda g, V, rho, x, y: eq_26(g, {e: W / np.linalg.norm(W, 2) for e, W in V.items()}, rho, x, y),
    }
    for fault in faults.values():
        monkeypatch.setattr(appendices, "eq_26", fault)
        assert not appendices.appendix_e(graph, V, 10, x, y, 2, 5, rng)["gradient_holds"]
    monkeypatch.setattr(appendices, "eq_26", lambda *a: ({e: (1e-3 * R, G) for e, (R, G) in eq_26(*a)[0].items()}, eq_26(*a)[1]))
    V = mg.init_params(graph, rng, dtype="float64", init="he")
    assert not appendices.appendix_e(graph, {e: appendices.unit(W) for e, W in V.items()}, 10, x, y, 2, 5, rng)["holds"]
    monkeypatch.setattr(appendices, "eq_26", eq_26)
    monkeypatch.setattr(lemmas, "forward", one_more_term(lemmas.forward))
    broken = appendices.appendix_e(graph, {e: appendices.unit(W) for e, W in V.items()}, 10, x, y, 2, 5, rng)
    assert broken["error"] < 1e-10 < broken["beyond"] and not broken["gradient_holds"]
