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


def apart(found, expected):
    """||found - expected||_F / ||expected||_F, and 0 where both are 0."""
    return numpy.linalg.norm(found - expected) / (numpy.linalg.norm(expected) or 1)


def slope(graph, params, x, edge, D, A=None):
    """The derivative of f(x) (..., B, k) as W moves along D (..., d_p, d_q); given A is held."""
    shifted = params | {edge: params[edge] + STEP * 1j * D}
    return mg.forward(graph, shifted, x, A=A).v[graph.L].imag / STEP


def lemmas(graph, params, x):
    """Lemma 2 and Eq. 24 for a random combination of the d f_c(x_j; X) / d W, with A held.

    The largest sigma_{B+1} / sigma_1, and the largest relative error of backpropagation's B outer
    products. Without batch norm and with B = 1 these are Lemma 1 and Eq. 13.
    """
    cache, B = mg.forward(graph, params, x), len(x)
    rng = numpy.random.default_rng(B)
    weight = rng.normal(size=(B, graph.width(graph.L)))
    U, _ = mg.backward(graph, params, cache, weight)
    ranks, errors = [], []
    for edge, factor in mg.factors(graph, cache, U).items():
        # Up to B + 2, P M Q^T has the rank of M with probability one.
        P, Q = (rng.normal(size=(B + 2, d)) for d in params[edge].shape)
        rows = [slope(graph, params, x, edge, row[:, None] * Q[:, None, :], cache.A) for row in P]
        found = numpy.einsum("bc,ijbc->ij", weight, rows)
        s = numpy.linalg.svd(found, compute_uv=False)
        ranks.append(s[B:].max(initial=0) / (s[0] or 1))
        errors.append(apart(swap(factor.U @ swap(P)) @ (factor.V @ swap(Q)), found))
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


def eq_23_errors(graph, params, x):
    """The largest relative error of d f_c(x_{j0}) / d W^{pq}, p < L, of Eq. 20-23, by slopes of f.

    Every hidden layer is normalized, A held. Two slips are mended: Delta_1 is x - mu where Eq. 20
    has x, and the recursion of Delta has alpha before D 1 beta too. The second error keeps
    a third slip as printed: Q_q before D_q 1 beta_q in u^2.
    """
    cache, B, k = mg.forward(graph, params, x), len(x), graph.width(graph.L)
    alpha = numpy.eye(B) - 1 / B
    hidden = range(2, graph.L)
    D = {p: (cache.v[p] > 0).astype(float) for p in hidden}  # (B, d_p), the diagonals
    Q = {p: params["gamma", p] * cache.A[p] * D[p] for p in hidden}
    delta = {1: alpha @ x}  # without the slip it is u^2 + u^3 of Eq. 23
    printed = dict(delta)
    for q in hidden:
        u_3 = alpha @ (Q[q] * sum(delta[r] @ swap(params[q, r]) for r in graph.pred[q]))
        shift = D[q] * params["beta", q]
        delta[q] = alpha @ shift + u_3
        printed[q] = alpha @ (Q[q] * shift) + u_3
    # u^1_{j0 j} by layer, (B, B, k, d_p): all that stands before W^{pq}, from f(x_{j0}) down.
    left = {graph.L: numpy.einsum("ij,kd->ijkd", numpy.eye(B), numpy.eye(k))}
    centred = dict(left)  # of a normalized layer times alpha
    for q in reversed(hidden):
        left[q] = sum(centred[p] @ params[p, r] for p, r in graph.E_T if r == q) * Q[q][:, None]
        centred[q] = numpy.einsum("aikd,ij->ajkd", left[q], alpha)
    errors, rng = [], numpy.random.default_rng(B)
    for p, q in [edge for edge in graph.E_T if edge[0] < graph.L]:
        along = rng.normal(size=params[p, q].shape)
        expected = slope(graph, params, x, (p, q), along, cache.A)
        found = [numpy.einsum("ajke,je->ak", left[p] @ along, u[q]) for u in (delta, printed)]
        errors.append([apart(one, expected) for one in found])
    return numpy.max(errors, axis=0)


def gradients(graph, params, x, y, loss, lam):
    """{(p, q): the gradient of L_S^lambda} for every batch of x (..., B, n), A held; cache and df.

    Over 2 lambda it is W - U_S of Eq. 18; of batches of one sample it is g_i, Eq. 9's left side.
    """
    cache = mg.forward(graph, params, x)
    _, df = LOSSES[loss](cache.v[graph.L], y)
    U, _ = mg.backward(graph, params, cache, df)
    factors = mg.factors(graph, cache, U).items()
    return {e: factor.matrix() + 2 * lam * params[e] for e, factor in factors}, cache, df


def descend(graph, x, y, B, eta, lam, loss, steps):
    """SGD without momentum from He's initialization: a history of some forty epochs; the last W.

    gradient: the mean of ||gradient of Eq. 6|| over the next epoch's batches; residual: max_i
    ||g_i|| / (2 lambda ||W||) at the input matrix, NaN for 0 / 0; most and least: of
    |l'_i f(x_i)|; output: max_i |f(x_i)|.
    """
    params = mg.init_params(graph, numpy.random.default_rng(0), dtype="float64", init="he")
    velocity, history = None, []
    epochs = numpy.unique(numpy.geomspace(1, steps * B // len(x), 40).round().astype(int))
    for start, end in zip([0, *epochs], epochs):
        rows = numpy.concatenate([mg.batches(len(x), B, 0, epoch) for epoch in range(start, end)])
        velocity = mg.train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, 0.0)
        g, cache, df = gradients(graph, params, x[:, None], y[:, None], loss, lam)
        f = cache.v[graph.L]
        flat = numpy.concatenate([r.reshape(len(x), -1) for r in g.values()], axis=1)
        next_epoch = mg.batches(len(x), B, 0, end)
        size = 2 * lam * numpy.linalg.norm(params[2, 1])
        seen = {
            "step": end * (len(x) // B),
            "gradient": numpy.linalg.norm(flat[next_epoch].mean(axis=1), axis=1).mean(),
            "residual": numpy.linalg.norm(g[2, 1], axis=(1, 2)).max() / (size or numpy.nan),
            "most": abs(df * f).max(),
            "least": abs(df * f).min(),
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


def theorem_1(graph, params, x, y, loss, lam, ranks, batches, rng):
    """Both sides of Eq. 10 in the spectral norm, left and right (ranks, E_T), and ||W|| (E_T,).

    The right side is the least over random `batches`, and so no less than the least over all.
    """
    weights, squares = [params[edge] for edge in graph.E_T], {r: [] for r in ranks}
    for r in numpy.repeat(ranks, batches):
        rows = rng.choice(len(x), r, replace=False)
        g, *_ = gradients(graph, params, x[rows].astype("float64"), y[rows], loss, lam)
        # M M^T is faster than the SVD, and exact enough for the largest singular value.
        squares[r].append([numpy.linalg.eigvalsh(M @ M.T)[-1] for M in g.values()])
    left = [[mg.distance_to_rank(W, r) for W in weights] for r in ranks]
    right = [numpy.min(squares[r], axis=0) ** 0.5 / (2 * lam) for r in ranks]
    return {"left": left, "right": right, "size": [numpy.linalg.norm(W, 2) for W in weights]}


def eq_18_error(graph, params, x, y, loss, lam, rng):
    """Eq. 18 on a batch: 2 lambda (W - U_S) is the gradient of L_S^lambda with A held.

    The error of W - U_S over its length, the largest over all W, by slopes of L_S^lambda along a
    random direction.
    """
    found, cache, df = gradients(graph, params, x, y, loss, lam)
    errors = []
    for edge, g in found.items():
        D = rng.normal(size=g.shape)
        of_loss = (df * slope(graph, params, x, edge, D, cache.A)).sum()
        error = of_loss + ((2 * lam * params[edge] - g) * D).sum()
        errors.append(abs(error) / numpy.linalg.norm(g))
    return max(errors)
