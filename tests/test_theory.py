"""Every statement of the theory can fail: beside each case where it holds stands a fault that makes it report that it does not."""

import csv
import itertools
import zlib

import numpy as np
import pytest

import minigrad as mg
from experiments import __main__ as command
from experiments import appendices, chapter, lemmas, propositions, runner, theorem, theory
from minigrad.facts import FACTS


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


def network(name, rng, n=9, k=3):
    graph = mg.parse(name, n, k)
    return graph, mg.init_params(graph, rng, dtype="float64", init="he")


def clusters(rng, m=8, n=6):
    """Two opposite clusters, -1 and +1, of mean square length 1: no unit that is on for one is on for the other."""
    y = np.where(np.arange(m) % 2, 1.0, -1.0)[:, None]
    x = y * np.linspace(1, 2, n) + 0.3 * rng.normal(size=(m, n))
    return x / (x**2).sum(axis=1).mean() ** 0.5, y


# Lemmas 1 and 2.


def one_more_term(forward):
    """`forward` of a network in which f depends on W in one more way, u^T W v: one more rank than the lemmas allow."""

    def leaking(graph, params, x, A=None):
        cache = forward(graph, params, x, A=A)
        u, v = (np.cos(np.arange(1, size + 1)) for size in params[2, 1].shape[-2:])
        cache.v[graph.L] = cache.v[graph.L] + ((u @ params[2, 1]) @ v)[..., None, None]
        return cache

    return leaking


@pytest.mark.parametrize("name", ["MLP-3-7", "RES-2-7"])
def test_lemma_1_holds_without_batch_norm_and_eq_13_with_backward_s_factors(name, rng, monkeypatch):
    graph, params = network(name, rng)
    x = rng.normal(size=(3, 9))
    found = lemmas.lemma_1(graph, params, x, rng)
    assert found["rank_holds"] and found["equality_holds"] and found["ratio"].shape == (len(graph.E_T), 9) and found["gradients"] > 0
    backward = lemmas.backward
    monkeypatch.setattr(lemmas, "backward", lambda *a: ({p: U * (1 + 1e-9 * (p == 3)) for p, U in backward(*a)[0].items()}, {}))
    broken = lemmas.lemma_1(graph, params, x, rng)
    assert broken["rank_holds"] and not broken["equality_holds"]
    monkeypatch.setattr(lemmas, "forward", one_more_term(lemmas.forward))
    broken = lemmas.lemma_1(graph, params, x, rng)
    assert not broken["rank_holds"] and broken["largest"] > 1e-3


def test_lemma_1_does_not_hold_with_batch_norm(rng):
    graph, params = network("MLP-BN-3-7", rng)
    found = lemmas.lemma_1(graph, params, rng.normal(size=(4, 9)), rng)
    assert not found["rank_holds"] and not found["equality_holds"] and found["largest"] > 0.01


def test_the_sketch_is_the_gradient_entry_by_entry(rng):
    """With r = d_p = d_q it is a rotation of the gradient, which central differences give; float32 has its own precision."""
    graph, params = network("MLP-BN-2-5", rng, n=5)
    x = rng.normal(size=(4, 5))
    A = mg.forward(graph, params, x).A
    slopes = np.empty((4, 3, 5, 5))
    for i, j in np.ndindex(5, 5):
        step = np.zeros((5, 5))
        step[i, j] = 1e-6
        after, before = (mg.forward(graph, params | {(3, 2): params[3, 2] + sign * step}, x, A=A).v[4] for sign in (1, -1))
        slopes[:, :, i, j] = (after - before) / 2e-6
    for dtype, tolerance in (("float64", 1e-8), ("float32", 1e-4)):
        cast = {key: W.astype(dtype) for key, W in params.items()}
        found, P, Q = lemmas.sketch(graph, cast, x.astype(dtype), (3, 2), 5, rng, {p: a.astype(dtype) for p, a in A.items()})
        np.testing.assert_allclose(P.T @ found @ Q, slopes, rtol=0, atol=tolerance * abs(slopes).max())
        np.testing.assert_allclose(P @ P.T, np.eye(5), atol=tolerance)
        assert found.dtype == dtype


def test_the_sketch_keeps_the_rank_up_to_its_size(rng, monkeypatch):
    """The gradient of the sum of log(1 + W^2) has full rank, that of u^T W v rank one, that of two such terms rank two."""
    graph, params = network("MLP-1-6", rng)
    u, v = rng.normal(size=(2, 6)), rng.normal(size=(2, 9))
    for terms, rank in ((1, 1), (2, 2), (None, 4)):
        def f(W):
            return np.log(1 + W**2).sum(axis=(-1, -2)) if terms is None else sum((u[t] @ W) @ v[t] for t in range(terms))

        monkeypatch.setattr(lemmas, "forward", lambda g, p, x, A=None: mg.Cache({3: f(p[2, 1])[:, None, None]}, {}, {}, {}, False, False))
        found, _, _ = lemmas.sketch(graph, params, None, (2, 1), 4, rng)
        s = np.linalg.svd(found[0, 0], compute_uv=False)
        assert (s > lemmas.TOLERANCE * s[0]).sum() == rank


@pytest.mark.parametrize("name", ["MLP-BN-2-8", "RES-BN-1-8"])
def test_lemma_2_its_sharper_form_and_eq_24(name, rng, monkeypatch):
    graph, params = network(name, rng)
    x = rng.normal(size=(4, 9))
    found = lemmas.lemma_2(graph, params, x, rng)
    assert found["rank_holds"] and found["sharper_holds"] and found["equality_holds"]
    assert found["rank"][found["normalized"]].max() == 3  # reached, so that a bound of B - 2 would be seen to fail
    free = lemmas.lemma_2(graph, params, x, rng, detached=False)
    assert free["rank_holds"] and free["sharper_holds"] and not free["equality_holds"]
    forward = lemmas.forward
    monkeypatch.setattr(lemmas, "forward", lambda g, p, x, A=None: forward(g, p, x, A=A, b=A and forward(graph, params, x).b))
    fixed_mean = lemmas.lemma_2(graph, params, x, rng)  # b detached too: nothing makes the sum of U vanish
    assert fixed_mean["rank_holds"] and not fixed_mean["sharper_holds"] and not fixed_mean["equality_holds"]

    monkeypatch.setattr(lemmas, "forward", one_more_term(forward))
    broken = lemmas.lemma_2(graph, params, x, rng)  # the residual network's input layer isn't normalized: rank B there, and now B + 1
    assert not broken["sharper_holds"] and broken["rank_holds"] is not name.startswith("RES")


def test_a_gradient_that_is_zero_has_rank_0(rng):
    """All units of a layer are off: the edges before it, and the one after, get no gradient from any sample."""
    for name in ("MLP-2-5", "MLP-BN-2-5"):
        graph, params = network(name, rng)
        params[3, 2] = -abs(params[3, 2])
        if ("beta", 3) in params:
            params["gamma", 3], params["beta", 3] = np.zeros((1, 1)), -np.ones((1, 1))
        found = lemmas.lemma_2(graph, params, abs(rng.normal(size=(3, 9))), rng)
        assert found["rank_holds"] and found["equality_holds"] and found["rank"].max() == 0 and found["error"] == 0
    assert lemmas.lemma_1(*network("MLP-1-1", rng), rng.normal(size=(3, 9)), rng)["rank_holds"]


# Section 3.1.


@pytest.mark.parametrize(
    "loss, rule",
    [("mean_squared_error", lambda f, y: (f - y) ** 2), ("logistic", lambda f, y: np.log(1 + np.exp(-y * f))), ("exponential", lambda f, y: np.exp(-y * f))],
)
def test_residuals_are_the_gradients_of_each_sample_s_own_regularized_loss(loss, rule, rng):
    graph, params = network("MLP-2-5", rng, k=1)
    x, y = rng.normal(size=(3, 9)), np.array([[1.0], [-1.0], [1.0]])
    _, f, g = propositions.residuals(graph, params, x, y, loss, 0.3)
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
    history, params = propositions.descend(graph, x, y, 2, 0.1, lam, "logistic", 40, seed=3)

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
    return {name for name, verdict in propositions.converged(history).items() if verdict is True}


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
    gd, _ = propositions.descend(graph, x, y, 8, 0.5, 0.05, "mean_squared_error", 4000)
    sgd, _ = propositions.descend(graph, x, y, 2, 0.5, 0.05, "mean_squared_error", 4000)
    assert verdicts(gd) == {"holds"} and verdicts(sgd) == {"never"}
    assert verdicts(gd | {"output": 0 * gd["output"]}) == {"zero"} and verdicts(gd | {"output": 0 * gd["output"] + 1e-6}) == set()
    for history in (gd, sgd):
        assert propositions.prop_1(history, x)["holds"]
    dip = sgd["residual"].copy()
    dip[len(dip) // 2] = 0.1  # below the bound once, in the middle
    assert not propositions.prop_1(sgd | {"residual": dip}, x)["holds"]
    line, targets = propositions.collinear_data(x[0], 8, 0.05, rng)
    graph = mg.mlp(6, 2, 4, 1)
    exception, _ = propositions.descend(graph, line, targets, 1, 0.1, 0.05, "mean_squared_error", 8000)
    assert verdicts(exception) == {"holds"} and exception["least"][-1] > 0.01 and not propositions.prop_1(exception, line)["holds"]
    wrong, _ = propositions.descend(graph, line, line @ x[0][:, None], 1, 0.1, 0.05, "mean_squared_error", 8000)
    assert verdicts(wrong) == {"never"}
    zero, _ = propositions.descend(mg.mlp(6, 1, 4, 1), x, y, 8, 0.5, 0.5, "logistic", 400)
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
        found = propositions.at_kinks(graph, params, x, target, (0.1, 0.05), 0.0, "mean_squared_error", 20)
        assert found == {"gradient": [0, 0], "crossed": [0, 0], "holds": False} and params[2, 1][0, 0] == 0.1
    x, y = rng.normal(size=(8, 3)) / 3**0.5, np.where(np.arange(8) % 2, 1.0, -1.0)[:, None]
    graph = mg.mlp(3, 2, 4, 1)
    _, params = propositions.descend(graph, x, y, 8, 0.2, 0.02, "mean_squared_error", 3000)
    assert propositions.at_kinks(graph, params, x, y, (0.02, 0.004), 0.02, "mean_squared_error", 4000)["holds"]
    early = propositions.at_kinks(graph, mg.init_params(graph, rng, dtype="float64"), x, y, (0.01, 0.001), 0.02, "mean_squared_error", 20)
    assert early["crossed"] == [0, 0] and not early["holds"]


def test_the_gradient_left_at_kinks_is_that_of_the_regularized_loss(rng):
    x, y = clusters(rng)
    graph, params = network("MLP-2-4", rng, n=6, k=1)
    cache = mg.forward(graph, params, x)
    _, df = mg.logistic(cache.v[graph.L], y)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    size = sum(((grads[e] + 0.6 * params[e]) ** 2).sum() for e in graph.E_T) ** 0.5
    found = propositions.at_kinks(graph, params, x, y, (0.1,), 0.3, "logistic", 0)
    np.testing.assert_allclose(found["gradient"], size, rtol=1e-10)
    after = {e: W - 0.1 * (grads[e] + 0.6 * W) for e, W in params.items()}
    step, there = (propositions.at_kinks(graph, start, x, y, (0.1,), 0.3, "logistic", steps) for start, steps in ((params, 1), (after, 0)))
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
        history, _ = propositions.descend(mg.mlp(12, 1, 16, 1), x, y, 2, 0.3, 0.0, loss, 4000)
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


# Theorem 1 and the moving window.


def fitted(rng, name="MLP-BN-2-8"):
    graph, params = network(name, rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    velocity = {key: np.zeros_like(W) for key, W in params.items()}
    rows = np.concatenate([mg.batches(20, 5, 0, epoch) for epoch in range(20)])
    mg.train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", 0.05, 0.01, 0.9)
    return graph, params, x, y


def test_theorem_1_and_eq_18_and_a_gradient_that_misses_a_factor(rng, monkeypatch):
    graph, params, x, y = fitted(rng)
    found = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (1, 2, 4), 3, rng)
    assert found["bound_holds"] and found["equality_holds"] and found["left"].shape == found["right"].shape == (2, 3, 3)
    for place, r in enumerate((1, 2, 4)):
        assert found["left"][0, 0, place] == mg.distance_to_rank(params[2, 1], r) and found["left"][1, 1, place] == mg.distance_to_rank(params[3, 2], r, "frobenius")
    everything = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (20,), 1, rng)  # a batch of all: the right side's value
    cache = mg.forward(graph, params, x)
    _, df = mg.cross_entropy(cache.v[graph.L], y)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    for number, e in enumerate(graph.E_T):
        for norm, kind in enumerate((2, "fro")):
            np.testing.assert_allclose(everything["right"][norm, number, 0], np.linalg.norm(grads[e] / 0.02 + params[e], kind), rtol=1e-10)
    assert theorem.rank_of_U_S(graph, params, x, y, "cross_entropy", (1, 2, 4), rng)["holds"]
    monkeypatch.setattr(lemmas, "forward", one_more_term(lemmas.forward))
    assert not theorem.rank_of_U_S(*fitted(rng, "MLP-2-8"), "mean_squared_error", (4,), rng)["holds"]  # into normalized layers B - 1 leaves room
    gradients = theorem.gradients
    u, v = rng.normal(size=8), rng.normal(size=9)
    gap = params[2, 1] + grads[2, 1] / 0.02
    across = np.outer(u, v) - (np.outer(u, v) * gap).sum() / (gap**2).sum() * gap
    monkeypatch.setattr(theorem, "gradients", lambda *a: {key: g + 1e-6 * across if key == (2, 1) else g for key, g in gradients(*a).items()})
    assert not theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (20,), 1, rng)["equality_holds"]  # not seen along gap
    for factor in (2, 0.5, -1):
        monkeypatch.setattr(theorem, "gradients", lambda *a, factor=factor: {key: factor * g for key, g in gradients(*a).items()})
        assert not theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (2,), 1, rng)["equality_holds"]


def test_theorem_1_fails_where_it_is_tight_and_the_rank_is_off_by_one(rng, monkeypatch):
    """At W = U_S of a batch of two: both sides vanish, and the distance to rank one does not."""
    graph = mg.mlp(5, 1, 6, 4)
    graph = mg.Graph((graph.layers[0], mg.Layer(6, "identity"), graph.layers[2]), graph.edges)  # linear, so without kinks
    params = mg.init_params(graph, rng, dtype="float64", init="he")
    x, y, lam = rng.normal(size=(2, 5)), np.eye(4)[:2] * 3, 0.02
    velocity = {key: np.zeros_like(W) for key, W in params.items()}
    mg.train_epoch(graph, params, velocity, x, y, np.tile(np.arange(2), (5000, 1)), "mean_squared_error", 0.1, lam, 0.9)
    found = theorem.theorem_1(graph, params, x, y, "mean_squared_error", lam, (2,), 1, rng)
    assert found["bound_holds"] and 0 <= found["left"].max() < 1e-6 and found["right"].max() < 1e-6
    monkeypatch.setattr(theorem, "distance_to_rank", lambda W, r, norm: mg.distance_to_rank(W, r - 1, norm))
    assert not theorem.theorem_1(graph, params, x, y, "mean_squared_error", lam, (2,), 1, rng)["bound_holds"]


def test_the_bound_says_something_only_below_the_norm_of_W(rng):
    graph, params, x, y = fitted(rng)
    assert theorem.theorem_1(graph, params, x, y, "cross_entropy", 1e-6, (2,), 2, rng)["informative"].max() == 0
    found = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (2, 20), 2, rng)
    for norm, kind in enumerate((2, "fro")):
        sizes = [np.linalg.norm(params[e], kind) for e in graph.E_T]
        np.testing.assert_allclose(found["size"][norm], sizes)
        np.testing.assert_array_equal(found["informative"][norm], (found["right"][norm] < np.array(sizes)[:, None]).mean(axis=0))


def test_the_least_of_more_batches_is_no_larger(rng):
    graph, params = network("MLP-BN-2-8", rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    few, many = (theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (5,), samples, np.random.default_rng(1))["right"] for samples in (1, 8))
    assert (many <= few).all() and (many < few).any()


def test_the_rank_of_U_S_is_asked_of_the_loss_s_own_slopes_and_of_every_batch(rng, monkeypatch):
    graph, params, x, y = fitted(rng)
    seen = []

    def lemma_2(graph, params, x, rng, beta):
        _, df = mg.cross_entropy(mg.forward(graph, params, x).v[graph.L], y[[(row == everything).all(axis=1).argmax() for row in x]])
        np.testing.assert_array_equal(beta, df)
        seen.append(len(x))
        return {"beyond": {1: 1e-16, 2: 1e-5, 4: 1e-12}[len(x)]}

    everything = x
    monkeypatch.setattr(theorem, "lemma_2", lemma_2)
    assert theorem.rank_of_U_S(graph, params, x, y, "cross_entropy", (1, 2, 4), rng) == {"beyond": 1e-5, "holds": False} and seen == [1, 2, 4]
    assert theorem.rank_of_U_S(graph, params, x, y, "cross_entropy", (1, 4), rng)["holds"]


def window(rng, momentum=0.9):
    graph, params = network("MLP-BN-2-8", rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    return theorem.window(graph, params, x, y, "cross_entropy", 5, 0.02 * (10 if momentum == 0 else 1), 0.02, momentum, 200, (3, 2), 0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_unrolled_sgd_is_the_sum_of_its_decayed_terms(momentum, rng):
    found = window(rng, momentum)
    assert found["equality_holds"] and found["decay_holds"] and found["age"][0] == 1 and found["age"][-1] == 800
    assert found["rank"][0] <= 4 < found["bound"][0] == 5  # into a normalized layer: B - 1
    np.testing.assert_allclose(found["budget"][-1], 800 * 2 * 0.2 * 0.02)


def test_unrolling_with_a_wrong_recurrence_is_seen(rng, monkeypatch):
    unrolled, train_step = theorem.unrolled, theorem.train_step
    faults = {
        "no momentum": lambda eta, lam, momentum, steps: unrolled(eta, lam, 0.0, steps),
        "a wrong exponent": lambda *a: (unrolled(*a)[0], np.roll(unrolled(*a)[1], 1)),
        "lambda for 2 lambda": lambda eta, lam, momentum, steps: unrolled(eta, lam / 2, momentum, steps),
        "the start forgotten": lambda *a: (0.0, unrolled(*a)[1]),
    }
    for fault in faults.values():
        monkeypatch.setattr(theorem, "unrolled", fault)
        assert not window(rng)["equality_holds"]
    monkeypatch.setattr(theorem, "unrolled", unrolled)
    for times in (0.5, 2):  # on both sides of what holds
        monkeypatch.setattr(theorem, "train_step", lambda *args: train_step(*args[:-2], times * args[-2], args[-1]))
        found = window(rng)
        assert not found["equality_holds"] and not found["decay_holds"]


def test_the_memory_is_counted_in_steps(rng):
    found = window(rng)
    assert np.isnan(found["memory"]) and not found["count_holds"]  # E = 6.4: not under 1e-4 yet
    assert found["alone"] == round(np.log(1e-4) / np.log(np.roots([1, -(1 + 0.9 - 2 * 0.02 * 0.02), 0.9]).max()))
    assert found["full"] == 2  # of 5 samples each, in 8 rows
    age = found["age"]
    assert found["rank"][age == found["enough"]] >= found["final"] and (found["rank"][age < found["enough"]] < found["final"]).all()
    pure = np.roots([1, -(1 + 0.9 - 2 * 0.02 * 0.02), 0.9]).max() ** 800
    np.testing.assert_allclose(found["shrunk"][-1], theorem.unrolled(0.02, 0.02, 0.9, 800)[0] / pure, rtol=1e-6)  # all that is older is W_0
    np.testing.assert_allclose(found["budgeted"] * np.exp(-2 * 0.02 * 0.02 / 0.1 * np.arange(1, 801)), found["shrunk"] * np.roots([1, -(1 + 0.9 - 2 * 0.02 * 0.02), 0.9]).max() ** np.arange(1, 801))


def test_what_is_never_reached_is_not_a_number(rng):
    """Twenty steps that change next to nothing: W is its start, and what they wrote is below 1e-4 of it."""
    graph, params = network("MLP-2-64", rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    found = theorem.window(graph, params, x, y, "cross_entropy", 1, 1e-7, 0.02, 0.0, 1, (3, 2), 0)
    assert np.isnan(found["memory"]) and np.isnan(found["enough"]) and np.isnan(found["full"]) and not found["count_holds"]
    assert found["rest"][0] == pytest.approx(1, abs=1e-3) and (found["rank"] == 0).all()


@pytest.mark.parametrize("B, holds", [(1, True), (2, False)])
def test_counting_bounds_the_rank_only_of_a_short_memory(B, holds, rng):
    """Ridge regression, so that W stays: a step leaves 0.8 of what was there, 1e-4 after 42, which write 42 or 84 directions in 64."""
    graph = mg.Graph((mg.Layer(64, "identity"), mg.Layer(64, "identity")), (mg.Edge(2, 1),))
    x, y = rng.normal(size=(2, 20, 64)) / 8
    found = theorem.window(graph, mg.init_params(graph, rng, dtype="float64"), x, y, "mean_squared_error", B, 0.1, 1.0, 0.0, 20, (2, 1), 0)
    assert found["equality_holds"] and 38 < found["memory"] < 60 and found["count_holds"] is holds


# Appendices.


def test_eq_25_in_numbers():
    assert appendices.sample_bound(2_541_000, 32, 0.1, 0.05) == pytest.approx(1.127e10, rel=1e-3)
    assert appendices.sample_bound(1, 1, 1.0, 1.0) == pytest.approx(2 * np.log(4))


def test_eq_25_suffices_and_a_wrong_exponent_does_not(rng):
    assert appendices.eq_25(8, 0.1, 0.05, 400, rng)["holds"]
    for wrong in (lambda W, k, e, d: appendices.sample_bound(W, k, e**0.5, d), lambda W, k, e, d: appendices.sample_bound(W, k, e, d) / 8):
        found = appendices.eq_25(8, 0.1, 0.05, 400, rng, wrong)
        assert not found["holds"] and found["share"] > 0.05


def test_eq_26_and_its_rank_constraint_and_what_breaks_them(rng, monkeypatch):
    x, y = clusters(rng)
    graph = mg.mlp(6, 2, 5, 1)
    history, V = appendices.normalized_descent(graph, x, y, 2, 0.1, 10, 400)
    np.testing.assert_allclose([np.linalg.norm(W) for W in V.values()], 1, rtol=1e-12)
    _, first = appendices.normalized_descent(graph, x, y, 8, 0.1, 10, 1)
    start = {e: appendices.unit(W) for e, W in mg.init_params(graph, np.random.default_rng(0), dtype="float64", init="he").items()}
    for e, (R, _) in appendices.eq_26(graph, start, 10, x, y)[0].items():
        np.testing.assert_allclose(first[e], appendices.unit(start[e] + 0.1 * 10 / 8 * R), rtol=1e-10)
    assert 0.5 < history["residual"][-1] < history["residual"][0] <= 1.1 and history["margin"][-1] > 0
    descended, _ = appendices.normalized_descent(mg.mlp(6, 2, 16, 1), x, y, 8, 0.1, 10, 1600)
    assert appendices.stationary(descended)["holds"] and not appendices.stationary(history)["holds"]
    for B in (1, 2):
        found = appendices.appendix_e(graph, V, 10, x, y, B, 5, rng)
        assert found["holds"] and found["gradient_holds"]
    everything = appendices.appendix_e(graph, V, 10, x, y, 8, 1, rng)
    R, c = appendices.eq_26(graph, V, 10, x, y)
    np.testing.assert_allclose(everything["right"], [np.linalg.norm(R[e][0]) / abs(c) for e in V])
    one, some = (appendices.appendix_e(graph, V, 10, x, y, 1, samples, np.random.default_rng(0)) for samples in (1, 8))
    assert (some["right"] <= one["right"]).all() and (some["right"] < one["right"]).any()
    np.testing.assert_allclose(one["left"], [np.linalg.norm(np.linalg.svd(W)[1][1:]) for W in V.values()], atol=1e-14)
    ends = {
        "residual": max(np.linalg.norm(R) / np.linalg.norm(G) for rows in mg.batches(8, 2, 0, 100) for R, G in appendices.eq_26(graph, V, 10, x[rows], y[rows])[0].values()),
        "rank": np.mean([mg.rank(W) for W in V.values()]), "margin": (y * mg.forward(graph, V, x).v[graph.L]).min(),
    }
    for name, value in ends.items():
        assert history[name][-1] == pytest.approx(value, rel=1e-12)
    dead = {e: -abs(W) if e == (3, 2) else W for e, W in V.items()}  # f = 0 everywhere: no bound
    assert np.isinf(appendices.appendix_e(graph, dead, 10, x, y, 1, 5, rng)["right"]).all()
    eq_26 = appendices.eq_26
    faults = {
        "without V f": lambda g, V, rho, x, y: ({e: (G, G) for e, (R, G) in eq_26(g, V, rho, x, y)[0].items()}, eq_26(g, V, rho, x, y)[1]),
        "without rho": lambda g, V, rho, x, y: eq_26(g, V, 1, x, y),
        "spectral norm": lambda g, V, rho, x, y: eq_26(g, {e: W / np.linalg.norm(W, 2) for e, W in V.items()}, rho, x, y),
    }
    for fault in faults.values():
        monkeypatch.setattr(appendices, "eq_26", fault)
        assert not appendices.appendix_e(graph, V, 10, x, y, 2, 5, rng)["gradient_holds"]
    monkeypatch.setattr(appendices, "eq_26", lambda *a: ({e: (1e-3 * R, G) for e, (R, G) in eq_26(*a)[0].items()}, eq_26(*a)[1]))
    V = mg.init_params(graph, rng, dtype="float64", init="he")
    assert not appendices.appendix_e(graph, {e: appendices.unit(W) for e, W in V.items()}, 10, x, y, 2, 5, rng)["holds"]
    monkeypatch.setattr(appendices, "eq_26", eq_26)
    monkeypatch.setattr(lemmas, "forward", one_more_term(lemmas.forward))
    broken = appendices.appendix_e(graph, {e: appendices.unit(W) for e, W in V.items()}, 10, x, y, 2, 5, rng)
    assert broken["error"] < 1e-10 < broken["beyond"] and not broken["gradient_holds"]


# The chapters, the table, the command.

EXACT = {"Lemma 1", "Eq. 13", "Lemma 2", "sharper than Lemma 2", "Eq. 23 and 24", "Lemma 2 without its assumption", "Eq. 6 to 9, Prop. 1",
         "Prop. 2, Eq. 14", "Theorem 1, Eq. 10", "Section 3.2, unrolled", "Appendix D, Eq. 25", "Appendix E, rank constraint"}


MEASURED = {
    lemmas: ["data", "lemma_1", "lemma_2"], runner: ["load"], theorem: ["data", "theorem_1", "rank_of_U_S", "window", "train_epoch"],
    propositions: ["binary", "descend", "prop_1", "converged", "at_kinks", "zero_point", "prop_2", "almost_convergence"],
    appendices: ["binary", "eq_25", "normalized_descent", "appendix_e", "stationary"],
}


def verdicts_if(report, tapes, answer, monkeypatch):
    """The verdicts of a report if what was measured is on the `tapes` and every verdict of the functions is `answer`."""
    with monkeypatch.context() as patch:
        for (module, name), tape in tapes.items():
            results = itertools.cycle(tape or [(0.1, 1)])  # at_kinks is asked only of what doesn't converge

            def replay(*a, results=results, **k):
                found = next(results)
                return {key: answer if type(value) is bool else value for key, value in found.items()} if isinstance(found, dict) else found

            patch.setattr(module, name, replay)
        return [check.holds for check in report(chapter.SIZES["smoke"], None)[0]]


@pytest.mark.parametrize("report", theory.CHAPTERS, ids=lambda report: report.__name__)
def test_what_holds_for_every_W_holds_in_every_chapter_and_a_row_says_what_its_functions_found(report, monkeypatch):
    """Also at the sizes of --preset smoke, where what is only expected of training may fail."""
    tapes = {}
    with monkeypatch.context() as patch:
        for module, name in ((module, name) for module in MEASURED for name in MEASURED[module]):
            def record(*a, original=getattr(module, name), tape=tapes.setdefault((module, name), []), **k):
                tape.append(original(*a, **k))
                return tape[-1]

            patch.setattr(module, name, record)
        checks, picture = report(chapter.SIZES["smoke"], None)
    assert checks and all(type(check.holds) is bool for check in checks)
    assert all(check.holds for check in checks if check.place in EXACT) and any(check.place in EXACT for check in checks)
    assert picture is None or all(line.histories for column in picture.columns for line in column.lines)

    none, every = (verdicts_if(report, tapes, answer, monkeypatch) for answer in (False, True))
    exceptions = [check.place == "Prop. 1, exception" for check in checks]  # holds where Prop. 1's bound doesn't
    assert not any(none) and every == [not exception for exception in exceptions]


def test_the_binary_problem_is_balanced_centred_and_scaled():
    for classes in chapter.CLASSES.values():
        x, y = chapter.binary("synthetic-mnist", None, classes)
        assert x.shape == (40, 784) and (y == 1).sum() == (y == -1).sum() == 20
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
        assert (x**2).sum(axis=1).mean() == pytest.approx(1)


def test_eq_26_s_stationary_points_are_told_from_others():
    for residual, holds in ((1.1e-3, False), (0.9e-3, True)):
        assert appendices.stationary({"residual": np.array([1e-5, residual])}) == {"residual": residual, "holds": holds}


def test_the_longest_chapter_is_measured_first_and_told_in_its_place(monkeypatch):
    begun = []
    first, longest = (lambda *_, name=name: begun.append(name) or name for name in ("first", "longest"))
    monkeypatch.setattr(theorem, "report_theorem_1", longest)
    monkeypatch.setattr(theory, "CHAPTERS", (first, longest))
    monkeypatch.setattr(theory.parallel, "in_parallel", lambda work, items, jobs, bar: [work(item) for item in items])
    monkeypatch.setattr(theory.parallel, "report", lambda amount: None)
    assert theory.measure(None, None, 1) == ["first", "longest"] and begun == ["longest", "first"]


def test_the_table_and_the_pictures_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = [([chapter.Check("W is low", "Theorem 9", "|1| < 2", "MLP", True), chapter.Check("W is high", "Theorem 10", "2 < 1", "MLP", False)], None)]
    monkeypatch.setattr(theory, "measure", lambda size, folder, jobs: found)
    assert command.main(["theory", "--preset", "smoke", "--figures", "out"]) == 0
    assert capsys.readouterr().out.splitlines() == ["out/theory-smoke.md", "out/theory-smoke.csv"]
    text = (tmp_path / "out/theory-smoke.md").read_text(encoding="utf-8")
    assert text.startswith("Preset smoke, which tests the program") and "| W is high | Theorem 10 | 2 < 1 | MLP | **does not hold** |" in text and "| \\|1\\| < 2 |" in text
    with open("out/theory-smoke.csv", encoding="utf-8") as file:
        assert [row["holds"] for row in csv.DictReader(file)] == ["holds", "does not hold"]
    checks, picture = appendices.report_appendix_e(chapter.SIZES["smoke"], None)
    paths = theory.save(chapter.SIZES["smoke"], [(checks, picture)], tmp_path)
    names = [path.name for path in paths]
    picture_names = [f"theory-smoke-appendixE.{kind}" for kind in ("png", "svg", "csv")]
    assert names == ["theory-smoke.md", "theory-smoke.csv", *picture_names]
    assert "no result)" in (tmp_path / "theory-smoke-appendixE.svg").read_text(encoding="utf-8")
    paths = theory.save(chapter.SIZES["quick"].on(["mnist"]), [(checks, picture)], tmp_path)
    assert paths[0].name == "theory-synthetic.md"
    assert "stand-in)" in (tmp_path / "theory-synthetic-appendixE.svg").read_text(encoding="utf-8")


def test_damaged_data_is_told_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(theory, "measure", lambda *a: pytest.fail("measured"))
    for file in FACTS["mnist"].files:
        (tmp_path / file).write_bytes(b"no data")
    with pytest.raises(SystemExit) as end:
        command.main(["theory", "--data", str(tmp_path), "--figures", str(tmp_path / "figures")])
    assert end.value.code == 2 and "found 7 bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, words",
    [(["--preset", "paper"], "no settings for its theory"), (["--backend", "cupy"], "got --backend"), (["--seeds", "3"], "got --seeds"), (["--set", "B=4"], "got --set"),
     (["--plot-only"], "got --plot-only"), (["--results", "x"], "got --results"), (["--jobs", "0"], "at least 1")],
)
def test_theory_refuses_what_it_does_not_take(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        command.main(["theory", *arguments])
    err = capsys.readouterr().err
    assert end.value.code == 2 and words in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_noticed_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(theory, "measure", lambda *a: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        command.main(["theory", "--preset", "smoke", "--figures", str(tmp_path / "file")])
    assert end.value.code == 2 and "file can't be written" in capsys.readouterr().err


@pytest.mark.parametrize("place, name", [(theory, "measure"), (command, "work"), (theory, "save")])
def test_ctrl_c_is_one_true_sentence(place, name, tmp_path, monkeypatch, capsys):
    def interrupted(*a):
        raise KeyboardInterrupt

    monkeypatch.setattr(theory, "measure", lambda *a: [])
    monkeypatch.setattr(place, name, interrupted)
    assert command.main(["theory", "--preset", "smoke", "--figures", str(tmp_path / "new")]) == 130
    assert capsys.readouterr().err == "\ninterrupted: run the same command again, which trains no stored run anew\n"
    assert list(tmp_path.glob("*/*")) == []
