"""Theorem 1: beside each case that holds stands a fault that does not."""

import numpy as np
import pytest

import minigrad as mg
from experiments.runs import Run
from experiments.theory import lemmas, theorem

from problems import network, one_more_term


BOTH = {"spectral": True, "frobenius": True}


def gradients_of_all(graph, params, x, y):
    cache = mg.forward(graph, params, x)
    _, df = mg.cross_entropy(cache.v[graph.L], y)
    return mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))


def fitted(rng, name="MLP-BN-2-8"):
    graph, params = network(name, rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    velocity = {key: np.zeros_like(W) for key, W in params.items()}
    rows = np.concatenate([mg.batches(20, 5, 0, epoch) for epoch in range(20)])
    mg.train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", 0.05, 0.01, 0.9)
    grads = gradients_of_all(graph, params, x, y)
    assert all(abs(grads[e]).max() > 0 for e in graph.E_T)  # else it is dead, and both sides are the same
    return graph, params, x, y


def test_theorem_1_and_both_its_sides(rng):
    graph, params, x, y = fitted(rng)
    found = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (1, 2, 4), 3, rng)
    assert found["bound_holds"] == BOTH and found["equality_holds"]
    assert found["left"].shape == found["right"].shape == (2, 3, 3)
    for place, r in enumerate((1, 2, 4)):
        assert found["left"][0, 0, place] == mg.distance_to_rank(params[2, 1], r)
        assert found["left"][1, 1, place] == mg.distance_to_rank(params[3, 2], r, "frobenius")
    batch_of_all = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (20,), 1, rng)
    grads = gradients_of_all(graph, params, x, y)
    for number, e in enumerate(graph.E_T):
        for norm, kind in enumerate((2, "fro")):
            bound = np.linalg.norm(grads[e] / 0.02 + params[e], kind)
            np.testing.assert_allclose(batch_of_all["right"][norm, number, 0], bound, rtol=1e-10)


def test_U_S_of_one_rank_more_is_seen(rng, monkeypatch):
    assert theorem.rank_of_U_S(*fitted(rng), "cross_entropy", (1, 2, 4), rng)["holds"]
    monkeypatch.setattr(lemmas, "forward", one_more_term(lemmas.forward))
    # Without batch norm: into normalized layers, B - 1 leaves room for it.
    assert not theorem.rank_of_U_S(*fitted(rng, "MLP-2-8"), "mean_squared_error", (4,), rng)["holds"]


def test_eq_18_fails_with_a_gradient_that_misses_a_factor_or_has_something_across(rng, monkeypatch):
    graph, params, x, y = fitted(rng)
    gradients = theorem.gradients
    gap = params[2, 1] + gradients_of_all(graph, params, x, y)[2, 1] / 0.02
    outer = np.outer(rng.normal(size=8), rng.normal(size=9))
    across = outer - (outer * gap).sum() / (gap**2).sum() * gap  # not seen along gap

    def with_something_across(*a):
        found = gradients(*a)
        return found | {(2, 1): found[2, 1] + 1e-6 * across}

    monkeypatch.setattr(theorem, "gradients", with_something_across)
    found = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (20,), 1, rng)
    assert not found["equality_holds"]
    for factor in (2, 0.5, -1):
        def times(*a, factor=factor):
            return {key: factor * g for key, g in gradients(*a).items()}

        monkeypatch.setattr(theorem, "gradients", times)
        found = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (2,), 1, rng)
        assert not found["equality_holds"]


def test_theorem_1_fails_where_it_is_tight_and_the_rank_is_off_by_one(rng, monkeypatch):
    """At W = U_S of a batch of two: both sides vanish, and the distance to rank one does not."""
    linear = (mg.Layer(5, "identity"), mg.Layer(6, "identity"), mg.Layer(4, "identity"))  # without kinks
    graph = mg.Graph(linear, (mg.Edge(2, 1), mg.Edge(3, 2)))
    params = mg.init_params(graph, rng, dtype="float64", init="he")
    x, y, lam = rng.normal(size=(2, 5)), np.eye(4)[:2] * 3, 0.02
    velocity = {key: np.zeros_like(W) for key, W in params.items()}
    rows = np.tile(np.arange(2), (5000, 1))
    mg.train_epoch(graph, params, velocity, x, y, rows, "mean_squared_error", 0.1, lam, 0.9)
    found = theorem.theorem_1(graph, params, x, y, "mean_squared_error", lam, (2,), 1, rng)
    assert found["bound_holds"] == BOTH and 0 <= found["left"].max() < 1e-6 and found["right"].max() < 1e-6
    for norm in BOTH:
        def off_by_one(W, r, kind, norm=norm):
            return mg.distance_to_rank(W, max(r - 1, 0) if kind == norm else r, kind)

        monkeypatch.setattr(theorem, "distance_to_rank", off_by_one)
        found = theorem.theorem_1(graph, params, x, y, "mean_squared_error", lam, (2,), 1, rng)
        assert found["bound_holds"] == BOTH | {norm: False}


def test_the_bound_says_something_only_below_the_norm_of_W(rng):
    graph, params, x, y = fitted(rng)
    weak = theorem.theorem_1(graph, params, x, y, "cross_entropy", 1e-6, (2,), 2, rng)
    assert weak["informative"].max() == 0
    found = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (2, 20), 2, rng)
    for norm, kind in enumerate((2, "fro")):
        sizes = [np.linalg.norm(params[e], kind) for e in graph.E_T]
        np.testing.assert_allclose(found["size"][norm], sizes)
        below = found["right"][norm] < (1 - 1e-10) * np.array(sizes)[:, None]
        np.testing.assert_array_equal(found["informative"][norm], below.mean(axis=0))


def least_bounds_one_by_one(graph, params, x, y, lam, B, batches, rng):
    """The right side of Eq. 10 as it is written: a batch at a time, a norm at a time, by singular values."""
    least = np.full((2, len(graph.E_T)), np.inf)
    for _ in range(batches):
        rows = rng.choice(len(x), B, replace=False)
        grads = gradients_of_all(graph, params, x[rows], y[rows])
        for number, norm in enumerate(BOTH):
            for place, e in enumerate(graph.E_T):
                bound = mg.theorem1_bound(grads[e] + 2 * lam * params[e], lam, norm)
                least[number, place] = min(least[number, place], bound)
    return least


def test_where_the_gradient_is_zero_the_bound_says_nothing(rng):
    """All units of a layer are off: both sides are W's norm, of which rounding makes one the less."""
    graph, params = network("MLP-2-8", rng)
    params[3, 2] = -abs(params[3, 2])
    x, y = abs(rng.normal(size=(20, 9))), np.eye(3)[rng.integers(3, size=20)]
    found = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (2, 4), 8, rng)
    right, size = found["right"], found["size"][..., None]
    np.testing.assert_allclose(right, np.broadcast_to(size, right.shape), rtol=1e-14)
    assert (right < size).any() and (found["informative"] == 0).all()


@pytest.mark.parametrize("batches", [1, 10, 23])
def test_the_right_side_is_the_least_bound_of_the_same_batches_one_by_one(batches, rng, monkeypatch):
    """Fewer than are computed together, as many, and more; the fault: statistics of all of these together."""
    graph, params = network("MLP-BN-2-8", rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]

    def least(seeded):
        return theorem.least_bounds(graph, params, x, y, "cross_entropy", 0.01, 3, batches, seeded)

    expected = least_bounds_one_by_one(graph, params, x, y, 0.01, 3, batches, np.random.default_rng(2))
    np.testing.assert_allclose(least(np.random.default_rng(2)), expected, rtol=1e-12)

    def with_statistics_of_all(graph, params, x):
        together = mg.forward(graph, params, x.reshape(-1, x.shape[-1]))
        return mg.forward(graph, params, x, A=together.A, b=together.b)

    monkeypatch.setattr(theorem, "forward", with_statistics_of_all)
    if batches > 1:
        assert abs(least(np.random.default_rng(2)) / expected - 1).max() > 1e-3


def test_the_least_norms_are_those_of_the_singular_values(rng):
    """Of matrices of every rank, in any order; a matrix of zeros has the norm 0."""
    for _ in range(20):
        M = np.zeros((7, 6, 9))
        for place, r in enumerate(rng.permutation(7)):
            M[place] = rng.uniform(1, 3) * rng.normal(size=(6, r + 1)) @ rng.normal(size=(r + 1, 9))
        s = np.linalg.svd(M, compute_uv=False)
        least = np.array([s[:, 0].min(), ((s**2).sum(axis=1) ** 0.5).min()])
        for known in (np.full(2, np.inf), 1.01 * least):
            np.testing.assert_allclose(theorem.least_norms(M, known), least, rtol=1e-12)
        np.testing.assert_array_equal(theorem.least_norms(M, 0.99 * least), 0.99 * least)
    np.testing.assert_array_equal(theorem.least_norms(np.zeros((2, 3, 4)), np.ones(2)), [0, 0])


def test_the_least_of_more_batches_is_no_larger(rng):
    graph, params = network("MLP-BN-2-8", rng)
    x, y = rng.normal(size=(20, 9)), np.eye(3)[rng.integers(3, size=20)]
    right = {}
    for samples in (1, 8):
        seeded = np.random.default_rng(1)
        found = theorem.theorem_1(graph, params, x, y, "cross_entropy", 0.01, (5,), samples, seeded)
        right[samples] = found["right"]
    assert (right[8] <= right[1]).all() and (right[8] < right[1]).any()


def test_the_rank_of_U_S_is_asked_of_the_loss_s_own_slopes_and_of_every_batch(rng, monkeypatch):
    graph, params, x, y = fitted(rng)
    seen = []

    def lemma_2(graph, params, batch, rng, beta):
        rows = [(row == x).all(axis=1).argmax() for row in batch]
        _, df = mg.cross_entropy(mg.forward(graph, params, batch).v[graph.L], y[rows])
        np.testing.assert_array_equal(beta, df)
        seen.append(len(batch))
        return {"beyond": {1: 1e-16, 2: 1e-5, 4: 1e-12}[len(batch)]}

    monkeypatch.setattr(theorem, "lemma_2", lemma_2)
    found = theorem.rank_of_U_S(graph, params, x, y, "cross_entropy", (1, 2, 4), rng)
    assert found == {"beyond": 1e-5, "holds": False} and seen == [1, 2, 4]
    assert theorem.rank_of_U_S(graph, params, x, y, "cross_entropy", (1, 4), rng)["holds"]


def test_along_training_a_statement_holds_if_it_does_at_every_W():
    def found(spectral, frobenius, equality, error):
        arrays = {"left": np.ones((2, 3, 1)), "right": np.full((2, 3, 1), 2.0), "size": np.ones((2, 3))}
        holds = {"bound_holds": {"spectral": spectral, "frobenius": frobenius}, "equality_holds": equality}
        return arrays | {"informative": np.zeros((2, 1)), "error": error} | holds

    good = found(True, True, True, 1e-15)
    for bad in (found(True, False, True, 1e-15), found(False, True, True, 1e-15)):
        for results in ([good, bad], [bad, good]):
            assert theorem.along_training(results)["bound_holds"] == bad["bound_holds"]
    worst = theorem.along_training([found(True, True, False, 1e-3), good])
    assert worst["bound_holds"] == BOTH and worst["equality"] == {"error": 1e-3, "holds": False}
    np.testing.assert_array_equal(worst["ratio"], np.full((2, 2, 1), 2.0))


def test_training_stops_at_every_mark_and_is_that_of_one_go(rng):
    run = Run(
        network="MLP-BN-2-4", dataset="synthetic-mnist", m=40, B=8, eta=0.1, epochs=5, milestones=(2,),
    )
    x, y = rng.normal(size=(40, 784)), np.eye(10)[rng.integers(10, size=40)]
    x, y = x.astype("float32"), y.astype("float32")
    seen = [params[3, 2].copy() for params in theorem.trained(run.graph(), run, x, y, [0, 1, 5])]
    params = mg.init_params(run.graph(), np.random.default_rng(0))
    velocity = {name: np.zeros_like(W) for name, W in params.items()}
    expected = {0: params[3, 2].copy()}
    for epoch in range(5):
        eta = 0.1 if epoch < 2 else 0.1 * 0.1
        rows = mg.batches(40, 8, 0, epoch)
        mg.train_epoch(run.graph(), params, velocity, x, y, rows, "cross_entropy", eta, 5e-4, 0.9)
        expected[epoch + 1] = params[3, 2].copy()
    for found, mark in zip(seen, [0, 1, 5], strict=True):
        np.testing.assert_allclose(found, expected[mark], rtol=1e-5)
