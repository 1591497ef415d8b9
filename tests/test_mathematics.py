"""Gradients, Lemmas 1 and 2, Theorem 1 against slow and obvious second implementations."""

import numpy as np
import pytest
from problems import NETWORKS, mlp, random_dag, resnet, setting, skip_graph, targets, zeros_like

import minigrad as mg
from minigrad.layers import EPS, SLOPE, sigmoid
from minigrad.losses import LOSSES


def assert_close(actual, expected, size, name=""):
    """Within the rounding of numbers of that size."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * size, err_msg=name)


def backpropagated(graph, params, cache, df):
    return mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))


def norm_of(arrays):
    """Of all their entries, Euclidean."""
    return np.sqrt(sum((a**2).sum() for a in arrays.values()))


def error(graph, params, x, loss, y, rng, passed={}, held={}):
    """|slope - <gradient, direction>| / (|gradient| |direction|), slopes by central differences.

    The gradient comes from a pass that is given the A and b in `passed`; in the function whose
    differences are taken, those in `held` are constant.
    """
    cache = mg.forward(graph, params, x, **passed)
    grads = backpropagated(graph, params, cache, loss(cache.v[graph.L], y)[1])
    errors = []
    for _ in range(4):  # a single direction can be orthogonal to a missing term
        direction = {k: rng.normal(size=W.shape) for k, W in params.items()}
        expected = sum((grads[k] * direction[k]).sum() for k in params)
        slopes = []
        for h in (1e-4, 1e-5, 1e-6):
            ends = [{k: W + step * direction[k] for k, W in params.items()} for step in (h, -h)]
            f = [mg.forward(graph, end, x, **held).v[graph.L] for end in ends]
            after, before = (loss(f_end, y)[0] for f_end in f)
            slopes.append((after - before) / (2 * h))
        size = norm_of(grads) * norm_of(direction)
        errors.append(min(abs(slope - expected) for slope in slopes) / size)
    return max(errors)


@pytest.mark.parametrize("net", [*NETWORKS, *range(40)])
def test_gradients_agree_with_differences_when_A_is_held(net, rng):
    """Every loss. Where a layer is not detached, only if the pass was given A, too."""
    graph = NETWORKS.get(net) or random_dag(rng, detached=True if net % 2 else None)
    params, x = setting(graph, rng)
    held = {"A": mg.forward(graph, params, x).A}
    passed = {} if all(layer.detached for layer in graph.layers) else held
    for name, loss in LOSSES.items():
        y = targets(name, (7, 3), rng)
        assert error(graph, params, x, loss, y, rng, passed, held) < 1e-6


@pytest.mark.parametrize("number", range(40))
def test_plain_differences_agree_with_the_true_gradient_of_random_graphs(number, rng):
    """Every activation. With b given, the variance is still about the batch's own mean."""
    graph = random_dag(rng, detached=False)
    params, x = setting(graph, rng)
    loss, y = mg.mean_squared_error, rng.normal(size=(7, 3))
    assert error(graph, params, x, loss, y, rng) < 1e-6
    own_b = mg.forward(graph, params, x).b
    held = {"b": {p: mean + 0.1 * rng.normal(size=mean.shape) for p, mean in own_b.items()}}
    assert error(graph, params, x, loss, y, rng, held, held) < 1e-6


@pytest.mark.parametrize("build", [mlp, resnet, skip_graph])
def test_into_a_normalized_layer_the_true_gradient_is_orthogonal_to_W_up_to_epsilon(build, rng):
    """By unit i, <dW_i, W_i> = EPS A_i^2 gamma_i dgamma_i: W scaled changes f through EPS alone."""
    for detached in (False, True):
        graph = build(True, detached, scalar=False)
        params, x = setting(graph, rng)
        cache = mg.forward(graph, params, x)
        grads = backpropagated(graph, params, cache, rng.normal(size=(7, 3)))
        for p, q in graph.E_T:
            if not graph.layers[p - 1].batchnorm:
                continue
            along = (grads[p, q] * params[p, q]).sum(axis=1)
            size = np.linalg.norm(grads[p, q]) * np.linalg.norm(params[p, q])
            through_eps = (EPS * cache.A[p] ** 2 * params["gamma", p] * grads["gamma", p])[0]
            if detached:
                assert abs(along).max() > 1e-3 * size
            else:
                np.testing.assert_allclose(along, through_eps, rtol=0, atol=1e-13 * size)


SIGMA = {  # at a complex a the real part decides
    "relu": lambda a: np.where(a.real > 0, a, 0),
    "leaky_relu": lambda a: np.where(a.real > 0, a, SLOPE * a),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "identity": lambda a: a,
}
TINY = 1e-30  # (f(a + i TINY)).imag / TINY is the derivative, in which nothing cancels


def weights(graph, params):
    """W^{pq} by edge, the identity on a constant one."""
    constant = {(e.p, e.q): np.eye(graph.width(e.p)) for e in graph.edges if not e.trainable}
    return constant | {edge: params[edge] for edge in graph.E_T}


def path_sum(graph, params, x, p, q):
    """d f_c(x) / d W^{pq} at one x for every output c: the sum over paths of Eq. 11 to 13."""
    weight = weights(graph, params)
    v, D = {1: x}, {}
    for r in range(2, graph.L + 1):
        a = sum(weight[r, s] @ v[s] for s in graph.pred[r])
        sigma = SIGMA[graph.layers[r - 1].activation]
        v[r], D[r] = sigma(a), np.diag(sigma(a + TINY * 1j).imag / TINY)

    def to_output(r):
        """The sum over paths from layer r's pre-activation to f, (k, d_r)."""
        if r == graph.L:
            return np.eye(graph.width(r))
        total = np.zeros((graph.width(graph.L), graph.width(r)))
        for s in range(r + 1, graph.L + 1):
            if r in graph.pred[s]:
                total += to_output(s) @ weight[s, r] @ D[r]
        return total

    return np.einsum("cp,q->cpq", to_output(p), v[q])


@pytest.mark.parametrize("net", ["mlp", "res", "skip", *range(17)])
def test_the_sum_over_paths_equals_backward(net, rng):
    graph = NETWORKS.get(net) or random_dag(rng, batchnorm=False)
    params, x = setting(graph, rng, B=3)
    df = rng.normal(size=(3, 3))
    grads = backpropagated(graph, params, mg.forward(graph, params, x), df)
    for p, q in graph.E_T:
        paths = np.array([path_sum(graph, params, x_j, p, q) for x_j in x])
        oracle = np.einsum("jc,jcpq->pq", df, paths)
        assert_close(grads[p, q], oracle, max(1, abs(oracle).max()))


def complex_step(graph, params, x, p, q, A=None):
    """d f_c(x_b) / d W^{pq}, (B, k, d_p, d_q), without factors, entry by entry.

    b is the batch's mean (Eq. 5), and A comes from its variance, unless given.
    """
    gradient = np.empty((len(x), graph.width(graph.L), graph.width(p), graph.width(q)))
    weight = weights(graph, params)
    for i, j in np.ndindex(graph.width(p), graph.width(q)):
        weight[p, q] = params[p, q].astype(complex)
        weight[p, q][i, j] += TINY * 1j
        v = {1: x.astype(complex)}
        for r in range(2, graph.L + 1):
            layer = graph.layers[r - 1]
            a = sum(v[s] @ weight[r, s].T for s in graph.pred[r])
            if layer.batchnorm:
                centred = a - a.mean(axis=0)
                A_r = A[r] if A else ((centred**2).mean(axis=0) + EPS) ** -0.5
                a = params["gamma", r] * A_r * centred + params["beta", r]
            v[r] = SIGMA[layer.activation](a)
        gradient[:, :, i, j] = v[graph.L].imag / TINY
    return gradient


@pytest.mark.parametrize("build", [mlp, resnet, skip_graph])
@pytest.mark.parametrize("detached", [True, False])
@pytest.mark.parametrize("scalar", [True, False])
def test_lemma_2_batch_norm_bounds_the_rank_by_the_batch(build, detached, scalar, rng):
    """Per sample at most B; of the batch, into a normalized layer, B - 1, which is reached."""
    B = 3
    graph = build(True, detached, scalar)
    params, x = setting(graph, rng, B)
    cache = mg.forward(graph, params, x)
    df = rng.normal(size=(B, 3))
    U, _ = mg.backward(graph, params, cache, df)
    grads = backpropagated(graph, params, cache, df)
    seeded = backpropagated(graph, params, cache, mg.per_sample(df))
    ranks_of_samples, ranks_into_normalized = [], []
    for p, q in graph.E_T:
        oracle = complex_step(graph, params, x, p, q, cache.A if detached else None)
        per_sample = np.einsum("bk,bkpq->bpq", df, oracle)
        batch = per_sample.sum(axis=0)
        size = abs(oracle).max() + 1e-300
        assert_close(seeded[p, q], per_sample, size)
        assert_close(grads[p, q], batch, size)
        if graph.layers[p - 1].batchnorm:
            assert_close(U[p].sum(axis=0), 0, abs(U[p]).max())
            ranks_into_normalized.append(np.linalg.matrix_rank(batch, rtol=1e-12))
        ranks_of_samples.extend(np.linalg.matrix_rank(per_sample, rtol=1e-12))
    assert max(ranks_into_normalized) == B - 1
    # A normalized layer mixes the samples, so Lemma 1 does not hold.
    assert 1 < max(ranks_of_samples) <= B


def test_norms_of_terms_come_from_the_factors_alone(rng):
    """Against the materialized (..., B, d_p, d_q) terms, with seeds in front."""
    graph = NETWORKS["skip-bn"]
    params, x = setting(graph, rng)
    cache = mg.forward(graph, params, x)
    U, _ = mg.backward(graph, params, cache, rng.normal(size=(2, 7, 3)))
    for factor in mg.factors(graph, cache, U).values():
        squares = (factor.terms() ** 2).sum(axis=(-2, -1))
        assert_close(factor.norms() ** 2, squares, squares.max())


def nearest_of_rank(W, r):
    u, s, vt = np.linalg.svd(W, full_matrices=False)
    s[r:] = 0
    return u * s @ vt


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("norm, order", [("spectral", 2), ("frobenius", "fro")])
def test_theorem_1_bounds_the_distance_to_rank_B_and_eq_18_is_an_equality(name, norm, order, rng):
    """Eq. 10 for any W and batch, before and after training."""
    B, lam = 2, 0.01
    graph = NETWORKS[name]
    params, x = setting(graph, rng, B=40)
    y = np.eye(3)[rng.integers(3, size=40)]
    rows = np.concatenate([mg.batches(40, 10, 0, epoch) for epoch in range(20)])
    for steps in (rows[:0], rows):
        mg.train_epoch(graph, params, None, x, y, steps, "cross_entropy", 0.05, lam, 0.9)
        for batch in mg.batches(40, B, 1, 0)[:6]:
            cache = mg.forward(graph, params, x[batch])
            _, df = mg.cross_entropy(cache.v[graph.L], y[batch])
            grads = backpropagated(graph, params, cache, df)
            for e in graph.E_T:
                W, U_S = params[e], -grads[e] / (2 * lam)
                bound = mg.theorem1_bound(grads[e] + 2 * lam * W, lam, norm)
                distance = mg.distance_to_rank(W, B, norm)
                nearest = np.linalg.norm(W - nearest_of_rank(W, B), order)
                np.testing.assert_allclose(distance, nearest, rtol=1e-9)
                assert distance <= bound * (1 + 1e-12)
                assert np.linalg.matrix_rank(U_S, rtol=1e-12) <= B
                np.testing.assert_allclose(np.linalg.norm(W - U_S, order), bound, rtol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("engine", ["reference", None])
def test_stacked_runs_equal_the_same_runs_alone_bit_for_bit(name, dtype, engine, rng):
    """One of them diverges, and leaves the others as they are."""
    graph = NETWORKS[name]
    scalars = np.array([(0.05, 0.05, 0.1), (1e-3, 0.0, 1e-2), (0.9, 0.9, 0.5)], dtype)
    x = rng.normal(size=(30, 5)).astype(dtype)
    y = np.eye(3, dtype=dtype)[rng.integers(3, size=30)]
    rows = np.stack([mg.batches(30, 6, seed, 0) for seed in range(3)], axis=1)
    runs = [mg.init_params(graph, np.random.default_rng(seed), dtype=dtype) for seed in range(3)]
    runs[1][graph.E_T[0]][0, 0] = np.finfo(dtype).max
    stack = {k: np.stack([params[k] for params in runs]) for k in runs[0]}

    def train(params, rows, scalars):
        mg.train_epoch(graph, params, None, x, y, rows, "cross_entropy", *scalars, engine=engine)

    train(stack, rows, scalars.reshape(3, 3, 1, 1))
    assert not all(np.isfinite(stack[e][1]).all() for e in graph.E_T)
    for seed in (0, 2):
        train(runs[seed], rows[:, seed], scalars[:, seed].tolist())
        for k, alone in runs[seed].items():
            assert stack[k].dtype == dtype
            assert np.isfinite(alone).all()
            assert stack[k][seed].tobytes() == alone.tobytes(), k


def test_the_step_is_eq_2_with_momentum_and_decays_the_matrices_only(rng):
    """velocity <- momentum velocity + g, W <- W - eta velocity, g = gradient + 2 lambda W."""
    scalars = eta, lam, momentum = 0.1, 0.03, 0.9
    graph = NETWORKS["mlp-bn"]
    params, x = setting(graph, rng)
    y = np.ones((7, 3))
    velocity = zeros_like(params)
    expected = {k: W.copy() for k, W in params.items()}
    by_hand = zeros_like(params)
    for _ in range(3):
        cache = mg.forward(graph, params, x)
        _, df = mg.mean_squared_error(cache.v[graph.L], y)
        grads = backpropagated(graph, params, cache, df)
        for k in params:
            decay = 2 * lam * expected[k] if k in graph.E_T else 0
            by_hand[k] = momentum * by_hand[k] + grads[k] + decay
            expected[k] = expected[k] - eta * by_hand[k]
        found = mg.train_step(graph, params, velocity, x, y, "mean_squared_error", *scalars)
        assert list(found) == list(graph.E_T)
        for edge in graph.E_T:  # those before the step
            np.testing.assert_allclose(found[edge].matrix(), grads[edge], rtol=1e-12, atol=1e-15)
    for k in params:
        np.testing.assert_allclose(params[k], expected[k], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(velocity[k], by_hand[k], rtol=1e-12, atol=1e-15)


def test_the_learning_rate_drops_when_an_epoch_reaches_a_milestone():
    expected = {0: 0.1, 59: 0.1, 60: 0.01, 99: 0.01, 100: 1e-3, 199: 1e-3, 200: 1e-4, 499: 1e-4}
    for epoch, eta in expected.items():
        np.testing.assert_allclose(mg.step_decay(0.1, epoch), eta, rtol=1e-12)
    np.testing.assert_allclose(mg.step_decay(0.1, 7, (5, 7, 8), factor=0.2), 0.004, rtol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_test_time_uses_the_statistics_that_it_is_given(name, rng):
    """On the training set predict is forward; on other data it keeps the training set's A and b."""
    graph = NETWORKS[name]
    params, x = setting(graph, rng)
    other = rng.normal(size=(4, 5))
    cache = mg.forward(graph, params, x)
    f, stats = mg.predict(graph, params, x)
    np.testing.assert_array_equal(f, cache.v[graph.L])
    assert mg.forward(graph, params, x, keep=False).v.keys() == {graph.L}
    f_other, used = mg.predict(graph, params, other, stats)
    cache_other = mg.forward(graph, params, other, A=cache.A, b=cache.b)
    np.testing.assert_array_equal(f_other, cache_other.v[graph.L])
    one_by_one = np.concatenate([mg.predict(graph, params, row[None], stats)[0] for row in other])
    np.testing.assert_allclose(f_other, one_by_one, rtol=1e-12)
    assert used == stats


def test_an_output_of_zero_has_no_sign_and_hits_nothing():
    graph = mg.mlp(2, 1, 3, 1)
    params = {key: np.zeros(shape) for key, shape in graph.shapes().items()}
    x, y = np.ones((2, 2)), np.array([[1.0], [-1.0]])
    _, accuracy, _ = mg.evaluate(graph, params, x, y, "logistic")
    assert accuracy == 0


def test_an_overflow_of_one_unit_s_variance_makes_the_evaluation_nan(rng):
    """Its A is 0, so its output is beta and the loss would be finite."""
    graph = NETWORKS["mlp-bn"]
    params, x = setting(graph, rng, dtype="float32")
    params[2, 1][3] = 1e30
    value, accuracy, stats = mg.evaluate(graph, params, x, x[:, :3], "mean_squared_error")
    assert (stats.A[2] == 0).sum() == 1
    assert np.isnan([value, accuracy]).all()


def test_batches_cover_an_epoch_once_and_differ_between_epochs_and_seeds():
    rows = mg.batches(50, 8, seed=3, epoch=1)
    assert rows.shape == (6, 8)
    assert len(set(rows.ravel()) & set(range(50))) == 48
    assert (rows == mg.batches(50, 8, seed=3, epoch=1)).all()
    assert (rows != mg.batches(50, 8, seed=3, epoch=2)).any()
    assert (rows != mg.batches(50, 8, seed=4, epoch=1)).any()
    with pytest.raises(ValueError, match="batch size.*B=51"):
        mg.batches(50, 51, 0, 0)


@pytest.mark.parametrize("init, spread", [("uniform", (100 * 3) ** -0.5), ("he", (2 / 100) ** 0.5)])
def test_initialization_has_the_spread_that_the_fan_in_asks_for(init, spread, rng):
    """U(-1/sqrt(d_q), 1/sqrt(d_q)) has the deviation 1/sqrt(3 d_q); He's is sqrt(2/d_q)."""
    W = mg.init_params(mg.mlp(100, 1, 400, 2), rng, init=init)[2, 1]
    assert W.dtype == "float32"
    assert abs(W.std() / spread - 1) < 0.02
    if init == "uniform":
        assert 0.099 < abs(W).max() <= np.float32(0.1)


def test_the_sigmoid_overflows_nowhere():
    a = np.array([-1e4, 0, 1e4], "float32")
    np.testing.assert_array_equal(sigmoid(a), [0, 0.5, 1])
