"""Appendices D and E: the sample bound of Eq. 25, and the exponential loss with normalized V_k (Eq. 26)."""

import math

import numpy

from minigrad.graph import mlp, parse
from minigrad.losses import exponential
from minigrad.measures import distance_to_rank, rank
from minigrad.network import backward, factors, forward, init_params
from minigrad.train import batches, evaluate

from ..captions import LABELS
from ..verdicts import Statement
from .lemmas import lemma_2, nonzero
from .sizes import CHANCE, CLASSES, SAMPLES, SMALL, TOLERANCE, binary, log_spaced

STEP = 1e-100  # of the complex step: rows decay to 1e-62, and its square must not reach them
STATIONARY = 1e-3  # of its terms: Eq. 26 holds

ENOUGH = Statement(
    "Appendix D, Eq. 25",
    "M samples suffice for an error of ε beyond the least, with probability 1 − δ",
    "at M = {M} it fails in {percent:.2g} % of 2000 trials, "
    "at {fewer[M]} in {fewer[percent]:.2g} % (δ = 5 %). "
    "MLP-5-500 on CIFAR-10: {asked:.2g} samples, and there are 50,000",
)
REACHED = Statement(
    "Appendix E, Eq. 26",
    "training reaches Eq. 26 on all of its batches",
    "‖left side‖ up to {residual:.2g} of that of its first term (at the lowest {lowest:.2g}); "
    "ranks of V {rank[0]:.0f}, {rank[1]:.0f}, {rank[2]:.0f}; least yₙ f(xₙ) {margin:.2g}",
)
CONSTRAINT = Statement(
    "Appendix E, rank constraint",
    "V is as near to rank B* as the residual of Eq. 26 on B* samples",
    "B* = 1, for the V in turn: right side {right[0]:.2g}, {right[1]:.2g}, {right[2]:.2g}, "
    "left {left[0]:.2g}, {left[1]:.2g}, {left[2]:.2g}; Eq. 26 is the gradient of the normalized loss, "
    "to {error:.1e}, and its first term has σ₂/σ₁ ≤ {beyond:.1e}",
)


def sample_bound(parameters, bits, epsilon, delta):
    """Eq. 25: how many samples give a generalization error of at most epsilon with probability 1 - delta.

    The network has W `parameters` of k `bits` each and the least empirical error; epsilon is a share of
    errors in (0, 1], log the natural logarithm. MLP-5-500 on CIFAR-10, 2.5 million of 32 bits,
    epsilon = 0.1, delta = 0.05: 11 billion.
    """
    return 2 / epsilon**2 * (bits * parameters * math.log(2) + math.log(2 / delta))


def eq_25(samples, bits, epsilon, delta, trials, rng):
    """Eq. 25 tried on the 2^bits functions of one parameter, in a hard case of the bound's proof.

    One function has error (1 - 1.02 epsilon) / 2, the others (1 + 1.02 epsilon) / 2, all independent. How
    often does the best on M `samples`, rounded up, err by more than the best of all + epsilon?
    """
    M, error = math.ceil(samples), (1 + 1.02 * epsilon) / 2
    best = rng.binomial(M, 1 - error, trials)
    others = rng.binomial(M, error, (trials, 2**bits - 1)).min(axis=1)
    share = (others <= best).mean()
    return {"M": M, "percent": 100 * share, "holds": bool(share <= delta)}


def eq_26(graph, V, rho, x, y):
    """{(p, q): (R, G)} and c, where R = G - c V_k is the left side of Eq. 26.

    R = sum_n e^{-rho y_n f_n} y_n (d f_n / d V_k - V_k f_n), with ||V_k||_F = 1 and f_n the output of the
    normalized network. R is what is left of G orthogonally to V_k.
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
    """V_k <- V_k + eta rho / B times the left side of Eq. 26 on a batch, normalized again; and the last V.

    Looked at in some forty steps. residual: the largest ||R|| / ||G|| over the edges and the batches of an
    epoch, 0 where Eq. 26 holds; rank: the average over V_k; margin: the least y_n f_n.
    """
    start = init_params(graph, numpy.random.default_rng(seed), dtype="float64", init="he")
    V = {e: unit(W) for e, W in start.items()}
    history = {name: [] for name in ("step", "residual", "rank", "margin")}
    marks = log_spaced(steps * B // len(x), 40)
    for start, end in zip([0, *marks], marks):
        for epoch in range(start, end):
            for rows in batches(len(x), B, seed, epoch):
                found, _ = eq_26(graph, V, rho, x[rows], y[rows])
                V = {e: unit(W + eta * rho / B * found[e][0]) for e, W in V.items()}
        ratios = []
        for rows in batches(len(x), B, seed, end):
            found, _ = eq_26(graph, V, rho, x[rows], y[rows])
            ratios += [numpy.linalg.norm(R) / nonzero(numpy.linalg.norm(G)) for R, G in found.values()]
        history["step"].append(end * (len(x) // B))
        history["residual"].append(max(ratios))
        history["rank"].append(numpy.mean([rank(W) for W in V.values()]))
        history["margin"].append((y * forward(graph, V, x).v[graph.L]).min())
    return {name: numpy.array(values) for name, values in history.items()}, V


def stationary(history):
    """Whether training reached a point where Eq. 26 holds, its residual there, and the lowest before."""
    residual = history["residual"]
    return {"residual": residual[-1], "lowest": residual.min(), "holds": bool(residual[-1] < STATIONARY)}


def appendix_e(graph, V, rho, x, y, B, samples, rng):
    """Eq. 26 and the rank constraint that it implies: on any B samples, V_k is within ||R|| / |c| of rank B.

    left (E_T,): the distance in the Frobenius norm; right (E_T,): the least over `samples` random batches. R
    is the slope of the loss of rho f as V_k turns (a complex step): `error` is relative to ||G||. `beyond`:
    sigma_{B+1} / sigma_1 of G and its terms. `gradient_holds`: R and G are what they should be.
    """
    rows = rng.choice(len(x), B, replace=False)
    _, df = exponential(rho * forward(graph, V, x[rows]).v[graph.L], y[rows])
    beyond = lemma_2(graph, V, x[rows], rng, beta=df)["beyond"]
    errors, left, right = [], [], []
    for e, W in V.items():
        left.append(distance_to_rank(W, B, "frobenius"))
        bounds = []
        for _ in range(samples):
            rows = rng.choice(len(x), B, replace=False)
            found, c = eq_26(graph, V, rho, x[rows], y[rows])
            R, G = found[e]
            D = unit(rng.normal(size=W.shape))
            turned = V | {e: unit(W + STEP * 1j * D)}
            loss, _ = exponential(rho * forward(graph, turned, x[rows]).v[graph.L], y[rows])
            slope = -rho / B * (R * D).sum()
            errors.append(abs(loss.imag / STEP - slope) / nonzero(rho / B * numpy.linalg.norm(G)))
            if c:  # else every f_n is 0, and Eq. 26 says nothing about V
                bounds.append(numpy.linalg.norm(R) / abs(c))
        right.append(min(bounds, default=numpy.inf))
    left, right = numpy.array(left), numpy.array(right)
    constraint_holds = (left <= right * (1 + TOLERANCE)).all()
    gradient_holds = max(errors) < TOLERANCE and beyond < TOLERANCE
    return {
        "left": left,
        "right": right,
        "error": max(errors),
        "beyond": beyond,
        "constraint_holds": bool(constraint_holds),
        "gradient_holds": bool(gradient_holds),
        "holds": bool(constraint_holds and gradient_holds),
    }


def measure_appendix_d(size, folder):
    """Appendix D: Eq. 25 on networks of one parameter, and what it asks of the paper's."""
    bits, epsilon, delta = 8, 0.1, 0.05
    rng = numpy.random.default_rng(0)
    bound = sample_bound(1, bits, epsilon, delta)
    found = eq_25(bound, bits, epsilon, delta, 2000, rng)
    fewer = eq_25(bound / 4, bits, epsilon, delta, 2000, rng)
    graph = parse("MLP-5-500", 3072, 10)
    parameters = sum(graph.width(p) * graph.width(q) for p, q in graph.E_T)
    numbers = found | {"fewer": fewer, "asked": sample_bound(parameters, 32, epsilon, delta)}
    return [ENOUGH.judged(numbers, f"256 functions with independent errors, ε = {epsilon}")], None


def measure_appendix_e(size, folder):
    """Appendix E: the residual of Eq. 26 and the rank of the normalized matrices."""
    title, classes = next(iter(CLASSES.items()))
    x, y = binary(size.mnist, folder, classes)
    graph = mlp(x.shape[1], 2, 16, 1)
    steps = size.steps // 2
    verdicts, columns, learned = [], {}, {}
    for rho in (10, 100):
        problem = (
            f"MLP-2-16, {LABELS[size.mnist]}, {title}, m = {SAMPLES}, exponential loss, "
            f"ρ = {rho}, {steps} steps"
        )
        columns[rho], learned[rho] = {}, {}
        for label, B in {"GD (B = m)": SAMPLES, f"SGD (B = {SMALL})": SMALL}.items():
            history, V = normalized_descent(graph, x, y, B, 1 / rho, rho, steps)
            end = {"rank": [rank(W) for W in V.values()], "margin": history["margin"][-1]}
            found = appendix_e(graph, V, rho, x, y, 1, 20, numpy.random.default_rng(0))
            verdicts.append(REACHED.judged(stationary(history) | end, f"{problem}, {label}"))
            verdicts.append(CONSTRAINT.judged(found, f"{problem}, {label}"))
            columns[rho][label] = history
            learned[rho][label] = bool(evaluate(graph, V, x, y, "exponential")[1] > CHANCE)
    return verdicts, {"classes": title, "columns": columns, "learned": learned}
