"""MNIST and CIFAR-10 as arrays, normalized; synthetic data of the same shapes."""

from typing import NamedTuple

import numpy

from .facts import FACTS
from .fetch import find_or_fetch
from .verify import contents


class Dataset(NamedTuple):
    """x (m, n) float32, normalized; y (m, 10) float32, one-hot."""

    x_train: numpy.ndarray
    y_train: numpy.ndarray
    x_test: numpy.ndarray
    y_test: numpy.ndarray
    name: str


def load_dataset(name, root=None):
    """The Dataset "mnist", "cifar10", "synthetic-mnist" or "synthetic-cifar10".

    Real files are looked for in `root` alone, or without it in $MINIGRAD_DATA and ./data, and verified. What
    is missing is downloaded to the first of these; DataError if that fails.
    """
    paths = find_or_fetch(name, root)
    if not paths:
        return _synthetic(name)
    parts = contents(name, paths)
    facts = FACTS[name]
    if name == "mnist":  # IDX: images and labels after headers of 16 and 8 bytes
        images = [part[16:] for part in parts[::2]]
        labels = [part[8:] for part in parts[1::2]]
    else:  # a label and three channels a row
        rows = [part.reshape(-1, 1 + facts.inputs) for part in parts]
        images = [part[:, 1:] for part in rows]
        labels = [part[:, 0] for part in rows]
        del rows
    y_train, y_test = _one_hot(labels[:-1]), _one_hot(labels[-1:])
    del parts, labels  # now the bytes of a file can go as soon as it is normalized
    x_test = _normalized([images.pop()], facts)
    return Dataset(_normalized(images, facts), y_train, x_test, y_test, name)


def _one_hot(labels):
    """[(m,) uint8, ...] -> (m, 10) float32."""
    return numpy.eye(10, dtype="float32")[numpy.concatenate(labels)]


def _normalized(images, facts):
    """[uint8, ...], which is emptied, -> (m, n) float32: (pixels / 255 - mean) / deviation, by channel."""
    mean, deviation = (numpy.array(values, "float32")[:, None] for values in (facts.mean, facts.deviation))
    m = sum(part.size for part in images) // facts.inputs
    x = numpy.empty((m, len(mean), facts.inputs // len(mean)), "float32")
    start = 0
    while images:
        part = images.pop(0).reshape(-1, *x.shape[1:])
        x[start : start + len(part)] = part
        start += len(part)
    x *= 1 / (255 * deviation)
    x -= mean / deviation
    return x.reshape(m, -1)


def _synthetic(name):
    """A stand-in: Gaussians around 100 orthogonal directions of a latent space and their negatives.

    A class has ten of these pairs and so mean zero, so no linear map tells classes apart. The covariance has
    eigenvalues 1/i, i <= 100, like natural images, and no others. 2,000 test samples.
    """
    n, r = FACTS[name].inputs, 100
    rng = numpy.random.default_rng(0)
    directions = r**0.5 * numpy.linalg.qr(rng.normal(size=(r, r)))[0]
    basis = numpy.linalg.qr(rng.normal(size=(n, r)))[0].T * numpy.arange(1, r + 1)[:, None] ** -0.5

    def draw(m):
        sign, which = numpy.divmod(rng.permutation(numpy.arange(m) % (2 * r)), r)
        latent = (2 * sign - 1)[:, None] * directions[which] + 0.5 * rng.normal(size=(m, r))
        return latent @ basis, numpy.eye(10, dtype="float32")[which % 10]

    x_train, y_train = draw(FACTS[name].samples)
    x_test, y_test = draw(2_000)
    mean, deviation = x_train.mean(), x_train.std()
    x_train, x_test = (((x - mean) / deviation).astype("float32") for x in (x_train, x_test))
    return Dataset(x_train, y_train, x_test, y_test, name)
