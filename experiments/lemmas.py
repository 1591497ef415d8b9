"""Lemmas 1 and 2, measured on gradients that were computed without their factors.

TOLERANCE decides ranks in float64: rounding leaves singular values near 1e-15 of the largest, what is there stays above.
"""

import numpy

from minigrad.backend import swap
from minigrad.network import backward, factors, forward, per_sample

STEP = 1e-20  # of the complex step: nothing is subtracted, so any step will do whose square is lost in rounding
TOLERANCE = 1e-10
ROOM = 2**22  # numbers in the perturbed copies of W that exist at a time


def sketch(graph, params, x, edge, r, rng, A=None):
    """P (d f_c(x_b; X) / d W^{pq}) Q^T, (B, k, r, r), and its random P (r, d_p), Q (r, d_q) with orthonormal rows.

    Entry (i, j) is the slope of f along P_i Q_j^T, by a complex step through `forward`; with A held, A is detached. The
    rank of a matrix is, with probability one, that of its sketch, up to r (d_p or d_q if they are smaller).
    """
    W = params[edge]
    P, Q = (swap(numpy.linalg.qr(rng.normal(size=(d, min(r, d))))[0]).astype(W.dtype) for d in W.shape)
    directions = [(i, j) for i in range(len(P)) for j in range(len(Q))]
    chunk = max(1, ROOM // W.size)
    slopes = []
    for start in range(0, len(directions), chunk):
        i, j = numpy.transpose(directions[start : start + chunk])
        shifted = W + (STEP * 1j * P[i, :, None] * Q[j, None, :]).astype(numpy.result_type(W, numpy.complex64))
        slopes.append(forward(graph, params | {edge: shifted}, x, A=A).v[graph.L].imag / W.dtype.type(STEP))
    slopes = numpy.concatenate(slopes).reshape(len(P), len(Q), *slopes[0].shape[1:])
    return numpy.moveaxis(slopes, (0, 1), (-2, -1)), P, Q


def nonzero(size):
    """`size` to divide by: 1 in place of 0, so that a gradient that is zero counts as of rank 0 and exact."""
    return numpy.where(size == 0, 1, size)


def lemma_1(graph, params, x, rng):
    """Lemma 1, rank(d f_c(x_b) / d W^{pq}) <= 1, as sigma_2 / sigma_1 (E_T, B k), NaN for a zero gradient; and Eq. 13.

    Eq. 13 is the lemma's equality: the gradient is u_p(x) v_q(x)^T, with the factors of `backward`.
    """
    cache, k = forward(graph, params, x), graph.width(graph.L)
    seeds = numpy.eye(k, dtype=x.dtype)[:, None] * numpy.ones((len(x), 1), x.dtype)  # (k, B, k): seed c is f_c
    U, _ = backward(graph, params, cache, seeds)
    ratios, errors = [], []
    for p, q in graph.E_T:
        found, P, Q = sketch(graph, params, x, (p, q), 4, rng)
        s = numpy.linalg.svd(found, compute_uv=False).reshape(-1, min(found.shape[-2:]))
        ratios.append(numpy.where(s[:, 0] > 0, s[:, 1:].max(initial=0, axis=1) / nonzero(s[:, 0]), numpy.nan))
        outer = numpy.einsum("cbi,bj->bcij", U[p] @ swap(P), cache.v[q] @ swap(Q))
        errors.append(abs(found - outer).max() / nonzero(abs(found).max()))
    ratio, error = numpy.array(ratios), numpy.array(errors)
    return {
        "ratio": ratio, "largest": numpy.nanmax(ratio), "error": error.max(), "gradients": int(numpy.isfinite(ratio).sum()),
        "rank_holds": bool(numpy.nanmax(ratio) < TOLERANCE), "equality_holds": bool(error.max() < TOLERANCE),
    }


def lemma_2(graph, params, x, rng, detached=True):
    """Lemma 2, rank(sum_j beta_j d f(x_j; X) / d W^{pq}) <= B, and B - 1 into a normalized layer, edge by edge.

    Single samples and one random beta over samples and outputs; `rank` (E_T, 2) counts both, `beyond` (E_T,) is the
    largest sigma_{bound + 1} / sigma_1. Eq. 24 is the equality: with `detached`, the sum is that of `backward`'s factors.
    """
    cache, B = forward(graph, params, x), len(x)
    beta = rng.normal(size=(B, graph.width(graph.L)))
    U, _ = backward(graph, params, cache, beta)
    rank, beyond, sharper, error = [], [], [], []
    for p, q in graph.E_T:
        found, P, Q = sketch(graph, params, x, (p, q), B + 2, rng, cache.A if detached else None)
        batch = numpy.einsum("bc,bcij->ij", beta, found)
        single, summed = (numpy.linalg.svd(M, compute_uv=False) for M in (found.reshape(-1, *found.shape[-2:]), batch))
        rank.append([(s > TOLERANCE * s[..., :1]).sum(axis=-1).max() for s in (single, summed)])
        normalized = graph.layers[p - 1].batchnorm
        for bound, excess in ((B, beyond), (B - normalized, sharper)):
            excess.append(max((s[..., bound:].max(initial=0, axis=-1) / nonzero(s[..., 0])).max() for s in (single, summed)))
        outer = (U[p] @ swap(P)).T @ (cache.v[q] @ swap(Q))
        error.append(numpy.linalg.norm(batch - outer) / nonzero(numpy.linalg.norm(batch)))
    return {
        "B": B, "rank": numpy.array(rank), "normalized": numpy.array([graph.layers[p - 1].batchnorm for p, _ in graph.E_T]),
        "beyond": max(beyond), "sharper": max(sharper), "error": max(error),
        "rank_holds": bool(max(beyond) < TOLERANCE), "sharper_holds": bool(max(sharper) < TOLERANCE),
        "equality_holds": bool(max(error) < TOLERANCE),
    }
