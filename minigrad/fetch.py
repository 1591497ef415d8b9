"""The files of a data set: found, or downloaded, and then whole and verified."""

import contextlib
import http.client
import itertools
import os
import re
import stat
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from .facts import FACTS
from .verify import DataError, contents, largest

TIMEOUT = 10  # seconds without an answer


class DataUnavailable(DataError):
    """The data set was neither found nor fetched."""


def find_or_fetch(name, root=None):
    """{file: path} of what load_dataset reads, downloaded if need be; DataUnavailable if it can't be had.

    Looked for in `root` alone, else in $MINIGRAD_DATA and ./data, and downloaded to the first of these.
    """
    if name not in FACTS:
        raise ValueError(f"the data set must be one of {', '.join(FACTS)}; got {name!r}")
    facts = FACTS[name]
    given = [root] if root else [os.environ.get("MINIGRAD_DATA"), "data"]
    roots = [Path(folder) for folder in given if folder]
    folder, paths = roots[0] / name, {}
    candidates = [place / inner for place in roots for inner in facts.folders]
    for candidate in candidates:
        if len(paths) == len(facts.files):
            break
        found = _locate(name, candidate)
        if len(found) > len(paths):
            folder, paths = candidate, found
    for file in facts.files:
        if file in paths:
            continue
        target = folder / (facts.archive or f"{file}.gz")
        reasons = [] if target.is_file() else _fetch(name, file, target)
        if reasons:
            raise DataUnavailable(
                f"{file} of {name} is not in {' or '.join(map(str, roots))} and can't be downloaded "
                f"({'; '.join(reasons)}): try again, or put {target.name} into {folder}"
            )
        paths[file] = target
    _sweep(facts, candidates)
    return {file: paths[file] for file in facts.files}


def _locate(name, folder):
    """{file: path} of the files that lie in `folder`: plain, else compressed, else in the archive."""
    facts, found = FACTS[name], {}
    for file in facts.files:
        spellings = [file, f"{file}.gz"]
        if facts.archive:
            spellings.append(facts.archive)
        try:
            there = [folder / spelling for spelling in spellings if _is_file(folder / spelling)]
        except OSError as error:
            raise DataError(
                f"{folder} can't be searched for {name} ({error.strerror}): allow it or name another folder"
            ) from None
        if there:
            found[file] = there[0]
    return found


def _is_file(path):
    """Whether a file is there; OSError where that can't be seen, which Path.is_file takes for no at times."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _sweep(facts, folders):
    """Remove what a download that was killed has left in these folders, now that nothing is missing."""
    targets = [facts.archive] if facts.archive else [f"{file}.gz" for file in facts.files]
    for folder, target in itertools.product(folders, targets):
        with contextlib.suppress(OSError):  # another process holds it, or it is not ours to remove
            for partial in folder.glob(f"partial.*{target}"):
                # The second form is that of earlier versions.
                if re.fullmatch(r"partial\.(\d+-\d+\.)?" + re.escape(target), partial.name):
                    with _alone(partial, wait=False):
                        partial.unlink()


@contextlib.contextmanager
def _alone(partial, wait=True):
    """Hold `partial`, made if need be, against other processes; the kernel frees it when its holder ends.

    Only its holder renames or removes it, and who has waited for a file that is gone takes the next one.
    BlockingIOError, an OSError, if another process holds it and `wait` is False.
    """
    import fcntl  # not every system has it, and only downloads need it

    is_held = False
    while not is_held:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                tqdm.write(f"{partial}: waiting for another process, which downloads it", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            is_held = _is_at(file, partial)
            if is_held:
                yield


def _is_at(file, path):
    """Whether the open file is the one that `path` names now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _fetch(name, file, target):
    """Download `target`, which appears only whole and verified; else the reasons, one an address.

    By one process, while others wait. What a broken transfer leaves is continued, by the next call too.
    """
    facts = FACTS[name]
    held = facts.files if facts.archive else [file]
    partial = target.with_name(f"partial.{target.name}")
    reasons = []
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        with _alone(partial):
            if target.is_file():  # another process was faster
                partial.unlink()
                return []
            for base in facts.urls:
                reason = _fetch_from(base + target.name, name, held, partial)
                if reason is None:
                    os.replace(partial, target)
                    return []
                reasons.append(f"{base}{target.name}: {reason}")
            if not _size(partial):
                partial.unlink()
    except OSError as error:
        reasons.append(str(error))
    for folder in made:
        with contextlib.suppress(OSError):  # there is something in it
            folder.rmdir()
    return reasons


def _fetch_from(url, name, held, partial):
    """Add to `partial` what it lacks of `url`, and verify it; None, or the reason why not."""
    again = True
    while again:
        have = _size(partial)
        try:
            _transfer(url, partial, have, largest(name, held))
            contents(name, dict.fromkeys(held, partial))
            return None
        except DataError as error:
            os.truncate(partial, 0)  # it stays, as what others wait for
            reason = error
            again = have > 0  # what was there may have been the remains of another file
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            again = _size(partial) > have
    return reason


def _size(path):
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _transfer(url, partial, have, bound):
    """Add to `partial`, which has `have` bytes, what it lacks of `url`; all if the server knows no ranges.

    DataError if more than `bound` bytes come.
    """
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing lacks
            return
        raise
    with answer, open(partial, "r+b") as file:
        if answer.status != 206:  # the whole file, not a part
            have = 0
        total = have + (answer.length or 0)
        file.seek(have)
        with tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=partial.name) as bar:
            while block := answer.read(1 << 16):
                file.write(block)
                bar.update(len(block))
                if file.tell() > bound:
                    raise DataError(f"it sends more than the {bound} bytes that {partial.name} may have")
        if file.tell() < total:
            raise OSError("the transfer broke off")
        file.truncate()
