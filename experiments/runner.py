"""complete() and train(): what is missing is trained, a run at a time in each process, to the same bits."""

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
from .samples import load


@dataclass(frozen=True)
class Where:
    """How and where runs are computed: never part of a run's key."""

    results: str = "results"
    data: str | None = None
    backend: str = "numpy"
    keep_weights: bool = False
    save_every: float = 20.0  # seconds between two checkpoints of a run
    cluster: str | None = None  # the address of a Dask scheduler, or "local"; None: processes of this machine


def complete(runs, where=Where(), jobs=None):
    """Train the runs that the store lacks, `jobs` at a time (default: one per core, one for a GPU).

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
    jobs = min(jobs or (1 if where.backend == "cupy" else cores()), len(missing))
    if missing:
        # The longest first, so that no core waits long at the end.
        todo = sorted(missing, key=Run.cost, reverse=True)
        bar = tqdm(
            # The parts, added in another order, may come to more.
            total=sum(map(Run.cost, missing)) * (1 + 1e-9),
            desc=f"training {len(missing)} of {len(runs)} runs",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left",
            mininterval=0.5 if sys.stderr.isatty() else 30,
            delay=0.5,
        )
        with bar:
            if jobs == 1 and where.cluster is None:
                for run in todo:
                    train(run, where, bar.update)
            else:
                work, pool = _workers(todo, where, jobs)
                in_parallel(work, todo, pool, bar)


def _workers(runs, where, jobs):
    """(work, pool): how a run is trained by a process of this machine or of a cluster, and by which."""
    if where.cluster is None:
        return functools.partial(_train_in_worker, where=where, folders={}), local(jobs)
    # There, relative names and $MINIGRAD_DATA would mean other places.
    where = replace(where, results=str(Path(where.results).absolute()))
    files, folders = [], {}
    for name in sorted({run.dataset for run in runs}):
        found = [path.absolute() for path in find_or_fetch(name, where.data).values()]
        files += found
        if found:
            folders[name] = str(found[0].parent)
    work = functools.partial(_train_in_worker, where=where, folders=folders)
    return work, cluster.workers(where.cluster, jobs, where.results, tuple(files), where.backend)


def _train_in_worker(run, report, where, folders):
    """`folders` has those of data sets that lie where another process would not look."""
    train(run, replace(where, data=folders.get(run.dataset, where.data)), report)


def train(run, where, progress=lambda seconds: None):
    """Train one run to its end, from its checkpoint if there is one, and store it.

    `progress` gets what of run.cost() is done. A run whose loss or weights stop being finite ends there, with
    the status "diverged", and keeps its numbers.
    """
    cost = run.cost()
    with store.lock(where.results, run), threadpool_limits(1):
        # Another process may have finished it, while this one waited for the lock.
        if store.finished(where.results, run, where.keep_weights):
            progress(cost)
            return
        data = on_device(run, where)
        x, y, _, _ = data
        state = State.begin(run, where)
        progress(cost * state.epoch / run.epochs)
        if state.epoch == 0:
            state.measure(data)
        saved = time.monotonic()
        while state.epoch < run.epochs and state.is_finite():
            state.epoch += 1
            before = state.matrices() if run.measured(state.epoch) else None
            eta = step_decay(run.eta, state.epoch - 1, run.milestones, run.factor)
            rows = state.xp.asarray(rows_of(run, len(x), state.epoch))
            train_epoch(
                state.graph, state.params, state.velocity, x, y, rows, run.loss, eta, run.lam, run.momentum
            )
            if before is not None:
                state.measure(data, before)
            progress(cost / run.epochs)
            if time.monotonic() - saved >= where.save_every:
                state.save(where)
                saved = time.monotonic()
        if not state.is_finite():
            progress(cost * (1 - state.epoch / run.epochs))
        state.finish(where)


@dataclass
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
    def begin(cls, run, where):
        """From the run's checkpoint, or from the stored run at whose end it can start, or fresh.

        All three come to the same bits.
        """
        xp, graph, now = load_backend(where.backend), run.graph(), origin(where.backend)
        # Columns contiguous: at small B the products of a step are then up to three times faster.
        fresh = init_params(graph, numpy.random.default_rng(run.seed), xp=xp, init=run.init)
        params = {key: xp.asarray(W, order="F") for key, W in fresh.items()}
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


def on_device(run, where):
    """The run's x, y, x_test, y_test as arrays of its backend."""
    data = load(run.dataset, where.data, run.m, run.m_test)
    return tuple(map(load_backend(where.backend).asarray, data))
