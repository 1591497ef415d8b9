"""What every test stands on: no repository of the user's, processes that end with their test."""

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
# Variables by which git tells a hook its repository, and make its own what it makes: a test's own
# git would follow them out of its folder, a test's own make would take them over.
for name in [name for name in os.environ if name.startswith(("GIT_", "MAKE", "MFLAGS"))]:
    del os.environ[name]


@pytest.fixture
def rng(request):
    """A generator of the test's own, seeded by its name."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, which is empty: no data, and no way out to the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr("urllib.request._opener", None)  # urllib keeps the first one's proxies
    return tmp_path


@pytest.fixture
def start():
    """start(*args): a Python process with minigrad at hand, which ends with the test."""

    processes = []

    def begin(*args, env={}, **options):
        process = subprocess.Popen(
            [sys.executable, *map(str, args)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
            start_new_session=True,
            **options,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        with process, contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the leader may be gone, and its workers not
