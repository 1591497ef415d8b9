"""Section 3.1: beside each case where a statement holds stands a fault that makes it report otherwise."""

import numpy as np
import pytest

import minigrad as mg
from experiments.theory import convergence, propositions

from problems import clusters, network


@pytest.mark.parametrize(
    "loss, rule",
    [("mean_squared_error", lambda f, y: (f - y) ** 2), ("logistic", lambda f, y: np.log(1 + np.exp(-y * f))), ("exponential", lambda f, y: np.exp(-y * f))],
)
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
            np.testing.assert_allclose((g[e][i] * D).sum(), (rule(out, y[i, 0]) + 0.3 * (W * W).sum()).imag / 1e-20, rtol=1e-10)


def test_a_history_s_last_entry_is_what_its_last_weights_say(rng):
    """Every field against the dense gradients of the regularized loss on each batch and each sample."""
    x, y, lam = *clusters(rng), 0.05
    graph = mg.mlp(6, 1, 4, 1)
    history, params = convergence.descend(graph, x, y, 2, 0.1, lam, "logistic", 40, seed=3)

    def gradient(rows):
        cache = mg.forward(graph, params, x[rows])
        _, df = mg.logistic(cache.v[graph.L], y[rows])
        grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
        return {e: grads[e] + 2 * lam * params[e] for e in graph.E_T}

    def size(grads):
        return sum((g**2).sum() for g in grads.values()) ** 0.5

    f = mg.forward(graph, params, x).v[graph.L]
    expected = {
        "step": 40, "gradient": np.mean([size(gradient(rows)) for rows in mg.batches(8, 2, 3, 10)]), "slope": (1 / (1 + np.exp(y * f))).max(),
        "residual": max(np.linalg.norm(gradient([i])[2, 1]) for i in range(8)) / (2 * lam * np.linalg.norm(params[2, 1])),
        "least": (abs(f) / (1 + np.exp(y * f))).min(), "output": abs(f).max(),
    }
    assert history.keys() == {*expected, "diverged"}
    for name, value in expected.items():
        np.testing.assert_allclose(history[name][-1], value, rtol=1e-10)


def verdicts(history):
    return {name for name, verdict in convergence.converged(history).items() if verdict is True}


@pytest.mark.parametrize(
    "fall, least, output, said",
    [(2e-2, 1, 1, {"never"}), (0.9e-2, 1, 1, {"never", "almost"}), (0.9e-2, 0, 1, {"never"}), (1.1e-4, 1, 1, {"never", "almost"}),
     (0.9e-4, 1, 1, {"almost"}), (1.1e-8, 1, 1, {"almost"}), (0.9e-8, 1, 1, {"holds"}), (0.9e-8, 0, 1.1e-4, {"holds"}),
     (0.9e-8, 0, 0.9e-4, set()), (0.9e-8, 0, 1.1e-8, set()), (0.9e-8, 0, 0.9e-8, {"zero"}), (1.1e-8, 0, 0, set())],
)
def test_what_a_history_s_end_says_of_convergence(fall, least, output, said):
    """At both sides of every threshold; the fall is from the first value, not from the largest."""
    assert verdicts({"gradient": [2.0, 9.0, 2 * fall], "slope": [0, 1], "least": [9, least], "output": [9, output]}) == said


def test_gd_converges_and_sgd_stays_away_from_a_bound_that_collinear_samples_do_not_have(rng):
    """Prop. 1, its exception, and faults: the wrong targets, no angle between the samples, a residual below the bound."""
    x, y = clusters(rng)
    graph = mg.mlp(6, 1, 4, 1)
    gd, _ = convergence.descend(graph, x, y, 8, 0.5, 0.05, "mean_squared_error", 4000)
    sgd, _ = convergence.descend(graph, x, y, 2, 0.5, 0.05, "mean_squared_error", 4000)
    assert verdicts(gd) == {"holds"} and verdicts(sgd) == {"never"}
    assert verdicts(gd | {"output": 0 * gd["output"]}) == {"zero"} and verdicts(gd | {"output": 0 * gd["output"] + 1e-6}) == set()
    for history in (gd, sgd):
        assert propositions.prop_1(history, x)["holds"]
    dip = sgd["residual"].copy()
    dip[len(dip) // 2] = 0.1  # below the bound once, in the middle
    assert not propositions.prop_1(sgd | {"residual": dip}, x)["holds"]
    line, targets = propositions.collinear_data(x[0], 8, 0.05, rng)
    graph = mg.mlp(6, 2, 4, 1)
    exception, _ = convergence.descend(graph, line, targets, 1, 0.1, 0.05, "mean_squared_error", 8000)
    assert verdicts(exception) == {"holds"} and exception["least"][-1] > 0.01 and not propositions.prop_1(exception, line)["holds"]
    wrong, _ = convergence.descend(graph, line, line @ x[0][:, None], 1, 0.1, 0.05, "mean_squared_error", 8000)
    assert verdicts(wrong) == {"never"}
    zero, _ = convergence.descend(mg.mlp(6, 1, 4, 1), x, y, 8, 0.5, 0.5, "logistic", 400)
    assert verdicts(zero) == {"zero"} and verdicts({name: values[:3] for name, values in zero.items() if name != "diverged"}) == {"never"}


def test_the_bound_of_prop_1_is_reached_between_two_samples_and_never_crossed(rng):
    """W and any a_i, the vectors l'_i E_{p,i}; the best a_i is -2 lambda W x_i / ||x_i||^2, the worst W looks between the samples."""
    for angle in (0.1, 0.5, np.pi / 2):
        x = np.array([[1.0, 0.0], [2 * np.cos(angle), 2 * np.sin(angle)]])
        c = propositions.prop_1({"residual": np.array([1.0])}, x)["c"]
        between = rng.normal(size=(3, 1)) * [[np.cos(angle / 2), np.sin(angle / 2)]]
        for W, noise in [(between, 0.0), *((rng.normal(size=(3, 2)), 10 ** rng.uniform(-4, 1)) for _ in range(300))]:
            a = -(W @ x.T).T / (x**2).sum(axis=1)[:, None] + noise * rng.normal(size=(2, 3))
            least = np.linalg.norm(a[:, :, None] * x[:, None] + W, axis=(1, 2)).max() / np.linalg.norm(W)
            assert least >= c * (1 - 1e-12)
            if W is between:
                np.testing.assert_allclose([least, c], np.sin(angle / 2), rtol=1e-9)
    for line in ([[1.0, 2.0], [-2.0, -4.0]], [[1.0, 2.0]]):
        assert not propositions.prop_1({"residual": np.array([1.0])}, np.array(line))["holds"]


def test_zero_is_a_convergence_point_but_not_for_a_linear_path(rng):
    x, y = clusters(rng)
    assert propositions.zero_point(mg.mlp(6, 2, 4, 1), x, y, 0.05)["holds"]
    layers = (mg.Layer(6, "identity"), mg.Layer(4), mg.Layer(1, "identity"))
    assert not propositions.zero_point(mg.Graph(layers, (mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(3, 1))), x, y, 0.05)["holds"]


def test_a_minimum_on_kinks_is_told_from_a_crossing_and_from_a_fit(rng):
    graph, x = mg.mlp(1, 1, 2, 1), np.array([[1.0], [2.0]])
    params = {(2, 1): np.array([[0.1], [-1.0]]), (3, 2): np.array([[1.0, 1.0]])}
    for target in (0.1 * x, -5 * x):  # a fit, and a first step far below zero, where the unit stays
        found = convergence.at_kinks(graph, params, x, target, (0.1, 0.05), 0.0, "mean_squared_error", 20)
        assert found == {"gradient": [0, 0], "crossed": [0, 0], "holds": False} and params[2, 1][0, 0] == 0.1
    x, y = rng.normal(size=(8, 3)) / 3**0.5, np.where(np.arange(8) % 2, 1.0, -1.0)[:, None]
    graph = mg.mlp(3, 2, 4, 1)
    _, params = convergence.descend(graph, x, y, 8, 0.2, 0.02, "mean_squared_error", 3000)
    assert convergence.at_kinks(graph, params, x, y, (0.02, 0.004), 0.02, "mean_squared_error", 4000)["holds"]
    early = convergence.at_kinks(graph, mg.init_params(graph, rng, dtype="float64"), x, y, (0.01, 0.001), 0.02, "mean_squared_error", 20)
    assert early["crossed"] == [0, 0] and not early["holds"]


def test_the_gradient_left_at_kinks_is_that_of_the_regularized_loss(rng):
    x, y = clusters(rng)
    graph, params = network("MLP-2-4", rng, n=6, k=1)
    cache = mg.forward(graph, params, x)
    _, df = mg.logistic(cache.v[graph.L], y)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    size = sum(((grads[e] + 0.6 * params[e]) ** 2).sum() for e in graph.E_T) ** 0.5
    found = convergence.at_kinks(graph, params, x, y, (0.1,), 0.3, "logistic", 0)
    np.testing.assert_allclose(found["gradient"], size, rtol=1e-10)
    after = {e: W - 0.1 * (grads[e] + 0.6 * W) for e, W in params.items()}
    step, there = (convergence.at_kinks(graph, start, x, y, (0.1,), 0.3, "logistic", steps) for start, steps in ((params, 1), (after, 0)))
    np.testing.assert_allclose(step["gradient"], there["gradient"], rtol=1e-10)


@pytest.mark.parametrize("loss", ["mean_squared_error", "logistic"])
def test_prop_2_s_inequality_and_eq_14_hold_for_relu_and_not_for_sigmoid(loss, rng):
    x, y = clusters(rng)
    for graph, holds in ((mg.mlp(6, 2, 5, 1), True), (mg.resnet(6, 1, 5, 1), True),
                         (mg.Graph((mg.Layer(6, "identity"), mg.Layer(5, "sigmoid"), mg.Layer(1, "identity")), (mg.Edge(2, 1), mg.Edge(3, 2))), False)):
        params = mg.init_params(graph, rng, dtype="float64", init="he")
        assert propositions.prop_2(graph, params, x, y, loss)["holds"] is holds


def test_without_decay_the_squared_loss_converges_and_the_logistic_loss_does_not(rng):
    x, y = rng.normal(size=(8, 12)) / 12**0.5, np.where(np.arange(8) % 2, 1.0, -1.0)[:, None]
    for loss, holds in (("mean_squared_error", True), ("logistic", False)):
        history, _ = convergence.descend(mg.mlp(12, 1, 16, 1), x, y, 2, 0.3, 0.0, loss, 4000)
        assert verdicts(history) == ({"holds"} if holds else {"never", "almost"}) and np.isnan(history["residual"]).all()


@pytest.mark.parametrize(
    "slopes, bad, holds",
    [([[0.5, 0.4], [0.1, 0.2]], None, True), ([[0.1, 0.2], [0.5, 0.4]], None, False), ([[0.5, 0.1], [0.3, 0.2]], None, False), ([[0.3, 0.2], [0.25, 0.1]], None, False),
     ([[0.5, 0.4], [0.6, 0.7], [0.3, 0.3]], None, True), ([[0.5, 0.4], [0.1, 0.2]], 1, False), ([[0.9, 0.9], [0.5, 0.4], [0.1, 0.2]], 0, True),
     ([[0.5, 0.4], [0.1, 0.1], [0.6, 0.7]], 1, False)],
)
def test_almost_convergence_must_improve_beyond_the_seeds_from_the_first_trained_network_to_the_last(slopes, bad, holds, monkeypatch):
    """One seed of the network `bad` has one of its two samples on the wrong side."""
    graph, x, y = mg.mlp(1, 1, 1, 1), np.array([[1.0], [2.0]]), np.array([[1.0], [1.0]])
    ends, seeds = [(place, slope) for place, row in enumerate(slopes) for slope in row], []

    def descend(graph, x, y, seed, **training):
        place, slope = ends[len(seeds)]
        seeds.append(seed)
        sign = -1.0 if (place, seed) == (bad, 1) else 1.0
        return {"slope": [1.0, slope]}, {(2, 1): np.array([[sign]]), (3, 2): np.array([[1.0]])}

    monkeypatch.setattr(propositions, "descend", descend)
    found = propositions.almost_convergence(x, y, [graph] * len(slopes), 2)
    assert found["holds"] is holds and seeds == [0, 1] * len(slopes)
    assert found["trained"].tolist() == [place != bad for place in range(len(slopes))] and found["slopes"].tolist() == slopes
