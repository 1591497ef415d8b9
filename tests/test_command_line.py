"""The command as a user meets it: from a name to pictures; one sentence for a mistake."""

import os
import sys
from dataclasses import asdict
from pathlib import Path

import numpy
import pytest

from experiments import __main__ as command
from experiments import train
from experiments.__main__ import setting
from experiments.figures import FIGURES, Experiment
from experiments.store import result_path, write
from experiments.train import Config

# One run and one panel.
SETTINGS = ["dataset=mnist", "m=640", "m_test=100", "epochs=2", "network=MLP-BN-1-4", "eta=0.1"]
SETTINGS += ["B=128"]
ONE = ["fig6", "--seeds", "1", "--jobs", "1", *(f"--set={text}" for text in SETTINGS)]
SMOKE = [*ONE, "--preset", "smoke"]
RUNS = Experiment("fig6", "smoke", 1, dict(map(setting, SETTINGS))).runs()

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def call(capsys):
    """call(*args) -> (exit status, stdout, stderr) of the command."""

    def called(*args):
        status = 0
        try:
            command.main([str(arg) for arg in args])
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return called


@pytest.fixture
def refusal(call):
    """refusal(*args) -> the one sentence of a refused command."""

    def refused(*args):
        status, out, err = call(*args)
        *_, sentence = err.splitlines()  # after a progress bar
        assert status == 2 and not out and sentence.startswith("python -m experiments")
        return sentence

    return refused


def test_a_figure_is_trained_once_and_then_drawn_from_its_results(here, call, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    args = [*SMOKE, "--results", "~/a/b", "--figures", "c/d", "--keep-weights"]
    status, out, _ = call(*args)
    paths = [Path(line) for line in out.splitlines()]
    assert status == 0 and [path.suffix for path in paths] == [".png", ".svg", ".csv"]
    assert all(path.parent == Path("c/d") and path.stat().st_size for path in paths)
    assert Config("a/b", keep_weights=True).path(RUNS[0]) and sorted(os.listdir(here)) == ["a", "c"]
    monkeypatch.setattr(train, "train", lambda *args: pytest.fail("trained again"))
    before = paths[0].read_bytes()
    assert call(*args) == (0, out, "") and paths[0].read_bytes() == before


def test_the_list_counts_what_is_done(call):
    """A terminal may lack the letter eta."""
    figures = [Experiment(name, "smoke", seeds=1) for name in ("fig6-true", "control")]
    for run in figures[0].runs() + figures[1].runs():
        write(result_path("theirs", run), {"run": asdict(run)}, {})
    os.remove(result_path("theirs", figures[0].runs()[1]))  # in no other figure
    sys.stdout.reconfigure(encoding="ascii")
    status, out, _ = call("list", "--preset", "smoke", "--seeds", "1", "--published", "theirs")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert status == 0 and list(lines) == list(FIGURES) and "? = 0.05" in out
    assert "11 of  12 runs, about" in lines["fig6-true"] and "done" in lines["control"]
    assert " 3 of  18 runs, about" in lines["fig2-true"]  # those of Figure 6 at eta = 0.1


def test_the_reader_of_a_list_may_stop_early(start):
    process = start("-m", "experiments", "list", "--preset", "smoke")
    process.stdout.close()
    assert process.wait(timeout=60) == 141 and process.stderr.read() == ""
    process.stdout = None


def test_the_readable_step_is_announced_and_refused_where_the_compiled_one_is_asked_for(
    call, refusal, monkeypatch
):
    monkeypatch.setattr(command, "why_reference", lambda *args: "no Numba")
    assert "no Numba" in refusal(*SMOKE, "--engine", "fast")
    assert "no Numba: the readable step trains" in call(*SMOKE)[2]


# Mistakes, and a word of the answer.
MISTAKES = {
    "": "NAME",
    "fig8": "fig7",
    "claims --plot-only": "--plot-only",
    "claims --set cell=a": "fig2",
    "spectra --set tol=1e-3": "tol",
    "theory --preset night": "smoke",
    "fig1 --seeds 0": "--seeds",
    "fig1 --data file": "file",
    "fig1 --preset smoke --figures file/inner": "file",
    f"list --results {'r' * 300}": "File name too long",
    "fig1 --set batch=4": "measure_every",
    "fig1 --set lam=1 --set lam=2": "twice",
    "fig1 --set B=four": "B",
    "fig1 --set detached=no": "detached",
    "fig1 --preset smoke --plot-only": "40 of 40",
    "fig1 --preset smoke --backend cupy": "CuPy",
    "fig1 --preset night --published none": "cifar10",
}


@pytest.mark.parametrize("args", MISTAKES, ids=lambda args: args[:40])
def test_a_mistake_is_one_sentence_and_leaves_nothing(here, refusal, monkeypatch, args):
    monkeypatch.setattr(command, "complete", lambda *args: pytest.fail("trained"))
    monkeypatch.setitem(sys.modules, "cupy", None)
    (here / "file").touch()
    assert MISTAKES[args] in refusal(*args.split())
    assert os.listdir(here) == ["file"]


def test_too_little_memory_is_one_sentence(refusal, monkeypatch):
    monkeypatch.setattr(train, "load", lambda *args: numpy.empty(10**15))
    assert "memory" in refusal(*SMOKE)


def test_quick_goes_on_with_synthetic_data_and_says_so_everywhere(call):
    status, out, err = call(*ONE)
    assert status == 0 and "synthetic data" in err
    assert all("synthetic" in line for line in out.splitlines())
    (svg,) = Path("figures").glob("*.svg")
    assert "Synthetic data in place of MNIST" in svg.read_text(encoding="utf-8")


def test_damaged_data_stop_quick_too(here, refusal):
    (here / "data").mkdir()
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (here / "data" / f"{part}-ubyte").write_bytes(b"no data")
    assert "move it away" in refusal(*ONE) and not list(here.rglob("*.npz"))
