"""One run, one file: whole or absent, read or refused by a sentence; locks between processes."""

import errno
import fcntl
import json
import os
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy
import pytest

from experiments import store
from experiments.runs import Run
from experiments.train import Config

DATA = Path(__file__).parent / "data"
RUN = Run(network="MLP-BN-2-4", lam=1 / 3)
FIELDS = json.loads(json.dumps(asdict(RUN)))
META = {"run": FIELDS, "status": "finished", "note": "λ"}
ARRAYS = {"distance": numpy.arange(4.0)}
# Old files: float64 spectra and no digest; with the fields of a tail, and diverged.
OLDEST = Run(B=4, eta=0.001, detached=False, epochs=100, measure_every=5)
DIVERGED = Run(
    network="MLP-2-8", dataset="synthetic-cifar10", m=640, m_test=100, B=64, eta=1e9,
    lam=231.81500000000705, milestones=(0, 0, 1), epochs=2, measure_every=5,
)


@pytest.fixture
def path(tmp_path):
    """The one file of a results folder."""
    path = store.result_path(tmp_path / "results", RUN)
    store.write(path, META, ARRAYS)
    return path


def assert_refused(path):
    with pytest.raises(store.StoreError) as error:
        store.read(path, RUN)
    message = str(error.value)
    assert str(path) in message and "delete it" in message and "\n" not in message


def test_what_is_written_is_read_bit_for_bit(path, rng):
    """Memory order too: BLAS would add up in another order, and a resumed run would differ."""
    arrays = {
        "distance": numpy.array([numpy.nan, numpy.inf, -0.0, 5e-324]),
        "W 3-2": numpy.asfortranarray(rng.normal(size=(3, 8))),
        "spectrum 2-1": numpy.empty((0, 5), "float32"),
    }
    store.write(path, META, arrays)
    meta, found = store.read(path, RUN)
    assert meta == META and list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].tobytes("A") == array.tobytes("A")
        assert found[name].flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize(
    "run, status, dtype", [(OLDEST, "finished", "float64"), (DIVERGED, "diverged", "float32")]
)
def test_old_files_are_read_as_their_runs(run, status, dtype):
    meta, arrays = Config(DATA).read(run)
    assert meta["status"] == status and arrays["spectrum 2-1"].dtype == dtype
    assert numpy.isnan(arrays["train_loss"]).any() == (status == "diverged")


def test_digests_count_arrays_in_the_order_in_which_they_lie():
    """The literal digest of an old file: another order would refuse kept weights."""
    values = numpy.array([[1.5, -2.0, 3.25], [0.0, 1e-3, 7.0]])
    arrays = {
        "in C order": values,
        "in F order": numpy.asfortranarray(values.astype("float32")),
        "empty": numpy.empty((0, 3)),
    }
    meta = {"status": "finished", "epoch": 12, "run": {"lam": 5e-4}}
    assert store._digest(meta, arrays).startswith("2aad5fc9ef23e34813fba997b5c810aa")


def test_results_are_read_before_what_is_published(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    config = Config(ours, theirs)
    store.write(store.checkpoint_path(ours, RUN), META, ARRAYS)
    assert config.read(RUN) is None and config.path(RUN) is None
    for folder in (theirs, ours):
        store.write(store.result_path(folder, RUN), META | {"by": folder.name}, ARRAYS)
        assert config.read(RUN)[0]["by"] == folder.name
    store.write(store.result_path(theirs, RUN), META, {"W 2-1": ARRAYS["distance"]})
    assert "W 2-1" in replace(config, keep_weights=True).read(RUN)[1]


def test_a_writer_killed_half_way_leaves_the_old_file_and_the_next_one_clears_up(path, start):
    code = """if True:
        import os, sys, numpy
        from pathlib import Path
        from experiments import store
        def kill(file):
            os.kill(os.getpid(), 9)
        os.fsync = kill
        store.write(Path(sys.argv[1]), {}, {"distance": numpy.ones(100_000)})
    """
    process = start("-c", code, path)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert store.read(path, RUN)[0] == META and len(os.listdir(path.parent)) == 2
    store.write(path, META, ARRAYS)
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="disk full"):
        store.write(path, {"status": "new"}, {})
    assert store.read(path, RUN)[0] == META and os.listdir(path.parent) == [path.name]


def test_a_file_cut_off_or_flipped_anywhere_is_refused_or_changes_no_number(path):
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        assert_refused(path)
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            meta, arrays = store.read(path, RUN)
            assert meta == META and arrays["distance"].tolist() == [0, 1, 2, 3]
        except store.StoreError:
            refused += 1
    assert refused > len(whole) / 14


class Bomb:
    """Unpickled, it raises SystemExit."""

    def __reduce__(self):
        return sys.exit, ("a pickle was loaded",)


def test_other_numbers_in_a_whole_archive_are_refused_and_no_pickle_is_loaded(path):
    """The archive's checksums fit: only the digest tells."""
    with numpy.load(path) as archive:
        content = dict(archive)
    status = str(content["meta"]).replace("finished", "diverged")
    last_bit = numpy.nextafter(content["distance"], numpy.inf)
    for changed in (status, last_bit, numpy.array([Bomb()], object)):
        name = "meta" if changed is status else "distance"
        numpy.savez(path, **content | {name: changed})
        assert_refused(path)


def test_a_file_that_may_not_be_read_is_not_called_damaged(path, monkeypatch):
    def refuse(*args):
        raise PermissionError("not yours")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError):
        store.read(path, RUN)


def test_a_file_under_another_run_s_name_is_refused(path):
    for changed in (
        {"run": FIELDS | {"seed": 1}},
        {"rules": "1.53168e+00"},
        {"status": "unfinished"},  # a checkpoint
        {"run": FIELDS | {"tail_epochs": 7}},  # a field that was taken away
    ):
        store.write(path, META | changed, ARRAYS)
        assert_refused(path)


def test_locks_are_taken_in_one_order_whatever_the_order_of_the_runs(tmp_path, monkeypatch):
    """Two processes that each hold what the other waits for would wait for ever."""
    runs, taken = [replace(RUN, seed=seed) for seed in range(5)], []
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: taken.append(file.name))
    for order in (runs, runs[::-1]):
        with store.locked(tmp_path, order):
            pass
    assert len(set(taken)) == 5 and taken[:5] == taken[5:]
