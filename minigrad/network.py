"""f_W on a graph: Eq. 3 to 5 forward, the chain rule backward, the factors of Lemmas 1 and 2."""

from typing import NamedTuple

import numpy

from . import checks
from .backend import namespace, swap
from .layers import ACTIVATION, batch_statistics, batchnorm, batchnorm_backward
from .layers import linear, linear_backward


class Cache(NamedTuple):
    """The values of one forward pass, dicts by layer. One cache serves many cotangents."""

    v: dict  # v[p], (..., B, d_p); v[L] is f_W(x)
    A: dict  # the diagonal of A_p, (..., 1, d_p), where layer p has batch norm
    b: dict  # b_p, (..., 1, d_p), likewise
    normalized: dict  # A_p (z_p - b_p), (..., B, d_p), likewise
    A_is_constant: bool  # A was given to `forward`, so it doesn't depend on W
    b_is_constant: bool  # likewise b


class Stats(NamedTuple):
    """A_l and b_l of Eq. 5 over a set of inputs, each {layer: (..., 1, d_l)}."""

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
        """Every U_j V_j^T, (..., B, d_p, d_q); with batch norm not sample j's: see per_sample."""
        return self.U[..., :, None] * self.V[..., None, :]

    def norms(self):
        """||U_j V_j^T||_F = ||U_j|| ||V_j||, (..., B), without a matrix."""
        return (self.U * self.U).sum(axis=-1) ** 0.5 * (self.V * self.V).sum(axis=-1) ** 0.5


def init_params(graph, rng, xp=numpy, dtype="float32", init="uniform"):
    """Fresh params, keyed and shaped as Graph.shapes(): random W, gamma = 1, beta = 0.

    init="uniform" draws W from U(-1/sqrt(d_q), 1/sqrt(d_q)), "he" from N(0, 2/d_q). `rng` is
    NumPy's on every backend. ValueError for another init, or a dtype other than float32, float64.
    """
    checks.require(init in ("uniform", "he"), "init must be 'uniform' or 'he'", repr(init))
    known = numpy.dtype(dtype) in ("float32", "float64")
    checks.require(known, "dtype must be float32 or float64", repr(dtype))
    params = {}
    for key, shape in graph.shapes().items():
        d_q = shape[1]
        if key[0] == "gamma":
            value = numpy.ones(shape)
        elif key[0] == "beta":
            value = numpy.zeros(shape)
        elif init == "uniform":
            value = rng.uniform(-(d_q**-0.5), d_q**-0.5, shape)
        else:
            value = rng.normal(0.0, (2 / d_q) ** 0.5, shape)
        params[key] = xp.asarray(value.astype(dtype))
    return params


def forward(graph, params, x, A=None, b=None, keep=True):
    """The Cache of a batch x (..., B, n). A and b, by layer, replace the statistics of the batch.

    With A given, that of an earlier cache, the pseudo-gradient of `backward` is a true gradient.
    keep=False frees what no later layer reads, since x may be the full training set.
    """
    cache = Cache({1: x}, {}, {}, {}, A_is_constant=A is not None, b_is_constant=b is not None)
    for p, layer in enumerate(graph.layers[1:], start=2):
        z = None
        for q in graph.pred[p]:
            from_q = linear(params[p, q], cache.v[q]) if (p, q) in params else cache.v[q]
            z = from_q if z is None else z + from_q
        if layer.batchnorm:
            batch_A, batch_b = batch_statistics(z) if A is None or b is None else (None, None)
            cache.A[p] = batch_A if A is None else A[p]
            cache.b[p] = batch_b if b is None else b[p]
            gamma, beta = params["gamma", p], params["beta", p]
            z, cache.normalized[p] = batchnorm(z, gamma, beta, cache.A[p], cache.b[p])
        sigma, _ = ACTIVATION[layer.activation]
        cache.v[p] = sigma(z)
        if not keep:
            cache.normalized.clear()
            for q in cache.v.keys() - {p} - {e.q for e in graph.edges if e.p > p}:
                del cache.v[q]
    return cache


def predict(graph, params, x, stats=None):
    """f (..., m, k) at test time, and its Stats: those of x, or the given ones (Section 2.1).

    Pass the full training set first, then its Stats with any other input. ValueError or TypeError
    where x, params or stats don't fit the graph.
    """
    checks.prediction(graph, params, x, stats)
    cache = forward(graph, params, x, *(stats or ()), keep=False)
    return cache.v[graph.L], Stats(cache.A, cache.b)


def backward(graph, params, cache, df):
    """U[p] (..., B, d_p), the cotangent at z_p for every p >= 2, from df (..., B, k) at f.

    The pseudo-gradient of Section 2.1; the true gradient where no layer is detached. Also dscale,
    the gradients of gamma and beta, keyed as params. df may have axes in front of those of v.
    """
    dv, U, dscale = {graph.L: df}, {}, {}
    for p in range(graph.L, 1, -1):
        if p not in dv:  # no path from p to L
            dv[p] = namespace(df).zeros((*df.shape[:-1], graph.width(p)), dtype=df.dtype)
        layer = graph.layers[p - 1]
        _, sigma_backward = ACTIVATION[layer.activation]
        U[p] = da = sigma_backward(dv.pop(p), cache.v[p])
        if layer.batchnorm:
            values = params["gamma", p], cache.A[p], cache.normalized[p]
            held = layer.detached or cache.A_is_constant, cache.b_is_constant
            U[p], dscale["gamma", p], dscale["beta", p] = batchnorm_backward(da, *values, *held)
        for q in graph.pred[p]:
            if q > 1:
                from_p = linear_backward(U[p], params[p, q]) if (p, q) in params else U[p]
                # Not +=: over a constant edge, two layers share one array.
                dv[q] = dv[q] + from_p if q in dv else from_p
    return U, dscale


def factors(graph, cache, U):
    """{(p, q): GradFactors(U[p], v[q])} for every trainable edge (Eq. 13)."""
    return {(p, q): GradFactors(U[p], cache.v[q]) for p, q in graph.E_T}


def gradients(graph, cache, U, dscale):
    """The dense gradients, without decay, keyed as params; axes of cotangents stay in front."""
    return {edge: factor.matrix() for edge, factor in factors(graph, cache, U).items()} | dscale


def per_sample(df):
    """Cotangents (B, ..., B, k): number j is df (..., B, k) on sample j, else zero (Lemma 2)."""
    xp = namespace(df)
    B = df.shape[-2]
    return xp.eye(B, dtype=df.dtype).reshape(B, *(1,) * (df.ndim - 2), B, 1) * df
