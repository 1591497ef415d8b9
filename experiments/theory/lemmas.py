"""Lemmas 1 and 2, measured on gradients that were computed without their factors."""

import numpy

from minigrad.backend import swap
from minigrad.graph import parse
from minigrad.network import backward, forward, gradients, init_params

from ..captions import LABELS
from ..verdicts import Statement
from .sizes import STEP, TOLERANCE, data

ROOM = 2**22  # numbers in the perturbed copies of W that exist at a time

LEMMA_1 = Statement(
    "Lemma 1",
    "∂f(x)/∂W has rank at most 1, for every x and every trainable W",
    "σ₂/σ₁ ≤ {largest:.1e} in {gradients} gradients (in float32 {in_float32:.1e}; "
    "with batch norm, which the lemma excludes, up to {with_batch_norm:.2f})",
)
EQ_13 = Statement(
    "Eq. 13",
    "∂f(x)/∂W = u(x) v(x)ᵀ, with u and v as backpropagation has them",
    "relative error {error:.1e} (in float32 {in_float32:.1e})",
)
LEMMA_2 = Statement(
    "Lemma 2",
    "Σ βⱼ ∂f(xⱼ)/∂W over a batch has rank at most B, A detached",
    "σ₍B+1₎/σ₁ ≤ {beyond:.1e} (in float32 {in_float32:.1e}); rank {rank} at B = {B}",
)
SHARPER = Statement(
    "sharper than Lemma 2",
    "into a normalized layer, the rank is at most B − 1",
    "σ₍B₎/σ₁ ≤ {beyond:.1e}; rank {rank} at B = {B}",
)
EQ_24 = Statement(
    "Eq. 23 and 24",
    "the sum is that of backpropagation's B outer products, A detached",
    "relative error {error:.1e}",
)
LEMMA_2_TRUE = Statement(
    "Lemma 2 without its assumption",
    "with A not detached, the ranks are still at most B and B − 1: "
    "the sum is Σ Uⱼ vⱼᵀ with another U, and Σ Uⱼ = 0 into a normalized layer",
    "σ₍B+1₎/σ₁ ≤ {beyond:.1e}, normalized σ₍B₎/σ₁ ≤ {sharper:.1e}; "
    "with U from backpropagation that does not detach A, relative error {error:.1e}",
)
EQ_24_TRUE = Statement(
    "Eq. 23 and 24 without their assumption",
    "with A not detached, the sum is still Eq. 24's",
    "in the W where it differs most, the true gradient does by {errors} times its size; a single sample's, "
    "into the last normalized layer, has rank {rank}, detached {detached_rank} (B = {B})",
)


def sketch(graph, params, x, edge, r, rng, A=None):
    """P (d f_c(x_b; X) / d W^{pq}) Q^T, (B, k, r, r), and its random P (r, d_p), Q (r, d_q).

    Their rows are orthonormal. Entry (i, j) is the slope of f along P_i Q_j^T, by a complex step through
    `forward`; with A held, A is detached. The rank of a matrix is, with probability one, that of its sketch,
    up to r (d_p or d_q if they are smaller).
    """
    W = params[edge]
    P, Q = (_orthonormal_rows(r, d, rng).astype(W.dtype) for d in W.shape)
    directions = [(i, j) for i in range(len(P)) for j in range(len(Q))]
    chunk = max(1, ROOM // W.size)
    slopes = []
    for start in range(0, len(directions), chunk):
        i, j = numpy.transpose(directions[start : start + chunk])
        along = STEP * 1j * P[i, :, None] * Q[j, None, :]
        shifted = W + along.astype(numpy.result_type(W, numpy.complex64))
        f = forward(graph, params | {edge: shifted}, x, A=A).v[graph.L]
        slopes.append(f.imag / W.dtype.type(STEP))
    slopes = numpy.concatenate(slopes).reshape(len(P), len(Q), *slopes[0].shape[1:])
    return numpy.moveaxis(slopes, (0, 1), (-2, -1)), P, Q


def _orthonormal_rows(r, d, rng):
    """(r, d), or (d, d) if d is smaller."""
    return swap(numpy.linalg.qr(rng.normal(size=(d, min(r, d))))[0])


def nonzero(size):
    """`size` to divide by: 1 in place of 0, so that a gradient that is zero counts as of rank 0 and exact."""
    return numpy.where(size == 0, 1, size)


def beyond_rank(s, r):
    """sigma_{r+1} / sigma_1, the largest of the spectra s (..., d)."""
    following = s[..., r:].max(initial=0, axis=-1)
    return (following / nonzero(s[..., 0])).max()


def lemma_1(graph, params, x, rng):
    """Lemma 1, rank(d f_c(x_b) / d W^{pq}) <= 1, and Eq. 13, its equality, with `backward`'s u_p and v_q.

    `ratio` is sigma_2 / sigma_1 (E_T, B k), NaN for a zero gradient.
    """
    cache, k = forward(graph, params, x), graph.width(graph.L)
    every_sample = numpy.ones((len(x), 1), x.dtype)
    seeds = numpy.eye(k, dtype=x.dtype)[:, None] * every_sample  # (k, B, k): seed c is f_c
    U, _ = backward(graph, params, cache, seeds)
    ratios, errors = [], []
    for p, q in graph.E_T:
        found, P, Q = sketch(graph, params, x, (p, q), 4, rng)
        s = numpy.linalg.svd(found, compute_uv=False).reshape(-1, min(found.shape[-2:]))
        second = s[:, 1:].max(initial=0, axis=1)
        ratios.append(numpy.where(s[:, 0] > 0, second / nonzero(s[:, 0]), numpy.nan))
        outer = numpy.einsum("cbi,bj->bcij", U[p] @ swap(P), cache.v[q] @ swap(Q))
        errors.append(abs(found - outer).max() / nonzero(abs(found).max()))
    ratio, error = numpy.array(ratios), max(errors)
    largest, gradients = numpy.nanmax(ratio), int(numpy.isfinite(ratio).sum())
    return {
        "ratio": ratio,
        "rank": {"largest": largest, "gradients": gradients, "holds": bool(largest < TOLERANCE)},
        "equality": {"error": error, "holds": bool(error < TOLERANCE)},
    }


def lemma_2(graph, params, x, rng, beta=None):
    """Lemma 2, rank(sum_j beta_j d f(x_j; X) / d W^{pq}) <= B, and B - 1 into a normalized layer.

    For each sample alone and one beta (B, k) over samples and outputs, random if None: `rank` (E_T, 2) counts
    both, `beyond` is the largest sigma_{B+1} / sigma_1, `sharper` that beyond the sharper bound. Eq. 24 is
    the equality: the sum is that of `backward`'s factors. A is detached in both, or in neither, as the graph
    says.
    """
    cache, B = forward(graph, params, x), len(x)
    if beta is None:
        beta = rng.normal(size=(B, graph.width(graph.L)))
    U, _ = backward(graph, params, cache, beta)
    A = cache.A if all(layer.detached for layer in graph.layers) else None
    normalized = numpy.array([graph.layers[p - 1].batchnorm for p, _ in graph.E_T])
    ranks, beyond, sharper, errors = [], [], [], []
    for (p, q), into_normalized in zip(graph.E_T, normalized):
        found, P, Q = sketch(graph, params, x, (p, q), B + 2, rng, A)
        batch = numpy.einsum("bc,bcij->ij", beta, found)
        of_samples = numpy.linalg.svd(found.reshape(-1, *found.shape[-2:]), compute_uv=False)
        of_batch = numpy.linalg.svd(batch, compute_uv=False)
        spectra = (of_samples, of_batch)
        ranks.append([(s > TOLERANCE * s[..., :1]).sum(axis=-1).max() for s in spectra])
        beyond += [beyond_rank(s, B) for s in spectra]
        sharper += [beyond_rank(s, B - 1 if into_normalized else B) for s in spectra]
        outer = (U[p] @ swap(P)).T @ (cache.v[q] @ swap(Q))
        errors.append(numpy.linalg.norm(batch - outer) / nonzero(numpy.linalg.norm(batch)))
    return {
        "B": B,
        "rank": numpy.array(ranks),
        "normalized": normalized,
        "beyond": max(beyond),
        "sharper": max(sharper),
        "error": max(errors),
        "rank_holds": bool(max(beyond) < TOLERANCE),
        "sharper_holds": bool(max(sharper) < TOLERANCE),
        "equality_holds": bool(max(errors) < TOLERANCE),
    }


def over_batches(results):
    """Of lemma_2 on several batches, what each of its statements needs: the worst, and the last's rank."""
    last = results[-1]
    B, into = last["B"], last["normalized"]
    ranks_hold = all(found["rank_holds"] for found in results)
    sharper_hold = all(found["sharper_holds"] for found in results)
    beyond = max(found["beyond"] for found in results)
    sharper = max(found["sharper"] for found in results)
    equality_holds = all(found["equality_holds"] for found in results)
    errors = [found["error"] for found in results]
    return {
        "rank": {"beyond": beyond, "rank": last["rank"].max(), "B": B, "holds": ranks_hold},
        "sharper": {"beyond": sharper, "rank": last["rank"][into].max(), "B": B, "holds": sharper_hold},
        "equality": {"error": max(errors), "holds": equality_holds},
        "all": {
            "beyond": beyond,
            "sharper": sharper,
            "error": max(errors),
            "holds": ranks_hold and sharper_hold and equality_holds,
        },
    }


def without_detaching(graph, true_graph, params, x, batches):
    """Eq. 24 for the true gradient, on the first B samples for every B of `batches`, one random beta each.

    `errors`: how far the sum of `graph`, which detaches A, is from that of `true_graph`, over its size, in
    the W where it is most.
    """
    errors = []
    for B in batches:
        beta = numpy.random.default_rng(B).normal(size=(B, graph.width(graph.L)))
        detached, true = (_weighted_sums(reading, params, x[:B], beta) for reading in (graph, true_graph))
        by_edge = []
        for e in graph.E_T:
            by_edge.append(numpy.linalg.norm(true[e] - detached[e]) / nonzero(numpy.linalg.norm(true[e])))
        errors.append(max(by_edge))
    return {"errors": errors, "holds": bool(max(errors) < TOLERANCE)}


def _weighted_sums(graph, params, x, beta):
    cache = forward(graph, params, x)
    return gradients(graph, cache, *backward(graph, params, cache, beta))


def measure_lemma_1(size, folder):
    """Lemma 1 and Eq. 13 on the paper's networks without batch norm."""
    x, _ = data(size.cifar10, folder, 10)
    x = x[:4]
    verdicts, largest = [], {}
    for family in ("MLP", "RES"):
        name = f"{family}-5-{size.wide}"
        exact = _lemma_1_at_initialization(name, x, "float64")
        rounded = _lemma_1_at_initialization(name, x, "float32")
        normalized = _lemma_1_at_initialization(f"{family}-BN-5-{size.wide}", x, "float64")
        setting = f"{name} at initialization, {LABELS[size.cifar10]}, {len(x)} samples, 10 outputs"
        others = {
            "in_float32": rounded["rank"]["largest"],
            "with_batch_norm": normalized["rank"]["largest"],
        }
        verdicts.append(LEMMA_1.judged(exact["rank"] | others, setting))
        others = {"in_float32": rounded["equality"]["error"]}
        verdicts.append(EQ_13.judged(exact["equality"] | others, setting))
        found = {"float64": exact, "float32": rounded, "normalized": normalized}
        largest[name] = {case: numpy.nanmax(result["ratio"], axis=1) for case, result in found.items()}
    return verdicts, {"samples": len(x), "outputs": 10, "largest": largest}


def _lemma_1_at_initialization(name, x, dtype):
    graph = parse(name, x.shape[1], 10)
    params = init_params(graph, numpy.random.default_rng(0), dtype=dtype)
    return lemma_1(graph, params, x.astype(dtype), numpy.random.default_rng(1))


def measure_lemma_2(size, folder):
    """Lemma 2, its sharper form and Eq. 24, with A detached and not."""
    x, _ = data(size.cifar10, folder, size.images)
    verdicts, ranks = [], {}
    for name in (f"MLP-BN-5-{size.width}", f"RES-BN-2-{size.width}"):
        graph = parse(name, x.shape[1], 10)
        true_graph = parse(name, x.shape[1], 10, detached=False)
        params = init_params(graph, numpy.random.default_rng(0), dtype="float64")
        pseudo, true = [], []
        for B in size.batches:
            pseudo.append(lemma_2(graph, params, x[:B], numpy.random.default_rng(B)))
            true.append(lemma_2(true_graph, params, x[:B], numpy.random.default_rng(B)))
        in_float32 = {key: W.astype("float32") for key, W in params.items()}
        batch = x[: size.batches[-1]].astype("float32")
        rounded = lemma_2(graph, in_float32, batch, numpy.random.default_rng(1))

        setting = f"{name} at initialization, {LABELS[size.cifar10]}, B = {', '.join(map(str, size.batches))}"
        found, into = over_batches(pseudo), pseudo[0]["normalized"]
        apart = without_detaching(graph, true_graph, params, x, size.batches)
        single_samples = {
            "errors": ", ".join(f"{error:.2g}" for error in apart["errors"]),
            "rank": true[-1]["rank"][into][-1, 0],
            "detached_rank": pseudo[-1]["rank"][into][-1, 0],
            "B": size.batches[-1],
        }
        verdicts += [
            LEMMA_2.judged(found["rank"] | {"in_float32": rounded["beyond"]}, setting),
            SHARPER.judged(found["sharper"], setting),
            EQ_24.judged(found["equality"], setting),
            LEMMA_2_TRUE.judged(over_batches(true)["all"], setting),
            EQ_24_TRUE.judged(apart | single_samples, setting),
        ]
        ranks[name] = {
            "normalized": numpy.array([result["rank"][into, 1].max() for result in pseudo]),
            "true": numpy.array([result["rank"][into, 1].max() for result in true]),
            "others": numpy.array([result["rank"][~into, 1].max() for result in pseudo]),
        }
    return verdicts, {"ranks": ranks}
