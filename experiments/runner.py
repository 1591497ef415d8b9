"""complete() and train(): what is missing is trained, a stack at a time in each process, to the same bits."""

import functools
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from minigrad.backend import load_backend, to_host
from minigrad.fetch import find_or_fetch
from minigrad.measures import distance, singular_values
from minigrad.network import init_params
from minigrad.optim import step_decay
from minigrad.train import batches, evaluate, train_epoch

from . import cluster, schema, store
from .parallel import cores, in_parallel, local
from .provenance import origin, other_bits
from .runs import Run
from .samples import adopt, load, shared
from .stacks import Stack, stacked


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


@dataclass(eq=False)
class State:
    """What a run has come to: its parameters, what was measured, and what computed it."""

    run: object
    xp: object
    graph: object
    params: dict
    velocity: dict
    history: dict  # name -> one row per measured epoch
    epoch: int
    provenance: list

    @classmethod
    def begin(cls, run, where, is_stacked=False):
        """From the run's checkpoint, or from the stored run at whose end it can start, or fresh.

        All three come to the same bits.
        """
        xp, graph, now = load_backend(where.backend), run.graph(), origin(where.backend, is_stacked)
        # On NumPy columns contiguous: at small B the products of a step are then up to three times faster.
        order = "F" if where.backend == "numpy" else "C"
        fresh = init_params(graph, numpy.random.default_rng(run.seed), init=run.init)
        params = {key: xp.asarray(W, order=order) for key, W in fresh.items()}
        velocity = {key: xp.zeros_like(W) for key, W in params.items()}
        path = store.partial_path(where.results, run)
        if path.exists():
            meta, arrays = store.read_checkpoint(where.results, run)
            if reason := other_bits(meta["provenance"][-1], now):
                raise store.StoreError(f"{path} was {reason}, or delete it to start anew")
            velocity = {key: xp.asarray(arrays.pop(schema.array_name("velocity", key))) for key in params}
        elif stored := _start(run, where, now):
            meta, arrays = stored
        else:
            history = {name: numpy.empty((0, *shape)) for name, (shape, _) in schema.of_history(run).items()}
            return cls(run, xp, graph, params, velocity, history, 0, [now])
        params = {key: xp.asarray(arrays.pop(schema.array_name("W", key))) for key in params}
        provenance = meta["provenance"] + ([now] if now != meta["provenance"][-1] else [])
        return cls(run, xp, graph, params, velocity, arrays, meta["epoch"], provenance)

    def matrices(self):
        """A copy of every trainable W."""
        return {edge: self.params[edge].copy() for edge in self.graph.E_T}

    def measure(self, data, before=None):
        """Append one row to every array of the history; `before` are the matrices of an epoch ago.

        The one place, once per measured epoch, that waits for a device.
        """
        x, y, x_test, y_test = data
        train_loss, train_accuracy, stats = evaluate(self.graph, self.params, x, y, self.run.loss)
        test_loss, test_accuracy, _ = evaluate(self.graph, self.params, x_test, y_test, self.run.loss, stats)
        edges = self.graph.E_T
        moved = numpy.array(numpy.nan) if before is None else to_host(distance(self.params, before, edges))
        values = (self.epoch, moved, *map(to_host, (train_loss, train_accuracy, test_loss, test_accuracy)))
        for name, value in zip(schema.SCALARS, values):
            self.history[name] = numpy.append(self.history[name], float(value))
        for edge in edges:
            name = schema.array_name("spectrum", edge)
            s = to_host(singular_values(self.params[edge]))
            self.history[name] = numpy.vstack([self.history[name], s])

    def is_finite(self):
        """Whether the last measured train loss and singular values are finite."""
        return schema.is_finite(self.history)

    def save(self, where):
        """Write the checkpoint."""
        arrays = self.history | self._host("W", self.params) | self._host("velocity", self.velocity)
        store.write(store.partial_path(where.results, self.run), self._meta("unfinished"), arrays)

    def finish(self, where):
        """Write the result, and remove the checkpoint."""
        status = "finished" if self.is_finite() else "diverged"
        weights = self._host("W", self.params) if where.keep_weights else {}
        store.write(store.result_path(where.results, self.run), self._meta(status), self.history | weights)
        store.partial_path(where.results, self.run).unlink(missing_ok=True)

    def _host(self, kind, arrays):
        return {schema.array_name(kind, key): to_host(array) for key, array in arrays.items()}

    def _meta(self, status):
        return {
            "run": self.run.as_dict(),
            "status": status,
            "epoch": self.epoch,
            "provenance": self.provenance,
        }


def _start(run, where, now):
    """(meta, arrays) of the stored run at whose end this one can start, to the same bits, or None."""
    start = run.start()
    if start is None or not store.finished(where.results, start, with_weights=True):
        return None
    meta, arrays = store.read_result(where.results, start)
    return None if other_bits(meta["provenance"][-1], now) else (meta, arrays)


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
