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

# The parts on which a run's last bits depend, and how to restore them.
BITS_DEPEND_ON = {
    "backend": "--backend and the installed version choose it",
    "engine": "--engine, the installed Numba and the commit choose it",
    "device": "the machine and CUPY_TF32 decide it",
    "blas": "the installed NumPy and OPENBLAS_CORETYPE choose it",
}


def why_reference(run, config):
    """Why minigrad.train.train_step trains the run, a text; "" where the compiled step does."""
    if config.backend != "numpy":
        return "the compiled step is for NumPy"
    if config.engine == "reference":
        return "it was asked for"
    if not fast.knows_graph(run.graph()):
        return f"the compiled step doesn't know {run.network}"
    return fast.unavailable() or ""


def engine_of(run, config):
    """What computes the steps of a run: the version of minigrad.fast, or "reference"."""
    return "reference" if why_reference(run, config) else fast.version()


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
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    # SciPy, which Numba loads, can bring another one; that of NumPy's wheels lies beside NumPy.
    numpys = str(Path(numpy.__file__).resolve().parent)
    beside = [library for library in libraries if library["filepath"].startswith(numpys)]
    for library in beside + libraries:
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
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
