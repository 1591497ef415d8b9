"""Train what is missing: one process per core, one BLAS thread each; checkpoint and resume to the same bits."""

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass

import numpy
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import minigrad
from minigrad.backend import load_backend, to_host
from minigrad.kernels import COMPILED
from minigrad.measures import distance, singular_values
from minigrad.network import init_params
from minigrad.optim import step_decay
from minigrad.train import batches, evaluate, train_epoch

from . import store
from .runs import SAMPLES

SCALARS = ("epoch", "distance", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class Where:
    """How and where runs are computed: never part of a run's key."""

    results: str = "results"
    data: str | None = None
    backend: str = "numpy"
    keep_weights: bool = False
    save_every: float = 20.0  # seconds between two checkpoints of a run


def complete(runs, where=Where(), jobs=None):
    """Train the runs that the store lacks, `jobs` at a time (default: one per core, one for a GPU); all results, in order.

    Each result is (meta, arrays) as `store.read` gives it. Interrupted at any moment, the same call continues.
    """
    runs = list(runs)
    missing = [run for run in dict.fromkeys(runs) if not finished(run, where)]
    jobs = min(jobs or (1 if where.backend == "cupy" else cores()), len(missing))
    if missing:
        todo = sorted(missing, key=cost, reverse=True)  # the longest first, so that no core waits long at the end
        bar = tqdm(
            total=sum(map(cost, missing)), desc=f"training {len(missing)} of {len(set(runs))} runs",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left",
            mininterval=0.5 if sys.stderr.isatty() else 30, delay=0.5,
        )
        with bar:
            if jobs == 1:
                for run in todo:
                    train(run, where, bar.update)
            else:
                in_parallel(functools.partial(_train_in_worker, where=where), todo, jobs, bar)
    return [store.read(store.result_path(where.results, run)) for run in runs]


def in_parallel(work, items, jobs, bar):
    """[work(item) for item in items], in `jobs` processes; `bar` follows what work reports. StoreError if one is killed."""
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
            if len(multiprocessing.active_children()) < started:  # the pool itself may overlook the last one it started
                raise concurrent.futures.process.BrokenProcessPool
            done, pending = concurrent.futures.wait(pending, 0.2, concurrent.futures.FIRST_COMPLETED)
            while not progress.empty():
                bar.update(progress.get())
            for future in done:
                future.result()
        return [future.result() for future in futures]
    except concurrent.futures.process.BrokenProcessPool:
        raise store.StoreError(
            "a process of this command was killed from outside (out of memory?): run the same command again, "
            "perhaps with a smaller --jobs"
        ) from None
    finally:
        with _interrupts_later():  # a second Ctrl-C must not break this off
            leash.close()  # what still trains ends at once: its checkpoint is whole at any moment
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_later():
    """Hold a Ctrl-C back until the block ends; processes started inside never get one: the parent decides.

    They inherit the mask. It covers this thread alone, and any other of this process may take the signal: hence a handler
    too, or the parent could leave a worker that has not yet been told what to do, which ends in a traceback.
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


def _train_in_worker(run, where):
    train(run, where, report)


def train(run, where, progress=lambda seconds: None):
    """Train one run to its end, from its checkpoint if there is one, and store it; `progress` gets what of cost(run) is done.

    A run whose loss or weights stop being finite ends there with the status "diverged" and keeps its numbers.
    """
    with store.lock(where.results, run), threadpool_limits(1):
        if finished(run, where):  # by another process, while this one waited
            progress(cost(run))
            return
        xp = load_backend(where.backend)
        graph = run.graph()
        data = load(run.dataset, where.data, run.m, run.m_test)
        if run.B > len(data[0]):
            raise minigrad.DataError(f"B={run.B} is more than the {len(data[0])} training samples: set a smaller B")
        x, y, x_test, y_test = map(xp.asarray, data)
        params, velocity, history, epoch, provenance = _resume(run, where, graph, xp)
        progress(cost(run) * epoch / run.epochs)
        if epoch == 0:
            _measure(history, 0, graph, params, None, x, y, x_test, y_test, run.loss)
        saved, status = time.monotonic(), "finished"
        while epoch < run.epochs and _is_finite(history):
            epoch += 1
            before = {edge: params[edge].copy() for edge in graph.E_T} if run.measured(epoch) else None
            eta = step_decay(run.eta, epoch - 1, run.milestones, run.factor)
            rows = xp.asarray(rows_of(run, len(x), epoch))
            train_epoch(graph, params, velocity, x, y, rows, run.loss, eta, run.lam, run.momentum)
            if before is not None:
                _measure(history, epoch, graph, params, before, x, y, x_test, y_test, run.loss)
            progress(cost(run) / run.epochs)
            if time.monotonic() - saved >= where.save_every:
                meta = {"run": run.as_dict(), "status": "unfinished", "epoch": epoch, "provenance": provenance}
                state = {f"W {_name(key)}": to_host(params[key]) for key in params}
                state |= {f"velocity {_name(key)}": to_host(velocity[key]) for key in velocity}
                store.write(store.partial_path(where.results, run), meta, history | state)
                saved = time.monotonic()
        if not _is_finite(history):
            status = "diverged"
            progress(cost(run) * (1 - epoch / run.epochs))
        meta = {"run": run.as_dict(), "status": status, "epoch": epoch, "provenance": provenance}
        weights = {f"W {_name(key)}": to_host(params[key]) for key in params} if where.keep_weights else {}
        store.write(store.result_path(where.results, run), meta, history | weights)
        store.partial_path(where.results, run).unlink(missing_ok=True)


def rows_of(run, m, epoch):
    """The batches (S, B) of an epoch (from 1): the next S of one pass through the m samples after another."""
    a_pass, S = m // run.B, m // (run.steps_of_B or run.B)
    first = (epoch - 1) * S
    passes = range(first // a_pass, (first + S - 1) // a_pass + 1)
    rows = numpy.concatenate([batches(m, run.B, run.seed, 1 + number) for number in passes])
    start = first - passes[0] * a_pass
    return rows[start : start + S]


def _resume(run, where, graph, xp):
    """params, velocity, history, epoch and provenance: from the checkpoint, or fresh."""
    now = store.provenance(where.backend)
    # Columns contiguous, which the products of a step like best at small B: up to three times faster than rows.
    fresh = init_params(graph, numpy.random.default_rng(run.seed), xp=xp, init=run.init)
    params = {key: xp.asarray(W, order="F") for key, W in fresh.items()}
    path = store.partial_path(where.results, run)
    if not path.exists():
        history = {name: numpy.empty(0) for name in SCALARS}
        history |= {f"spectrum {_name(e)}": numpy.empty((0, min(params[e].shape))) for e in graph.E_T}
        return params, {key: xp.zeros_like(W) for key, W in params.items()}, history, 0, [now]
    meta, arrays = store.read(path)
    begun = meta["provenance"][-1]
    if begun["backend"].split()[0] != xp.__name__:
        raise store.StoreError(
            f"{path} was begun with {begun['backend']}, and another backend would give other bits: "
            f"continue with --backend {begun['backend'].split()[0]}, or delete it to start anew"
        )
    if begun["kernels"].split()[0] != now["kernels"].split()[0]:
        raise store.StoreError(
            f"{path} was begun with kernels of {begun['kernels']}, and those of {now['kernels']} would give other bits: "
            "install or remove Numba to continue, or delete it to start anew"
        )
    params, velocity = (
        {key: xp.asarray(arrays.pop(f"{kind} {_name(key)}")) for key in params} for kind in ("W", "velocity")
    )
    return params, velocity, arrays, meta["epoch"], meta["provenance"] + [now] * (now != begun)


def _measure(history, epoch, graph, params, before, x, y, x_test, y_test, loss):
    """Append one row to every array of `history`. The one place, once per measured epoch, that waits for a device."""
    train_loss, train_accuracy, stats = evaluate(graph, params, x, y, loss)
    test_loss, test_accuracy, _ = evaluate(graph, params, x_test, y_test, loss, stats)
    moved = numpy.array(numpy.nan) if before is None else to_host(distance(params, before, graph.E_T))
    values = (epoch, moved, *map(to_host, (train_loss, train_accuracy, test_loss, test_accuracy)))
    for name, value in zip(SCALARS, values):
        history[name] = numpy.append(history[name], float(value))
    for edge in graph.E_T:
        name = f"spectrum {_name(edge)}"
        history[name] = numpy.vstack([history[name], to_host(singular_values(params[edge]))])


def _is_finite(history):
    last = [values[-1:] for name, values in history.items() if name == "train_loss" or name.startswith("spectrum")]
    return all(numpy.isfinite(values).all() for values in last)


def finished(run, where):
    """Whether the store has the run, with its weights if `where` asks for them."""
    path = store.result_path(where.results, run)
    return path.exists() and (not where.keep_weights or any(name.startswith("W ") for name in store.read(path)[1]))


def _name(key):
    return f"{key[0]}-{key[1]}"


@functools.lru_cache(maxsize=1)
def load(name, root, m, m_test):
    """x (m, n), y (m, k), x_test, y_test: the first m / 10 training samples of every class, in the file's order; 0: all."""
    data = minigrad.load_dataset(name, root)
    rows = [_balanced(data.y_train, m, "m"), _balanced(data.y_test, m_test, "m_test")]
    return data.x_train[rows[0]], data.y_train[rows[0]], data.x_test[rows[1]], data.y_test[rows[1]]


def _balanced(y, m, field):
    if m == 0:
        return slice(None)
    k = y.shape[1]
    rows = [numpy.flatnonzero(y[:, c])[: m // k] for c in range(k)]
    if any(len(r) < m // k for r in rows):
        raise minigrad.DataError(f"{field}={m} asks for {m // k} samples of every class, more than the data set has")
    return numpy.sort(numpy.concatenate(rows))


def cost(run):
    """About how many seconds the run takes on one core: a step has a price by layer, by weight and by multiplication."""
    graph = run.graph()
    weights = sum(graph.width(p) * graph.width(q) for p, q in graph.E_T)
    m, m_test = run.m or SAMPLES[run.dataset], run.m_test or 10_000
    steps = run.epochs * run.steps()
    measured = sum(map(run.measured, range(run.epochs + 1)))
    multiplications = (3 * steps * run.B + measured * (m + m_test)) * weights
    by_layer, by_weight = (5e-6, 4e-10) if COMPILED else (4e-5, 1e-9)
    return steps * (by_layer * graph.L + by_weight * weights) + multiplications / 5e10


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
