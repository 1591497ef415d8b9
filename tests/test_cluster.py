"""Runs trained on a Dask cluster on this machine: the same bytes, and one sentence if it fails."""

import logging
import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import workers
from experiments.runs import grid
from experiments.store import checkpoint_path
from experiments.train import Config
from experiments.workers import WorkerError, complete
from training import DIVERGING, RUN, assert_only_results, assert_same, sentences, wait_for

distributed = pytest.importorskip("distributed", reason="distributed is not installed")

ENDLESS = replace(RUN, epochs=100_000, measure_every=100_000)


def started(number):
    """A cluster on the loopback, as a user would start one."""
    return distributed.LocalCluster(
        n_workers=number,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        threads_per_worker=1,
        silence_logs=logging.CRITICAL,
    )


@pytest.fixture(scope="module")
def two():
    """A cluster of two processes."""
    with started(2) as cluster:
        yield cluster


@pytest.fixture
def client(two):
    with distributed.Client(two.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def refusal(run, folder, address):
    """The one sentence in which the cluster is refused."""
    with pytest.raises(WorkerError) as error:
        complete([run], Config(str(folder)), cluster=address)
    message = str(error.value)
    assert "\n" not in message
    return message


def when(condition, act):
    """A thread that acts once condition() holds."""
    thread = threading.Thread(target=lambda: (wait_for(condition), act()))
    thread.start()
    return thread


def test_a_cluster_gives_the_bits_of_this_process_also_in_a_folder_named_from_here(
    tmp_path, two, client, monkeypatch
):
    """The workers were started somewhere else."""
    runs = [*grid(RUN, seed=(0, 1)), DIVERGING]
    here = complete(runs, Config(str(tmp_path / "here")), jobs=1)
    monkeypatch.chdir(tmp_path)
    there = complete(runs, Config("there", stack=2), cluster=two.scheduler_address)
    assert_same(there, here)
    assert_only_results(tmp_path / "there", runs)


def save_always():
    """On a worker."""
    from experiments import train

    train.SAVE_EVERY = 0


def test_a_run_whose_worker_is_killed_goes_on_to_the_same_bits(tmp_path, two, client):
    runs = grid(replace(RUN, epochs=300, measure_every=100), seed=(0, 1))
    here = complete(runs, Config(str(tmp_path / "here")), jobs=1)
    folder = tmp_path / "there"
    client.run(save_always)
    killed = when(
        lambda: all(checkpoint_path(folder, run).exists() for run in runs),
        lambda: os.kill(two.workers[0].pid, signal.SIGKILL),
    )
    there = complete(runs, Config(str(folder)), cluster=two.scheduler_address)
    killed.join()
    assert_same(there, here)
    assert_only_results(folder, runs)


def test_a_run_that_kills_every_worker_is_one_sentence(tmp_path, two, client, monkeypatch):
    monkeypatch.setattr(two.scheduler, "allowed_failures", 0)
    lock = tmp_path / ".locks" / ENDLESS.key

    def kill_all():
        for worker in two.workers.values():
            os.kill(worker.pid, signal.SIGKILL)

    killed = when(lock.exists, kill_all)
    assert "died again and again" in refusal(ENDLESS, tmp_path, two.scheduler_address)
    killed.join()


def hide(folder):
    """From a worker for good, as on a machine that doesn't have the folder."""
    exists = Path.exists
    Path.exists = lambda path: not str(path).startswith(folder) and exists(path)


def test_a_worker_that_does_not_see_the_results_folder_is_refused(tmp_path, two, client):
    client.run(hide, str(tmp_path))
    assert f"doesn't see {tmp_path}" in refusal(RUN, tmp_path, two.scheduler_address)
    assert_only_results(tmp_path, [])


def test_a_worker_with_other_code_is_refused(tmp_path, two, client, monkeypatch):
    monkeypatch.setattr(workers, "code", lambda: "of another day")
    assert "another minigrad" in refusal(RUN, tmp_path, two.scheduler_address)
    assert_only_results(tmp_path, [])


def take(number, dask_worker):
    """A worker as started with --nthreads."""
    dask_worker.state.nthreads = number


def test_a_worker_that_would_train_several_runs_at_once_is_refused(tmp_path, two, client):
    client.run(take, 2)
    assert "--nthreads 1" in refusal(RUN, tmp_path, two.scheduler_address)
    client.run(take, 1)


def test_other_code_is_another_text_or_name_of_a_file_of_either_package(tmp_path, monkeypatch):
    names = ("minigrad/a.py", "minigrad/fast/b.py", "experiments/c.py")
    files = [tmp_path / name for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.setattr(workers.minigrad, "__file__", str(files[0]))
    monkeypatch.setattr(workers, "__file__", str(files[2]))
    code = workers.code.__wrapped__  # without its cache
    found = {code()}
    for file in files:
        file.write_text("changed = True")
        found.add(code())
    files[1].rename(files[1].with_name("other.py"))
    assert len(found | {code()}) == 5


# No cluster, or none any more.


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nothing"])
def test_the_address_of_nothing_is_one_sentence(tmp_path, address, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    assert f"--cluster {address}: no Dask scheduler" in refusal(RUN, tmp_path, address)


def test_a_server_that_never_answers_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        assert "no Dask scheduler" in refusal(RUN, tmp_path, address)


def test_the_address_of_a_worker_is_one_sentence(tmp_path, two):
    address = two.workers[1].worker_address
    assert "this is a Dask worker" in refusal(RUN, tmp_path, address)


def test_a_cluster_without_workers_is_one_sentence(tmp_path):
    with started(0) as empty:
        assert "no workers" in refusal(RUN, tmp_path, empty.scheduler_address)


def test_a_scheduler_that_dies_is_one_sentence(tmp_path, start):
    """It and its worker are processes of their own, as started by hand."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    host = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
    port = address.rpartition(":")[2]
    scheduler = start("-m", "dask", "scheduler", *host, "--port", port, cwd=tmp_path)
    start("-m", "dask", "worker", address, *host, "--nthreads", "1", "--no-nanny", cwd=tmp_path)
    with distributed.Client(address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
    settings = "dataset=mnist loss=cross_entropy network=MLP-1-4 lam=0 epochs=100000".split()
    options = [word for setting in settings for word in ("--set", setting)]
    fixed = "-m experiments fig1 --preset smoke --seeds 1 --published none --cluster".split()
    command = start(*fixed, address, *options, cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("results/.locks/*")))
    scheduler.kill()
    _, stderr = command.communicate(timeout=120)
    told = sentences(stderr)
    assert (command.returncode, len(told)) == (2, 1), stderr
    assert f"the scheduler at {address} has gone" in told[0]
