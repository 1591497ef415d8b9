"""What is said of the ranks: a title, and three sentences whose every number is computed."""

import math

import numpy

from ..captions import LABELS, NORMS, named, scientific, seeds_of, shortened
from .networks import MEMO, TOLERANCES

SHRUNK = math.log(1 / MEMO.tol)  # the E at which exp(-E) is the memo's tolerance


def headline(plans, found):
    """The title: the network, and how much of the paper's figure there is."""
    plan = plans[next(iter(found))]
    run = plan.runs()[0]
    wanted = sum(len(plan.runs()) for plan in plans.values())
    settings = [seeds for of_figure in found.values() for seeds in of_figure]
    done = sum(len(seeds) for seeds in settings)
    words = [*shortened(plan), seeds_of(plan.seeds)]
    if done < wanted:
        most = max(len(seeds) for seeds in settings)
        words[-1:] = [f"{done} of {wanted} runs", f"{most} of {seeds_of(plan.seeds)}"]
    trust = f"{plan.preset} preset: {', '.join(words)}"
    return f"What the ranks of Figure 2 mean: {run.network} trained on {LABELS[run.dataset]} ({trust})"


def sentences(networks):
    """Three: on the tolerance, on the norm that it is relative to, on E and the train loss."""
    ended = [network for network in networks if not network.diverged]
    if not ended:
        return (f"{_counted(networks)} diverged, and no other is there: none has a rank.",)
    learned = [network for network in ended if network.learned]
    vanished = [network for network in ended if network.vanished]
    which = "that learned" if learned else "that ended without having learned"
    return (
        _on_the_tolerance(learned or ended, which),
        _on_the_norm(learned or ended, which, vanished),
        _on_the_budget(learned or ended, which),
    )


def _on_the_tolerance(networks, which):
    low, high = TOLERANCES[0], TOLERANCES[-1]
    lost = [network.rank(low) - network.rank(high) for network in networks]
    most = networks[int(numpy.argmax(lost))]
    run = most.run
    setting = f"{NORMS[run.detached, run.scalar]}, {named('eta', run.eta)}, {named('B', run.B)}"
    counts = ", ".join(_number(most.rank(tol)) for tol in TOLERANCES)
    cutoffs = ", ".join(scientific(tol) for tol in TOLERANCES)
    sizes = [_number(most.numbers[field]) for field in ("stable_rank", "effective_rank")]
    ranks = [network.rank(MEMO.tol) for network in networks]
    return (
        f"Counted above {scientific(high)} ‖W‖_F instead of {scientific(low)} ‖W‖_F, the average rank of "
        f"{_counted(networks)} {which} is lower by {_span(lost)} of {_number(most.full_rank)} "
        f"({_number(numpy.median(lost))} in the median), while at {scientific(MEMO.tol)} it is "
        f"{_span(ranks)}; it depends most on the tolerance with {setting}: {counts} at {cutoffs}, "
        f"with a stable rank of {sizes[0]} and an effective rank of {sizes[1]}."
    )


def _on_the_norm(networks, which, vanished):
    relative, from_start = _ranks_by_norm(networks)
    lower = [before - after for before, after in zip(relative, from_start)]
    gone = "no network has a W that decayed to zero"
    if vanished:
        relative, from_start = _ranks_by_norm(vanished)
        gone = (
            f"for {_counted(vanished)} with a W that decayed to zero it is {_span(from_start)}, "
            f"though {_span(relative)} relative to ‖W‖_F"
        )
    return (
        f"Relative to the norm before training, ‖W_0‖_F, the rank at {scientific(MEMO.tol)} of "
        f"{_counted(networks)} {which} is lower by {_span(lower)}; {gone}."
    )


def _ranks_by_norm(networks):
    """Their ranks at the memo's tolerance, relative to ||W||_F and to ||W_0||_F."""
    return (
        [network.rank(MEMO.tol) for network in networks],
        [network.rank_from_start(MEMO.tol) for network in networks],
    )


def _on_the_budget(networks, which):
    less = [network for network in networks if network.numbers["budget"] < SHRUNK]
    more = [network for network in networks if network.numbers["budget"] >= SHRUNK]
    return (
        f"What no gradient refreshes shrinks by exp(−E), to {scientific(MEMO.tol)} at E = {_number(SHRUNK)}: "
        f"of {_counted(networks)} {which}, {_ranks_and_losses(less)} a smaller E, "
        f"and {_ranks_and_losses(more)} a larger one."
    )


def _ranks_and_losses(networks):
    if not networks:
        return "none has"
    ranks = _span([network.rank(MEMO.tol) for network in networks])
    losses = _span([network.numbers["train_loss"] for network in networks])
    return f"{len(networks)} (rank {ranks}, train loss {losses}) {'have' if len(networks) > 1 else 'has'}"


def _counted(networks):
    return "1 network" if len(networks) == 1 else f"{len(networks)} networks"


def _span(values):
    """The least and the largest: "3 to 22.1"; one number where they are written alike."""
    ends = [_number(min(values)), _number(max(values))]
    return " to ".join(dict.fromkeys(ends))


def _number(value):
    """Three digits, and a proper minus sign."""
    return f"{value:.3g}".replace("-", "−")
