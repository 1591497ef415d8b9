"""MNIST and CIFAR-10, found or downloaded and verified by SHA-256; synthetic data of the same shapes. No pickle."""

import gzip
import hashlib
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy
from tqdm import tqdm

TIMEOUT = 10  # seconds without an answer
MNIST = {  # SHA-256 of the uncompressed files, and their bytes
    "train-images-idx3-ubyte": ("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016),
    "train-labels-idx1-ubyte": ("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008),
    "t10k-images-idx3-ubyte": ("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016),
    "t10k-labels-idx1-ubyte": ("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008),
}
CIFAR10 = {
    "data_batch_1.bin": ("cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5", 30_730_000),
    "data_batch_2.bin": ("a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed", 30_730_000),
    "data_batch_3.bin": ("bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67", 30_730_000),
    "data_batch_4.bin": ("014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48", 30_730_000),
    "data_batch_5.bin": ("755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add", 30_730_000),
    "test_batch.bin": ("8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b", 30_730_000),
}
URLS = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/",),
}


class DataError(Exception):
    """A data set can't be used; one sentence says which file, what was expected and what to do."""


class DataUnavailable(DataError):
    """The data set was neither found nor fetched."""


class Dataset(NamedTuple):
    """x (m, n) float32, normalized; y (m, 10) float32, one-hot."""

    x_train: numpy.ndarray
    y_train: numpy.ndarray
    x_test: numpy.ndarray
    y_test: numpy.ndarray
    name: str


def load_dataset(name, root=None):
    """The Dataset "mnist", "cifar10", "synthetic-mnist" or "synthetic-cifar10"; looks in `root`, $MINIGRAD_DATA, ./data.

    Real files are verified, and downloaded where there are none; DataError in one sentence if that fails.
    """
    if name.startswith("synthetic-") and name.removeprefix("synthetic-") in FILES:
        return _synthetic(name)
    files = _find(name, root) or _fetch(name, root)
    if name == "mnist":
        parts = [_content(name, files[file], file) for file in MNIST]
        images = [part[16:].reshape(-1, 784) for part in parts[::2]]
        labels = [part[8:] for part in parts[1::2]]
        mean, deviation = numpy.float32(0.1307), numpy.float32(0.3081)
    else:
        rows = [_content(name, files[file], file).reshape(-1, 3073) for file in CIFAR10]
        rows = [numpy.concatenate(rows[:5]), rows[5]]
        images = [part[:, 1:].reshape(-1, 3, 1024) for part in rows]
        labels = [part[:, 0] for part in rows]
        counts = numpy.stack([numpy.bincount(images[0][:, c].ravel(), minlength=256) for c in range(3)])
        share, pixel = counts / counts.sum(axis=1, keepdims=True), numpy.arange(256) / 255
        mean = (share * pixel).sum(axis=1)
        deviation = ((share * pixel**2).sum(axis=1) - mean**2) ** 0.5
        mean, deviation = (value.astype("float32")[:, None] for value in (mean, deviation))
    x_train, x_test = (_normalized(part, mean, deviation) for part in images)
    y_train, y_test = (numpy.eye(10, dtype="float32")[part] for part in labels)
    return Dataset(x_train, y_train, x_test, y_test, name)


def find_or_fetch(name, root=None):
    """Make sure that load_dataset will find `name`, downloading it if need be; DataUnavailable if it can't be had."""
    if not name.startswith("synthetic-") and not _find(name, root):
        _fetch(name, root)


def _folders(root):
    """Where to look, best first."""
    return [Path(folder) for folder in (root, os.environ.get("MINIGRAD_DATA"), "data") if folder]


def _find(name, root):
    """{file: path} of the first folder that holds any file of the data set; None where none does."""
    if name not in FILES:
        raise ValueError(f"the data set must be one of {', '.join(FILES)} or synthetic-{', synthetic-'.join(FILES)}, got {name!r}")
    for folder in _folders(root):
        for inner in (folder, folder / name, folder / FOLDER[name]):
            archive = inner / ARCHIVE
            if name == "cifar10" and archive.is_file() and not (inner / "test_batch.bin").is_file():
                return dict.fromkeys(FILES[name], archive)
            found = {file: path for file in FILES[name] for path in (inner / file, inner / f"{file}.gz") if path.is_file()}
            if found:
                for file in FILES[name]:
                    if file not in found:
                        raise DataError(f"{inner / file} is missing beside {len(found)} other files of {name}: add it, or move the others away to download all")
                return found
    return None


def _content(name, path, file):
    """The verified bytes of `file`, uint8, from a plain file, a gzip file or a member of CIFAR-10's archive."""
    expected, size = FILES[name][file]
    try:
        if path.name == ARCHIVE:
            with tarfile.open(path) as tar:
                data = tar.extractfile(f"{FOLDER[name]}/{file}").read(size + 1)
        else:
            with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
                data = stream.read(size + 1)
    except (OSError, EOFError, KeyError, AttributeError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{path} can't be read as {file} ({error}): delete it to have it downloaded anew") from None
    if len(data) != size:
        found = f"more than {size}" if len(data) > size else len(data)
        raise DataError(f"{path}: expected {file} of {size} bytes, found {found}: delete it to have it downloaded anew")
    if hashlib.sha256(data).hexdigest() != expected:
        raise DataError(f"{path}: its SHA-256 is not that of {file}, so it is damaged or another file: delete it to have it downloaded anew")
    return numpy.frombuffer(data, dtype="uint8")


def _fetch(name, root):
    """Download and verify; {file: path} as _find gives it."""
    folder = _folders(root)[0]
    targets = [ARCHIVE] if name == "cifar10" else [f"{file}.gz" for file in MNIST]
    folder = folder if name == "cifar10" else folder / name
    for target in targets:
        path, partial = folder / target, folder / f"{target}.part"
        if path.exists():
            continue
        reasons = []
        for base in URLS[name]:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _download(base + target, partial)
                os.replace(partial, path)
                break
            except (OSError, urllib.error.URLError) as error:
                reasons.append(f"{base + target}: {getattr(error, 'reason', None) or error}")
        else:
            raise DataUnavailable(
                f"{name} is in none of {', '.join(map(str, _folders(root)))} and can't be downloaded ({'; '.join(reasons)}): "
                f"put {target} into {folder} by hand, or try again"
            )
    return _find(name, root)


def _download(url, partial):
    """Append to `partial` what it lacks of `url`; from its start where the server knows no ranges."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        resumed = answer.status == 206
        total = int(answer.headers.get("Content-Length") or 0) + have * resumed
        with open(partial, "ab" if resumed else "wb") as file, tqdm(
            total=total or None, initial=have * resumed, unit="B", unit_scale=True, desc=url.rpartition("/")[2]
        ) as bar:
            while block := answer.read(1 << 16):
                file.write(block)
                bar.update(len(block))
        if total and partial.stat().st_size < total:
            raise OSError("the transfer broke off")


def _normalized(pixels, mean, deviation):
    x = pixels.astype("float32")
    x *= 1 / (255 * deviation)
    x -= mean / deviation
    return x.reshape(len(pixels), -1)


def _synthetic(name):
    """A stand-in: two modes a class (so no linear map separates them), features with a power-law spectrum; m = 10,000."""
    n = 784 if name == "synthetic-mnist" else 3072
    rng = numpy.random.default_rng(0)
    scale = (numpy.arange(1, 101, dtype="float32")) ** -0.5
    basis = rng.normal(size=(100, n)).astype("float32") * n**-0.5
    centres = rng.normal(size=(10, 100)).astype("float32")

    def draw(m):
        labels = rng.permutation(numpy.arange(m) % 10)
        sign = rng.choice(numpy.array([-1, 1], "float32"), size=(m, 1))
        latent = (sign * centres[labels] + 0.5 * rng.normal(size=(m, 100)).astype("float32")) * scale
        x = latent @ basis + 0.001 * rng.normal(size=(m, n)).astype("float32")
        return x, numpy.eye(10, dtype="float32")[labels]

    (x_train, y_train), (x_test, y_test) = draw(10_000), draw(2_000)
    mean, deviation = x_train.mean(), x_train.std()
    return Dataset((x_train - mean) / deviation, y_train, (x_test - mean) / deviation, y_test, name)


FILES = {"mnist": MNIST, "cifar10": CIFAR10}
FOLDER = {"mnist": "MNIST/raw", "cifar10": "cifar-10-batches-bin"}
ARCHIVE = "cifar-10-binary.tar.gz"
