"""Gradients, Lemmas 1 and 2 and Theorem 1 against slow and obvious second implementations, in float64."""

import zlib

import numpy as np
import pytest

import minigrad as mg
from minigrad.layers import EPS, SLOPE, batch_statistics


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


KINDS = {  # detached, scalar: of the batch norm
    "memo": (True, True), "true": (False, True), "per-unit": (True, False), "standard": (False, False),
}


def skip_graph(batchnorm=False, detached=True, scalar=True):
    """Layers 2 and 3 share the cotangent of layer 4 by constant edges: `+=` into it corrupts both."""
    hidden = mg.Layer(6, "relu", batchnorm, detached, scalar)
    layers = (mg.Layer(5, "identity"), hidden, hidden, mg.Layer(6, "identity"), mg.Layer(3, "identity"))
    edges = (mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(4, 3, False), mg.Edge(4, 2, False), mg.Edge(4, 1), mg.Edge(5, 4), mg.Edge(5, 2))
    return mg.Graph(layers, edges)


def batchnormed(kind):
    """MLP, RES and a graph with skips, all with batch norm of one kind."""
    detached, scalar = KINDS[kind]
    return {
        "mlp-bn": mg.mlp(5, 3, 6, 3, True, detached, scalar),
        "res-bn": mg.resnet(5, 2, 6, 3, True, detached, scalar),
        "skip-bn": skip_graph(True, detached, scalar),
    }


def random_dag(rng, batchnorm=True, detached=None):
    """Layers of every kind; of their batch norms each is detached or not, unless `detached` says so."""
    L, width = int(rng.integers(3, 8)), 4
    kinds = ("relu", "leaky_relu", "sigmoid", "identity")
    layers = [mg.Layer(width, "identity")]
    for _ in range(L - 2):
        activation = str(rng.choice(kinds))
        bn, own, scalar = (bool(rng.random() < 0.5) for _ in range(3))
        layers.append(mg.Layer(width, activation, batchnorm and bn, own if detached is None else detached, scalar))
    layers.append(mg.Layer(3, "identity"))
    edges = []
    for p in range(2, L + 1):
        for q in rng.choice(np.arange(1, p), size=int(rng.integers(1, min(p, 4))), replace=False):
            edges.append(mg.Edge(p, int(q), trainable=bool(p == L or rng.random() < 0.7)))
    return mg.Graph(tuple(layers), tuple(edges))


NETWORKS = {
    "mlp": mg.mlp(5, 3, 6, 3), "mlp-bn": mg.mlp(5, 3, 6, 3, True), "res": mg.resnet(5, 2, 6, 3),
    "res-bn": mg.resnet(5, 2, 6, 3, True), "skip": skip_graph(), "skip-bn": skip_graph(True),
    "mlp-standard": mg.mlp(5, 3, 6, 3, True, False, False), "res-true": mg.resnet(5, 2, 6, 3, True, False),
}


def setting(graph, rng, B=7):
    params = mg.init_params(graph, rng, dtype="float64", init="he")
    for name in params:
        if name[0] in ("gamma", "beta"):
            params[name] += 0.3 * rng.normal(size=params[name].shape)
    return params, rng.normal(size=(B, graph.width(1)))


def slope(f, params, direction, h):
    shifted = [{k: params[k] + step * direction[k] for k in params} for step in (h, -h)]
    return (f(shifted[0]) - f(shifted[1])) / (2 * h)


def directional_error(f, params, grads, rng):
    """|slope - <grads, direction>| / (|grads| |direction|), the least over three steps."""
    direction = {k: rng.normal(size=W.shape) for k, W in params.items()}
    expected = sum((grads[k] * direction[k]).sum() for k in params)
    size = np.sqrt(sum((grads[k] ** 2).sum() for k in params) * sum((d**2).sum() for d in direction.values()))
    return min(abs(slope(f, params, direction, h) - expected) for h in (1e-4, 1e-5, 1e-6)) / size


def losses(rng, B, k):
    one_hot, signs, real = np.eye(k)[rng.integers(k, size=B)], rng.choice([-1.0, 1.0], size=(B, k)), rng.normal(size=(B, k))
    return [(mg.cross_entropy, one_hot), (mg.mean_squared_error, real), (mg.logistic, signs), (mg.exponential, signs)]


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_agree_with_differences_when_A_is_held(name, rng):
    """Of a layer that is not detached, only where A was given to the forward pass of the gradient too."""
    graph = NETWORKS[name]
    params, x = setting(graph, rng)
    cache = mg.forward(graph, params, x)
    if not all(layer.detached for layer in graph.layers):
        cache = mg.forward(graph, params, x, A=cache.A)
    for loss, y in losses(rng, 7, 3):
        _, df = loss(cache.v[graph.L], y)
        grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
        f = lambda other: loss(mg.forward(graph, other, x, A=cache.A).v[graph.L], y)[0]  # noqa: E731
        assert directional_error(f, params, grads, rng) < 1e-6
        mg.check_gradient(f, params, grads, rng)


@pytest.mark.parametrize("number", range(60))
def test_gradients_of_random_graphs_agree_with_differences(number, rng):
    detached = number % 2 == 0
    graph = random_dag(rng, detached=True if detached else None)
    params, x = setting(graph, rng)
    cache = mg.forward(graph, params, x)
    if not detached:
        cache = mg.forward(graph, params, x, A=cache.A)
    y = rng.normal(size=(7, 3))
    _, df = mg.mean_squared_error(cache.v[graph.L], y)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    f = lambda other: mg.mean_squared_error(mg.forward(graph, other, x, A=cache.A).v[graph.L], y)[0]  # noqa: E731
    assert directional_error(f, params, grads, rng) < 1e-6


def plain_error(graph, params, x, y, rng, b=None):
    """The error of backward's gradient against differences of the loss that let A vary with W, and b if not given.

    The largest along four directions: a single one can be orthogonal to what is missing.
    """

    def loss(cache):
        return mg.mean_squared_error(cache.v[graph.L], y)

    cache = mg.forward(graph, params, x, b=b)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, loss(cache)[1]))
    f = lambda other: loss(mg.forward(graph, other, x, b=b))[0]  # noqa: E731
    return max(directional_error(f, params, grads, rng) for _ in range(4))


@pytest.mark.parametrize("name", ["mlp-bn", "res-bn", "skip-bn"])
@pytest.mark.parametrize("kind", KINDS)
def test_plain_differences_agree_with_the_true_gradient_and_not_with_the_detached_one(kind, name, rng):
    graph = batchnormed(kind)[name]
    params, x = setting(graph, rng)
    error = plain_error(graph, params, x, rng.normal(size=(7, 3)), rng)
    detached, _ = KINDS[kind]
    assert error > 1e-3 if detached else error < 1e-6


@pytest.mark.parametrize("number", range(40))
def test_plain_differences_agree_with_the_true_gradient_of_random_graphs(number, rng):
    """Every activation, also where b was given: the variance is about the batch's mean, which b is not then."""
    graph = random_dag(rng, detached=False)
    params, x = setting(graph, rng)
    y = rng.normal(size=(7, 3))
    assert plain_error(graph, params, x, y, rng) < 1e-6
    b = {p: mean + 0.1 * rng.normal(size=mean.shape) for p, mean in mg.forward(graph, params, x).b.items()}
    assert plain_error(graph, params, x, y, rng, b) < 1e-6


@pytest.mark.parametrize("name", ["mlp-bn", "res-bn", "skip-bn"])
def test_into_a_normalized_layer_the_true_gradient_is_orthogonal_to_W_up_to_epsilon(name, rng):
    """By unit i, <dW_i, W_i> = EPS A_i^2 gamma_i dgamma_i: W scaled changes f through EPS alone."""
    for kind in ("standard", "per-unit"):
        graph = batchnormed(kind)[name]
        params, x = setting(graph, rng)
        cache = mg.forward(graph, params, x)
        U, dscale = mg.backward(graph, params, cache, rng.normal(size=(7, 3)))
        grads = mg.gradients(graph, cache, U, dscale)
        into = [(p, q) for p, q in graph.E_T if graph.layers[p - 1].batchnorm]
        assert len(into) >= 2
        for p, q in into:
            along = (grads[p, q] * params[p, q]).sum(axis=1)
            size = np.linalg.norm(grads[p, q]) * np.linalg.norm(params[p, q])
            through_eps = (EPS * cache.A[p] ** 2 * params["gamma", p] * dscale["gamma", p])[0]
            if kind == "standard":
                np.testing.assert_allclose(along, through_eps, rtol=0, atol=1e-13 * size)
            else:
                assert abs(along).max() > 1e-3 * size


def standard_by_loops(params, x, df, depth):
    """Gradients of an MLP with batch norm as Ioffe and Szegedy write them, sample by sample and unit by unit."""
    B, v, kept = len(x), x, {}
    for p in range(2, depth + 2):
        z = np.array([params[p, p - 1] @ row for row in v])
        out, mean, variance = np.empty_like(z), np.empty(z.shape[1]), np.empty(z.shape[1])
        for i in range(z.shape[1]):
            mean[i] = sum(z[j, i] for j in range(B)) / B
            variance[i] = sum((z[j, i] - mean[i]) ** 2 for j in range(B)) / B
            for j in range(B):
                hat = (z[j, i] - mean[i]) / (variance[i] + 1e-5) ** 0.5
                out[j, i] = max(params["gamma", p][0, i] * hat + params["beta", p][0, i], 0)
        kept[p] = v, z, mean, variance, out
        v = out
    top = depth + 2
    grads = {(top, top - 1): sum(np.outer(df[j], v[j]) for j in range(B))}
    dv = np.array([params[top, top - 1].T @ df[j] for j in range(B)])
    for p in range(depth + 1, 1, -1):
        below, z, mean, variance, out = kept[p]
        dz, dgamma, dbeta = np.zeros_like(z), np.zeros(z.shape[1]), np.zeros(z.shape[1])
        for i in range(z.shape[1]):
            root, gamma = (variance[i] + 1e-5) ** 0.5, params["gamma", p][0, i]
            da = [dv[j, i] * (out[j, i] > 0) for j in range(B)]
            dgamma[i] = sum(da[j] * (z[j, i] - mean[i]) / root for j in range(B))
            dbeta[i] = sum(da)
            dhat = [gamma * d for d in da]
            dvariance = sum(dhat[j] * (z[j, i] - mean[i]) for j in range(B)) * -0.5 * root**-3
            dmean = -sum(dhat) / root
            for j in range(B):
                dz[j, i] = dhat[j] / root + dvariance * 2 * (z[j, i] - mean[i]) / B + dmean / B
        grads |= {("gamma", p): dgamma[None], ("beta", p): dbeta[None]}
        grads[p, p - 1] = sum(np.outer(dz[j], below[j]) for j in range(B))
        dv = np.array([params[p, p - 1].T @ dz[j] for j in range(B)])
    return grads


@pytest.mark.parametrize("kind", ["standard", "true"])
def test_standard_batch_norm_is_that_of_a_loop_over_samples(kind, rng):
    """One scalar per layer collects the gradients of all its units."""
    graph = batchnormed(kind)["mlp-bn"]
    params, x = setting(graph, rng)
    df = rng.normal(size=(7, 3))
    cache = mg.forward(graph, params, x)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    by_unit = {k: np.broadcast_to(W, (1, 6)) if k not in graph.E_T else W for k, W in params.items()}
    expected = standard_by_loops(by_unit, x, df, depth=3)
    assert grads.keys() == expected.keys()
    for k, g in grads.items():
        oracle = expected[k].sum(keepdims=True) if k not in graph.E_T and kind == "true" else expected[k]
        np.testing.assert_allclose(g, oracle, rtol=0, atol=1e-12 * abs(oracle).max(), err_msg=str(k))


DERIVATIVE = {
    "relu": lambda a: (a > 0) * 1.0, "leaky_relu": lambda a: np.where(a > 0, 1.0, SLOPE),
    "sigmoid": lambda a: np.exp(-a) / (1 + np.exp(-a)) ** 2, "identity": np.ones_like,
}


def path_sum(graph, params, x, p, q):
    """d f_c(x) / d W^{pq} for every output c, by Eq. 11 to 13: the sum over all paths from p to L, for one sample x."""
    weight = {e: params[e] if e in params else np.eye(graph.width(e[0])) for e in ((e.p, e.q) for e in graph.edges)}
    v, D = {1: x}, {}
    for r in range(2, graph.L + 1):
        a = sum(weight[r, s] @ v[s] for s in graph.pred[r])
        kind = graph.layers[r - 1].activation
        D[r] = np.diag(DERIVATIVE[kind](a))
        v[r] = {"relu": lambda a: np.maximum(a, 0), "leaky_relu": lambda a: np.where(a > 0, a, SLOPE * a),
                "sigmoid": lambda a: 1 / (1 + np.exp(-a)), "identity": lambda a: a}[kind](a)

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


@pytest.mark.parametrize("number", range(20))
def test_the_sum_over_paths_equals_backward(number, rng):
    graph = random_dag(rng, batchnorm=False) if number > 2 else NETWORKS[("mlp", "res", "skip")[number]]
    params, x = setting(graph, rng, B=3)
    cache = mg.forward(graph, params, x)
    for c in range(3):
        df = np.zeros((3, 3))
        df[:, c] = 1
        U, dscale = mg.backward(graph, params, cache, df)
        grads = mg.gradients(graph, cache, U, dscale)
        for p, q in graph.E_T:
            oracle = sum(path_sum(graph, params, x[j], p, q)[c] for j in range(3))
            np.testing.assert_allclose(grads[p, q], oracle, rtol=0, atol=1e-12 * max(1, abs(oracle).max()))


def complex_step(graph, params, x, p, q, A=None):
    """d f_c(x_b) / d W^{pq}, (B, k, d_p, d_q), entry by entry: f(W + i h E).imag / h has no cancellation, so it is exact.

    It knows nothing of factors. b is the batch's mean, as in Eq. 5, and A comes from its variance, unless given.
    """
    gradient = np.empty((len(x), graph.width(graph.L), graph.width(p), graph.width(q)))
    for entry in np.ndindex(graph.width(p), graph.width(q)):
        W = params[p, q].astype(complex)
        W[entry] += 1e-30j
        v = {1: x.astype(complex)}
        for r in range(2, graph.L + 1):
            weights = {e: W if e == (p, q) else params.get(e, np.eye(graph.width(r))) for e in ((r, s) for s in graph.pred[r])}
            a = sum(v[s] @ weights[r, s].T for s in graph.pred[r])
            if graph.layers[r - 1].batchnorm:
                centred = a - a.mean(axis=0)
                own = A[r] if A else ((centred**2).mean(axis=0) + EPS) ** -0.5
                a = params["gamma", r] * own * centred + params["beta", r]
            kind = graph.layers[r - 1].activation
            v[r] = {"relu": lambda a: a * (a.real > 0), "leaky_relu": lambda a: np.where(a.real > 0, a, SLOPE * a),
                    "sigmoid": lambda a: 1 / (1 + np.exp(-a)), "identity": lambda a: a}[kind](a)
        gradient[:, :, entry[0], entry[1]] = v[graph.L].imag / 1e-30
    return gradient


def numerical_rank(M, tol=1e-12):
    s = np.linalg.svd(M, compute_uv=False)
    return (s > tol * s[..., :1]).sum(axis=-1)


@pytest.mark.parametrize("number", range(8))
def test_lemma_1_every_per_sample_gradient_has_rank_one(number, rng):
    graph = random_dag(rng, batchnorm=False) if number > 2 else NETWORKS[("mlp", "res", "skip")[number]]
    params, x = setting(graph, rng, B=4)
    measured = 0
    for p, q in graph.E_T:
        s = np.linalg.svd(complex_step(graph, params, x, p, q), compute_uv=False)
        assert (s[..., 1] <= 1e-12 * s[..., 0]).all()
        measured += (s[..., 0] > 0).sum()
    assert measured > 0


@pytest.mark.parametrize("name", ["mlp-bn", "res-bn", "skip-bn"])
@pytest.mark.parametrize("kind", KINDS)
def test_lemma_2_batch_norm_bounds_the_rank_by_the_batch(kind, name, rng):
    """Per sample at most B; the batch gradient at most B - 1 into a normalized layer, where both are reached."""
    graph, B, (detached, _) = batchnormed(kind)[name], 3, KINDS[kind]
    params, x = setting(graph, rng, B)
    cache = mg.forward(graph, params, x)
    df = rng.normal(size=(B, 3))
    U, dscale = mg.backward(graph, params, cache, df)
    grads = mg.gradients(graph, cache, U, dscale)
    seeded = mg.gradients(graph, cache, *mg.backward(graph, params, cache, mg.per_sample(df)))
    ranks = []
    for p, q in graph.E_T:
        oracle = complex_step(graph, params, x, p, q, cache.A if detached else None)  # (B, k, d_p, d_q)
        per_sample = np.einsum("bk,bkpq->bpq", df, oracle)
        batch = per_sample.sum(axis=0)
        scale = abs(oracle).max() + 1e-300
        np.testing.assert_allclose(seeded[p, q], per_sample, rtol=0, atol=1e-12 * scale)
        np.testing.assert_allclose(grads[p, q], batch, rtol=0, atol=1e-12 * scale)
        np.testing.assert_allclose(seeded[p, q].sum(axis=0), grads[p, q], rtol=0, atol=1e-12 * scale)
        normalized = graph.layers[p - 1].batchnorm
        assert (numerical_rank(per_sample) <= B).all()
        assert numerical_rank(batch) <= (B - 1 if normalized else B)
        if normalized:
            np.testing.assert_allclose(U[p].sum(axis=0), 0, rtol=0, atol=1e-12 * abs(U[p]).max())
        ranks.append((numerical_rank(per_sample).max(), int(numerical_rank(batch)), normalized))
    assert any(batch == B - 1 for _, batch, normalized in ranks if normalized)
    assert any(sample > 1 for sample, _, _ in ranks)  # a normalized layer mixes the samples: Lemma 1 does not hold


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_and_inner_products_come_from_the_factors_alone(name, rng):
    """Against the materialized (B, d_p, d_q) terms, also with seeds in front."""
    graph = NETWORKS[name]
    params, x = setting(graph, rng)
    cache = mg.forward(graph, params, x)
    for df in (rng.normal(size=(7, 3)), rng.normal(size=(2, 7, 3))):
        for factor in mg.factors(graph, cache, mg.backward(graph, params, cache, df)[0]).values():
            flat = factor.terms().reshape(*factor.U.shape[:-1], -1)
            size = (flat**2).sum(axis=-1).max()
            np.testing.assert_allclose(factor.gram(), flat @ flat.swapaxes(-1, -2), rtol=0, atol=1e-12 * size)
            np.testing.assert_allclose(factor.norms() ** 2, (flat**2).sum(axis=-1), rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("norm", ["spectral", "frobenius"])
def test_theorem_1_bounds_the_distance_to_rank_B_and_eq_18_is_an_equality(name, norm, rng):
    graph, B, lam = NETWORKS[name], 2, 0.01
    params, x = setting(graph, rng, B=40)
    y = np.eye(3)[rng.integers(3, size=40)]
    velocity = {k: np.zeros_like(W) for k, W in params.items()}
    matrix_norm = {"spectral": lambda M: np.linalg.norm(M, 2), "frobenius": np.linalg.norm}[norm]
    for trained in (False, True):
        if trained:
            rows = np.concatenate([mg.batches(40, 10, 0, epoch) for epoch in range(20)])
            mg.train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", 0.05, lam, 0.9)
        for batch in mg.batches(40, B, 1, 0)[:6]:
            cache = mg.forward(graph, params, x[batch])
            _, df = mg.cross_entropy(cache.v[graph.L], y[batch])
            grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
            for e in graph.E_T:
                regularized = grads[e] + 2 * lam * params[e]
                bound = mg.theorem1_bound(regularized, lam, norm)
                distance = mg.distance_to_rank(params[e], B, norm)
                u, s, vt = np.linalg.svd(params[e])
                s[B:] = 0
                nearest = u[:, : len(s)] * s @ vt[: len(s)]
                np.testing.assert_allclose(distance, matrix_norm(params[e] - nearest), rtol=1e-9)
                assert distance <= bound * (1 + 1e-12)
                U_S = -grads[e] / (2 * lam)
                assert numerical_rank(U_S) <= B
                np.testing.assert_allclose(matrix_norm(params[e] - U_S), bound, rtol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stacked_runs_equal_the_same_runs_alone_bit_for_bit(name, dtype, rng):
    """One of them diverges, and leaves the others as they are."""
    graph, etas, lams = NETWORKS[name], (0.05, 0.05, 0.1), (1e-3, 0.0, 1e-2)
    x, y = rng.normal(size=(30, 5)).astype(dtype), np.eye(3, dtype=dtype)[rng.integers(3, size=30)]
    alone, rows = [], [mg.batches(30, 6, seed, 0) for seed in range(3)]
    for seed in range(3):
        params = mg.init_params(graph, np.random.default_rng(seed), dtype=dtype)
        velocity = {k: np.zeros_like(W) for k, W in params.items()}
        mg.train_epoch(graph, params, velocity, x, y, rows[seed], "cross_entropy", etas[seed], lams[seed], 0.9)
        alone.append(params)
    fresh = [mg.init_params(graph, np.random.default_rng(seed), dtype=dtype) for seed in range(3)]
    fresh[1][graph.E_T[0]][0, 0] = np.inf
    stack = {k: np.stack([params[k] for params in fresh]) for k in fresh[0]}
    velocity = {k: np.zeros_like(W) for k, W in stack.items()}
    eta, lam = (np.array(values, dtype).reshape(3, 1, 1) for values in (etas, lams))
    mg.train_epoch(graph, stack, velocity, x, y, np.stack(rows, axis=1), "cross_entropy", eta, lam, 0.9)
    for k in stack:
        assert stack[k].dtype == dtype
        for seed in (0, 2):
            assert np.isfinite(stack[k][seed]).all()
            assert stack[k][seed].tobytes() == alone[seed][k].tobytes(), k
    assert not all(np.isfinite(stack[e][1]).all() for e in graph.E_T)
    for e in graph.E_T:
        ranks = mg.rank(stack[e])
        for seed in (0, 2):
            assert ranks[seed] == mg.rank(alone[seed][e])
            assert mg.singular_values(stack[e])[seed].tobytes() == mg.singular_values(alone[seed][e]).tobytes()


def test_the_step_is_eq_2_with_momentum_and_decays_the_matrices_only(rng):
    """velocity <- momentum velocity + g, W <- W - eta velocity, g = gradient + 2 lambda W, written out by hand."""
    graph, eta, lam, momentum = NETWORKS["mlp-bn"], 0.1, 0.03, 0.9
    params, x = setting(graph, rng)
    expected = {k: W.copy() for k, W in params.items()}
    velocity, by_hand = ({k: np.zeros_like(W) for k, W in params.items()} for _ in range(2))
    for _ in range(3):
        cache = mg.forward(graph, params, x)
        _, df = mg.mean_squared_error(cache.v[graph.L], np.ones((7, 3)))
        grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
        for k in params:
            g = grads[k] + (2 * lam * expected[k] if k in graph.E_T else 0)
            by_hand[k] = momentum * by_hand[k] + g
            expected[k] = expected[k] - eta * by_hand[k]
        found = mg.train_step(graph, params, velocity, x, np.ones((7, 3)), "mean_squared_error", eta, lam, momentum)
        assert list(found) == list(graph.E_T)
        for edge in graph.E_T:  # those before the step
            np.testing.assert_allclose(found[edge].matrix(), grads[edge], rtol=1e-12, atol=1e-15)
    for k in params:
        np.testing.assert_allclose(params[k], expected[k], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(velocity[k], by_hand[k], rtol=1e-12, atol=1e-15)


def test_the_learning_rate_drops_when_an_epoch_reaches_a_milestone():
    etas = [mg.step_decay(0.1, epoch) for epoch in (0, 59, 60, 99, 100, 199, 200, 499)]
    np.testing.assert_allclose(etas, [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4], rtol=1e-12)
    assert mg.step_decay(0.1, 7, milestones=(), factor=0.2) == 0.1


@pytest.mark.parametrize("name", NETWORKS)
def test_test_time_uses_the_statistics_that_it_is_given(name, rng):
    """On the training set predict is forward; on other data its A and b are those of the training set."""
    graph = NETWORKS[name]
    params, x = setting(graph, rng)
    cache, other = mg.forward(graph, params, x), rng.normal(size=(4, 5))
    f, stats = mg.predict(graph, params, x)
    np.testing.assert_array_equal(f, cache.v[graph.L])
    f_other, used = mg.predict(graph, params, other, stats)
    np.testing.assert_array_equal(f_other, mg.forward(graph, params, other, A=cache.A, b=cache.b).v[graph.L])
    one_by_one = np.concatenate([mg.predict(graph, params, row[None], stats)[0] for row in other])
    np.testing.assert_allclose(f_other, one_by_one, rtol=1e-12)
    assert used == stats


def test_batches_cover_an_epoch_once_and_differ_between_epochs_and_seeds():
    rows = mg.batches(50, 8, seed=3, epoch=1)
    assert rows.shape == (6, 8) and len(np.unique(rows)) == 48 and rows.min() >= 0 and rows.max() < 50
    assert (rows == mg.batches(50, 8, seed=3, epoch=1)).all()
    assert (rows != mg.batches(50, 8, seed=3, epoch=2)).any() and (rows != mg.batches(50, 8, seed=4, epoch=1)).any()
    with pytest.raises(ValueError, match="batch size.*B=51"):
        mg.batches(50, 51, 0, 0)


@pytest.mark.parametrize("init, spread", [("uniform", (100 * 3) ** -0.5), ("he", (2 / 100) ** 0.5)])
def test_initialization_has_the_spread_that_the_fan_in_asks_for(init, spread, rng):
    """U(-1/sqrt(d_q), 1/sqrt(d_q)) has the deviation 1/sqrt(3 d_q); He's is sqrt(2/d_q)."""
    params = mg.init_params(mg.mlp(100, 1, 400, 2), rng, init=init)
    assert params[2, 1].dtype == "float32" and abs(params[2, 1].std() / spread - 1) < 0.02
    if init == "uniform":
        assert 0.99 * 100**-0.5 < abs(params[2, 1]).max() <= np.float32(100**-0.5)


def test_the_rank_counts_relative_singular_values_and_never_hides_what_is_not_finite(rng):
    u, v = (np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(2))
    W = u * [1, 1, 1e-3, 1e-3, 1e-5, 0] @ v
    for scale in (1, 1e-30, 1e30):
        for dtype in ("float32", "float64"):
            M = (scale * W).astype(dtype)
            assert mg.rank(M) == 4 and mg.rank(M, tol=2e-3) == 2 and mg.rank(M, norm="spectral") == 4
    assert mg.rank(W, tol=0.8) == 0 and mg.rank(W, tol=0.8, norm="spectral") == 2  # ||W||_F is sqrt(2) times ||W||_2
    assert mg.rank(1e-3 * W, tol=1e-4, norm=None) == 2
    assert mg.rank(np.zeros((3, 4))) == 0 and np.isnan(mg.rank(np.full((3, 4), np.nan)))
    stack = np.stack([W, np.full((6, 6), np.inf), np.zeros((6, 6))])
    np.testing.assert_array_equal(mg.rank(stack), [4, np.nan, 0])
    with pytest.raises(ValueError, match="norm must be"):
        mg.rank(W, norm="nuclear")


def test_distance_stable_rank_and_effective_rank_of_known_matrices():
    before = {(2, 1): np.zeros((2, 2)), (3, 2): np.ones((1, 4))}
    after = {(2, 1): np.diag([3.0, 4.0]), (3, 2): np.ones((1, 4)) * 2}
    assert mg.distance(after, before, [(2, 1), (3, 2)]) == (5 + 2) / 2
    assert mg.stable_rank(np.diag([2.0, 1.0, 1.0])) == 1.5
    np.testing.assert_allclose(mg.effective_rank(np.diag([5.0, 5.0, 5.0, 0.0])), 3, rtol=1e-12)
    assert mg.stable_rank(np.zeros((2, 2))) == 0 and mg.effective_rank(np.zeros((2, 2))) == 0
    assert np.isnan(mg.effective_rank(np.full((2, 2), np.nan)))
    assert mg.theorem1_bound(np.eye(2), 0.0) == np.inf


def test_a_unit_that_does_not_vary_is_divided_by_the_root_of_epsilon_alone():
    """The README's 1e-5, added to the variance."""
    A, b = batch_statistics(np.array([[3.0, 1.0], [3.0, -1.0]]))
    np.testing.assert_allclose(A, [[1e-5**-0.5, (1 + 1e-5) ** -0.5]], rtol=1e-12)
    np.testing.assert_array_equal(b, [[3.0, 0.0]])
