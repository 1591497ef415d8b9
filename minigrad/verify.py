"""The bytes of a data set's files: read within known bounds, verified by SHA-256. No pickle."""

import gzip
import hashlib
import os
import re
import zlib

import numpy

from .facts import FACTS

BLOCK = 512  # the unit of a tar
ROOM = 1 << 20  # what gzip, tar and a publisher's notes may add to the files, in bytes


class DataError(Exception):
    """A data set can't be used; one sentence says which file, what was expected and what to do."""


def contents(name, paths):
    """The bytes, uint8, of every file in {file: path}, verified; what is unpacked stays in memory.

    The sizes are known, so nothing that a file holds or claims makes this read or inflate more.
    """
    raw = {}
    for path in dict.fromkeys(paths.values()):
        wanted = [file for file in paths if paths[file] == path]
        try:
            raw |= _read(name, path, wanted)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} can't be read ({error}): mend it, or delete it to have it downloaded anew"
            ) from None
    for file, path in paths.items():
        _verify(name, file, path, raw.get(file))
    return [numpy.frombuffer(raw[file], dtype="uint8") for file in paths]


def largest(name, files):
    """How many bytes a file that holds all of `files` may have, compressed or not."""
    return sum(FACTS[name].files[file][1] for file in files) + ROOM


def _read(name, path, wanted):
    """{file: bytes} of the wanted files that `path` has if it is the archive, else of the one that it is."""
    facts = FACTS[name]
    is_archive = facts.archive and path.name.endswith(facts.archive)
    bound = largest(name, facts.files if is_archive else wanted)
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > bound:
            raise OSError(f"it has {size} bytes, more than the {bound} that it may have")
        is_compressed = stream.peek(2)[:2] == b"\x1f\x8b"
        data = gzip.open(stream) if is_compressed else stream
        if is_archive:
            return _unpacked(data, facts.members, wanted, bound)
        (file,) = wanted
        return {file: data.read(facts.files[file][1] + 1)}  # one byte more tells that it is another


def _unpacked(tar, folder, wanted, bound):
    """{file: bytes} of the wanted plain files under `folder` in a tar; nothing behind `bound` is read.

    A member is a header, with its name, its size in octal digits and its type, and content in whole blocks.
    Other types are passed over, also those that would rename or resize the next member: SHA-256 decides.
    The standard library's tarfile believes them, and reads as much as they claim.
    """
    members = {f"{folder}/{file}".encode(): file for file in wanted}
    found, position = {}, 0
    while len(found) < len(wanted):
        tar.seek(position)
        header = tar.read(BLOCK)
        if len(header) < BLOCK:
            raise EOFError("it ends too early")
        if not any(header):  # the end
            break
        digits = header[124:136].strip(b" \0")
        if not re.fullmatch(b"[0-7]*", digits):
            raise OSError(f"no header of a tar at byte {position}")
        size = int(digits or b"0", 8)
        position += BLOCK + size + -size % BLOCK
        if position > bound:
            raise OSError(f"a member of {size} bytes ends behind the {bound} that all may have")
        file = members.get(header[:100].rstrip(b"\0"))
        is_plain = header[156:157] in (b"0", b"\0")
        if file and is_plain:
            found[file] = tar.read(size)
    return found


def _verify(name, file, path, data):
    """DataError unless `data`, None for what an archive lacks, is what the file should hold."""
    expected, size = FACTS[name].files[file]
    digest = hashlib.sha256(data or b"").hexdigest()
    if digest == expected:
        return
    known = {sha256: other for facts in FACTS.values() for other, (sha256, _) in facts.files.items()}
    if data is None:
        found = "no such member"
    elif digest in known:
        found = known[digest]
    elif len(data) > size:
        found = f"at least {len(data)} bytes"
    else:
        found = f"{len(data)} bytes of SHA-256 {digest[:16]}..."
    raise DataError(
        f"{path}: expected {file}, {size} bytes of SHA-256 {expected[:16]}..., found {found}: "
        "delete it to have it downloaded anew"
    )
