"""MNIST and CIFAR-10 as arrays, normalized; synthetic data of the same shapes."""

import contextlib
import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import urllib.request
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy
from tqdm import tqdm

DEADLINE = 20  # seconds of silence after which a server is given up
TRIES = 3  # downloads of one file, from its addresses in turn


class DataError(Exception):
    """A data set can't be used; one sentence names the file or folder and says what to do."""


class DataUnavailable(DataError):
    """The data set was not found and could not be downloaded."""


class Dataset(NamedTuple):
    """x (m, n) float32, normalized; y (m, 10) float32, one-hot."""

    x_train: numpy.ndarray
    y_train: numpy.ndarray
    x_test: numpy.ndarray
    y_test: numpy.ndarray
    name: str


def idx_files(contents, n):
    """MNIST's format: files of images and of labels in turn, with headers of 16 and 8 bytes."""
    images = b"".join(content[16:] for content in contents[::2])
    labels = b"".join(content[8:] for content in contents[1::2])
    return numpy.frombuffer(images, "uint8").reshape(-1, n), numpy.frombuffer(labels, "uint8")


def labelled_rows(contents, n):
    """CIFAR-10's format: files of rows, each a label and n values, channel after channel."""
    rows = numpy.frombuffer(b"".join(contents), "uint8").reshape(-1, 1 + n)
    return rows[:, 1:], rows[:, 0]


class Source(NamedTuple):
    """One data set; synthetic data has no files. A file is given by its name and SHA-256."""

    title: str
    inputs: int
    samples: int  # for training; the others are for testing
    form: str = "files"  # what the publisher calls its format, for messages
    mean: tuple = ()  # of the training images' values in [0, 1], per channel
    deviation: tuple = ()  # their standard deviation
    read: object = None  # (contents of files, n) -> all images (m, n), labels (m,), uint8
    files: dict = {}  # uncompressed; those for training come first
    archive: dict = {}  # the .tar.gz of all files, unless each is published as a .gz
    urls: tuple = ()  # of folders, tried in this order
    folders: tuple = ()  # where else the files may be, below the folder that is searched


MNIST = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
CIFAR10 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}

# A data set of ten classes is one entry here and nothing else; `read` may be a function of yours.
# The key is then a value of `dataset` and the name of a folder in which files are looked for.
DATASETS = {
    "mnist": Source(
        "MNIST", 784, 60_000, "IDX files",
        mean=(0.1307,),
        deviation=(0.3081,),
        read=idx_files,
        files=MNIST,
        urls=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        folders=("raw", "MNIST", "MNIST/raw"),
    ),
    "cifar10": Source(
        "CIFAR-10", 3072, 50_000, "the binary version",
        mean=(0.49139968, 0.48215842, 0.4465309),
        deviation=(0.24703223, 0.24348512, 0.26158783),
        read=labelled_rows,
        files=CIFAR10,
        archive={
            "cifar-10-binary.tar.gz":
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        },
        urls=("https://www.cs.toronto.edu/~kriz/",),
        folders=("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"),
    ),
    "synthetic-mnist": Source("synthetic MNIST", 784, 10_000),
    "synthetic-cifar10": Source("synthetic CIFAR-10", 3072, 10_000),
}


def load_dataset(name, root=None):
    """The Dataset of this name in DATASETS; DataError if a file has a wrong SHA-256.

    Files are looked for in `root`, or in $MINIGRAD_DATA and ./data; the first takes downloads.
    """
    paths = find_or_fetch(name, root)
    source = DATASETS[name]
    if paths:
        images, labels = source.read(_contents(source, paths), source.inputs)
        x = normalized(images, source)
    else:
        x, labels = _synthetic(source)
    y = numpy.eye(10, dtype="float32")[labels]
    m = source.samples
    return Dataset(x[:m], y[:m], x[m:], y[m:], name)


def normalized(images, source):
    """uint8 (m, n) -> float32 (m, n): (value / 255 - mean) / deviation, per channel."""
    mean, deviation = (numpy.array(v, "float32")[:, None] for v in (source.mean, source.deviation))
    x = images.reshape(len(images), len(mean), -1).astype("float32")
    x *= 1 / (255 * deviation)
    x -= mean / deviation
    return x.reshape(images.shape)


def find_or_fetch(name, root=None):
    """{file: path} of what load_dataset reads, downloaded if need be; {} for synthetic data.

    ValueError for an unknown name, DataUnavailable if a file is missing and can't be downloaded.
    Contents are verified by load_dataset.
    """
    if name not in DATASETS:
        raise ValueError(f"the data set must be one of {', '.join(DATASETS)}; got {name!r}")
    source, paths = DATASETS[name], {}
    given = [root] if root else [os.environ.get("MINIGRAD_DATA"), "data"]
    roots = [Path(os.path.expanduser(folder)) for folder in given if folder]
    folders = ("", name, *source.folders)
    for file in source.files:
        dotted = file.replace("-idx", ".idx")
        names = [file, dotted, f"{file}/{file}", f"{file}/{dotted}"]  # plain files come first
        names += [f"{inner}.gz" for inner in names] + list(source.archive)
        usual = (root / folder / inner for root in roots for inner in names for folder in folders)
        found = next(filter(Path.is_file, usual), None)
        paths[file] = found or _fetch(source, file, roots[0] / name)
    return paths


def _contents(source, paths):
    """The verified bytes of every file, in the order of source.files."""
    contents = {}
    for file, path in paths.items():
        if path.name not in source.archive:
            contents[file] = _verified(source, file, path.read_bytes(), path)
        elif file not in contents:
            archive = _verified(source, path.name, path.read_bytes(), path)
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                for member in filter(tarfile.TarInfo.isfile, tar):
                    contents[Path(member.name).name] = tar.extractfile(member).read()
    return [contents[file] for file in source.files]


def _verified(source, file, content, origin):
    """The bytes of an archive, or of a file, uncompressed; DataError if their SHA-256 is wrong."""
    if file in source.files and content.startswith(b"\x1f\x8b"):
        # What can't be decompressed has a wrong SHA-256.
        with contextlib.suppress(gzip.BadGzipFile, EOFError, zlib.error):
            content = gzip.decompress(content)
    if hashlib.sha256(content).hexdigest() != (source.files | source.archive)[file]:
        # Fashion-MNIST, say, has the names and sizes of MNIST: nobody wants it deleted.
        what = f"damaged, or {file} of another data set than {source.title} ({source.form})"
        raise DataError(f"{origin} is {what}: move it away, or name another folder")
    return content


def _fetch(source, file, folder):
    """The path of a .gz or an archive, downloaded whole and verified; else DataUnavailable."""
    packed = next(iter(source.archive), f"{file}.gz")
    reason = "no address is known"
    if folder.parent.exists() and not folder.parent.is_dir():
        raise DataError(f"{folder.parent} is not a folder: name another folder")
    for url in [base + packed for base in source.urls * TRIES][:TRIES]:
        try:
            with (
                urllib.request.urlopen(url, timeout=DEADLINE) as answer,
                tqdm.wrapattr(answer, "read", total=answer.length, desc=url) as stream,
            ):
                content = b"".join(iter(lambda: stream.read(1 << 16), b""))
            _verified(source, packed if source.archive else file, content, url)
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as partial:
                Path(partial, packed).write_bytes(content)
                os.replace(Path(partial, packed), folder / packed)
            return folder / packed
        except DataError:
            reason = f"{url} sends a damaged or different file"
        except Exception as error:  # many kinds: a malformed redirect or proxy is a ValueError
            reason = f"{url}: {error!r:.300}"
    missing = f"{packed} of {source.title} ({source.form}) is missing and can't be downloaded"
    raise DataUnavailable(f"{missing} ({reason}): try again, or put it into {folder}")


def _synthetic(source):
    """Gaussians around 100 orthogonal directions of a latent space and their negatives.

    A class has ten of these pairs and so mean zero, so no linear map tells classes apart. The
    eigenvalues of the covariance fall like 1/i for i <= 100, as for natural images, then are 0.
    """
    n, r = source.inputs, 100
    rng = numpy.random.default_rng(0)
    directions = r**0.5 * numpy.linalg.qr(rng.normal(size=(r, r)))[0]
    basis = numpy.linalg.qr(rng.normal(size=(n, r)))[0].T * numpy.arange(1, r + 1)[:, None] ** -0.5

    def draw(m):
        sign, which = numpy.divmod(rng.permutation(numpy.arange(m) % (2 * r)), r)
        latent = (2 * sign - 1)[:, None] * directions[which] + 0.5 * rng.normal(size=(m, r))
        return latent @ basis, which % 10

    (train, labels), (test, test_labels) = draw(source.samples), draw(2_000)
    x = (numpy.concatenate([train, test]) - train.mean()) / train.std()
    return x.astype("float32"), numpy.concatenate([labels, test_labels])
