"""Runs trained on a Dask cluster: the same bits, whoever dies there, and one sentence for who is not fit."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest

import minigrad
from experiments import cluster, meeting, parallel, runner, store
from experiments.meeting import Meeting, code, objection
from experiments.options import parse_settings
from experiments.plans import Plan
from experiments.provenance import origin
from experiments.runner import Where, complete
from experiments.runs import Run, grid
from processes import wait_for

distributed = pytest.importorskip("distributed", reason="distributed is not installed")

ROOT = Path(runner.__file__).resolve().parents[1]
RUN = Run(network="MLP-BN-2-8", dataset="synthetic-mnist", m=60, m_test=60, B=16, lam=1e-3, epochs=14)
LONG = replace(RUN, epochs=300, measure_every=100)  # a second or two
ENDLESS = replace(RUN, epochs=100_000, measure_every=100_000)
COMMAND = ("-W", "error", "-m", "experiments", "fig1", "--preset", "smoke", "--seeds", "1")
SETTINGS = ("dataset=mnist", "loss=cross_entropy", "lam=0,1e-4", "network=MLP-1-4")  # two runs
OPTIONS = [word for setting in SETTINGS for word in ("--set", setting)]


def started(workers):
    """A cluster on the loopback, as a user would start one."""
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
        memory_limit=0, silence_logs=logging.CRITICAL,
    )


@pytest.fixture(scope="module")
def two():
    """A cluster of two processes."""
    with started(2) as both:
        yield both


@pytest.fixture
def client(two):
    with distributed.Client(two.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=30)
        yield client


@pytest.fixture
def bar(monkeypatch):
    """What the progress bar of complete() is told."""

    class Bar(contextlib.nullcontext):
        def __init__(self, **options):
            super().__init__(self)
            self.update = told.append

    told = []
    monkeypatch.setattr(runner, "tqdm", Bar)
    return told


def there(folder, two, **fields):
    return Where(str(folder), cluster=two.scheduler_address, **fields)


def assert_same(actual, expected):
    """The same runs in the same order, with the same provenance and bits."""
    assert list(actual) == list(expected)
    for run, (meta, arrays) in expected.items():
        assert actual[run][0] == meta
        assert list(actual[run][1]) == list(arrays)
        for name, array in arrays.items():
            numpy.testing.assert_array_equal(actual[run][1][name], array, err_msg=name, strict=True)


def assert_only_results(folder, runs):
    """No checkpoint, no lock and no token is left."""
    assert {path.name for path in Path(folder).iterdir()} == {f"{run.key}.npz" for run in runs}


def only_progress(stderr):
    """Whether nothing else is told."""
    lines = stderr.replace("\r", "\n").splitlines()
    return all(line.startswith("training ") or not line.strip() for line in lines)


def refusal(run, where):
    """The one sentence in which the cluster is refused."""
    with pytest.raises(cluster.ClusterError) as error:
        complete([run], where)
    message = str(error.value)
    assert "\n" not in message
    return message


def met(folder, **fields):
    """One at which this process would be fit."""
    (folder / "token").write_text("said")
    fit = Meeting(folder / "token", "said", (), "numpy", code())
    return replace(fit, **fields)


def worker(nthreads=1):
    return SimpleNamespace(state=SimpleNamespace(nthreads=nthreads))


# The same numbers.


def test_a_cluster_and_this_process_give_the_same_bits(tmp_path, two, bar):
    runs = [*grid(RUN, seed=(0, 1), lam=(0.0, 1e-3)), replace(RUN, network="MLP-2-8", eta=20.0)]
    here = complete(runs, Where(str(tmp_path / "here")), jobs=1)
    bar.clear()
    assert_same(complete(runs, there(tmp_path / "there", two)), here)
    assert sum(bar) == pytest.approx(sum(map(Run.cost, runs)))
    assert_only_results(tmp_path / "there", runs)
    assert here[runs[-1]][0]["status"] == "diverged"


def test_stacks_of_tails_start_on_a_cluster_where_others_end(tmp_path, two, bar):
    base = replace(RUN, network="MLP-2-8", momentum=0.0, epochs=5, tail_epochs=2)
    runs = [*grid(base, eta=(0.01, 0.02, 1e20)), *grid(replace(base, tail_gd=True), eta=(0.01, 0.02, 1e20))]
    here = complete(runs, Where(str(tmp_path / "here"), keep_weights=True), jobs=1)
    bar.clear()
    assert_same(complete(runs, there(tmp_path / "there", two, keep_weights=True, stack=2)), here)
    starts = {run.start() for run in runs}
    assert sum(bar) == pytest.approx(sum(run.cost() for run in [*runs, *starts]))
    assert_only_results(tmp_path / "there", [*runs, *starts])
    assert here[runs[-1]][0]["status"] == "diverged"


def test_a_relative_folder_is_the_command_s_and_not_the_workers(tmp_path, two, monkeypatch):
    """They were started somewhere else."""
    monkeypatch.chdir(tmp_path)
    complete([RUN], there("results", two))
    assert_only_results(tmp_path / "results", [RUN])


def test_workers_look_for_a_data_set_where_the_command_has_found_it(tmp_path, monkeypatch):
    """By $MINIGRAD_DATA, say, or in ./data, which mean other places there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "find_or_fetch", lambda name, root: {"images": Path("sets", name, "images")})
    monkeypatch.setattr(cluster, "workers", lambda *args: args)
    work, pool = runner._workers([[RUN]], Where(cluster="a:1"), 1)
    assert (tmp_path / "sets" / RUN.dataset / "images",) in pool
    looked = []
    monkeypatch.setattr(runner, "train", lambda runs, where, report: looked.append(where.data))
    work([RUN], None)
    assert looked == [str(tmp_path / "sets" / RUN.dataset)]


def test_a_run_whose_worker_is_killed_goes_on_to_the_same_bits(tmp_path, two, client, bar):
    runs = grid(LONG, seed=(0, 1))
    here = complete(runs, Where(str(tmp_path / "here")), jobs=1)
    folder = tmp_path / "there"
    bar.clear()
    killed = []

    def kill_one():
        wait_for(lambda: bar and all(store.partial_path(folder, run).exists() for run in runs))
        killed.append(two.workers[0].pid)
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    results = complete(runs, there(folder, two, save_every=0))
    killer.join()
    assert killed
    assert_same(results, here)
    assert_only_results(folder, runs)
    assert sum(bar) == pytest.approx(sum(map(Run.cost, runs)))


def hand(start, *args, **options):
    """`dask scheduler` or `dask worker`."""
    where = ("--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0")
    return start("-m", "dask", *args, *where, **options)


def test_a_cluster_started_by_hand_loses_a_worker_and_then_its_scheduler(tmp_path, start):
    """Processes of their own, in folders of their own; the real command."""
    for name in ("1", "2", "command"):
        (tmp_path / name).mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    scheduler = hand(start, "scheduler", "--port", port)
    worker = ("worker", address, "--nthreads", "1", "--no-nanny")
    one, _ = (hand(start, *worker, cwd=tmp_path / name) for name in ("1", "2"))
    with distributed.Client(address, timeout=30, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    command = (*COMMAND, *OPTIONS, "--set", "epochs=1000", "--cluster", address)
    process = start(*command, cwd=tmp_path / "command")
    results = tmp_path / "command" / "results"
    wait_for(lambda: len(list(results.glob(".*.lock"))) == 3)  # of the runs, and the token
    one.kill()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0 and only_progress(stderr), stderr
    runs = Plan("fig1", "smoke", 1, parse_settings([*SETTINGS, "epochs=1000"])).runs()
    here = complete(runs, Where(str(tmp_path / "here")), jobs=1)
    assert_same({run: store.read_result(results, run) for run in here}, here)
    assert_only_results(results, here)

    lock = store.lock_path(tmp_path, ENDLESS.key)
    killer = threading.Thread(target=lambda: (wait_for(lock.exists), scheduler.kill()))
    killer.start()
    message = refusal(ENDLESS, Where(str(tmp_path), cluster=address))
    killer.join()
    assert f"the scheduler at {address} has gone" in message


def test_local_starts_a_cluster_that_leaves_nothing_but_results_and_figures(tmp_path, start):
    command = (*COMMAND, *OPTIONS, "--set", "epochs=2", "--cluster", "local", "--jobs", "2")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # another has it: Dask's own port for its pages is not free
            stack.enter_context(socket.create_server(("127.0.0.1", 8787)))
        process = start(*command, cwd=tmp_path)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0 and only_progress(stderr), stderr
    assert len(stdout.splitlines()) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"results", "figures"}
    assert len(list((tmp_path / "results").iterdir())) == 2


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda end: end.name)
def test_no_process_outlives_a_local_cluster(tmp_path, start, end):
    """They inherit its standard error, whose end is the proof. The terminal's Ctrl-C reaches all of them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = (*COMMAND, *OPTIONS, "--set", "epochs=100000", "--cluster", "local", "--jobs", "2")
    process = start(*command, cwd=tmp_path, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGINT, before)
    wait_for(lambda: len(list(tmp_path.glob("results/.*.lock"))) == 3)
    if end == signal.SIGINT:
        os.killpg(process.pid, end)
    else:
        process.kill()
    _, stderr = process.communicate(timeout=60)
    told = [line for line in stderr.replace("\r", "\n").splitlines() if line and not only_progress(line)]
    expected = ["interrupted: run the same command again, which trains no stored run anew"]
    assert told == (expected if end == signal.SIGINT else [])


# Who is not fit to work.


def hide(folder):
    """From this process, for good: as on a machine that doesn't have the folder."""

    def hook(event, args):
        if event == "open" and str(args[0]).startswith(folder):
            raise FileNotFoundError(2, "No such file or directory", str(args[0]))

    sys.addaudithook(hook)


def test_a_worker_that_does_not_see_the_folder_is_named_with_it(tmp_path, two, client):
    address = two.workers[1].worker_address
    client.run(hide, str(tmp_path), workers=[address])
    message = refusal(RUN, there(tmp_path, two))
    assert f"the worker at {address} does not see the folder {tmp_path}" in message
    assert "No such file or directory" in message
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_same_name_is_not_the_same_folder(tmp_path):
    assert objection(met(tmp_path), worker()) is None
    other = met(tmp_path, text="another")
    assert f"sees another folder at {tmp_path}" in objection(other, worker())


def test_a_worker_with_other_code_is_refused(tmp_path, two, monkeypatch):
    monkeypatch.setattr(cluster, "code", lambda: "of another day")
    assert f"has another minigrad, in {ROOT}: install the same there" in refusal(RUN, there(tmp_path, two))


def test_other_code_is_another_text_or_name_of_any_file_of_both_packages(tmp_path, monkeypatch):
    """Faults: the names alone, the texts alone, one of the packages, the files of its folders left out."""
    names = ("minigrad/__init__.py", "minigrad/layers.py", "experiments/meeting.py", "experiments/a/b.py")
    files = [tmp_path / name for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    monkeypatch.setattr(minigrad, "__file__", str(files[0]))
    monkeypatch.setattr(meeting, "__file__", str(files[2]))
    digest = code.__wrapped__  # that of now
    found = [digest()]
    assert digest() == found[0]
    for file in files:
        file.write_text("changed = True")
        found.append(digest())
    files[1].rename(files[1].with_name("rules.py"))
    found.append(digest())
    assert len(set(found)) == len(found) == 6


HIDDEN = {}


def block(module):
    HIDDEN[module] = sys.modules.get(module)
    sys.modules[module] = None  # as Python has it where there is none


def unblock(module):
    sys.modules[module] = HIDDEN[module]


def test_a_worker_without_the_project_is_refused(tmp_path, two, client):
    client.run(block, Meeting.__module__)
    message = refusal(RUN, there(tmp_path, two))
    client.run(unblock, Meeting.__module__)
    assert "can't run this project" in message and "ModuleNotFoundError" in message


def test_a_worker_that_takes_several_runs_at_a_time_is_refused(tmp_path):
    """Threads share what a run sets for its process."""
    reason = objection(met(tmp_path), worker(nthreads=4))
    assert "takes 4 runs at a time: start it with --nthreads 1" in reason


def test_a_worker_without_the_data_set_is_refused(tmp_path):
    absent = met(tmp_path, files=(tmp_path / "mnist",))
    assert f"does not see {tmp_path / 'mnist'}: give --data" in objection(absent, worker())


def test_a_worker_that_could_not_go_on_with_another_s_run_is_refused(tmp_path):
    other = origin("numpy") | {"blas": "openblas 0.3 Prescott"}
    reason = objection(met(tmp_path, origin=other), worker())
    assert "can't go on with another worker's run" in reason and "Prescott" in reason


def test_a_worker_without_the_backend_is_refused(tmp_path, monkeypatch):
    def refuse(backend):
        raise minigrad.BackendError("CuPy is not installed")

    monkeypatch.setattr(meeting, "origin", refuse)
    assert objection(met(tmp_path, backend="cupy"), worker()) == "can't compute: CuPy is not installed"


def test_a_token_is_swept_once_its_command_is_dead_and_not_before(tmp_path):
    with meeting.token(tmp_path / "results") as (path, text):
        store.sweep(tmp_path / "results")  # by another command
        assert path.read_text() == text
    assert not path.exists()
    path.write_text(text)  # as kill -9 leaves it
    store.sweep(tmp_path / "results")
    assert not path.exists()


def test_a_folder_that_takes_no_token_is_one_sentence_and_other_trouble_is_its_own(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="elsewhere"), meeting.token(tmp_path / "results"):
        raise OSError(5, "Input/output error", "elsewhere")
    with pytest.raises(store.StoreError, match="can't be written .*: give --results a folder that can be"):
        with meeting.token(tmp_path / "file"):
            pass


def meeting_of(answers, folder):
    """What the workers agree on, who answer so."""
    packages = {name: "1.0" for name in cluster.PACKAGES}
    versions = {"client": {"packages": packages}, "scheduler": {"packages": packages}, "workers": {}}
    client = SimpleNamespace(get_versions=lambda: versions, run=lambda *args, **options: answers)
    return cluster._agreed(client, met(folder))


def test_all_workers_must_compute_the_same_bits_as_the_first(tmp_path):
    """And who comes late as they. Faults: each asked by itself alone; no origin in the meeting."""
    here = origin("numpy")
    other = here | {"blas": "openblas 0.3 Prescott"}
    assert meeting_of({"a": (None, here), "b": (None, here)}, tmp_path).origin == here
    words = "the worker at b can't go on with another worker's run, .*Prescott"
    with pytest.raises(cluster.ClusterError, match=words):
        meeting_of({"a": (None, here), "b": (None, other)}, tmp_path)


def test_a_worker_that_comes_late_is_asked_too(tmp_path, two, client):
    """It was not at the meeting."""
    with cluster.workers(two.scheduler_address, 2, tmp_path, (), "numpy") as pool:
        client.run(hide, str(tmp_path))
        words = f"the worker at .* does not see the folder {tmp_path}"
        with pytest.raises(cluster.ClusterError, match=words):
            pool.submit(die, [RUN]).result()


def test_other_versions_are_one_sentence():
    packages = {name: "1.0" for name in ("python", "numpy", *cluster.PACKAGES)}
    versions = {"client": {"packages": packages}, "scheduler": {"packages": packages}, "workers": {}}
    cluster._check_versions(versions)
    other = {"packages": packages | {"numpy": "2.0"}}
    cluster._check_versions(versions | {"scheduler": other})
    words = "the worker at tcp://a:1 has numpy 2.0, and this command 1.0: install the same"
    with pytest.raises(cluster.ClusterError, match=words):
        cluster._check_versions(versions | {"workers": {"tcp://a:1": other}})
    other = {"packages": packages | {"distributed": "2.0"}}
    with pytest.raises(cluster.ClusterError, match="the scheduler has distributed 2.0"):
        cluster._check_versions(versions | {"scheduler": other})


# No cluster, or none any more.


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nothing", "http://127.0.0.1:9", "127.0.0.1:99999"])
def test_the_address_of_nothing_is_one_sentence(tmp_path, address, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    message = refusal(RUN, Where(str(tmp_path), cluster=address))
    assert f"--cluster {address}: there is no Dask scheduler" in message
    assert list(tmp_path.iterdir()) == []


def test_what_never_answers_is_no_scheduler(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        assert "there is no Dask scheduler (no answer)" in refusal(RUN, Where(str(tmp_path), cluster=address))


def test_a_worker_s_address_is_no_scheduler_s(tmp_path, two):
    address = two.workers[0].worker_address
    assert "this is a Dask worker" in refusal(RUN, Where(str(tmp_path), cluster=address))


def test_a_cluster_without_workers_is_one_sentence(tmp_path):
    with started(0) as empty:
        assert "the cluster has no workers" in refusal(RUN, there(tmp_path, empty))


def die(run, report):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_that_kills_every_worker_is_named(tmp_path, two, client, monkeypatch):
    monkeypatch.setattr(two.scheduler, "allowed_failures", 1)
    pool = cluster.workers(two.scheduler_address, 2, tmp_path, (), "numpy")
    with pytest.raises(cluster.ClusterError) as error:
        parallel.in_parallel(die, [[RUN]], pool, bar=None)
    assert f"every worker that trained the run {RUN.key} died, 2 of them" in str(error.value)


def test_a_cluster_whose_workers_have_all_gone_is_waited_for_and_then_told(tmp_path, monkeypatch):
    nobody = SimpleNamespace(nthreads=dict, subscribe_topic=lambda topic, handler: None)
    pool = cluster._pool(nobody, None, met(tmp_path))
    assert pool.news() == 0
    monkeypatch.setattr(cluster, "LONGEST_GAP", 0)
    with pytest.raises(cluster.ClusterError, match="has had no worker for 0 s: start some"):
        pool.news()


def test_commands_that_train_the_same_run_do_not_share_its_task(tmp_path):
    """Else the scheduler gives the second what the first has in another folder."""
    keys = []
    client = SimpleNamespace(subscribe_topic=lambda topic, handler: None)
    executor = SimpleNamespace(submit=lambda *args, key: keys.append(key))
    for name in ("one", "other"):
        pool = cluster._pool(client, executor, met(tmp_path, token=tmp_path / name))
        pool.submit(die, [RUN])
    assert len(set(keys)) == 2


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_frees_the_workers_and_what_waits_is_never_begun(tmp_path, two, client):
    runs = grid(ENDLESS, seed=(0, 1, 2))
    locks = [store.lock_path(tmp_path, run.key) for run in runs]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt():
        wait_for(lambda: len(list(tmp_path.glob("*.partial.npz"))) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            complete(runs, there(tmp_path, two, save_every=0))
    finally:
        signal.signal(signal.SIGINT, before)
    other.join()
    wait_for(lambda: store.sweep(tmp_path) or not any(path.exists() for path in locks))  # nobody holds them
    assert len(list(tmp_path.glob("*.partial.npz"))) == 2
