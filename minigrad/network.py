"""f_W on a graph: Eq. 3 to 5 forward, the chain rule backward, and the outer products of Lemmas 1 and 2."""

from typing import NamedTuple

import numpy

from . import checks
from .backend import namespace, swap
from .layers import ACTIVATION, batch_statistics, batchnorm, batchnorm_backward, linear, linear_backward


class Cache(NamedTuple):
    """What one forward pass leaves behind, each a dict by layer: one cache serves many cotangents."""

    v: dict  # v[p], (..., B, d_p); v[L] is f_W(x)
    A: dict  # the diagonal of A_p, (..., 1, d_p), on layers with batch norm
    b: dict  # b_p, (..., 1, d_p), likewise
    normalized: dict  # A_p (z_p - b_p), (..., B, d_p), likewise
    A_is_constant: bool  # A was given, so it does not depend on W
    b_is_constant: bool  # likewise b


class Stats(NamedTuple):
    """A_l and b_l of Eq. 5 on a set of inputs, by layer: what a network takes from training to test time."""

    A: dict
    b: dict


class GradFactors(NamedTuple):
    """d loss / d W^{pq} = sum_j U_j V_j^T (Eq. 13): U is the cotangent at z_p, V is v_q."""

    U: object  # (..., B, d_p)
    V: object  # (..., B, d_q)

    def matrix(self):
        """The gradient sum_j U_j V_j^T, (..., d_p, d_q), of rank at most B."""
        return swap(self.U) @ self.V

    def terms(self):
        """Every U_j V_j^T, (..., B, d_p, d_q): without batch norm, sample j's part of it (Lemma 1)."""
        return self.U[..., :, None] * self.V[..., None, :]

    def norms(self):
        """||U_j V_j^T||_F = ||U_j|| ||V_j||, (..., B), in B (d_p + d_q) multiplications, without a matrix."""
        return (self.U * self.U).sum(axis=-1) ** 0.5 * (self.V * self.V).sum(axis=-1) ** 0.5

    def gram(self):
        """<U_i V_i^T, U_j V_j^T> = (U_i . U_j)(V_i . V_j), (..., B, B), in B^2 (d_p + d_q) of them."""
        return (self.U @ swap(self.U)) * (self.V @ swap(self.V))


def init_params(graph, rng, xp=numpy, dtype="float32", init="uniform"):
    """Fresh parameters: params[p, q] (d_p, d_q) for E_T, params["gamma", p] = 1 and params["beta", p] = 0.

    gamma and beta are (1, 1), or (1, d_p) where the layer's batch norm has scalar=False.
    init="uniform" draws U(-1/sqrt(d_q), 1/sqrt(d_q)), "he" N(0, 2/d_q); `rng` is NumPy's on every backend.
    ValueError for another init, or a dtype other than float32 and float64; TypeError for an rng that is none.
    """
    checks.generator(rng)
    checks.precision(dtype)
    if init not in ("uniform", "he"):
        raise ValueError(f"init must be 'uniform' or 'he', got {init!r}")
    params = {}
    for p, q in graph.E_T:
        d_p, d_q = graph.width(p), graph.width(q)
        if init == "uniform":
            W = rng.uniform(-(d_q**-0.5), d_q**-0.5, (d_p, d_q))
        else:
            W = rng.normal(0.0, (2 / d_q) ** 0.5, (d_p, d_q))
        params[p, q] = xp.asarray(W.astype(dtype))
    for p, layer in enumerate(graph.layers, start=1):
        if layer.batchnorm:
            shape = (1, 1 if layer.scalar else layer.width)
            params["gamma", p] = xp.ones(shape, dtype=dtype)
            params["beta", p] = xp.zeros(shape, dtype=dtype)
    return params


def forward(graph, params, x, A=None, b=None):
    """Eq. 3 to 5 on a batch x (..., B, n) with its own statistics; A and b, dicts by layer, replace them.

    Giving A (from an earlier cache) makes the detached pseudo-gradient of `backward` a true gradient.
    """
    cache = Cache({1: x}, {}, {}, {}, A_is_constant=A is not None, b_is_constant=b is not None)
    for p in range(2, graph.L + 1):
        _layer(graph, params, cache, p, A, b)
    return cache


def predict(graph, params, x, stats=None):
    """f (..., m, k) at test time, and the Stats used: those of x if None, else the given (Section 2.1).

    Pass the full training set first, and its Stats with any other input. No layer outlives its last reader.
    ValueError, or TypeError, for x or params that don't fit the graph.
    """
    checks.prediction(graph, params, x, stats)
    A, b = stats or (None, None)
    cache = Cache({1: x}, {}, {}, {}, A_is_constant=A is not None, b_is_constant=b is not None)
    last_reader = {q: p for p in range(2, graph.L + 1) for q in graph.pred[p]}
    for p in range(2, graph.L + 1):
        _layer(graph, params, cache, p, A, b)
        cache.normalized.clear()
        for q in graph.pred[p]:
            if last_reader[q] == p:
                del cache.v[q]
    return cache.v[graph.L], Stats(cache.A, cache.b)


def _layer(graph, params, cache, p, A, b):
    """Eq. 3 at layer p: z = sum over pred(p) of W^{pq} v_q (v_q of a constant edge), then n_p, then sigma."""
    z = None
    for q in graph.pred[p]:
        from_q = linear(params[p, q], cache.v[q]) if (p, q) in params else cache.v[q]
        z = from_q if z is None else z + from_q
    if graph.layers[p - 1].batchnorm:
        batch_A, batch_b = batch_statistics(z) if A is None or b is None else (None, None)
        cache.A[p] = batch_A if A is None else A[p]
        cache.b[p] = batch_b if b is None else b[p]
        z, cache.normalized[p] = batchnorm(z, params["gamma", p], params["beta", p], cache.A[p], cache.b[p])
    sigma, _ = ACTIVATION[graph.layers[p - 1].activation]
    cache.v[p] = sigma(z)


def backward(graph, params, cache, df):
    """The pseudo-gradient of Section 2.1, from df (..., B, k) down: U[p] (..., B, d_p) at z_p, p >= 2.

    It is the true gradient where no layer is detached. Also dscale, the gradients of gamma and beta, keyed
    and shaped as in params. Axes in front of cache.v's are seeds.
    """
    dv, U, dscale = {graph.L: df}, {}, {}
    for p in range(graph.L, 1, -1):
        if p not in dv:  # no path from p to L
            dv[p] = namespace(df).zeros((*df.shape[:-1], graph.width(p)), dtype=df.dtype)
        layer = graph.layers[p - 1]
        _, sigma_backward = ACTIVATION[layer.activation]
        da = sigma_backward(dv.pop(p), cache.v[p])
        if layer.batchnorm:
            A_is_constant = layer.detached or cache.A_is_constant
            U[p], dscale["gamma", p], dscale["beta", p] = batchnorm_backward(
                da, params["gamma", p], cache.A[p], cache.normalized[p], A_is_constant, cache.b_is_constant
            )
        else:
            U[p] = da
        for q in graph.pred[p]:
            if q > 1:
                from_p = linear_backward(U[p], params[p, q]) if (p, q) in params else U[p]
                # Not +=: a constant edge hands its cotangent on unchanged, so two layers can share one array.
                dv[q] = dv[q] + from_p if q in dv else from_p
    return U, dscale


def factors(graph, cache, U):
    """{(p, q): GradFactors(U[p], v[q])} for every trainable edge: the chain rule at W^{pq} (Eq. 13)."""
    return {(p, q): GradFactors(U[p], cache.v[q]) for p, q in graph.E_T}


def gradients(graph, cache, U, dscale):
    """The dense gradients, keyed and shaped as params (with the seeds' axes in front)."""
    return {edge: factor.matrix() for edge, factor in factors(graph, cache, U).items()} | dscale


def per_sample(df):
    """A seed per sample: (..., B, k) -> (B, ..., B, k); seed b is df on sample b, else zero (Lemma 2)."""
    xp = namespace(df)
    B = df.shape[-2]
    return xp.eye(B, dtype=df.dtype).reshape(B, *(1,) * (df.ndim - 2), B, 1) * df
