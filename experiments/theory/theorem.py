"""Theorem 1 along training: the distance of W to rank B* and its bound by the gradient."""

from dataclasses import replace

import numpy

from minigrad.losses import LOSSES
from minigrad.measures import distance_to_rank, theorem1_bound
from minigrad.network import backward, forward, gradients, init_params
from minigrad.optim import step_decay
from minigrad.train import batches, evaluate, train_epoch

from .. import plots, samples
from ..captions import LABELS, written
from ..runs import Run
from ..verdicts import Check
from .lemmas import STEP, lemma_2
from .pictures import BEGUN, Picture, line
from .sizes import TOLERANCE, log_spaced

NORMS = ("spectral", "frobenius")
TWICE_CHANCE = 0.2  # train accuracy
# 640 images and 160 times the paper's lambda: the decay budget of the paper's 500 epochs in 9600 steps.
SETTING = Run(
    m=640, m_test=1000, B=16, eta=0.01, lam=0.08091553261007663, milestones=(29, 48, 96), epochs=240, measure_every=10
)
def theorem_1(graph, params, x, y, loss, lam, ranks, samples, rng):
    """Both sides of Eq. 10 at W, in both norms: left and right (norms, E_T, ranks), and the error of Eq. 18, the equality.

    The right side is the least over `samples` random batches: not less than the least over all of them, so it stays a
    bound. Eq. 18: 2 lambda (W - U_S), from the factors, is the gradient of L_S^lambda, so that its products with directions
    are slopes (complex steps); tried along itself, where the slope is its length, and along a random one.
    informative (norms, ranks): the share of E_T where the right side is below ||W||, `size`, which bounds the left side anyway.
    """
    weights = {e: params[e] for e in graph.E_T}
    left = numpy.array([[[distance_to_rank(W, r, norm) for r in ranks] for W in weights.values()] for norm in NORMS])
    right, errors = numpy.full(left.shape, numpy.inf), []
    for place, B in enumerate(ranks):
        for sample in range(samples):
            rows = rng.choice(len(x), B, replace=False)
            cache = forward(graph, params, x[rows])
            _, df = LOSSES[loss](cache.v[graph.L], y[rows])
            grads = gradients(graph, cache, *backward(graph, params, cache, df))
            for number, (e, W) in enumerate(weights.items()):
                for norm, bounds in zip(NORMS, right):
                    bounds[number, place] = min(bounds[number, place], theorem1_bound(grads[e] + 2 * lam * W, lam, norm))
                if sample == 0:
                    gap = W + grads[e] / (2 * lam)  # W - U_S
                    length = numpy.linalg.norm(gap)
                    for D in (gap, rng.normal(size=W.shape)):
                        D = D / numpy.linalg.norm(D)
                        shifted = params | {e: W + STEP * 1j * D}
                        value, _ = LOSSES[loss](forward(graph, shifted, x[rows], A=cache.A).v[graph.L], y[rows])
                        slope = (value + lam * (shifted[e] ** 2).sum()).imag / STEP
                        errors.append(abs(slope / (2 * lam) - (gap * D).sum()) / length)
    size = numpy.array([[distance_to_rank(W, 0, norm) for W in weights.values()] for norm in NORMS])
    return {
        "left": left, "right": right, "size": size, "informative": (right < size[..., None]).mean(axis=1), "error": max(errors),
        "bound_holds": bool((left <= right * (1 + TOLERANCE)).all()), "equality_holds": bool(max(errors) < TOLERANCE),
    }


def rank_of_U_S(graph, params, x, y, loss, ranks, rng):
    """sigma_{B*+1} / sigma_1 of U_S in Eq. 18 and its terms, the most over E_T and `ranks`, a random batch each; no factors."""
    beyond = []
    for B in ranks:
        rows = rng.choice(len(x), B, replace=False)
        _, df = LOSSES[loss](forward(graph, params, x[rows]).v[graph.L], y[rows])
        beyond.append(lemma_2(graph, params, x[rows], rng, beta=df)["beyond"])
    return {"beyond": max(beyond), "holds": bool(max(beyond) < TOLERANCE)}


def report_theorem_1(size, folder):
    """Theorem 1 and Eq. 18 along training with the networks of Figures 2 and 4, at B = 16, eta = 0.01."""
    checks, columns = [], []
    for network in (f"MLP-BN-10-{size.width}", f"RES-BN-5-{size.width}"):
        run = replace(SETTING, network=network, dataset=size.cifar10, epochs=size.theorem_epochs)
        x, y, _, _ = samples.load(run.dataset, folder, run.m, run.m_test)
        graph = run.graph()
        params = init_params(graph, numpy.random.default_rng(0))
        velocity = {name: numpy.zeros_like(W) for name, W in params.items()}
        marks, found = log_spaced(run.epochs + 1, 8) - 1, []
        x64, y64 = x.astype("float64"), y.astype("float64")
        for mark, end in zip(marks, [*marks[1:], 0]):
            exact = {name: W.astype("float64") for name, W in params.items()}
            found.append(theorem_1(graph, exact, x64, y64, run.loss, run.lam, size.ranks, 6, numpy.random.default_rng(mark)))
            for epoch in range(mark, end):
                eta = step_decay(run.eta, epoch, run.milestones, run.factor)
                train_epoch(graph, params, velocity, x, y, batches(run.m, run.B, 0, epoch), run.loss, eta, run.lam, run.momentum)
        low = rank_of_U_S(graph, exact, x64, y64, run.loss, size.ranks[:2], numpy.random.default_rng(0))
        left, right, sizes, informative = (numpy.array([f[key] for f in found]) for key in ("left", "right", "size", "informative"))  # (marks, norms, E_T, ranks)
        ratio = right.mean(axis=2) / left.mean(axis=2)
        accuracy = float(evaluate(graph, params, x, y, run.loss)[1])
        setting = f"{run.network}, {LABELS[run.dataset]}, m = {run.m}, B = {run.B}, η = {run.eta}, λ = {written('lam', float(f'{run.lam:.2g}'))}, {run.epochs} epochs (train accuracy {100 * accuracy:.1f} %{', no more than twice chance' if accuracy <= TWICE_CHANCE else ''})"
        for norm, number in (("spectral", 0), ("Frobenius", 1)):
            tight = "; ".join(f"B* = {r}: {ratio[:, number, k].min():.2g} to {ratio[:, number, k].max():.2g}" for k, r in enumerate(size.ranks))
            checks.append(Check(f"W is as near to rank B* as Eq. 10 says, {norm} norm", "Theorem 1, Eq. 10", f"right over left side, means over W: {tight}; the right side is below ‖W‖ itself in "
                                f"{100 * informative[:, number].mean():.0f} % of the cases", setting, all(f["bound_holds"] for f in found)))
        checks.append(Check("Eq. 10 is ‖W − U_S‖ = ‖gradient‖ / 2λ for a U_S of rank at most B*", "Theorem 1, Eq. 18", f"relative error {max(f['error'] for f in found):.1e}; at the end of training σ₍B*+1₎/σ₁ of U_S "
                            f"is at most {low['beyond']:.1e}, B* = {' and '.join(map(str, size.ranks[:2]))}", setting, low["holds"] and all(f["equality_holds"] for f in found)))
        lines = []
        for k, r in enumerate(size.ranks):
            sides = {f"distance to rank {r}; in (c) the ratio": left, f"bound by batches of {r}": right}
            for side, (words, values) in enumerate(sides.items()):
                fields = {norm: values[:, number, :, k].mean(axis=1) for number, norm in enumerate(NORMS)} | ({} if side else {"ratio": ratio[:, 0, k]})
                lines.append(line(words, k + 1 + len(plots.COLOURS) * side, begun=marks + 1, **fields))  # both in one colour
        lines.append(line("‖W‖", 0, begun=marks + 1, **{norm: sizes[:, number].mean(axis=1) for number, norm in enumerate(NORMS)}))
        columns.append(plots.Column(f"{run.network}, B = {run.B}, η = {run.eta}, train accuracy {100 * accuracy:.0f} %", lines, BEGUN))
    reduced = " (reduced)" if size.preset == "quick" else ""
    equal = ", with the same decay budget in 500 epochs" if size.preset == "quick" else ""
    return checks, Picture(
        "theorem1", f"Theorem 1 along training: the distance of W to rank B* and its bound by the gradient{reduced}",
        f"{LABELS[run.dataset]}. Means over the trainable W; (c) is their ratio. m = {run.m}, {run.epochs} epochs, λ = {run.lam:.2g} (the paper's is 5e-4{equal}); the least gradient of 6 random batches of size B*, which keeps the bound valid. "
        "Training in float32, both sides in float64.",
        columns, [plots.Row("spectral", "(a) spectral norm", log=True), plots.Row("frobenius", "(b) Frobenius norm", log=True), plots.Row("ratio", "(c) bound / distance", log=True)], size.cifar10)
