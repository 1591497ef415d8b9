"""The whole experiment as one loop: train runs side by side, measure, checkpoint, resume."""

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy
from threadpoolctl import threadpool_limits

import minigrad as mg
from minigrad import fast
from minigrad.backend import namespace, to_host
from minigrad.train import why_reference

from . import store
from .provenance import BITS_DEPEND_ON, provenance
from .runs import Run, changed_rules

MEASURED = ("epoch", "distance", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
SAVE_EVERY = 20.0  # seconds between two checkpoints
NAME = "{} {}-{}"  # of an array in a file: "spectrum", "W" or "velocity", and its key in params
LOADED = {}  # the arrays that load has returned, or that processes share


@dataclass(frozen=True)
class Config:
    """How and where runs are computed: never part of a run's key."""

    results: str | Path = "results"
    published: str | Path | None = None
    data: str | Path | None = None
    backend: str = "numpy"
    engine: str | None = None  # "fast", "reference"; None: fast where it can be had
    keep_weights: bool = False
    stack: int | None = None  # runs side by side at most; None: 1, on a GPU all that are alike

    def path(self, run):
        """Where the finished run lies, with its weights if they are to be kept; else None."""
        for folder in filter(None, (self.results, self.published)):
            path = store.result_path(folder, run)
            if path.exists() and (not self.keep_weights or "W 2-1" in store.read(path, run)[1]):
                return path
        return None

    def read(self, run):
        """(meta, arrays) of the finished run, or None; StoreError for a damaged file."""
        path = self.path(run)
        return path and store.read(path, run)

    def missing(self, runs):
        """Those of the runs, each once, that are yet to be trained."""
        return [run for run in dict.fromkeys(runs) if self.path(run) is None]


def train(runs, config, progress=lambda run, fraction: None):
    """Train runs that differ in eta, lambda, momentum and seed alone, side by side, and store them.

    Each goes on from its checkpoint if there is one. A run ends before its last epoch where its
    loss or weights stop being finite (status "diverged") or where it provably can't learn any more
    ("collapsed"). `progress` is called with a run and how much of its work is done, from 0 to 1.
    """
    with store.locked(config.results, runs), threadpool_limits(1):
        xp = mg.load_backend(config.backend)
        data = [xp.asarray(array) for array in load(runs[0], config)]
        # Another process may have trained some of them meanwhile.
        states = [State.begin(run, config) for run in config.missing(runs)]
        for state in states:
            if state.epoch == 0:
                state.measure(data)
        saved = time.monotonic()
        while states := [state for state in states if not state.finish(config)]:
            for state in states:
                progress(state.run, state.epoch / state.run.epochs)
            # After an interruption runs can be at different epochs: the last ones catch up.
            epoch = min(state.epoch for state in states)
            train_one_epoch([s for s in states if s.epoch == epoch], data, config.engine)
            if time.monotonic() - saved >= SAVE_EVERY:
                for state in states:
                    state.save(config)
                saved = time.monotonic()
        for run in runs:
            progress(run, 1)


def train_one_epoch(states, data, engine):
    """Train runs that are at the same epoch for one more, and measure it where that is due.

    Their arrays are joined along a first axis, so that a step trains all of them.
    """
    x, y, _, _ = data
    xp = namespace(x)
    epoch = states[0].epoch + 1
    runs = [state.run for state in states]
    graph = runs[0].graph()
    # In C order, which copy() makes: the last bits of distances depend on it.
    before = [{key: W.copy() for key, W in state.params.items()} for state in states]
    params = joined([state.params for state in states])
    velocity = joined([state.velocity for state in states])
    rows = xp.asarray(numpy.stack([rows_of(run, len(x), epoch) for run in runs], axis=1))
    etas = [mg.step_decay(run.eta, epoch - 1, run.milestones, run.factor) for run in runs]
    settings = [etas, [run.lam for run in runs], [run.momentum for run in runs]]
    scalars = xp.asarray(numpy.array(settings, "float32").reshape(3, -1, 1, 1))
    mg.train_epoch(graph, params, velocity, x, y, rows, runs[0].loss, *scalars, engine)
    for state, matrices in zip(states, before):
        state.epoch = epoch
        if state.run.measured(epoch):
            state.measure(data, matrices)


def joined(dicts):
    """{key: array (R, ...)} of R dicts with the same keys, whose arrays become views into it."""
    together = {}
    for key, W in dicts[0].items():
        together[key] = namespace(W).stack([arrays[key] for arrays in dicts])  # keeps memory order
        for index, arrays in enumerate(dicts):
            arrays[key] = together[key][index]
    return together


def rows_of(run, m, epoch):
    """Batches (S, B) of an epoch (from 1): the next S of one pass through m after another."""
    S, a_pass = m // (run.steps_of_B or run.B), m // run.B
    start = (epoch - 1) * S
    first, last = start // a_pass, (start + S - 1) // a_pass
    passes = [mg.batches(m, run.B, run.seed, 1 + number) for number in range(first, last + 1)]
    return numpy.concatenate(passes)[start - first * a_pass :][:S]


@dataclass(eq=False)
class State:
    """A run under way."""

    run: Run
    params: dict
    velocity: dict
    history: dict  # name -> its rows, one per measured epoch
    epoch: int
    provenance: list

    @classmethod
    def begin(cls, run, config):
        """The run at its checkpoint or initialization; StoreError if it would round differently."""
        xp, graph = mg.load_backend(config.backend), run.graph()
        engine = "reference" if why_reference(config.engine, graph, xp) else fast.version()
        now = provenance(config.backend, engine)
        path = store.checkpoint_path(config.results, run)
        if not path.exists():
            # On NumPy, products at small B are up to three times faster if columns are contiguous.
            order = "F" if xp is numpy else "C"
            fresh = mg.init_params(graph, numpy.random.default_rng(run.seed), init=run.init)
            params = {key: xp.asarray(W, order=order) for key, W in fresh.items()}
            velocity = {key: xp.zeros_like(W) for key, W in params.items()}
            return cls(run, params, velocity, {}, 0, [now])
        meta, arrays = store.read(path, run)
        *_, begun = meta["provenance"]
        for part in BITS_DEPEND_ON:
            if begun.get(part) != now[part]:
                raise store.StoreError(
                    f"{path} was begun with {part} {begun.get(part)!r}, {now[part]!r} would round "
                    f"differently: return to that machine, its options and versions (commit "
                    f"{begun['commit']}), or delete the file to begin anew"
                )
        params, velocity = (
            {key: xp.asarray(arrays.pop(NAME.format(kind, *key))) for key in graph.shapes()}
            for kind in ("W", "velocity")
        )
        history = {name: list(rows) for name, rows in arrays.items()}
        origins = meta["provenance"] + ([now] if now != begun else [])
        return cls(run, params, velocity, history, meta["epoch"], origins)

    @numpy.errstate(over="ignore")  # spectra of a run that diverges leave the range of float32
    def measure(self, data, before=None):
        """Add a row to the history; `before` are the matrices of an epoch ago.

        This waits for a device, as has_collapsed does; a step never does.
        """
        x, y, x_test, y_test = data
        params, loss, graph = self.params, self.run.loss, self.run.graph()
        train_loss, train_accuracy, stats = mg.evaluate(graph, params, x, y, loss)
        test_loss, test_accuracy, _ = mg.evaluate(graph, params, x_test, y_test, loss, stats)
        moved = numpy.nan if before is None else mg.distance(params, before, graph.E_T)
        values = self.epoch, moved, train_loss, train_accuracy, test_loss, test_accuracy
        row = {name: to_host(value).astype("float64") for name, value in zip(MEASURED, values)}
        for key, W in params.items():
            if key in graph.E_T:
                s = to_host(mg.singular_values(W)).astype("float32")
                row[NAME.format("spectrum", *key)] = s
            else:
                row["{} {}".format(*key)] = to_host(W)[0].copy()
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)

    def status(self):
        """Of the last measurement: "diverged", "collapsed", "finished" or "unfinished"."""
        for name, rows in self.history.items():
            if name.startswith(("train_loss", "spectrum")) and not numpy.isfinite(rows[-1]).all():
                return "diverged"
        if self.epoch == self.run.epochs:
            return "finished"
        if self.run.measured(self.epoch) and has_collapsed(self):
            return "collapsed"
        return "unfinished"

    def save(self, config):
        """Write the checkpoint."""
        path = store.checkpoint_path(config.results, self.run)
        self._write(path, "unfinished", W=self.params, velocity=self.velocity)

    def finish(self, config):
        """Whether the run has ended; if so, its result replaces its checkpoint."""
        status = self.status()
        if status == "unfinished":
            return False
        kept = {"W": self.params} if config.keep_weights else {}
        self._write(store.result_path(config.results, self.run), status, **kept)
        store.checkpoint_path(config.results, self.run).unlink(missing_ok=True)
        return True

    def _write(self, path, status, **kept):
        arrays = {name: numpy.stack(rows) for name, rows in self.history.items()}
        for kind, parts in kept.items():
            arrays |= {NAME.format(kind, *key): to_host(part) for key, part in parts.items()}
        meta = {"run": asdict(self.run), "status": status, "epoch": self.epoch}
        meta |= {"rules": changed_rules(), "provenance": self.provenance}
        store.write(path, meta, arrays)


def has_collapsed(state):
    """Whether f provably can never again depend on x in training.

    In a batch of B samples a normalized value is below sqrt(B) in size. A ReLU layer is therefore
    off on every batch if (|gamma| + r_gamma) sqrt(B) + beta + r_beta <= 0, where r is the farthest
    that momentum alone can still carry gamma and beta: they have no gradient there and no decay.
    f is then constant if no path from layer 1 to L avoids such layers.
    """
    run, graph = state.run, state.run.graph()
    eta = mg.step_decay(run.eta, state.epoch, run.milestones, run.factor)
    reach = eta * run.momentum / (1 - run.momentum)
    both = state.params, state.velocity
    depends_on_x = {1}
    for p, layer in enumerate(graph.layers[1:], start=2):
        if layer.batchnorm and layer.activation == "relu":
            gamma, v_gamma = (arrays["gamma", p].astype("float64") for arrays in both)
            beta, v_beta = (arrays["beta", p].astype("float64") for arrays in both)
            largest = (abs(gamma) + reach * abs(v_gamma)) * run.B**0.5
            if (largest + beta + reach * abs(v_beta) <= 0).all():
                continue
        if not depends_on_x.isdisjoint(graph.pred[p]):
            depends_on_x.add(p)
    return graph.L not in depends_on_x


def stacked(runs, config):
    """Yield lists of runs to be trained side by side, at most `config.stack` at a time."""
    groups = {}
    for run in runs:
        alike = replace(run, eta=Run.eta, lam=Run.lam, momentum=Run.momentum, seed=Run.seed)
        groups.setdefault(alike, []).append(run)
    for group in groups.values():
        most = config.stack or (1 if config.backend == "numpy" else len(group))
        count = math.ceil(len(group) / most)
        yield from (group[start::count] for start in range(count))  # of about the same size


def load(run, config):
    """x (m, n), y (m, k), x_test, y_test of a run, on the host."""
    key = run.dataset, config.data, run.m, run.m_test
    if key not in LOADED:
        data = mg.load_dataset(run.dataset, config.data)
        training_set = balanced(data.x_train, data.y_train, run.m, "m")
        test_set = balanced(data.x_test, data.y_test, run.m_test, "m_test")
        LOADED[key] = *training_set, *test_set
    return LOADED[key]


def balanced(x, y, m, field):
    """The first m / k samples of each of k classes, in file order; all for m = 0."""
    if m == 0:
        return x, y
    nth_of_its_class = (y * y.cumsum(axis=0)).sum(axis=1)
    # 0 is the number of a sample of no class, as theory has them.
    rows = numpy.flatnonzero((0 < nth_of_its_class) & (nth_of_its_class <= m // y.shape[1]))
    if len(rows) < m:
        raise mg.DataError(f"{field}={m} is more than the data set has: take less")
    return x[rows], y[rows]
