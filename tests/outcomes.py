"""Made-up outcomes: histories of three measured epochs of a network whose full rank is 100."""

import numpy

from experiments.claims.outcomes import Outcome
from experiments.runs import Run


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
