"""The mathematics of the theory: beside every identity stands a fault or a case that breaks it."""

import numpy as np
import pytest
from problems import clusters, setting, targets

import minigrad as mg
from experiments import theory_checks

SQUARED = "mean_squared_error"


def skips(normalized=False, k=1):
    """Layers 1 to 4 in a row, and an edge from 2 to 4 and from 1 to 3."""
    hidden = mg.Layer(5, "relu", normalized)
    layers = (mg.Layer(6, "identity"), hidden, hidden, mg.Layer(k, "identity"))
    edges = [mg.Edge(*edge) for edge in ((2, 1), (3, 2), (3, 1), (4, 3), (4, 2))]
    return mg.Graph(layers, tuple(edges))


@pytest.fixture
def classes(rng):
    """MLP-BN-2-8, its params, 20 samples of three classes, a loss, and lambda."""
    graph = mg.parse("MLP-BN-2-8", 9, 3)
    params, x = setting(graph, rng, 20)
    return graph, params, x, targets("cross_entropy", (20, 3), rng), "cross_entropy", 0.01


def gradients(graph, params, x, y, loss, lam):
    """Dense gradients of the regularized loss, by edge."""
    cache = mg.forward(graph, params, x)
    _, df = mg.losses.LOSSES[loss](cache.v[graph.L], y)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    return {e: grads[e] + 2 * lam * params[e] for e in graph.E_T}


def of_samples(graph, params, x, y, loss, lam):
    """The g_i of Eq. 9 by edge, l'_i (m,) and f(x_i) (m,)."""
    g, cache, df = theory_checks.gradients(graph, params, x[:, None], y[:, None], loss, lam)
    return g, df[:, 0, 0], cache.v[graph.L][:, 0, 0]


@pytest.mark.parametrize("name, B", [("RES-2-7", 1), ("RES-BN-1-8", 4)])
def test_lemmas_1_and_2_and_eq_13_and_24_hold_and_see_faults(name, B, rng, monkeypatch):
    """The faults: a cotangent that is off in layer 3, and one more term in f."""
    graph = mg.parse(name, 9, 3)
    params, x = setting(graph, rng, B)
    assert max(theory_checks.lemmas(graph, params, x)) < 1e-12
    factors = mg.factors

    def off_in_layer_3(graph, cache, U):
        return factors(graph, cache, U | {3: U[3] * (1 + 1e-6)})

    monkeypatch.setattr(mg, "factors", off_in_layer_3)
    rank, error = theory_checks.lemmas(graph, params, x)
    assert rank < 1e-12 and error > 1e-7
    forward = mg.forward

    def leaking(graph, params, x, A=None):  # one more term in f, whose gradient is 2 W
        cache = forward(graph, params, x, A=A)
        cache.v[graph.L] = cache.v[graph.L] + (params[2, 1] ** 2).sum((-2, -1))[..., None, None]
        return cache

    monkeypatch.setattr(mg, "forward", leaking)
    assert theory_checks.lemmas(graph, params, x)[0] > 1e-4


@pytest.mark.parametrize("normalized", [False, True])
def test_eq_14_holds_without_batch_norm(normalized, rng):
    params, x = setting(skips(normalized), rng)
    assert (theory_checks.eq_14_error(skips(normalized), params, x) < 1e-13) != normalized


@pytest.mark.parametrize("graph", [mg.parse("MLP-BN-3-7", 6, 2), skips(True, k=2)])
def test_eq_23_is_the_gradient_and_as_printed_only_at_beta_0(graph, rng):
    params, x = setting(graph, rng)
    error, as_printed = theory_checks.eq_23_errors(graph, params, x)
    assert error < 1e-12 and as_printed > 1e-3
    at_0 = params | {name: 0 * value for name, value in params.items() if name[0] == "beta"}
    assert max(theory_checks.eq_23_errors(graph, at_0, x)) < 1e-12


def test_eq_5_fails_with_another_mean_and_with_another_variance(rng, monkeypatch):
    graph = mg.parse("RES-BN-1-8", 9, 3)
    params, x = setting(graph, rng, 4)
    assert theory_checks.eq_5_error(graph, params, x) < 1e-14
    cache = mg.forward(graph, params, x)
    for fault, error in ((abs, 0.01), (lambda n: n * (1 + 1e-6), 1e-7)):
        faulty = cache._replace(normalized={3: fault(cache.normalized[3])})
        monkeypatch.setattr(mg, "forward", lambda *a, faulty=faulty: faulty)
        assert theory_checks.eq_5_error(graph, params, x) > error


def test_euler_s_identity_holds_in_an_mlp_and_not_beside_a_skip(rng):
    """<g_i, W> = l'_i f(x_i) + 2 lambda ||W||^2, so at lambda = 0, g_i = 0 needs a 0 of Prop. 2."""
    x, y = clusters(rng)
    for graph, exact in ((mg.mlp(6, 2, 5, 1), (0, 1, 2)), (mg.resnet(6, 1, 5, 1), (0, 3))):
        params, _ = setting(graph, rng)
        g, df, f = of_samples(graph, params, x, y, "logistic", 0.3)
        for place, (e, W) in enumerate(params.items()):
            sides = (g[e] * W).sum(axis=(1, 2)), df * f + 0.6 * (W**2).sum()
            assert np.allclose(*sides, rtol=1e-10) == (place in exact)


def test_the_bound_of_prop_1_is_not_crossed_and_vanishes_on_a_line(rng):
    x = 1 + 0.1 * rng.normal(size=(5, 3))
    c = theory_checks.off_the_samples(x)
    e = x / np.linalg.norm(x, axis=1, keepdims=True)
    for _ in range(300):
        W = rng.normal(size=(2, 3)) * 10 ** rng.uniform(-2, 0, 3)
        off = [np.linalg.norm(W - np.outer(W @ e_i, e_i)) for e_i in e]
        assert max(off) >= c * np.linalg.norm(W)
    assert theory_checks.off_the_samples(np.diag([1.0, 2, 3, 4])) == pytest.approx(0.75**0.5)
    assert theory_checks.off_the_samples(np.array([[1.0, 2], [-2, -4], [0.5, 1]])) < 1e-7


def test_a_history_s_last_entry_is_what_its_last_weights_say(rng):
    x, y = clusters(rng)
    graph, loss, lam = mg.mlp(6, 1, 4, 1), "logistic", 0.05
    history, params = theory_checks.descend(graph, x, y, 2, 0.1, lam, loss, 40)
    rows = [*mg.batches(8, 2, 0, 10), *np.arange(8)[:, None]]
    of_rows = [gradients(graph, params, x[S], y[S], loss, lam) for S in rows]
    sizes = [sum((g**2).sum() for g in found.values()) ** 0.5 for found in of_rows]
    of_samples = [np.linalg.norm(found[2, 1]) for found in of_rows[4:]]
    f = mg.forward(graph, params, x).v[graph.L]
    terms = abs(f) / (1 + np.exp(y * f))
    expected = {
        "step": 40,
        "gradient": np.mean(sizes[:4]),
        "residual": max(of_samples) / (2 * lam * np.linalg.norm(params[2, 1])),
        "most": terms.max(),
        "least": terms.min(),
        "output": abs(f).max(),
    }
    assert {name: values[-1] for name, values in history.items()} == pytest.approx(expected)


def test_where_gradient_descent_converges_all_layers_of_an_mlp_have_the_same_norm(rng):
    """By Euler, ||W||^2 = -mean l'_i f(x_i) / 2 lambda. SGD ends elsewhere."""
    x, y = clusters(rng)
    graph = mg.mlp(6, 2, 4, 1)
    for B in (8, 2):
        history, params = theory_checks.descend(graph, x, y, B, 0.3, 0.05, SQUARED, 8000)
        _, df, f = of_samples(graph, params, x, y, SQUARED, 0.05)
        squares = [(W**2).sum() for W in params.values()]
        is_alike = np.allclose(squares, -(df * f).mean() / 0.1, rtol=1e-8, atol=0)
        assert (history["gradient"][-1] < 1e-8) == is_alike == (B == 8)


def test_zero_is_a_convergence_point_but_not_of_a_linear_map(rng):
    x, y = clusters(rng)
    linear = mg.Graph((mg.Layer(6, "identity"), mg.Layer(1, "identity")), (mg.Edge(2, 1),))
    for graph, still in ((mg.mlp(6, 2, 4, 1), True), (linear, False)):
        params = {e: np.zeros(shape) for e, shape in graph.shapes().items()}
        g, *_ = of_samples(graph, params, x, y, SQUARED, 0.05)
        assert all((r == 0).all() for r in g.values()) == still


def test_on_collinear_samples_sgd_converges_to_what_fits_none_of_them(rng):
    """Prop. 1's exception: x_i = c_i e, y_i = c_i + lambda / c_i; all g_i of Eq. 9 are 0 there."""
    lam, c = 0.05, rng.uniform(0.5, 1.5, (8, 1))
    graph, x = mg.mlp(6, 2, 4, 1), c * np.full(6, 6**-0.5)
    for y, converges in ((c + lam / c, True), (c, False)):
        history, params = theory_checks.descend(graph, x, y, 1, 0.1, lam, SQUARED, 8000)
        g, *_ = of_samples(graph, params, x, y, SQUARED, lam)
        assert (max(abs(r).max() for r in g.values()) < 1e-8) == converges
        assert history["output"][-1] > 0.5


def test_theorem_1_s_sides_are_the_distance_and_the_least_bound_batch_by_batch(classes):
    graph, params, x, y, loss, lam = classes
    again = np.random.default_rng(2)
    found = theory_checks.theorem_1(*classes, (2, 4), 3, np.random.default_rng(2))
    for r, left, right in zip((2, 4), found["left"], found["right"]):
        rows = [again.choice(20, r, replace=False) for _ in range(3)]
        grads = [gradients(graph, params, x[S], y[S], loss, lam) for S in rows]
        least = [min(mg.theorem1_bound(grad[e], lam) for grad in grads) for e in graph.E_T]
        np.testing.assert_allclose(right, least, rtol=1e-10)
        assert left == [mg.distance_to_rank(params[e], r) for e in graph.E_T]
    np.testing.assert_allclose(found["size"], [np.linalg.norm(params[e], 2) for e in graph.E_T])


def test_eq_18_fails_where_a_gradient_misses_a_factor(classes, rng, monkeypatch):
    assert theory_checks.eq_18_error(*classes, rng) < 1e-12
    found, *rest = theory_checks.gradients(*classes)
    faulty = found | {(2, 1): 2 * found[2, 1]}
    monkeypatch.setattr(theory_checks, "gradients", lambda *a: (faulty, *rest))
    assert theory_checks.eq_18_error(*classes, rng) > 1e-6


def test_unrolled_sgd_is_decayed_W_0_and_decayed_terms_of_rank_at_most_B(classes):
    """Decayed by the recurrence of (W, velocity); the start is not forgotten."""
    graph, params, x, y, loss, lam = classes
    eta, momentum, edge = 0.02, 0.9, (3, 2)
    velocity = {name: np.zeros_like(W) for name, W in params.items()}
    W, terms = [params[edge].copy()], []
    for epoch in range(200):
        for rows in mg.batches(20, 5, 0, epoch):
            batch = x[rows], y[rows], loss
            step = mg.train_step(graph, params, velocity, *batch, eta, lam, momentum)
            terms.append(step[edge].matrix())
            W.append(params[edge].copy())
    assert max(mg.rank(term, 1e-13) for term in terms) <= 5
    recurrence = np.array([[1 - 2 * eta * lam, -eta * momentum], [2 * lam, momentum]])
    row, written = np.array([1.0, 0.0]), 0
    for term in reversed(terms):  # row: what the later steps make of W and velocity
        written = written - row @ [eta, -1] * term
        row = row @ recurrence
    assert theory_checks.apart(written + row[0] * W[0], W[-1]) < 1e-12
    assert theory_checks.apart(written, W[-1]) > 1e-6


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
