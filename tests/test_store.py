"""One run, one file: whole or absent, read or refused by a sentence; locks between processes."""

import contextlib
import errno
import functools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from experiments import store
from experiments.runs import Run

ROOT = Path(store.__file__).resolve().parents[1]
META = {"run": Run().as_dict(), "status": "finished", "note": "λ"}


@pytest.fixture
def path(tmp_path):
    """A folder of its own holds one whole file."""
    path = tmp_path / "results" / "run.npz"
    store.write(path, META, {"distance": numpy.arange(4.0)})
    return path


def assert_still_whole(path):
    """The file that was there is there, unchanged and alone."""
    meta, arrays = store.read(path)
    assert meta == META
    numpy.testing.assert_array_equal(arrays["distance"], numpy.arange(4.0))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def assert_one_sentence(error, path, *words):
    message = str(error.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


# What is written is what is read.


def test_what_is_written_is_read_bit_for_bit(tmp_path, rng):
    arrays = {
        "distance": numpy.array([numpy.nan, numpy.inf, -0.0, 5e-324]),
        "W 2-1": rng.normal(size=(8, 5)).astype("float32"),
        "velocity gamma-2": numpy.zeros((1, 1), "float32"),
        "W 3-2": numpy.asfortranarray(rng.normal(size=(3, 8))),
        "spectrum 2-1": numpy.empty((0, 5)),
    }
    path = tmp_path / "new" / "folder" / "run.npz"
    store.write(path, META, arrays)
    meta, read = store.read(path)
    assert meta == META
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype, name
        assert read[name].tobytes() == array.tobytes(), name
        # Another layout would be summed in another order by BLAS, and a resumed run would have other bits.
        assert read[name].flags.f_contiguous == array.flags.f_contiguous, name


def test_a_new_file_replaces_the_old_one(path):
    store.write(path, {"status": "finished"}, {"loss": numpy.ones(2)})
    meta, arrays = store.read(path)
    assert meta == {"status": "finished"}
    assert list(arrays) == ["loss"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


# Whole or not at all.


class Breaks:
    """An array that can't be had when its turn comes: what stands before it is written by then."""

    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError()], ids=repr)
def test_a_writer_interrupted_half_way_leaves_the_old_file_alone(path, error):
    arrays = {"distance": numpy.ones(1000), "late": Breaks(error)}
    with pytest.raises(type(error)):
        store.write(path, {"status": "new"}, arrays)
    assert_still_whole(path)


def test_a_writer_killed_half_way_leaves_the_old_file_and_the_next_one_clears_up(path, start):
    code = """if True:
        import os, sys, numpy
        from pathlib import Path
        from experiments import store
        class Kills:
            def __array__(self, dtype=None, copy=None):
                os.kill(os.getpid(), 9)
        store.write(Path(sys.argv[1]), {}, {"distance": numpy.ones(100_000), "late": Kills()})
    """
    process = start("-W", "error", "-c", code, path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert store.read(path)[0] == META
    store.write(path, META, {"distance": numpy.arange(4.0)})
    assert_still_whole(path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_that_does_not_reach_the_disk_replaces_nothing(path, monkeypatch, call):
    """os.replace before os.fsync would show a file whose bytes are still on their way."""

    def refuse(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(store.StoreError) as error:
            store.write(path, {"status": "new"}, {"distance": numpy.ones(3)})
    assert_one_sentence(error, path, "No space left on device", "make room", "again")
    assert_still_whole(path)


def test_the_file_synced_is_the_whole_file_that_appears(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd)))
    store.write(path, META, {"distance": numpy.ones(1000)})
    appeared = path.stat()
    assert [(file.st_ino, file.st_size) for file in synced] == [(appeared.st_ino, appeared.st_size)]


def test_the_kernel_refusing_to_write_on_is_one_sentence(path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        with pytest.raises(store.StoreError) as error:
            store.write(path, {"status": "new"}, {"distance": numpy.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_one_sentence(error, path, os.strerror(errno.EFBIG), "again")
    assert_still_whole(path)


def test_a_full_disk_is_one_sentence_and_keeps_what_was_finished(tmp_path):
    """A file system of 64 KiB, in a name space of its own."""
    mount_and_run = 'mount -t tmpfs -o size=64k none "$0" && exec "$@"'
    inside = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount_and_run, str(tmp_path)]
    if not shutil.which("unshare") or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    code = """if True:
        import os, sys, numpy
        from pathlib import Path
        from experiments import store
        path = Path(sys.argv[1]) / "run.npz"
        store.write(path, {"status": "old"}, {"distance": numpy.ones(4)})
        try:
            store.write(path, {"status": "new"}, {"distance": numpy.ones(100_000)})
        except store.StoreError as error:
            print(error)
        print(store.read(path)[0]["status"], os.listdir(path.parent))
    """
    command = [*inside, sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    sentence, rest = done.stdout.splitlines()
    for words in (str(tmp_path / "run.npz"), os.strerror(errno.ENOSPC), "make room"):
        assert words in sentence
    assert rest == "old ['run.npz']"
    assert done.stderr == ""


def test_a_folder_that_cannot_be_made_is_one_sentence(path):
    with pytest.raises(store.StoreError) as error:
        store.write(path / "inner" / "run.npz", META, {})
    assert_one_sentence(error, path / "inner" / "run.npz", "folder")
    assert_still_whole(path)


# What isn't whole is refused.


def assert_refused(path):
    with pytest.raises(store.StoreError) as error:
        store.read(path)
    assert_one_sentence(error, path, "delete it", "same command again")


def test_a_file_cut_off_anywhere_is_refused(path):
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 41), len(whole) - 1]:
        path.write_bytes(whole[:size])
        assert_refused(path)


def test_a_damaged_byte_gives_the_same_numbers_or_a_sentence_never_other_numbers(path):
    whole = bytearray(path.read_bytes())
    refused = 0
    for place in range(len(whole)):
        damaged = whole.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            meta, arrays = store.read(path)
        except store.StoreError:
            refused += 1
            continue
        assert meta == META, place
        assert list(arrays) == ["distance"], place
        numpy.testing.assert_array_equal(arrays["distance"], numpy.arange(4.0), err_msg=str(place))
    assert refused > len(whole) / 2


def bare_array(path):
    with open(path, "wb") as file:
        numpy.save(file, numpy.ones(3))


def folder(path):
    path.unlink()
    path.mkdir()


def link_into_nothing(path):
    path.unlink()
    path.symlink_to("nowhere")


OTHER_FILES = {
    "text": lambda path: path.write_text("no archive\n" * 100),
    "one bare array": bare_array,
    "an archive without meta": lambda path: numpy.savez(path, distance=numpy.ones(3)),
    "an archive whose meta is no JSON": lambda path: numpy.savez(path, meta=numpy.array("{")),
    "a folder": folder,
    "nothing": Path.unlink,
    "a link into nothing": link_into_nothing,
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_another_thing_in_the_place_of_a_result_is_refused(path, kind):
    OTHER_FILES[kind](path)
    assert_refused(path)


ROOT_READS_ALL = "root may read everything; a folder in its place is refused above"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason=ROOT_READS_ALL)
def test_a_file_that_may_not_be_read_is_refused(path):
    path.chmod(0)
    assert_refused(path)


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def pickled_whole(path, bomb):
    path.write_bytes(pickle.dumps(bomb))


def pickled_array(path, bomb):
    objects = numpy.empty(1, dtype=object)
    objects[0] = bomb
    numpy.savez(path, meta=numpy.array(json.dumps(META)), distance=objects)


@pytest.mark.parametrize("fill", [pickled_whole, pickled_array])
def test_no_pickle_is_ever_loaded(path, tmp_path, fill):
    fill(path, Bomb(tmp_path / "exploded"))
    assert_refused(path)
    assert not (tmp_path / "exploded").exists()


# Locks.

# Who is refused the lock says so, and only then waits for it.
HOLD = """if True:
    import fcntl, sys
    from experiments import store
    from experiments.runs import Run
    take = fcntl.flock
    def flock(file, operation):
        try:
            take(file, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waits", flush=True)
            take(file, operation)
    fcntl.flock = flock
    with store.lock(sys.argv[1], Run()):
        with open(sys.argv[2], "a") as log:
            log.write("in\\n")
            log.flush()
            print("held", flush=True)
            sys.stdin.readline()
            log.write("out\\n")
"""


@pytest.fixture
def holder(tmp_path, start):
    """holder() is a process that takes the lock, says so, and lets go when it is told a line."""
    args = ("-W", "error", "-c", HOLD, tmp_path / "results", tmp_path / "log")
    return functools.partial(start, *args, stdin=subprocess.PIPE)


def test_a_second_process_waits_until_the_first_lets_go(tmp_path, holder):
    first = holder()
    assert first.stdout.readline() == "held\n"
    second = holder()
    assert second.stdout.readline() == "waits\n"
    assert (tmp_path / "log").read_text(encoding="utf-8") == "in\n"
    assert first.communicate("\n", timeout=60) == ("", "")
    assert second.communicate("\n", timeout=60) == ("held\n", "")
    assert (tmp_path / "log").read_text(encoding="utf-8") == "in\nout\nin\nout\n"
    assert list((tmp_path / "results").iterdir()) == []


def test_the_lock_of_a_killed_process_is_free(holder):
    first = holder()
    assert first.stdout.readline() == "held\n"
    first.kill()
    first.communicate(timeout=60)
    assert holder().communicate("\n", timeout=60) == ("held\n", "")


def test_locks_of_different_runs_are_different(tmp_path):
    ours = store.lock(tmp_path, Run())
    another_run_s = store.lock(tmp_path, Run(seed=1))
    another_folder_s = store.lock(tmp_path / "other", Run())
    with ours, another_run_s, another_folder_s:
        pass


def test_an_error_inside_lets_go_of_the_lock(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with contextlib.suppress(KeyboardInterrupt), store.lock(tmp_path, Run()):
        raise KeyboardInterrupt
    for path in tmp_path.iterdir():
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_without_room_for_a_lock_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(store.StoreError) as error:
        with store.lock(tmp_path / "file", Run()):
            pass
    assert_one_sentence(error, tmp_path / "file", "--results")
