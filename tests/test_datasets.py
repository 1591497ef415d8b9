"""Data sets: found under usual names, verified, downloaded whole; every fault is one sentence."""

import contextlib
import gzip
import hashlib
import http.server
import os
import shutil
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import datasets
from minigrad.datasets import DATASETS, DataUnavailable, find_or_fetch

SAMPLES = {"mnist": 20, "cifar10": 50}  # for training in the small data sets; ten more for testing
ARCHIVE, FOLDER = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"
REAL, REAL_SOURCES, WHERE = os.environ.get("MINIGRAD_DATA"), dict(DATASETS), Path.cwd()


def small(name):
    """Normalized images (m, n) and labels (m,) of a small data set, and its {file: bytes}."""
    rng = np.random.default_rng(7)
    source, m = DATASETS[name], SAMPLES[name]
    images = 17 * rng.integers(0, 16, (m + 10, source.inputs), dtype="uint8")
    labels = rng.integers(0, 10, m + 10, dtype="uint8")
    if name == "mnist":
        parts = images[:m], labels[:m], images[m:], labels[m:]
        contents = [bytes(size) + part.tobytes() for size, part in zip((16, 8, 16, 8), parts)]
    else:
        rows = np.column_stack([labels, images])
        contents = [part.tobytes() for part in np.split(rows, 6)]
    mean, deviation = (np.array(v)[:, None] for v in (source.mean, source.deviation))
    x = (images.reshape(m + 10, len(mean), -1) / 255 - mean) / deviation
    return x.reshape(images.shape), labels, dict(zip(source.files, contents))


def archived(contents):
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder, FOLDER), contents)
        path = shutil.make_archive(f"{folder}/archive", "gztar", folder, FOLDER)
        return Path(path).read_bytes()


def put(folder, files):
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


def digests(contents):
    return {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}


SMALL = {name: small(name) for name in SAMPLES}
MNIST, CIFAR10 = (files for _, _, files in SMALL.values())
PACKED = {
    "mnist": {f"{file}.gz": gzip.compress(content) for file, content in MNIST.items()},
    "cifar10": {ARCHIVE: archived(CIFAR10)},
}


@pytest.fixture(autouse=True)
def table(here, monkeypatch):
    """DATASETS has the small ones, which nobody publishes."""
    for name, m in SAMPLES.items():
        archive = digests(PACKED[name]) if DATASETS[name].archive else {}
        small = {"samples": m, "files": digests(SMALL[name][2]), "archive": archive, "urls": ()}
        monkeypatch.setitem(DATASETS, name, DATASETS[name]._replace(**small))


def assert_small(data, name):
    x, labels, _ = SMALL[name]
    assert len(data.x_train) == len(data.y_train) == SAMPLES[name]
    assert {array.dtype.name for array in data[:4]} == {"float32"}
    np.testing.assert_allclose(np.concatenate(data[:4:2]), x, rtol=0, atol=1e-5)
    one_hot = [[label == c for c in range(10)] for label in labels]
    np.testing.assert_array_equal(np.concatenate(data[1:4:2]), one_hot)


LAYOUTS = {
    "plain, with a dot": ("mnist", lambda file: file.replace("-idx", ".idx")),
    "compressed, in a folder": ("mnist", lambda file: f"mnist/{file}.gz"),
    "torchvision": ("mnist", lambda file: f"MNIST/raw/{file}"),
    "a folder a file": ("mnist", lambda file: f"{file}/{file.replace('-idx', '.idx')}.gz"),
    "batches": ("cifar10", lambda file: f"cifar10/{FOLDER}/{file}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_found_under_the_names_that_people_have(here, layout):
    name, place = LAYOUTS[layout]
    put(here / "data", {"raw": b"a file where a folder is looked for"})
    for file, content in SMALL[name][2].items():
        is_compressed = place(file).endswith(".gz")
        put(here / "data", {place(file): gzip.compress(content) if is_compressed else content})
    assert_small(mg.load_dataset(name), name)


def test_the_folder_given_alone_counts_else_the_variable_s_comes_before_data(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("MINIGRAD_DATA", "~/variable")
    for folder, root in (("data", None), ("variable", None), ("given", "given")):
        if root:
            with pytest.raises(DataUnavailable, match="no address.*into given/mnist"):
                find_or_fetch("mnist", root)
        put(here / folder, MNIST)
        paths = find_or_fetch("mnist", root).values()
        assert {path.parent.resolve() for path in paths} == {here / folder}


def test_an_unknown_name_is_a_value_error_that_lists_the_names():
    with pytest.raises(ValueError, match="mnist, cifar10, synthetic-mnist"):
        mg.load_dataset("MNIST")


WRONG = {  # Fashion-MNIST, say, has the names and sizes of MNIST.
    "cut off": ("mnist", "train-images-idx3-ubyte", lambda content: content[:-5]),
    "another set": ("mnist", "t10k-labels-idx1-ubyte", lambda content: content[::-1]),
    "compressed, changed": ("mnist", "t10k-labels-idx1-ubyte.gz", lambda content: content[:10] * 9),
    "another archive": ("cifar10", ARCHIVE, lambda content: content[:-1] + b"?"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_and_neither_opened_nor_to_be_deleted(here, case, monkeypatch):
    name, wrong, change = WRONG[case]
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("opened"))
    files = PACKED[name] if wrong in PACKED[name] else MNIST
    put(here / "data", files | {wrong: change(files[wrong])})
    with pytest.raises(mg.DataError, match="another data set.*name another folder") as error:
        mg.load_dataset(name)
    assert f"data/{wrong}" in str(error.value) and "delete" not in str(error.value)


class Handler(http.server.BaseHTTPRequestHandler):
    """The publisher. Its first `broken` answers are `fault()`, the parts that are sent."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        file = self.path.rsplit("/", 1)[-1]
        self.server.requests.append(file)
        is_broken = len(self.server.requests) <= self.server.broken
        with contextlib.suppress(OSError):  # the client may have gone away
            for part in self.server.fault() if is_broken else [whole(FILES[file])]:
                self.wfile.write(part)


def whole(body, length=None):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (length or len(body)) + body


def silence():
    time.sleep(1)
    yield whole(FILES[ARCHIVE])


FILES = PACKED["mnist"] | PACKED["cifar10"]
FAULTS = {
    "breaking off": lambda: [whole(FILES[ARCHIVE][:500], length=1000)],
    "no HTTP": lambda: [b"SSH-2.0-OpenSSH\r\n\r\n"],
    "a redirect to no port": lambda: [b"HTTP/1.1 302 Found\r\nLocation: http://h:port/\r\n\r\n"],
    "another file": lambda: [whole(b"<html>pay for the network first</html>")],
    "silence": silence,
}


@pytest.fixture
def server(here, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.broken = [], 0
        server.url = f"http://127.0.0.1:{server.server_port}/"
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        urls = {"cifar10": (server.url,), "mnist": ("http://127.0.0.1:9/", server.url)}
        for name in urls:
            monkeypatch.setitem(DATASETS, name, DATASETS[name]._replace(urls=urls[name]))
        yield server
        server.shutdown()
        thread.join()


def test_missing_files_are_downloaded_once_from_an_address_that_answers(here, server, capfd):
    put(here / "data" / "MNIST" / "raw", dict(list(MNIST.items())[1:3]))
    for _ in range(2):
        assert_small(mg.load_dataset("mnist"), "mnist")
        assert server.requests == [list(PACKED["mnist"])[i] for i in (0, 3)]
    assert "100%" in capfd.readouterr().err


@pytest.mark.parametrize("fault, broken", [*((fault, 2) for fault in FAULTS), ("no HTTP", 9)])
def test_a_faulty_server_is_asked_three_times_and_leaves_nothing_but_whole_files(
    here, server, monkeypatch, fault, broken
):
    monkeypatch.setattr(datasets, "DEADLINE", 0.3)
    server.fault, server.broken = FAULTS[fault], broken
    if broken < 3:
        assert_small(mg.load_dataset("cifar10"), "cifar10")
    else:
        with pytest.raises(DataUnavailable, match="binary version.*127.0.0.1.*put it into"):
            mg.load_dataset("cifar10")
    assert len(server.requests) == 3
    path = here / "data" / "cifar10" / ARCHIVE
    assert list(here.rglob("*")) == ([*reversed(path.parents[:2]), path] if broken < 3 else [])


DIGESTS = {  # of x_train, y_train, x_test, y_test, on which published results were trained
    "mnist": "ef2e9e72a7999972 d70c5266932a6c87 df3a331d81dfe9a2 2f8f366b93e2a655",
    "cifar10": "ed9670d79bd5891a b7dc1f04040d4e66 fcd519666de62b66 fdfc53ea9704c4ee",
}


@pytest.mark.skipif(not REAL, reason="MINIGRAD_DATA names no real data")
@pytest.mark.parametrize("name", DIGESTS)
def test_real_data_has_the_bits_that_it_had(name, monkeypatch):
    monkeypatch.setitem(DATASETS, name, REAL_SOURCES[name])
    data = mg.load_dataset(name, WHERE / os.path.expanduser(REAL))
    found = [hashlib.sha256(array).hexdigest()[:16] for array in data[:4]]
    assert " ".join(found) == DIGESTS[name]


def test_synthetic_data_is_the_same_every_time_normalized_and_for_networks():
    """Its covariance has eigenvalues like 1 / i, i <= 100; classes have mean zero and clusters."""
    x, y, x_test, y_test, _ = data = mg.load_dataset("synthetic-mnist")
    for one, other in zip(data[:4], mg.load_dataset("synthetic-mnist")):
        assert one.dtype == "float32" and one.tobytes() == other.tobytes()
    np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=1e-4)
    assert (y.sum(axis=0) == 1000).all() and (y_test.sum(axis=0) == 200).all()
    values = np.linalg.eigvalsh(x[:2000].T.astype("float64") @ x[:2000])[::-1]
    log_ratio = np.log(values[:100] * np.arange(1, 101))
    assert abs(log_ratio - log_ratio.mean()).max() < 0.7
    assert values[100:].sum() < 1e-6 * values.sum()
    squares = (x * x).sum(axis=1)
    assert (((y.T @ x / 1000) ** 2).sum(axis=1) < 0.01 * squares.mean()).all()
    nearest = (x_test[:200] @ x.T - squares / 2).argmax(axis=1)
    assert (y[nearest] * y_test[:200]).sum(axis=1).mean() > 0.5
