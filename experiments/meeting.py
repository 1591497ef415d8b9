"""What a command and its workers must have in common: code, files, and what computes the same bits."""

import contextlib
import functools
import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

import minigrad

from . import locks, store
from .provenance import origin, other_bits


@dataclass(frozen=True)
class Meeting:
    """What a worker must see and be, to compute for a command."""

    token: Path  # a file in the results folder,
    text: str  # and what stands in it, which nobody can guess
    files: tuple  # of the data sets
    backend: str
    code: str  # digest of the command's
    origin: dict | None = None  # of the worker that the others must agree with


@functools.cache
def code():
    """SHA-256 of the files of minigrad and experiments, as they were when this process first asked.

    So a worker that has loaded them before they were changed is known.
    """
    found = hashlib.sha256()
    for package in (minigrad.__file__, __file__):
        folder = Path(package).parent
        for path in sorted(folder.rglob("*.py")):
            found.update(f"{path.relative_to(folder.parent)}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


@contextlib.contextmanager
def token(results):
    """The path of a file in the results folder, and its text. What a kill leaves is swept as a run's lock."""
    path = store.lock_path(results, secrets.token_hex(8))
    text = secrets.token_hex()
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.held(path))
            stack.callback(path.unlink, missing_ok=True)  # while it is held
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise store.StoreError(
                f"{path} can't be written ({error.strerror}): give --results a folder that can be"
            ) from None
        yield path, text


def objection(meeting, dask_worker):
    """Why this process, a worker, can't work for that command; None if it can."""
    if code() != meeting.code:
        here = Path(__file__).resolve().parents[1]
        return f"has another minigrad, in {here}: install the same there, and start it again"
    if dask_worker.state.nthreads > 1:
        return f"takes {dask_worker.state.nthreads} runs at a time: start it with --nthreads 1"
    folder = meeting.token.parent
    shared = "give --results a folder that all workers see by the same name"
    try:
        text = meeting.token.read_text(encoding="utf-8")
    except OSError as error:
        return f"does not see the folder {folder} of this command ({error.strerror}): {shared}"
    if text != meeting.text:
        return f"sees another folder at {folder}: {shared}"
    for file in meeting.files:
        if not file.exists():
            return f"does not see {file}: give --data a folder that all workers see by the same name"
    try:
        here = origin(meeting.backend)
    except minigrad.BackendError as error:
        return f"can't compute: {error}"
    reason = other_bits(meeting.origin, here) if meeting.origin else None
    return f"can't go on with another worker's run, {reason}" if reason else None


def introduce(meeting, dask_worker):
    """(objection, origin) of this process, a worker."""
    reason = objection(meeting, dask_worker)
    return reason, None if reason else origin(meeting.backend)
