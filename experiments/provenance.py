"""What computes a run's numbers: commit, versions, BLAS and machine. No part of its key."""

import functools
import platform
import subprocess
from pathlib import Path

import numpy
from threadpoolctl import threadpool_info

from minigrad.backend import device_name, load_backend

BITS_DEPEND_ON = ("backend", "engine", "device", "blas")  # a run's last bits, hence resuming it


@functools.cache
def provenance(backend, engine):
    """What computes in this process, as a dict of texts."""
    xp = load_backend(backend)
    return {
        "commit": commit(),
        "backend": f"{xp.__name__} {xp.__version__}",
        "engine": engine,
        "device": device_name(xp),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "blas": blas() if backend == "numpy" else "of the GPU",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def blas():
    """Name, version and, where it has one, core type of NumPy's BLAS."""
    # SciPy, which Numba loads, can bring another one; that of NumPy's wheels lies beside NumPy.
    numpys = str(Path(numpy.__file__).resolve().parent)
    libraries = [one for one in threadpool_info() if one["user_api"] == "blas"]
    libraries.sort(key=lambda one: not one["filepath"].startswith(numpys))
    found = libraries[0] if libraries else {"internal_api": "unknown"}
    parts = (found.get(name) for name in ("internal_api", "version", "architecture"))
    return " ".join(filter(None, parts))


def commit():
    """HEAD of the checkout this file lies in, -dirty if changed; "unknown" outside a checkout."""
    command = "git --git-dir=.git describe --always --dirty --abbrev=40 --exclude=*".split()
    options = {"cwd": Path(__file__).parents[1], "text": True, "stderr": subprocess.DEVNULL}
    try:
        return subprocess.check_output(command, **options).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
