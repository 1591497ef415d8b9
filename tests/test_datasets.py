"""Data sets: found under usual names, verified, downloaded whole; every fault is one sentence."""

import contextlib
import gc
import gzip
import hashlib
import http.server
import io
import os
import tarfile
import threading
import time
from pathlib import Path

import numpy
import pytest

import minigrad as mg
from minigrad import datasets
from minigrad.datasets import DATASETS, DataUnavailable, Source, find_or_fetch

NAMES = ("mnist", "cifar10")
ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
MIB = 1 << 20
REAL, REAL_SOURCES = os.environ.get("MINIGRAD_DATA"), dict(DATASETS)
WHERE = Path.cwd()


def small(name):
    """{file: bytes} of ten samples a file, and images and labels of the training and test set."""
    rng = numpy.random.default_rng(7)
    source, contents, parts = DATASETS[name], {}, []
    for files in (source.train, source.test):
        m = 10 * len(files)
        images = rng.integers(0, 256, (m, source.inputs), dtype="uint8")
        labels = rng.integers(0, 10, m, dtype="uint8")
        if name == "mnist":
            contents |= zip(files, (bytes(16) + images.tobytes(), bytes(8) + labels.tobytes()))
        else:
            rows = numpy.column_stack([labels, images]).reshape(len(files), -1)
            contents |= zip(files, map(bytes, rows))
        parts.append((images, labels))
    return contents, parts


def archived(contents):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        folder = tarfile.TarInfo(FOLDER)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for file, content in contents.items():
            member = tarfile.TarInfo(f"{FOLDER}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def compressed(contents):
    return {f"{file}.gz": gzip.compress(content, mtime=0) for file, content in contents.items()}


def facts(contents):
    return {file: (hashlib.sha256(c).hexdigest(), len(c)) for file, c in contents.items()}


SMALL = {name: small(name)[0] for name in NAMES}
SMALL_ARCHIVE = {ARCHIVE: archived(SMALL["cifar10"] | {"readme.html": b"<html>"})}
PACKED = {"mnist": compressed(SMALL["mnist"]), "cifar10": SMALL_ARCHIVE}


def publish(monkeypatch, name, *urls):
    """From now on the data set can be had here."""
    monkeypatch.setitem(DATASETS, name, DATASETS[name]._replace(urls=urls))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder, the small files' table, and no way out to the network."""
    monkeypatch.chdir(tmp_path)
    for variable in os.environ:
        if variable == "MINIGRAD_DATA" or variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)
    for name in NAMES:
        source, of_all = DATASETS[name], facts(SMALL[name])
        source = source._replace(
            train={file: of_all[file] for file in source.train},
            test={file: of_all[file] for file in source.test},
            archive=facts(SMALL_ARCHIVE) if source.archive else {},
        )
        monkeypatch.setitem(DATASETS, name, source)
        publish(monkeypatch, name, "http://127.0.0.1:9/")  # where nobody listens
    return tmp_path


def put(folder, files):
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def assert_small(data, name):
    """Against the images and labels themselves, in float64."""
    source = DATASETS[name]
    mean, deviation = (numpy.array(v)[:, None] for v in (source.mean, source.deviation))
    assert data.name == name
    for (images, labels), x, y in zip(small(name)[1], data[:4:2], data[1:4:2]):
        expected = (images.reshape(len(images), len(mean), -1) / 255 - mean) / deviation
        assert x.dtype == y.dtype == "float32"
        numpy.testing.assert_allclose(x, expected.reshape(images.shape), rtol=0, atol=1e-5)
        numpy.testing.assert_array_equal(y, [[label == c for c in range(10)] for label in labels])


def refusal(name, *words, kind=mg.DataError, root=None):
    """The one sentence with which load_dataset refuses."""
    with pytest.raises(mg.DataError) as error:
        mg.load_dataset(name, root)
    message = str(error.value)
    assert type(error.value) is kind, message
    assert "\n" not in message and len(message) < 700
    for word in words:
        assert str(word) in message, message
    return message


# Found.

LAYOUTS = {
    "plain": ("mnist", lambda file: file),
    "compressed, in a folder": ("mnist", lambda file: f"mnist/{file}.gz"),
    "a dot": ("mnist", lambda file: file.replace("-idx", ".idx")),
    "torchvision": ("mnist", lambda file: f"MNIST/raw/{file}"),
    "torchvision's own folder": ("mnist", lambda file: f"raw/{file}.gz"),
    "a folder a file": ("mnist", lambda file: f"{file}/{file}"),
    "a folder a file, a dot": ("mnist", lambda file: f"{file}/{file.replace('-idx', '.idx')}.gz"),
    "batches": ("cifar10", lambda file: f"{FOLDER}/{file}"),
    "batches in a folder": ("cifar10", lambda file: f"cifar10/{FOLDER}/{file}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_found_under_the_names_that_people_have(here, layout):
    name, place = LAYOUTS[layout]
    for file, content in SMALL[name].items():
        is_compressed = place(file).endswith(".gz")
        put(here / "data", {place(file): gzip.compress(content) if is_compressed else content})
    files = tree(here)
    assert_small(mg.load_dataset(name), name)
    assert tree(here) == files  # nothing was unpacked


@pytest.mark.parametrize("has", [(), ("test_batch.bin",)], ids=["alone", "beside a plain file"])
def test_the_archive_is_read(here, has):
    put(here / "data", SMALL_ARCHIVE | {file: SMALL["cifar10"][file] for file in has})
    put(here / "data", {"cifar10": b"a file where a folder is looked for"})
    assert_small(mg.load_dataset("cifar10"), "cifar10")


def test_the_variable_comes_before_data_and_only_the_folder_given_counts(here, monkeypatch):
    """Of the first two the one that has all files is taken."""
    monkeypatch.setenv("MINIGRAD_DATA", str(here / "variable"))
    put(here / "variable", dict(list(SMALL["mnist"].items())[:3]))
    for root in ("data", "variable", "given"):
        put(here / root, SMALL["mnist"])
        paths = find_or_fetch("mnist", "given" if root == "given" else None)
        assert {path.parent.resolve() for path in paths.values()} == {here / root}
        assert list(paths) == list(SMALL["mnist"])
    assert find_or_fetch("synthetic-mnist", "given") == {}


def test_a_tilde_is_the_home_folder(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    put(here / "sets", SMALL["mnist"])
    assert_small(mg.load_dataset("mnist", "~/sets"), "mnist")


def test_what_the_folder_given_lacks_is_not_taken_from_elsewhere(here, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(here / "variable"))
    put(here / "variable", SMALL["mnist"])
    put(here / "given", dict(list(SMALL["mnist"].items())[:3]))
    files = tree(here)
    message = refusal("mnist", "not in given", "downloaded", kind=DataUnavailable, root="given")
    assert "variable" not in message and tree(here) == files


def test_an_unknown_name_is_a_value_error_that_lists_the_names():
    with pytest.raises(ValueError, match="mnist, cifar10, synthetic-mnist"):
        mg.load_dataset("MNIST")


def test_another_data_set_is_one_entry_of_the_table(here, monkeypatch):
    train = {"train-letters": bytes(16 + 3 * 784), "train-names": bytes(8) + b"\1\2\3"}
    test = {"test-letters": bytes(16 + 784), "test-names": bytes(8) + b"\4"}
    entry = {"mean": (0.5,), "deviation": (0.25,), "read": datasets.idx_files}
    entry |= {"train": facts(train), "test": facts(test)}
    monkeypatch.setitem(DATASETS, "letters", Source("Letters", inputs=784, samples=3, **entry))
    refusal("letters", "train-letters.gz", "no address", kind=DataUnavailable)
    put(here / "data" / "letters", train | test)
    data = mg.load_dataset("letters")
    assert (data.x_test == -2).all() and data.y_train.argmax(1).tolist() == [1, 2, 3]


# Wrong files.


@pytest.mark.parametrize("cut", [3, -5])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_file_that_was_cut_off_is_to_be_mended_or_deleted(here, cut, ending):
    files = compressed(SMALL["mnist"]) if ending else dict(SMALL["mnist"])
    file = f"train-images-idx3-ubyte{ending}"
    files[file] = files[file][:cut]
    put(here / "data", files)
    refusal("mnist", Path("data") / file, "damaged", "delete it")


def test_a_whole_file_of_another_data_set_is_never_to_be_deleted(here):
    """Fashion-MNIST has the names and sizes of MNIST."""
    put(here / "data", {file: c[:8] + bytes(c[8:])[::-1] for file, c in SMALL["mnist"].items()})
    message = refusal("mnist", "train-images-idx3-ubyte", "another data set", "name another folder")
    assert "delete" not in message


def test_a_wrong_archive_is_refused_before_it_is_opened(here, monkeypatch):
    put(here / "data", {ARCHIVE: SMALL_ARCHIVE[ARCHIVE][:-1] + b"?"})
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("opened"))
    refusal("cifar10", f"data/{ARCHIVE}", "binary version", "name another folder")


@pytest.mark.parametrize("method", ["open", "stat"])
def test_what_may_not_be_read_is_to_be_allowed(here, monkeypatch, method):
    """A closed folder is not "unavailable": then synthetic data would take its place."""

    def denied(path, *args, **options):
        raise PermissionError(13, "Permission denied", str(path))

    put(here / "data", SMALL["mnist"])
    monkeypatch.setattr(Path, method, denied)
    refusal("mnist", "Permission denied", "allow it")


def test_a_root_that_can_be_no_folder_is_refused(here):
    (here / "file").write_text("no folder")
    for root in ("file", os.devnull, "g" * 256):
        refusal("mnist", "another folder", root=root)


# Downloaded.


class Handler(http.server.BaseHTTPRequestHandler):
    """The publisher. server.fault(number of the request) is None, or what is sent for the file."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.close_connection = True
        file = self.path.rsplit("/", 1)[-1]
        self.server.requests.append((file, self.headers.get("Range")))
        body = self.server.files.get(file)
        sent = self.server.fault(len(self.server.requests))
        if sent is None and body is None:
            return self.send_error(404)
        with contextlib.suppress(OSError):  # the client may have gone away
            for part in [whole(body)] if sent is None else sent:
                self.wfile.write(part)
                self.wfile.flush()
                self.server.sent += len(part)


def whole(body, length=None):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (length or len(body)) + body


def slowly(*parts):
    """A part every 20 milliseconds, at most ten seconds long."""
    for part in parts:
        yield part
        time.sleep(0.02)


REDIRECT = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FAULTS = {  # name: what is sent
    "HTML": [whole(b"<html>Please log in</html>")],
    "breaking off": [whole(b"abc", length=1000)],
    "breaking off in a chunk": [CHUNKED + b"ff\r\nabc"],
    "no answer": [],
    "no HTTP": [b"SSH-2.0-OpenSSH\r\n\r\n"],
    "a redirect to no port": [REDIRECT + b"http://127.0.0.1:port/\r\n\r\n"],
    "a negative chunk": [CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n"],
    "a byte now and then": lambda: slowly(whole(b"", length=1000), *[b"a"] * 500),
    "a header now and then": lambda: slowly(b"HTTP/1.1 200 OK\r\nA: ", *[b"a"] * 500),
    "silence": lambda: slowly(*[b""] * 500),
    "no end": lambda: [b"HTTP/1.1 200 OK\r\n\r\n", *[bytes(MIB)] * 100],
}


@pytest.fixture
def server(monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.sent, server.fault = [], 0, lambda number: None
        server.files = PACKED["mnist"] | PACKED["cifar10"]
        server.url = f"http://127.0.0.1:{server.server_port}/"
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for name in NAMES:
            publish(monkeypatch, name, server.url)
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_is_downloaded_once_with_a_progress_bar(here, server, capfd, name):
    for _ in range(2):
        assert_small(mg.load_dataset(name), name)
        assert tree(here) == [f"data/{name}/{file}" for file in sorted(PACKED[name])]
        assert [file for file, _ in server.requests] == list(PACKED[name])
    assert "100%" in capfd.readouterr().err


def test_a_download_goes_to_the_folder_given_or_of_the_variable(here, server, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(here / "variable"))
    find_or_fetch("cifar10")
    find_or_fetch("cifar10", "given")
    assert tree(here) == [f"given/cifar10/{ARCHIVE}", f"variable/cifar10/{ARCHIVE}"]


def test_only_what_is_missing_is_downloaded(here, server):
    put(here / "data" / "MNIST" / "raw", dict(list(SMALL["mnist"].items())[1:3]))
    assert_small(mg.load_dataset("mnist"), "mnist")
    assert [file for file, _ in server.requests] == [list(PACKED["mnist"])[i] for i in (0, 3)]


def test_the_second_address_is_taken_where_the_first_fails(here, server, monkeypatch):
    publish(monkeypatch, "mnist", "http://127.0.0.1:9/", server.url)
    assert_small(mg.load_dataset("mnist"), "mnist")


@pytest.mark.parametrize("broken", [1, 2])
def test_a_transfer_that_breaks_off_is_begun_anew(here, server, broken):
    half = PACKED["cifar10"][ARCHIVE][:500]
    server.fault = lambda number: [whole(half, length=1000)] if number <= broken else None
    assert_small(mg.load_dataset("cifar10"), "cifar10")
    assert server.requests == [(ARCHIVE, None)] * (broken + 1)  # from the first byte on
    assert tree(here) == [f"data/cifar10/{ARCHIVE}"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # urllib leaves faulty answers open
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_faulty_server_is_given_up_after_three_tries_and_leaves_nothing(
    here, server, monkeypatch, fault
):
    monkeypatch.setattr(datasets, "DEADLINE", 0.3)
    sent = FAULTS[fault]
    server.fault = lambda number: sent() if callable(sent) else sent
    start = time.monotonic()
    refusal("cifar10", "can't be downloaded", server.url, "try again", kind=DataUnavailable)
    assert time.monotonic() - start < 8  # the slow ones go on for ten seconds, three times
    assert len(server.requests) <= 3 and server.sent < 30 * MIB
    assert list(here.iterdir()) == []
    gc.collect()


def test_no_network_is_one_sentence(here):
    words = "can't be downloaded", "Connection refused", "binary version", "into data/cifar10"
    refusal("cifar10", *words, kind=DataUnavailable)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(here, server, monkeypatch):
    monkeypatch.setattr(datasets, "TRIES", 1)
    (here / "data" / "cifar10").mkdir(parents=True)
    (here / "data" / "cifar10" / f"{ARCHIVE}.{os.getpid()}").symlink_to("/dev/full")
    refusal("cifar10", "No space left on device", kind=DataUnavailable)
    assert tree(here) == []


# The real arrays and the synthetic ones.

DIGESTS = {  # of x_train, y_train, x_test, y_test, on which published results were trained
    "mnist": "ef2e9e72a7999972 d70c5266932a6c87 df3a331d81dfe9a2 2f8f366b93e2a655",
    "cifar10": "ed9670d79bd5891a b7dc1f04040d4e66 fcd519666de62b66 fdfc53ea9704c4ee",
}


@pytest.mark.skipif(not REAL, reason="MINIGRAD_DATA names no real data")
@pytest.mark.parametrize("name", NAMES)
def test_real_data_has_the_bits_that_it_had(name, monkeypatch):
    source = REAL_SOURCES[name]
    monkeypatch.setitem(DATASETS, name, source)
    data = mg.load_dataset(name, WHERE / os.path.expanduser(REAL))
    assert data.x_train.shape == (source.samples, source.inputs)
    digests = [hashlib.sha256(array).hexdigest()[:16] for array in data[:4]]
    assert " ".join(digests) == DIGESTS[name]


@pytest.fixture(scope="module")
def synthetic():
    return mg.load_dataset("synthetic-mnist")


def test_synthetic_data_is_the_same_every_time_normalized_and_balanced(synthetic):
    """The covariance has eigenvalues like 1 / i, i <= 100, and no others."""
    x, y, x_test, y_test, _ = synthetic
    assert x.shape == (10_000, 784) and x_test.shape == (2000, 784)
    numpy.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=1e-4)
    assert (y.sum(axis=0) == 1000).all() and (y_test.sum(axis=0) == 200).all()
    for one, other in zip(synthetic[:4], mg.load_dataset(synthetic.name)):
        assert one.dtype == "float32" and one.tobytes() == other.tobytes()
    values = numpy.linalg.eigvalsh(x[:2000].T.astype("float64") @ x[:2000])[::-1]
    log_ratio = numpy.log(values[:100] * numpy.arange(1, 101))
    assert abs(log_ratio - log_ratio.mean()).max() < 0.7
    assert values[100:].sum() < 1e-6 * values.sum()


def test_an_mlp_learns_synthetic_data_and_a_linear_map_does_not(synthetic):
    """Test accuracy: least squares stays near 10 %, one epoch of an MLP does not."""
    x, y = synthetic.x_train, synthetic.y_train
    weights = numpy.linalg.solve(x.T @ x + numpy.eye(x.shape[1]), x.T @ (y - 0.1))
    linear = (synthetic.x_test @ weights).argmax(1) == synthetic.y_test.argmax(1)
    graph = mg.parse("MLP-1-100", n=x.shape[1], k=10)
    params = mg.init_params(graph, numpy.random.default_rng(1))
    velocity = {key: numpy.zeros_like(W) for key, W in params.items()}
    rows = mg.batches(len(x), B=20, seed=1, epoch=1)
    mg.train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", 0.003, 0.0, 0.5)
    _, accuracy, _ = mg.evaluate(graph, params, synthetic.x_test, synthetic.y_test, "cross_entropy")
    assert linear.mean() < 0.2 < 0.5 < accuracy
