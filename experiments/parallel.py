"""Work spread over processes; a Ctrl-C, or one that is killed, ends all of them in one sentence."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from pathlib import Path


class Lost(Exception):
    """A process that worked for this command was killed; the message says what to do."""


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parallel(work, items, jobs, bar):
    """[work(item) for item in items], in `jobs` processes; `bar` follows what work reports.

    Lost if a process is killed.
    """
    _sweep()
    context = multiprocessing.get_context("spawn")  # forking a process that has BLAS threads isn't safe
    progress = context.SimpleQueue()
    alive, leash = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(jobs, context, _start_worker, (alive, progress))
    try:
        with _interrupts_later():
            futures = [pool.submit(work, item) for item in items]
        pending = set(futures)
        started = len(multiprocessing.active_children())
        while pending:
            # The pool itself may overlook the last one that it started.
            if len(multiprocessing.active_children()) < started:
                raise concurrent.futures.process.BrokenProcessPool
            done, pending = concurrent.futures.wait(pending, 0.2, concurrent.futures.FIRST_COMPLETED)
            while not progress.empty():
                bar.update(progress.get())
            for future in done:
                future.result()
        return [future.result() for future in futures]
    except concurrent.futures.process.BrokenProcessPool:
        raise Lost(
            "a process of this command was killed from outside (out of memory?): run the same command again, "
            "perhaps with a smaller --jobs"
        ) from None
    finally:
        with _interrupts_later():  # a second Ctrl-C must not break this off
            leash.close()  # what still trains ends at once: its checkpoint is whole at any moment
            pool.shutdown(cancel_futures=True)


def _sweep():
    """Remove the semaphores that no process has any more: a command that was killed whole leaves its own."""
    left = {}
    for path in Path("/dev/shm").glob("sem.mp-*"):
        with contextlib.suppress(FileNotFoundError):
            about = path.stat()
            if about.st_uid == os.getuid():
                left[str(about.st_ino)] = path
    for maps in Path("/proc").glob("[0-9]*/maps") if left else ():
        with contextlib.suppress(OSError):  # a process that has ended, or another user's
            for line in maps.read_text(encoding="utf-8", errors="replace").splitlines():
                if "/dev/shm/" in line:
                    left.pop(line.split()[4], None)
    for path in left.values():
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _interrupts_later():
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


def _start_worker(alive, progress):
    def follow_parent():
        alive.poll(None)  # returns when the parent closes its end, or dies
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
    _start_worker.progress = progress


def report(amount):
    """From within `work` of in_parallel: that much more is done."""
    _start_worker.progress.put(amount)
