"""Pictures of what the chapters measured: numbers in, what plots.histories draws out."""

from typing import NamedTuple

import numpy

from .. import captions, layout, plots
from ..captions import LABELS
from ..looks import Key, Look
from ..results import LEARNED
from .sizes import CHANCE, ETA, GONE, NORMS, SAMPLES, SMALL

STEPS = layout.Axis("step", "training step", base=10)
AGE = layout.Axis("age", "age s, in steps before the last", base=10)
BEGUN = layout.Axis("begun", "epoch that begins; at 1, nothing has been trained", base=10)
MATRIX = layout.Axis("matrix", "trainable W, counted from the input", kind="places")
BATCH = layout.Axis("B", "batch size B", base=2, kind="places")
WIDTH = layout.Axis("width", "width H", base=2, kind="places")
# Of Theorem 1: what is drawn is told by the dashes, B* by colour and marker. ‖W‖ has no B*.
DISTANCE, BOUND, RATIO = 0, 1, 4
SIZE = Look(colour=0, dash=3)
# Of Proposition 1: the colour says λ, dashes and marker say GD or SGD. In the order of its runs.
DESCENTS = (
    Look(colour=1, dash=0, marker=0),
    Look(colour=1, dash=1, marker=1),
    Look(colour=4, dash=0, marker=0),
    Look(colour=4, dash=1, marker=1),
)
LEAST = Look(colour=0, dash=3)
TEN, TWO = captions.grey(LEARNED), f"grey: not learned (no more than {100 * CHANCE:.0f} % right, by chance)"


class Picture(NamedTuple):
    """What plots.histories draws, its file's name after "theory-", and the data set it is about.

    If it has `keys`, these say what its lines are.
    """

    name: str
    title: str
    note: str
    columns: list
    rows: list
    data: str
    grey: str | None = None
    keys: tuple = ()


def line(label, style, learned=True, **history):
    """A line of a picture with one history."""
    return plots.Line(label, style, [{"diverged": False} | history], grey=not learned)


def lemma_1(size, numbers):
    labels = {
        "float64": "float64",
        "float32": "float32",
        "normalized": "float64, with batch norm: not the lemma's case",
    }
    columns = []
    for network, largest in numbers["largest"].items():
        lines = []
        for place, (case, label) in enumerate(labels.items()):
            matrix = numpy.arange(1, len(largest[case]) + 1)
            lines.append(line(label, place, matrix=matrix, ratio=largest[case]))
        columns.append(plots.Column(network, lines, MATRIX))
    samples, outputs = numbers["samples"], numbers["outputs"]
    return Picture(
        "lemma1",
        "Lemma 1: without batch norm, the gradient of every output for every sample has rank at most 1",
        f"σ₂/σ₁ of ∂f(x)/∂W, the largest of {samples * outputs} gradients ({samples} samples of "
        f"{LABELS[size.cifar10]}, {outputs} outputs), at initialization, for every trainable W "
        "from the input to the output. "
        "The gradients are slopes of f along random directions: they know nothing of factors.",
        columns,
        [layout.Row("ratio", "largest σ₂ / σ₁", log=True)],
        size.cifar10,
    )


def lemma_2(size, numbers):
    labels = {
        "normalized": "into normalized layers",
        "true": "into normalized layers, A not detached",
        "others": "into the other layers",
    }
    B, columns = numpy.array(size.batches), []
    for network, ranks in numbers["ranks"].items():
        lines = [line("bound of Lemma 2: B", 0, B=B, rank=B)]
        for place, (case, label) in enumerate(labels.items(), start=1):
            lines.append(line(label, place, B=B, rank=ranks[case]))
        columns.append(plots.Column(network, lines, BATCH))
    return Picture(
        "lemma2",
        "Lemma 2: with batch norm, the gradient of a batch has rank at most B, "
        "and B − 1 into a normalized layer",
        "The largest rank over the trainable W of Σ βⱼ ∂f(xⱼ)/∂W, a random β over samples and 10 outputs "
        f"(so at most 10 at the output), {LABELS[size.cifar10]}, at initialization. σ > 1e-10 σ₁ counts; "
        "gradients are slopes of f along random directions. Lines may coincide.",
        columns,
        [layout.Row("rank", "largest rank", floor=0)],
        size.cifar10,
    )


def theorem_1(size, numbers):
    columns = []
    for network, found in numbers["networks"].items():
        title = (
            f"{network}, B = {numbers['B']}, η = {numbers['eta']}, "
            f"train accuracy {100 * found['accuracy']:.0f} %"
        )
        columns.append(plots.Column(title, _both_sides(size, numbers["begun"], found), BEGUN))
    keys = (
        [Key(f"B* = {r}", _of_rank(k, None)) for k, r in enumerate(size.ranks)],
        [
            Key("distance of W to rank B*", Look(dash=DISTANCE)),
            Key("bound by batches of B*", Look(dash=BOUND)),
            Key("bound / distance", Look(dash=RATIO)),
            Key("‖W‖", SIZE),
        ],
    )
    quick = size.preset == "quick"
    reduced = " (reduced)" if quick else ""
    equal = ", with the same decay budget in 500 epochs" if quick else ""
    return Picture(
        "theorem1",
        f"Theorem 1 along training: the distance of W to rank B* and its bound by the gradient{reduced}",
        f"{LABELS[size.cifar10]}. Means over the trainable W; (c) is their ratio. m = {numbers['m']}, "
        f"{numbers['epochs']} epochs, λ = {numbers['lam']:.2g} (the paper's is 5e-4{equal}); "
        f"the least gradient of {size.random_batches} random batches of size B*, "
        "which keeps the bound valid. "
        "Training in float32, both sides in float64.",
        columns,
        [
            layout.Row("spectral", "(a) spectral norm", log=True),
            layout.Row("frobenius", "(b) Frobenius norm", log=True),
            layout.Row("ratio", "(c) bound / distance", log=True),
        ],
        size.cifar10,
        TEN,
        keys,
    )


def _of_rank(k, dash):
    """The look of what is about the rank number k."""
    return Look(colour=k + 1, dash=dash, marker=k + 1)


def _both_sides(size, begun, found):
    """Three lines for each rank, the third in (c), and the norm of W."""
    learned, lines = found["accuracy"] >= LEARNED / 100, []
    for k, r in enumerate(size.ranks):
        for dash, label, drawn in (
            (DISTANCE, f"distance to rank {r}", _norms(found["left"][..., k])),
            (BOUND, f"bound by batches of {r}", _norms(found["right"][..., k])),
            (RATIO, f"bound / distance, B* = {r}", {"ratio": found["ratio"][:, 0, k]}),
        ):
            lines.append(line(label, _of_rank(k, dash), learned, begun=begun, **drawn))
    lines.append(line("‖W‖", SIZE, learned, begun=begun, **_norms(found["size"])))
    return lines


def _norms(values):
    """The means over the trainable W of values (W, norms, E_T), by norm."""
    return {norm: values[:, number].mean(axis=1) for number, norm in enumerate(NORMS)}


def window(size, numbers):
    columns = []
    for network, found in numbers["networks"].items():
        history, width = found["history"], found["width"]
        age, final = history["age"], numpy.full(len(history["age"]), found["final"])
        learned = found["accuracy"] >= LEARNED / 100
        lines = [
            line("what the last s steps wrote", 0, learned, age=age, rank=history["rank"]),
            line("W after the last step", 1, learned, age=age, rank=final),
            line(f"bound: sB, at most {width}", 2, age=age, rank=history["bound"]),
            line("what is older", 3, learned, age=age, rest=history["rest"]),
            line("exp(−E)", 4, age=age, rest=numpy.exp(-history["budget"])),
        ]
        columns.append(plots.Column(network, lines, AGE))
    return Picture(
        "window",
        "The moving window: of W after T steps, how much was written in the last s of them",
        f"{LABELS[size.mnist]}, m = {numbers['m']}, B = {numbers['B']}, η = {numbers['eta']}, "
        f"λ = {numbers['lam']}, momentum {numbers['momentum']}, W from hidden layer 2 to 3. "
        "SGD unrolled: W = decayed start + decayed gradients, each of rank at most B. "
        "The rank counts σ above 1e-4 ‖W‖. E = 2ηλs / (1 − momentum) is pure decay to first order.",
        columns,
        [layout.Row("rank", "(a) rank", floor=0), layout.Row("rest", "(b) norm / ‖W‖", log=True)],
        size.mnist,
        TEN,
    )


def lines_of(histories, learned, styles=None):
    """A line for each of {label: history}, in the order of the styles."""
    lines = []
    for label, style in zip(histories, styles or range(len(histories))):
        lines.append(line(label, style, learned[label], **histories[label]))
    return lines


def prop_1(size, numbers):
    """A column for every binary problem: four runs, and the bound that no W but 0 can get below."""
    columns = []
    for title, case in numbers.items():
        lines = lines_of(case["histories"], case["learned"], DESCENTS)
        step = lines[0].histories[0]["step"]
        c = numpy.full(len(step), case["c"])
        lines.append(line("no W ≠ 0 gets below this, whatever the loss", LEAST, step=step, residual=c))
        if case["on_kinks"]:
            title += "; at λ > 0, GD ends on ReLU kinks"
        columns.append(plots.Column(title, lines, STEPS))
    note = (
        f"MLP-2-16, {SAMPLES} samples of {LABELS[size.mnist]} as −1 and +1, squared loss, η = {ETA}, "
        "no momentum. gᵢ is the gradient of sample i's own regularized loss (Eq. 9): SGD has converged where "
        "all are 0, GD where their mean is. (b) has the input matrix, at λ > 0."
    )
    rows = [
        layout.Row("gradient", "(a) ‖gradient‖ of a batch", log=True, floor=1e-17),
        layout.Row("residual", "(b) max ‖gᵢ‖ / 2λ‖W‖", log=True),
    ]
    title = "Proposition 1: with weight decay, SGD converges to f ≡ 0 or not at all; gradient descent can"
    return Picture("prop1", title, note, columns, rows, size.mnist, TWO)


def prop_2(size, numbers):
    """max |l'_i| along training with two losses, and after training against the width."""
    lines = lines_of(numbers["histories"], numbers["learned"])
    slopes, trained = numbers["wide"]["slopes"], numbers["wide"]["trained"]
    widths = numpy.array(size.widths)
    shown = numpy.where(trained[:, None], slopes, numpy.nan)
    seeds = [{"diverged": False, "width": widths, "slope": shown[:, seed]} for seed in range(size.seeds)]
    by_width = plots.Line("logistic loss", 1, seeds)
    columns = [
        plots.Column("MLP-2-16", lines, STEPS),
        plots.Column(f"MLP-2-H after {numbers['steps']} steps", [by_width], WIDTH),
    ]
    absent = ""
    if not trained.all():
        without = ", ".join(map(str, widths[~trained]))
        absent = f", without H = {without}, where not every sample is right"
    note = (
        f"{LABELS[size.mnist]}, {numbers['classes']} as −1 and +1, m = {SAMPLES}, B = {SMALL}, η = {ETA}, "
        "no momentum; ℓ′ᵢ is the derivative of sample i's loss by f(xᵢ). "
        f"Right: mean and range of {size.seeds} seeds{absent}."
    )
    if numbers["wide"]["holds"] is None:
        note += " What is shown still falls: speeds, not limits."
    title = (
        "Proposition 2: without weight decay, SGD converges with the squared loss, "
        "and almost with the logistic loss"
    )
    rows = [layout.Row("slope", "max |ℓ′ᵢ|", log=True, floor=GONE)]
    return Picture("prop2", title, note, columns, rows, size.mnist, TWO)


def appendix_e(size, numbers):
    """The residual of Eq. 26 and the rank of V along training, a column for every rho."""
    columns = []
    for rho, histories in numbers["columns"].items():
        columns.append(plots.Column(f"ρ = {rho}", lines_of(histories, numbers["learned"][rho]), STEPS))
    note = (
        f"MLP-2-16, {LABELS[size.mnist]}, {numbers['classes']} as −1 and +1, m = {SAMPLES}. "
        "ρ is the product of the norms, held. The residual is the left side of Eq. 26 on a batch, "
        "relative to its first term, the largest over the matrices and the batches of an epoch."
    )
    rows = [
        layout.Row("residual", "(a) residual of Eq. 26", log=True),
        layout.Row("rank", "(b) average rank of V", floor=0),
    ]
    title = "Appendix E: does training reach Eq. 26 (exponential loss, normalized V), and lose rank?"
    return Picture("appendixE", title, note, columns, rows, size.mnist, TWO)
