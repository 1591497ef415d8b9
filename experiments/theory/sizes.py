"""How large everything is that `make theory` tries, and on which data."""

import math
from dataclasses import dataclass, replace

import numpy

from ..samples import load

# Decides ranks in float64: rounding leaves singular values near 1e-15 of the largest.
TOLERANCE = 1e-10
STEP = 1e-20  # of the complex step: nothing is subtracted, so its square may be lost in rounding
NORMS = ("spectral", "frobenius")  # of Theorem 1
GONE = 1e-8  # of its first value: a gradient that has fallen this far goes to zero
SAMPLES = 40  # of the binary problems: few enough for GD to converge within ten thousand steps
SMALL = 4  # of them: the batch of SGD
ETA = 0.5  # learning rate of Section 3.1's runs
CHANCE = 0.5  # of them, the share that is right by chance: who gets no more right has not learned
CLASSES = {"digits 0 and 1": ((0,), (1,)), "even and odd digits": ((0, 2, 4, 6, 8), (1, 3, 5, 7, 9))}


@dataclass(frozen=True)
class Size:
    """How large everything is. The defaults are --preset quick; smoke only tries the program."""

    preset: str = "quick"
    mnist: str = "mnist"
    cifar10: str = "cifar10"
    wide: int = 500  # of Lemma 1's networks: the paper's
    width: int = 100
    batches: tuple = (2, 4, 8, 16)  # of Lemma 2
    steps: int = 10_000  # of Section 3.1's runs
    widths: tuple = (4, 8, 16, 32, 64, 128)
    seeds: int = 3
    ranks: tuple = (4, 16, 64)  # B* of Theorem 1
    theorem_epochs: int = 240  # of Theorem 1's runs
    random_batches: int = 400  # of which its right side is the least
    epochs: int = 50  # of the moving window
    samples: int = 640  # in it

    @property
    def datasets(self):
        """The data sets to find."""
        return self.mnist, self.cifar10

    @property
    def images(self):
        """As many as Lemma 2's largest batch takes, or a few more: the same number of every class."""
        return 10 * math.ceil(max(self.batches) / 10)

    def on(self, stand_ins):
        """The same with synthetic data in place of those in `stand_ins`."""
        return replace(self, **{name: f"synthetic-{name}" for name in stand_ins})


SIZES = {
    "quick": Size(),
    "smoke": Size(
        preset="smoke",
        mnist="synthetic-mnist",
        cifar10="synthetic-cifar10",
        wide=8,
        width=8,
        batches=(2, 3),
        steps=50,
        widths=(2, 4),
        seeds=1,
        ranks=(1, 2),
        theorem_epochs=2,
        random_batches=12,
        epochs=2,
        samples=40,
    ),
}


def data(name, folder, m):
    """The first m training samples of a data set, balanced, in float64: x (m, n), y (m, 10)."""
    x, y, _, _ = load(name, folder, m, 10)
    return x.astype("float64"), y.astype("float64")


def binary(name, folder, classes):
    """SAMPLES digits, the two `classes` as -1 and +1: x (m, n), centred, mean square length 1; y (m, 1)."""
    each = SAMPLES // sum(map(len, classes))
    x, y = data(name, folder, 10 * each)
    label = y.argmax(axis=1)
    rows = numpy.isin(label, classes[0] + classes[1])
    x = x[rows] - x[rows].mean(axis=0)
    length = (x**2).sum(axis=1).mean() ** 0.5
    y = numpy.where(numpy.isin(label[rows], classes[1]), 1.0, -1.0)
    return x / length, y[:, None]


def log_spaced(last, most):
    """At most `most` whole numbers from 1 to `last`, evenly spaced on a log axis."""
    return numpy.unique(numpy.geomspace(1, last, most).round().astype(int))
