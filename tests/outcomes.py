"""Made-up outcomes: histories of three measured epochs of a network whose full rank is 100, and stores."""

import numpy

from experiments import schema
from experiments.claims.outcomes import Outcome
from experiments.runs import Run
from experiments.store import result_path, write

ORIGIN = dict.fromkeys(schema.PROVENANCE, "made up")


def seed(rank=90.0, accuracy=100.0, **given):
    """The history of a run that ends at this rank and train accuracy; NaN for one that diverged."""
    made = {
        "epoch": numpy.arange(3.0),
        "train_loss": numpy.array([2.3, 0.05, 0.005]),
        "train_accuracy": numpy.array([10.0, 50.0, accuracy]),
        "rank": numpy.array([100.0, 95.0, rank]),
        "rank_from_start": numpy.array([100.0, 95.0, rank]),
        "rank_guarded": numpy.array([100.0, 95.0, rank]),
        "full_rank": 100.0,
        "largest_full_rank": 100,
        "norm": numpy.ones(3),
        "distance": numpy.ones(3),
        "layer_rank": numpy.full(11, 90.0),
        "layer_norm_kept": numpy.ones(11),
        "tau_B": numpy.ones(11),
        "diverged": bool(numpy.isnan(accuracy)),
    }
    return made | given


def outcome(seeds, label="", learned_at=50, **fields):
    """The Outcome of some seeds at a run's `fields`, in the paper and in the store."""
    return Outcome(label, Run(**fields), Run(**fields), seeds, learned_at)


def ending(ranks, accuracy=100.0, **fields):
    """The Outcome whose seeds end at these ranks."""
    return outcome([seed(rank, accuracy) for rank in ranks], **fields)


def store(runs, folder, ranks=(90, 70, 30, 70, 90, 10), small=0.0, accuracy=1.0, origin=ORIGIN):
    """Finished runs whose matrices end at these ranks, in percent: along the hidden ones, and the output's.

    Their other singular values, at first 1 as all, end at `small`.
    """
    for run in runs:
        epochs = numpy.array([epoch for epoch in range(run.epochs + 1) if run.measured(epoch)], float)
        arrays = {name: numpy.ones(len(epochs)) for name in schema.SCALARS}
        arrays |= {"epoch": epochs, "train_accuracy": numpy.where(epochs == 0, 0.1, accuracy)}
        spectra = {name: shape[0] for name, (shape, _) in schema.of_history(run).items() if shape}
        *hidden, output = ranks
        places = numpy.linspace(0, len(hidden) - 1, len(spectra) - 1)
        percent = [*numpy.interp(places, numpy.arange(len(hidden)), hidden), output]
        for (name, r), share in zip(spectra.items(), percent):
            arrays[name] = numpy.ones((len(epochs), r))
            arrays[name][-1, round(share * r / 100) :] = small
        meta = {"run": run.as_dict(), "status": "finished", "epoch": run.epochs, "provenance": [origin]}
        write(result_path(folder, run), meta, arrays)
