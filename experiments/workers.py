"""Train the missing runs: in processes of this machine, or on the workers of a Dask cluster."""

import asyncio
import concurrent.futures
import contextlib
import functools
import hashlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy
from tqdm import tqdm

import minigrad

from . import train

PATIENCE = 10  # seconds for a scheduler to answer
AGAIN = "run the same command again, which goes on from the checkpoints"


class WorkerError(Exception):
    """A process or a cluster can't do its work; the message says why and what to do."""


def complete(runs, config, jobs=None, cluster=None):
    """Train the runs that are not stored, in `jobs` processes or on the cluster at this address.

    Returns {run: (meta, arrays)}. `jobs` is by default one per core, one on a GPU.
    """
    runs = list(dict.fromkeys(runs))
    missing = config.missing(runs)
    if missing:
        jobs = jobs or (1 if config.backend == "cupy" else cores())
        stacks = train.stacked(missing, config)
        stacks.sort(key=cost, reverse=True)  # the longest first, so that no core waits at the end
        bar = tqdm(
            total=cost(missing) * (1 + 1e-9),  # the parts, added in another order, may be more
            bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left",
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )
        with bar:
            if cluster:
                on_cluster(stacks, config, cluster, bar, len(runs))
            elif min(jobs, len(stacks)) > 1:
                in_processes(stacks, config, min(jobs, len(stacks)), bar, len(runs))
            else:
                for number, stack in enumerate(stacks):
                    describe(bar, stacks[number:], len(runs))
                    train.train(stack, config, bar.update)
    return {run: config.reader().read(run) for run in runs}


def cores():
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cost(runs):
    """About how many seconds these runs take on one core."""
    return sum(run.cost() for run in runs)


def describe(bar, stacks, total):
    """Say on the bar how many of all runs are left."""
    bar.set_description(f"{sum(map(len, stacks))} of {total} runs left")


def wait_for(futures, bar, total, step=lambda: None):
    """Wait for {future: its runs}, calling `step` meanwhile; raises a worker's error."""
    pending = set(futures)
    while pending:
        describe(bar, [futures[future] for future in pending], total)
        done = set()
        while not done:
            done, pending = concurrent.futures.wait(pending, 0.2, "FIRST_COMPLETED")
            step()
        for future in done:
            future.result()


# Processes of this machine.


def in_processes(stacks, config, jobs, bar, total):
    """Train each stack in a process of its own; all of them end with this one, however it ends."""
    context = multiprocessing.get_context("spawn")  # forking with BLAS threads isn't safe
    reports = context.SimpleQueue()
    executor = concurrent.futures.ProcessPoolExecutor(
        jobs, context, _start_worker, (reports, shared_data(stacks, config))
    )
    futures, children = {}, []

    def step():
        while not reports.empty():
            bar.update(reports.get())
        if not all(child.is_alive() for child in children):
            raise BrokenProcessPool

    try:
        with signals_later():
            try:
                for runs in stacks:
                    futures[executor.submit(_train_in_process, runs, config)] = runs
            finally:
                children += executor._processes.values()  # nothing public names them
        wait_for(futures, bar, total, step)
        return
    except BrokenProcessPool:
        pass  # its reason is known when all have ended
    finally:
        for child in children:
            child.kill()  # a checkpoint is whole at any moment
        executor.shutdown(cancel_futures=True)
    if any((child.exitcode or 0) > 0 for child in children):
        reason = "could not start: the reason is above"
    else:
        reason = f"was killed from outside (out of memory?): {AGAIN}, perhaps with fewer --jobs"
    raise WorkerError(f"a worker process {reason}")


@contextlib.contextmanager
def signals_later():
    """Signals wait for the block's end; a Ctrl-C never reaches the processes that it starts."""
    came = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which they inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def shared_data(stacks, config):
    """{key of train.LOADED: [(memory, shape)]}: one copy of the data for all processes."""
    for runs in stacks:
        train.load(runs[0], config)
    shared = {}
    for key in list(train.LOADED):
        shared[key] = []
        for array in train.LOADED.pop(key):
            memory = multiprocessing.RawArray("f", array.size)
            numpy.frombuffer(memory, "float32")[:] = array.ravel()
            shared[key].append((memory, array.shape))
    return shared


def _start_worker(reports, shared):
    """Prepare this process, a worker: it ends with its parent, and takes the shared data."""

    def end_with_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    _train_in_process.report = reports.put
    for key, arrays in shared.items():
        views = [numpy.frombuffer(memory, "float32").reshape(shape) for memory, shape in arrays]
        for view in views:
            view.flags.writeable = False
        train.LOADED[key] = views


def _train_in_process(runs, config):
    train.train(runs, config, _train_in_process.report)


# A Dask cluster.


def on_cluster(stacks, config, address, bar, total):
    """Train the stacks on a cluster, whose workers need this code and the same folders."""
    try:
        import distributed
    except ImportError:
        raise WorkerError("--cluster needs distributed: pip install '.[cluster]'") from None
    for name in ("distributed", "distributed.client"):  # each has a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors are one sentence of ours
    client = connected(distributed, address)
    data = Path(config.data or os.environ.get("MINIGRAD_DATA") or "data").expanduser()
    results = Path(config.results).absolute()
    results.mkdir(parents=True, exist_ok=True)
    config = replace(config, results=results, data=data.absolute())
    with client, tempfile.NamedTemporaryFile(dir=results) as probe:
        # Whoever sees this file of a random name sees the same folder.
        if not client.nthreads():
            raise WorkerError(f"--cluster {address}: it has no workers, start some")
        executor = client.get_executor(pure=False)
        try:
            futures = {}
            for runs in stacks:
                future = executor.submit(_train_on_cluster, runs, config, probe.name, code())
                future.add_done_callback(
                    lambda future, done=cost(runs): future.cancelled() or bar.update(done)
                )
                futures[future] = runs
            wait_for(futures, bar, total)
        except distributed.KilledWorker:
            reason = "workers died again and again (out of memory?): see their logs"
            raise WorkerError(f"{reason}, then {AGAIN}") from None
        except (concurrent.futures.CancelledError, distributed.comm.CommClosedError):
            reason = f"the scheduler at {address} has gone: start it again"
            raise WorkerError(f"{reason}, then {AGAIN}") from None
        finally:
            executor.shutdown(wait=False)


def connected(distributed, address):
    """A client of the Dask scheduler at this address."""

    async def kind():
        # A Client never gives up on a server that is not Dask's.
        arguments = distributed.Security().get_connection_args("client")
        async with distributed.rpc(address, connection_args=arguments) as there:
            return (await there.identity())["type"]

    try:
        found = asyncio.run(asyncio.wait_for(kind(), PATIENCE))
        if found != "Scheduler":
            raise ValueError(f"this is a Dask {found.lower()}")
        return distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # each way not to be a scheduler raises something else
        reason = str(error) or "no answer"
        raise WorkerError(f"--cluster {address}: no Dask scheduler answers ({reason})") from None


def _train_on_cluster(runs, config, probe, expected_code):
    """Train on a worker of the cluster, if it is fit for that."""
    import distributed

    here = Path(__file__).parents[1]
    if code() != expected_code:
        raise WorkerError(f"a worker has another minigrad in {here}: install the same, restart it")
    if not Path(probe).exists():
        raise WorkerError(f"a worker doesn't see {config.results}: give --results that all see")
    if distributed.get_worker().state.nthreads > 1:  # they would share BLAS's number of threads
        raise WorkerError("a worker trains several runs at once: start it with --nthreads 1")
    train.train(runs, config)


@functools.cache
def code():
    """SHA-256 of the files of minigrad and experiments, as this process found them first."""
    found = hashlib.sha256()
    for package in (minigrad.__file__, __file__):
        for path in sorted(Path(package).parent.rglob("*.py")):
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()
