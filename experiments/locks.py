"""A file that a living process holds: others wait for it, and what the dead left is known as theirs.

The kernel frees a lock when its process ends, however it ends.
"""

import contextlib
import fcntl
import os


@contextlib.contextmanager
def held(path):
    """Hold the file `path`, which is made for it, against other processes."""
    while True:
        with open(path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Else who held it removed the name while this process waited, and it means nothing any more.
            if _is_still(file, path):
                yield
                return


@contextlib.contextmanager
def left_by_the_dead(path):
    """Whether `path` is there and nobody holds it: then this process does in the block, and removes it."""
    if not path.is_file():  # nor a pipe, which would wait for its other end
        yield False
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "r+b"))  # for NFS, which locks no file open to read alone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError):
            yield False
            return
        dead = _is_still(file, path)
        yield dead
        if dead:
            path.unlink(missing_ok=True)


def _is_still(file, path):
    """Whether `path` is still the name of the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
