"""The quantities in the memo's lemmas, propositions and theorem, in float64; theory.py tries them.

Gradients of f are slopes of `forward` along directions, by complex steps: they share nothing with
backpropagation. Ranks are decided by ratios of singular values, of which rounding leaves 1e-15.
"""

import numpy

import minigrad as mg
from minigrad.backend import swap
from minigrad.layers import EPS
from minigrad.losses import LOSSES

STEP = 1e-20  # of a complex step: nothing is subtracted, so its square may vanish beside 1


def ratio(part, whole):
    """part / whole, and 0 where both are 0, as on a sample for which all units are off."""
    return part / numpy.where(whole == 0, 1, whole)


def apart(found, expected):
    """||found - expected||_F / ||expected||_F."""
    return ratio(numpy.linalg.norm(found - expected), numpy.linalg.norm(expected))


def beyond_rank(M, r):
    """sigma_{r+1} / sigma_1 of M (d_p, d_q)."""
    s = numpy.linalg.svd(M, compute_uv=False)
    return ratio(s[r:].max(initial=0), s[0])


def slope(graph, params, x, edge, D, A=None):
    """The derivative of f(x) (..., B, k) as W moves along D (..., d_p, d_q); given A is held."""
    shifted = params | {edge: params[edge] + STEP * 1j * D}
    return mg.forward(graph, shifted, x, A=A).v[graph.L].imag / STEP


def sketch(graph, params, x, edge, r, rng, A=None):
    """P (d f_c(x_b) / d W^{pq}) Q^T, (B, k, r, r), and its random P (r, d_p) and Q (r, d_q).

    Their rows are orthonormal; r is cut to d_p and d_q. Up to r, a matrix has the rank of its
    sketch with probability one.
    """
    W = params[edge]
    P, Q = (swap(numpy.linalg.qr(rng.normal(size=(d, min(r, d))))[0]) for d in W.shape)
    rows = [slope(graph, params, x, edge, row[:, None] * Q[:, None, :], A) for row in P]
    return numpy.moveaxis(rows, (0, 1), (-2, -1)), P, Q


def lemmas(graph, params, x, weight, rng):
    """Lemma 2 and Eq. 24 for sum_j weight_j d f(x_j; X) / d W, weight (B, k), with A held.

    The largest sigma_{B+1} / sigma_1, and the largest relative error of backpropagation's B outer
    products. Without batch norm and with B = 1 these are Lemma 1 and Eq. 13.
    """
    cache, B = mg.forward(graph, params, x), len(x)
    U, _ = mg.backward(graph, params, cache, weight)
    ranks, errors = [], []
    for p, q in graph.E_T:
        by_sample, P, Q = sketch(graph, params, x, (p, q), B + 2, rng, cache.A)
        found = numpy.einsum("bc,bcij->ij", weight, by_sample)
        ranks.append(beyond_rank(found, B))
        errors.append(apart(swap(U[p] @ swap(P)) @ (cache.v[q] @ swap(Q)), found))
    return max(ranks), max(errors)


def eq_14_error(graph, params, x):
    """Of f as the sum of <d f / d W^{p1}, W^{p1}> over the edges from the input; relative."""
    inputs = [edge for edge in graph.E_T if edge[1] == 1]
    f = sum(slope(graph, params, x, edge, params[edge]) for edge in inputs)
    return apart(f, mg.forward(graph, params, x).v[graph.L])


def eq_5_error(graph, params, x):
    """Eq. 5: by how much A (z - b) misses mean 0 and variance 1 - epsilon A^2 over the batch."""
    cache, errors = mg.forward(graph, params, x), []
    for p, n in cache.normalized.items():
        variance = 1 - EPS * cache.A[p] ** 2
        errors += [abs(n.mean(axis=-2)).max(), abs((n * n).mean(axis=-2) - variance).max()]
    return max(errors)


def eq_23(graph, params, x, as_printed=False):
    """{(p, q): d f_c(x_{j0}) / d W^{pq} (B, k, d_p, d_q)} for p < L, by Eq. 20 to 23; A detached.

    Every hidden layer is normalized. Two slips are mended: Delta_1 is x - mu where Eq. 20 has x,
    and the recursion of Delta has alpha before D 1 beta too. A third, Q_q before D_q 1 beta_q in
    u^2, is mended unless `as_printed`.
    """
    cache, B, k = mg.forward(graph, params, x), len(x), graph.width(graph.L)
    alpha = numpy.eye(B) - 1 / B
    hidden = range(2, graph.L)
    D = {p: (cache.v[p] > 0).astype(float) for p in hidden}  # (B, d_p), the diagonals
    Q = {p: params["gamma", p] * cache.A[p] * D[p] for p in hidden}
    delta = {1: alpha @ x}
    right = {1: delta[1]}  # u^2 + u^3 of Eq. 23
    for q in hidden:
        u_3 = alpha @ (Q[q] * sum(delta[r] @ swap(params[q, r]) for r in graph.pred[q]))
        shift = D[q] * params["beta", q]
        delta[q] = alpha @ shift + u_3
        right[q] = alpha @ (Q[q] * shift) + u_3 if as_printed else delta[q]
    # u^1_{j0 j} by layer, (B, B, k, d_p): all that stands before W^{pq}, from f(x_{j0}) down.
    left = {graph.L: numpy.einsum("ij,kd->ijkd", numpy.eye(B), numpy.eye(k))}
    for q in reversed(hidden):
        left[q] = numpy.zeros((B, B, k, graph.width(q)))
        for p in range(q + 1, graph.L + 1):
            if q in graph.pred[p]:
                above = left[p] if p == graph.L else numpy.einsum("aikd,ij->ajkd", left[p], alpha)
                left[q] += above @ params[p, q] * Q[q][:, None]
    inner = [(p, q) for p, q in graph.E_T if p < graph.L]
    return {(p, q): numpy.einsum("ajkd,je->akde", left[p], right[q]) for p, q in inner}


def eq_23_error(graph, params, x, rng, as_printed=False):
    """The largest relative error of eq_23, by slopes of f with A held."""
    A = mg.forward(graph, params, x).A
    errors = []
    for (p, q), gradient in eq_23(graph, params, x, as_printed).items():
        found, P, Q = sketch(graph, params, x, (p, q), graph.width(p), rng, A)
        errors.append(apart(P @ gradient @ swap(Q), found))
    return max(errors)


def residuals(graph, params, x, y, loss, lam):
    """l'_i (m,), f(x_i) (m,) and {(p, q): g_i (m, d_p, d_q)}, the left sides of Eq. 9.

    g_i = l'_i df(x_i) / dW + 2 lambda W is the gradient of sample i's own regularized loss. The
    graph has one output and no batch norm.
    """
    cache = mg.forward(graph, params, x)
    f = cache.v[graph.L]
    _, df = LOSSES[loss](f, y)
    fit = df * len(x)  # the loss is a mean
    U, _ = mg.backward(graph, params, cache, fit)
    factors = mg.factors(graph, cache, U).items()
    return fit[:, 0], f[:, 0], {e: factor.terms() + 2 * lam * params[e] for e, factor in factors}


def descend(graph, x, y, B, eta, lam, loss, steps):
    """SGD without momentum from He's initialization: a history of some forty epochs; the last W.

    gradient: the mean of ||gradient of Eq. 6|| over the next epoch's batches; residual: max_i
    ||g_i|| / (2 lambda ||W||) at the input matrix, NaN for 0 / 0; most and least: of
    |l'_i f(x_i)|; output: max_i |f(x_i)|.
    """
    params = mg.init_params(graph, numpy.random.default_rng(0), dtype="float64", init="he")
    velocity = None
    epochs = numpy.unique(numpy.geomspace(1, steps * B // len(x), 40).round().astype(int))
    history = []
    for start, end in zip([0, *epochs], epochs):
        rows = numpy.concatenate([mg.batches(len(x), B, 0, epoch) for epoch in range(start, end)])
        velocity = mg.train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, 0.0)
        fit, f, g = residuals(graph, params, x, y, loss, lam)
        flat = numpy.concatenate([r.reshape(len(x), -1) for r in g.values()], axis=1)
        next_epoch = mg.batches(len(x), B, 0, end)
        size = 2 * lam * numpy.linalg.norm(params[2, 1])
        largest = numpy.linalg.norm(g[2, 1], axis=(1, 2)).max()
        seen = {
            "step": end * (len(x) // B),
            "gradient": numpy.linalg.norm(flat[next_epoch].mean(axis=1), axis=1).mean(),
            "residual": largest / size if size else numpy.nan,
            "most": abs(fit * f).max(),
            "least": abs(fit * f).min(),
            "output": abs(f).max(),
        }
        history.append(seen)
    return {name: numpy.array([seen[name] for seen in history]) for name in history[0]}, params


def off_the_samples(x):
    """c, with max_i ||g_i|| >= c 2 lambda ||W|| at every input matrix W; 0 for collinear samples.

    l'_i E_{p,i} x_i^T has no part off e_i = x_i / ||x_i|| (Eq. 14), so ||g_i|| is at least
    2 lambda ||W - W e_i e_i^T||. The mean over i of its square is at least (1 - top) of
    (2 lambda ||W||)^2, where top is the largest eigenvalue of the mean of e_i e_i^T.
    """
    e = x / numpy.linalg.norm(x, axis=1, keepdims=True)
    top = numpy.linalg.eigvalsh(e @ swap(e) / len(e))[-1]
    return max(1 - top, 0) ** 0.5


def gaps(graph, params, x, y, loss, lam):
    """{(p, q): W - U_S} of Eq. 18, the gradient of L_S^lambda over 2 lambda, on the batch x."""
    cache = mg.forward(graph, params, x)
    _, df = LOSSES[loss](cache.v[graph.L], y)
    U, _ = mg.backward(graph, params, cache, df)
    factors = mg.factors(graph, cache, U).items()
    return {e: params[e] + factor.matrix() / (2 * lam) for e, factor in factors}


def spectral_norm(M):
    """sigma_1 of M (d_p, d_q), from M M^T, which is exact enough for the largest."""
    return numpy.linalg.eigvalsh(M @ M.T)[-1] ** 0.5


def theorem_1(graph, params, x, y, loss, lam, ranks, batches, rng):
    """Both sides of Eq. 10 in the spectral norm, left and right (ranks, E_T), and ||W|| (E_T,).

    The right side is the least over random `batches`, and so no less than the least over all.
    """
    weights = [params[edge] for edge in graph.E_T]
    left = numpy.array([[mg.distance_to_rank(W, r) for W in weights] for r in ranks])
    right = numpy.full_like(left, numpy.inf)
    for place, r in enumerate(ranks):
        for _ in range(batches):
            rows = rng.choice(len(x), r, replace=False)
            found = gaps(graph, params, x[rows].astype("float64"), y[rows], loss, lam)
            bound = [spectral_norm(found[edge]) for edge in graph.E_T]
            right[place] = numpy.minimum(right[place], bound)
    return {"left": left, "right": right, "size": [spectral_norm(W) for W in weights]}


def eq_18_error(graph, params, x, y, loss, lam, rng):
    """Eq. 18 on a batch: 2 lambda (W - U_S) is the gradient of L_S^lambda with A held.

    The error of W - U_S over its length, the largest over all W, by slopes of L_S^lambda along a
    random direction.
    """
    cache = mg.forward(graph, params, x)
    _, df = LOSSES[loss](cache.v[graph.L], y)
    errors = []
    for edge, gap in gaps(graph, params, x, y, loss, lam).items():
        D = rng.normal(size=gap.shape)
        of_loss = (df * slope(graph, params, x, edge, D, cache.A)).sum() / (2 * lam)
        error = of_loss + (params[edge] * D).sum() - (gap * D).sum()
        errors.append(abs(error) / numpy.linalg.norm(gap))
    return max(errors)
