"""complete() and train(): what is missing is trained, a stack at a time in each process, to the same bits."""

import functools
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from minigrad.backend import load_backend
from minigrad.fetch import find_or_fetch
from minigrad.optim import step_decay
from minigrad.train import batches, train_epoch

from . import cluster, store
from .parallel import cores, in_parallel, local
from .runs import Run
from .samples import adopt, load, shared
from .stacks import Stack, stacked
from .state import State


@dataclass(frozen=True)
class Where:
    """How and where runs are computed: never part of a run's key."""

    results: str = "results"
    data: str | None = None
    backend: str = "numpy"
    keep_weights: bool = False
    save_every: float = 20.0  # seconds between two checkpoints of a run
    stack: int | None = None  # how many runs are trained side by side at most; None: as stacks.py chooses
    cluster: str | None = None  # the address of a Dask scheduler, or "local"; None: processes of this machine


def complete(runs, where=Where(), jobs=None):
    """Train the runs that the store lacks in `jobs` processes (default: one per core, one for a GPU).

    Returns {run: (meta, arrays)}. Interrupted at any moment, the same call continues.
    """
    store.sweep(where.results)
    runs = dict.fromkeys(runs)  # a run that two settings share is trained once
    starts = dict.fromkeys(run.start() for run in _missing(runs, where))
    starts.pop(None, None)
    _train_missing(starts, replace(where, keep_weights=True), jobs)
    _train_missing(runs, where, jobs)
    return {run: store.read_result(where.results, run) for run in runs}


def _missing(runs, where):
    """Those that the store lacks."""
    return [run for run in runs if not store.finished(where.results, run, where.keep_weights)]


def _train_missing(runs, where, jobs):
    """Train those that the store lacks, and show how far it is."""
    missing = _missing(runs, where)
    jobs = jobs or (1 if where.backend == "cupy" else cores())
    if missing:
        # The longest first, so that no core waits long at the end.
        todo = sorted(stacked(missing, where.backend, where.stack, jobs), key=_together, reverse=True)
        jobs = min(jobs, len(todo))
        bar = tqdm(
            # The parts, added in another order, may come to more.
            total=_together(missing) * (1 + 1e-9),
            desc=f"training {len(missing)} of {len(runs)} runs",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left",
            mininterval=0.5 if sys.stderr.isatty() else 30,
            delay=0.5,
        )
        with bar:
            if jobs == 1 and where.cluster is None:
                for stack in todo:
                    train(stack, where, bar.update)
            else:
                work, pool = _workers(todo, where, jobs)
                in_parallel(work, todo, pool, bar)


def _together(runs):
    """The sum of their costs."""
    return sum(map(Run.cost, runs))


def _workers(stacks, where, jobs):
    """(work, pool): how a stack is trained by a process of this machine or of a cluster, and by which."""
    if where.cluster is None:
        asked = dict.fromkeys(data_of(runs[0], where) for runs in stacks)
        prepare = functools.partial(adopt, shared(asked))
        return functools.partial(_train_in_worker, where=where, folders={}), local(jobs, prepare)
    # There, relative names and $MINIGRAD_DATA would mean other places.
    where = replace(where, results=str(Path(where.results).absolute()))
    files, folders = [], {}
    for name in sorted({run.dataset for runs in stacks for run in runs}):
        found = [path.absolute() for path in find_or_fetch(name, where.data).values()]
        files += found
        if found:
            folders[name] = str(found[0].parent)
    work = functools.partial(_train_in_worker, where=where, folders=folders)
    return work, cluster.workers(where.cluster, jobs, where.results, tuple(files), where.backend)


def _train_in_worker(runs, report, where, folders):
    """`folders` has those of data sets that lie where another process would not look."""
    train(runs, replace(where, data=folders.get(runs[0].dataset, where.data)), report)


def train(runs, where, progress=lambda seconds: None):
    """Train runs side by side to their ends, each from its checkpoint if there is one, and store them.

    They differ in eta, lambda, momentum and seed alone. `progress` gets what of their costs is done. A run
    whose loss or weights stop being finite ends there, with the status "diverged", and keeps its numbers.
    """
    with store.locks_of(where.results, runs), threadpool_limits(1):
        states = begun(runs, where, progress)
        if not states:
            return
        data = on_device(runs[0], where)
        x, y, _, _ = data
        for state in states:
            if state.epoch == 0:
                state.measure(data)
        stack = Stack(states)
        saved = time.monotonic()
        while states := still_running(states, where, progress):
            epoch = 1 + min(state.epoch for state in states)
            # After an interruption those that are ahead wait for the others.
            members = [state for state in states if state.epoch == epoch - 1]
            if stack.states != members:
                stack = Stack(members)
            is_measured = runs[0].measured(epoch)
            before = [state.matrices() if is_measured else None for state in members]
            rows = stack.rows(rows_of(run, len(x), epoch) for run in stack.runs)
            eta = stack.numbers(
                step_decay(run.eta, epoch - 1, run.milestones, run.factor) for run in stack.runs
            )
            train_epoch(
                stack.graph, stack.params, stack.velocity, x, y, rows, runs[0].loss,
                eta, stack.lam, stack.momentum,
            )
            for state, its_matrices in zip(members, before):
                state.epoch = epoch
                if is_measured:
                    state.measure(data, its_matrices)
                progress(state.run.cost() / state.run.epochs)
            if time.monotonic() - saved >= where.save_every:
                for state in members:
                    state.save(where)
                saved = time.monotonic()


def begun(runs, where, progress):
    """The states of the runs that are to be trained: another process may have finished some meanwhile."""
    states = []
    for run in runs:
        if store.finished(where.results, run, where.keep_weights):
            progress(run.cost())
        else:
            state = State.begin(run, where, is_stacked=len(runs) > 1)
            progress(run.cost() * state.epoch / run.epochs)
            states.append(state)
    return states


def still_running(states, where, progress):
    """Those of the states that go on; the others are stored."""
    running = []
    for state in states:
        if not state.is_finite():
            progress(state.run.cost() * (1 - state.epoch / state.run.epochs))
        if state.epoch == state.run.epochs or not state.is_finite():
            state.finish(where)
        else:
            running.append(state)
    return running


def rows_of(run, m, epoch):
    """The batches (S, B) of an epoch (from 1): the next S of one pass through the m samples after another.

    Those of the tail begin with a new pass.
    """
    S, B = run.sizes(m, epoch)
    before = run.begun() if epoch > run.begun() else 0  # epochs, each of which may have been a pass
    a_pass, first = m // B, (epoch - before - 1) * S
    passes = range(first // a_pass, (first + S - 1) // a_pass + 1)
    rows = numpy.concatenate([batches(m, B, run.seed, 1 + before + number) for number in passes])
    start = first - passes[0] * a_pass
    return rows[start : start + S]


def data_of(run, where):
    """The arguments of load."""
    return run.dataset, where.data, run.m, run.m_test


def on_device(run, where):
    """The run's x, y, x_test, y_test as arrays of its backend."""
    data = load(*data_of(run, where))
    return tuple(map(load_backend(where.backend).asarray, data))
