"""What computes a run's numbers: commit, versions, BLAS and machine. No part of a run's key."""

import functools
import os
import platform
import subprocess
from pathlib import Path

import numpy
from threadpoolctl import threadpool_info

from minigrad import fast
from minigrad.backend import device_name, load_backend

# The parts that decide a run's last bits, and how somebody gets back to what they were.
DECIDING = {
    "backend": "--backend and the installed version choose it",
    "engine": "--engine, the installed Numba, the commit and --stack decide it",
    "device": "the machine decides it",
    "blas": "the installed NumPy and OPENBLAS_CORETYPE choose it",
}


def engine_of(graph, config, is_stacked):
    """What computes the steps of a graph: "reference" is minigrad.train.train_step.

    On CuPy the products of stacked runs have other last bits than those of one alone.
    """
    if config.backend == "cupy":
        return "reference, stacked" if is_stacked else "reference"
    is_fast = config.engine != "reference" and fast.knows_graph(graph) and not fast.unavailable()
    return fast.version() if is_fast else "reference"


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
        "blas": blas_of_numpy() if backend == "numpy" else "cuBLAS",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def blas_of_numpy():
    """Name, version and, where it has one, core type of the BLAS that was loaded first: NumPy's."""
    for library in threadpool_info():
        if library["user_api"] == "blas":
            parts = library["internal_api"], library["version"], library.get("architecture")
            return " ".join(part for part in parts if part)
    return "unknown"


def commit():
    """HEAD of the checkout this file lies in, -dirty if changed; "unknown" outside a checkout."""
    # Inside a hook, git's own variables name another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*args):
        command = ["git", "-C", Path(__file__).parent, *args]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # fails inside a foreign checkout
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
