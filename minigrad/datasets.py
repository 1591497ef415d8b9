"""MNIST and CIFAR-10 as arrays, normalized; synthetic data of the same shapes."""

import contextlib
import gzip
import hashlib
import io
import os
import stat
import tarfile
import textwrap
import threading
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy
from tqdm import tqdm

from .backend import product

DEADLINE = 20  # seconds in which the next BLOCK bytes must arrive, else a server is given up
BLOCK = 1 << 16
TRIES = 3  # downloads of one file, from its addresses in turn
ALLOW = "allow it, or name another folder"
SLACK = 1 << 20  # bytes by which a compressed file may be larger than its content


class DataError(Exception):
    """A data set can't be used; one sentence names the file or folder and says what to do."""


class DataUnavailable(DataError):
    """The data set was neither found nor could it be downloaded."""


class Dataset(NamedTuple):
    """x (m, n) float32, normalized; y (m, 10) float32, one-hot."""

    x_train: numpy.ndarray
    y_train: numpy.ndarray
    x_test: numpy.ndarray
    y_test: numpy.ndarray
    name: str


def idx_files(contents, n):
    """MNIST's format: images and labels in two files, after headers of 16 and 8 bytes."""
    images, labels = (numpy.frombuffer(content, "uint8") for content in contents)
    return images[16:].reshape(-1, n), labels[8:]


def labelled_rows(contents, n):
    """CIFAR-10's format: files of rows, each a label and n values, channel after channel."""
    rows = numpy.frombuffer(b"".join(contents), "uint8").reshape(-1, 1 + n)
    return rows[:, 1:], rows[:, 0]


class Source(NamedTuple):
    """One data set; files are {name: (SHA-256, bytes)}, uncompressed. Synthetic data has none."""

    title: str
    inputs: int
    samples: int  # for training
    form: str = "files"  # of the publisher, for messages
    mean: tuple = ()  # of the training images' values in [0, 1], per channel
    deviation: tuple = ()  # their standard deviation
    read: Callable = None  # (contents of `train` or `test`, n) -> images (m, n), labels (m,), uint8
    train: dict = {}
    test: dict = {}
    archive: dict = {}  # the .tar.gz of all files, unless each is published as a .gz
    urls: tuple = ()  # of folders, tried in this order
    folders: tuple = ()  # where else the files may be, below the folder that is searched

    @property
    def files(self):
        return self.train | self.test

    def __str__(self):
        return f"{self.title} ({self.form})"


def listed(lines):
    """{name: (SHA-256, bytes)} of files, one a line."""
    rows = [line.split() for line in lines.strip().splitlines()]
    return {name: (digest, int(size)) for digest, size, name in rows}


MNIST_TRAIN = """
ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db 47040016 train-images-idx3-ubyte
65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5 60008 train-labels-idx1-ubyte
"""
MNIST_TEST = """
0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7 7840016 t10k-images-idx3-ubyte
ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2 10008 t10k-labels-idx1-ubyte
"""
CIFAR10_TRAIN = """
cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5 30730000 data_batch_1.bin
a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed 30730000 data_batch_2.bin
bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67 30730000 data_batch_3.bin
014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48 30730000 data_batch_4.bin
755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add 30730000 data_batch_5.bin
"""
CIFAR10_TEST = """
8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b 30730000 test_batch.bin
"""
CIFAR10_ARCHIVE = """
c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd 170052171 cifar-10-binary.tar.gz
"""

# How to add a data set of ten classes: one entry here, and nothing else. `train` and `test` list
# files in the order in which `read` takes them, with the SHA-256 and size of their content.
# `read` is idx_files, labelled_rows, or a function of yours beside them. The key is then a value of
# `dataset` and the name of a folder in which files are looked for; `folders` has further ones.
DATASETS = {
    "mnist": Source(
        title="MNIST",
        inputs=784,
        samples=60_000,
        form="IDX files",
        mean=(0.1307,),
        deviation=(0.3081,),
        read=idx_files,
        train=listed(MNIST_TRAIN),
        test=listed(MNIST_TEST),
        urls=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        folders=("raw", "MNIST", "MNIST/raw"),
    ),
    "cifar10": Source(
        title="CIFAR-10",
        inputs=3072,
        samples=50_000,
        form="the binary version",
        mean=(0.49139968, 0.48215842, 0.4465309),
        deviation=(0.24703223, 0.24348512, 0.26158783),
        read=labelled_rows,
        train=listed(CIFAR10_TRAIN),
        test=listed(CIFAR10_TEST),
        archive=listed(CIFAR10_ARCHIVE),
        urls=("https://www.cs.toronto.edu/~kriz/",),
        folders=("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"),
    ),
    "synthetic-mnist": Source("synthetic MNIST", 784, 10_000),
    "synthetic-cifar10": Source("synthetic CIFAR-10", 3072, 10_000),
}


def load_dataset(name, root=None):
    """The Dataset of this name in DATASETS; DataError if a file has not the right SHA-256.

    Files are looked for in `root` alone, or without it in $MINIGRAD_DATA and ./data, and downloaded
    to the first of these if any is missing.
    """
    paths = find_or_fetch(name, root)
    source = DATASETS[name]
    if not source.files:
        return _synthetic(name)
    contents = _contents(source, paths)
    arrays = []
    for files in (source.train, source.test):
        images, labels = source.read([contents.pop(file) for file in files], source.inputs)
        arrays += [normalized(images, source), numpy.eye(10, dtype="float32")[labels]]
    return Dataset(*arrays, name)


def normalized(images, source):
    """uint8 (m, n) -> float32 (m, n): (value / 255 - mean) / deviation, per channel."""
    mean, deviation = (numpy.array(v, "float32")[:, None] for v in (source.mean, source.deviation))
    x = images.reshape(len(images), len(mean), -1).astype("float32")
    x *= 1 / (255 * deviation)
    x -= mean / deviation
    return x.reshape(images.shape)


def find_or_fetch(name, root=None):
    """{file: path} of what load_dataset reads, downloaded if need be; {} for synthetic data.

    ValueError for an unknown name, DataUnavailable if a file is missing and can't be downloaded,
    DataError if a folder can't be searched. Contents are verified by load_dataset.
    """
    if name not in DATASETS:
        raise ValueError(f"the data set must be one of {', '.join(DATASETS)}; got {name!r}")
    source = DATASETS[name]
    given = [root] if root else [os.environ.get("MINIGRAD_DATA"), "data"]
    roots = [Path(os.path.expanduser(folder)) for folder in given if folder]
    for folder in roots:
        paths = _find(name, folder)
        if len(paths) == len(source.files):
            return paths
    paths = _find(name, roots[0])
    target = roots[0] / name
    missing = [f"{file}.gz" for file in source.files if file not in paths]
    for packed in source.archive or missing:
        try:
            _fetch(source, packed, target)
        except OSError as error:
            raise DataUnavailable(
                f"{packed} of {source} is not in {' or '.join(map(str, roots))} and can't be "
                f"downloaded ({error}): try again, or put it into {target}"
            ) from None
    return _find(name, roots[0])


def _find(name, root):
    """{file: path} of the files below `root`, under the usual names; plain files come first."""
    if os.path.exists(root) and not os.path.isdir(root):
        raise DataError(f"{root} is no folder: name another folder")
    source, found = DATASETS[name], {}
    folders = [root / inner for inner in ("", name, *source.folders)]
    for file in source.files:
        dotted = file.replace("-idx", ".idx")
        names = [file, dotted, f"{file}/{file}", f"{file}/{dotted}"]
        names += [f"{inner}.gz" for inner in names] + list(source.archive)
        for path in [folder / inner for inner in names for folder in folders]:
            if file not in found and _is_file(path):
                found[file] = path
    return found


def _is_file(path):
    """Whether a file is there; DataError where that can't be seen, which Path.is_file may hide."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DataError(f"{path} can't be reached ({error}): {ALLOW}") from None


def _contents(source, paths):
    """{file: its verified bytes}."""
    contents = {}
    for file, path in paths.items():
        if path.name not in source.archive:
            contents[file] = _verified(source, file, path)
        elif file not in contents:
            archive = io.BytesIO(_verified(source, path.name, path))
            with tarfile.open(fileobj=archive) as tar:
                for member in filter(tarfile.TarInfo.isfile, tar):
                    contents[Path(member.name).name] = tar.extractfile(member).read()
    return contents


def _verified(source, file, path):
    """The bytes of an archive, or of a file, uncompressed; DataError if their SHA-256 is wrong."""
    expected, size = (source.files | source.archive)[file]
    try:
        with path.open("rb") as stream:
            content = stream.read(size + SLACK)
        if file in source.files and content.startswith(b"\x1f\x8b"):
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(size + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        content = b""
    except OSError as error:
        raise DataError(f"{path} can't be read ({error}): {ALLOW}") from None
    if hashlib.sha256(content).hexdigest() == expected:
        return content
    if len(content) < size:
        remedy = "mend it, or delete it to have it downloaded anew"
        raise DataError(f"{path} is a damaged {file} of {source}: {remedy}")
    # Fashion-MNIST, say, has the names and sizes of MNIST: nobody wants it deleted.
    raise DataError(f"{path} is {file} of another data set than {source}: name another folder")


def _fetch(source, packed, folder):
    """Download a .gz or an archive, which appears whole and verified; OSError says why not."""
    file = packed if packed in source.archive else packed.removesuffix(".gz")
    _, size = (source.files | source.archive)[file]
    partial = folder / f"{packed}.{os.getpid()}"
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    reasons = {}
    for base in (source.urls * TRIES)[:TRIES]:
        try:
            _download(base + packed, partial, size + SLACK)
            _verified(source, file, partial)
            os.replace(partial, folder / packed)
            return
        except DataError:
            reasons[base] = "it sends a damaged or another file"
        except OSError as error:
            reasons[base] = textwrap.shorten(str(error), 300)
        finally:
            partial.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a folder that isn't empty stays
        for parent in made:
            parent.rmdir()
    reason = "; ".join(f"{base + packed}: {reason}" for base, reason in reasons.items())
    raise OSError(reason or "no address is known")


def _download(url, path, largest):
    """Write up to `largest` bytes that `url` sends to `path`; OSError says what failed.

    urllib has no deadline for host names, redirects and headers, so a thread calls it. One that is
    given up ends with its next write, since the file is closed.
    """
    errors = []

    def receive():
        try:
            with (
                urllib.request.urlopen(url, timeout=DEADLINE) as answer,
                tqdm(total=answer.length, desc=path.stem, unit="B", unit_scale=True) as bar,
            ):
                for _ in range(0, largest, BLOCK):
                    block = answer.read(BLOCK)
                    if not block:
                        break
                    file.write(block)
                    bar.update(len(block))
        except Exception as error:  # many kinds: a malformed redirect or proxy is a ValueError
            errors.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=receive, daemon=True)
    with open(path, "wb") as file:
        thread.start()
        while thread.is_alive():
            before = file.tell()
            thread.join(DEADLINE)
            if thread.is_alive() and file.tell() == before:
                raise OSError(f"less than {BLOCK} bytes in {DEADLINE} seconds")
    if errors:
        raise OSError(errors[0])


def _synthetic(name):
    """Gaussians around 100 orthogonal directions of a latent space and their negatives.

    A class has ten of these pairs and so mean zero, so no linear map tells classes apart. The
    covariance has eigenvalues 1/i, i <= 100, like natural images, and no others.
    """
    n, r = DATASETS[name].inputs, 100
    rng = numpy.random.default_rng(0)
    directions = r**0.5 * numpy.linalg.qr(rng.normal(size=(r, r)))[0]
    basis = numpy.linalg.qr(rng.normal(size=(n, r)))[0].T * numpy.arange(1, r + 1)[:, None] ** -0.5

    def draw(m):
        sign, which = numpy.divmod(rng.permutation(numpy.arange(m) % (2 * r)), r)
        latent = (2 * sign - 1)[:, None] * directions[which] + 0.5 * rng.normal(size=(m, r))
        return product(latent, basis), numpy.eye(10, dtype="float32")[which % 10]

    x_train, y_train = draw(DATASETS[name].samples)
    x_test, y_test = draw(2_000)
    mean, deviation = x_train.mean(), x_train.std()
    x_train, x_test = (((x - mean) / deviation).astype("float32") for x in (x_train, x_test))
    return Dataset(x_train, y_train, x_test, y_test, name)
