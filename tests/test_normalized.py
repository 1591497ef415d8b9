"""Networks with batch norm: beside each case that holds stands a fault that does not."""

import numpy as np
import pytest

import minigrad as mg
from experiments.theory import lemmas, normalized

from problems import network

HIDDEN = [(3, 2), (4, 3)]  # the W of MLP-BN-3 between hidden layers


def setting(rng):
    graph, params = network("MLP-BN-3-7", rng)
    return graph, params, normalized.off_their_start(graph, params), rng.normal(size=(4, 9))


def per_sample_gradients(graph, params, x):
    """{edge: d f_c(x_j) / d W}, (B, k, d_p, d_q) each, by a seed for every sample and output."""
    cache, k = mg.forward(graph, params, x), graph.width(graph.L)
    seeds = np.eye(len(x) * k).reshape(len(x), k, len(x), k)
    return mg.gradients(graph, cache, *mg.backward(graph, params, cache, seeds))


def test_gamma_and_beta_leave_their_start_in_both_directions_and_nothing_else_does(rng):
    graph, params, changed, _ = setting(rng)
    gammas = [changed["gamma", p].item() for p in (2, 3, 4)]
    betas = [changed["beta", p].item() for p in (2, 3, 4)]
    assert gammas == [1.5, 0.7, 1.5] and betas == [0.5, -0.5, 0.5]
    assert changed.keys() == params.keys() and params["gamma", 2] == 1 and params["beta", 2] == 0
    assert all(changed[e] is params[e] for e in graph.E_T)


@pytest.mark.parametrize("edge", HIDDEN)
def test_eq_23_is_backpropagation_s_and_as_printed_only_at_beta_0(edge, rng):
    graph, at_start, changed, x = setting(rng)
    for params, printed_is_right in ((at_start, True), (changed, False)):
        expected = per_sample_gradients(graph, params, x)[edge]
        corrected = normalized.eq_23(graph, params, x, *edge, as_printed=False)
        printed = normalized.eq_23(graph, params, x, *edge, as_printed=True)
        np.testing.assert_allclose(corrected, expected, rtol=0, atol=1e-12 * abs(expected).max())
        apart = abs(printed - expected).max() / abs(expected).max()
        assert apart < 1e-12 if printed_is_right else apart > 0.1


def test_eq_23_as_printed_is_judged_by_slopes_of_f(rng, monkeypatch):
    """The fault: slopes that let A vary, which neither form has."""
    graph, at_start, changed, x = setting(rng)
    found = normalized.written_out(graph, changed, x, rng)
    assert not found["holds"] and found["error"] > 0.1 and found["without_Q"] < 1e-12
    found = normalized.written_out(graph, at_start, x, rng)
    assert found["holds"] and found["error"] < 1e-12
    sketch = normalized.sketch

    def with_A_free(graph, params, x, edge, r, rng, A):
        return sketch(graph, params, x, edge, r, rng)

    monkeypatch.setattr(normalized, "sketch", with_A_free)
    found = normalized.written_out(graph, at_start, x, rng)
    assert not found["holds"] and found["without_Q"] > 0.01


@pytest.mark.parametrize("name", ["MLP-BN-2-8", "RES-BN-1-8"])
def test_eq_24_holds_off_the_start_which_shows_a_gamma_that_is_forgotten(name, rng, monkeypatch):
    graph, at_start = network(name, rng)
    changed, x = normalized.off_their_start(graph, at_start), rng.normal(size=(4, 9))
    assert lemmas.lemma_2(graph, changed, x, rng)["equality_holds"]

    def without_gamma(graph, params, cache, df):
        ones = {("gamma", p): at_start["gamma", p] for p in cache.A}
        return mg.backward(graph, params | ones, cache, df)

    monkeypatch.setattr(lemmas, "backward", without_gamma)
    assert lemmas.lemma_2(graph, at_start, x, rng)["equality_holds"]
    assert not lemmas.lemma_2(graph, changed, x, rng)["equality_holds"]


def readings(name):
    """The same network with the true gradient of batch norm and with A detached, gamma and beta per unit."""
    return [mg.parse(name, 9, 3, detached=detached, scalar=False) for detached in (False, True)]


def trained(name, rng):
    """Both readings of a network that was trained a little as the memo's text has it; parameters and data."""
    graph, params = network(name, rng)
    x, y = rng.normal(size=(40, 9)), np.eye(3)[rng.integers(3, size=40)]
    velocity = {key: np.zeros_like(W) for key, W in params.items()}
    rows = mg.batches(40, 10, 0, 0)
    mg.train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", 0.02, 0.01, 0.9)
    return readings(name), params, x, y


@pytest.mark.parametrize("name", ["MLP-BN-3-16", "RES-BN-2-16"])
def test_the_true_gradient_is_orthogonal_to_W_but_for_epsilon_and_the_detached_one_is_not(
    name, rng, monkeypatch
):
    """The faults: backpropagation that detaches A all the same, and another epsilon."""
    graphs, params, x, y = trained(name, rng)

    def found():
        seeded = np.random.default_rng(1)
        return normalized.orthogonality(*graphs, params, x, y, "cross_entropy", (10, 20), 3, seeded)

    angles = found()
    into = sum(graphs[0].layers[p - 1].batchnorm for p, _ in graphs[0].E_T)
    assert angles["true"].shape == angles["detached"].shape == angles["share"].shape == (into, 6)
    assert angles["holds"] and abs(angles["true"]).max() < 0.01 < 0.05 < abs(angles["detached"]).max()

    monkeypatch.setattr(normalized, "EPS", 2e-5)
    assert not found()["holds"]
    monkeypatch.undo()

    def detaching(graph, params, cache, df):
        return mg.backward(graphs[1], params, cache, df)

    monkeypatch.setattr(normalized, "backward", detaching)
    assert not found()["holds"]


@pytest.mark.parametrize("reading", [0, 1])
def test_the_cosine_is_the_slope_of_the_loss_as_W_grows(reading, rng):
    """By differences, batch by batch, with A free or held; a batch alone is as it is beside another."""
    graphs, params, x, y = trained("MLP-BN-2-16", rng)
    graph, rows = graphs[reading], np.arange(40).reshape(2, 20)
    params |= {("gamma", p): np.full((1, 16), params["gamma", p]) for p in (2, 3)}
    found = normalized.along_W(graph, params, x[rows], y[rows], "cross_entropy")
    for number, batch in enumerate(rows):
        cache = mg.forward(graph, params, x[batch])
        A = cache.A if graph.layers[1].detached else None
        _, df = mg.cross_entropy(cache.v[graph.L], y[batch])
        grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
        for place, e in enumerate([(2, 1), (3, 2)]):
            losses = []
            for times in (1 + 1e-5, 1 - 1e-5):
                f = mg.forward(graph, params | {e: times * params[e]}, x[batch], A=A).v[graph.L]
                losses.append(mg.cross_entropy(f, y[batch])[0])
            slope = (losses[0] - losses[1]) / 2e-5
            size = np.linalg.norm(grads[e]) * np.linalg.norm(params[e])
            assert found["cosine"][place, number] == pytest.approx(slope / size, abs=1e-8)
            share = 1e-5 * cache.A[e[0]] ** 2
            assert found["share"][place, number] == pytest.approx(share.mean())


def test_without_detaching_eq_10_s_right_side_is_below_the_norm_of_W_at_no_lambda(rng):
    """With A detached it is, at some lambda, for targets that a larger f fits; the cosine says how far."""
    (true_graph, detached_graph), params, x, _ = trained("MLP-BN-3-16", rng)
    y = 2 * mg.forward(true_graph, params, x).v[true_graph.L]
    lowest = {}
    for graph in (true_graph, detached_graph):
        cache = mg.forward(graph, params, x)
        _, df = mg.mean_squared_error(cache.v[graph.L], y)
        grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
        bounds, cosines = [], []
        for e in [(2, 1), (3, 2), (4, 3)]:
            size = np.linalg.norm(params[e])
            for lam in np.geomspace(1e-4, 1e4, 4001):
                bound = mg.theorem1_bound(grads[e] + 2 * lam * params[e], lam, "frobenius")
                bounds.append(bound / size)
            cosines.append((grads[e] * params[e]).sum() / np.linalg.norm(grads[e]) / size)
        lowest[graph] = min(bounds)
        assert normalized.least_over_lambda(np.array(cosines)) == pytest.approx(min(bounds), rel=1e-5)
    assert lowest[true_graph] > 1 - 1e-5 and lowest[detached_graph] < 0.99


def test_only_what_batch_norm_normalizes_is_judged_and_the_rest_is_told():
    def found(true, detached, share, holds=True):
        numbers = {"true": true, "detached": detached, "share": share}
        angles = {name: np.array([[value]]) for name, value in numbers.items()}
        return angles | {"error": 1e-15, "holds": holds}

    good, bad, decayed = found(0.02, -0.6, 0.05), found(-0.2, 0.3, 0.05), found(-0.8, -0.9, 0.5)
    for results, true, lowest, anywhere, holds in (
        ([good, decayed], 0.02, 1, 0.6, True),
        ([good, bad], 0.2, 0.96**0.5, 0.96**0.5, False),
    ):
        judged = normalized.judge_orthogonality(results)
        assert judged["cosine"] == {"error": 1e-15, "true": true, "detached": 0.6, "holds": True}
        assert judged["bound"]["holds"] is holds and judged["bound"]["detached"] == pytest.approx(0.8)
        assert judged["bound"]["true"] == pytest.approx(lowest)
        assert judged["bound"]["anywhere"] == pytest.approx(anywhere)
    for results in ([good, found(0, 0, 0, False)], [found(0, 0, 0, False), good]):
        assert not normalized.judge_orthogonality(results)["cosine"]["holds"]
