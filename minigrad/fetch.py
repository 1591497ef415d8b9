"""The files of a data set: found, or downloaded, and then whole and verified."""

import http.client
import os
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from .facts import FACTS
from .verify import DataError, contents

TIMEOUT = 10  # seconds without an answer


class DataUnavailable(DataError):
    """The data set was neither found nor fetched."""


def find_or_fetch(name, root=None):
    """{file: path} of what load_dataset reads, downloaded if need be; DataUnavailable if it can't be had."""
    if name not in FACTS:
        raise ValueError(f"the data set must be one of {', '.join(FACTS)}; got {name!r}")
    facts = FACTS[name]
    roots = [Path(folder) for folder in (root, os.environ.get("MINIGRAD_DATA"), "data") if folder]
    folder, paths = roots[0] / name, {}
    for candidate in (place / inner for place in roots for inner in facts.folders):
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
    return {file: paths[file] for file in facts.files}


def _locate(name, folder):
    """{file: path} of the files that lie in `folder`: plain, else compressed, else in the archive."""
    facts, found = FACTS[name], {}
    for file in facts.files:
        spellings = [file, f"{file}.gz"]
        if facts.archive:
            spellings.append(facts.archive)
        there = [folder / spelling for spelling in spellings if (folder / spelling).is_file()]
        if there:
            found[file] = there[0]
    return found


def _fetch(name, file, target):
    """Download `target` from the first address that has it; else the reasons, one an address."""
    reasons = []
    for base in FACTS[name].urls:
        reason = _fetch_from(base + target.name, name, file, target)
        if reason is None:
            return []
        reasons.append(f"{base}{target.name}: {reason}")
    return reasons


def _fetch_from(url, name, file, target):
    """Download `target`, which appears only whole and verified; None, or the reason why not.

    What a broken transfer leaves is continued, by the next call too. Two processes at once write the same
    bytes to the same places; what is verified is a copy that no other process knows.
    """
    partial = target.with_name(f"partial.{target.name}")
    copy = target.with_name(f"partial.{os.getpid()}-{threading.get_ident()}.{target.name}")
    held = FACTS[name].files if FACTS[name].archive else [file]
    again = True
    while again:
        have = _size(partial)
        try:
            _transfer(url, partial, have)
            shutil.copyfile(partial, copy)
            contents(name, dict.fromkeys(held, copy))
            os.replace(copy, target)
        except DataError as error:
            partial.unlink(missing_ok=True)
            reason = error
            again = have > 0  # what was there may have been the remains of another file
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            again = _size(partial) > have
        finally:
            if copy.is_file():
                copy.unlink()
        if target.is_file():  # this process has put it there, or another that was faster
            partial.unlink(missing_ok=True)
            return None
    return reason


def _size(path):
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _transfer(url, partial, have):
    """Add to `partial`, which has `have` bytes, what it lacks of `url`; all if the server knows no ranges."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing lacks
            return
        raise
    with answer:
        if answer.status != 206:  # the whole file, not a part
            have = 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        with open(partial, "r+b") as file:
            file.seek(have)
            with tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=partial.name) as bar:
                while block := answer.read(1 << 16):
                    file.write(block)
                    bar.update(len(block))
            if file.tell() < total:
                raise OSError("the transfer broke off")
            file.truncate()
