"""What computed a run is told with it, and what would give other bits is refused."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy
import pytest

from experiments import provenance, schema
from minigrad import kernels


def test_provenance_names_commit_versions_backend_blas_and_machine():
    found = provenance.origin("numpy")
    assert json.loads(json.dumps(found)) == found
    assert set(found) == schema.PROVENANCE
    assert found["backend"] == f"numpy {numpy.__version__}"
    assert found["numpy"] == numpy.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["blas"].strip()
    assert found["kernels"] == f"{kernels.PATH}, engine {kernels.ENGINE}"
    assert re.fullmatch(r"unknown|[0-9a-f]{40}(-dirty)?", found["commit"])


def git(folder, *args):
    """Without the user's configuration, which may ask for signatures or have hooks."""
    command = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *args]
    env = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return done.stdout.strip()


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_commit_is_that_of_the_checkout_and_says_what_was_changed(tmp_path, monkeypatch):
    """Outside a checkout, and in one that only surrounds the installed package, there is none to name."""
    ours = tmp_path / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(ours))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    ours.touch()
    assert provenance._commit() == "unknown"
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "another project's")
    assert provenance._commit() == "unknown"
    git(tmp_path, "add", "provenance.py")
    git(tmp_path, "commit", "-m", "ours")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert provenance._commit() == commit
    (tmp_path / "untracked").touch()
    assert provenance._commit() == commit
    ours.write_text("# changed")
    assert provenance._commit() == commit + "-dirty"
    for name in ("GIT_DIR", "GIT_INDEX_FILE"):  # as a hook of another repository has them
        with monkeypatch.context() as patch:
            patch.setenv(name, str(tmp_path / "elsewhere"))
            assert provenance._commit() == commit + "-dirty"


ORIGIN = {"backend": "numpy 2.4", "kernels": "numba 0.61", "blas": "openblas 0.3 SkylakeX", "commit": "a1b2"}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"backend": "cupy 14"}, ["numpy 2.4", "--backend numpy"]),
        ({"kernels": "numpy"}, ["numba 0.61", "Numba"]),
        ({"kernels": "numba 0.61, engine 2"}, ["numba 0.61", "engine 2", "commit a1b2"]),
        ({"blas": "openblas 0.3 Haswell"}, ["SkylakeX", "Haswell", "OPENBLAS_CORETYPE"]),
    ],
)
def test_what_would_give_other_bits_is_refused_with_a_way_out(change, words):
    reason = provenance.other_bits(ORIGIN, ORIGIN | change)
    assert all(word in reason for word in [*words, "other bits"]) and "\n" not in reason


@pytest.mark.parametrize("change", [{}, {"commit": "b"}, {"backend": "numpy 2.5"}, {"kernels": "numba 0.62"}])
@pytest.mark.parametrize("engine", ["", ", engine 1", ", engine 2"])
def test_what_gives_the_same_bits_may_go_on(change, engine):
    begun, now = ORIGIN, ORIGIN | change
    if engine == ", engine 2":
        begun = begun | {"kernels": begun["kernels"] + engine}
    now = now | {"kernels": now["kernels"] + engine}
    assert provenance.other_bits(begun, now) is None


def test_on_a_gpu_the_host_s_blas_does_not_matter():
    begun = ORIGIN | {"backend": "cupy 14", "kernels": "cupy"}
    assert provenance.other_bits(begun, begun | {"blas": "openblas 0.3 Haswell"}) is None
