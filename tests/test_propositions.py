"""Section 3.1: beside each case where a statement holds stands a fault that makes it report otherwise."""

import numpy as np
import pytest

import minigrad as mg
from experiments.theory import convergence, directions, propositions

from problems import clusters

SQUARED = "mean_squared_error"


def test_collinear_samples_have_no_bound_and_sgd_converges_to_what_fits_none_of_them(rng):
    """And not with other targets; nor is it the exception if it fits a label, is zero, or has a bound."""
    x, _ = clusters(rng)
    line, targets = propositions.collinear_data(x[0], 8, 0.05, rng)
    graph = mg.mlp(6, 2, 4, 1)
    history, _ = convergence.descend(graph, line, targets, 1, 0.1, 0.05, SQUARED, 8000)
    end, bound = convergence.converged(history), directions.prop_1(history, line)
    assert end["fits"] and end["least"] > 0.01 and not bound["holds"]
    assert propositions.exception(end, bound)["holds"]
    for fault in ({"fits": False}, {"least": 1e-11}):
        assert not propositions.exception(end | fault, bound)["holds"]
    assert not propositions.exception(end, {"holds": True})["holds"]
    wrong, _ = convergence.descend(graph, line, line @ x[0][:, None], 1, 0.1, 0.05, SQUARED, 8000)
    assert convergence.converged(wrong)["never"]


def test_zero_is_a_convergence_point_but_not_for_a_linear_path(rng):
    x, y = clusters(rng)
    assert propositions.zero_point(mg.mlp(6, 2, 4, 1), x, y, 0.05)["holds"]
    layers = (mg.Layer(6, "identity"), mg.Layer(4), mg.Layer(1, "identity"))
    skip = mg.Graph(layers, (mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(3, 1)))
    assert not propositions.zero_point(skip, x, y, 0.05)["holds"]


WIDER = [  # the largest |l'_i| of every network and seed, the network that is not trained, the verdict
    ([[0.5, 0.4], [0.1, 0.2]], None, True),
    ([[0.1, 0.2], [0.5, 0.4]], None, False),
    ([[0.5, 0.1], [0.3, 0.2]], None, False),
    ([[0.3, 0.2], [0.25, 0.1]], None, False),
    ([[0.5, 0.4], [0.6, 0.7], [0.3, 0.3]], None, True),
    ([[0.5, 0.4], [0.1, 0.2]], 1, False),
    ([[0.9, 0.9], [0.5, 0.4], [0.1, 0.2]], 0, True),
    ([[0.5, 0.4], [0.1, 0.1], [0.6, 0.7]], 1, False),
]


def networks_that_end(slopes, bad, kept, monkeypatch):
    """almost_convergence of networks with these slopes, `kept` of what they were at half the steps.

    One seed of the network `bad` has one of its two samples on the wrong side.
    """
    graph, x, y = mg.mlp(1, 1, 1, 1), np.array([[1.0], [2.0]]), np.array([[1.0], [1.0]])
    ends = [(place, slope) for place, row in enumerate(slopes) for slope in row]
    seeds = []

    def descend(graph, x, y, seed, **training):
        place, slope = ends[len(seeds)]
        seeds.append(seed)
        sign = -1.0 if (place, seed) == (bad, 1) else 1.0
        history = {"step": np.array([1, 4, 8]), "slope": np.array([1.0, slope / kept[place], slope])}
        return history, {(2, 1): np.array([[sign]]), (3, 2): np.array([[1.0]])}

    monkeypatch.setattr(propositions, "descend", descend)
    found = propositions.almost_convergence(x, y, [graph] * len(slopes), 2)
    assert seeds == [0, 1] * len(slopes) and found["slopes"].tolist() == slopes
    np.testing.assert_allclose(found["kept"], np.transpose([kept, kept]), rtol=1e-12)
    return found


@pytest.mark.parametrize("slopes, bad, holds", WIDER)
def test_almost_convergence_must_improve_beyond_the_seeds_from_the_first_trained_network_to_the_last(
    slopes, bad, holds, monkeypatch
):
    found = networks_that_end(slopes, bad, [0.95] * len(slopes), monkeypatch)
    assert found["holds"] is holds
    assert found["trained"].tolist() == [place != bad for place in range(len(slopes))]
    assert propositions.undecided(found) == ""


FALLING = [  # of three networks: kept since half the steps, the one that is not trained, the verdict
    ([0.5, 0.5, 0.5], None, None),
    ([0.95, 0.95, 0.85], None, None),
    ([0.5, 0.95, 0.95], 0, True),
]


@pytest.mark.parametrize("kept, bad, holds", FALLING)
def test_widths_are_not_told_apart_while_a_trained_network_s_slope_still_falls(kept, bad, holds, monkeypatch):
    """At a fixed number of steps, as max |l'_i| falls like 1/t at every width."""
    found = networks_that_end([[0.5, 0.4], [0.3, 0.35], [0.1, 0.2]], bad, kept, monkeypatch)
    assert found["holds"] is holds
    words = propositions.undecided(found)
    assert (f"{min(kept):.2f} to {max(kept):.2f}" in words) == (holds is None)


def test_the_logistic_loss_falls_like_one_over_t_and_is_not_settled(rng):
    x, y = clusters(rng)
    networks = [mg.mlp(6, 1, width, 1) for width in (8, 16)]
    training = {"B": 2, "eta": 0.5, "lam": 0.0, "loss": "logistic", "steps": 800}
    found = propositions.almost_convergence(x, y, networks, 2, **training)
    assert found["trained"].all() and found["holds"] is None
    assert (found["kept"] > 0.3).all() and (found["kept"] < 0.6).all()
