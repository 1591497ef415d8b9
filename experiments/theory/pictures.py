"""Pictures of what the chapters measured: numbers in, what plots.histories draws out."""

from typing import NamedTuple

from .. import plots

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
