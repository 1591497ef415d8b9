"""Several processes: the same bytes, whoever is killed, and one sentence for whoever waits."""

import multiprocessing
import os
import re
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy
import pytest

import minigrad
from experiments import train
from experiments.__main__ import parse_settings
from experiments.figures import Experiment
from experiments.runs import grid
from experiments.store import StoreError, checkpoint_path, locked
from experiments.train import Config
from experiments.workers import complete
from training import DIVERGING, RUN, assert_only_results, assert_same, sentences, wait_for

SETTINGS = ["dataset=mnist", "loss=cross_entropy", "network=MLP-1-4", "m=60", "m_test=60", "B=20"]
TWO = ["lam=0,1e-4", "epochs=300", "measure_every=100"]
# The real command, with a checkpoint after every epoch and a log of finished runs.
COMMAND = """
import sys
from experiments import train

def finish(state, config, status, finish=train.State.finish):
    finish(state, config, status)
    with open("log", "a") as log:
        log.write(state.run.key + "\\n")

train.SAVE_EVERY = 0
train.State.finish = finish
if __name__ == "__main__":
    from experiments.__main__ import main
    sys.exit(main())
"""


@pytest.fixture
def command(tmp_path, start):
    """command(*settings) starts Figure 1's runs with two jobs in tmp_path."""
    (tmp_path / "command.py").write_text(COMMAND)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal

    def begin(*settings):
        options = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
        fixed = "fig1 --preset smoke --seeds 1 --jobs 2 --published none".split()
        arguments = ("command.py", *fixed, *options)
        return start(*arguments, cwd=tmp_path, stdin=subprocess.DEVNULL)

    yield begin
    signal.signal(signal.SIGINT, before)


def runs_of(*settings):
    """The runs of such a command."""
    return Experiment("fig1", "smoke", 1, parse_settings([*SETTINGS, *settings])).runs()


def processes_under(pid):
    """The ids of the processes that a process has started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [int(word) for word in text.split()]


def workers_of(pid):
    """Of those the workers: multiprocessing's resource tracker is none."""
    commands = {child: Path(f"/proc/{child}/cmdline").read_text() for child in processes_under(pid)}
    return [child for child, command in commands.items() if "spawn_main" in command]


def maps_of(pid):
    """The files that a process has mapped into its memory, as text."""
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def blocks_ctrl_c(pid):
    """Whether a process has blocked SIGINT."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    blocked = int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16)
    return bool(blocked & 1 << signal.SIGINT - 1)


# The same bytes.


def test_two_processes_give_the_bits_of_one_and_share_its_data(tmp_path, monkeypatch):
    """A stack in one, a single run in the other. Only this process has data that are marked."""
    data = minigrad.load_dataset("synthetic-mnist")
    marked = data._replace(x_train=data.x_train + numpy.float32(0.1))
    monkeypatch.setattr(minigrad, "load_dataset", lambda *_: marked)
    monkeypatch.setattr(train, "LOADED", {})
    runs = [*grid(RUN, seed=(1, 0)), DIVERGING]
    one = complete(runs, Config(str(tmp_path / "one")), jobs=1)
    two = complete(runs, Config(str(tmp_path / "two"), stack=2), jobs=2)
    assert list(one) == runs
    assert_same(two, one)
    assert_only_results(tmp_path / "two", runs)
    assert multiprocessing.active_children() == []
    monkeypatch.undo()
    monkeypatch.setattr(train, "LOADED", {})
    unmarked = complete(runs[:1], Config(str(tmp_path / "unmarked")), jobs=1)
    assert (unmarked[runs[0]][1]["train_loss"] != one[runs[0]][1]["train_loss"]).any()


def test_a_second_call_trains_nothing(tmp_path, monkeypatch):
    first = complete([RUN, RUN], Config(str(tmp_path)), jobs=1)
    monkeypatch.setattr(train, "train_epoch", lambda *_: pytest.fail("trained again"))
    assert_same(complete([RUN], Config(str(tmp_path)), jobs=2), first)
    assert_same(complete([RUN], Config(str(tmp_path / "empty"), str(tmp_path)), jobs=2), first)


# What ends the command, its exit status, and a word of the one sentence, if it says any.
ENDS = {
    "Ctrl-C": (lambda pid: os.killpg(pid, signal.SIGINT), 130, "interrupted"),
    "SIGTERM": (lambda pid: os.kill(pid, signal.SIGTERM), 143, None),
    "kill -9": (lambda pid: os.kill(pid, signal.SIGKILL), -signal.SIGKILL, None),
    "kill -9 of a worker": (
        lambda pid: os.kill(workers_of(pid)[-1], signal.SIGKILL),
        2,
        "killed from outside",
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the runs of TWO, uninterrupted."""
    folder = tmp_path_factory.mktemp("whole")
    complete(runs_of(*TWO), Config(str(folder)), jobs=1)
    return folder


def assert_same_files(folder, expected):
    """The same results to the byte, and nothing else but the locks."""
    names = {path.name for path in folder.iterdir()} - {".locks"}
    assert names == {path.name for path in expected.iterdir()} - {".locks"}
    for name in names:
        assert (folder / name).read_bytes() == (expected / name).read_bytes()


@pytest.mark.parametrize("end", ENDS)
def test_a_command_that_is_ended_leaves_no_process_and_goes_on_to_the_same_bytes(
    tmp_path, command, whole, end
):
    """The workers inherit its standard error, so the end of that pipe is the end of all of them."""
    runs, results = runs_of(*TWO), tmp_path / "results"
    process = command(*TWO)
    checkpoints = [checkpoint_path(results, run) for run in runs]
    wait_for(lambda: all(path.exists() for path in checkpoints))
    act, status, word = ENDS[end]
    act(process.pid)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (status, ""), stderr
    told = sentences(stderr)
    assert len(told) == (word is not None), stderr
    assert word is None or word in told[0]
    assert any(path.exists() for path in checkpoints)
    complete(runs, Config(str(results)), jobs=1)
    assert_same_files(results, whole)


@pytest.mark.parametrize(
    "end, status, count", [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 0)], ids=str
)
@pytest.mark.parametrize("importing", [False, True], ids=["starting", "importing"])
def test_a_signal_while_the_workers_start_reaches_the_command_alone(
    command, end, status, count, importing
):
    process = command("lam=0,1e-4", "epochs=100000")
    files = "numpy" if importing else ""
    wait_for(lambda: any(files in maps_of(worker) for worker in workers_of(process.pid)))
    assert all(map(blocks_ctrl_c, workers_of(process.pid)))
    (os.killpg if end == signal.SIGINT else os.kill)(process.pid, end)
    _, stderr = process.communicate(timeout=120)
    assert (process.returncode, len(sentences(stderr))) == (status, count), stderr


def test_two_commands_at_once_train_each_run_once_and_agree(tmp_path, command, whole):
    both = command(*TWO), command(*TWO)
    for process in both:
        _, stderr = process.communicate(timeout=120)
        assert (process.returncode, sentences(stderr)) == (0, [])
    log = (tmp_path / "log").read_text(encoding="utf-8").split()
    assert sorted(log) == sorted(run.key for run in runs_of(*TWO))
    assert_same_files(tmp_path / "results", whole)


def test_workers_that_wait_for_another_command_end_with_their_own(tmp_path, command):
    """They report nothing, so no broken pipe ends them."""
    with locked(tmp_path / "results", runs_of(*TWO)):
        process = command(*TWO)
        wait_for(lambda: any("numpy" in maps_of(worker) for worker in workers_of(process.pid)))
        process.kill()
        process.communicate(timeout=30)


# One sentence.


def test_an_error_in_a_worker_arrives_as_its_sentence(tmp_path):
    runs = grid(RUN, seed=(0, 1))
    path = checkpoint_path(tmp_path, runs[1])
    path.write_text("no checkpoint")
    with pytest.raises(StoreError, match=re.escape(str(path))):
        complete(runs, Config(str(tmp_path)), jobs=2)
    assert multiprocessing.active_children() == []


def test_workers_that_cannot_start_are_not_called_killed(tmp_path, start):
    """A script from standard input without a main guard, which no worker can import."""
    process = start("-", cwd=tmp_path, stdin=subprocess.PIPE)
    script = f"""
from experiments.runs import Run, grid
from experiments.train import Config
from experiments.workers import complete
complete(grid({replace(RUN, epochs=1)!r}, seed=(0, 1)), Config("results"), jobs=2)
"""
    _, stderr = process.communicate(script, timeout=120)
    assert process.returncode == 1
    assert "could not start" in stderr.splitlines()[-1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_progress_bar_counts_the_runs_that_are_left(tmp_path, capsys, jobs):
    """Each count is written once or twice, not five times a second into a log."""
    runs = grid(replace(RUN, epochs=2), seed=(0, 1, 2))
    complete(runs[:1], Config(str(tmp_path)), jobs=1)
    capsys.readouterr()
    complete(runs, Config(str(tmp_path)), jobs)
    counts = re.findall(r"(\d) of 3 runs left", capsys.readouterr().err)
    assert counts[0] == "2" and "3" not in counts
    assert counts == sorted(counts, reverse=True)
    assert len(counts) <= 4
