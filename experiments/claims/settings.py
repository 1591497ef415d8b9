"""Claims on Figs. 2 to 5 that are no trends: the best eta, the rank at lambda = 0, how close to rank B."""

import numpy

from ..verdicts import Statement
from .claim import judges, span
from .outcomes import RANKS

LOST = 1  # percent of the full rank: more is lost rank
CLOSE = 0.1  # of ||W||: a distance from rank B below is close


@judges(
    Statement("Section 4.3, Fig. {n}", "smaller B needs smaller η to train", "best η: {best}"),
    "fig2", "fig4", "fig5", looks=(),
)
def smaller_B_needs_smaller_eta(found):
    """The η of the best mean train accuracy for each B, whether learned or not; a run that diverged counts
    with 0 %. An η at the grid's edge is censored, and so is a tie. Holds if uncensored ones never fall with B
    and rise at least once; fails if one falls; else not decided.
    """
    accuracy = {}
    for outcome in found:
        mean = numpy.nan_to_num(outcome.last("train_accuracy")).mean()
        accuracy.setdefault(outcome.paper.B, {})[outcome.paper.eta] = mean
    uncensored, texts = [], []
    for B, by_eta in sorted(accuracy.items()):
        best = [eta for eta, value in by_eta.items() if value == max(by_eta.values())]
        inside = min(by_eta) < best[0] < max(by_eta)
        text = " or ".join(f"{eta:g}" for eta in best) + f" at B = {B}"
        if inside and len(best) == 1:
            uncensored.append(best[0])
        else:
            text += " (censored)"
        texts.append(text)
    steps = numpy.diff(uncensored)
    verdict = "not decided"
    if (steps < 0).any():
        verdict = "fails"
    elif (steps > 0).any():
        verdict = "holds"
    return {"best": ", ".join(texts), "holds": verdict}


@judges(
    Statement(
        "Section 4.3, Fig. {n}",
        "no rank is lost at λ = 0, whatever B",
        "lost since the start, in percent of the full rank, relative to ‖W‖ and to ‖W₀‖: {lost}",
    ),
    "fig3", looks=RANKS,
)
def no_rank_lost_without_decay(found):
    """Networks that have learned at λ = 0. Both counts, above 1e-4 ‖W‖ and above 1e-4 ‖W₀‖, end at most 1 %
    of the full rank below the start: holds if so in every seed of all, which are two batch sizes at least;
    fails if not in one; else not decided.
    """
    learned = [outcome for outcome in found if outcome.paper.lam == 0 and outcome.learned()]
    texts, most = [], []
    for outcome in sorted(learned, key=lambda outcome: outcome.paper.B):
        losses = []
        for count in ("rank", "rank_from_start"):
            start = numpy.array([made[count][0] for made in outcome.seeds])
            losses.append(outcome.share(start - outcome.last(count)).max())
        texts.append(f"{losses[0]:.2g} and {losses[1]:.2g} at B = {outcome.paper.B}")
        most.append(max(losses))
    verdict = "not decided"
    if max(most, default=0) > LOST:
        verdict = "fails"
    elif len(most) >= 2:
        verdict = "holds"
    return {"lost": ", ".join(texts) or "none has learned", "holds": verdict}


@judges(
    Statement(
        "Section 3.2, on Fig. {n}",
        "W is close to rank at most B",
        "in {close} of {judged} settings that have learned; median τ_B over W: {tau}",
    ),
    "fig2", "fig4", "fig5",
)
def close_to_rank_B(found):
    """τ_B = (Σ σ_i² over i > B)^(1/2) / ‖W‖ at the end, σ_i the singular values of W, the median over all W:
    a setting holds if it is below 0.1 in every seed. The claim holds if all do that have learned, fails if
    none does, else mixed. A setting whose B is not below the most singular values that a W has says nothing.
    """
    by_B, close = {}, []
    for outcome in found:
        if not outcome.learned():
            continue
        medians = [float(numpy.median(made["tau_B"])) for made in outcome.seeds]
        by_B.setdefault(outcome.paper.B, []).extend(medians)
        if outcome.paper.B < outcome.seeds[0]["largest_full_rank"]:
            close.append(max(medians) < CLOSE)
    texts = [f"{span(medians)} at B = {B}" for B, medians in sorted(by_B.items())]
    verdict = "not decided"
    if close:
        verdict = "holds" if all(close) else "mixed" if any(close) else "fails"
    return {"close": sum(close), "judged": len(close), "tau": ", ".join(texts) or "none", "holds": verdict}
