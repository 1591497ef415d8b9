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
CHUNK = 2**22  # numbers in the shifted copies of W that exist at one time
TOGETHER = 10  # random batches whose gradients are computed side by side
NORMS = ("spectral", "frobenius")


def ratio(part, whole):
    """part / whole, and 0 where both are 0."""
    return part / numpy.where(whole == 0, 1, whole)


def apart(found, expected):
    """||found - expected||_F / ||expected||_F."""
    return ratio(numpy.linalg.norm(found - expected), numpy.linalg.norm(expected))


def beyond_rank(M, r):
    """sigma_{r+1} / sigma_1, the largest of the matrices M (..., d_p, d_q)."""
    s = numpy.linalg.svd(M, compute_uv=False)
    return ratio(s[..., r:].max(initial=0, axis=-1), s[..., 0]).max()


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
    pairs = numpy.array(list(numpy.ndindex(len(P), len(Q))))
    slopes = []
    for chunk in numpy.array_split(pairs, -(-len(pairs) * W.size // CHUNK)):
        i, j = chunk.T
        slopes.append(slope(graph, params, x, edge, P[i, :, None] * Q[j, None, :], A))
    slopes = numpy.concatenate(slopes).reshape(len(P), len(Q), *slopes[0].shape[1:])
    return numpy.moveaxis(slopes, (0, 1), (-2, -1)), P, Q


def lemma_1(graph, params, x, rng):
    """Lemma 1, Eq. 13 and Eq. 14 on samples x, each as a relative error.

    rank: sigma_2 / sigma_1 of d f_c(x_b) / d W^{pq}; outer: of backpropagation's u_p v_q^T; path:
    of f as the sum of <d f / d W^{p1}, W^{p1}> over the edges from the input.
    """
    cache, k = mg.forward(graph, params, x), graph.width(graph.L)
    every_output = numpy.eye(k)[:, None] * numpy.ones((len(x), 1))  # (k, B, k)
    U, _ = mg.backward(graph, params, cache, every_output)
    rank, outer, f = [], [], 0
    for p, q in graph.E_T:
        found, P, Q = sketch(graph, params, x, (p, q), 4, rng)
        product = numpy.einsum("cbi,bj->bcij", U[p] @ swap(P), cache.v[q] @ swap(Q))
        rank.append(beyond_rank(found, 1))
        outer.append(apart(product, found))
        if q == 1:
            f = f + slope(graph, params, x, (p, q), params[p, q])
    return {"rank": max(rank), "outer": max(outer), "path": apart(f, cache.v[graph.L])}


def lemma_2(graph, params, x, weight, rng, hold_A=True):
    """Lemma 2 and Eq. 24 for sum_j weight_j d f(x_j; X) / d W, weight (B, k), samples by outputs.

    rank: sigma_{B+1} / sigma_1; sharper: sigma_B / sigma_1 into normalized layers; outer: the
    relative error of backpropagation's B outer products. Slopes are of f with A held, or free.
    """
    cache, B = mg.forward(graph, params, x), len(x)
    U, _ = mg.backward(graph, params, cache, weight)
    rank, sharper, outer = [], [0.0], []
    for p, q in graph.E_T:
        by_sample, P, Q = sketch(graph, params, x, (p, q), B + 2, rng, cache.A if hold_A else None)
        found = numpy.einsum("bc,bcij->ij", weight, by_sample)
        rank.append(beyond_rank(found, B))
        if graph.layers[p - 1].batchnorm:
            sharper.append(beyond_rank(found, B - 1))
        outer.append(apart(swap(U[p] @ swap(P)) @ (cache.v[q] @ swap(Q)), found))
    return {"rank": max(rank), "sharper": max(sharper), "outer": max(outer)}


def off_the_start(graph, params):
    """`params` with gamma and beta of batch norm 1.5 and 0.5, then 0.7 and -0.5, in turn."""
    changed = dict(params)
    normalized = [p for p, layer in enumerate(graph.layers, start=1) if layer.batchnorm]
    for place, p in enumerate(normalized):
        gamma, beta = (1.5, 0.5) if place % 2 == 0 else (0.7, -0.5)
        changed["gamma", p] = numpy.full_like(params["gamma", p], gamma)
        changed["beta", p] = numpy.full_like(params["beta", p], beta)
    return changed


def eq_5(graph, params, x):
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
    cache, B = mg.forward(graph, params, x), len(x)
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
    left = {graph.L: numpy.einsum("ij,kd->ijkd", numpy.eye(B), numpy.eye(graph.width(graph.L)))}
    for q in reversed(hidden):
        left[q] = numpy.zeros((B, B, graph.width(graph.L), graph.width(q)))
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


def descend(graph, x, y, B, eta, lam, loss, steps, seed=0):
    """SGD without momentum from He's initialization: a history of some forty epochs; the last W.

    gradient: the mean of ||gradient of Eq. 6|| over the next epoch's batches; residual: max_i
    ||g_i|| / (2 lambda ||W||) at the input matrix, NaN for 0 / 0; fit: max_i |l'_i|; most and
    least: of |l'_i f(x_i)|; output: max_i |f(x_i)|.
    """
    params = mg.init_params(graph, numpy.random.default_rng(seed), dtype="float64", init="he")
    velocity = {name: numpy.zeros_like(W) for name, W in params.items()}
    epochs = numpy.unique(numpy.geomspace(1, steps * B // len(x), 40).round().astype(int))
    history = []
    for start, end in zip([0, *epochs], epochs):
        rows = numpy.concatenate([mg.batches(len(x), B, seed, e) for e in range(start, end)])
        mg.train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, 0.0)
        fit, f, g = residuals(graph, params, x, y, loss, lam)
        flat = numpy.concatenate([r.reshape(len(x), -1) for r in g.values()], axis=1)
        next_epoch = mg.batches(len(x), B, seed, end)
        size = 2 * lam * numpy.linalg.norm(params[2, 1])
        largest = numpy.linalg.norm(g[2, 1], axis=(1, 2)).max()
        seen = {
            "step": end * (len(x) // B),
            "gradient": numpy.linalg.norm(flat[next_epoch].mean(axis=1), axis=1).mean(),
            "residual": largest / size if size else numpy.nan,
            "fit": abs(fit).max(),
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
    """{(p, q): W - U_S} of Eq. 18, the gradient of L_S^lambda over 2 lambda, and A.

    x (..., B, n) may be a stack of batches.
    """
    cache = mg.forward(graph, params, x)
    _, df = LOSSES[loss](cache.v[graph.L], y)
    U, _ = mg.backward(graph, params, cache, df)
    factors = mg.factors(graph, cache, U).items()
    return {e: params[e] + factor.matrix() / (2 * lam) for e, factor in factors}, cache.A


def norms(M):
    """The spectral and the Frobenius norms (2, ...) of M (..., d_p, d_q)."""
    M = M if M.shape[-2] <= M.shape[-1] else swap(M)
    squares = M @ swap(M)  # exact enough for the largest singular value
    spectral = numpy.linalg.eigvalsh(squares)[..., -1]
    return numpy.array([spectral, numpy.trace(squares, axis1=-2, axis2=-1)]) ** 0.5


def theorem_1(graph, params, x, y, loss, lam, ranks, batches, rng):
    """Both sides of Eq. 10, left and right (norms, E_T, ranks), and size, ||W|| (norms, E_T).

    The right side is the least over random `batches`, and so no less than the least over all.
    """
    left = numpy.empty((len(NORMS), len(graph.E_T), len(ranks)))
    right = numpy.full_like(left, numpy.inf)
    for column, B in enumerate(ranks):
        for place, edge in enumerate(graph.E_T):
            left[:, place, column] = [mg.distance_to_rank(params[edge], B, kind) for kind in NORMS]
        for start in range(0, batches, TOGETHER):
            number = min(TOGETHER, batches - start)
            rows = numpy.array([rng.choice(len(x), B, replace=False) for _ in range(number)])
            found, _ = gaps(graph, params, x[rows].astype("float64"), y[rows], loss, lam)
            for place, edge in enumerate(graph.E_T):
                least = norms(found[edge]).min(axis=1)
                right[:, place, column] = numpy.minimum(right[:, place, column], least)
    size = numpy.transpose([norms(params[edge]) for edge in graph.E_T])
    return {"left": left, "right": right, "size": size}


def eq_18(graph, params, x, y, loss, lam, rng):
    """Eq. 18 on a batch: 2 lambda (W - U_S) is the gradient of L_S^lambda with A held.

    The relative error, the largest over all W, of slopes of L_S^lambda along W - U_S, which give
    its length, and along a random direction.
    """
    found, A = gaps(graph, params, x, y, loss, lam)
    errors = []
    for edge, gap in found.items():
        length = numpy.linalg.norm(gap)
        for D in (gap / length, rng.normal(size=gap.shape) / gap.size**0.5):
            shifted = params | {edge: params[edge] + STEP * 1j * D}
            value, _ = LOSSES[loss](mg.forward(graph, shifted, x, A=A).v[graph.L], y)
            derivative = (value + lam * (shifted[edge] ** 2).sum()).imag / STEP
            errors.append(abs(derivative / (2 * lam) - (gap * D).sum()) / length)
    return max(errors)


def remembered(eta, lam, momentum, share=1e-4):
    """The number of steps until pure decay leaves `share` of W.

    Without a gradient a step of Eq. 2 is this matrix times (W, velocity). In the long run it
    shrinks W by its largest eigenvalue.
    """
    step = [[1 - 2 * eta * lam, -eta * momentum], [2 * lam, momentum]]
    return round(numpy.log(share) / numpy.log(abs(numpy.linalg.eigvals(step)).max()))
