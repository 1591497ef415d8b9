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
    assert history.keys() == {*expected, "euler"}
    for name, value in expected.items():
        np.testing.assert_allclose(history[name][-1], value, rtol=1e-10)


def network_of(*edges, activation="relu"):
    """Layers 1 to 4 with these edges."""
    widths = ((6, "identity"), (5, activation), (5, activation), (1, "identity"))
    layers = tuple(mg.Layer(width, kind) for width, kind in widths)
    return mg.Graph(layers, tuple(mg.Edge(*edge) for edge in edges))


PATH = ((2, 1), (3, 2), (4, 3))
RESNET = mg.resnet(6, 1, 5, 1)
EULER = {  # a graph, and the layers in which f is not homogeneous
    "relu": (network_of(*PATH), set()),
    "leaky relu": (network_of(*PATH, activation="leaky_relu"), set()),
    "sigmoid": (network_of(*PATH, activation="sigmoid"), {(2, 1), (3, 2)}),
    "skip": (network_of(*PATH, (4, 2)), {(3, 2), (4, 3), (4, 2)}),
    "residual block": (RESNET, set(RESNET.E_T[1:-1])),
}


def euler_error(graph, params, x, y, loss, lam):
    return convergence.euler(params, *convergence.residuals(graph, params, x, y, loss, lam), lam)


@pytest.mark.parametrize("lam", [0.0, 0.3])
@pytest.mark.parametrize("loss", [loss for loss, _ in RULES])
@pytest.mark.parametrize("graph, inexact", EULER.values(), ids=EULER)
def test_euler_s_identity_holds_in_all_layers_of_an_mlp_and_not_beside_a_skip(graph, inexact, loss, lam, rng):
    """For residuals of any loss, and as well where all samples are collinear."""
    x, y = clusters(rng)
    for samples in (x, y * x[:1]):
        params = mg.init_params(graph, rng, dtype="float64", init="he")
        errors = euler_error(graph, params, samples, y, loss, lam)
        found = {e for e, error in zip(params, errors) if error > 1e-12}
        assert found == inexact and (errors[errors > 1e-12] > 1e-3).all()


def test_a_wrong_factor_of_lambda_breaks_euler_s_identity(rng):
    x, y = clusters(rng)
    graph = network_of(*PATH)
    params = mg.init_params(graph, rng, dtype="float64", init="he")
    found = convergence.residuals(graph, params, x, y, "logistic", 0.3)
    assert (convergence.euler(params, *found, 0.3) < 1e-12).all()
    assert (convergence.euler(params, *found, 0.15) > 1e-3).all()


def test_euler_s_identity_is_followed_along_training_of_an_mlp_and_of_a_sigmoid_network(rng):
    x, y = clusters(rng)
    for graph, holds in ((network_of(*PATH), True), (network_of(*PATH, activation="sigmoid"), False)):
        history, params = convergence.descend(graph, x, y, 2, 0.1, 0.05, "logistic", 40)
        found = convergence.along(history)
        assert found["holds"] is holds and found["looks"] == len(history["step"])
        errors = euler_error(graph, params, x, y, "logistic", 0.05)
        assert history["euler"][-1] == errors.max() and found["error"] == history["euler"].max()
    once = np.array([0.0, 2e-10, 0.0])
    assert not convergence.along({"euler": once})["holds"] and convergence.along({"euler": once / 4})["holds"]


def test_all_layers_have_the_same_norm_where_gd_converged_and_not_where_sgd_or_a_resnet_ended(rng):
    x, y = clusters(rng)
    graph, squared = mg.mlp(6, 2, 4, 1), "mean_squared_error"
    history, params = convergence.descend(graph, x, y, 8, 0.3, 0.05, squared, 8000)
    assert said(history) == FITS
    found = convergence.balance(graph, params, x, y, squared, 0.05)
    assert found["holds"]
    np.testing.assert_allclose(found["norm"], [np.linalg.norm(W) for W in params.values()], rtol=1e-12)
    wrong = convergence.balance(graph, params, x, y, squared, 0.1)
    assert wrong["spread"] < 1e-8 < wrong["error"] and not wrong["holds"]
    _, early = convergence.descend(graph, x, y, 8, 0.3, 0.05, squared, 20)
    _, sgd = convergence.descend(graph, x, y, 2, 0.3, 0.05, squared, 8000)
    for elsewhere in (early, sgd):
        assert not convergence.balance(graph, elsewhere, x, y, squared, 0.05)["holds"]
    history, params = convergence.descend(RESNET, x, y, 8, 0.1, 0.05, squared, 8000)
    assert said(history) == FITS and not convergence.balance(RESNET, params, x, y, squared, 0.05)["holds"]


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
