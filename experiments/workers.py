"""Train the missing runs: in processes of this machine, or on the workers of a Dask cluster."""

import asyncio
import hashlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from multiprocessing import connection
from pathlib import Path

import numpy
from tqdm import tqdm

import minigrad

from . import train
from .runs import Run
from .store import StoreError

# Cores that this process may use; macOS tells only how many there are.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
# SHA-256 of the source files of minigrad and experiments, as this process found them.
FOLDERS = Path(minigrad.__file__).parent, Path(__file__).parent
SOURCES = [path.read_bytes() for folder in FOLDERS for path in sorted(folder.rglob("*.py"))]
CODE = hashlib.sha256(b"".join(SOURCES)).hexdigest()
PATIENCE = 10  # seconds for a scheduler to answer
FAILED = "a worker process failed, for the reason above, or was killed (out of memory?)"
AGAIN = "run the same command again, which goes on from the checkpoints"


class WorkerError(Exception):
    """A process or a cluster can't do its work; the message says why and what to do."""


def complete(runs, config, jobs=None, cluster=None):
    """Train the runs that are not stored, in `jobs` processes or on the cluster at this address.

    Returns {run: (meta, arrays)}. `jobs` is by default one per core, one on a GPU.
    """
    if missing := config.missing(runs):
        missing.sort(key=Run.cost, reverse=True)  # else a core may wait for a long run at the end
        stacks = list(train.stacked(missing, config))
        jobs = min(len(stacks), jobs or (1 if config.backend == "cupy" else CORES))
        with Progress(missing, len(set(runs))) as progress:
            if cluster is not None:
                on_cluster(stacks, config, cluster, progress)
            elif jobs > 1:
                in_processes(stacks, config, jobs, progress)
            else:
                for stack in stacks:
                    train.train(stack, config, progress)
    return {run: config.read(run) for run in dict.fromkeys(runs)}


class Progress(tqdm):
    """A bar of the estimated seconds of work, with the number of runs that are left."""

    def __init__(self, missing, total):
        self.seconds_left = {run: run.cost() for run in missing}
        self.of_all = f"of {total} runs left"
        super().__init__(
            desc=f"{len(missing)} {self.of_all}",
            total=sum(self.seconds_left.values()),
            bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left",
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )

    def __call__(self, run, fraction):
        """Show that this fraction of the run's work is done."""
        self.seconds_left[run] = run.cost() * (1 - fraction)
        seconds = self.seconds_left.values()
        self.update(self.total - sum(seconds) - self.n)
        if fraction == 1:
            self.set_description(f"{sum(map(bool, seconds))} {self.of_all}")


def in_processes(stacks, config, jobs, progress):
    """Train the stacks in `jobs` processes, which end with this one; from its main thread."""
    context = multiprocessing.get_context("spawn")  # forking with BLAS threads isn't safe
    data = shared_data(stacks, config)
    waiting, workers = iter(stacks), {}
    # The workers inherit this: a Ctrl-C reaches the command alone.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in range(jobs):
            pipe, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(theirs, config, data), daemon=True)
            worker.start()
            theirs.close()
            workers[pipe] = worker
        signal.signal(signal.SIGINT, handler)
        while workers:
            for pipe in connection.wait(workers):
                try:
                    message = pipe.recv()
                    if message is None:
                        stack = next(waiting, None)
                        pipe.send(stack)
                except (EOFError, OSError):
                    raise WorkerError(f"{FAILED}: {AGAIN}, perhaps with fewer --jobs") from None
                if isinstance(message, Exception):
                    raise message
                if message:
                    progress(*message)
                elif stack is None:
                    workers.pop(pipe).join()
    finally:
        signal.signal(signal.SIGINT, handler)  # if one could not start
        for worker in workers.values():
            worker.kill()  # a checkpoint is whole at any moment
            worker.join()


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


def _work(pipe, config, shared):
    """Train one stack after another from the pipe; send back what is done, or the error."""

    def end_with_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    for key, parts in shared.items():
        arrays = [numpy.frombuffer(memory, "float32").reshape(shape) for memory, shape in parts]
        train.LOADED[key] = arrays
    try:
        pipe.send(None)
        while runs := pipe.recv():
            train.train(runs, config, lambda *done: pipe.send(done))
            pipe.send(None)
    except (EOFError, ConnectionError):  # the command has ended
        return
    except (StoreError, minigrad.BackendError, OSError, MemoryError) as error:
        pipe.send(error)


def on_cluster(stacks, config, address, progress):
    """Train the stacks on a Dask cluster, whose workers need this code and the same folders."""
    try:
        import distributed
    except ImportError:
        raise WorkerError("--cluster needs distributed: pip install '.[cluster]'") from None
    for name in ("distributed", "distributed.client"):  # each has a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors are one sentence of ours
    data = Path(config.data or os.environ.get("MINIGRAD_DATA") or "data").expanduser()
    results = Path(config.results).absolute()
    config = replace(config, results=results, data=data.absolute())
    client = connected(distributed, address)
    results.mkdir(parents=True, exist_ok=True)
    # A worker that sees this randomly named file sees the same folder.
    with client, tempfile.NamedTemporaryFile(dir=results) as probe:
        if not client.nthreads():
            raise WorkerError(f"--cluster {address}: it has no workers, start some")
        same = {"config": config, "probe": probe.name, "expected_code": CODE}
        try:
            futures = client.map(_train_on_cluster, stacks, **same, pure=False)
            for future in distributed.as_completed(futures, loop=client.loop):
                for run in future.result():
                    progress(run, 1)
        except (distributed.KilledWorker, distributed.comm.CommClosedError, CancelledError):
            reason = "its scheduler is gone, or workers died again and again (out of memory?)"
            raise WorkerError(f"--cluster {address}: {reason}: see the logs, {AGAIN}") from None


def connected(distributed, address):
    """A client of the Dask scheduler at this address."""

    async def answer():
        # A Client never gives up on a server that is not Dask's.
        arguments = distributed.Security().get_connection_args("client")
        async with distributed.rpc(address, connection_args=arguments) as server:
            await server.identity()

    try:
        asyncio.run(asyncio.wait_for(answer(), PATIENCE))
        return distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # each way not to be a scheduler raises something else
        reason = str(error) or "no answer"
        raise WorkerError(f"--cluster {address}: no Dask scheduler answers ({reason})") from None


def _train_on_cluster(runs, config, probe, expected_code):
    """Train on a worker of the cluster, if it is fit for that; returns the runs."""
    import distributed

    if CODE != expected_code:
        raise WorkerError("a worker has another minigrad: install the same there, restart it")
    if not Path(probe).exists():
        raise WorkerError(f"a worker doesn't see {config.results}: give --results that all see")
    if distributed.get_worker().state.nthreads > 1:  # they would share BLAS's number of threads
        raise WorkerError("a worker trains several runs at once: start it with --nthreads 1")
    train.train(runs, config)
    return runs
