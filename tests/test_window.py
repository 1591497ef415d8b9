"""The moving window: beside each case that holds stands a fault that does not."""

import numpy as np
import pytest

import minigrad as mg
from experiments.theory import window

from problems import network


def unroll(rng, momentum=0.9):
    graph, params = network("MLP-BN-2-8", rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    return window.window(graph, params, x, y, "cross_entropy", 5, 0.02 * (10 if momentum == 0 else 1), 0.02, momentum, 200, (3, 2), 0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_unrolled_sgd_is_the_sum_of_its_decayed_terms(momentum, rng):
    found = unroll(rng, momentum)
    assert found["equality_holds"] and found["decay_holds"] and found["age"][0] == 1 and found["age"][-1] == 800
    assert found["rank"][0] <= 4 < found["bound"][0] == 5  # into a normalized layer: B - 1
    np.testing.assert_allclose(found["budget"][-1], 800 * 2 * 0.2 * 0.02)


def test_unrolling_with_a_wrong_recurrence_is_seen(rng, monkeypatch):
    unrolled, train_step = window.unrolled, window.train_step
    faults = {
        "no momentum": lambda eta, lam, momentum, steps: unrolled(eta, lam, 0.0, steps),
        "a wrong exponent": lambda *a: (unrolled(*a)[0], np.roll(unrolled(*a)[1], 1)),
        "lambda for 2 lambda": lambda eta, lam, momentum, steps: unrolled(eta, lam / 2, momentum, steps),
        "the start forgotten": lambda *a: (0.0, unrolled(*a)[1]),
    }
    for fault in faults.values():
        monkeypatch.setattr(window, "unrolled", fault)
        assert not unroll(rng)["equality_holds"]
    monkeypatch.setattr(window, "unrolled", unrolled)
    for times in (0.5, 2):  # on both sides of what holds
        monkeypatch.setattr(window, "train_step", lambda *args: train_step(*args[:-2], times * args[-2], args[-1]))
        found = unroll(rng)
        assert not found["equality_holds"] and not found["decay_holds"]


def test_the_memory_is_counted_in_steps(rng):
    found = unroll(rng)
    assert np.isnan(found["memory"]) and not found["count_holds"]  # E = 6.4: not under 1e-4 yet
    assert found["alone"] == round(np.log(1e-4) / np.log(np.roots([1, -(1 + 0.9 - 2 * 0.02 * 0.02), 0.9]).max()))
    assert found["full"] == 2  # of 5 samples each, in 8 rows
    age = found["age"]
    assert found["rank"][age == found["enough"]] >= found["final"] and (found["rank"][age < found["enough"]] < found["final"]).all()
    pure = np.roots([1, -(1 + 0.9 - 2 * 0.02 * 0.02), 0.9]).max() ** 800
    np.testing.assert_allclose(found["shrunk"][-1], window.unrolled(0.02, 0.02, 0.9, 800)[0] / pure, rtol=1e-6)  # all that is older is W_0
    np.testing.assert_allclose(found["budgeted"] * np.exp(-2 * 0.02 * 0.02 / 0.1 * np.arange(1, 801)), found["shrunk"] * np.roots([1, -(1 + 0.9 - 2 * 0.02 * 0.02), 0.9]).max() ** np.arange(1, 801))


def test_what_is_never_reached_is_not_a_number(rng):
    """Twenty steps that change next to nothing: W is its start, and what they wrote is below 1e-4 of it."""
    graph, params = network("MLP-2-64", rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    found = window.window(graph, params, x, y, "cross_entropy", 1, 1e-7, 0.02, 0.0, 1, (3, 2), 0)
    assert np.isnan(found["memory"]) and np.isnan(found["enough"]) and np.isnan(found["full"]) and not found["count_holds"]
    assert found["rest"][0] == pytest.approx(1, abs=1e-3) and (found["rank"] == 0).all()


@pytest.mark.parametrize("B, holds", [(1, True), (2, False)])
def test_counting_bounds_the_rank_only_of_a_short_memory(B, holds, rng):
    """Ridge regression, so that W stays: a step leaves 0.8 of what was there, 1e-4 after 42, which write 42 or 84 directions in 64."""
    graph = mg.Graph((mg.Layer(64, "identity"), mg.Layer(64, "identity")), (mg.Edge(2, 1),))
    x, y = rng.normal(size=(2, 20, 64)) / 8
    found = window.window(graph, mg.init_params(graph, rng, dtype="float64"), x, y, "mean_squared_error", B, 0.1, 1.0, 0.0, 20, (2, 1), 0)
    assert found["equality_holds"] and 38 < found["memory"] < 60 and found["count_holds"] is holds
