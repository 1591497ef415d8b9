"""Appendices D and E: the sample bound of Eq. 25, and the exponential loss with normalized weights V_k (Eq. 26)."""

import math

import numpy

from minigrad.graph import mlp, parse
from minigrad.losses import exponential
from minigrad.measures import distance_to_rank, rank
from minigrad.network import backward, factors, forward, init_params
from minigrad.train import batches

from .. import plots
from ..captions import LABELS
from ..verdicts import Check
from .lemmas import lemma_2, nonzero
from .propositions import SMALL
from .pictures import STEPS, Picture, line
from .sizes import CLASSES, SAMPLES, TOLERANCE, binary, log_spaced

STEP = 1e-100  # of the complex step: rows decay to 1e-62, and its square must not reach them
STATIONARY = 1e-3  # of its terms: Eq. 26 holds


def sample_bound(parameters, bits, epsilon, delta):
    """Eq. 25: how many samples give a generalization error of at most epsilon with probability 1 - delta.

    The network has W `parameters` of k `bits` each and the least empirical error; epsilon is a share of errors in (0, 1],
    log the natural logarithm. MLP-5-500 on CIFAR-10, 2.5 million of 32 bits, epsilon = 0.1, delta = 0.05: 11 billion.
    """
    return 2 / epsilon**2 * (bits * parameters * math.log(2) + math.log(2 / delta))


def eq_25(bits, epsilon, delta, trials, rng, bound=sample_bound):
    """Eq. 25 tried on the 2^bits functions of one parameter: how often the best on M samples errs by more than the best + epsilon.

    A hard case of the bound's proof: independent errors, one function of error (1 - 1.02 epsilon) / 2, else (1 + 1.02 epsilon) / 2.
    """
    M, error = math.ceil(bound(1, bits, epsilon, delta)), (1 + 1.02 * epsilon) / 2
    best = rng.binomial(M, 1 - error, trials)
    others = rng.binomial(M, error, (trials, 2**bits - 1)).min(axis=1)
    share = (others <= best).mean()
    return {"M": M, "share": share, "delta": delta, "holds": bool(share <= delta)}


def eq_26(graph, V, rho, x, y):
    """{(p, q): (R, G)} and c: R = sum_n e^{-rho y_n f_n} y_n (d f_n / d V_k - V_k f_n), the left side of Eq. 26, R = G - c V_k.

    V has ||V_k||_F = 1, and f_n is the output of the normalized network. R is what is left of G orthogonally to V_k.
    """
    cache = forward(graph, V, x)
    pull = numpy.exp(-rho * y * cache.v[graph.L]) * y
    U, _ = backward(graph, V, cache, pull)
    c = (pull * cache.v[graph.L]).sum()
    G = {e: factor.matrix() for e, factor in factors(graph, cache, U).items()}
    return {e: (G[e] - c * V[e], G[e]) for e in G}, c


def unit(W):
    """W / ||W||_F, also for the complex W of a complex step."""
    return W / (W * W).sum() ** 0.5


def normalized_descent(graph, x, y, B, eta, rho, steps, seed=0):
    """V_k <- V_k + eta rho / B times the left side of Eq. 26 on a batch, normalized again; looked at in some forty steps.

    residual: the largest ||R|| / ||G|| over the edges and the batches of an epoch, 0 where Eq. 26 holds; rank: the average
    over V_k; margin: the least y_n f_n. Also the last V.
    """
    V = {e: unit(W) for e, W in init_params(graph, numpy.random.default_rng(seed), dtype="float64", init="he").items()}
    history = {name: [] for name in ("step", "residual", "rank", "margin")}
    marks = log_spaced(steps * B // len(x), 40)
    for start, end in zip([0, *marks], marks):
        for rows in numpy.concatenate([batches(len(x), B, seed, epoch) for epoch in range(start, end)]):
            found, _ = eq_26(graph, V, rho, x[rows], y[rows])
            V = {e: unit(W + eta * rho / B * found[e][0]) for e, W in V.items()}
        history["step"].append(end * (len(x) // B))
        found = [eq_26(graph, V, rho, x[rows], y[rows])[0] for rows in batches(len(x), B, seed, end)]
        history["residual"].append(max(numpy.linalg.norm(R) / nonzero(numpy.linalg.norm(G)) for batch in found for R, G in batch.values()))
        history["rank"].append(numpy.mean([rank(W) for W in V.values()]))
        history["margin"].append((y * forward(graph, V, x).v[graph.L]).min())
    return {name: numpy.array(values) for name, values in history.items()} | {"diverged": False}, V


def stationary(history):
    """Whether training reached a point where Eq. 26 holds, and its residual there."""
    return {"residual": history["residual"][-1], "holds": bool(history["residual"][-1] < STATIONARY)}


def appendix_e(graph, V, rho, x, y, B, samples, rng):
    """Eq. 26 and the rank constraint that it implies: min ||V_k - Z|| over rank(Z) <= B is at most ||R|| / |c| on any B samples.

    Frobenius norm; left and right (E_T,), right the least over `samples` random batches. R is the slope of the loss of rho f
    as V_k turns (a complex step): `error` is relative to ||G||. `beyond`: sigma_{B+1} / sigma_1 of G and its terms.
    """
    rows = rng.choice(len(x), B, replace=False)
    _, df = exponential(rho * forward(graph, V, x[rows]).v[graph.L], y[rows])
    beyond = lemma_2(graph, V, x[rows], rng, beta=df)["beyond"]
    errors, left, right = [], [], []
    for e, W in V.items():
        left.append(distance_to_rank(W, B, "frobenius"))
        bounds = []
        for rows in (rng.choice(len(x), B, replace=False) for _ in range(samples)):
            found, c = eq_26(graph, V, rho, x[rows], y[rows])
            R, G = found[e]
            D = unit(rng.normal(size=W.shape))
            loss, _ = exponential(rho * forward(graph, V | {e: unit(W + STEP * 1j * D)}, x[rows]).v[graph.L], y[rows])
            errors.append(abs(loss.imag / STEP + rho / B * (R * D).sum()) / nonzero(rho / B * numpy.linalg.norm(G)))
            if c:  # else every f_n is 0, and Eq. 26 says nothing about V
                bounds.append(numpy.linalg.norm(R) / abs(c))
        right.append(min(bounds, default=numpy.inf))
    left, right = numpy.array(left), numpy.array(right)
    return {
        "left": left, "right": right, "error": max(errors), "beyond": beyond, "holds": bool((left <= right * (1 + TOLERANCE)).all()),
        "gradient_holds": bool(max(errors) < TOLERANCE and beyond < TOLERANCE),
    }


def report_appendix_d(size, folder):
    """Appendix D: Eq. 25 on networks of one parameter, and what it asks of the paper's."""
    case = {"bits": 8, "epsilon": 0.1, "delta": 0.05, "trials": 2000, "rng": numpy.random.default_rng(0)}
    found, fewer = eq_25(**case), eq_25(**case, bound=lambda *a: sample_bound(*a) / 4)
    graph = parse("MLP-5-500", 3072, 10)
    parameters = sum(graph.width(p) * graph.width(q) for p, q in graph.E_T)
    M = sample_bound(parameters, 32, 0.1, 0.05)
    return [Check("M samples suffice for an error of ε beyond the least, with probability 1 − δ", "Appendix D, Eq. 25",
                  f"at M = {found['M']} it fails in {100 * found['share']:.2g} % of 2000 trials, at {fewer['M']} in {100 * fewer['share']:.2g} % (δ = 5 %). MLP-5-500 on CIFAR-10: {M:.2g} samples, and there are 50,000",
                  "256 functions with independent errors, ε = 0.1", found["holds"])], None


def report_appendix_e(size, folder):
    """Appendix E: the residual of Eq. 26 and the rank of the normalized matrices."""
    title, classes = next(iter(CLASSES.items()))
    x, y = binary(size.mnist, folder, classes)
    graph = mlp(x.shape[1], 2, 16, 1)
    checks, columns = [], []
    for rho in (10, 100):
        setting = f"MLP-2-16, {LABELS[size.mnist]}, {title}, m = {SAMPLES}, exponential loss, ρ = {rho}, {size.steps // 2} steps"
        lines = []
        for place, (label, B) in enumerate({"GD (B = m)": SAMPLES, f"SGD (B = {SMALL})": SMALL}.items()):
            history, V = normalized_descent(graph, x, y, B, 1 / rho, rho, size.steps // 2)
            lines.append(line(label, place, **history))
            end, found = stationary(history), appendix_e(graph, V, rho, x, y, 1, 20, numpy.random.default_rng(0))
            checks += [
                Check("training reaches Eq. 26 on all of its batches", "Appendix E, Eq. 26", f"‖left side‖ up to {end['residual']:.2g} of that of its first term; ranks of V {', '.join(format(rank(W), '.0f') for W in V.values())}; least yₙ f(xₙ) {history['margin'][-1]:.2g}",
                      f"{setting}, {label}", end["holds"]),
                Check("V is as near to rank B* as the residual of Eq. 26 on B* samples", "Appendix E, rank constraint", f"B* = 1, for the V in turn: right side {', '.join(f'{r:.2g}' for r in found['right'])}, left {', '.join(f'{v:.2g}' for v in found['left'])}; "
                      f"Eq. 26 is the gradient of the normalized loss, to {found['error']:.1e}, and its first term has σ₂/σ₁ ≤ {found['beyond']:.1e}", f"{setting}, {label}", found["holds"] and found["gradient_holds"]),
            ]
        columns.append(plots.Column(f"ρ = {rho}", lines, STEPS))
    return checks, Picture(
        "appendixE", "Appendix E: does training reach Eq. 26 (exponential loss, normalized V), and lose rank?",
        f"MLP-2-16, {LABELS[size.mnist]}, {title} as −1 and +1, m = {SAMPLES}. ρ is the product of the norms, held. The residual is the left side of Eq. 26 on a batch, relative to its first term, the largest over the matrices and the batches of an epoch.",
        columns, [plots.Row("residual", "(a) residual of Eq. 26", log=True), plots.Row("rank", "(b) average rank of V", floor=0)], size.mnist)
