"""The mathematics of the theory: beside what holds stands a fault, or a case, that does not."""

import math

import numpy as np
import pytest

import minigrad as mg
from experiments import theory_checks

SQUARED = "mean_squared_error"
LOSS = {  # of one sample, for complex steps
    SQUARED: lambda f, y: (f - y) ** 2,
    "logistic": lambda f, y: np.log(1 + np.exp(-y * f)),
    "exponential": lambda f, y: np.exp(-y * f),
}


def network(name, rng, n=9, k=3, **options):
    """A graph and He's weights in float64."""
    graph = mg.parse(name, n, k, **options)
    return graph, mg.init_params(graph, rng, dtype="float64", init="he")


def skips(normalized=False, activation="relu", k=1):
    """Layers 1 to 4 in a row, and an edge from 2 to 4 and from 1 to 3."""
    hidden = mg.Layer(5, activation, normalized)
    layers = (mg.Layer(6, "identity"), hidden, hidden, mg.Layer(k, "identity"))
    edges = [mg.Edge(*edge) for edge in ((2, 1), (3, 2), (3, 1), (4, 3), (4, 2))]
    return mg.Graph(layers, tuple(edges))


def clusters(rng, m=8, n=6):
    """Two opposite clusters, -1 and +1, of mean square length 1: no unit is on for both."""
    y = np.where(np.arange(m) % 2, 1.0, -1.0)[:, None]
    x = y * np.linspace(1, 2, n) + 0.3 * rng.normal(size=(m, n))
    return x / (x**2).sum(axis=1).mean() ** 0.5, y


def classes(rng, m=20, n=9):
    return rng.normal(size=(m, n)), np.eye(3)[rng.integers(3, size=m)]


def gradients(graph, params, x, y, loss="cross_entropy", lam=0.0):
    """Dense gradients of the regularized loss, by edge."""
    cache = mg.forward(graph, params, x)
    _, df = mg.losses.LOSSES[loss](cache.v[graph.L], y)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    return {e: grads[e] + 2 * lam * params[e] for e in graph.E_T}


def trained(graph, params, x, y, loss, eta, lam, epochs=20, B=5):
    """SGD with momentum on `params`, in place."""
    rows = np.concatenate([mg.batches(len(x), B, 0, epoch) for epoch in range(epochs)])
    mg.train_epoch(graph, params, None, x, y, rows, loss, eta, lam, 0.9)


@pytest.fixture
def leak(monkeypatch):
    """leak() lets f depend on W in one more way, u^T W v: one more rank than the lemmas allow."""
    forward = mg.forward

    def leaking(graph, params, x, A=None):
        cache = forward(graph, params, x, A=A)
        u, v = (np.cos(np.arange(1, size + 1)) for size in params[2, 1].shape[-2:])
        cache.v[graph.L] = cache.v[graph.L] + ((u @ params[2, 1]) @ v)[..., None, None]
        return cache

    return lambda: monkeypatch.setattr(mg, "forward", leaking)


def test_the_sketch_is_the_gradient_by_differences_and_keeps_its_rank(rng):
    graph, params = network("MLP-BN-2-5", rng, n=5)
    x = rng.normal(size=(4, 5))
    A = mg.forward(graph, params, x).A
    slopes = np.empty((4, 3, 5, 5))
    for i, j in np.ndindex(5, 5):
        ends = []
        for step in (1e-6, -1e-6):
            W = params[3, 2].copy()
            W[i, j] += step
            ends.append(mg.forward(graph, params | {(3, 2): W}, x, A=A).v[4])
        slopes[:, :, i, j] = (ends[0] - ends[1]) / 2e-6
    found, P, Q = theory_checks.sketch(graph, params, x, (3, 2), 5, rng, A)
    size = abs(slopes).max()
    np.testing.assert_allclose(P.T @ found @ Q, slopes, rtol=0, atol=1e-8 * size)
    smaller, P, Q = theory_checks.sketch(graph, params, x, (3, 2), 4, rng, A)
    np.testing.assert_allclose(smaller, P @ slopes @ Q.T, rtol=0, atol=1e-8 * size)
    ranks = np.linalg.matrix_rank(slopes, 1e-6 * size)
    np.testing.assert_array_equal(np.linalg.matrix_rank(smaller), ranks)


@pytest.mark.parametrize("name", ["MLP-3-7", "RES-2-7"])
def test_lemma_1_and_eq_13_and_14_hold_without_batch_norm(name, rng, leak, monkeypatch):
    graph, params = network(name, rng)
    x = rng.normal(size=(3, 9))
    found = theory_checks.lemma_1(graph, params, x, rng)
    assert max(found.values()) < 1e-13
    backward = mg.backward

    def off_in_layer_3(*a):
        U, dscale = backward(*a)
        return U | {3: U[3] * (1 + 1e-6)}, dscale

    with monkeypatch.context() as patch:
        patch.setattr(mg, "backward", off_in_layer_3)
        broken = theory_checks.lemma_1(graph, params, x, rng)
    assert broken["outer"] > 1e-7 and broken["rank"] < 1e-13
    leak()
    assert theory_checks.lemma_1(graph, params, x, rng)["rank"] > 1e-3
    normalized = network(name.replace("-", "-BN-", 1), rng)
    assert min(theory_checks.lemma_1(*normalized, x, rng).values()) > 0.01


def test_what_lies_beyond_a_rank_is_that_of_the_worst_matrix():
    M = np.stack([np.diag([8.0, 1, 0]), np.diag([4.0, 2, 1]), np.zeros((3, 3))])
    assert [theory_checks.beyond_rank(M, r) for r in range(4)] == [1, 1 / 2, 1 / 4, 0]


@pytest.mark.parametrize("name", ["MLP-BN-2-8", "RES-BN-1-8"])
def test_lemma_2_its_sharper_form_and_eq_24(name, rng, leak, monkeypatch):
    """Off gamma = 1, beta = 0. The faults: b held too, a gamma that is forgotten, one more term."""
    graph, start = network(name, rng)
    params = theory_checks.off_the_start(graph, start)
    x, weight = rng.normal(size=(4, 9)), rng.normal(size=(4, 3))

    def measure(graph=graph, params=params, **options):
        return theory_checks.lemma_2(graph, params, x, weight, rng, **options)

    assert max(measure().values()) < 1e-13
    forward, backward = mg.forward, mg.backward

    def with_b_held(graph, params, x, A=None):
        b = forward(graph, start | {e: params[e].real for e in graph.E_T}, x).b if A else None
        return forward(graph, params, x, A=A, b=b)

    def without_gamma(graph, params, cache, df):
        ones = {key: W for key, W in start.items() if key[0] == "gamma"}
        return backward(graph, params | ones, cache, df)

    with monkeypatch.context() as patch:
        patch.setattr(mg, "forward", with_b_held)
        fault = measure(params=start)
        assert fault["rank"] < 1e-13 and min(fault["sharper"], fault["outer"]) > 1e-3
    with monkeypatch.context() as patch:
        patch.setattr(mg, "backward", without_gamma)
        assert measure()["outer"] > 0.1 and measure(params=start)["outer"] < 1e-13
    true_graph = mg.parse(name, 9, 3, detached=False)
    assert max(measure(true_graph, hold_A=False).values()) < 1e-11
    mixed = measure(hold_A=False)
    assert mixed["outer"] > 0.1 and mixed["sharper"] < 1e-11
    leak()
    assert max(measure(params=start).values()) > 1e-4


@pytest.mark.parametrize("name", ["mlp", "skips"])
def test_eq_23_is_backpropagation_s_and_as_printed_only_at_beta_0(name, rng):
    graph = mg.parse("MLP-BN-3-7", 6, 2) if name == "mlp" else skips(True, k=2)
    start = mg.init_params(graph, rng, dtype="float64", init="he")
    x = rng.normal(size=(4, 6))
    for params in (start, theory_checks.off_the_start(graph, start)):
        cache = mg.forward(graph, params, x)
        seeds = np.eye(8).reshape(4, 2, 4, 2)  # of every sample and output
        expected = mg.gradients(graph, cache, *mg.backward(graph, params, cache, seeds))
        mended = theory_checks.eq_23(graph, params, x)
        printed = theory_checks.eq_23(graph, params, x, as_printed=True)
        inner = [(p, q) for p, q in graph.E_T if p < graph.L]
        assert list(mended) == list(printed) == inner
        assert max(theory_checks.apart(mended[e], expected[e]) for e in inner) < 1e-13
        worst = max(theory_checks.apart(printed[e], expected[e]) for e in inner)
        assert worst < 1e-13 if params is start else worst > 0.1
        assert theory_checks.eq_23_error(graph, params, x, rng) < 1e-13
        by_slopes = theory_checks.eq_23_error(graph, params, x, rng, as_printed=True)
        assert by_slopes == pytest.approx(worst, rel=1e-6, abs=1e-13)


def test_eq_5_fails_with_another_epsilon(rng, monkeypatch):
    graph, params = network("RES-BN-1-8", rng)
    x = rng.normal(size=(4, 9))
    assert theory_checks.eq_5(graph, params, x) < 1e-14
    monkeypatch.setattr(theory_checks, "EPS", 2e-5)
    assert theory_checks.eq_5(graph, params, x) > 1e-6


@pytest.mark.parametrize("loss", LOSS)
def test_residuals_are_gradients_of_each_sample_s_regularized_loss_so_eq_6_and_7_hold(loss, rng):
    graph, params = network("MLP-2-5", rng, k=1)
    x, y = rng.normal(size=(4, 9)), np.array([[1.0], [-1], [1], [-1]])
    _, f, g = theory_checks.residuals(graph, params, x, y, loss, 0.3)
    for i, e in np.ndindex(4, 3):
        edge = graph.E_T[e]
        D = rng.normal(size=params[edge].shape)
        W = params[edge] + 1e-20j * D
        out = mg.forward(graph, params | {edge: W}, x[i : i + 1]).v[graph.L][0, 0]
        along = (LOSS[loss](out, y[i, 0]) + 0.3 * (W * W).sum()).imag / 1e-20
        np.testing.assert_allclose((g[edge][i] * D).sum(), along, rtol=1e-10)
        assert f[i] == pytest.approx(out.real, rel=1e-12)
    batches = []
    for rows in ([0, 1, 2], [3, 1, 2]):
        batches.append(gradients(graph, params, x[rows], y[rows], loss, 0.3))
    one, other = batches
    for e in graph.E_T:
        assert theory_checks.apart(one[e], g[e][:3].mean(axis=0)) < 1e-12
        assert theory_checks.apart(3 * (one[e] - other[e]), g[e][0] - g[e][3]) < 1e-12


RESNET = mg.resnet(6, 1, 5, 1)
EULER = {  # a graph, and the layers in whose W f is not homogeneous
    "mlp": (mg.mlp(6, 2, 5, 1), set()),
    "skips": (skips(), set(skips().E_T)),
    "residual": (RESNET, set(RESNET.E_T[1:-1])),
    "sigmoid": (skips(activation="sigmoid"), set(skips().E_T)),
}


def euler_error(params, edge, fit, f, g, lam):
    """Of <g_i, W> = l'_i f(x_i) + 2 lambda ||W||^2, relative to its terms."""
    W = params[edge]
    terms = fit * f, 2 * lam * (W**2).sum()
    return abs((g[edge] * W).sum(axis=(1, 2)) - sum(terms)).max() / (abs(terms[0]).max() + terms[1])


@pytest.mark.parametrize("lam", [0.0, 0.3])
@pytest.mark.parametrize("graph, inexact", EULER.values(), ids=EULER)
def test_euler_s_identity_holds_in_an_mlp_and_not_beside_a_skip(graph, inexact, lam, rng):
    """So at lambda = 0, g_i = 0 only where l'_i = 0 or f(x_i) = 0 (Prop. 2), collinear or not."""
    x, y = clusters(rng)
    for samples in (x, y * x[:1]):
        params = mg.init_params(graph, rng, dtype="float64", init="he")
        found = theory_checks.residuals(graph, params, samples, y, "logistic", lam)
        errors = {e: euler_error(params, e, *found, lam) for e in graph.E_T}
        assert {e for e, error in errors.items() if error > 1e-12} == inexact
        if lam:
            assert euler_error(params, graph.E_T[0], *found, lam / 2) > 1e-3


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
    history, params = theory_checks.descend(graph, x, y, 2, 0.1, lam, "logistic", 40, seed=3)
    f = mg.forward(graph, params, x).v[graph.L]
    fit = 1 / (1 + np.exp(y * f))

    def size(rows):
        found = gradients(graph, params, x[rows], y[rows], "logistic", lam)
        return sum((g**2).sum() for g in found.values()) ** 0.5, np.linalg.norm(found[2, 1])

    expected = {
        "step": 40,
        "gradient": np.mean([size(rows)[0] for rows in mg.batches(8, 2, 3, 10)]),
        "residual": max(size([i])[1] for i in range(8)) / (2 * lam * np.linalg.norm(params[2, 1])),
        "fit": fit.max(),
        "most": (abs(f) * fit).max(),
        "least": (abs(f) * fit).min(),
        "output": abs(f).max(),
    }
    assert history.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(history[name][-1], value, rtol=1e-10)


def test_where_gradient_descent_converges_all_layers_of_an_mlp_have_the_same_norm(rng):
    """By Euler, ||W||^2 = -mean l'_i f(x_i) / 2 lambda. SGD and a ResNet end elsewhere."""
    x, y = clusters(rng)
    spread = {}
    for name, graph, B in (
        ("gd", mg.mlp(6, 2, 4, 1), 8),
        ("sgd", mg.mlp(6, 2, 4, 1), 2),
        ("res", RESNET, 8),
    ):
        eta = 0.1 if name == "res" else 0.3
        history, params = theory_checks.descend(graph, x, y, B, eta, 0.05, SQUARED, 8000)
        assert (history["gradient"][-1] < 1e-8) == (name != "sgd")
        assert history["output"][-1] > 0.5
        squares = [(W**2).sum() for W in params.values()]
        spread[name] = max(squares) / min(squares) - 1
        if name == "gd":
            fit, f, _ = theory_checks.residuals(graph, params, x, y, SQUARED, 0.05)
            np.testing.assert_allclose(squares, -(fit * f).mean() / 0.1, rtol=1e-8)
    assert spread["gd"] < 1e-8 and min(spread["sgd"], spread["res"]) > 1e-4


def test_zero_is_a_convergence_point_but_not_for_a_linear_path(rng):
    x, y = clusters(rng)
    layers = (mg.Layer(6, "identity"), mg.Layer(4), mg.Layer(1, "identity"))
    linear_path = mg.Graph(layers, (mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(3, 1)))
    for graph, still in ((mg.mlp(6, 2, 4, 1), True), (linear_path, False)):
        params = {e: np.zeros((graph.width(e[0]), graph.width(e[1]))) for e in graph.E_T}
        for loss in LOSS:
            _, _, g = theory_checks.residuals(graph, params, x, y, loss, 0.05)
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


@pytest.mark.parametrize("batches", [1, 10, 13])
def test_theorem_1_s_sides_are_the_distance_and_the_least_bound_batch_by_batch(batches, rng):
    graph, params = network("MLP-BN-2-8", rng)
    x, y = classes(rng)
    loss, lam = "cross_entropy", 0.01
    trained(graph, params, x, y, loss, 0.05, lam)
    seeded, again = np.random.default_rng(2), np.random.default_rng(2)
    ranks = (2, 4)
    found = theory_checks.theorem_1(graph, params, x, y, loss, lam, ranks, batches, seeded)
    expected = np.full((2, 3, 2), np.inf)
    for column, B in enumerate(ranks):
        for _ in range(batches):
            rows = again.choice(20, B, replace=False)
            grads = gradients(graph, params, x[rows], y[rows], loss, lam)
            for i, j in np.ndindex(2, 3):
                bound = mg.theorem1_bound(grads[graph.E_T[j]], lam, theory_checks.NORMS[i])
                expected[i, j, column] = min(expected[i, j, column], bound)
    np.testing.assert_allclose(found["right"], expected, rtol=1e-10)
    assert found["left"][0, 0, 1] == mg.distance_to_rank(params[2, 1], 4)
    assert found["left"][1, 1, 0] == mg.distance_to_rank(params[3, 2], 2, "frobenius")
    np.testing.assert_allclose(found["size"][1], [np.linalg.norm(params[e]) for e in graph.E_T])
    assert (found["left"] <= found["right"]).all()


def test_theorem_1_is_tight_at_U_S_and_a_rank_off_by_one_is_seen(rng, monkeypatch):
    """A linear network at a convergence point of a batch of two: both sides vanish."""
    layers = tuple(mg.Layer(d, "identity") for d in (5, 6, 4))
    graph = mg.Graph(layers, (mg.Edge(2, 1), mg.Edge(3, 2)))
    params = mg.init_params(graph, rng, dtype="float64", init="he")
    x, y, lam = rng.normal(size=(2, 5)), np.eye(4)[:2] * 3, 0.02
    trained(graph, params, x, y, SQUARED, 0.1, lam, epochs=5000, B=2)

    def sides():
        found = theory_checks.theorem_1(graph, params, x, y, SQUARED, lam, (2,), 1, rng)
        return found["left"], found["right"]

    left, right = sides()
    assert left.max() < 1e-6 and right.max() < 1e-6
    distance = mg.distance_to_rank
    monkeypatch.setattr(mg, "distance_to_rank", lambda W, r, norm: distance(W, r - 1, norm))
    left, right = sides()
    assert (left > 100 * right).all()


def test_eq_18_fails_with_a_gradient_that_misses_a_factor_or_has_something_across(rng, monkeypatch):
    graph, params = network("MLP-BN-2-8", rng)
    x, y = classes(rng)

    def error():
        return theory_checks.eq_18(graph, params, x, y, "cross_entropy", 0.01, rng)

    assert error() < 1e-12
    gaps = theory_checks.gaps
    found, _ = gaps(graph, params, x, y, "cross_entropy", 0.01)
    gap = found[2, 1]
    D = rng.normal(size=gap.shape)
    across = D - (D * gap).sum() / (gap**2).sum() * gap  # not seen along the gap
    for fault in (gap - 2 * params[2, 1], 2 * gap - params[2, 1], gap + 1e-3 * across):
        def faulty(*a, fault=fault):
            found, A = gaps(*a)
            return found | {(2, 1): fault}, A

        monkeypatch.setattr(theory_checks, "gaps", faulty)
        assert error() > 1e-6


def test_without_detaching_eq_10_s_right_side_is_below_the_norm_of_W_at_no_lambda(rng):
    """The true gradient is orthogonal to W; the detached one is not where a larger f fits."""
    x = rng.normal(size=(40, 9))
    start = network("MLP-BN-3-16", rng, scalar=False)[1]
    lowest = {}
    for detached in (False, True):
        graph = mg.parse("MLP-BN-3-16", 9, 3, detached=detached, scalar=False)
        y = 2 * mg.forward(graph, start, x).v[graph.L]
        grads = gradients(graph, start, x, y, SQUARED)
        bounds = []
        for e in graph.E_T[:-1]:
            for lam in np.geomspace(1e-4, 1e4, 401):
                bound = mg.theorem1_bound(grads[e] + 2 * lam * start[e], lam, "frobenius")
                bounds.append(bound / np.linalg.norm(start[e]))
        lowest[detached] = min(bounds)
    assert lowest[False] > 1 - 1e-5 and lowest[True] < 0.99


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_unrolled_sgd_is_decayed_W_0_and_decayed_terms_of_rank_at_most_B(momentum, rng):
    """Decayed by the recurrence of (W, velocity), and W_0 so by exp(-2 eta lambda T / (1 - mu))."""
    graph, params = network("MLP-BN-2-8", rng)
    x, y = classes(rng)
    eta, lam, edge = 0.2 * (1 - momentum), 0.02, (3, 2)
    velocity = {name: np.zeros_like(W) for name, W in params.items()}
    W, terms = [params[edge].copy()], []
    for epoch in range(200):
        for rows in mg.batches(20, 5, 0, epoch):
            step = mg.train_step(
                graph, params, velocity, x[rows], y[rows], "cross_entropy", eta, lam, momentum
            )
            terms.append(step[edge].matrix())
            W.append(params[edge].copy())
    assert max(theory_checks.beyond_rank(term, 5) for term in terms) < 1e-13
    recurrence = np.array([[1 - 2 * eta * lam, -eta * momentum], [2 * lam, momentum]])
    row, written = np.array([1.0, 0.0]), 0
    for term in reversed(terms):  # row: what the later steps make of W and velocity
        written = written - row @ [eta, -1] * term
        row = row @ recurrence
    assert theory_checks.apart(written + row[0] * W[0], W[-1]) < 1e-12
    assert theory_checks.apart(written, W[-1]) > 1e-6  # so the start is not forgotten
    budget = 2 * eta * lam * len(terms) / (1 - momentum)
    assert 0.5 < row[0] / np.exp(-budget) < 2


@pytest.mark.parametrize("lam", [5e-4, 6e-3])
def test_pure_decay_is_remembered_for_as_many_steps_as_it_takes(lam):
    slow = np.roots([1, -(1 + 0.9 - 2 * 0.1 * lam), 0.9]).max().real
    W, velocity, steps = 1.0, (1 - slow) / 0.1, 0
    while W > 1e-4:
        velocity = 0.9 * velocity + 2 * lam * W
        W -= 0.1 * velocity
        steps += 1
    assert abs(theory_checks.remembered(0.1, lam, 0.9) - steps) <= 1


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


def unit(W):
    """W / ||W||_F, also of the complex W of a complex step."""
    return W / (W * W).sum() ** 0.5


def eq_26(graph, V, rho, x, y):
    """The left side of Eq. 26 and its first term by edge; and c, which V_k has as its factor."""
    cache = mg.forward(graph, V, x)
    f = cache.v[graph.L]
    pull = np.exp(-rho * y * f) * y
    U, _ = mg.backward(graph, V, cache, pull)
    first = {e: factor.matrix() for e, factor in mg.factors(graph, cache, U).items()}
    c = (pull * f).sum()
    return {e: G - c * V[e] for e, G in first.items()}, first, c


def test_eq_26_is_the_gradient_of_the_normalized_loss_and_bounds_the_distance_to_rank_B(rng):
    """Within ||left side|| / |c|, on any B samples. The faults: no rho, and no V_k f_n."""
    graph, rho = mg.mlp(6, 2, 5, 1), 10
    x, y = clusters(rng)
    V = {e: unit(W) for e, W in mg.init_params(graph, rng, dtype="float64", init="he").items()}
    errors = {"left side": [], "no rho": [], "no V f": []}
    for rows in ([0, 1], [2, 5], [3, 6]):
        left_side, first, c = eq_26(graph, V, rho, x[rows], y[rows])
        without_rho, _, _ = eq_26(graph, V, 1, x[rows], y[rows])
        for e, W in V.items():
            D = rng.normal(size=W.shape)
            out = mg.forward(graph, V | {e: unit(W + 1e-20j * D)}, x[rows]).v[graph.L]
            slope = np.exp(-rho * y[rows] * out).sum().imag / 1e-20
            size = rho * np.linalg.norm(first[e]) * np.linalg.norm(D)
            for name, R in zip(errors, (left_side[e], without_rho[e], first[e])):
                errors[name].append(abs(slope + rho * (R * D).sum()) / size)
            distance = mg.distance_to_rank(W, 2, "frobenius")
            assert distance <= np.linalg.norm(left_side[e]) / abs(c) * (1 + 1e-12)
    assert max(errors["left side"]) < 1e-13
    assert min(max(errors["no rho"]), max(errors["no V f"])) > 1e-3
