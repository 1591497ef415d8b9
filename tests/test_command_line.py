"""The command as a user meets it: from a name to pictures, and one sentence with status 2 for a mistake."""

import csv
import os
import signal
import sys
from pathlib import Path

import numpy
import pytest

from experiments import __main__ as command
from experiments import commands, runner, state
from experiments.figures import LAMBDAS
from experiments.options import parse_settings
from experiments.plans import Plan
from minigrad.facts import FACTS
from calls import call
from processes import wait_for

ROOT = Path(command.__file__).resolve().parents[1]
ONE = ["--set", "dataset=mnist", "--set", "loss=cross_entropy", "--set", "lam=1e-4"]
ONE += ["--seeds", "1", "--jobs", "1"]
SMALL = ["--set", "network=MLP-1-4", "--set", "epochs=2"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder, no data, and no way out to the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    for name, facts in FACTS.items():
        monkeypatch.setitem(FACTS, name, facts._replace(urls=("http://127.0.0.1:9/",)))
    return tmp_path


def refusal(capsys, *args):
    """The one sentence of a refused command."""
    status, out, err = call(capsys, *args)
    assert status == 2 and not out, (status, out, err)
    assert err.startswith("python -m experiments") and err.count("\n") == 1 and err.endswith("\n"), err
    return err


def drawn(kind, folder="figures"):
    """The one file of that kind."""
    (path,) = Path(folder).glob(f"*.{kind}")
    return path


# From a name to pictures.


def test_the_smoke_figure_is_a_picture_twice_and_every_number_in_it(here, capsys):
    status, out, err = call(capsys, "fig1", "--preset", "smoke", "--set", "epochs=2")
    assert status == 0
    stem = Path("figures") / "fig1-smoke-epochs=2"
    assert out.splitlines() == [f"{stem}.{kind}" for kind in ("png", "svg", "csv")]
    assert drawn("png").read_bytes()[:4] == b"\x89PNG"
    assert "</svg>" in drawn("svg").read_text(encoding="utf-8")
    with open(drawn("csv"), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["dataset"], row["loss"]) for row in rows} == {
        (f"synthetic-{data}", loss)
        for data in ("mnist", "cifar10")
        for loss in ("cross_entropy", "mean_squared_error")
    }
    assert len({row["lam"] for row in rows if row["dataset"] == "synthetic-mnist"}) == 5
    assert {row["seed"] for row in rows} == {"0", "1"} and {row["preset"] for row in rows} == {"smoke"}
    assert len(list(Path("results").iterdir())) == 40
    before = drawn("png").read_bytes()
    drawn("png").unlink()
    assert call(capsys, "fig1", "--preset", "smoke", "--set", "epochs=2", "--plot-only")[0] == 0
    assert drawn("png").read_bytes() == before
    assert call(capsys, "fig1", "--preset", "smoke", "--set", "epochs=2")[2] == ""  # nothing was trained


def test_it_works_from_any_folder_and_with_warnings_as_errors(here, start):
    process = start("-W", "error", "-m", "experiments", "fig1", "--preset", "smoke", *ONE, *SMALL)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 0 and not stderr, stderr
    assert drawn("png", here / "figures").exists() and len(list((here / "results").iterdir())) == 1


def test_other_folders_can_be_given(here, capsys):
    folders = ["--results", "a/b", "--figures", "c/d"]
    assert call(capsys, "fig1", "--preset", "smoke", *ONE, *SMALL, *folders)[0] == 0
    assert sorted(p.name for p in here.iterdir()) == ["a", "c"] and drawn("csv", "c/d").exists()


def test_weights_are_stored_when_asked_for(here, capsys):
    assert call(capsys, "fig1", "--preset", "smoke", *ONE, *SMALL, "--keep-weights")[0] == 0
    (result,) = Path("results").iterdir()
    assert {"W 2-1", "W 3-2"} <= set(numpy.load(result).files)


def test_another_view_of_the_spectra_trains_nothing_and_changes_the_rank(here, capsys, monkeypatch):
    wide = ["--set", "network=MLP-1-12", "--set", "epochs=2"]
    assert call(capsys, "fig1", "--preset", "smoke", *ONE, *wide)[0] == 0
    texts = {drawn("csv").read_text(encoding="utf-8")}
    monkeypatch.setattr(runner, "train_epoch", lambda *args: pytest.fail("trained again"))
    for setting in ("tol=0.3", "norm=spectral", "output_layer=false"):
        extra = ["--set", "tol=0.6"] if setting == "norm=spectral" else []
        assert call(capsys, "fig1", "--preset", "smoke", *ONE, *wide, "--set", setting, *extra)[0] == 0
        newest = max(Path("figures").glob("*.csv"), key=lambda path: path.stat().st_mtime_ns)
        texts.add(newest.read_text(encoding="utf-8"))
    assert len(texts) == len(list(Path("figures").glob("*.csv"))) == 4


def test_runs_can_be_stacked_to_the_same_numbers(here, capsys, monkeypatch):
    several = [*ONE[:4], "--set", "lam=0,1e-4", "--seeds", "2", "--jobs", "1", *SMALL]
    stacks = []
    train = runner.train

    def counted(runs, *others):
        stacks.append(len(runs))
        train(runs, *others)

    monkeypatch.setattr(runner, "train", counted)
    for stack in (1, 3):
        args = ("--results", f"r{stack}", "--figures", f"f{stack}", "--stack", stack)
        assert call(capsys, "fig1", "--preset", "smoke", *several, *map(str, args))[0] == 0
    assert stacks == [1, 1, 1, 1, 2, 2]
    assert drawn("csv", "f1").read_bytes() == drawn("csv", "f3").read_bytes()


# A user's mistakes.


@pytest.mark.parametrize(
    "args, words",
    [
        ([], "NAME"),
        (["fig99"], "'fig99'"),
        (["fig1", "--preset", "big"], "'big'"),
        (["fig1", "--backend", "torch"], "'torch'"),
        (["fig1", "--speed", "9"], "--speed"),
        (["--preset", "smoke"], "NAME"),
        (["list", "--backend", "numpy"], "unrecognized arguments: --backend"),
        (["claims", "--keep-weights"], "unrecognized arguments: --keep-weights"),
        (["claims", "--plot-only"], "unrecognized arguments: --plot-only"),
        (["fig1", "--seeds", "0"], "at least 1, got 0"),
        (["fig1", "--seeds", "two"], "at least 1, got two"),
        (["fig1", "--jobs", "0"], "--jobs: must be a whole number of at least 1, got 0"),
        (["fig1", "--jobs", "2", "--cluster", "a:1"], "--jobs is for this machine"),
        (["list", "--cluster", "a:1"], "unrecognized arguments: --cluster a:1"),
        (["fig1", "--stack", "0"], "--stack: must be a whole number of at least 1, got 0"),
        (["claims", "--stack", "2"], "unrecognized arguments: --stack"),
        (["fig1", "--set", "B"], "FIELD=VALUE"),
        (["fig1", "--set", "B="], "FIELD=VALUE"),
        (["fig1", "--set", "batch=4"], "FIELD one of network, dataset"),
        (["fig1", "--set", "seed=4"], "got 'seed=4'"),
        (["fig1", "--set", "B=four"], "B takes values like 128"),
        (["fig1", "--set", "B=4,8"], "B takes one value, fig1 varies dataset, loss, lam"),
        (["fig1", "--set", "lam=0,a"], "lam takes values like 0.0005"),
        (["fig1", "--set", "lam=-1"], "lam must be a number >= 0"),
        (["fig1", "--set", "lam=nan"], "lam must be"),
        (["fig1", "--set", "eta=inf"], "eta must be a positive number"),
        (["fig1", "--set", "momentum=1"], "momentum must be in [0, 1)"),
        (["fig1", "--set", "milestones=3,x"], "milestones takes values like"),
        (["fig1", "--set", "network=VGG"], "must look like MLP-5-2000"),
        (["fig1", "--set", "dataset=imagenet"], "dataset must be one of"),
        (["fig1", "--set", "loss=logistic"], "loss must be one of cross_entropy, mean_squared_error"),
        (["fig1", "--set", "m=15"], "multiple of the 10 classes"),
        (["fig1", "--set", "B=1000"], "at most m=100"),
        (["fig1", "--set", "norm=nuclear"], "norm must be frobenius, spectral or start"),
        (["fig1", "--set", "tol=1"], "tol must be in [0, 1)"),
        (["fig1", "--set", "output_layer=no"], "output_layer takes values like true"),
        (["fig5", "--set", "detached=false"], "detached must be true without batch norm"),
        (["claims", "--set", "B=16"], "control: control varies network, cell, which set B"),
        (["fig2", "--set", "cell=a"], "fig2 varies eta, B, not cell"),
        (["fig1", "--set", "m=0", "--set", "B=100000"], "at most m=all, got 100000"),
        (
            ["fig1", "--preset", "smoke", "--set", "factor=1e-200", "--set", "milestones=0,0"],
            "factor=1e-200 leaves no learning rate",
        ),
        (["list", "--jobs", "9" * 400], "at least 1, got 999"),
        (["fig2", "--seeds", "1000000"], "from 1 to 1000, got 1000000"),
        (["list", "--set", "epochs=30000000"], "epochs must be from 1 to 100000, got 30000000"),
        (["fig2", "--set", "network=MLP-1-100000000"], "at most 1000 layers and 1,000,000,000 weights"),
        (["fig2", "--set", "network=RES-BN-1000000-4"], "at most 1000 layers"),
        (["fig2", "--set", "network=" + "M" * 300], "must look like MLP-5-2000"),
        (["list", "--results", "r" * 300], "can't be used (File name too long)"),
        (["theory", "--preset", "smoke", "--figures", "f" * 300], "can't be written (File name too long)"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, here, args, words):
    assert words in refusal(capsys, *args)
    assert not list(here.iterdir())


def test_one_traceback_less_in_a_real_process(start):
    for args in (["fig1", "--set", "B=0"], ["nothing"], ["fig1", "--preset", "smoke", "--plot-only"]):
        process = start("-m", "experiments", *args)
        stdout, stderr = process.communicate(timeout=100)
        assert process.returncode == 2 and stderr.count("\n") == 1 and not stdout, stderr


def test_a_folder_that_may_not_be_entered_is_one_sentence(capsys, monkeypatch):
    def refuse(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    assert "can't be used (Permission denied)" in refusal(capsys, "list", "--results", "closed")


def test_a_cluster_without_dask_is_one_sentence(capsys, monkeypatch, here):
    monkeypatch.setitem(sys.modules, "distributed", None)  # as Python has it where a package is missing
    args = ["fig1", "--preset", "smoke", *ONE[:-2], *SMALL, "--cluster", "local"]
    assert "--cluster needs the package distributed: pip install '.[cluster]'" in refusal(capsys, *args)
    assert not list(here.iterdir())


def test_too_little_memory_is_one_sentence(capsys, monkeypatch):
    def refuse(*args, **options):
        raise MemoryError

    monkeypatch.setattr(state, "init_params", refuse)
    assert "not enough memory" in refusal(capsys, "fig1", "--preset", "smoke", *ONE, *SMALL)


def test_who_reads_the_list_may_stop_early(start):
    process = start("-W", "error", "-m", "experiments", "list", "--preset", "smoke")
    process.stdout.close()
    assert process.wait(timeout=60) == 141 and process.stderr.read() == ""
    process.stdout = None


def test_a_terminal_without_greek_letters_is_no_reason_to_fail(start):
    process = start("-m", "experiments", "list", "--preset", "smoke", env={"PYTHONIOENCODING": "ascii"})
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0 and not stderr and "??=?0.01" in stdout  # spaces that do not break, too


def test_plot_only_without_results_says_how_many_are_missing(capsys):
    message = refusal(capsys, "fig1", "--preset", "smoke", *ONE, "--plot-only")
    assert "1 of 1 runs are not in results" in message


def test_cupy_without_a_gpu_is_an_error_and_no_fallback(capsys, here):
    from minigrad import BackendError, load_backend

    try:
        load_backend("cupy")
    except BackendError:
        assert "cupy" in refusal(capsys, "fig1", "--preset", "smoke", "--backend", "cupy").lower()
        assert not list(here.iterdir())
    else:
        pytest.skip("there is a GPU")


@pytest.mark.parametrize("option", ["--results", "--figures"])
def test_a_folder_that_cannot_be_written_is_one_sentence(capsys, here, option):
    (here / "file").write_text("")
    message = refusal(capsys, "fig1", "--preset", "smoke", *ONE, *SMALL, option, "file")
    assert "file" in message and "can't be" in message


def test_a_damaged_result_is_one_sentence_and_stays(capsys, here):
    assert call(capsys, "fig1", "--preset", "smoke", *ONE, *SMALL)[0] == 0
    (result,) = Path("results").iterdir()
    result.write_bytes(result.read_bytes()[:500])
    message = refusal(capsys, "fig1", "--preset", "smoke", *ONE, *SMALL)
    assert str(result) in message and "delete it" in message and result.stat().st_size == 500


# Data that can't be had, and data that is wrong.


def test_the_paper_preset_stops_without_its_data(capsys, here, monkeypatch):
    monkeypatch.setattr(commands, "complete", lambda *args: pytest.fail("trained"))
    message = refusal(capsys, "fig1", "--preset", "paper", *ONE)
    assert "mnist" in message and "can't be downloaded" in message and not list(here.iterdir())


def test_the_quick_preset_goes_on_with_a_stand_in_and_says_so_everywhere(capsys, here):
    args = ("fig1", *ONE, *SMALL)
    status, _, err = call(capsys, *args)
    assert status == 0 and "can't be downloaded" in err
    assert "--preset quick goes on with synthetic-mnist in its place" in err
    (result,) = Path("results").iterdir()
    assert '"dataset": "synthetic-mnist"' in str(numpy.load(result)["meta"])
    assert "synthetic-mnist" in drawn("csv").read_text(encoding="utf-8") and "synthetic" in drawn("csv").name
    assert "Synthetic stand-in" in drawn("svg").read_text(encoding="utf-8")
    drawn("csv").unlink()
    assert call(capsys, *args, "--plot-only")[0] == 0
    assert "synthetic-mnist" in drawn("csv").read_text(encoding="utf-8")


def test_wrong_data_stops_the_quick_preset_too(capsys, here):
    (here / "data").mkdir()
    for file in FACTS["mnist"].files:
        (here / "data" / file).write_bytes(b"no data")
    assert "found 7 bytes" in refusal(capsys, "fig1", *ONE, *SMALL)
    assert not (here / "figures").exists()


# What the presets are.


def test_the_paper_preset_is_the_paper_s_setting():
    runs = Plan("fig1", "paper").runs()
    assert len(runs) == 2 * 2 * 5 * 3
    assert {r.lam for r in runs} == set(LAMBDAS) == {0.0, 1e-6, 1e-5, 1e-4, 1e-3}
    assert {(r.dataset, r.loss) for r in runs} == {
        (d, loss) for d in ("mnist", "cifar10") for loss in ("cross_entropy", "mean_squared_error")
    }
    same = {(r.network, r.m, r.m_test, r.B, r.eta, r.momentum, r.milestones, r.epochs) for r in runs}
    assert same == {("MLP-5-2000", 0, 0, 128, 0.1, 0.0, (), 2000)}


def budget(run):
    """Sum of 2 eta lambda over the steps, from the full sets' known sizes."""
    m = run.m or {"mnist": 60_000, "cifar10": 50_000}[run.dataset]
    return run.epochs * (m // run.B) * 2 * run.eta * run.lam


@pytest.mark.parametrize("settings", [{}, {"epochs": 300, "B": 10}])
def test_the_quick_preset_keeps_the_decay_budget(settings):
    plan = Plan("fig1", "quick", settings=settings)
    for line in (line for _, lines in plan.columns for line in lines):
        assert len(line.runs) == plan.seeds >= 2
        for run in line.runs:
            numpy.testing.assert_allclose(budget(run), budget(line.paper), rtol=1e-12)
    assert "decay budget" in plan.note() and "reduced" in plan.title()


def test_what_differs_from_the_paper_stands_under_the_title():
    note = Plan("fig1", "quick").note()
    assert "MLP-5-100 (paper: MLP-5-2000), 100 (paper: all) training samples, B = 20 (paper: 128)" in note
    assert "93.6 or 78 times" in note and "means over the seeds" in note
    assert "epochs" not in note  # they are the paper's
    assert "Set by hand: eta = 0.05." in Plan("fig1", "paper", settings={"eta": 0.05}).note()
    plan = Plan("fig1", "paper", seeds=1)
    assert plan.note() == "" and plan.title().endswith("(1 seed)")


@pytest.mark.parametrize(
    "texts, settings",
    [
        (["B=64", "eta=0.5"], {"B": 64, "eta": 0.5}),
        (["lam=0,1e-4"], {"lam": (0.0, 1e-4)}),
        (["lam=1e-4"], {"lam": 1e-4}),
        (["milestones=60"], {"milestones": (60,)}),
        (["milestones=60,100"], {"milestones": (60, 100)}),
        (["output_layer=false", "tol=1e-3"], {"output_layer": False, "tol": 1e-3}),
    ],
)
def test_settings_have_the_types_of_their_fields(texts, settings):
    parsed = parse_settings(texts)
    assert parsed == settings and all(type(parsed[name]) is type(value) for name, value in settings.items())


# Read by every process of a command that finds it on its path: at the moment that HOLD names, before or after
# the n-th call of a function by one process, the whole group stops. So a life ends where the test wants it,
# not where the machine's speed has taken it. Of the files replaced only the store's count, for Numba has some
# too; of the locks those that are waited for. What clears up multiprocessing's semaphores dies too.
SITECUSTOMIZE = """
import fcntl, os, signal

when, number, name = os.environ["HOLD"].split()
library = fcntl if name == "flock" else os
function, calls = getattr(library, name), []

def held(*args):
    if name == "flock":
        counts = args[1] == fcntl.LOCK_EX and args[0].name.endswith(".lock")
    else:
        counts = name != "replace" or str(args[1]).endswith(".npz")
    calls.extend([args] * counts)
    stops = counts and len(calls) == int(number)
    if stops and when == "before":
        os.killpg(0, signal.SIGSTOP)
    function(*args)
    if stops and when == "after":
        os.killpg(0, signal.SIGSTOP)

setattr(library, name, held)
"""
# The lock is asked for and taken, the file is written, synced, and appears as the result.
MOMENTS = ("before {} flock", "after {} flock", "before {} fsync", "before {} replace", "after {} replace")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no process groups")
def test_ten_times_killed_and_then_twice_at_once_ends_with_the_same_numbers(here, start):
    """Real processes, kill -9 of all of them: one worker at each of the moments, the other wherever it is."""
    (here / "hook").mkdir()
    (here / "hook" / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")

    def fig1(folder, jobs, **options):
        return start(
            "-m", "experiments", "fig1", "--preset", "smoke", "--set", "epochs=3", "--set", "dataset=mnist",
            "--seeds", "3", "--jobs", jobs, "--results", folder, "--figures", folder, **options,
        )

    def stopped(process):
        changed, status = os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)
        assert not changed or os.WIFSTOPPED(status), process.stderr.read()
        return changed

    def held(moment, jobs):
        path = os.pathsep.join([str(here / "hook"), str(ROOT)])
        process = fig1("killed", jobs, env={"PYTHONPATH": path, "HOLD": moment})
        wait_for(lambda: stopped(process))
        return process

    def finished():
        return len(list(here.glob("killed/????????????????.npz")))

    whole = fig1("whole", 2)
    whole.communicate(timeout=60)
    assert whole.returncode == 0
    for moment in [moment.format(number) for number in (1, 2) for moment in MOMENTS]:
        process = held(moment, 2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert 7 <= finished() <= 14  # of 30: what one worker had finished by then, and as much again at most
    pair = [held("before 1 flock", 1), held("before 1 flock", 1)]  # both have seen what is missing
    for process in pair:
        os.killpg(process.pid, signal.SIGCONT)
    for process in pair:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert drawn("csv", here / "killed").read_bytes() == drawn("csv", here / "whole").read_bytes()
    # What the ten lives left is gone.
    assert {path.name for path in here.glob("killed/*")} == {path.name for path in here.glob("whole/*")}
