"""What is read off the finished runs of Figure 2 at their end: ranks at every cutoff, E, the train loss."""

from typing import NamedTuple

import numpy

from minigrad.measures import effective_rank_of_spectrum, stable_rank_of_spectrum

from ..results import VANISHED, View, csv_rows, history, spectra_of
from ..runs import Run
from ..store import finished, read_result

FIGURES = {"fig2": "memo", "fig2-true": "true", "fig2-standard": "standard"}  # by the reading of batch norm
TOLERANCES = (1e-5, 1e-4, 1e-3, 1e-2)
MEMO = View()  # singular values above 1e-4 ||W||_F
# Singular values below 1e-7 ||W||_F are the rounding of a Gram matrix.
CUTOFFS = tuple(float(f"{digits}e{power}") for power in range(-7, 0) for digits in (1, 1.8, 3.2, 5.6))
RELATIVE = {tol: View(tol=tol) for tol in CUTOFFS}
FROM_START = {tol: View(tol=tol, norm="start") for tol in TOLERANCES}


class Network(NamedTuple):
    """One run after its last epoch; if it diverged, all its numbers but E are NaN."""

    run: Run
    epoch: int
    diverged: bool
    learned: bool
    vanished: bool  # a W has decayed to zero
    full_rank: float  # which no average rank exceeds
    ranks: dict  # by View, the average over E_T
    numbers: dict  # "stable_rank" and "effective_rank", averages too, "train_loss", and "budget", which is E

    def rank(self, tol):
        """The average number of singular values above tol ||W||_F."""
        return self.ranks[RELATIVE[tol]]

    def rank_from_start(self, tol):
        """The average number of singular values above tol ||W_0||_F."""
        return self.ranks[FROM_START[tol]]

    def records(self, preset):
        """A row of the CSV for every finite number."""
        for view, rank in self.ranks.items():
            yield from self._rows(preset, view, {"rank": rank})
        yield from self._rows(preset, MEMO, self.numbers)

    def _rows(self, preset, view, numbers):
        made = {"epoch": [self.epoch], "diverged": self.diverged, "learned": self.learned}
        made |= {field: [value] for field, value in numbers.items()}
        return csv_rows(preset, self.run, made, view, numbers)


def measured(run, meta, arrays):
    """The Network that a stored run ended as."""
    made = history(meta, arrays, MEMO)
    ends = [s[[0, -1]] for s in spectra_of(arrays)]
    ranks = {}
    for view in (*RELATIVE.values(), *FROM_START.values()):
        ranks[view] = numpy.mean([view.rank(s)[-1] for s in ends])
    numbers = {
        "stable_rank": numpy.mean([stable_rank_of_spectrum(s[-1]) for s in ends]),
        "effective_rank": numpy.mean([effective_rank_of_spectrum(s[-1]) for s in ends]),
        "train_loss": made["train_loss"][-1],
    }
    if made["diverged"]:  # its finite layers say nothing of the network
        ranks, numbers = dict.fromkeys(ranks, numpy.nan), dict.fromkeys(numbers, numpy.nan)
    return Network(
        run=run,
        epoch=meta["epoch"],
        diverged=made["diverged"],
        learned=made["learned"],
        vanished=bool((made["layer_norm_kept"] < VANISHED).any()),
        full_rank=made["full_rank"],
        ranks=ranks,
        numbers=numbers | {"budget": run.budget()},
    )


def read(plans, results):
    """{name: [[Network of every seed] of every setting]} of the runs of {name: Plan} that are finished."""
    found = {}
    for name, plan in plans.items():
        settings = []
        for _, lines in plan.columns:
            for line in lines:
                done = [run for run in line.runs if finished(results, run)]
                settings.append([measured(run, *read_result(results, run)) for run in done])
        if any(settings):
            found[name] = [seeds for seeds in settings if seeds]
    return found
