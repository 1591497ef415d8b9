"""Theorem 1 along training: the distance of W to rank B* and its bound by the gradient."""

from dataclasses import replace

import numpy

from minigrad.backend import swap
from minigrad.losses import LOSSES
from minigrad.measures import distance_to_rank
from minigrad.network import backward, forward, gradients, init_params
from minigrad.optim import step_decay
from minigrad.train import batches, evaluate, train_epoch

from ..captions import LABELS, written
from ..runs import Run
from ..samples import load
from ..verdicts import Statement
from .lemmas import lemma_2, nonzero
from .normalized import NOTHING_SAID, ORTHOGONAL, judge_orthogonality, orthogonality
from .sizes import NORMS, STEP, TOLERANCE, log_spaced

TOGETHER = 10  # random batches whose gradients are computed side by side
TWICE_CHANCE = 0.2  # train accuracy
# 640 images and 160 times the paper's lambda: the decay budget of the paper's 500 epochs in 9600 steps.
SETTING = Run(
    m=640,
    m_test=1000,
    B=16,
    eta=0.01,
    lam=0.08091553261007663,
    milestones=(29, 48, 96),
    epochs=240,
    measure_every=10,
)

EQ_10 = {
    norm: Statement(
        "Theorem 1, Eq. 10",
        f"W is as near to rank B* as Eq. 10 says, {words}",
        "right side, the least of {batches} random batches, over left side, means over W: {ratios}; "
        "the right side is below ‖W‖ itself in {informative:.0f} % of the cases",
    )
    for norm, words in zip(NORMS, ("spectral norm", "Frobenius norm"))
}
EQ_18 = Statement(
    "Theorem 1, Eq. 18",
    "Eq. 10 is ‖W − U_S‖ = ‖gradient‖ / 2λ",
    "relative error {error:.1e}",
)
U_S = Statement(
    "Theorem 1, Eq. 18",
    "U_S has rank at most B*",
    "σ₍B*+1₎/σ₁ of U_S and its terms is at most {beyond:.1e} at the end of training, B* = {ranks}",
)


def distances(graph, params, ranks):
    """The left side of Eq. 10, (norms, E_T, ranks): how far every W is from each of the `ranks`."""
    found = numpy.empty((len(NORMS), len(graph.E_T), len(ranks)))
    for i, norm in enumerate(NORMS):
        for j, edge in enumerate(graph.E_T):
            for k, r in enumerate(ranks):
                found[i, j, k] = distance_to_rank(params[edge], r, norm)
    return found


def gaps(graph, params, x, y, loss, lam):
    """W - U_S of Eq. 18 on a batch x (..., B, n), edge by edge: the gradient of L_S^lambda over 2 lambda.

    Also A of Eq. 5 on the batch.
    """
    cache = forward(graph, params, x)
    _, df = LOSSES[loss](cache.v[graph.L], y)
    grads = gradients(graph, cache, *backward(graph, params, cache, df))
    return {e: params[e] + grads[e] / (2 * lam) for e in graph.E_T}, cache.A


def least_norms(M, known):
    """The least spectral and the least Frobenius norm (2,) among the M (N, d_p, d_q) and the `known` two.

    From M M^T: of the singular values, the largest is exact that way.
    """
    squares = M @ swap(M)
    frobenius = numpy.trace(squares, axis1=-2, axis2=-1)  # the sum of sigma^2
    # sigma_1^2 is at least the sum of sigma^4 over that of sigma^2, which tells most M without eigenvalues.
    at_least = (squares * squares).sum(axis=(-2, -1)) / nonzero(frobenius)
    candidates = squares[at_least < known[0] ** 2]
    spectral = numpy.linalg.eigvalsh(candidates)[:, -1]
    least = spectral.min(initial=numpy.inf), frobenius.min()
    return numpy.minimum(known, numpy.sqrt(least))


def least_bounds(graph, params, x, y, loss, lam, B, batches, rng):
    """The right side of Eq. 10 for every W, (norms, E_T): the least over random `batches` of size B.

    It is not less than the least over all batches, so it stays a bound.
    """
    least = numpy.full((len(NORMS), len(graph.E_T)), numpy.inf)
    for start in range(0, batches, TOGETHER):
        number = min(TOGETHER, batches - start)
        rows = numpy.array([rng.choice(len(x), B, replace=False) for _ in range(number)])
        found, _ = gaps(graph, params, x[rows], y[rows], loss, lam)
        for place, e in enumerate(graph.E_T):
            least[:, place] = least_norms(found[e], least[:, place])
    return least


def eq_18_errors(graph, params, x, y, loss, lam, B, rng):
    """Eq. 18 on a random batch: 2 lambda (W - U_S), from the factors, is the gradient of L_S^lambda, A held.

    So the products of W - U_S with directions are slopes (complex steps). Two relative errors for every W:
    along W - U_S itself, where the slope is its length, and along a random direction.
    """
    rows = rng.choice(len(x), B, replace=False)
    found, A = gaps(graph, params, x[rows], y[rows], loss, lam)
    errors = []
    for e, gap in found.items():
        length = numpy.linalg.norm(gap)
        for D in (gap, rng.normal(size=gap.shape)):
            D = D / numpy.linalg.norm(D)
            shifted = params | {e: params[e] + STEP * 1j * D}
            value, _ = LOSSES[loss](forward(graph, shifted, x[rows], A=A).v[graph.L], y[rows])
            slope = (value + lam * (shifted[e] ** 2).sum()).imag / STEP
            errors.append(abs(slope / (2 * lam) - (gap * D).sum()) / length)
    return errors


def theorem_1(graph, params, x, y, loss, lam, ranks, batches, rng):
    """Both sides of Eq. 10 at W, left and right (norms, E_T, ranks), and the error of Eq. 18, the equality.

    The right side is the least over random `batches` of every rank's size. It is informative where it is
    below ||W||, `size`, which bounds the left side anyway: (norms, ranks), the share of E_T.
    """
    left = distances(graph, params, ranks)
    size = distances(graph, params, (0,))[..., 0]
    right, errors = numpy.empty(left.shape), []
    for place, B in enumerate(ranks):
        right[..., place] = least_bounds(graph, params, x, y, loss, lam, B, batches, rng)
        errors += eq_18_errors(graph, params, x, y, loss, lam, B, rng)
    below = left <= right * (1 + TOLERANCE)
    # Where the gradient is zero, both are ||W||, and rounding would decide.
    informative = right < size[..., None] * (1 - TOLERANCE)
    return {
        "left": left,
        "right": right,
        "size": size,
        "informative": informative.mean(axis=1),
        "error": max(errors),
        "bound_holds": {norm: bool(holds.all()) for norm, holds in zip(NORMS, below)},
        "equality_holds": bool(max(errors) < TOLERANCE),
    }


def rank_of_U_S(graph, params, x, y, loss, ranks, rng):
    """sigma_{B*+1} / sigma_1 of U_S in Eq. 18 and its terms, without factors.

    The most over E_T and `ranks`, with a random batch each.
    """
    beyond = []
    for B in ranks:
        rows = rng.choice(len(x), B, replace=False)
        _, df = LOSSES[loss](forward(graph, params, x[rows]).v[graph.L], y[rows])
        beyond.append(lemma_2(graph, params, x[rows], rng, beta=df)["beyond"])
    return {"beyond": max(beyond), "holds": bool(max(beyond) < TOLERANCE)}


def along_training(found):
    """theorem_1's numbers at several W as arrays (W, norms, ...), with what the statements need of them.

    `ratio` (W, norms, ranks) is the right over the left side, means over E_T.
    """
    names = ("left", "right", "size", "informative")
    arrays = {name: numpy.array([result[name] for result in found]) for name in names}
    error = max(result["error"] for result in found)
    return arrays | {
        "ratio": arrays["right"].mean(axis=2) / arrays["left"].mean(axis=2),
        "bound_holds": {norm: all(result["bound_holds"][norm] for result in found) for norm in NORMS},
        "equality": {"error": error, "holds": all(result["equality_holds"] for result in found)},
    }


def trained(graph, run, x, y, marks):
    """Yields the parameters after each of the `marks`, rising epochs, as `run` trains them in place."""
    params = init_params(graph, numpy.random.default_rng(0))
    velocity = {name: numpy.zeros_like(W) for name, W in params.items()}
    epoch = 0
    for mark in marks:
        while epoch < mark:
            eta = step_decay(run.eta, epoch, run.milestones, run.factor)
            rows = batches(run.m, run.B, 0, epoch)
            train_epoch(graph, params, velocity, x, y, rows, run.loss, eta, run.lam, run.momentum)
            epoch += 1
        yield params


def measure_theorem_1(size, folder):
    """Theorem 1 and Eq. 18 along training with the networks of Figures 2 and 4, at B = 16, eta = 0.01."""
    run = replace(SETTING, dataset=size.cifar10, epochs=size.theorem_epochs)
    x, y, _, _ = load(run.dataset, folder, run.m, run.m_test)
    x64, y64 = x.astype("float64"), y.astype("float64")
    marks = log_spaced(run.epochs + 1, 8) - 1
    verdicts, networks = [], {}
    for network in (f"MLP-BN-10-{size.width}", f"RES-BN-5-{size.width}"):
        run = replace(run, network=network)
        graph, results, angles = run.graph(), [], []
        per_unit = [replace(run, detached=detached, scalar=False).graph() for detached in (False, True)]
        for mark, params in zip(marks, trained(graph, run, x, y, marks)):
            W = {name: value.astype("float64") for name, value in params.items()}
            rng = numpy.random.default_rng(mark)
            sides = theorem_1(graph, W, x64, y64, run.loss, run.lam, size.ranks, size.random_batches, rng)
            results.append(sides)
            angles.append(orthogonality(*per_unit, W, x64, y64, run.loss, size.ranks, TOGETHER, rng))
        found = along_training(results)
        low = rank_of_U_S(graph, W, x64, y64, run.loss, size.ranks[:2], numpy.random.default_rng(0))
        accuracy = float(evaluate(graph, params, x, y, run.loss)[1])
        verdicts += _judged(size, found, low, judge_orthogonality(angles), _setting(run, accuracy))
        drawn = {name: found[name] for name in ("left", "right", "size", "ratio")}
        networks[network] = drawn | {"accuracy": accuracy}
    settings = {name: getattr(run, name) for name in ("m", "B", "eta", "lam", "epochs")}
    return verdicts, settings | {"begun": marks + 1, "networks": networks}


def _judged(size, found, low, angle, setting):
    verdicts = []
    for number, norm in enumerate(NORMS):
        bound = {
            "batches": size.random_batches,
            "ratios": _ranges(found["ratio"][:, number], size.ranks),
            "informative": 100 * found["informative"][:, number].mean(),
            "holds": found["bound_holds"][norm],
        }
        verdicts.append(EQ_10[norm].judged(bound, setting))
    verdicts.append(EQ_18.judged(found["equality"], setting))
    verdicts.append(U_S.judged(low | {"ranks": " and ".join(map(str, size.ranks[:2]))}, setting))
    verdicts.append(ORTHOGONAL.judged(angle["cosine"], setting))
    verdicts.append(NOTHING_SAID.judged(angle["bound"] | {"batches": TOGETHER}, setting))
    return verdicts


def _setting(run, accuracy):
    lam = written("lam", float(f"{run.lam:.2g}"))
    learned = ", no more than twice chance" if accuracy <= TWICE_CHANCE else ""
    return (
        f"{run.network}, {LABELS[run.dataset]}, m = {run.m}, B = {run.B}, η = {run.eta}, λ = {lam}, "
        f"{run.epochs} epochs (train accuracy {100 * accuracy:.1f} %{learned})"
    )


def _ranges(ratio, ranks):
    """What ratio (W, ranks) came to, rank by rank, in words."""
    parts = []
    for r, values in zip(ranks, ratio.T):
        parts.append(f"B* = {r}: {values.min():.2g} to {values.max():.2g}")
    return "; ".join(parts)
