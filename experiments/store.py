"""One run, one file: RESULTS/KEY.npz, whole or absent; KEY.partial.npz beside it holds what resuming needs.

No pickle: arrays, and one JSON text called "meta". A file appears by os.replace, once its bytes are on disk.
"""

import contextlib
import hashlib
import json
import os
import re
import zipfile
from pathlib import Path

import numpy

from . import locks
from .schema import Unfit, check_arrays, check_meta, rounded

LARGEST_META = 2**20  # bytes


class StoreError(Exception):
    """A file of the store can't be read or written; the message says which, why and what to do."""


# Names.


def result_path(results, run):
    """Where the finished run lies."""
    return Path(results) / f"{run.key}.npz"


def partial_path(results, run):
    """Where the unfinished run's checkpoint lies."""
    return Path(results) / f"{run.key}.partial.npz"


def finished(results, run, with_weights=False):
    """Whether the finished run lies there, with its weights if these are asked for."""
    if not result_path(results, run).exists():
        return False
    return not with_weights or any(name.startswith("W ") for name in read_result(results, run)[1])


# Reading and writing.


def read_result(results, run):
    """(meta, arrays) of the finished run; StoreError for a file that is not whole, or not this run's."""
    path = result_path(results, run)
    meta, arrays = read(path)
    arrays = rounded(arrays)
    with _told(path):
        check_meta(run, meta, ("finished", "diverged"))
        with_weights = any(name.startswith("W ") for name in arrays)
        check_arrays(run, meta, arrays, ("W",) if with_weights else ())
    return meta, arrays


def read_checkpoint(results, run):
    """(meta, arrays) of the unfinished run; StoreError likewise."""
    path = partial_path(results, run)
    meta, arrays = read(path)
    arrays = rounded(arrays)
    with _told(path):
        check_meta(run, meta, ("unfinished",))
        check_arrays(run, meta, arrays, ("W", "velocity"))
    return meta, arrays


def read(path):
    """(meta, arrays) of a whole file of the store, whatever it is about; StoreError for any other."""
    if path.exists() and not path.is_file():
        raise _refusal(path, "can't be read (it is no file)")
    try:
        # Nothing is compressed: what is read is no larger than the file.
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError
            if archive.getinfo("meta.npy").file_size > LARGEST_META:
                raise ValueError
            text = json.loads(str(_member(archive, "meta")))
            names = ["meta", *text["arrays"], "digest"]
            present = archive.namelist()
            if present not in ([f"{name}.npy" for name in names], [f"{name}.npy" for name in names[:-1]]):
                raise ValueError
            meta, arrays = text["meta"], {name: _member(archive, name) for name in text["arrays"]}
            written = str(_member(archive, "digest")) if "digest.npy" in present else None
    except Exception as error:  # a damaged file makes zipfile, NumPy and JSON raise nearly anything
        reason = getattr(error, "strerror", None) or "it is not a whole result of this program"
        raise _refusal(path, f"can't be read ({reason})") from None
    is_older = written is None  # than the digest
    if not is_older and written != _digest(meta, arrays):
        raise _refusal(path, "holds other numbers than were written")
    return meta, arrays


def write(path, meta, arrays):
    """Write meta (JSON's types) and arrays (a dict by name) to `path`: whole and on disk, or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = temporary_path(path)
        try:
            with open(partial, "wb") as file:
                # As numpy.savez, which in NumPy 2.0 leaves the archive open after an error.
                with zipfile.ZipFile(file, "w") as archive:
                    _put(archive, "meta", json.dumps({"meta": meta, "arrays": list(arrays)}))
                    for name, array in arrays.items():
                        _put(archive, name, array)
                    _put(archive, "digest", _digest(meta, arrays))
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path} can't be written ({error.strerror or error}): make room or mend the folder, then run "
            "the same command again; nothing that was finished is lost"
        ) from None


def temporary_path(path):
    """Where a file of the store is written. One name, under the run's lock: what kill -9 leaves is reused."""
    return path.with_name(f".{path.name}.tmp")


def _put(archive, name, array):
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        numpy.lib.format.write_array(member, numpy.asanyarray(array), allow_pickle=False)


def _member(archive, name):
    with archive.open(f"{name}.npy") as member:
        return numpy.lib.format.read_array(member, allow_pickle=False)


def _digest(meta, arrays):
    """SHA-256 of all that a file says, as hex digits."""
    found = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name, array in arrays.items():
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        stored = "F" if array.flags.f_contiguous else "C"  # as a file has it
        found.update(array.ravel(order=stored))
    return found.hexdigest()


@contextlib.contextmanager
def _told(path):
    try:
        yield
    except Unfit as error:
        raise _refusal(path, f"is not what its name says ({error})") from None


def _refusal(path, reason):
    again = "mend or delete it, then run the same command again to train it anew"
    return StoreError(f"{path} {reason}: {again}")


# Locks.


def lock_path(results, key):
    """The file that who trains the run holds."""
    return Path(results) / f".{key}.lock"


@contextlib.contextmanager
def lock(results, run):
    """Hold this run against other processes; the kernel frees it when the process ends, however it ends."""
    path = lock_path(results, run.key)
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.held(path))
        except OSError as error:
            raise StoreError(
                f"{path} can't be written ({error.strerror}): give --results a folder that can be"
            ) from None
        yield
        path.unlink(missing_ok=True)  # while it is held: who waited for this name looks again


@contextlib.contextmanager
def locks_of(results, runs):
    """Hold all of these runs; in one order everywhere, so that no two processes wait for one another."""
    with contextlib.ExitStack() as stack:
        for run in sorted(runs, key=lambda run: run.key):
            stack.enter_context(lock(results, run))
        yield


def sweep(results):
    """Remove what killed processes left: locks, files half written, checkpoints of runs that are finished."""
    for path in Path(results).glob(".*.lock"):
        if not re.fullmatch(r"\.[0-9a-f]{16}\.lock", path.name):  # not a run's
            continue
        result = path.with_name(path.name[1:].removesuffix(".lock") + ".npz")
        partial = result.with_suffix(".partial.npz")
        # A store that may only be read is not swept.
        with contextlib.suppress(OSError), locks.left_by_the_dead(path) as left:
            if left:
                temporary_path(result).unlink(missing_ok=True)
                temporary_path(partial).unlink(missing_ok=True)
                if _is_older(partial, result):  # a newer one is the run trained again, for its weights
                    partial.unlink()


def _is_older(path, other):
    return path.exists() and other.exists() and path.stat().st_mtime_ns <= other.stat().st_mtime_ns
