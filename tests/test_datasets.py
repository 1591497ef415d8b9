"""Data sets: content verified, downloads whole or absent, a sentence a fault; what synthetic data can do."""

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import re
import signal
import tarfile
import threading
import tracemalloc
from pathlib import Path

import numpy
import pytest
from processes import wait_for

import minigrad as mg
from minigrad import datasets, fetch, verify
from minigrad.facts import FACTS
from minigrad.fetch import DataUnavailable, find_or_fetch

NAMES = ("mnist", "cifar10")
ARCHIVE, MEMBERS = FACTS["cifar10"].archive, FACTS["cifar10"].members
WHERE = Path.cwd()
MIB = 1 << 20
REAL, REAL_FACTS = os.environ.get("MINIGRAD_DATA"), dict(FACTS)


def small(name):
    """{file: bytes} in the publisher's formats: 30 or 50 training and 10 test samples."""
    rng = numpy.random.default_rng(7)
    contents = {}
    for file in FACTS[name].files:
        m = 30 if file.startswith("train") else 10
        labels = (numpy.arange(m) % 10).astype("uint8")
        if name == "cifar10":
            pixels = rng.integers(0, 256, (m, 3072), dtype="uint8")
            contents[file] = numpy.column_stack([labels, pixels]).tobytes()
        elif "labels" in file:
            contents[file] = bytes([0, 0, 8, 1, 0, 0, 0, m]) + labels.tobytes()
        else:
            header = bytes([0, 0, 8, 3, 0, 0, 0, m, 0, 0, 0, 28, 0, 0, 0, 28])
            contents[file] = header + rng.integers(0, 256, (m, 784), dtype="uint8").tobytes()
    return contents


SMALL = {name: small(name) for name in NAMES}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder, the small files' hashes, and no way out to the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    for name in NAMES:
        hashes = {file: (hashlib.sha256(c).hexdigest(), len(c)) for file, c in SMALL[name].items()}
        publish(monkeypatch, name, "http://127.0.0.1:9/", files=hashes)  # where nobody listens
    for variable in [v for v in os.environ if v.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)
    return tmp_path


def publish(monkeypatch, name, *urls, **others):
    """From now on this is where the data set can be had."""
    monkeypatch.setitem(FACTS, name, FACTS[name]._replace(urls=urls, **others))


def packed(contents, folder=MEMBERS):
    """The bytes of a .tar.gz with the files under `folder`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file, content in contents.items():
            member = tarfile.TarInfo(f"{folder}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def assert_small(data, name):
    m = 30 if name == "mnist" else 50
    n = 784 if name == "mnist" else 3072
    shapes = [a.shape for a in data[:4]]
    assert shapes == [(m, n), (m, 10), (10, n), (10, 10)] and all(a.dtype == "float32" for a in data[:4])
    assert data.name == name
    for y in (data.y_train, data.y_test):
        assert y.argmax(axis=1).tolist() == (numpy.arange(len(y)) % 10).tolist()
        assert (y.sum(axis=1) == 1).all()
    test = {"mnist": "t10k-images-idx3-ubyte", "cifar10": "test_batch.bin"}[name]
    pixels = SMALL[name][test][16:] if name == "mnist" else SMALL[name][test][1:3073]
    first = numpy.frombuffer(pixels[:n], "uint8").reshape(-1, 784 if name == "mnist" else 1024) / 255
    mean, deviation = (numpy.array(v)[:, None] for v in (FACTS[name].mean, FACTS[name].deviation))
    numpy.testing.assert_allclose(data.x_test[0], ((first - mean) / deviation).ravel(), rtol=0, atol=1e-5)


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


@contextlib.contextmanager
def allocating_at_most(size):
    """No more bytes at once in the block."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= size
    finally:
        tracemalloc.stop()


# Found.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["plain", "gzip", "plain under a gzip's name", "archive"])
def test_the_publisher_s_files_are_read_in_every_form(here, name, form):
    files = SMALL[name]
    if form == "archive":
        if name == "mnist":
            pytest.skip("MNIST is published as single files")
        files = {ARCHIVE: packed(dict(reversed(files.items())) | {"readme.html": b"<html>"})}
    elif form != "plain":
        files = {f"{file}.gz": gzip.compress(c) if form == "gzip" else c for file, c in files.items()}
    put(here / "data", files)
    assert_small(mg.load_dataset(name), name)
    assert tree(here / "data") == sorted(files)  # nothing unpacked, nothing left


@pytest.mark.parametrize("name", NAMES)
def test_every_usual_folder_is_searched(here, name):
    for inner in FACTS[name].folders:
        put(here / f"root-{len(inner)}" / inner, SMALL[name])
        assert_small(mg.load_dataset(name, here / f"root-{len(inner)}"), name)


def test_the_variable_comes_before_data_and_only_the_folder_given_counts(here, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(here / "variable"))
    for root in ("data", "variable", "given"):
        put(here / root, SMALL["mnist"])
        paths = find_or_fetch("mnist", str(here / "given") if root == "given" else None)
        assert {path.parent.resolve() for path in paths.values()} == {here / root}


@pytest.mark.parametrize("has", [0, 3], ids=["nothing", "all but one"])
def test_what_the_folder_given_lacks_is_not_taken_from_elsewhere(here, monkeypatch, has):
    """It was, without a word: other files than those asked for were trained on."""
    monkeypatch.setenv("MINIGRAD_DATA", str(here / "variable"))
    for root in ("data", "variable"):
        put(here / root, SMALL["mnist"])
    put(here / "given", dict(list(SMALL["mnist"].items())[:has]))
    files = tree(here)
    message = refusal("mnist", "not in given and can't be downloaded", kind=DataUnavailable, root="given")
    assert "variable" not in message and tree(here) == files


def test_a_whole_data_set_comes_before_a_part_of_one(here, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(here / "variable"))
    put(here / "variable", dict(list(SMALL["mnist"].items())[:1]))
    put(here / "data", SMALL["mnist"])
    assert_small(mg.load_dataset("mnist"), "mnist")


@pytest.mark.parametrize("name", ["", "MNIST", "cifar100", "synthetic", "synthetic-"])
def test_an_unknown_name_is_a_value_error_that_lists_the_names(name):
    names = f"mnist, cifar10, synthetic-mnist, synthetic-cifar10; got {name!r}"
    with pytest.raises(ValueError, match=re.escape(names)):
        mg.load_dataset(name)


# Wrong content.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ["one bit", "short", "long", "empty", "another file"])
def test_wrong_content_is_one_sentence_with_path_expectation_and_remedy(here, name, fault):
    file, other = list(SMALL[name])[:2]
    good = SMALL[name][file]
    bad = {
        "one bit": good[:99] + bytes([good[99] ^ 1]) + good[100:],
        "short": good[:-1],
        "long": good + b"\0",
        "empty": b"",
        "another file": SMALL[name][other],
    }[fault]
    put(here / "data", SMALL[name] | {file: bad})
    found = other if fault == "another file" else f"{len(bad)} bytes"
    expected = hashlib.sha256(good).hexdigest()[:16]
    words = f"expected {file}, {len(good)} bytes", expected, "found", found, "delete it"
    refusal(name, Path("data") / file, *words)
    assert (here / "data" / file).read_bytes() == bad


def test_images_and_labels_exchanged_are_named(here):
    files = dict(SMALL["mnist"])
    images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    put(here / "data", files | {images: files[labels], labels: files[images]})
    refusal("mnist", f"expected {images}", f"found {labels}")


@pytest.mark.parametrize("cut", [3, 15, 500, -5])
def test_a_broken_gzip_file_is_one_sentence(here, cut):
    files = {f"{file}.gz": gzip.compress(content) for file, content in SMALL["mnist"].items()}
    files["train-images-idx3-ubyte.gz"] = files["train-images-idx3-ubyte.gz"][:cut]
    put(here / "data", files)
    refusal("mnist", "train-images-idx3-ubyte.gz", "delete it")


@pytest.mark.parametrize("file", SMALL["mnist"])
def test_a_gzip_file_is_unpacked_to_one_byte_more_than_its_file_has(here, file):
    """A bomb: 64 MiB from 64 KiB. It was once unpacked to the size of the largest file of any data set."""
    size = len(SMALL["mnist"][file])
    put(here / "data", SMALL["mnist"])
    (here / "data" / file).unlink()
    put(here / "data", {f"{file}.gz": gzip.compress(bytes(64 * MIB))})
    with allocating_at_most(MIB):
        refusal("mnist", f"{file}.gz", f"found at least {size + 1} bytes", "delete it")


def test_what_follows_a_gzip_file_is_not_read(here):
    """Zeros after its end are allowed, and were read one by one, however many."""
    padded = {f"{file}.gz": gzip.compress(c) + bytes(2 * MIB) for file, c in SMALL["mnist"].items()}
    put(here / "data", padded)
    refusal("mnist", "train-images-idx3-ubyte.gz", "can't be read", "bytes, more than the", "delete it")


@pytest.mark.parametrize(
    "archive, words",
    [
        (packed(SMALL["cifar10"], "cifar-10-batches-py"), "found no such member"),  # as in the Python version
        (packed(SMALL["cifar10"], f"../../{MEMBERS}"), "found no such member"),
        (packed(SMALL["cifar10"], f"/{MEMBERS}"), "found no such member"),
        (packed(SMALL["cifar10"])[:-2000], "can't be read"),
        (b"<html>not found</html>", "can't be read"),
        (b"", "can't be read"),
    ],
    ids=["pickles", "climbs", "absolute", "cut", "html", "empty"],
)
def test_a_wrong_archive_is_one_sentence_and_writes_nothing(here, archive, words):
    root = here / "a" / "b" / "data"
    put(root, {ARCHIVE: archive})
    refusal("cifar10", root / ARCHIVE, words, "delete it", root=root)
    assert tree(here) == [f"a/b/data/{ARCHIVE}"]


def header(member, size, kind=tarfile.REGTYPE):
    """What a tar has in front of a member, whatever follows."""
    info = tarfile.TarInfo(member)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def extension(key, value):
    """A pax header: what the next header is to mean."""
    record = b" " + key + b"=" + value + b"\n"
    record = str(len(record) + 2).encode() + record  # of 10 to 99 bytes
    return header("pax", len(record), tarfile.XHDTYPE) + record.ljust(512, b"\0")


def inflating(*parts):
    """A gzip file of these parts, where a number stands for so many MiB of zeros."""
    zeros = gzip.compress(bytes(MIB))
    return b"".join(zeros * part if isinstance(part, int) else gzip.compress(part) for part in parts)


FILE = header(f"{MEMBERS}/test_batch.bin", 9) + b"not a row".ljust(512, b"\0")
END = bytes(1024)
HUGE = 64 * MIB
HOSTILE = {
    "a size that is no number": (inflating(extension(b"GNU.sparse.size", b"nan"), FILE, END), "no such"),
    "holes at no number": (inflating(extension(b"GNU.sparse.map", b"a,b"), FILE, END), "no such"),
    "an encoding that is no text": (inflating(extension(b"hdrcharset", b"\xff"), FILE, END), "no such"),
    "headers of headers": (inflating(extension(b"a", b"b" * 9) * 1000, FILE, END), "no such"),
    "a negative size": (inflating(header("notes", -(1 << 40)), FILE, END), "no header of a tar at byte 0"),
    "a long name": (inflating(header("@", HUGE, tarfile.GNUTYPE_LONGNAME), 64, FILE, END), HUGE),
    "a long link": (inflating(header("@", HUGE, tarfile.GNUTYPE_LONGLINK), 64, FILE, END), HUGE),
    "a long extension": (inflating(header("@", HUGE, tarfile.XHDTYPE), 64, FILE, END), HUGE),
    "a long file": (inflating(header(f"{MEMBERS}/test_batch.bin", HUGE), 64, END), HUGE),
    "a long file that is not wanted": (inflating(header("notes", HUGE), 64, FILE, END), HUGE),
    "very many members": (inflating(header("notes", 0) * 50_000, FILE, END), "member of 0 bytes ends behind"),
    "only zeros": (inflating(64), "no such member"),
    "much behind the end": (inflating(FILE, END) + bytes(2 * MIB), "more than the"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_archive_is_one_sentence_and_little_memory(here, attack):
    """Each let another exception out, or took memory as it liked, while tarfile parsed the archive."""
    archive, words = HOSTILE[attack]
    put(here / "data", {ARCHIVE: archive})
    with allocating_at_most(2 * MIB):
        refusal("cifar10", ARCHIVE, words, "delete it")


def test_a_name_of_a_gigabyte_and_a_half_takes_no_memory(here, start):
    """In a process of its own, with the published sizes: this took 1.6 GB."""
    claim = header("@", 1536 * MIB, tarfile.GNUTYPE_LONGNAME)
    put(here / "data", {ARCHIVE: inflating(claim, 1536, FILE, END)})
    (here / "load.py").write_text(
        "import tracemalloc\n"
        "import minigrad\n"
        "tracemalloc.start()\n"
        "try:\n"
        "    minigrad.load_dataset('cifar10', 'data')\n"
        "except minigrad.DataError as error:\n"
        "    print(error)\n"
        "print(tracemalloc.get_traced_memory()[1])\n"
    )
    out, err = start("load.py").communicate()
    message, peak = out.splitlines()
    assert ARCHIVE in message and str(1536 * MIB) in message and not err
    assert int(peak) < 2 * MIB


def test_what_an_archive_says_of_the_files_does_not_change_them(here):
    """Right files are right, whatever stands between them: a pax header is passed over, not believed."""
    odd = extension(b"size", b"nan") + extension(b"path", b"../escape") + extension(b"hdrcharset", b"\xff")
    parts = []
    for file, content in SMALL["cifar10"].items():
        blocks = content.ljust(-len(content) // 512 * -512, b"\0")
        parts.append(odd + header(f"{MEMBERS}/{file}", len(content)) + blocks)
    put(here / "data", {ARCHIVE: inflating(*parts, END)})
    assert_small(mg.load_dataset("cifar10"), "cifar10")


@pytest.mark.parametrize("written", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_a_tar_is_read(here, written):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=written) as tar:
        for file, content in SMALL["cifar10"].items():
            member = tarfile.TarInfo(f"{MEMBERS}/{file}")
            member.size, member.mtime, member.uname = len(content), 1234567890.5, "änne"
            tar.addfile(member, io.BytesIO(content))
    put(here / "data", {ARCHIVE: buffer.getvalue()})
    assert_small(mg.load_dataset("cifar10"), "cifar10")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_file_is_not_followed(here, kind):
    (here / "secret").write_bytes(SMALL["cifar10"]["test_batch.bin"])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file in FACTS["cifar10"].files:
            member = tarfile.TarInfo(f"{MEMBERS}/{file}")
            member.type, member.linkname = kind, str(here / "secret")
            tar.addfile(member)
    put(here / "data", {ARCHIVE: buffer.getvalue()})
    refusal("cifar10", "no such member")


def test_no_pickle_is_loaded(here):
    """The Python version's name for a batch, and bytes that would run a command if they were unpickled."""
    attack = b"cos\nsystem\n(S'touch unpickled'\ntR."
    batches = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    put(here / "data" / "cifar-10-batches-py", dict.fromkeys(batches, attack))
    refusal("cifar10", "can't be downloaded", kind=DataUnavailable)
    put(here / "data", {f"{file}": attack for file in SMALL["cifar10"]})
    refusal("cifar10", "found 34 bytes")
    assert not (here / "unpickled").exists()
    for module in (datasets, fetch, verify):
        assert "pickle" not in Path(module.__file__).read_text(encoding="utf-8").replace("No pickle.", "")


@contextlib.contextmanager
def as_a_user_whom_permissions_bind(*paths):
    """Everything is open to root, who is nobody in the block, and sees these paths at least."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root:
        for path in paths:
            path.chmod(0o755)
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_an_unreadable_file_is_one_sentence(here):
    put(here / "data", SMALL["mnist"])
    (here / "data" / "t10k-labels-idx1-ubyte").chmod(0)
    with as_a_user_whom_permissions_bind(here):
        refusal("mnist", "t10k-labels-idx1-ubyte", "Permission denied")


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
@pytest.mark.parametrize("locked", ["given", "given/mnist", "variable", "data"])
def test_a_folder_that_may_not_be_entered_is_one_sentence(here, monkeypatch, locked):
    """Not that the data set is unavailable: then a stand-in would take its place."""
    monkeypatch.setenv("MINIGRAD_DATA", "variable")
    put(here / locked, SMALL["mnist"])
    (here / locked).chmod(0)
    root = "given" if "given" in locked else None
    with as_a_user_whom_permissions_bind(here):
        words = f"{locked} can't be searched", "Permission denied", "allow it or name another"
        refusal("mnist", *words, root=root)
    (here / locked).chmod(0o755)


def test_a_folder_that_is_not_needed_may_be_closed(here, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", "variable")
    put(here / "variable", SMALL["mnist"])
    put(here / "data", {})
    (here / "data").chmod(0)
    with as_a_user_whom_permissions_bind(here):
        assert_small(mg.load_dataset("mnist"), "mnist")
    (here / "data").chmod(0o755)


def test_a_folder_that_no_system_allows_is_one_sentence(here):
    refusal("mnist", "can't be searched", "File name too long", root="g" * 300)


# Downloaded.


class Server(http.server.ThreadingHTTPServer):
    """The publisher: serves the small files, and records the requests; `fault` spoils what it answers."""

    def __init__(self):
        self.requests, self.fault, self.ranges, self.sent = [], None, True, 0
        self.files = {f"{file}.gz": gzip.compress(c, mtime=0) for file, c in SMALL["mnist"].items()}
        self.files[ARCHIVE] = packed(SMALL["cifar10"])
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, *_):
        pass  # a client that went away is the test's own doing


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        file, server = self.path[1:], self.server
        asked = self.headers.get("Range")
        server.requests.append((file, asked))
        body = server.files.get(file)
        fault = server.fault and server.fault(file, len(server.requests))
        if body is None or fault == "missing":
            return self.send_error(404)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
        if asked and server.ranges and start >= len(body):
            return self.send_error(416)
        body = body[start:]
        self.send_response(206 if asked and server.ranges else 200)
        if fault != "floods":
            self.send_header("Content-Length", "nan" if fault == "babbles" else str(len(body)))
        self.end_headers()
        if fault == "stalls":
            server.shut.wait(5)
        elif fault == "breaks":
            self.wfile.write(body[: len(body) // 2])
        elif fault == "spoils":
            self.wfile.write(bytes(len(body)))
        elif fault == "floods":
            for _ in range(64):
                self.wfile.write(bytes(MIB))
                server.sent += 1
        else:
            self.wfile.write(body)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        server.shut = threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for name in NAMES:
            publish(monkeypatch, name, server.url)
        yield server
        server.shut.set()
        server.shutdown()
        thread.join()


def targets(name):
    return [ARCHIVE] if name == "cifar10" else [f"{file}.gz" for file in SMALL["mnist"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_is_downloaded_once_with_a_progress_bar(here, server, capfd, name):
    assert_small(mg.load_dataset(name), name)
    assert tree(here) == sorted(f"data/{name}/{target}" for target in targets(name))
    assert [file for file, _ in server.requests] == targets(name)
    assert "100%" in capfd.readouterr().err
    assert_small(mg.load_dataset(name), name)
    assert len(server.requests) == len(targets(name))


def test_it_is_downloaded_to_the_folder_given_else_to_that_of_the_variable(here, server, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(here / "variable"))
    find_or_fetch("cifar10")
    (here / "variable" / "cifar10" / ARCHIVE).rename(here / "moved")
    find_or_fetch("cifar10", str(here / "given"))
    assert tree(here) == [f"given/cifar10/{ARCHIVE}", "moved"]


def test_only_what_is_missing_is_downloaded_beside_the_rest(here, server):
    files = dict(list(SMALL["mnist"].items())[1:3])
    put(here / "data" / "MNIST" / "raw", files)
    assert_small(mg.load_dataset("mnist"), "mnist")
    assert [file for file, _ in server.requests] == [targets("mnist")[0], targets("mnist")[3]]
    assert len(tree(here / "data" / "MNIST" / "raw")) == 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ranges", [True, False], ids=["with ranges", "without ranges"])
def test_a_broken_transfer_is_continued(here, server, name, ranges):
    server.ranges, server.fault = ranges, lambda file, request: "breaks" if request == 1 else None
    assert_small(mg.load_dataset(name), name)
    first, second = server.requests[:2]
    assert first == (targets(name)[0], None)
    assert second == (targets(name)[0], f"bytes={len(server.files[targets(name)[0]]) // 2}-")
    assert tree(here) == sorted(f"data/{name}/{target}" for target in targets(name))


def test_a_download_that_was_killed_is_continued(here, server):
    whole = server.files[ARCHIVE]
    for done in (1, 1000, len(whole) - 1, len(whole)):
        put(here / str(done) / "cifar10", {f"partial.{ARCHIVE}": whole[:done]})
        assert_small(mg.load_dataset("cifar10", here / str(done)), "cifar10")
        assert server.requests.pop() == (ARCHIVE, f"bytes={done}-") and not server.requests
        assert tree(here / str(done)) == [f"cifar10/{ARCHIVE}"]


@pytest.mark.parametrize("size", [100, 10**6])
def test_the_remains_of_another_file_are_thrown_away(here, server, size):
    put(here / "data" / "cifar10", {f"partial.{ARCHIVE}": bytes(size)})
    assert_small(mg.load_dataset("cifar10"), "cifar10")
    assert [asked for _, asked in server.requests] == [f"bytes={size}-", None]


def test_a_transfer_that_stays_broken_is_one_sentence_and_the_next_call_continues_it(here, server):
    server.fault = lambda file, request: "breaks" if request <= 3 else "missing"
    words = server.url + ARCHIVE, "Not Found", f"put {ARCHIVE} into data/cifar10"
    refusal("cifar10", *words, kind=DataUnavailable)
    assert tree(here) == [f"data/cifar10/partial.{ARCHIVE}"]
    server.fault = None
    assert_small(mg.load_dataset("cifar10"), "cifar10")
    assert server.requests[-1][1] is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_download_with_wrong_content_leaves_nothing(here, server, name):
    server.fault = lambda file, request: "spoils"
    refusal(name, "can't be downloaded", server.url, kind=DataUnavailable)
    assert tree(here) == [] and len(server.requests) == 1


def test_another_file_under_the_right_address_leaves_nothing(here, server):
    server.files["train-images-idx3-ubyte.gz"] = server.files["t10k-images-idx3-ubyte.gz"]
    refusal("mnist", "found t10k-images-idx3-ubyte", kind=DataUnavailable)
    assert tree(here) == []


@pytest.mark.parametrize("name", NAMES)
def test_an_address_without_the_file_is_one_sentence(here, server, name):
    server.files = {}
    words = server.url + targets(name)[0], "Not Found", "try again", f"put {targets(name)[0]} into"
    refusal(name, *words, kind=DataUnavailable)
    assert tree(here) == [] and len(server.requests) == 1


def test_no_network_is_one_sentence(here):
    refusal("mnist", "can't be downloaded", "Connection refused", "try again", kind=DataUnavailable)
    assert list(here.iterdir()) == []


def test_a_server_that_does_not_answer_is_given_up(here, server, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.2)
    server.fault = lambda file, request: "stalls"
    refusal("cifar10", "timed out", kind=DataUnavailable)
    assert len(server.requests) == 1


def test_the_second_address_is_taken_where_the_first_fails(here, server, monkeypatch):
    publish(monkeypatch, "mnist", "http://127.0.0.1:9/", server.url + "nothing/", server.url)
    assert_small(mg.load_dataset("mnist"), "mnist")


@pytest.mark.parametrize("name", NAMES)
def test_two_downloads_at_once_both_end_with_the_whole_data_set(here, server, name):
    """The same bytes to the same places, whoever is faster; transfers break off too."""
    server.fault = lambda file, request: "breaks" if request % 3 == 1 else None
    found = []
    threads = [threading.Thread(target=lambda: found.append(mg.load_dataset(name))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for data in found:
        assert_small(data, name)
    assert tree(here) == sorted(f"data/{name}/{target}" for target in targets(name))


def downloading(start, server, *lines):
    """A process that executes these lines and then downloads the small CIFAR-10 to ./data."""
    facts = {"urls": (server.url,), "files": FACTS["cifar10"].files}
    script = [
        "import os, signal",
        "import minigrad",
        "from minigrad import fetch",
        "from minigrad.facts import FACTS",
        f"FACTS['cifar10'] = FACTS['cifar10']._replace(**{facts!r})",
        "fetch.TIMEOUT = 60",
        *lines,
        "minigrad.load_dataset('cifar10')",
    ]
    return start("-c", "\n".join(script))


KILL = "os.kill(os.getpid(), signal.SIGKILL)"
MOMENTS = {
    "before it is verified": f"fetch.contents = lambda *_: {KILL}",
    "before it has its name": f"os.replace = lambda *_: {KILL}",
    "once it has its name": f"replace = os.replace; os.replace = lambda *names: (replace(*names), {KILL})",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_download_leaves_nothing_that_the_next_call_does_not_remove(here, server, start, moment):
    """A half-verified copy was left at the first moments, a partial file beside the whole at the last."""
    for _ in range(3):
        killed = downloading(start, server, MOMENTS[moment])
        assert killed.wait() in (-signal.SIGKILL, 0)  # the last moment comes only once
        assert len(tree(here)) == 1
    assert_small(mg.load_dataset("cifar10"), "cifar10")
    assert tree(here) == [f"data/cifar10/{ARCHIVE}"]
    assert [asked for _, asked in server.requests if asked is None] == [None]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_of_a_download_goes_once_the_data_set_is_there(here, monkeypatch, name):
    """From elsewhere too; and what other partial files there are is no business of ours."""
    monkeypatch.setenv("MINIGRAD_DATA", str(here / "elsewhere"))
    put(here / "elsewhere", SMALL[name])
    for target in targets(name):
        put(here / "data" / name, {f"partial.{target}": b"a", f"partial.9-9.{target}": b"b"})
    put(here / "data" / name, {"partial.notes": b"c"})
    assert_small(mg.load_dataset(name), name)
    assert tree(here / "data") == [f"{name}/partial.notes"]


def test_a_download_that_goes_on_is_left_alone(here, server, start):
    """The data set comes from elsewhere meanwhile. Once the other process is dead, its file goes."""
    server.fault = lambda file, request: "stalls"
    other = downloading(start, server)
    wait_for(lambda: server.requests)
    put(here / "data", SMALL["cifar10"])
    left = tree(here / "data" / "cifar10")
    assert_small(mg.load_dataset("cifar10"), "cifar10")
    assert tree(here / "data" / "cifar10") == left == [f"partial.{ARCHIVE}"]
    other.kill()
    other.wait()
    assert_small(mg.load_dataset("cifar10"), "cifar10")
    assert tree(here / "data") == sorted(SMALL["cifar10"])


@pytest.mark.parametrize("end", ["finished", "failed", "killed"])
def test_a_second_process_says_that_it_waits_for_the_first(here, server, start, end):
    """Then it finds the file, or downloads what the first has not."""
    go = threading.Event()

    def fault(file, request):
        go.wait(60)
        return "missing" if end == "failed" and request == 1 else None

    server.fault = fault
    first = downloading(start, server)
    wait_for(lambda: server.requests)
    second = downloading(start, server)
    assert "another process" in second.stderr.readline()
    if end == "killed":
        first.kill()
        wait_for(lambda: len(server.requests) == 2)
    go.set()
    assert second.wait() == 0
    assert first.wait() == {"finished": 0, "failed": 1, "killed": -signal.SIGKILL}[end]
    assert len(server.requests) == (1 if end == "finished" else 2)
    assert tree(here) == [f"data/cifar10/{ARCHIVE}"]


@pytest.mark.parametrize("name", NAMES)
def test_a_download_that_does_not_end_is_given_up(here, server, name):
    """It was once written to the disk as long as it came."""
    server.fault = lambda file, request: "floods"
    refusal(name, server.url + targets(name)[0], "more than the", kind=DataUnavailable)
    assert tree(here) == [] and server.sent < 32


def test_a_length_that_is_no_number_is_not_believed(here, server):
    server.fault = lambda file, request: "babbles"
    assert_small(mg.load_dataset("cifar10"), "cifar10")


def test_a_folder_that_cannot_be_written_is_one_sentence(here, server):
    (here / "file").write_text("no folder")
    refusal("mnist", "Not a directory", "file", root=here / "file", kind=DataUnavailable)


def test_a_full_disk_is_one_sentence(here, server, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (here / "data" / "cifar10").mkdir(parents=True)
    (here / "data" / "cifar10" / f"partial.{ARCHIVE}").symlink_to("/dev/full")
    refusal("cifar10", "No space left on device", kind=DataUnavailable)
    assert not (here / "data" / "cifar10" / ARCHIVE).exists()


# The real files.


@pytest.mark.skipif(not REAL, reason="MINIGRAD_DATA names no real data")
@pytest.mark.parametrize("name", NAMES)
def test_real_data_is_normalized_by_its_training_set(name, monkeypatch):
    monkeypatch.setitem(FACTS, name, REAL_FACTS[name])
    data = mg.load_dataset(name, WHERE / REAL)
    n = 784 if name == "mnist" else 3072
    assert data.x_train.shape == ({"mnist": 60_000, "cifar10": 50_000}[name], n) == (FACTS[name].samples, n)
    assert data.x_test.shape == (10_000, n)
    channels = data.x_train.reshape(len(data.x_train), 1 if name == "mnist" else 3, -1)
    tolerance = 1e-3 if name == "mnist" else 1e-6  # MNIST's usual constants have four digits
    numpy.testing.assert_allclose(channels.mean(axis=(0, 2), dtype="float64"), 0, atol=tolerance)
    numpy.testing.assert_allclose(channels.std(axis=(0, 2), dtype="float64"), 1, atol=tolerance)
    assert (data.y_test.sum(axis=0) > 800).all() and (data.y_test.sum(axis=1) == 1).all()


# The synthetic data.


@pytest.fixture(scope="module", params=["synthetic-mnist", "synthetic-cifar10"])
def synthetic(request):
    return mg.load_dataset(request.param)


def test_synthetic_data_is_the_same_every_time_normalized_and_balanced(synthetic):
    n = {"synthetic-mnist": 784, "synthetic-cifar10": 3072}[synthetic.name]
    assert [a.shape for a in synthetic[:4]] == [(10_000, n), (10_000, 10), (2000, n), (2000, 10)]
    assert all(a.dtype == "float32" for a in synthetic[:4])
    numpy.testing.assert_allclose([synthetic.x_train.mean(), synthetic.x_train.std()], [0, 1], atol=1e-4)
    assert (synthetic.y_train.sum(axis=0) == 1000).all() and (synthetic.y_test.sum(axis=0) == 200).all()
    assert not (synthetic.x_train[:2000] == synthetic.x_test).all(axis=1).any()
    for one, other in zip(synthetic[:4], mg.load_dataset(synthetic.name)):
        numpy.testing.assert_array_equal(one, other)


def test_synthetic_data_has_the_power_law_spectrum_of_natural_images(synthetic):
    """Covariance eigenvalue i falls as 1/i, over two decades."""
    x = synthetic.x_train[:2000].astype("float64")
    values = numpy.linalg.eigvalsh(x @ x.T)[::-1]
    i = numpy.arange(1, 101)
    slope, offset = numpy.polyfit(numpy.log(i), numpy.log(values[i - 1]), 1)
    assert -1.2 < slope < -0.8
    assert abs(numpy.log(values[i - 1]) - slope * numpy.log(i) - offset).max() < 0.5
    assert values[100:].sum() < 1e-6 * values.sum()


def test_an_mlp_learns_synthetic_data_and_a_linear_map_does_not(synthetic):
    """Test accuracy: least squares stays near the 10 % of guessing, one epoch of an MLP does not."""
    x, y = synthetic.x_train, synthetic.y_train
    weights = numpy.linalg.solve(x.T @ x + numpy.eye(x.shape[1]), x.T @ (y - 0.1))
    linear = (synthetic.x_test @ weights).argmax(1) == synthetic.y_test.argmax(1)
    graph = mg.parse("MLP-1-100", n=x.shape[1], k=10)
    params = mg.init_params(graph, numpy.random.default_rng(1))
    velocity = {key: numpy.zeros_like(W) for key, W in params.items()}
    rows = mg.batches(len(x), B=20, seed=1, epoch=1)
    mg.train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", eta=0.003, lam=0.0, momentum=0.5)
    _, accuracy, _ = mg.evaluate(graph, params, synthetic.x_test, synthetic.y_test, "cross_entropy")
    assert linear.mean() < 0.2 < 0.5 < accuracy
