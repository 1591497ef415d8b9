"""SGD near a convergence point: beside each case stands one that must be told otherwise."""

import numpy as np
import pytest

import minigrad as mg
from experiments.theory import convergence

from problems import clusters, network


def squared(f, y):
    return (f - y) ** 2


def logistic(f, y):
    return np.log(1 + np.exp(-y * f))


def exponential(f, y):
    return np.exp(-y * f)


RULES = [("mean_squared_error", squared), ("logistic", logistic), ("exponential", exponential)]


@pytest.mark.parametrize("loss, rule", RULES, ids=[loss for loss, _ in RULES])
def test_residuals_are_the_gradients_of_each_sample_s_own_regularized_loss(loss, rule, rng):
    graph, params = network("MLP-2-5", rng, k=1)
    x, y = rng.normal(size=(3, 9)), np.array([[1.0], [-1.0], [1.0]])
    _, f, g = convergence.residuals(graph, params, x, y, loss, 0.3)
    np.testing.assert_array_equal(f, mg.forward(graph, params, x).v[graph.L][:, 0])
    for i in range(3):
        for e in graph.E_T:
            D = rng.normal(size=params[e].shape)
            W = params[e] + 1e-20j * D
            out = mg.forward(graph, params | {e: W}, x[i : i + 1]).v[graph.L][0, 0]
            along = (rule(out, y[i, 0]) + 0.3 * (W * W).sum()).imag / 1e-20
            np.testing.assert_allclose((g[e][i] * D).sum(), along, rtol=1e-10)


def regularized_gradient(graph, params, x, y, lam):
    """The dense gradient of the mean logistic loss and lam ||W||^2."""
    cache = mg.forward(graph, params, x)
    _, df = mg.logistic(cache.v[graph.L], y)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    return {e: grads[e] + 2 * lam * params[e] for e in graph.E_T}


def size(grads):
    return sum((g**2).sum() for g in grads.values()) ** 0.5


def test_a_history_s_last_entry_is_what_its_last_weights_say(rng):
    """Every field against the dense gradients of the regularized loss on each batch and each sample."""
    x, y, lam = *clusters(rng), 0.05
    graph = mg.mlp(6, 1, 4, 1)
    history, params = convergence.descend(graph, x, y, 2, 0.1, lam, "logistic", 40, seed=3)
    on_batches = []
    for rows in mg.batches(8, 2, 3, 10):
        on_batches.append(size(regularized_gradient(graph, params, x[rows], y[rows], lam)))
    at_the_input = []
    for i in range(8):
        g = regularized_gradient(graph, params, x[i : i + 1], y[i : i + 1], lam)
        at_the_input.append(np.linalg.norm(g[2, 1]))
    f = mg.forward(graph, params, x).v[graph.L]
    slope = 1 / (1 + np.exp(y * f))
    expected = {
        "step": 40,
        "gradient": np.mean(on_batches),
        "residual": max(at_the_input) / (2 * lam * np.linalg.norm(params[2, 1])),
        "slope": slope.max(),
        "least": (abs(f) * slope).min(),
        "output": abs(f).max(),
    }
    assert history.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(history[name][-1], value, rtol=1e-10)


def said(history):
    return {name for name, value in convergence.converged(history).items() if value is True}


NEVER, ZERO, FITS = {"never", "prop_1"}, {"zero", "converges", "prop_1"}, {"fits", "converges"}
ENDS = [  # fall of the gradient, min |l'_i f(x_i)|, max |f(x_i)|, what they say
    (2e-2, 1, 1, NEVER),
    (0.9e-2, 1, 1, NEVER | {"almost"}),
    (0.9e-2, 0, 1, NEVER),
    (1.1e-4, 1, 1, NEVER | {"almost"}),
    (0.9e-4, 1, 1, {"almost"}),
    (1.1e-8, 1, 1, {"almost"}),
    (0.9e-8, 1, 1, FITS),
    (0.9e-8, 0, 1.1e-4, FITS),
    (0.9e-8, 0, 0.9e-4, set()),
    (0.9e-8, 0, 1.1e-8, set()),
    (0.9e-8, 0, 0.9e-8, ZERO),
    (1.1e-8, 0, 0, set()),
]


@pytest.mark.parametrize("fall, least, output, words", ENDS)
def test_what_a_history_s_end_says_of_convergence(fall, least, output, words):
    """At both sides of every threshold; the fall is from the first value, not from the largest."""
    history = {"gradient": [2.0, 9.0, 2 * fall], "slope": [0, 1], "residual": [0, 1]}
    assert said(history | {"least": [9, least], "output": [9, output]}) == words


def test_gd_converges_where_sgd_does_not_and_a_vanishing_network_is_told_from_both(rng):
    x, y = clusters(rng)
    graph = mg.mlp(6, 1, 4, 1)
    gd, _ = convergence.descend(graph, x, y, 8, 0.5, 0.05, "mean_squared_error", 4000)
    sgd, _ = convergence.descend(graph, x, y, 2, 0.5, 0.05, "mean_squared_error", 4000)
    assert said(gd) == FITS and said(sgd) == NEVER
    assert said(gd | {"output": 0 * gd["output"]}) == ZERO
    assert said(gd | {"output": 0 * gd["output"] + 1e-6}) == set()
    zero, _ = convergence.descend(graph, x, y, 8, 0.5, 0.5, "logistic", 400)
    assert said(zero) == ZERO and said({name: values[:3] for name, values in zero.items()}) == NEVER


def test_without_decay_the_squared_loss_converges_and_the_logistic_loss_does_not(rng):
    x, y = rng.normal(size=(8, 12)) / 12**0.5, np.where(np.arange(8) % 2, 1.0, -1.0)[:, None]
    graph = mg.mlp(12, 1, 16, 1)
    for loss, words in (("mean_squared_error", FITS), ("logistic", NEVER | {"almost"})):
        history, _ = convergence.descend(graph, x, y, 2, 0.3, 0.0, loss, 4000)
        assert said(history) == words
        assert np.isnan(history["residual"]).all()


def test_a_minimum_on_kinks_is_told_from_a_crossing_and_from_a_fit(rng):
    squared = "mean_squared_error"
    graph, x = mg.mlp(1, 1, 2, 1), np.array([[1.0], [2.0]])
    params = {(2, 1): np.array([[0.1], [-1.0]]), (3, 2): np.array([[1.0, 1.0]])}
    for target in (0.1 * x, -5 * x):  # a fit, and a first step far below zero, where the unit stays
        found = convergence.at_kinks(graph, params, x, target, (0.1, 0.05), 0.0, squared, 20)
        assert found["gradient"] == [0, 0] and found["crossed"] == [0, 0] and not found["holds"]
        assert params[2, 1][0, 0] == 0.1
    x, y = rng.normal(size=(8, 3)) / 3**0.5, np.where(np.arange(8) % 2, 1.0, -1.0)[:, None]
    graph = mg.mlp(3, 2, 4, 1)
    _, params = convergence.descend(graph, x, y, 8, 0.2, 0.02, squared, 3000)
    assert convergence.at_kinks(graph, params, x, y, (0.02, 0.004), 0.02, squared, 4000)["holds"]
    params = mg.init_params(graph, rng, dtype="float64")
    early = convergence.at_kinks(graph, params, x, y, (0.01, 0.001), 0.02, squared, 20)
    assert early["crossed"] == [0, 0] and not early["holds"]


def test_the_gradient_left_at_kinks_is_that_of_the_regularized_loss(rng):
    x, y = clusters(rng)
    graph, params = network("MLP-2-4", rng, n=6, k=1)
    g = regularized_gradient(graph, params, x, y, 0.3)
    found = convergence.at_kinks(graph, params, x, y, (0.1,), 0.3, "logistic", 0)
    np.testing.assert_allclose(found["gradient"], size(g), rtol=1e-10)
    after = {e: W - 0.1 * g[e] for e, W in params.items()}
    step = convergence.at_kinks(graph, params, x, y, (0.1,), 0.3, "logistic", 1)
    there = convergence.at_kinks(graph, after, x, y, (0.1,), 0.3, "logistic", 0)
    np.testing.assert_allclose(step["gradient"], there["gradient"], rtol=1e-10)
