"""What every test stands on: no repository of the user's, and processes that end with their test."""

import contextlib
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure():
    """git tells a hook, or what `git rebase --exec` runs, by variables which repository it works on.

    A test's own git would follow them, away from its folder and into that repository; and a test's own make
    would take over the variables and the level of the one that runs the tests.
    """
    for name in [name for name in os.environ if name.startswith(("GIT_", "MAKE", "MFLAGS"))]:
        del os.environ[name]


@pytest.fixture
def rng(request):
    """A generator of the test's own, seeded by its name."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch):
    """For tests that write many files, and kill nobody."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


@pytest.fixture
def start():
    """start(*args) is a Python process with minigrad at hand; it and all that it starts end with the test."""

    def begin(*args, env={}, **options):
        process = subprocess.Popen(
            [sys.executable, *map(str, args)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | env, start_new_session=True, **options,
        )
        processes.enter_context(process)
        processes.callback(end, process)
        return process

    def end(process):
        """All of the group: its leader may be gone, and its workers not."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    with contextlib.ExitStack() as processes:
        yield begin
