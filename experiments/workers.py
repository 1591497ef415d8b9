"""Train the missing runs: in processes of this machine, or on the workers of a Dask cluster."""

import asyncio
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
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import connection, resource_tracker
from pathlib import Path

import numpy
from tqdm import tqdm

import minigrad

from . import train
from .store import StoreError

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
        stacks = train.stacked(missing, config)
        stacks.sort(key=cost, reverse=True)  # the longest first, so that no core waits at the end
        jobs = min(len(stacks), jobs or (1 if config.backend == "cupy" else cores()))
        with Progress(missing, len(runs)) as progress:
            if cluster is not None:
                on_cluster(stacks, config, cluster, progress)
            elif jobs > 1:
                in_processes(stacks, config, jobs, progress)
            else:
                for stack in stacks:
                    train.train(stack, config, progress)
    return {run: config.reader().read(run) for run in runs}


def cores():
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cost(runs):
    """About how many seconds these runs take on one core."""
    return sum(run.cost() for run in runs)


class Progress(tqdm):
    """A bar of the estimated seconds of work, with the number of runs that are left."""

    def __init__(self, missing, total):
        self.seconds_left = {run: run.cost() for run in missing}
        self.of_all = f"of {total} runs left"
        super().__init__(
            desc=f"{len(missing)} {self.of_all}",
            total=cost(missing) * (1 + 1e-9),  # the parts, added in another order, may be more
            bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left",
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )

    def __call__(self, run, fraction):
        """Show that this fraction of the run's work is done."""
        left = run.cost() * (1 - fraction)
        self.update(self.seconds_left[run] - left)
        self.seconds_left[run] = left
        if fraction == 1:
            count = sum(seconds > 0 for seconds in self.seconds_left.values())
            self.set_description(f"{count} {self.of_all}")


# Processes of this machine.


def in_processes(stacks, config, jobs, progress):
    """Train the stacks in `jobs` processes, which end with this one, however it ends."""
    context = multiprocessing.get_context("spawn")  # forking with BLAS threads isn't safe
    data = shared_data(stacks, config)
    waiting, workers = list(stacks), {}
    resource_tracker.ensure_running()  # else the first worker starts it, which unblocks the signal

    def start():
        # The workers inherit this: a Ctrl-C reaches the command alone.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        for _ in range(jobs):
            pipe, theirs = context.Pipe()
            arguments = theirs, waiting.pop(0), config, data
            workers[pipe] = context.Process(target=_work, args=arguments, daemon=True)
            workers[pipe].start()
            theirs.close()

    try:
        with ThreadPoolExecutor(1) as thread:  # no signal interrupts it
            thread.submit(start).result()
        busy = set(workers)
        while busy:
            for pipe in connection.wait(busy):
                try:
                    message = pipe.recv()
                    if message is None:
                        pipe.send(waiting.pop(0) if waiting else None)
                except (EOFError, OSError):  # the worker has ended
                    busy.remove(pipe)
                    workers[pipe].join()
                    check_end(workers[pipe].exitcode)
                    continue
                if isinstance(message, Exception):
                    raise message
                if message:
                    progress(*message)
    finally:
        for worker in list(workers.values()):
            if worker.pid:
                worker.kill()  # a checkpoint is whole at any moment
                worker.join()


def check_end(exitcode):
    """WorkerError unless a worker has ended as it should."""
    if exitcode > 0:
        raise WorkerError("a worker process could not start, or failed: the reason is above")
    if exitcode < 0:
        reason = "was killed from outside (out of memory?)"
        raise WorkerError(f"a worker process {reason}: {AGAIN}, perhaps with fewer --jobs")


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


def _work(pipe, runs, config, shared):
    """Train these runs, then others from the pipe; it takes what is done, or the error."""

    def end_with_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    for key, arrays in shared.items():
        train.LOADED[key] = [
            numpy.frombuffer(memory, "float32").reshape(shape) for memory, shape in arrays
        ]
    with contextlib.suppress(EOFError, ConnectionError):  # of a parent that has ended
        while runs:
            try:
                train.train(runs, config, lambda *done: pipe.send(done))
            except (StoreError, minigrad.BackendError, OSError, MemoryError) as error:
                pipe.send(error)
                return
            pipe.send(None)
            runs = pipe.recv()


# A Dask cluster.


def on_cluster(stacks, config, address, progress):
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
        arguments = config, probe.name, code()
        try:
            futures = {
                client.submit(_train_on_cluster, runs, *arguments, pure=False): runs
                for runs in stacks
            }
            for future in distributed.as_completed(futures, loop=client.loop):
                future.result()
                for run in futures[future]:
                    progress(run, 1)
        except distributed.KilledWorker:
            reason = "workers died again and again (out of memory?): see their logs"
            raise WorkerError(f"{reason}, then {AGAIN}") from None
        except (CancelledError, distributed.comm.CommClosedError):
            reason = f"the scheduler at {address} has gone: start it again"
            raise WorkerError(f"{reason}, then {AGAIN}") from None


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
