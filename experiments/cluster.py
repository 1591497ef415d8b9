"""Runs trained by the workers of a Dask cluster, once they are known to be fit for it.

A worker needs this code, one thread, and results and data under the same names. With SLURM, for example,
dask_jobqueue's SLURMCluster(cores=1, memory="4GB") has a scheduler_address, and scale(20) gets 20 workers.
The one file that imports `distributed`, and only where a cluster is asked for.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import queue
import time
from dataclasses import replace
from multiprocessing import resource_tracker

from .meeting import Meeting, code, introduce, objection, token
from .parallel import Pool, interrupts_later, name_semaphores, sweep_semaphores
from .provenance import other_bits

LOCAL = "local"  # for an address: a cluster of this machine, for this command
PATIENCE = 10  # seconds for a scheduler to answer
LONGEST_GAP = 300  # seconds without a worker, which a cluster may need to start others
PAUSE = 0.5  # seconds between two reports of a run
PACKAGES = ("python", "dask", "distributed", "msgpack", "cloudpickle", "tornado", "toolz")


class ClusterError(Exception):
    """The cluster can't do this command's work; the message says why, and what to do."""


class _Unwanted(Exception):
    """Nobody waits for this run any more."""


@contextlib.contextmanager
def workers(address, jobs, results, files, backend):
    """A Pool of the workers of the cluster whose scheduler has this address, or of so many processes here.

    Its items are stacks. ClusterError if somebody there is not fit for them, or if the cluster goes down.
    """
    try:
        import distributed
    except ImportError:
        raise ClusterError(
            "--cluster needs the package distributed: pip install '.[cluster]', or call make with CLUSTER="
        ) from None
    with contextlib.ExitStack() as stack:
        if address == LOCAL:
            address = stack.enter_context(_started(distributed, jobs))
        client = stack.enter_context(_connected(distributed, address))
        path, text = stack.enter_context(token(results))
        meeting = _agreed(client, Meeting(path, text, files, backend, code()))
        executor = client.get_executor(pure=False)
        try:
            yield _pool(client, executor, meeting)
        except distributed.KilledWorker as error:
            raise ClusterError(
                f"every worker that trained the run {error.task.split('-')[1]} died, "
                f"{error.allowed_failures + 1} of them (out of memory?): see their logs, "
                "then run the same command again, which goes on from its checkpoint"
            ) from None
        except (concurrent.futures.CancelledError, distributed.comm.CommClosedError):
            raise ClusterError(
                f"the scheduler at {address} has gone: start the cluster again, then run the same command "
                "again, which goes on from the checkpoints"
            ) from None
        finally:
            with interrupts_later(), contextlib.suppress(OSError):  # the scheduler may be gone
                executor.shutdown(wait=False)  # what waits is never begun; what trains notices, and ends


# The cluster.


@contextlib.contextmanager
def _started(distributed, jobs):
    """The address of a cluster of this machine, which ends with the block."""
    name_semaphores()
    sweep_semaphores()
    resource_tracker.ensure_running()  # now: its start lets Ctrl-C through again, in the thread that needs it
    cluster = None
    try:
        with interrupts_later():  # what the processes started here inherit, also those that replace the dead
            cluster = distributed.LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                host="127.0.0.1",
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},  # no fixed port
                memory_limit=0,  # as for processes of our own
                silence_logs=logging.CRITICAL,  # what goes wrong is said by this command
            )
        yield cluster.scheduler_address
    finally:
        if cluster:
            with interrupts_later():
                cluster.close()


@contextlib.contextmanager
def _connected(distributed, address):
    """A client of the scheduler at this address."""
    try:
        kind = asyncio.run(asyncio.wait_for(_ask_for_its_kind(distributed, address), PATIENCE))
    except Exception as error:  # each way not to be a scheduler raises something else
        reason = "no answer" if isinstance(error, TimeoutError) else error
        raise ClusterError(f"--cluster {address}: there is no Dask scheduler ({reason})") from None
    if kind != "Scheduler":
        raise ClusterError(f"--cluster {address}: this is a Dask {kind.lower()}, not its scheduler")
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # a scheduler that goes is told by this command
    client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    try:
        yield client
    finally:
        with interrupts_later():
            client.close()
        logger.setLevel(level)


async def _ask_for_its_kind(distributed, address):
    """What answers there, by its own word. A client would wait for ever for what is no part of Dask."""
    arguments = distributed.Security().get_connection_args("client")
    async with distributed.rpc(address, connection_args=arguments) as there:
        answer = await there.identity()
    return answer["type"]


# Who is fit to work.


def _agreed(client, meeting):
    """The meeting with the origin that all have; ClusterError for the first worker that is not fit."""
    _check_versions(client.get_versions())
    answers = client.run(introduce, meeting, on_error="return")
    if not answers:
        raise ClusterError("the cluster has no workers: start some, then run the same command again")
    first = None
    for address, answer in answers.items():
        if isinstance(answer, Exception):
            reason, here = f"can't run this project ({answer}): install it there", None
        else:
            reason, here = answer
        if first and not reason and other_bits(first, here):
            reason = f"can't go on with another worker's run, {other_bits(first, here)}"
        if reason:
            raise ClusterError(f"the worker at {address} {reason}")
        first = first or here
    return replace(meeting, origin=first)


def _check_versions(versions):
    """ClusterError where Python or a package that Dask rests on differs; of workers NumPy too."""
    ours = versions["client"]["packages"]
    places = [("scheduler", versions["scheduler"], PACKAGES)]
    for address, its in versions["workers"].items():
        places.append((f"worker at {address}", its, (*PACKAGES, "numpy")))
    for place, its, names in places:
        for name in names:
            there = its["packages"][name]
            if there != ours[name]:
                both = f"{name} {there}, and this command {ours[name]}"
                raise ClusterError(f"the {place} has {both}: install the same")


# The work.


def _pool(client, executor, meeting):
    """The Pool: what is reported arrives as (number of the item, what is done of it)."""
    heard = queue.SimpleQueue()
    done = {}
    seen = time.monotonic()
    looked = seen
    topic = f"minigrad-{meeting.token.name}"
    client.subscribe_topic(topic, lambda event: heard.put(event[1]))

    def submit(work, runs):
        key = f"train-{runs[0].key}-{meeting.token.name}"
        return executor.submit(_work_there, work, runs, topic, meeting, key=key)

    def news():
        nonlocal seen, looked
        now = time.monotonic()
        if now - looked > min(5, LONGEST_GAP):
            looked = now
            if client.nthreads():
                seen = now
            elif now - seen > LONGEST_GAP:
                raise ClusterError(
                    f"the cluster has had no worker for {LONGEST_GAP} s: start some, then run the same "
                    "command again, which goes on from the checkpoints"
                )
        more = 0
        while not heard.empty():
            key, amount = heard.get()
            # Less than before where a worker has died: its successor begins at the checkpoint.
            more += amount - done.get(key, 0)
            done[key] = amount
        return more

    return Pool(submit, news)


def _work_there(work, runs, topic, meeting):
    """work(runs, report) on a worker, who may have come after the meeting."""
    from distributed import get_worker

    worker = get_worker()
    reason = objection(meeting, worker)
    if reason:
        raise ClusterError(f"the worker at {worker.address} {reason}")
    key = worker.get_current_task()
    done = 0
    told = time.monotonic()

    def report(amount):
        nonlocal done, told
        done += amount
        if worker.state.tasks[key].state == "cancelled":  # the command was interrupted, or has died
            raise _Unwanted
        if time.monotonic() - told > PAUSE:
            worker.log_event(topic, (runs[0].key, done))
            told = time.monotonic()

    with contextlib.suppress(_Unwanted):
        work(runs, report)
    worker.log_event(topic, (runs[0].key, done))
