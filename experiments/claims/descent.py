"""Claims that set SGD beside gradient descent, whose every step sees all m training samples: B = m."""

import numpy

from ..results import SMALLEST
from ..verdicts import Statement
from .claim import Comparison, by_comparison, judges, span
from .outcomes import RANKS

LEAST = 5  # percent of the full rank: where SGD loses less, nothing is lost
TENTH = 0.1  # of what SGD loses
TIMES = 10  # d of gradient descent: less, and W moves no more by SGD


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
    learned = sorted((one for one in found if one.learned()), key=lambda one: one.run.B)
    lost = {one.run.B: rank_lost(one) for one in learned}
    by_descent = [lost.pop(one.run.B) for one in learned if one.run.B == one.run.samples()]
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


def moved(outcome):
    """For every seed, the median d over the second half of the tail, each of whose epochs is measured."""
    half = (outcome.run.tail_epochs + 1) // 2
    return numpy.array([numpy.median(made["distance"][-half:]) for made in outcome.seeds])


def by_start(found):
    """{(lambda, dataset, loss): {"epochs", "steps", "descent": Outcome}}: what goes on from the same W."""
    sorted_out = {}
    for outcome in found:
        paper = outcome.paper
        if paper.lam > 0:
            way = "descent" if paper.tail_gd else "steps" if paper.tail_steps else "epochs"
            sorted_out.setdefault((paper.lam, paper.dataset, paper.loss), {})[way] = outcome
    return sorted_out


@judges(
    Statement(
        "Section 4.2, Fig. 1",
        "with λ > 0 W does not converge though loss and accuracy do",
        "{shown} of {compared} networks that have learned in all three ways show it, {against} the opposite; "
        "d of SGD over d of gradient descent, by whole epochs of SGD and by single steps: {ratios}",
    ),
    "moving",
)
def goes_on_moving(found):
    """From the last W of a network with λ > 0, 100 more epochs with B and 100 with B = m, at the same η; d is
    the median over the last 50 of the 100, as one leap of the loss would decide a mean. A setting that has
    learned shows it if d of SGD is at least 10 times that of gradient descent in every seed. Made stricter on
    2026-11-24, before any of these runs: an epoch with B = m is one step, one with B is hundreds, so that
    their number alone could make d larger. Hence d of SGD must be at least 10 times as large in 100 epochs of
    one step each, too. A setting shows the opposite if in every seed one of the two is below 10 times. Holds:
    at least half show it and none the opposite. Fails: some show the opposite and none shows it. Mixed: some
    show it and some the opposite, or some show it but fewer than half. Else not decided.
    """
    comparisons = []
    for (lam, _, _), ways in by_start(found).items():
        if len(ways) < 3 or not all(outcome.learned() for outcome in ways.values()):
            continue
        by_descent = numpy.maximum(moved(ways["descent"]), SMALLEST)
        of_epochs, of_steps = moved(ways["epochs"]) / by_descent, moved(ways["steps"]) / by_descent
        least = numpy.minimum(of_epochs, of_steps)
        shows, opposes = bool((least >= TIMES).all()), bool((least < TIMES).all())
        comparisons.append(Comparison(lam, of_epochs, of_steps, shows, opposes))
    return by_comparison(comparisons)
