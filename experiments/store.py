"""One run, one file: RESULTS/KEY.npz, whole or absent; KEY.partial.npz beside it holds what resuming needs.

No pickle: arrays, and one JSON text called "meta". A file appears by os.replace, once its bytes are on disk.
"""

import contextlib
import fcntl
import functools
import json
import os
import platform
import subprocess
import zipfile
from pathlib import Path

import numpy

SCALARS = ("epoch", "distance", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


class StoreError(Exception):
    """A file of the store can't be read or written; the message says which, why and what to do."""


def array_name(kind, key):
    """What an array is called in a file: its kind ("spectrum", "W", "velocity") and its key in params."""
    return f"{kind} {key[0]}-{key[1]}"


def result_path(results, run):
    """Where the finished run lies."""
    return Path(results) / f"{run.key}.npz"


def partial_path(results, run):
    """Where the unfinished run's checkpoint lies."""
    return Path(results) / f"{run.key}.partial.npz"


def finished(results, run, with_weights=False):
    """Whether the finished run lies there, with its weights if these are asked for."""
    path = result_path(results, run)
    if not path.exists():
        return False
    return not with_weights or any(name.startswith("W ") for name in read(path)[1])


def write(path, meta, arrays):
    """Write meta (JSON's types) and arrays (a dict by name) to `path`: whole and on disk, or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One name, under the run's lock: what kill -9 leaves is reused.
        partial = path.with_name(f".{path.name}.tmp")
        try:
            with open(partial, "wb") as file:
                text = json.dumps({"meta": meta, "arrays": list(arrays)})
                # As numpy.savez, which in NumPy 2.0 leaves the archive open after an error.
                with zipfile.ZipFile(file, "w") as archive:
                    for name, array in {"meta": text, **arrays}.items():
                        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                            numpy.lib.format.write_array(member, numpy.asanyarray(array), allow_pickle=False)
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


def read(path):
    """(meta, arrays) of a file of the store; StoreError for one that isn't whole."""
    try:
        with open(path, "rb") as file:
            npz = numpy.load(file, allow_pickle=False)
            text = json.loads(str(npz["meta"]))
            return text["meta"], {name: npz[name] for name in text["arrays"]}
    except Exception as error:  # a damaged file makes zipfile, NumPy and JSON raise nearly anything
        reason = getattr(error, "strerror", None) or "it is not a whole result of this program"
        raise StoreError(
            f"{path} can't be read ({reason}): mend or delete it, "
            "then run the same command again to train it anew"
        ) from None


def refuse_other_bits(path, begun, now):
    """StoreError if the checkpoint at `path` was begun by what gives other bits than what computes now."""
    backend = begun["backend"].split()[0]
    if backend != now["backend"].split()[0]:
        raise StoreError(
            f"{path} was begun with {begun['backend']}, and another backend would give other bits: "
            f"continue with --backend {backend}, or delete it to start anew"
        )
    if begun["kernels"].split()[0] != now["kernels"].split()[0]:
        raise StoreError(
            f"{path} was begun with kernels of {begun['kernels']}, "
            f"and those of {now['kernels']} would give other bits: "
            "install or remove Numba to continue, or delete it to start anew"
        )


@contextlib.contextmanager
def lock(results, run):
    """Hold this run against other processes; the kernel frees it when the process ends, however it ends."""
    path = Path(results) / f".{run.key}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")
    except OSError as error:
        raise StoreError(
            f"{path} can't be written ({error.strerror}): give --results a folder that can be"
        ) from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        # Who waited on this name finds the run finished, so the name may go while the lock is held.
        path.unlink(missing_ok=True)


@functools.cache
def provenance(backend):
    """What computed the numbers: commit, versions, backend, BLAS and machine. No part of a run's key."""
    from threadpoolctl import threadpool_info

    from minigrad.backend import load_backend
    from minigrad.kernels import PATH

    xp = load_backend(backend)
    # In the order in which they were loaded: NumPy's is the first, and others may follow at any time.
    blas = [
        f"{lib['internal_api']} {lib['version']} {lib.get('architecture', '')}".strip()
        for lib in threadpool_info()
        if lib["user_api"] == "blas"
    ]
    return {
        "commit": _commit(),
        "backend": f"{xp.__name__} {xp.__version__}",
        "kernels": PATH if backend == "numpy" else backend,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "blas": blas[0] if blas else "unknown",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _commit():
    """HEAD of the checkout this file lies in, with -dirty for uncommitted changes; "unknown" outside one."""
    here = Path(__file__).resolve().parent
    # In a hook, or under `git rebase --exec`, these name the repository that git works on, whatever -C says.
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
    env = {name: value for name, value in os.environ.items() if name not in elsewhere}

    def git(*args):
        done = subprocess.run(["git", "-C", here, *args], capture_output=True, text=True, check=True, env=env)
        return done.stdout.strip()

    try:
        # This fails for a package installed inside another project's checkout.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
