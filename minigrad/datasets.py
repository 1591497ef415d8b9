"""MNIST and CIFAR-10, found or downloaded and verified by SHA-256; synthetic data of the same shapes. No pickle."""

import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import threading
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy
from tqdm import tqdm

TIMEOUT = 10  # seconds without an answer
FILES = {  # SHA-256 and bytes of the uncompressed files
    "mnist": {
        "train-images-idx3-ubyte": ("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016),
        "train-labels-idx1-ubyte": ("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008),
        "t10k-images-idx3-ubyte": ("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016),
        "t10k-labels-idx1-ubyte": ("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008),
    },
    "cifar10": {
        "data_batch_1.bin": ("cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5", 30_730_000),
        "data_batch_2.bin": ("a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed", 30_730_000),
        "data_batch_3.bin": ("bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67", 30_730_000),
        "data_batch_4.bin": ("014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48", 30_730_000),
        "data_batch_5.bin": ("755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add", 30_730_000),
        "test_batch.bin": ("8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b", 30_730_000),
    },
}
ARCHIVE, MEMBERS = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"
FOLDERS = {"mnist": ("", "mnist", "MNIST/raw"), "cifar10": ("", "cifar10", MEMBERS)}  # in each folder that is searched
URLS = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/",),
}
SYNTHETIC = {"synthetic-mnist": 784, "synthetic-cifar10": 3072}  # inputs
# Mean and standard deviation of the training images' values in [0, 1], per channel.
NORMAL = {
    "mnist": ([0.1307], [0.3081]),
    "cifar10": ([0.49139968, 0.48215842, 0.4465309], [0.24703223, 0.24348512, 0.26158783]),
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

    Real files are verified, and downloaded to the first of these folders where there are none; DataError if that fails.
    """
    if name in SYNTHETIC:
        return _synthetic(name)
    parts = _contents(name, find_or_fetch(name, root))
    if name == "mnist":  # IDX: images and labels after headers of 16 and 8 bytes
        images = [part[16:].reshape(-1, 1, 784) for part in parts[::2]]
        labels = [part[8:] for part in parts[1::2]]
    else:  # a label and three channels a row
        parts = [part.reshape(-1, 3073) for part in parts]
        images = [part[:, 1:].reshape(-1, 3, 1024) for part in parts]
        labels = [part[:, 0] for part in parts]
    y_train, y_test = (numpy.eye(10, dtype="float32")[numpy.concatenate(part)] for part in (labels[:-1], labels[-1:]))
    mean, deviation = (numpy.array(values, "float32")[:, None] for values in NORMAL[name])
    del parts, labels  # now the bytes of a file can go as soon as it is normalized
    x_test = _normalized([images.pop()], mean, deviation)
    return Dataset(_normalized(images, mean, deviation), y_train, x_test, y_test, name)


def find_or_fetch(name, root=None):
    """{file: path} of the files that load_dataset will read, downloaded if need be; DataUnavailable if they can't be had."""
    if name in SYNTHETIC:
        return {}
    if name not in FILES:
        raise ValueError(f"the data set must be one of {', '.join((*FILES, *SYNTHETIC))}; got {name!r}")
    roots = [Path(folder) for folder in (root, os.environ.get("MINIGRAD_DATA"), "data") if folder]
    folder, paths = roots[0] / name, {}
    for candidate in (place / inner for place in roots for inner in FOLDERS[name]):
        found = _locate(name, candidate)
        if len(found) > len(paths):
            folder, paths = candidate, found
    for file in FILES[name]:
        if file not in paths:
            target = folder / (ARCHIVE if name == "cifar10" else f"{file}.gz")
            reasons = [] if target.is_file() else _fetch(name, file, target)
            if reasons:
                raise DataUnavailable(
                    f"{file} of {name} is not in {' or '.join(map(str, roots))} and can't be downloaded "
                    f"({'; '.join(reasons)}): try again, or put {target.name} into {folder}"
                )
            paths[file] = target
    return {file: paths[file] for file in FILES[name]}


def _locate(name, folder):
    """{file: path} of those files of a data set that lie in `folder`: plain, else compressed, else in the archive."""
    archive = [ARCHIVE] if name == "cifar10" else []
    spellings = ((file, folder / spelling) for file in FILES[name] for spelling in (*archive, f"{file}.gz", file))
    return {file: path for file, path in spellings if path.is_file()}  # of several, the last


def _contents(name, paths):
    """The bytes, uint8, of every file in {file: path}, verified; read in memory, so nothing of an archive is unpacked."""
    raw, limit = {}, 1 + max(size for files in FILES.values() for _, size in files.values())
    for path in dict.fromkeys(paths.values()):
        try:
            with open(path, "rb") as stream:
                if path.name.endswith(ARCHIVE):
                    with tarfile.open(fileobj=stream, mode="r:gz") as tar:
                        for member in tar:  # in the archive's order: going back would decompress it again
                            folder, _, file = member.name.rpartition("/")
                            if folder == MEMBERS and file in paths and member.isfile():
                                raw[file] = tar.extractfile(member).read(limit)
                else:
                    (file,) = (file for file in paths if paths[file] == path)
                    compressed = stream.peek(2)[:2] == b"\x1f\x8b"
                    raw[file] = (gzip.open(stream) if compressed else stream).read(limit)
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise DataError(f"{path} can't be read ({error}): mend it, or delete it to have it downloaded anew") from None
    for file, path in paths.items():
        data, (expected, size) = raw.get(file, b""), FILES[name][file]
        digest = hashlib.sha256(data).hexdigest()
        if digest != expected:
            named = {known: other for files in FILES.values() for other, (known, _) in files.items()}
            found = named.get(digest) or f"{'at least ' * (len(data) == limit)}{len(data)} bytes of SHA-256 {digest[:16]}..."
            raise DataError(
                f"{path}: expected {file}, {size} bytes of SHA-256 {expected[:16]}..., found "
                f"{found if file in raw else 'no such member'}: delete it to have it downloaded anew"
            )
    return [numpy.frombuffer(raw[file], dtype="uint8") for file in paths]


def _fetch(name, file, target):
    """Download `target`, which appears only whole and verified, from the first address that has it; else the reasons.

    What a broken transfer leaves is continued by the next call. Two processes at once write the same bytes to the same
    places; what is verified is a copy that no other process knows.
    """
    partial, reasons = target.with_name(f"partial.{target.name}"), []
    copy = target.with_name(f"partial.{os.getpid()}-{threading.get_ident()}.{target.name}")
    for url in (base + target.name for base in URLS[name]):
        again = True
        while again:
            have = _size(partial)
            try:
                _transfer(url, partial, have)
                shutil.copyfile(partial, copy)
                _contents(name, dict.fromkeys(FILES[name], copy) if name == "cifar10" else {file: copy})
                os.replace(copy, target)
                partial.unlink(missing_ok=True)
                return []
            except DataError as error:
                partial.unlink(missing_ok=True)
                again, reason = have > 0, error  # what was there may have been the remains of another file
            except (OSError, http.client.HTTPException) as error:
                again, reason = _size(partial) > have, getattr(error, "reason", None) or error
            finally:
                if copy.is_file():
                    copy.unlink()
            if target.is_file():  # another process was faster
                partial.unlink(missing_ok=True)
                return []
        reasons.append(f"{url}: {reason}")
    return reasons


def _size(path):
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _transfer(url, partial, have):
    """Add to `partial`, which has `have` bytes, what it lacks of `url`; all of it where the server knows no ranges."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing lacks
            return
        raise
    with answer:
        have *= answer.status == 206
        total = have + int(answer.headers.get("Content-Length") or 0)
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        with open(partial, "r+b") as file:
            file.seek(have)
            with tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=partial.name) as bar:
                while block := answer.read(1 << 16):
                    file.write(block)
                    bar.update(len(block))
            if file.tell() < total:
                raise OSError("the transfer broke off")
            file.truncate()


def _normalized(images, mean, deviation):
    """[(m, channels, pixels) uint8, ...], which is emptied, -> (m, n) float32: (pixels / 255 - mean) / deviation."""
    x, a = numpy.empty((sum(map(len, images)), *images[0].shape[1:]), "float32"), 0
    while images:
        part = images.pop(0)
        x[a : a + len(part)] = part
        a += len(part)
    x *= 1 / (255 * deviation)
    x -= mean / deviation
    return x.reshape(len(x), -1)


def _synthetic(name):
    """A stand-in: Gaussians around 100 orthogonal directions of a latent space and their negatives, ten pairs a class.

    Every class has mean zero, so no linear map tells them apart; the covariance has eigenvalues 1/i, i <= 100, like
    natural images, and no others. 10,000 training and 2,000 test samples.
    """
    n, r = SYNTHETIC[name], 100
    rng = numpy.random.default_rng(0)
    directions = r**0.5 * numpy.linalg.qr(rng.normal(size=(r, r)))[0]
    basis = numpy.linalg.qr(rng.normal(size=(n, r)))[0].T * numpy.arange(1, r + 1)[:, None] ** -0.5

    def draw(m):
        sign, which = numpy.divmod(rng.permutation(numpy.arange(m) % (2 * r)), r)
        latent = (2 * sign - 1)[:, None] * directions[which] + 0.5 * rng.normal(size=(m, r))
        return latent @ basis, numpy.eye(10, dtype="float32")[which % 10]

    (x_train, y_train), (x_test, y_test) = draw(10_000), draw(2_000)
    mean, deviation = x_train.mean(), x_train.std()
    x_train, x_test = (((x - mean) / deviation).astype("float32") for x in (x_train, x_test))
    return Dataset(x_train, y_train, x_test, y_test, name)
