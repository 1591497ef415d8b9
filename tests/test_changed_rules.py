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
    ("layers", "return dv * v * (1 - v)", "return dv * v"),
    ("optim", "decay = 2 * lam", "decay = lam"),
    ("optim", "velocity *= momentum", "velocity *= momentum**2"),
    ("optim", "milestones=(60, 100, 200)", "milestones=(60, 100, 201)"),
    ("losses", "xp.exp(log_softmax) - y) / f.shape[-2]", "xp.exp(log_softmax) - y)"),
    ("losses", "2 * error / (f", "error / (f"),
    ("measures", "astype(\"float64\")\n    if W.dtype", "astype(W.dtype)\n    if W.dtype"),
    ("measures", "(after[edge].astype(", "(2 * after[edge].astype("),
    ("measures", "/ len(edges)", "/ 1"),
    ("measures", "else swap(M)", "else 2 * swap(M)"),
    ("graph", "batchnorm is not None, detached, scalar", "batchnorm is not None, True, scalar"),
    ("train", "default_rng((seed, epoch))", "default_rng((seed, epoch + 1))"),
    ("network", "rng.uniform(-(d_q**-0.5), d_q**-0.5", "rng.uniform(-(d_q**-0.5), 2 * d_q**-0.5"),
    ("network", "batch_b if b is None else b[p]", "batch_b if b is None else 0.9 * b[p]"),
    ("datasets", "x -= mean / deviation", "x -= mean"),
]
COMMENT = ("layers", "EPS = 1e-5", "# another comment\nEPS = 1e-5")

KEYS = """
import sys
for folder in sys.argv[1:]:
    sys.path.insert(0, folder)
    from experiments.runs import Run
    print(Run().key)
    for name in [name for name in sys.modules if name.startswith(("minigrad", "experiments"))]:
        del sys.modules[name]
"""
SMOKE = """
import json
from experiments.figures import Experiment
from experiments.train import Config
from experiments.workers import complete
settings = {"B": (32,), "eta": (0.1,), "dataset": ("mnist",)}
experiment = Experiment("fig2", "smoke", 1, settings)
(run,) = experiment.runs()
config = Config("results")
complete([run], config, jobs=1)
_, arrays = config.read(run)
print(json.dumps([run.key, arrays["train_loss"][-1], experiment.note()]))
"""


def copied(folder):
    """A copy of the code that a test may change."""
    for package in ("minigrad", "experiments"):
        ignore = shutil.ignore_patterns("published")
        shutil.copytree(ROOT / package, folder / package, ignore=ignore)
    return folder


def change(folder, file, line, changed):
    path = folder / "minigrad" / f"{file}.py"
    text = path.read_text(encoding="utf-8")
    assert line in text, f"{file}.py no longer has the line that this test changes: {line}"
    path.write_text(text.replace(line, changed), encoding="utf-8")


def python(folder, program, *args):
    command = [sys.executable, "-c", program, *args]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True).stdout.decode()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """{a change: the key of a run in a copy with that change}."""
    cases = [COMMENT, *CHANGES]
    folders = [copied(tmp_path_factory.mktemp("changed") / "code") for _ in cases]
    for folder, case in zip(folders, cases):
        change(folder, *case)
    return dict(zip(cases, python(folders[0], KEYS, *folders).split(), strict=True))


def test_the_rules_as_shipped_have_the_stored_fingerprint():
    np.testing.assert_allclose(fingerprint(), runs.RULES, rtol=1e-9)


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_rule_changes_the_key(keys, case):
    assert keys[case] != runs.Run().key


def test_a_comment_changes_nothing(keys):
    assert keys[COMMENT] == runs.Run().key


def test_a_changed_rule_trains_under_a_key_of_its_own_until_it_is_undone(tmp_path):
    copy = copied(tmp_path / "code")
    before = json.loads(python(copy, SMOKE))
    change(copy, *CHANGES[0])
    key, loss, note = json.loads(python(copy, SMOKE))
    assert key != before[0] and loss != before[1] and "changed" in note.lower()
    shutil.copy(ROOT / "minigrad" / "layers.py", copy / "minigrad" / "layers.py")
    assert json.loads(python(copy, SMOKE)) == before
