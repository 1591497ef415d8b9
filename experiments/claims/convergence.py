"""Claims on Fig. 1: how far W moves in an epoch, and what becomes of it at large lambda."""

from ..captions import written
from ..verdicts import Statement
from .claim import Comparison, by_comparison, judges, span
from .outcomes import COUNTS

ORDERS = 100  # times: two orders of magnitude, the least plural
DRIFTS = 3  # times the drift of pure decay: less, and decay alone does it
GONE = 1e-3  # of its norm at the start
GONE_AT = (1e-4, 1e-3)  # lambda at which the memo has W go to zero, on CIFAR-10 with cross-entropy


def drift(run, norm):
    """How far decay alone moves W in an epoch: 2 eta lambda steps ||W||."""
    return 2 * run.eta * run.lam * run.steps() * norm


@judges(
    Statement(
        "Section 4.2, Fig. {n}",
        "d(W_{t+1}, W_t) is smaller by orders of magnitude at λ = 0",
        "{shown} of {compared} settings that have learned show it, {against} the opposite; "
        "d over d at λ = 0, and over the drift: {ratios}",
    ),
    "fig1",
)
def far_smaller_without_decay(found):
    """d at the end, of learned networks with λ > 0, over d at λ = 0, and over the drift of decay alone, 2 η λ
    steps ‖W‖. A setting shows it where d is at least 100 times that at λ = 0 and at least 3 times the drift,
    in every seed; its opposite where d is at least 3 times the drift, but less than 100 times that at λ = 0,
    in every seed. Else it decides nothing: decay alone moves W. Holds: at least half show it and none the
    opposite. Fails: some show the opposite and none shows it. Mixed: some show it and some the opposite, or
    some show it but fewer than half. Else not decided.
    """
    at_zero = {}
    for outcome in found:
        if outcome.paper.lam == 0 and outcome.learned():
            at_zero[outcome.paper.dataset, outcome.paper.loss] = outcome.last("distance").mean()
    comparisons = []
    for outcome in found:
        task = (outcome.paper.dataset, outcome.paper.loss)
        if outcome.paper.lam == 0 or task not in at_zero or not outcome.learned():
            continue
        moved = outcome.last("distance")
        over_zero = moved / at_zero[task]
        over_drift = moved / drift(outcome.run, outcome.last("norm"))
        more_than_drift = (over_drift >= DRIFTS).all()
        shows = bool(more_than_drift and (over_zero >= ORDERS).all())
        opposes = bool(more_than_drift and (over_zero < ORDERS).all())
        comparisons.append(Comparison(outcome.paper.lam, over_zero, over_drift, shows, opposes))
    return by_comparison(comparisons)


def largest_decay(found):
    """The settings on CIFAR-10 with cross-entropy at the two largest lambda."""
    return [
        outcome
        for outcome in found
        if outcome.paper.dataset == "cifar10"
        and outcome.paper.loss == "cross_entropy"
        and outcome.paper.lam in GONE_AT
    ]


def largest_kept(outcome):
    """For every seed, the final norm over the first, of the W that has kept most."""
    return [made["layer_norm_kept"].max() for made in outcome.seeds]


@judges(
    Statement(
        "Section 4.2, Fig. {n}",
        "W goes to zero at λ = 1e-4 and 1e-3 (CIFAR-10, cross-entropy)",
        "‖W‖ over its start, of the W that keeps most: {kept}",
    ),
    "fig1", looks=(),
)
def goes_to_zero(found):
    """Every ‖W‖ ends below a thousandth of its start. Holds if so in every seed at both λ, fails if in none,
    else mixed; not decided where one is missing.
    """
    kept = {outcome.paper.lam: largest_kept(outcome) for outcome in largest_decay(found)}
    texts = [f"{span(values)} at λ = {written('lam', lam)}" for lam, values in sorted(kept.items())]
    gone = [value < GONE for values in kept.values() for value in values]
    verdict = "not decided"
    if len(kept) == len(GONE_AT):
        verdict = "holds" if all(gone) else "mixed" if any(gone) else "fails"
    return {"kept": "; ".join(texts) or "nothing trained", "holds": verdict}


@judges(
    Statement(
        "Section 4.2, Fig. {n}",
        "its rank is zero",
        "average rank, relative to ‖W‖ and to max(‖W‖, 1e-12): {ranks}",
    ),
    "fig1", looks=COUNTS,
)
def has_rank_zero(found):
    """Where W has gone to zero by the claim above, its final rank in both readings: relative to ‖W‖, and
    after dividing by max(‖W‖, 1e-12). Holds if both are zero in every seed, fails if neither is in any; no
    verdict where they differ.
    """
    texts, zero = [], []
    for outcome in sorted(largest_decay(found), key=lambda outcome: outcome.paper.lam):
        relative, guarded = outcome.last("rank"), outcome.last("rank_guarded")
        lam = written("lam", outcome.paper.lam)
        texts.append(f"{span(relative)} and {span(guarded)} at λ = {lam}")
        if max(largest_kept(outcome)) < GONE:
            zero += [*(relative == 0), *(guarded == 0)]
    verdict = "not decided"
    if zero and all(zero):
        verdict = "holds"
    elif zero and not any(zero):
        verdict = "fails"
    return {"ranks": "; ".join(texts) or "nothing trained", "holds": verdict}
