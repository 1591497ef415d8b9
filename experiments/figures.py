"""The paper's figures and our own as rows of a table."""

from dataclasses import dataclass, field, fields, replace

from . import presets
from .layout import EPOCH, Axis, Row
from .looks import Key, Look
from .runs import Run

LAMBDAS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
BATCHES = (4, 8, 16, 32, 64, 128)
ETAS = (0.001, 0.01, 0.1)
WIDE_ETAS = (0.0125, 0.025, 0.05, 0.1)
READINGS = {  # of Eq. 5's batch norm
    "memo": {},
    "true": {"detached": False},
    "per-unit": {"scalar": False},
    "standard": {"detached": False, "scalar": False},
}


class Times(float):
    """What a field's own value is multiplied by."""


CELLS = {  # of the control: is it the batch size, or the number of steps and with it the decay budget E?
    "a": {"B": 128},
    "b": {"B": 16, "steps_of_B": 128},  # as many steps as a, and the same E
    "c": {"B": 16},
    "d": {"B": 16, "eta": Times(1 / 8)},  # linear scaling: a's eta / B, and its E
    "e": {"B": 16, "lam": Times(1 / 8)},  # a's E by lambda alone
}
# The colour says B and E, the dashes how many steps. Every cell has its marker, by which it is known in grey.
CELL_LOOKS = {
    "a": Look(colour=0, dash=0, marker=0),
    "b": Look(colour=1, dash=0, marker=1),
    "c": Look(colour=4, dash=1, marker=2),
    "d": Look(colour=1, dash=1, marker=3),
    "e": Look(colour=1, dash=1, marker=4),
}
CELL_KEYS = (
    (
        Key("B = 128", Look(colour=0)),
        Key("B = 16 with a's decay budget E", Look(colour=1)),
        Key("B = 16 with 8 times a's E", Look(colour=4)),
    ),
    (Key("as many steps as a", Look(dash=0)), Key("8 times as many steps", Look(dash=1))),
)
TAILS = {  # does W go on moving: how training goes on from the last W
    "sgd": {},
    "sgd-step": {"tail_steps": 1},
    "gd": {"tail_gd": True},
}


@dataclass(frozen=True)
class Figure:
    """What the paper ran for one figure, the axes that make its columns and lines, its rows, its presets."""

    title: str
    base: Run
    axes: dict  # axis -> the values that the figure varies, or {value: the fields of Run that it stands for}
    columns: tuple
    line: str
    rows: tuple
    presets: dict
    x: Axis = EPOCH
    looks: dict = field(default_factory=dict)  # of lines that don't take theirs in turn, by the line's value
    keys: tuple = ()  # what sides of these looks mean: rows of the legend
    below: bool = False  # whether the values of the first of `columns` lie below each other


TRAINING = (
    Row("rank", "average rank", floor=0),
    Row("train_accuracy", "train accuracy (%)", floor=0, ceiling=103),
    Row("test_accuracy", "test accuracy (%)", floor=0, ceiling=103),
)
LAYERS = (Row("layer_rank", "rank", floor=0),)
# The last epoch's ranks against the layer's index. The output layer has 10 units: it is no bottleneck.
LAYER = Axis("layer", "layer (out: rank ≤ 10)", kind="places", apart="out")
BASE = Run(measure_every=5)

FIGURES = {
    "fig1": Figure(
        title="Figure 1: convergence of {network} trained with SGD",
        base=replace(BASE, network="MLP-5-2000", momentum=0.0, milestones=(), epochs=2000),
        axes={
            "dataset": ("mnist", "cifar10"),
            "loss": ("cross_entropy", "mean_squared_error"),
            "lam": LAMBDAS,
        },
        columns=("dataset", "loss"),
        line="lam",
        rows=(
            Row("distance", "(a) $d(W_{t+1}, W_t)$", log=True, floor=1e-6),
            Row("train_accuracy", "(b) train accuracy (%)", floor=0, ceiling=103),
            Row("train_loss", "(c) train loss", log=True),
            Row("rank", "(d) average rank", floor=0),
        ),
        presets=presets.CONVERGENCE,
    ),
    "fig2": Figure(
        title="Figure 2{norm}: rank of {network} trained on {dataset} with varying batch sizes",
        base=BASE,
        axes={"eta": ETAS, "B": BATCHES},
        columns=("eta",),
        line="B",
        rows=TRAINING,
        presets=presets.PREFIXES,
    ),
    "fig3": Figure(
        title="Figure 3{norm}: rank of {network} trained on {dataset} with varying weight decay",
        base=BASE,
        axes={"B": BATCHES[2:], "lam": (0.0, 1e-4, 2e-4, 4e-4, 8e-4, 6e-3)},
        columns=("B",),
        line="lam",
        rows=TRAINING,
        presets=presets.PREFIXES,
    ),
    "fig4": Figure(
        title="Figure 4{norm}: rank of {network} trained on {dataset} with varying batch sizes",
        base=replace(BASE, network="RES-BN-5-500"),
        axes={"eta": ETAS, "B": BATCHES},
        columns=("eta",),
        line="B",
        rows=TRAINING,
        presets=presets.NARROW,
    ),
    "fig5": Figure(
        title="Figure 5{norm}: rank of {network} trained on {dataset} with varying batch sizes",
        base=replace(BASE, network="MLP-5-500"),
        axes={"eta": ETAS, "B": BATCHES},
        columns=("eta",),
        line="B",
        rows=TRAINING,
        presets=presets.NARROW,
    ),
    "fig6": Figure(
        title="Figure 6{norm}: ranks across the layers of {network} trained on {dataset}",
        base=BASE,
        axes={"eta": WIDE_ETAS, "B": BATCHES[3:]},
        columns=("eta",),
        line="B",
        rows=LAYERS,
        presets=presets.PREFIXES,
        x=LAYER,
    ),
    "fig7": Figure(
        title="Figure 7{norm}: ranks across the layers of {network} trained on {dataset}",
        base=replace(BASE, network="RES-BN-5-500"),
        axes={"eta": WIDE_ETAS, "B": BATCHES[3:]},
        columns=("eta",),
        line="B",
        rows=LAYERS,
        presets=presets.NARROW,
        x=LAYER,
    ),
}


def _twin(figure, reading):
    """The same figure under another reading of batch norm."""
    return replace(figure, base=replace(figure.base, **READINGS[reading]))


NORMALIZED = [name for name, figure in FIGURES.items() if figure.base.normalized()]
for twin in ("true", "standard"):
    FIGURES |= {f"{name}-{twin}": _twin(FIGURES[name], twin) for name in NORMALIZED}
FIGURES |= {
    "norms": Figure(
        title="Four readings of batch norm: rank of {network} trained on {dataset}, η\u00a0=\u00a0{eta}",
        base=replace(BASE, eta=0.01),
        axes={"reading": READINGS, "B": BATCHES},
        columns=("reading",),
        line="B",
        rows=TRAINING[:2],
        presets=presets.PREFIXES,
    ),
    "control": Figure(
        title="The control, with the true gradient of batch norm: batch size, or steps and decay budget? "
        "On {dataset}, η\u00a0=\u00a0{eta}",
        base=replace(BASE, eta=0.03),
        axes={
            "network": {"MLP-BN-10-100": READINGS["true"], "MLP-5-500": {"network": "MLP-5-500"}},
            "cell": CELLS,
        },
        columns=("network",),
        line="cell",
        rows=TRAINING[:2],
        presets=presets.WHOLE,
        looks=CELL_LOOKS,
        keys=CELL_KEYS,
    ),
    # The control's network and cell a's number of steps: an epoch has those of B = 128, whatever B.
    "descent": Figure(
        title="Does gradient descent lower the rank? {network} trained on "
        "m\u00a0=\u00a0{m} images of {dataset}{norm}, η\u00a0=\u00a0{eta}",
        base=replace(
            BASE,
            m=5000,
            eta=0.03,
            epochs=5000,
            milestones=(600, 1000, 2000),
            steps_of_B=128,
            measure_every=50,
            **READINGS["true"],
        ),
        axes={"B": (16, 128, 5000)},
        columns=(),
        line="B",
        rows=TRAINING[:2],
        presets=presets.DESCENT,
    ),
    # At night a step of gradient descent takes 7 GiB: where there is less for each core, fewer --jobs.
    "moving": Figure(
        title="Does W go on moving? {network} of Figure 1 in {tail} more epochs, trained in three ways",
        base=replace(FIGURES["fig1"].base, epochs=2100, tail_epochs=100),
        axes=FIGURES["fig1"].axes | {"lam": LAMBDAS[1:], "tail": TAILS},
        columns=("lam", "dataset", "loss"),
        line="tail",
        rows=(Row("distance", "$d(W_{t+1}, W_t)$", log=True),),
        presets=presets.MOVING,
        x=Axis("epoch", "more epochs"),
        below=True,
    ),
}
AXES = dict.fromkeys(axis for figure in FIGURES.values() for axis in figure.axes)
POINTS = [axis for axis in AXES if axis not in {f.name for f in fields(Run)}]
