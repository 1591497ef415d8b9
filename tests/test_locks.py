"""Who is alive keeps what he holds, and what the dead left behind is removed by who comes by next."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
from pathlib import Path

import pytest

from experiments import files, locks, parallel, store
from experiments.runs import Run


@contextlib.contextmanager
def another_holds(path):
    """As another process would: a lock of flock belongs to the opened file."""
    with open(path, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_who_waited_for_a_name_that_was_removed_waits_for_the_new_one(tmp_path, monkeypatch):
    """Else two are in: he who has the old file, and he who came later and has the new one."""
    path = tmp_path / "lock"
    take = fcntl.flock
    others = contextlib.ExitStack()

    def first(file, operation):
        path.unlink()  # by who held it, and then somebody else came
        monkeypatch.setattr(fcntl, "flock", take)
        others.enter_context(another_holds(path))
        take(file, operation)
        monkeypatch.setattr(fcntl, "flock", second)

    def second(file, operation):
        take(file, operation | fcntl.LOCK_NB)

    monkeypatch.setattr(fcntl, "flock", first)
    with others, pytest.raises(BlockingIOError):
        with locks.held(path):
            pytest.fail("two are in")


def test_only_what_nobody_holds_is_left_by_the_dead(tmp_path):
    path = tmp_path / "lock"
    with locks.left_by_the_dead(path) as left:
        assert not left
    path.touch()
    with another_holds(path), locks.left_by_the_dead(path) as left:
        assert not left
    assert path.exists()
    with locks.left_by_the_dead(path) as left:
        assert left and path.exists()
        with pytest.raises(BlockingIOError), open(path) as file:  # nobody takes it meanwhile
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with locks.left_by_the_dead(path) as left_too:  # who sweeps at the same time
            assert not left_too
    assert not path.exists()


def test_a_name_that_somebody_has_taken_anew_is_not_left_by_the_dead(tmp_path, monkeypatch):
    """Between the opening of the file and its lock. Else the new holder would lose his name: two be in."""
    path = tmp_path / "lock"
    path.touch()
    take = fcntl.flock
    others = contextlib.ExitStack()

    def flock(file, operation):
        monkeypatch.setattr(fcntl, "flock", take)
        path.unlink()
        others.enter_context(another_holds(path))
        take(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with others, locks.left_by_the_dead(path) as left:
        assert not left
    assert path.exists()


def left_in_the_store(folder):
    """What a process killed while it wrote a result leaves, and the result; their paths."""
    run = Run()
    result, partial = store.result_path(folder, run), store.partial_path(folder, run)
    half = [store.temporary_path(result), store.temporary_path(partial)]
    for path in (partial, result, *half, store.lock_path(folder, run.key)):
        path.touch()
    os.utime(partial, ns=(0, 0))
    return result, partial, half


def test_the_store_is_swept_of_what_the_dead_left(tmp_path):
    result, _, _ = left_in_the_store(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.tmp").touch()
    store.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {result.name, "notes.txt", ".hidden.tmp"}


FOREIGN = (".terraform.lock", ".notes.npz.tmp", ".mail.txt.4711.tmp", ".a.b.7.tmp", "notes.npz")


@pytest.mark.parametrize("sweep", [store.sweep, files._sweep])
def test_files_of_others_are_not_swept_and_odd_ones_stop_nothing(tmp_path, sweep):
    for name in FOREIGN:
        (tmp_path / name).touch()
    odd = [f".{16 * 'a'}.lock", ".fig.png.1.tmp", f".{16 * 'b'}.lock", ".fig.png.2.tmp"]
    for name in odd[:2]:
        (tmp_path / name).mkdir()
    for name in odd[2:]:
        os.mkfifo(tmp_path / name)
    (tmp_path / f".{16 * 'c'}.lock").symlink_to(f".{16 * 'c'}.lock")
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*FOREIGN, *odd, f".{16 * 'c'}.lock"}


def test_what_the_living_write_is_not_swept(tmp_path):
    left_in_the_store(tmp_path)
    before = set(tmp_path.iterdir())
    with store.lock(tmp_path, Run()):
        store.sweep(tmp_path)
        assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("finished", [True, False])
def test_a_checkpoint_that_is_still_needed_is_not_swept(tmp_path, finished):
    """Of a run that is not finished, or that is trained again for its weights."""
    result, partial, _ = left_in_the_store(tmp_path)
    if finished:
        os.utime(result, ns=(0, 0))
        os.utime(partial)
    else:
        result.unlink()
    store.sweep(tmp_path)
    assert partial.exists() and not store.lock_path(tmp_path, Run().key).exists()


def test_a_folder_on_nfs_is_swept_too(tmp_path, monkeypatch):
    """There the lock of a file that is open to be read alone is refused, as flock(2) says."""
    result, _, _ = left_in_the_store(tmp_path)
    take = fcntl.flock

    def flock(file, operation):
        if operation & fcntl.LOCK_EX and not file.writable():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        take(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    store.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [result.name]


def test_a_store_that_may_not_be_changed_is_not_swept(tmp_path, monkeypatch):
    left_in_the_store(tmp_path)

    def refuse(*args, **options):
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    store.sweep(tmp_path)


WRITES = """if True:
    import sys
    from experiments.files import together
    with together(sys.argv[1], "png", "csv") as (_, partial):
        partial[0].write_text("half")
        print("writes", flush=True)
        sys.stdin.readline()
"""


def test_files_half_written_by_the_dead_are_removed_and_by_the_living_not(tmp_path, start):
    dead, alive = (start("-c", WRITES, tmp_path / name, stdin=subprocess.PIPE) for name in ("dead", "alive"))
    for process in (dead, alive):
        assert process.stdout.readline() == "writes\n"
    dead.kill()
    dead.wait(timeout=60)
    assert len(list(tmp_path.iterdir())) == 4
    with files.together(tmp_path / "new", "md"):
        pass
    names = {path.name for path in tmp_path.iterdir()} - {"new.md"}
    assert {name.split(".")[1] for name in names} == {"alive"} and len(names) == 2
    alive.communicate("\n", timeout=60)
    (tmp_path / "new.md").unlink()
    assert {path.name for path in tmp_path.iterdir()} == {"alive.png", "alive.csv"}


SEMAPHORE = """if True:
    import multiprocessing, sys
    from experiments import parallel
    if sys.argv[1] == "ours":
        parallel.name_semaphores()
    made = multiprocessing.get_context("spawn").Semaphore()
    print(made._semlock.name, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(not parallel.SHARED_MEMORY.is_dir(), reason="this system keeps semaphores elsewhere")
def test_semaphores_of_a_command_that_was_killed_whole_are_removed(start):
    """Its process that clears up died with it. A living command keeps its own, and so does a stranger."""

    def begin(whose):
        process = start("-c", SEMAPHORE, whose, stdin=subprocess.PIPE)
        name = process.stdout.readline().strip()
        return process, Path("/dev/shm/sem." + name.lstrip("/"))

    def kill(process):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)

    killed, its = begin("ours")
    kill(killed)
    stranger, not_ours = begin("another program's")
    kill(stranger)
    alive, other = begin("ours")
    assert its.exists() and not_ours.exists() and other.exists()
    parallel.sweep_semaphores()
    assert not its.exists() and not_ours.exists() and other.exists()
    alive.communicate("\n", timeout=60)
    not_ours.unlink()


def test_processes_elsewhere_with_the_same_numbers_keep_their_semaphores(tmp_path, monkeypatch):
    """In a container of its own, say, which shares the memory: who is alive there can't be seen from here."""
    monkeypatch.setattr(parallel, "SHARED_MEMORY", tmp_path)
    (tmp_path / "sem.minigrad-1-999999999-abc").touch()
    ours = tmp_path / f"sem.minigrad-{parallel.OUR_PIDS.stat().st_ino}-999999999-abc"
    ours.touch()
    parallel.sweep_semaphores()
    assert [path.name for path in tmp_path.iterdir()] == ["sem.minigrad-1-999999999-abc"]


def test_a_folder_in_a_file_s_place_lets_none_of_its_companions_appear(tmp_path):
    (tmp_path / "fig1.svg").mkdir()
    with pytest.raises(IsADirectoryError) as error:
        with files.together(tmp_path / "fig1", "png", "svg"):
            pytest.fail("wrote")
    assert error.value.filename == str(tmp_path / "fig1.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["fig1.svg"]
