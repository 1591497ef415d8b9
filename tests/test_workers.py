"""Several processes: the same bytes, whoever is killed, and one sentence for whoever waits."""

import multiprocessing
import os
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy
import pytest

import minigrad
from experiments import train
from experiments.__main__ import setting
from experiments.figures import Experiment
from experiments.store import StoreError, checkpoint_path, locked
from experiments.train import Config
from experiments.workers import complete
from training import DIVERGING, RUN, SEEDS, assert_only_results, assert_same, sentences, wait_for

SETTINGS = ["dataset=mnist", "loss=cross_entropy", "network=MLP-1-4", "m=60", "m_test=60", "B=20"]
SETTINGS += ["lam=0,1e-4", "epochs=300", "measure_every=100"]
RUNS = Experiment("fig1", "smoke", 1, dict(map(setting, SETTINGS))).runs()
# The real command, with a checkpoint after every epoch and a log of finished runs.
COMMAND = """
from experiments import train

def finish(state, config, finish=train.State.finish):
    if finish(state, config):
        with open("log", "a") as log:
            log.write(state.run.key + "\\n")
        return True

train.SAVE_EVERY = 0
train.State.finish = finish
if __name__ == "__main__":
    from experiments.__main__ import main
    main()
"""


@pytest.fixture
def command(tmp_path, start):
    """command() trains RUNS with two jobs in tmp_path."""
    (tmp_path / "command.py").write_text(COMMAND)
    args = "fig1 --preset smoke --seeds 1 --jobs 2 --published none --engine reference".split()
    args += [f"--set={text}" for text in SETTINGS]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal
    yield lambda: start("command.py", *args, cwd=tmp_path, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """RUNS, uninterrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return complete(RUNS, Config(str(folder), engine="reference"), jobs=1)


def assert_whole(folder, whole):
    """The folder holds RUNS, trained to the same bits, and nothing else."""
    assert_same(complete(RUNS, Config(str(folder), engine="reference"), jobs=1), whole)
    assert_only_results(folder, RUNS)


def workers_of(pid):
    """The ids of a command's workers; multiprocessing's resource tracker is none."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
    return [child for child, command in commands.items() if "spawn_main" in command]


def import_numpy(pid):
    """Whether both workers of a command have begun with their imports."""
    maps = [Path(f"/proc/{worker}/maps").read_text() for worker in workers_of(pid)]
    return len(maps) == 2 and all("numpy" in text for text in maps)


def save(pid):
    """Whether both checkpoints are there, in the command's folder."""
    results = Path(f"/proc/{pid}/cwd").resolve() / "results"
    return all(checkpoint_path(results, run).exists() for run in RUNS)


def test_two_processes_give_the_bits_of_one_and_share_its_data(tmp_path, monkeypatch):
    """A stack in one, a single run in the other. Only this process has data that are marked."""
    data = minigrad.load_dataset("synthetic-mnist")
    marked = data._replace(x_train=data.x_train + numpy.float32(0.1))
    monkeypatch.setattr(minigrad, "load_dataset", lambda *_: marked)
    monkeypatch.setattr(train, "LOADED", {})
    runs = [*SEEDS[::-1], DIVERGING]
    one = complete(runs, Config(str(tmp_path / "one")), jobs=1)
    two = complete(runs, Config(str(tmp_path / "two"), stack=2), jobs=2)
    assert list(one) == runs
    assert_same(two, one)
    assert_only_results(tmp_path / "two", runs)
    assert multiprocessing.active_children() == []


def kill_worker(pid, number):
    os.kill(workers_of(pid)[-1], number)


# When and how the command is ended, its exit status, and a word of the one sentence, if any.
ENDS = {
    "Ctrl-C": (save, os.killpg, signal.SIGINT, 130, "interrupted"),
    "Ctrl-C early": (import_numpy, os.killpg, signal.SIGINT, 130, "interrupted"),
    "SIGTERM": (save, os.kill, signal.SIGTERM, 143, None),
    "kill -9": (save, os.kill, signal.SIGKILL, -signal.SIGKILL, None),
    "kill -9 of a worker": (save, kill_worker, signal.SIGKILL, 2, "was killed"),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_ended_command_leaves_no_process_and_goes_on_to_the_same_bytes(
    tmp_path, command, whole, end
):
    """The workers inherit its standard error, so the end of that pipe is the end of all of them."""
    is_due, act, number, status, word = ENDS[end]
    process = command()
    wait_for(lambda: is_due(process.pid))
    act(process.pid, number)
    _, stderr = process.communicate(timeout=120)
    told = sentences(stderr)
    assert (process.returncode, len(told)) == (status, word is not None), stderr
    assert word is None or word in told[0]
    assert_whole(tmp_path / "results", whole)


def is_waiting(pid):
    """Whether both workers of a command wait for the locks of their runs."""
    locks, workers = Path("/proc/locks").read_text(), workers_of(pid)
    return len(workers) == 2 and all(f"-> FLOCK  ADVISORY  WRITE {w} " in locks for w in workers)


def test_two_commands_at_once_train_each_run_once_and_agree(tmp_path, command, whole):
    """The workers of a third, killed while all wait, end with it: no broken pipe ends them."""
    with locked(tmp_path / "results", RUNS):
        killed, *both = processes = command(), command(), command()
        wait_for(lambda: all(is_waiting(process.pid) for process in processes))
        killed.kill()
        killed.communicate(timeout=30)
    for process in both:
        _, stderr = process.communicate(timeout=120)
        assert (process.returncode, sentences(stderr)) == (0, [])
    log = (tmp_path / "log").read_text(encoding="utf-8").split()
    assert sorted(log) == sorted(run.key for run in RUNS)
    assert_whole(tmp_path / "results", whole)


def test_an_error_in_a_worker_arrives_as_its_sentence(tmp_path):
    path = checkpoint_path(tmp_path, SEEDS[1])
    path.write_text("no checkpoint")
    with pytest.raises(StoreError, match=re.escape(str(path))):
        complete(SEEDS, Config(str(tmp_path), engine="reference"), jobs=2)
    assert multiprocessing.active_children() == []


def test_the_progress_bar_counts_the_runs_that_are_left(tmp_path, capsys):
    """Each count is written once or twice, not five times a second into a log."""
    runs = [replace(RUN, epochs=2, seed=seed) for seed in range(3)]
    complete(runs[:1], Config(str(tmp_path)), jobs=1)
    capsys.readouterr()
    complete(runs, Config(str(tmp_path)), jobs=2)
    counts = re.findall(r"(\d) of 3 runs left", capsys.readouterr().err)
    assert list(dict.fromkeys(counts)) == ["2", "1", "0"] and len(counts) <= 4
