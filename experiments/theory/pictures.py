"""Pictures of what the chapters measured: numbers in, what plots.histories draws out."""

from typing import NamedTuple

import numpy

from .. import plots
from ..captions import LABELS
from .sizes import ETA, GONE, SAMPLES, SMALL

STEPS = plots.Axis("step", "training step", base=10)
AGE = plots.Axis("age", "age s, in steps before the last", base=10)
BEGUN = plots.Axis("begun", "epoch that begins; at 1, nothing has been trained", base=10)
MATRIX = plots.Axis("matrix", "trainable W, counted from the input", kind="places")
BATCH = plots.Axis("B", "batch size B", base=2, kind="places")
WIDTH = plots.Axis("width", "width H", base=2, kind="places")


class Picture(NamedTuple):
    """What plots.histories draws, its file's name after "theory-", and the data set it is about."""

    name: str
    title: str
    note: str
    columns: list
    rows: list
    data: str


def line(label, style, **history):
    """A line of a picture with one history."""
    return plots.Line(label, style, [{"diverged": False} | history])


def lines_of(histories):
    """A line for each of {label: history}, in the order of the styles."""
    return [line(label, place, **history) for place, (label, history) in enumerate(histories.items())]


def prop_1(size, numbers):
    """A column for every binary problem: four runs, and the bound that no W but 0 can get below."""
    columns, kinks = [], ""
    for title, case in numbers.items():
        lines = lines_of(case["histories"])
        step = lines[0].histories[0]["step"]
        c = numpy.full(len(step), case["c"])
        lines.append(line("no W ≠ 0 gets below this, whatever the loss", len(lines), step=step, residual=c))
        columns.append(plots.Column(title, lines, STEPS))
        if case["on_kinks"]:
            kinks += (
                f" With {title}, gradient descent at λ > 0 ends on kinks of ReLU, where no gradient exists."
            )
    note = (
        f"MLP-2-16, {SAMPLES} samples of {LABELS[size.mnist]} as −1 and +1, squared loss, η = {ETA}, "
        "no momentum. gᵢ is the gradient of sample i's own regularized loss (Eq. 9): SGD has converged only "
        "where all are zero, gradient descent where their mean is. (b) has the input matrix, at λ > 0."
    )
    rows = [
        plots.Row("gradient", "(a) ‖gradient‖ of a batch", log=True, floor=1e-17),
        plots.Row("residual", "(b) max ‖gᵢ‖ / 2λ‖W‖", log=True),
    ]
    title = "Proposition 1: with weight decay, SGD converges to f ≡ 0 or not at all; gradient descent can"
    return Picture("prop1", title, note + kinks, columns, rows, size.mnist)


def prop_2(size, numbers):
    """max |l'_i| along training with two losses, and after training against the width."""
    lines = lines_of(numbers["histories"])
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
        absent = f"; without H = {without}, which are not trained: not every f(xᵢ) has the sign of yᵢ"
    note = (
        f"{LABELS[size.mnist]}, {numbers['classes']} as −1 and +1, m = {SAMPLES}, B = {SMALL}, η = {ETA}, "
        "no momentum; ℓ′ᵢ is the derivative of sample i's loss by f(xᵢ). "
        f"Right: mean and range over {size.seeds} seeds{absent}."
    )
    if numbers["wide"]["holds"] is None:
        note += " At each of these max |ℓ′ᵢ| still falls with the steps: this compares speeds, not limits."
    title = (
        "Proposition 2: without weight decay, SGD converges with the squared loss, "
        "and almost with the logistic loss"
    )
    rows = [plots.Row("slope", "max |ℓ′ᵢ|", log=True, floor=GONE)]
    return Picture("prop2", title, note, columns, rows, size.mnist)


def appendix_e(size, numbers):
    """The residual of Eq. 26 and the rank of V along training, a column for every rho."""
    columns = []
    for rho, histories in numbers["columns"].items():
        columns.append(plots.Column(f"ρ = {rho}", lines_of(histories), STEPS))
    note = (
        f"MLP-2-16, {LABELS[size.mnist]}, {numbers['classes']} as −1 and +1, m = {SAMPLES}. "
        "ρ is the product of the norms, held. The residual is the left side of Eq. 26 on a batch, "
        "relative to its first term, the largest over the matrices and the batches of an epoch."
    )
    rows = [
        plots.Row("residual", "(a) residual of Eq. 26", log=True),
        plots.Row("rank", "(b) average rank of V", floor=0),
    ]
    title = "Appendix E: does training reach Eq. 26 (exponential loss, normalized V), and lose rank?"
    return Picture("appendixE", title, note, columns, rows, size.mnist)
