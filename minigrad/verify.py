"""The bytes of a data set's files: read within bounds, verified by SHA-256. No pickle."""

import gzip
import hashlib
import tarfile
import zlib

import numpy

from .facts import FACTS


class DataError(Exception):
    """A data set can't be used; one sentence says which file, what was expected and what to do."""


def contents(name, paths):
    """The bytes, uint8, of every file in {file: path}, verified; what is unpacked stays in memory."""
    raw = {}
    for path in dict.fromkeys(paths.values()):
        wanted = [file for file in paths if paths[file] == path]
        try:
            raw |= _read(name, path, wanted)
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise DataError(
                f"{path} can't be read ({error}): mend it, or delete it to have it downloaded anew"
            ) from None
    for file, path in paths.items():
        _verify(name, file, path, raw.get(file))
    return [numpy.frombuffer(raw[file], dtype="uint8") for file in paths]


def _read(name, path, wanted):
    """{file: bytes} of the wanted files that `path` has if it is the archive, else of the one that it is."""
    facts, found = FACTS[name], {}
    with open(path, "rb") as stream:
        if facts.archive and path.name.endswith(facts.archive):
            with tarfile.open(fileobj=stream, mode="r:gz") as tar:
                for member in tar:  # in the archive's order: going back would decompress it again
                    folder, _, file = member.name.rpartition("/")
                    if folder == facts.members and file in wanted and member.isfile():
                        found[file] = tar.extractfile(member).read(_limit())
        else:
            (file,) = wanted
            compressed = stream.peek(2)[:2] == b"\x1f\x8b"
            found[file] = (gzip.open(stream) if compressed else stream).read(_limit())
    return found


def _limit():
    """How much is read of a file: one byte more than the largest has, so that no bomb goes off."""
    return 1 + max(size for facts in FACTS.values() for _, size in facts.files.values())


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
    else:
        at_least = "at least " if len(data) == _limit() else ""
        found = f"{at_least}{len(data)} bytes of SHA-256 {digest[:16]}..."
    raise DataError(
        f"{path}: expected {file}, {size} bytes of SHA-256 {expected[:16]}..., found {found}: "
        "delete it to have it downloaded anew"
    )
