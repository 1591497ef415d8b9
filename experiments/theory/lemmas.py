"""Lemmas 1 and 2, measured on gradients that were computed without their factors."""

import numpy

from minigrad.backend import swap
from minigrad.graph import parse
from minigrad.network import backward, forward, init_params

from .. import plots
from ..captions import LABELS
from ..verdicts import Check
from .pictures import BATCH, MATRIX, Picture, line
from .sizes import TOLERANCE, data

STEP = 1e-20  # of the complex step: nothing is subtracted, so any step will do whose square is lost in rounding
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


def lemma_2(graph, params, x, rng, detached=True, beta=None):
    """Lemma 2, rank(sum_j beta_j d f(x_j; X) / d W^{pq}) <= B, and B - 1 into a normalized layer, edge by edge.

    Single samples and one beta (B, k) over samples and outputs, random if None; `rank` (E_T, 2) counts both, `beyond` (E_T,) is the
    largest sigma_{bound + 1} / sigma_1. Eq. 24 is the equality: with `detached`, the sum is that of `backward`'s factors.
    """
    cache, B = forward(graph, params, x), len(x)
    beta = rng.normal(size=(B, graph.width(graph.L))) if beta is None else beta
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


def report_lemma_1(size, folder):
    """Lemma 1 and Eq. 13 on the paper's networks without batch norm."""
    x, _ = data(size.cifar10, folder, 10)
    checks, columns = [], []
    for family in ("MLP", "RES"):
        found = {}
        for name, dtype in ((f"{family}-5-{size.wide}", "float64"), (f"{family}-5-{size.wide}", "float32"), (f"{family}-BN-5-{size.wide}", "float64")):
            graph = parse(name, x.shape[1], 10)
            params = init_params(graph, numpy.random.default_rng(0), dtype=dtype)
            found[dtype if "BN" not in name else "BN"] = lemma_1(graph, params, x[:4].astype(dtype), numpy.random.default_rng(1))
        exact, single, normalized = (found[key] for key in ("float64", "float32", "BN"))
        setting = f"{family}-5-{size.wide} at initialization, {LABELS[size.cifar10]}, 4 samples, 10 outputs"
        checks.append(Check(
            "∂f(x)/∂W has rank at most 1, for every x and every trainable W", "Lemma 1",
            f"σ₂/σ₁ ≤ {exact['largest']:.1e} in {exact['gradients']} gradients (in float32 {single['largest']:.1e}; with batch norm, which the lemma excludes, up to {normalized['largest']:.2f})",
            setting, exact["rank_holds"]))
        checks.append(Check(
            "∂f(x)/∂W = u(x) v(x)ᵀ, with u and v as backpropagation has them", "Eq. 13",
            f"relative error {exact['error']:.1e} (in float32 {single['error']:.1e})", setting, exact["equality_holds"]))
        labels = {"float64": "float64", "float32": "float32", "BN": "float64, with batch norm: not the lemma's case"}
        columns.append(plots.Column(f"{family}-5-{size.wide}", [
            line(labels[key], place, matrix=numpy.arange(1, len(f["ratio"]) + 1), ratio=numpy.nanmax(f["ratio"], axis=1)) for place, (key, f) in enumerate(found.items())
        ], MATRIX))
    return checks, Picture(
        "lemma1", "Lemma 1: without batch norm, the gradient of every output for every sample has rank at most 1",
        f"σ₂/σ₁ of ∂f(x)/∂W, the largest of {4 * 10} gradients (4 samples of {LABELS[size.cifar10]}, 10 outputs), at initialization, for every trainable W "
        "from the input to the output. The gradients are slopes of f along random directions: they know nothing of factors.",
        columns, [plots.Row("ratio", "largest σ₂ / σ₁", log=True)], size.cifar10)


def report_lemma_2(size, folder):
    """Lemma 2, its sharper form and Eq. 24, with A detached and not."""
    x, _ = data(size.cifar10, folder, max(10 * (-(-max(size.batches) // 10)), 10))
    checks, columns = [], []
    for name in (f"MLP-BN-5-{size.width}", f"RES-BN-2-{size.width}"):
        graph = parse(name, x.shape[1], 10)
        params = init_params(graph, numpy.random.default_rng(0), dtype="float64")
        found = {detached: [lemma_2(graph, params, x[:B], numpy.random.default_rng(B), detached) for B in size.batches] for detached in (True, False)}
        single = lemma_2(graph, {key: W.astype("float32") for key, W in params.items()}, x[: size.batches[-1]].astype("float32"), numpy.random.default_rng(1))
        pseudo, true = found[True], found[False]
        last, into = pseudo[-1]["B"], pseudo[0]["normalized"]
        setting = f"{name} at initialization, {LABELS[size.cifar10]}, B = {', '.join(map(str, size.batches))}"

        def most(key, results=pseudo):
            return max(f[key] for f in results)

        checks += [
            Check("Σ βⱼ ∂f(xⱼ)/∂W over a batch has rank at most B, A detached", "Lemma 2",
                  f"σ₍B+1₎/σ₁ ≤ {most('beyond'):.1e} (in float32 {single['beyond']:.1e}); rank {pseudo[-1]['rank'].max()} at B = {last}", setting, all(f["rank_holds"] for f in pseudo)),
            Check("into a normalized layer, the rank is at most B − 1", "sharper than Lemma 2",
                  f"σ₍B₎/σ₁ ≤ {most('sharper'):.1e}; rank {pseudo[-1]['rank'][into].max()} at B = {last}", setting, all(f["sharper_holds"] for f in pseudo)),
            Check("the sum is that of backpropagation's B outer products, A detached", "Eq. 23 and 24", f"relative error {most('error'):.1e}", setting, all(f["equality_holds"] for f in pseudo)),
            Check("with A not detached, the ranks are still at most B and B − 1", "Lemma 2 without its assumption",
                  f"σ₍B+1₎/σ₁ ≤ {most('beyond', true):.1e}, normalized σ₍B₎/σ₁ ≤ {most('sharper', true):.1e}", setting, all(f["rank_holds"] and f["sharper_holds"] for f in true)),
            Check("with A not detached, the sum is still Eq. 24's", "Eq. 23 and 24 without their assumption",
                  f"in the W where it differs most, the true gradient does by {', '.join(format(f['error'], '.2g') for f in true)} times its size; a single sample's, into the last normalized layer, "
                  f"has rank {true[-1]['rank'][into][-1, 0]}, detached {pseudo[-1]['rank'][into][-1, 0]} (B = {last})", setting, all(f["equality_holds"] for f in true)),
        ]
        B = numpy.array(size.batches)
        lines = [("into normalized layers", True, into), ("into normalized layers, A not detached", False, into), ("into the other layers", True, ~into)]
        columns.append(plots.Column(name, [line("bound of Lemma 2: B", 0, B=B, rank=B)] + [
            line(label, place, B=B, rank=numpy.array([f["rank"][rows, 1].max() for f in found[detached]])) for place, (label, detached, rows) in enumerate(lines, start=1)], BATCH))
    return checks, Picture(
        "lemma2", "Lemma 2: with batch norm, the gradient of a batch has rank at most B, and B − 1 into a normalized layer",
        f"The largest rank over the trainable W of Σ βⱼ ∂f(xⱼ)/∂W, one random β over samples and 10 outputs (so the output matrix has rank 10 at most), {LABELS[size.cifar10]}, at initialization; "
        "σ > 1e-10 σ₁ counts, in float64, and the gradients are slopes of f along random directions. A line that is not seen coincides with another.",
        columns, [plots.Row("rank", "largest rank", floor=0)], size.cifar10)
