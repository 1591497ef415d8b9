"""What the store has of a figure: every setting and its seeds, under several ways to look at a stored run."""

from dataclasses import replace
from typing import NamedTuple

import numpy

from ..results import LEARNED, distance_to_rank_B, history, learned
from ..store import finished, read_result

ENOUGH_SEEDS = 3


class Look(NamedTuple):
    """A way to look at stored runs: what it changes of the View, and the accuracy that counts as learned."""

    name: str
    view: dict = {}
    learned_at: float = LEARNED


AS_RULED = Look("as ruled")
LEARNING = (Look("learned from 20 %", learned_at=20), Look("learned from 90 %", learned_at=90))
COUNTS = (
    Look("tol 1e-3", {"tol": 1e-3}),
    Look("tol 1e-2", {"tol": 1e-2}),
    Look("counted above 1e-4 ‖W₀‖", {"tol": 1e-4, "norm": "start"}),
)
RANKS = COUNTS + LEARNING  # for verdicts on the ranks of networks that have learned


class Outcome(NamedTuple):
    """A setting of a figure: its line's label, the paper's run, the one in its place, a history per seed."""

    label: str
    paper: object
    run: object
    seeds: list
    learned_at: float = LEARNED

    def last(self, field):
        """The final value of every seed; NaN for a run that diverged."""
        return numpy.array([numpy.nan if made["diverged"] else made[field][-1] for made in self.seeds])

    def learned(self):
        """Whether every seed has learned."""
        return all(learned(made, self.learned_at) for made in self.seeds)

    def share(self, ranks):
        """Ranks in percent of the full rank."""
        return 100 * numpy.asarray(ranks) / self.seeds[0]["full_rank"]


class Shelf:
    """The finished runs of a store, each read once, whatever looks at it."""

    def __init__(self, results):
        self.results = results
        self._read = {}

    def settings(self, plan, whole):
        """[(line, its finished runs)] of a figure.

        Where the figure must be `whole`, a seed counts once all settings have it; else every finished run
        does, and a setting without one is left out.
        """
        lines = [line for _, lines in plan.columns for line in lines]
        done = [[finished(self.results, run) for run in line.runs] for line in lines]
        if whole:
            everywhere = numpy.all(done, axis=0)
            done = [everywhere] * len(lines)
        found = []
        for line, has in zip(lines, done):
            runs = [run for run, there in zip(line.runs, has) if there]
            if runs:
                found.append((line, runs))
        return found

    def outcomes(self, settings, view, look):
        """[Outcome] of what settings() found, read by `view` with what `look` changes of it."""
        found = []
        for line, runs in settings:
            seeds = [self._history(run, view, replace(view, **look.view)) for run in runs]
            found.append(Outcome(line.label, line.paper, runs[0], seeds, look.learned_at))
        return found

    def _history(self, run, view, wanted):
        """A run's history as `wanted`; its file, which is large, is read for all looks at a time."""
        if (run, wanted) not in self._read:
            meta, arrays = read_result(self.results, run)
            tau = distance_to_rank_B(arrays, run.B)
            for look in (AS_RULED, *COUNTS):
                seen = replace(view, **look.view)
                self._read[run, seen] = history(meta, arrays, seen) | {"tau_B": tau}
        return self._read[run, wanted]
