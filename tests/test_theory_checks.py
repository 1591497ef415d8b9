"""The mathematics of the theory: beside every identity stands a fault or a case that breaks it."""

import math

import numpy as np
import pytest
from problems import clusters, network, one_more_term, setting

import minigrad as mg
from experiments import theory_checks

SQUARED = "mean_squared_error"


def skips(normalized=False, k=1):
    """Layers 1 to 4 in a row, and an edge from 2 to 4 and from 1 to 3."""
    hidden = mg.Layer(5, "relu", normalized)
    layers = (mg.Layer(6, "identity"), hidden, hidden, mg.Layer(k, "identity"))
    edges = [mg.Edge(*edge) for edge in ((2, 1), (3, 2), (3, 1), (4, 3), (4, 2))]
    return mg.Graph(layers, tuple(edges))


def classes(rng, m=20, n=9):
    return rng.normal(size=(m, n)), np.eye(3)[rng.integers(3, size=m)]


def gradients(graph, params, x, y, loss="cross_entropy", lam=0.0):
    """Dense gradients of the regularized loss, by edge."""
    cache = mg.forward(graph, params, x)
    _, df = mg.losses.LOSSES[loss](cache.v[graph.L], y)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    return {e: grads[e] + 2 * lam * params[e] for e in graph.E_T}


@pytest.mark.parametrize("name, B", [("MLP-3-7", 1), ("RES-2-7", 1), ("RES-BN-1-8", 4)])
def test_lemmas_1_and_2_and_eq_13_and_24_hold_and_see_faults(name, B, rng, monkeypatch):
    """The faults: a cotangent that is off in layer 3, and one more term in f."""
    graph = mg.parse(name, 9, 3)
    params, x = setting(graph, rng, B)
    weight = rng.normal(size=(B, 3))
    assert max(theory_checks.lemmas(graph, params, x, weight, rng)) < 1e-12
    backward = mg.backward

    def off_in_layer_3(*a):
        U, dscale = backward(*a)
        return U | {3: U[3] * (1 + 1e-6)}, dscale

    with monkeypatch.context() as patch:
        patch.setattr(mg, "backward", off_in_layer_3)
        rank, error = theory_checks.lemmas(graph, params, x, weight, rng)
    assert rank < 1e-12 and error > 1e-7
    monkeypatch.setattr(mg, "forward", one_more_term(mg.forward))
    rank, _ = theory_checks.lemmas(graph, params, x, weight, rng)
    assert rank > 1e-4


@pytest.mark.parametrize("graph", [mg.mlp(6, 3, 7, 3), mg.resnet(6, 2, 7, 3), skips()])
def test_eq_14_holds(graph, rng):
    params, x = setting(graph, rng, B=4)
    assert theory_checks.eq_14_error(graph, params, x) < 1e-13


@pytest.mark.parametrize("name", ["mlp", "skips"])
def test_eq_23_is_the_gradient_and_as_printed_only_at_beta_0(name, rng):
    graph = mg.parse("MLP-BN-3-7", 6, 2) if name == "mlp" else skips(True, k=2)
    params, x = setting(graph, rng, B=8)
    inner = [(p, q) for p, q in graph.E_T if p < graph.L]
    assert list(theory_checks.eq_23(graph, params, x)) == inner
    assert theory_checks.eq_23_error(graph, params, x, rng) < 1e-12
    assert theory_checks.eq_23_error(graph, params, x, rng, as_printed=True) > 1e-3
    for p in range(2, graph.L):
        params["beta", p] *= 0
    assert theory_checks.eq_23_error(graph, params, x, rng, as_printed=True) < 1e-12


def test_eq_5_fails_with_another_epsilon_and_with_another_mean(rng, monkeypatch):
    graph, params = network("RES-BN-1-8", rng)
    x = rng.normal(size=(4, 9))
    assert theory_checks.eq_5_error(graph, params, x) < 1e-14
    with monkeypatch.context() as patch:
        patch.setattr(theory_checks, "EPS", 2e-5)
        assert theory_checks.eq_5_error(graph, params, x) > 1e-6
    cache = mg.forward(graph, params, x)
    cache.normalized[3] = abs(cache.normalized[3])
    monkeypatch.setattr(mg, "forward", lambda *a: cache)
    assert theory_checks.eq_5_error(graph, params, x) > 0.01


def test_residuals_are_gradients_of_each_sample_s_regularized_loss_so_eq_6_and_7_hold(rng):
    graph, params = network("MLP-2-5", rng, k=1)
    x, y = rng.normal(size=(4, 9)), rng.normal(size=(4, 1))
    _, f, g = theory_checks.residuals(graph, params, x, y, SQUARED, 0.3)
    batch = gradients(graph, params, x, y, SQUARED, 0.3)
    for edge in graph.E_T:
        D = rng.normal(size=params[edge].shape)
        W = params[edge] + 1e-20j * D
        out = mg.forward(graph, params | {edge: W}, x).v[graph.L]
        along = ((out - y)[:, 0] ** 2 + 0.3 * (W * W).sum()).imag / 1e-20
        np.testing.assert_allclose((g[edge] * D).sum(axis=(1, 2)), along, rtol=1e-10)
        np.testing.assert_allclose(f, out.real[:, 0], rtol=1e-12)
        assert theory_checks.apart(batch[edge], g[edge].mean(axis=0)) < 1e-12


def euler_error(params, edge, fit, f, g, lam):
    """Of <g_i, W> = l'_i f(x_i) + 2 lambda ||W||^2, relative to its terms."""
    W = params[edge]
    terms = fit * f, 2 * lam * (W**2).sum()
    return abs((g[edge] * W).sum(axis=(1, 2)) - sum(terms)).max() / (abs(terms[0]).max() + terms[1])


def test_euler_s_identity_holds_in_an_mlp_and_not_beside_a_skip(rng):
    """So at lambda = 0, g_i = 0 only where l'_i = 0 or f(x_i) = 0 (Prop. 2)."""
    x, y = clusters(rng)
    mlp, resnet = mg.mlp(6, 2, 5, 1), mg.resnet(6, 1, 5, 1)
    beside = {resnet.E_T[1], resnet.E_T[2]}
    for graph, inexact in ((mlp, set()), (skips(), set(skips().E_T)), (resnet, beside)):
        params = mg.init_params(graph, rng, dtype="float64", init="he")
        found = theory_checks.residuals(graph, params, x, y, "logistic", 0.3)
        errors = {e: euler_error(params, e, *found, 0.3) for e in graph.E_T}
        assert {e for e, error in errors.items() if error > 1e-12} == inexact
        assert euler_error(params, graph.E_T[0], *found, 0.15) > 1e-3


def test_the_bound_of_prop_1_is_not_crossed_and_vanishes_on_a_line(rng):
    for x in (rng.normal(size=(3, 4)), 1 + 0.1 * rng.normal(size=(5, 3))):
        c = theory_checks.off_the_samples(x)
        e = x / np.linalg.norm(x, axis=1, keepdims=True)
        for _ in range(300):
            W = rng.normal(size=(2, x.shape[1])) * 10 ** rng.uniform(-2, 0, x.shape[1])
            off = [np.linalg.norm(W - np.outer(W @ e_i, e_i)) for e_i in e]
            assert max(off) >= c * np.linalg.norm(W)
    assert theory_checks.off_the_samples(np.diag([1.0, 2, 3, 4])) == pytest.approx(0.75**0.5)
    assert theory_checks.off_the_samples(np.array([[1.0, 2], [-2, -4], [0.5, 1]])) < 1e-7


def test_a_history_s_last_entry_is_what_its_last_weights_say(rng):
    x, y, lam = *clusters(rng), 0.05
    graph = mg.mlp(6, 1, 4, 1)
    history, params = theory_checks.descend(graph, x, y, 2, 0.1, lam, "logistic", 40)
    f = mg.forward(graph, params, x).v[graph.L]
    fit = 1 / (1 + np.exp(y * f))

    def size(rows):
        found = gradients(graph, params, x[rows], y[rows], "logistic", lam)
        return sum((g**2).sum() for g in found.values()) ** 0.5, np.linalg.norm(found[2, 1])

    expected = {
        "step": 40,
        "gradient": np.mean([size(rows)[0] for rows in mg.batches(8, 2, 0, 10)]),
        "residual": max(size([i])[1] for i in range(8)) / (2 * lam * np.linalg.norm(params[2, 1])),
        "most": (abs(f) * fit).max(),
        "least": (abs(f) * fit).min(),
        "output": abs(f).max(),
    }
    assert history.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(history[name][-1], value, rtol=1e-10)


def test_where_gradient_descent_converges_all_layers_of_an_mlp_have_the_same_norm(rng):
    """By Euler, ||W||^2 = -mean l'_i f(x_i) / 2 lambda. SGD ends elsewhere."""
    x, y = clusters(rng)
    graph, spread = mg.mlp(6, 2, 4, 1), {}
    for B in (8, 2):
        history, params = theory_checks.descend(graph, x, y, B, 0.3, 0.05, SQUARED, 8000)
        assert (history["gradient"][-1] < 1e-8) == (B == 8)
        squares = [(W**2).sum() for W in params.values()]
        spread[B] = max(squares) / min(squares) - 1
        if B == 8:
            fit, f, _ = theory_checks.residuals(graph, params, x, y, SQUARED, 0.05)
            np.testing.assert_allclose(squares, -(fit * f).mean() / 0.1, rtol=1e-8)
    assert spread[8] < 1e-8 and spread[2] > 1e-4


def test_zero_is_a_convergence_point_but_not_for_a_linear_path(rng):
    x, y = clusters(rng)
    layers = (mg.Layer(6, "identity"), mg.Layer(4), mg.Layer(1, "identity"))
    linear_path = mg.Graph(layers, (mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(3, 1)))
    for graph, still in ((mg.mlp(6, 2, 4, 1), True), (linear_path, False)):
        params = {e: np.zeros((graph.width(e[0]), graph.width(e[1]))) for e in graph.E_T}
        _, _, g = theory_checks.residuals(graph, params, x, y, SQUARED, 0.05)
        assert all((r == 0).all() for r in g.values()) == still


def test_on_collinear_samples_sgd_converges_to_what_fits_none_of_them(rng):
    """Prop. 1's exception: x_i = c_i e, y_i = c_i + lambda / c_i; Eq. 8 and 9 at such a point."""
    lam, c = 0.05, rng.uniform(0.5, 1.5, (8, 1))
    x = c * np.full(6, 6**-0.5)
    graph = mg.mlp(6, 2, 4, 1)
    history, params = theory_checks.descend(graph, x, c + lam / c, 1, 0.1, lam, SQUARED, 8000)
    assert history["gradient"][-1] < 1e-8
    assert history["output"][-1] > 0.5 and history["least"][-1] > 0.01
    _, _, g = theory_checks.residuals(graph, params, x, c + lam / c, SQUARED, lam)
    for e, W in params.items():
        M = g[e] - 2 * lam * W  # l'_i df(x_i) / dW
        np.testing.assert_allclose(M, np.broadcast_to(-2 * lam * W, M.shape), rtol=0, atol=1e-8)
        assert mg.rank(W) == 1
    other, _ = theory_checks.descend(graph, x, c, 1, 0.1, lam, SQUARED, 8000)
    assert other["gradient"][-1] > 1e-4


def test_theorem_1_s_sides_are_the_distance_and_the_least_bound_batch_by_batch(rng):
    graph, params = network("MLP-BN-2-8", rng)
    x, y = classes(rng)
    loss, lam, ranks, batches = "cross_entropy", 0.01, (2, 4), 3
    seeded, again = np.random.default_rng(2), np.random.default_rng(2)
    found = theory_checks.theorem_1(graph, params, x, y, loss, lam, ranks, batches, seeded)
    for place, r in enumerate(ranks):
        rows = [again.choice(20, r, replace=False) for _ in range(batches)]
        grads = [gradients(graph, params, x[batch], y[batch], loss, lam) for batch in rows]
        for column, e in enumerate(graph.E_T):
            least = min(mg.theorem1_bound(grad[e], lam) for grad in grads)
            np.testing.assert_allclose(found["right"][place, column], least, rtol=1e-10)
            assert found["left"][place, column] == mg.distance_to_rank(params[e], r)
    np.testing.assert_allclose(found["size"], [np.linalg.norm(params[e], 2) for e in graph.E_T])
    assert (found["left"] <= found["right"]).all()


def test_eq_18_fails_with_a_gradient_that_misses_a_factor_or_has_something_across(rng, monkeypatch):
    graph, params = network("MLP-BN-2-8", rng)
    x, y = classes(rng)

    def error():
        return theory_checks.eq_18_error(graph, params, x, y, "cross_entropy", 0.01, rng)

    assert error() < 1e-12
    found = theory_checks.gaps(graph, params, x, y, "cross_entropy", 0.01)
    gap, W = found[2, 1], params[2, 1]
    for fault in (gap - 2 * W, 2 * gap - W, gap + 1e-3 * rng.normal(size=gap.shape)):
        faulty = found | {(2, 1): fault}
        monkeypatch.setattr(theory_checks, "gaps", lambda *a, faulty=faulty: faulty)
        assert error() > 1e-6


def test_unrolled_sgd_is_decayed_W_0_and_decayed_terms_of_rank_at_most_B(rng):
    """Decayed by the recurrence of (W, velocity); the start is not forgotten."""
    graph, params = network("MLP-BN-2-8", rng)
    x, y = classes(rng)
    eta, lam, momentum, edge = 0.02, 0.02, 0.9, (3, 2)
    velocity = {name: np.zeros_like(W) for name, W in params.items()}
    W, terms = [params[edge].copy()], []
    for epoch in range(200):
        for rows in mg.batches(20, 5, 0, epoch):
            batch = (x[rows], y[rows], "cross_entropy")
            step = mg.train_step(graph, params, velocity, *batch, eta, lam, momentum)
            terms.append(step[edge].matrix())
            W.append(params[edge].copy())
    assert max(theory_checks.beyond_rank(term, 5) for term in terms) < 1e-13
    recurrence = np.array([[1 - 2 * eta * lam, -eta * momentum], [2 * lam, momentum]])
    row, written = np.array([1.0, 0.0]), 0
    for term in reversed(terms):  # row: what the later steps make of W and velocity
        written = written - row @ [eta, -1] * term
        row = row @ recurrence
    assert theory_checks.apart(written + row[0] * W[0], W[-1]) < 1e-12
    assert theory_checks.apart(written, W[-1]) > 1e-6


def test_eq_25_s_samples_suffice_and_an_eighth_of_them_does_not(rng):
    """256 functions; one errs (1 - 1.02 epsilon) / 2, the others (1 + 1.02 epsilon) / 2."""
    epsilon, delta, bits = 0.1, 0.05, 8
    samples = 2 / epsilon**2 * (bits * math.log(2) + math.log(2 / delta))
    assert samples == pytest.approx(1846.8, abs=0.1)
    error = (1 + 1.02 * epsilon) / 2
    for share, suffices in ((1, True), (1 / 8, False)):
        M = math.ceil(share * samples)
        best = rng.binomial(M, 1 - error, 400)
        others = rng.binomial(M, error, (400, 2**bits - 1)).min(axis=1)
        assert ((others <= best).mean() <= delta) == suffices


def test_eq_26_is_the_gradient_of_the_normalized_loss_and_bounds_the_distance_to_rank_B(rng):
    """Within ||left side|| / |c|, on any B samples. The fault: no V_k f_n."""
    graph, rho = mg.mlp(6, 2, 5, 1), 10
    x, y = clusters(rng, m=2)
    params = mg.init_params(graph, rng, dtype="float64", init="he")
    V = {e: W / np.linalg.norm(W) for e, W in params.items()}
    cache = mg.forward(graph, V, x)
    f = cache.v[graph.L]
    df = np.exp(-rho * y * f) * y
    first, c = mg.factors(graph, cache, mg.backward(graph, V, cache, df)[0]), (df * f).sum()
    for e in graph.E_T:
        left_side = first[e].matrix() - c * V[e]
        D = rng.normal(size=V[e].shape)
        W = V[e] + 1e-20j * D
        out = mg.forward(graph, V | {e: W / (W * W).sum() ** 0.5}, x).v[graph.L]
        slope = np.exp(-rho * y * out).sum().imag / 1e-20
        assert -rho * (left_side * D).sum() == pytest.approx(slope, rel=1e-9)
        assert -rho * (first[e].matrix() * D).sum() != pytest.approx(slope, rel=1e-3)
        distance = mg.distance_to_rank(V[e], 2, "frobenius")
        assert distance <= np.linalg.norm(left_side) / abs(c) * (1 + 1e-12)
