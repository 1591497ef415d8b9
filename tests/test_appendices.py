"""Appendices D and E: beside each case that holds stands a fault that does not."""

import numpy as np
import pytest

import minigrad as mg
from experiments.theory import appendices, lemmas

from problems import clusters, one_more_term

GRAPH = mg.mlp(6, 2, 5, 1)
RHO = 10


@pytest.fixture
def problem():
    """The same for every test: in some others, the network from seed 0 is dead on one of the clusters."""
    return clusters(np.random.default_rng(0))


@pytest.fixture
def trained(problem):
    """Normalized SGD, B = 2, over 100 epochs: the history and the last V."""
    return appendices.normalized_descent(GRAPH, *problem, 2, 0.1, RHO, 400)


def at_random(rng):
    """Normalized weights that were not trained."""
    start = mg.init_params(GRAPH, rng, dtype="float64", init="he")
    return {e: appendices.unit(W) for e, W in start.items()}


def test_eq_25_in_numbers():
    assert appendices.sample_bound(2_541_000, 32, 0.1, 0.05) == pytest.approx(1.127e10, rel=1e-3)
    assert appendices.sample_bound(1, 1, 1.0, 1.0) == pytest.approx(2 * np.log(4))


def test_eq_25_suffices_and_fewer_samples_or_a_wrong_exponent_do_not(rng):
    bound = appendices.sample_bound(1, 8, 0.1, 0.05)
    assert appendices.eq_25(bound, 8, 0.1, 0.05, 400, rng)["holds"]
    for fewer in (bound / 8, appendices.sample_bound(1, 8, 0.1**0.5, 0.05)):
        found = appendices.eq_25(fewer, 8, 0.1, 0.05, 400, rng)
        assert not found["holds"] and found["percent"] > 5


def test_a_step_of_normalized_descent_is_eq_26_s_and_its_history_what_the_last_V_says(problem, trained):
    x, y = problem
    _, first = appendices.normalized_descent(GRAPH, x, y, 8, 0.1, RHO, 1)
    start = at_random(np.random.default_rng(0))
    found, _ = appendices.eq_26(GRAPH, start, RHO, x, y)
    for e, (R, _) in found.items():
        stepped = appendices.unit(start[e] + 0.1 * RHO / 8 * R)
        np.testing.assert_allclose(first[e], stepped, rtol=1e-10)

    history, V = trained
    np.testing.assert_allclose([np.linalg.norm(W) for W in V.values()], 1, rtol=1e-12)
    ratios = []
    for rows in mg.batches(8, 2, 0, 100):
        found, _ = appendices.eq_26(GRAPH, V, RHO, x[rows], y[rows])
        ratios += [np.linalg.norm(R) / np.linalg.norm(G) for R, G in found.values()]
    assert history["residual"][-1] == pytest.approx(max(ratios), rel=1e-12)
    assert history["rank"][-1] == pytest.approx(np.mean([mg.rank(W) for W in V.values()]), rel=1e-12)
    margin = (y * mg.forward(GRAPH, V, x).v[GRAPH.L]).min()
    assert history["margin"][-1] == pytest.approx(margin, rel=1e-12)


def test_gradient_descent_reaches_eq_26_and_sgd_does_not(problem, trained):
    history, _ = trained
    assert 0.5 < history["residual"][-1] < history["residual"][0] <= 1.1
    assert history["margin"][-1] > 0 and not appendices.stationary(history)["holds"]
    descended, _ = appendices.normalized_descent(mg.mlp(6, 2, 16, 1), *problem, 8, 0.1, RHO, 1600)
    assert appendices.stationary(descended)["holds"]


@pytest.mark.parametrize("B", [1, 2])
def test_eq_26_is_the_gradient_and_bounds_the_distance_to_rank_B(B, problem, trained, rng):
    _, V = trained
    found = appendices.appendix_e(GRAPH, V, RHO, *problem, B, 5, rng)
    assert found["holds"] and found["constraint_holds"] and found["gradient_holds"]


def test_the_two_sides_of_the_rank_constraint(problem, trained, rng):
    _, V = trained
    everything = appendices.appendix_e(GRAPH, V, RHO, *problem, 8, 1, rng)
    R, c = appendices.eq_26(GRAPH, V, RHO, *problem)
    np.testing.assert_allclose(everything["right"], [np.linalg.norm(R[e][0]) / abs(c) for e in V])
    one = appendices.appendix_e(GRAPH, V, RHO, *problem, 1, 1, np.random.default_rng(0))
    some = appendices.appendix_e(GRAPH, V, RHO, *problem, 1, 8, np.random.default_rng(0))
    assert (some["right"] <= one["right"]).all() and (some["right"] < one["right"]).any()
    beyond_one = [np.linalg.norm(np.linalg.svd(W)[1][1:]) for W in V.values()]
    np.testing.assert_allclose(one["left"], beyond_one, atol=1e-14)


def test_where_f_is_zero_there_is_no_rank_constraint(problem, trained, rng):
    _, V = trained
    dead = V | {(3, 2): -abs(V[3, 2])}
    assert np.isinf(appendices.appendix_e(GRAPH, dead, RHO, *problem, 1, 5, rng)["right"]).all()


eq_26 = appendices.eq_26


def without_V_f(graph, V, rho, x, y):
    found, c = eq_26(graph, V, rho, x, y)
    return {e: (G, G) for e, (R, G) in found.items()}, c


def without_rho(graph, V, rho, x, y):
    return eq_26(graph, V, 1, x, y)


def with_the_spectral_norm(graph, V, rho, x, y):
    return eq_26(graph, {e: W / np.linalg.norm(W, 2) for e, W in V.items()}, rho, x, y)


@pytest.mark.parametrize("fault", [without_V_f, without_rho, with_the_spectral_norm])
def test_a_wrong_eq_26_is_not_the_gradient(fault, problem, trained, rng, monkeypatch):
    _, V = trained
    monkeypatch.setattr(appendices, "eq_26", fault)
    found = appendices.appendix_e(GRAPH, V, RHO, *problem, 2, 5, rng)
    assert not found["gradient_holds"] and not found["holds"]


def test_a_residual_too_small_breaks_the_rank_constraint(problem, rng, monkeypatch):
    def too_small(graph, V, rho, x, y):
        found, c = eq_26(graph, V, rho, x, y)
        return {e: (1e-3 * R, G) for e, (R, G) in found.items()}, c

    monkeypatch.setattr(appendices, "eq_26", too_small)
    found = appendices.appendix_e(GRAPH, at_random(rng), RHO, *problem, 2, 5, rng)
    assert not found["constraint_holds"] and not found["holds"]


def test_a_first_term_of_one_more_rank_is_seen(problem, trained, rng, monkeypatch):
    _, V = trained
    monkeypatch.setattr(lemmas, "forward", one_more_term(lemmas.forward))
    found = appendices.appendix_e(GRAPH, V, RHO, *problem, 1, 5, rng)
    assert found["error"] < 1e-10 < found["beyond"]
    assert found["constraint_holds"] and not found["gradient_holds"] and not found["holds"]


@pytest.mark.parametrize("residual, holds", [(1.1e-3, False), (0.9e-3, True)])
def test_eq_26_s_stationary_points_are_told_from_others(residual, holds):
    found = appendices.stationary({"residual": np.array([1e-5, residual])})
    assert found == {"residual": residual, "lowest": 1e-5, "holds": holds}
