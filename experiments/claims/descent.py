"""Claims that set SGD beside gradient descent, whose every step sees all m training samples: B = m."""

import numpy

from ..verdicts import Statement
from .claim import judges, span
from .outcomes import RANKS

LEAST = 5  # percent of the full rank: where SGD loses less, nothing is lost
TENTH = 0.1  # of what SGD loses


def rank_lost(outcome):
    """For every seed, its rank at the start minus that at the end, in percent of the full rank."""
    start = numpy.array([made["rank"][0] for made in outcome.seeds])
    return outcome.share(start - outcome.last("rank"))


@judges(
    Statement(
        "Section 3.2",
        "gradient descent does not lower the rank",
        "rank lost since the start, in percent of the full rank, by networks that have learned: {lost}",
    ),
    "descent", looks=RANKS,
)
def gradient_descent_keeps_the_rank(found):
    """B = m at equal E on 5,000 images, beside B = 16 and 128 on the same, the three with equally many steps;
    networks that have learned. Rank lost: that at the start minus that at the end. A batch size of SGD
    counts if every seed of it has lost at least 5 % of the full rank. Holds if gradient descent loses less
    than a tenth of what SGD loses, from the same start, in every seed of all batch sizes that count; fails if
    in none; else mixed. Not decided where gradient descent has not learned or no batch size counts.
    """
    learned = sorted((one for one in found if one.learned()), key=lambda one: one.paper.B)
    lost = {one.paper.B: rank_lost(one) for one in learned}
    by_descent = [lost.pop(one.paper.B) for one in learned if one.paper.B == one.paper.m]
    kept = []
    for by_sgd in lost.values():
        if by_descent and min(by_sgd) >= LEAST:
            kept += list(by_descent[0] < TENTH * by_sgd)
    texts = [f"{span(values)} at B = {B}" for B, values in lost.items()]
    texts += [f"{span(values)} by gradient descent" for values in by_descent]
    verdict = "not decided"
    if kept:
        verdict = "holds" if all(kept) else "mixed" if any(kept) else "fails"
    return {"lost": ", ".join(texts) or "none has learned", "holds": verdict}
