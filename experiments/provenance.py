"""What computed a run's numbers: commit, versions, backend, BLAS and machine. No part of a run's key."""

import functools
import os
import platform
import subprocess
from pathlib import Path

import numpy
from threadpoolctl import threadpool_info

from minigrad.backend import load_backend
from minigrad.kernels import ENGINE, PATH


@functools.cache
def origin(backend, is_stacked=False):
    """The same for every run of this process, as a dict of texts.

    On CuPy the products of runs that are stacked have other last bits than those of one alone.
    """
    xp = load_backend(backend)
    if backend == "numpy":
        kernels = f"{PATH}, engine {ENGINE}"
    else:
        kernels = f"{backend} stacked" if is_stacked else backend
    # In the order in which they were loaded: NumPy's is the first, and others may follow at any time.
    blas = [
        f"{lib['internal_api']} {lib['version']} {lib.get('architecture', '')}".strip()
        for lib in threadpool_info()
        if lib["user_api"] == "blas"
    ]
    return {
        "commit": _commit(),
        "backend": f"{xp.__name__} {xp.__version__}",
        "kernels": kernels,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "blas": blas[0] if blas else "unknown",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def other_bits(begun, now):
    """Why what computes now would give other bits than what began, and a way out; None if it would not."""
    backend = begun["backend"].split()[0]
    if backend != now["backend"].split()[0]:
        return (
            f"begun with {begun['backend']}, and another backend would give other bits: "
            f"continue with --backend {backend}"
        )
    if begun["kernels"].split()[0] != now["kernels"].split()[0]:
        return (
            f"begun with kernels of {begun['kernels']}, and those of {now['kernels']} would give other bits: "
            "install or remove Numba to continue"
        )
    if _engine(begun["kernels"]) != _engine(now["kernels"]):
        return (
            f"begun with kernels of {begun['kernels']}, and those of {now['kernels']} would give other bits: "
            f"continue with the code of commit {begun['commit']}"
        )
    if backend == "numpy" and begun["blas"] != now["blas"]:
        return (
            f"begun with {begun['blas']}, and {now['blas']} would give other bits: "
            "continue with that BLAS (of OpenBLAS, OPENBLAS_CORETYPE chooses the type of processor)"
        )
    return None


def _engine(kernels):
    """The number of minigrad's own loops; results of before it was stored have the first."""
    return kernels.split(", engine ")[1] if ", engine " in kernels else "1"


def _commit():
    """HEAD of the checkout this file lies in, with -dirty for uncommitted changes; "unknown" outside one."""
    here = Path(__file__).resolve().parent
    # In a hook, or under `git rebase --exec`, these name the repository that git works on, whatever -C says.
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
    env = {name: value for name, value in os.environ.items() if name not in elsewhere}

    def git(*args):
        done = subprocess.run(["git", "-C", here, *args], capture_output=True, text=True, check=True, env=env)
        return done.stdout.strip()

    try:
        # This fails for a package installed inside another project's checkout.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
