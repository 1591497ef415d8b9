"""With batch norm: Eq. 23 and 24 at beta != 0 and gamma != 1, and what detaching A does to Eq. 10."""

import numpy

from minigrad.backend import swap
from minigrad.graph import parse
from minigrad.layers import EPS
from minigrad.losses import LOSSES
from minigrad.network import backward, forward, gradients, init_params

from ..captions import LABELS
from ..verdicts import Statement
from .lemmas import lemma_2, nonzero, over_batches, sketch
from .sizes import TOLERANCE, data

SMALL = "MLP-BN-3-16"  # where Eq. 23 is written out, sum by sum
BATCH = 4  # on it
# A layer counts as normalized where the mean over its units of epsilon's share of epsilon + variance is less.
NORMALIZED = 0.1
NEARLY = 0.99  # of ||W||: no further down than this may epsilon take the right side of Eq. 10

EQ_24 = Statement(
    "Eq. 23 and 24",
    "at β = ±0.5 and γ ≠ 1 too, the sum is that of backpropagation's B outer products",
    "relative error {error:.1e}",
)
EQ_23_AS_PRINTED = Statement(
    "Eq. 23, u² as printed",
    "∂f(x)/∂W = Σⱼ u¹ⱼ (u²ⱼ + u³ⱼ)ᵀ with Q_q D_q 1 β_q in u², at β = ±0.5",
    "relative error {error:.2g}; with D_q 1 β_q in its place {without_Q:.1e}",
)
ORTHOGONAL = Statement(
    "Eq. 5, scale invariance",
    "into a normalized layer, the true gradient is orthogonal to W but for ε, and the detached one is not",
    "⟨∇L, W⟩ is Σ κᵢ γ ∂L/∂γᵢ over the units, κᵢ = ε Aᵢ² (detached: κᵢ = 1), to {error:.1e} of ‖∇L‖ ‖W‖; "
    "where ε is under a tenth of ε + variance, the cosine's size is at most {true:.2g} "
    "(detached: {detached:.2g})",
)
NOTHING_SAID = Statement(
    "Theorem 1, Eq. 10, without detaching",
    "with the true gradient, Eq. 10 is never below ‖W‖ into a normalized layer, whatever λ, but for ε "
    "(Frobenius norm)",
    "least right side over ‖W‖, of all λ and {batches} random batches of each size: {true:.4f} where ε is "
    "under a tenth of ε + variance (detached: {detached:.2g}); {anywhere:.2g} if W that have decayed beyond "
    "that count too",
)


def off_their_start(graph, params):
    """`params` with gamma and beta of batch norm not 1 and 0 but 1.5 and 0.5, 0.7 and -0.5, in turn."""
    changed = dict(params)
    layers = [p for p, layer in enumerate(graph.layers, start=1) if layer.batchnorm]
    for place, p in enumerate(layers):
        gamma, beta = (1.5, 0.5) if place % 2 == 0 else (0.7, -0.5)
        changed["gamma", p] = numpy.full_like(params["gamma", p], gamma)
        changed["beta", p] = numpy.full_like(params["beta", p], beta)
    return changed


def eq_23(graph, params, x, p, q, as_printed):
    """d f_c(x_{j0}) / d W^{pq}, (B, k, d_p, d_q), by the sums over samples of Eq. 23, one by one; A detached.

    For an MLP with batch norm, p and q = p - 1 hidden. `as_printed`, u2 has Q_q before D_q 1 beta_q. Delta is
    v - mu for the input too, where Eq. 20 has x.
    """
    cache, B = forward(graph, params, x), len(x)
    alpha = numpy.eye(B) - 1 / B
    hidden = range(2, graph.L)
    D = {r: (cache.v[r] > 0).astype(x.dtype) for r in hidden}  # (B, d_r), the diagonals
    Q = {r: params["gamma", r] * cache.A[r] * D[r] for r in hidden}
    mu = cache.v[q - 1].mean(axis=0)
    u_2, u_3 = numpy.zeros_like(D[q]), numpy.zeros_like(D[q])
    for j in range(B):
        for i in range(B):
            of_beta = D[q][i] * params["beta", q][0]
            u_2[j] += alpha[j, i] * (Q[q][i] * of_beta if as_printed else of_beta)
            u_3[j] += alpha[j, i] * Q[q][i] * (params[q, q - 1] @ (cache.v[q - 1][i] - mu))
    gradient = numpy.zeros((B, graph.width(graph.L), graph.width(p), graph.width(q)))
    for j_0 in range(B):
        u_1 = _u_1(graph, params, alpha, Q, j_0, p)
        for j in range(B):
            gradient[j_0] += u_1[j][:, :, None] * (u_2[j] + u_3[j])
    return gradient


def _u_1(graph, params, alpha, Q, j_0, p):
    """u^1_{j0 j} of Eq. 23 for every j, (B, k, d_p): all that stands before W^{pq}, from f(x_{j0}) down."""
    B, top = len(alpha), graph.L - 1
    u = numpy.zeros((B, graph.width(graph.L), graph.width(top)))
    u[j_0] = params[graph.L, top] * Q[top][j_0]
    for r in range(top, p, -1):
        below = numpy.zeros((B, graph.width(graph.L), graph.width(r - 1)))
        for j in range(B):
            for i in range(B):
                below[j] += alpha[i, j] * u[i] @ params[r, r - 1] * Q[r - 1][j]
        u = below
    return u


def written_out(graph, params, x, rng):
    """Eq. 23 against slopes of f: the largest relative error of all W between hidden layers.

    As printed, and `without_Q` in u2.
    """
    A = forward(graph, params, x).A
    errors = {True: [], False: []}
    for p, q in graph.E_T:
        if q == 1 or p == graph.L:
            continue
        found, P, Q = sketch(graph, params, x, (p, q), graph.width(p), rng, A)
        for as_printed in errors:
            sums = P @ eq_23(graph, params, x, p, q, as_printed) @ swap(Q)
            error = numpy.linalg.norm(sums - found) / nonzero(numpy.linalg.norm(found))
            errors[as_printed].append(error)
    printed = max(errors[True])
    return {"error": printed, "without_Q": max(errors[False]), "holds": bool(printed < TOLERANCE)}


def along_W(graph, params, x, y, loss):
    """The cosine of W and dL/dW into every normalized layer, on batches x (N, B, n): (E, N), 0 if dL/dW is.

    Growing row i of W, f changes through epsilon alone: <dL/dW, W> is the sum over the units i of
    gamma dL/dgamma_i, and with A not detached of epsilon A_i^2 times that; `error` (E, N) is relative to
    |dL/dW| |W|. `share` (E, N) is the mean of epsilon A_i^2, epsilon over epsilon + variance. The graph has a
    gamma per unit.
    """
    cache = forward(graph, params, x)
    _, df = LOSSES[loss](cache.v[graph.L], y)
    U, dscale = backward(graph, params, cache, df)
    grads = gradients(graph, cache, U, dscale)
    cosines, errors, shares = [], [], []
    for p, q in graph.E_T:
        layer = graph.layers[p - 1]
        if not layer.batchnorm:
            continue
        W, dW = params[p, q], grads[p, q]
        size = nonzero(numpy.linalg.norm(dW, axis=(-2, -1)) * numpy.linalg.norm(W))
        along = (dW * W).sum(axis=(-2, -1))
        share = EPS * cache.A[p] ** 2
        by_unit = params["gamma", p] * dscale["gamma", p]
        if not layer.detached:
            by_unit = by_unit * share
        cosines.append(along / size)
        errors.append(abs(along - by_unit.sum(axis=(-2, -1))) / size)
        shares.append(share.mean(axis=(-2, -1)))
    return {"cosine": numpy.array(cosines), "error": numpy.array(errors), "share": numpy.array(shares)}


def orthogonality(true_graph, detached_graph, params, x, y, loss, sizes, batches, rng):
    """along_W of the true gradient and of the detached one, on random `batches` of each of the `sizes`.

    Cosines and `share` (E, sizes times batches). gamma, one per layer, is made one per unit.
    """
    by_unit = dict(params)
    for p, layer in enumerate(true_graph.layers, start=1):
        if layer.batchnorm:
            by_unit["gamma", p] = numpy.broadcast_to(params["gamma", p], (1, layer.width))
    true, detached = [], []
    for B in sizes:
        rows = numpy.array([rng.choice(len(x), B, replace=False) for _ in range(batches)])
        true.append(along_W(true_graph, by_unit, x[rows], y[rows], loss))
        detached.append(along_W(detached_graph, by_unit, x[rows], y[rows], loss))
    error = max(found["error"].max() for found in true + detached)
    return {
        "true": numpy.concatenate([found["cosine"] for found in true], axis=1),
        "detached": numpy.concatenate([found["cosine"] for found in detached], axis=1),
        "share": numpy.concatenate([found["share"] for found in true], axis=1),
        "error": error,
        "holds": bool(error < TOLERANCE),
    }


def judge_orthogonality(results):
    """Of `orthogonality` at several W, what its statements need; what it implies for Eq. 10 is `bound`."""
    true, detached, share = (
        numpy.array([found[name] for found in results]) for name in ("true", "detached", "share")
    )
    normalized = share < NORMALIZED
    least = least_over_lambda(true[normalized])
    return {
        "cosine": {
            "error": max(found["error"] for found in results),
            "true": abs(true[normalized]).max(initial=0),
            "detached": abs(detached[normalized]).max(initial=0),
            "holds": all(found["holds"] for found in results),
        },
        "bound": {
            "true": least,
            "detached": least_over_lambda(detached[normalized]),
            "anywhere": least_over_lambda(true),
            "holds": bool(least > NEARLY),
        },
    }


def least_over_lambda(cosine):
    """The least of ||W + dL/dW / 2 lambda|| / ||W|| over lambda > 0 and the cosines of dL/dW and W: a sine.

    Where no cosine is negative, nothing is below ||W||.
    """
    lowest = cosine.min(initial=0)
    return (1 - lowest**2) ** 0.5


def measure_appendix_c(size, folder):
    """Eq. 23 and 24 at beta = 0.5 and -0.5: what backpropagation makes of them, and what is printed."""
    x, _ = data(size.cifar10, folder, size.images)
    verdicts = []
    for name in (f"MLP-BN-5-{size.width}", f"RES-BN-2-{size.width}"):
        graph, params = _off_its_start(name, x)
        results = [lemma_2(graph, params, x[:B], numpy.random.default_rng(B)) for B in size.batches]
        setting = _setting(name, size, ", ".join(map(str, size.batches)))
        verdicts.append(EQ_24.judged(over_batches(results)["equality"], setting))
    graph, params = _off_its_start(SMALL, x)
    found = written_out(graph, params, x[:BATCH], numpy.random.default_rng(0))
    verdicts.append(EQ_23_AS_PRINTED.judged(found, _setting(SMALL, size, BATCH)))
    return verdicts, None


def _off_its_start(name, x):
    graph = parse(name, x.shape[1], 10)
    params = init_params(graph, numpy.random.default_rng(0), dtype="float64")
    return graph, off_their_start(graph, params)


def _setting(name, size, B):
    scales = "γ = 1.5, 0.7 and β = 0.5, −0.5 in turn"
    return f"{name} at initialization but for {scales}, {LABELS[size.cifar10]}, B = {B}"
