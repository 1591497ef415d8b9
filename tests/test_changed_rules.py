"""A changed line is what runs: its numbers, key and note; undone, the old results are back."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import runs
from minigrad.fingerprint import fingerprint

ROOT = Path(__file__).resolve().parents[1]
CHANGES = [  # file, line as it stands, the same changed
    ("layers", "return dv * (v > 0)", "return dv * (v > 0) / 2"),
    ("layers", "EPS = 1e-5", "EPS = 1e-4"),
    ("layers", "b = z.mean(axis=-2, keepdims=True)", "b = 0.9 * z.mean(axis=-2, keepdims=True)"),
    ("layers", "SLOPE = 0.01", "SLOPE = 0.02"),
    ("layers", "return dv * v * (1 - v)", "return dv * v"),
    ("optim", "decay = 2 * lam", "decay = lam"),
    ("optim", "velocity *= momentum", "velocity *= momentum**2"),
    ("optim", "milestones=(60, 100, 200)", "milestones=(60, 100, 201)"),
    ("losses", "xp.exp(log_softmax) - y) / f.shape[-2]", "xp.exp(log_softmax) - y)"),
    ("losses", "2 * error / (f", "error / (f"),
    ("measures", "astype(\"float64\")\n    if W.dtype", "astype(W.dtype)\n    if W.dtype"),
    ("measures", "D = after.astype(\"float64\")", "D = 2 * after.astype(\"float64\")"),
    ("train", "default_rng((seed, epoch))", "default_rng((seed, epoch + 1))"),
    ("network", "rng.uniform(-(d_q**-0.5), d_q**-0.5", "rng.uniform(-(d_q**-0.5), 2 * d_q**-0.5"),
    ("datasets", "x -= mean / deviation", "x -= mean"),
]


@pytest.fixture
def copy(tmp_path):
    """A copy of the code that a test may change, and `python` there."""
    for package in ("minigrad", "experiments"):
        ignore = shutil.ignore_patterns("published", "__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
    return tmp_path


def change(folder, file, line, changed):
    path = folder / "minigrad" / f"{file}.py"
    text = path.read_text(encoding="utf-8")
    assert text.count(line) >= 1, f"{file}.py no longer has the line that this test changes: {line}"
    path.write_text(text.replace(line, changed), encoding="utf-8")


def python(folder, *args):
    done = subprocess.run([sys.executable, *args], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def key_of_a_run(folder):
    return python(folder, "-c", "from experiments.runs import Run; print(Run().key)").strip()


def smoke(folder):
    """Key, final loss and picture's note of a smoke run."""
    options = "fig2 --preset smoke --seeds 1 --set B=32 --set eta=0.1"
    python(folder, "-m", "experiments", *options.split())
    code = """
import json
from experiments.figures import Experiment
from experiments.store import Reader
experiment = Experiment("fig2", "smoke", 1, {"B": 32, "eta": 0.1})
(run,) = experiment.runs()
_, arrays = Reader("results").read(run)
print(json.dumps([run.key, arrays["train_loss"][-1], experiment.note()]))
"""
    return json.loads(python(folder, "-c", code))


def test_the_rules_as_shipped_have_the_stored_fingerprint():
    np.testing.assert_allclose(fingerprint(), runs.RULES, rtol=1e-9)


@pytest.mark.parametrize("file, line, changed", CHANGES)
def test_a_changed_rule_changes_the_fingerprint(copy, file, line, changed):
    change(copy, file, line, changed)
    assert key_of_a_run(copy) != runs.Run().key


def test_a_changed_rule_trains_under_a_key_of_its_own_until_it_is_undone(copy):
    before = smoke(copy)
    change(copy, *CHANGES[0])
    during = smoke(copy)
    assert during[0] != before[0]
    assert during[1] != before[1]
    assert "changed" in during[2].lower()
    shutil.copy(ROOT / "minigrad" / "layers.py", copy / "minigrad" / "layers.py")
    stored = sorted((copy / "results").glob("*.npz"))
    assert smoke(copy) == before
    assert sorted((copy / "results").glob("*.npz")) == stored


def test_a_comment_changes_nothing(copy):
    change(copy, "layers", "EPS = 1e-5", "# another comment\nEPS = 1e-5")
    assert key_of_a_run(copy) == runs.Run().key
