"""Claims on the ranks of single matrices: the bottleneck of Fig. 6, the residual blocks of Fig. 7."""

import numpy

from ..verdicts import Statement
from .claim import by_thirds, judges, span
from .outcomes import RANKS

ACTIVE = 80  # percent of the width H: the rank constraint is active where ranks end below
EQUAL = 5  # percent of H: ranks that differ by less are equal


def ranks(outcome):
    """The final ranks (seeds, matrices) in percent of the width H of the network that was trained."""
    width = int(outcome.run.network.rsplit("-", 1)[1])
    return 100 * numpy.array([made["layer_rank"] for made in outcome.seeds]) / width


def said_of(shown, active, details):
    """The numbers of a claim that `shown` of the active settings show."""
    return {"shown": shown, "active": active, "details": details, "holds": by_thirds(shown, active)}


@judges(
    Statement(
        "Appendix A, Fig. {n}",
        "MLPs have a bottleneck: the ranks are lowest in the middle",
        "so in {shown} of {active} active settings{details}",
    ),
    "fig6", looks=RANKS,
)
def bottleneck(found):
    """Hidden matrices (all but the output's) of active settings: those that have learned, with some hidden
    rank below 0.8 H in every seed. A setting shows it if the least rank lies inside and at least 0.05 H below
    both ends in every seed. Holds in two thirds or more of them, fails in one third or fewer, else mixed;
    fewer than three active: not decided.
    """
    depths = []
    for outcome in found:
        if not outcome.learned():
            continue
        hidden = ranks(outcome)[:, :-1]
        if (hidden.min(axis=1) < ACTIVE).all():
            lower_end = hidden[:, [0, -1]].min(axis=1)
            depths.append(min(lower_end - hidden[:, 1:-1].min(axis=1)))
    shown = sum(depth >= EQUAL for depth in depths)
    details = ""
    if depths:
        details = f"; the least rank inside lies {span(depths, ' %')} of H below the lower end"
    return said_of(shown, len(depths), details)


def active_blocks(found):
    """The ranks of active settings, (seeds, blocks, 2) in percent of H; first and last W are in no block."""
    blocks = []
    for outcome in found:
        if outcome.learned():
            pairs = ranks(outcome)[:, 1:-1]
            pairs = pairs.reshape(len(pairs), -1, 2)
            if (pairs.mean(axis=(1, 2)) < ACTIVE).all():
                blocks.append(pairs)
    return blocks


@judges(
    Statement(
        "Appendix A, Fig. {n}",
        "the two matrices of a residual block have equal ranks",
        "so in {shown} of {active} active settings{details}",
    ),
    "fig7", looks=RANKS,
)
def equal_within_blocks(found):
    """Active settings: those that have learned, with a mean rank in blocks below 0.8 H in every seed. r₁ and
    r₂ are the ranks of a block's two matrices. A setting shows it if, in every seed, mean |r₁ - r₂| is at
    most 0.05 H and at most half of the standard deviation between blocks (of (r₁ + r₂) / 2). Holds in two
    thirds or more of them, fails in one third or fewer, else mixed; fewer than three active: not decided.
    """
    differences, deviations, shown = [], [], 0
    active = active_blocks(found)
    for pairs in active:
        difference = abs(pairs[..., 0] - pairs[..., 1]).mean(axis=1)
        deviation = pairs.mean(axis=2).std(axis=1)
        shown += bool((difference <= numpy.minimum(EQUAL, deviation / 2)).all())
        differences += list(difference)
        deviations += list(deviation)
    details = ""
    if active:
        details = f"; mean |r₁ - r₂| is {span(differences, ' %')} of H"
        details += f", the standard deviation between blocks {span(deviations, ' %')}"
    return said_of(shown, len(active), details)


@judges(
    Statement(
        "Appendix A, Fig. {n}",
        "all residual blocks have equal ranks",
        "so in {shown} of {active} active settings{details}",
    ),
    "fig7", looks=RANKS,
)
def equal_across_blocks(found):
    """The same settings. A setting shows it if, in every seed, the mean over all pairs of blocks of the
    difference of their ranks (r₁ + r₂) / 2 is at most 0.05 H. Holds in two thirds or more of them, fails in
    one third or fewer, else mixed; fewer than three active: not decided.
    """
    differences, shown = [], 0
    active = active_blocks(found)
    for pairs in active:
        block = pairs.mean(axis=2)
        first, second = numpy.triu_indices(block.shape[1], k=1)
        difference = abs(block[:, first] - block[:, second]).mean(axis=1)
        shown += bool((difference <= EQUAL).all())
        differences += list(difference)
    details = ""
    if active:
        details = f"; the mean difference of two blocks is {span(differences, ' %')} of H"
    return said_of(shown, len(active), details)
