"""The moving window: beside each case that holds stands a fault that does not."""

import numpy as np
import pytest

import minigrad as mg
from experiments.figures import FIGURES
from experiments.plans import Plan
from experiments.runs import Run
from experiments.theory import window

from problems import network


def unroll(rng, momentum=0.9):
    graph, params = network("MLP-BN-2-8", rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    eta = 0.2 * (1 - momentum)
    return window.window(graph, params, x, y, "cross_entropy", 5, eta, 0.02, momentum, 200, (3, 2), 0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_unrolled_sgd_is_the_sum_of_its_decayed_terms(momentum, rng):
    found = unroll(rng, momentum)
    history = found["history"]
    assert found["identity"]["holds"] and found["decay"]["holds"]
    assert history["age"][0] == 1 and history["age"][-1] == 800
    assert history["rank"][0] <= 4 < history["bound"][0] == 5  # into a normalized layer: B - 1
    for budget in (history["budget"][-1], found["decay"]["E"]):
        np.testing.assert_allclose(budget, 800 * 2 * 0.2 * 0.02)


def test_unrolling_with_a_wrong_recurrence_is_seen(rng, monkeypatch):
    unrolled, train_step = window.unrolled, window.train_step

    def no_momentum(eta, lam, momentum, steps):
        return unrolled(eta, lam, 0.0, steps)

    def lambda_for_2_lambda(eta, lam, momentum, steps):
        return unrolled(eta, lam / 2, momentum, steps)

    def a_wrong_exponent(*a):
        decay, share = unrolled(*a)
        return decay, np.roll(share, 1)

    def the_start_forgotten(*a):
        decay, share = unrolled(*a)
        return 0.0, share

    for fault in (no_momentum, lambda_for_2_lambda, a_wrong_exponent, the_start_forgotten):
        monkeypatch.setattr(window, "unrolled", fault)
        assert not unroll(rng)["identity"]["holds"]
    monkeypatch.setattr(window, "unrolled", unrolled)
    for times in (0.5, 2):  # on both sides of what holds
        def another_lambda(*args, times=times):
            *before, lam, momentum = args
            return train_step(*before, times * lam, momentum)

        monkeypatch.setattr(window, "train_step", another_lambda)
        found = unroll(rng)
        assert not found["identity"]["holds"] and not found["decay"]["holds"]


def test_the_memory_is_counted_in_steps(rng):
    found = unroll(rng)
    count, decay, history = found["count"], found["decay"], found["history"]
    assert np.isnan(count["memory"]) and not count["holds"]  # E = 6.4: not under 1e-4 yet
    pure = np.roots([1, -(1 + 0.9 - 2 * 0.02 * 0.02), 0.9]).max()
    assert count["alone"] == round(np.log(1e-4) / np.log(pure))
    assert count["full"] == 2  # of 5 samples each, in 8 rows
    age, ranks = history["age"], history["rank"]
    assert count["written"] == ranks[1]
    assert ranks[age == count["enough"]] >= count["final"]
    assert (ranks[age < count["enough"]] < count["final"]).all()
    decayed, _ = window.unrolled(0.02, 0.02, 0.9, 800)  # all that is older than 800 steps is W_0
    np.testing.assert_allclose(decay["over_pure"][-1], decayed / pure**800, rtol=1e-6)
    steps = np.arange(1, 801)
    left = decay["over_budget"] * np.exp(-2 * 0.02 * 0.02 / 0.1 * steps)
    np.testing.assert_allclose(left, decay["over_pure"] * pure**steps)


def test_what_is_never_reached_is_not_a_number(rng):
    """Twenty steps that change next to nothing: W is its start, and what they wrote is below 1e-4 of it."""
    graph, params = network("MLP-2-64", rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    found = window.window(graph, params, x, y, "cross_entropy", 1, 1e-7, 0.02, 0.0, 1, (3, 2), 0)
    count, history = found["count"], found["history"]
    assert np.isnan([count["memory"], count["enough"], count["full"]]).all() and not count["holds"]
    assert history["rest"][0] == pytest.approx(1, abs=1e-3) and (history["rank"] == 0).all()


@pytest.mark.parametrize("B, holds", [(1, True), (2, False)])
def test_counting_bounds_the_rank_only_of_a_short_memory(B, holds, rng):
    """Ridge regression, so that W stays: a step leaves 0.8 of what was there, 1e-4 after 42.

    These write 42 or 84 directions in 64.
    """
    graph = mg.Graph((mg.Layer(64, "identity"), mg.Layer(64, "identity")), (mg.Edge(2, 1),))
    x, y = rng.normal(size=(2, 20, 64)) / 8
    params = mg.init_params(graph, rng, dtype="float64")
    found = window.window(graph, params, x, y, "mean_squared_error", B, 0.1, 1.0, 0.0, 20, (2, 1), 0)
    assert found["identity"]["holds"] and 38 < found["count"]["memory"] < 60
    assert found["count"]["holds"] is holds


def steps_until_forgotten(eta, lam, momentum):
    """As many as pure decay takes to 1e-4, step by step, from velocity at the slow eigenvector."""
    slow = np.roots([1, -(1 + momentum - 2 * eta * lam), momentum]).max().real
    W, velocity = 1.0, (1 - slow) / eta
    steps = 0
    while W > 1e-4:
        velocity = momentum * velocity + 2 * lam * W
        W -= eta * velocity
        steps += 1
    return steps


def test_the_paper_s_figures_remember_hundreds_of_steps():
    """The least is Figure 3's, at the largest of all lambda and eta; at lambda = 0 nothing is forgotten."""
    runs = window.in_figures()
    assert set(runs) == {run for name in window.PAPER for run in Plan(name, "paper", seeds=1).runs()}
    assert {run.network for run in runs} == {FIGURES[name].base.network for name in window.PAPER}
    found = window.counted(runs)
    assert abs(found["usual"] - steps_until_forgotten(0.1, 5e-4, 0.9)) <= 1
    assert abs(found["least"] - steps_until_forgotten(0.1, 6e-3, 0.9)) <= 1
    assert found["least_setting"] == "η = 0.1, λ = 6e-3" and not found["holds"]
    assert found["widths"] == pytest.approx(4 * found["usual"] / 500)  # Figures 4 and 5 at B = 4


@pytest.mark.parametrize("B, holds", [(5, True), (6, False)])
def test_counting_would_bound_the_rank_at_a_far_larger_lambda(B, holds):
    """0.6 per step leave 1e-4 after 18, which write 90 or 108 of 100 directions."""
    run = Run(network="MLP-3-100", eta=0.1, lam=2.0, momentum=0.0, B=B)
    found = window.counted([Run(), run, Run(lam=0.0)])
    assert found["least"] == 18 and found["widths"] == 18 * B / 100 and found["holds"] is holds
