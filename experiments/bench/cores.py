"""The cores: one for all that is timed in turns, every core where processes are timed together."""

import contextlib
import os

# What this process may use when it starts, or None where a system can't say; so import this before use_one().
ALL = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def count():
    """How many cores there are for the bench."""
    return len(ALL) if ALL else os.cpu_count()


def use_one():
    """Keep this process to one core."""
    if ALL:
        os.sched_setaffinity(0, {max(ALL)})


@contextlib.contextmanager
def all_in_use():
    """Every core in the block: processes started there, and the threads of BLAS in them, inherit it."""
    if not ALL:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, ALL)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
