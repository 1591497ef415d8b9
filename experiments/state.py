"""State: a run under way; how it begins, what is measured of it, and how it goes into the store."""

from dataclasses import dataclass

import numpy

from minigrad.backend import load_backend, to_host
from minigrad.measures import distance, singular_values
from minigrad.network import init_params
from minigrad.train import evaluate

from . import schema, store
from .provenance import origin, other_bits


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
        self.history = schema.rounded(self.history)

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
