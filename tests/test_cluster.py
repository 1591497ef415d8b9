"""Runs trained on a Dask cluster on this machine: the same bytes, and one sentence if it fails."""

import contextlib
import logging
import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import train, workers
from experiments.store import checkpoint_path
from experiments.train import Config
from experiments.workers import WorkerError, complete
from training import DIVERGING, RUN, SEEDS, assert_only_results, assert_same, sentences, wait_for

distributed = pytest.importorskip("distributed", reason="distributed is not installed")


def started(number):
    """A cluster on the loopback."""
    return distributed.LocalCluster(
        n_workers=number,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        silence_logs=logging.CRITICAL,
    )


@pytest.fixture(scope="module")
def two():
    """A cluster of two processes, whose workers were started somewhere else."""
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
    return str(error.value)


def when(condition, act):
    """A thread that acts once condition() holds."""
    thread = threading.Thread(target=lambda: (wait_for(condition), act()))
    thread.start()
    return thread


def test_a_cluster_gives_the_bits_of_this_process(tmp_path, two, client, monkeypatch):
    """Also in a folder that is named from here."""
    runs = [*SEEDS, DIVERGING]
    here = complete(runs, Config(str(tmp_path / "here")), jobs=1)
    monkeypatch.chdir(tmp_path)
    there = complete(runs, Config("there", stack=2), cluster=two.scheduler_address)
    assert_same(there, here)
    assert_only_results(tmp_path / "there", runs)


def test_a_run_whose_worker_is_killed_goes_on_to_the_same_bits(tmp_path, two, client):
    runs = [replace(run, epochs=300, measure_every=100) for run in SEEDS]
    here = complete(runs, Config(str(tmp_path / "here"), engine="reference"), jobs=1)
    folder = tmp_path / "there"
    client.run(setattr, train, "SAVE_EVERY", 0)
    killed = when(
        lambda: all(checkpoint_path(folder, run).exists() for run in runs),
        lambda: os.kill(two.workers[0].pid, signal.SIGKILL),
    )
    config = Config(str(folder), engine="reference")
    there = complete(runs, config, cluster=two.scheduler_address)
    killed.join()
    assert_same(there, here)


def test_a_run_that_kills_its_worker_every_time_is_one_sentence(tmp_path, two, client, monkeypatch):
    monkeypatch.setattr(two.scheduler, "allowed_failures", 0)
    endless = replace(RUN, epochs=100_000, measure_every=100_000)
    killed = when(
        (tmp_path / ".locks" / endless.key).exists,
        lambda: [os.kill(worker.pid, signal.SIGKILL) for worker in two.workers.values()],
    )
    assert "died again and again" in refusal(endless, tmp_path, two.scheduler_address)
    killed.join()


def test_a_worker_that_is_not_fit_is_refused(tmp_path, two, client, monkeypatch):
    """With other code, without the results folder, with two threads."""
    address = two.scheduler_address
    with monkeypatch.context() as patch:
        patch.setattr(workers, "CODE", "of another day")
        assert "another minigrad" in refusal(RUN, tmp_path, address)
    with monkeypatch.context() as patch:
        unseen = contextlib.nullcontext(Path("unseen"))
        patch.setattr(workers.tempfile, "NamedTemporaryFile", lambda dir: unseen)
        assert f"doesn't see {tmp_path}" in refusal(RUN, tmp_path, address)

    def take(number, dask_worker):
        dask_worker.state.nthreads = number

    client.run(take, 2)
    assert "--nthreads 1" in refusal(RUN, tmp_path, address)
    client.run(take, 1)
    assert_only_results(tmp_path, [])


@pytest.mark.parametrize("kind", ["no address", "mute", "worker"])
def test_the_address_of_no_scheduler_is_one_sentence(tmp_path, two, monkeypatch, kind):
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = {
            "no address": "nothing",
            "mute": f"127.0.0.1:{mute.getsockname()[1]}",
            "worker": two.workers[1].worker_address,
        }[kind]
        assert f"--cluster {address}: no Dask scheduler" in refusal(RUN, tmp_path, address)


def test_a_cluster_without_workers_is_one_sentence(tmp_path):
    with started(0) as empty:
        assert "no workers" in refusal(RUN, tmp_path, empty.scheduler_address)


def test_a_scheduler_that_dies_is_one_sentence(tmp_path, start):
    """It and its worker are processes of their own, as started by hand."""
    file = tmp_path / "scheduler.json"
    there = ("--scheduler-file", file, "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
    scheduler = start("-m", "dask", "scheduler", *there, "--port", "0", cwd=tmp_path)
    start("-m", "dask", "worker", *there, "--nthreads", "1", "--no-nanny", cwd=tmp_path)
    with distributed.Client(scheduler_file=str(file), timeout=60, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        address = client.scheduler.address
    command = "-m experiments fig1 --preset smoke --seeds 1 --published none --set dataset=mnist"
    command += " --set loss=cross_entropy --set network=MLP-1-4 --set lam=0 --set epochs=100000"
    process = start(*command.split(), "--cluster", address, cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("results/.locks/*")))
    scheduler.kill()
    _, stderr = process.communicate(timeout=120)
    (told,) = sentences(stderr)
    assert process.returncode == 2 and f"{address}: its scheduler is gone" in told
