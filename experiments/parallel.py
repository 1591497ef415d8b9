"""Work spread over processes; a Ctrl-C, or one that is killed, ends all of them in one sentence."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SHARED_MEMORY = Path("/dev/shm")
OUR_PIDS = Path("/proc/self/ns/pid")  # its number tells one namespace of process numbers from another


class Lost(Exception):
    """A process that worked for this command was killed; the message says what to do."""


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool(NamedTuple):
    """Who does the work: submit(work, item) returns the Future of work(item, report).

    news() returns how much more has been reported since the last call. It raises if nobody works any more.
    """

    submit: Callable
    news: Callable


def in_parallel(work, items, pool, bar):
    """[work(item, report) for item in items], done by the Pool that `pool` opens, as local(jobs) does.

    From within the work, report(amount) says that much more is done: `bar` follows.
    """
    with pool as opened:
        with interrupts_later():
            futures = [opened.submit(work, item) for item in items]
        pending = set(futures)
        while pending:
            done, pending = concurrent.futures.wait(pending, 0.2, concurrent.futures.FIRST_COMPLETED)
            more = opened.news()
            if more:
                bar.update(more)
            for future in done:
                future.result()
        return [future.result() for future in futures]


@contextlib.contextmanager
def local(jobs, prepare=None):
    """A Pool of processes of this machine, in each of which prepare() comes first. Lost if one is killed."""
    name_semaphores()
    sweep_semaphores()
    context = multiprocessing.get_context("spawn")  # forking a process that has BLAS threads isn't safe
    progress = context.SimpleQueue()
    alive, leash = context.Pipe(duplex=False)
    given = (alive, progress, prepare)
    executor = concurrent.futures.ProcessPoolExecutor(jobs, context, _start_worker, given)
    started = set()

    def submit(work, item):
        future = executor.submit(_reporting, work, item)
        started.update(multiprocessing.active_children())
        return future

    def news():
        # The pool itself may overlook the last one that it started.
        if started - set(multiprocessing.active_children()):
            raise concurrent.futures.process.BrokenProcessPool
        amount = 0
        while not progress.empty():
            amount += progress.get()
        return amount

    try:
        yield Pool(submit, news)
    except concurrent.futures.process.BrokenProcessPool:
        raise Lost(
            "a process of this command was killed from outside (out of memory?): run the same command again, "
            "perhaps with a smaller --jobs"
        ) from None
    finally:
        with interrupts_later():  # a second Ctrl-C must not break this off
            leash.close()  # what still trains ends at once: its checkpoint is whole at any moment
            executor.shutdown(cancel_futures=True)


def name_semaphores():
    """Let the names in shared memory say whose they are: multiprocessing leaves them behind after kill -9.

    By a setting that multiprocessing keeps to itself, on Linux alone: elsewhere such names must be short.
    """
    if SHARED_MEMORY.is_dir() and OUR_PIDS.exists():
        prefix = f"/minigrad-{OUR_PIDS.stat().st_ino}-{os.getpid()}"
        multiprocessing.process.current_process()._config["semprefix"] = prefix


def sweep_semaphores():
    """Remove those of our commands that are dead, of this user and this namespace of processes."""
    if not OUR_PIDS.exists():
        return
    for path in SHARED_MEMORY.glob(f"sem.minigrad-{OUR_PIDS.stat().st_ino}-*"):
        pid = path.name.split("-")[2]
        with contextlib.suppress(OSError):
            if path.stat().st_uid == os.getuid() and not Path("/proc", pid).exists():
                path.unlink()


@contextlib.contextmanager
def interrupts_later():
    """Hold a Ctrl-C back until the block ends; processes started inside never get one: the parent decides.

    They inherit the mask. It covers this thread alone, and any other of this process may take the signal.
    Hence a handler too: else the parent could leave a worker untold what to do, which ends in a traceback.
    """
    taken = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    handler = signal.signal(signal.SIGINT, lambda *_: taken.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if taken and handler is not signal.SIG_IGN:
        raise KeyboardInterrupt


def _start_worker(alive, progress, prepare):
    def follow_parent():
        alive.poll(None)  # returns when the parent closes its end, or dies
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
    _start_worker.progress = progress
    if prepare:
        prepare()


def _reporting(work, item):
    return work(item, _start_worker.progress.put)
