"""One run, one file: RESULTS/KEY.npz, whole or absent; its checkpoint is KEY.partial.npz.

A file is numpy.savez of arrays, one JSON text called "meta" and a digest of both. No pickle.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path

import numpy

from .runs import Run, changed_rules


class StoreError(Exception):
    """A file of the store can't be read; the message says which, why and what to do."""


def result_path(results, run):
    """Where a finished run is written."""
    return Path(results) / f"{run.key}.npz"


def checkpoint_path(results, run):
    """Where the checkpoint of an unfinished run lies."""
    return Path(results) / f"{run.key}.partial.npz"


def read(path, run):
    """(meta, arrays) of the file; StoreError unless it is whole and holds that run."""
    try:
        # NumPy leaves a file open that it can't read; this one is closed.
        with open(path, "rb") as file, numpy.load(file, allow_pickle=False) as archive:
            text = json.loads(str(archive["meta"]))
            meta, arrays = text["meta"], {name: archive[name] for name in text["arrays"]}
            digest = archive.get("digest")
        fields = meta["run"].items()
        # The first files have three more fields, which were never used, and no digest.
        used = {name: value for name, value in fields if value or not name.startswith("tail_")}
        found = Run(**used), meta.get("rules", ""), meta["status"] == "unfinished"
        if found != (run, changed_rules(), path.name.endswith(".partial.npz")):
            raise ValueError("it does not hold the run that its name promises")
        if digest is not None and digest != _digest(meta, arrays):
            raise ValueError("it is damaged")
        return meta, arrays
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # a damaged file makes zipfile, NumPy and JSON raise nearly anything
        way_out = "mend or delete it, then run the same command again"
        raise StoreError(f"{path} can't be read ({error}): {way_out}") from None


def write(path, meta, arrays):
    """Write meta (JSON's types) and arrays (a dict by name): whole, or not at all."""
    text = json.dumps({"meta": meta, "arrays": list(arrays)})
    # One name for a run's checkpoint and result: the next write overwrites what was left half-way.
    partial = path.with_name(f".{path.name.partition('.')[0]}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(partial, "wb") as file:
            numpy.savez(file, meta=text, **arrays, digest=_digest(meta, arrays))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:  # the error for a full disk names no file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(results, runs):
    """Lock these runs against other processes; the kernel unlocks them however this one ends.

    The lock files stay in RESULTS/.locks: removing one could let two processes in.
    """
    folder = Path(results) / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        # One order everywhere, so that no two processes wait for each other.
        for key in sorted(run.key for run in runs):
            file = stack.enter_context(open(folder / key, "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(meta, arrays):
    """SHA-256 of all that a file says, as hex digits."""
    found = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name, array in arrays.items():
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes("A"))  # in the order in which it lies in the file
    return found.hexdigest()
