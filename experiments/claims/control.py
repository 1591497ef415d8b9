"""The control: is it the batch size, or the number of steps and with it the decay budget E?

Cell a has B = 128; b, c, d and e have B = 16: b with a's steps, c with a's epochs, d as c with η / 8, e as c
with λ / 8. All but c have a's E.
"""

from typing import NamedTuple

import numpy

from ..captions import written
from ..figures import CELLS
from ..verdicts import Statement
from .claim import by_majority, judges, span
from .outcomes import RANKS

LEAST = 5  # percent of the full rank: a smaller difference is none
LETTERS = {written("cell", letter): letter for letter in CELLS}
OPTIONS = {"looks": RANKS, "whole": False, "fallback": {"eta": 0.01}}


class Network(NamedTuple):
    """One network's ranks {cell: those of its seeds, in percent of the full rank}, and what they are."""

    name: str
    ranks: dict
    words: str


def final_rank(made):
    """The rank at the end of a seed's history."""
    return made["rank"][-1]


def rank_at_loss(loss):
    """The rank at the first measured epoch with a train loss of at most `loss`; NaN where none has it."""

    def rank(made):
        reached = made["train_loss"] <= loss
        return made["rank"][reached.argmax()] if reached.any() else numpy.nan

    return rank


def networks_of(found, rank):
    """[Network] with `rank` of the histories of cells that have learned.

    Where cell b of a network has not learned, its runs with the smaller eta stand for it, if there are any.
    """
    networks = []
    for name, by_eta in _by_eta(found).items():
        eta, smaller = max(by_eta), min(by_eta)
        words = f"{name} at η = {eta:g}"
        if "b" in by_eta[eta] and not by_eta[eta]["b"].learned():
            if smaller < eta:
                words = f"{name} at η = {smaller:g}, as b has not learned at {eta:g}"
                eta = smaller
            else:
                words += " (b has not learned, and no smaller η is trained)"
        ranks = {}
        for letter, outcome in sorted(by_eta[eta].items()):
            values = outcome.share([rank(made) for made in outcome.seeds])
            if outcome.learned() and not numpy.isnan(values).any():
                ranks[letter] = values
        texts = [f"{letter} {span(values, ' %')}" for letter, values in ranks.items()]
        networks.append(Network(name, ranks, f"{words}: {', '.join(texts) or 'none'}"))
    return networks


def _by_eta(found):
    """{network: {eta of all cells but d: {cell: Outcome}}}."""
    sorted_out = {}
    for outcome in found:
        letter = LETTERS[outcome.label]
        eta = outcome.run.eta * 8 if letter == "d" else outcome.run.eta
        sorted_out.setdefault(outcome.paper.network, {}).setdefault(eta, {})[letter] = outcome
    return sorted_out


def compared(network, letter, other):
    """How a cell's ranks lie to another's: below, above, like, unclear; None without two seeds of each.

    Below or above: the ranges over the seeds don't overlap, and the means differ by more than either range
    and by at least 5 % of the full rank. Like: the means differ by less than 5 %.
    """
    a, b = network.ranks.get(letter, ()), network.ranks.get(other, ())
    if min(len(a), len(b)) < 2:
        return None
    difference = a.mean() - b.mean()
    if abs(difference) < LEAST:
        return "like"
    apart = a.max() < b.min() or b.max() < a.min()
    if not apart or abs(difference) <= max(numpy.ptp(a), numpy.ptp(b)):
        return "unclear"
    return "below" if difference < 0 else "above"


def smaller_B(networks):
    """The numbers of "smaller B, lower rank": cell b against cell a in every network that has both."""
    differences = [compared(network, "b", "a") for network in networks]
    both = len(differences) - differences.count(None)
    verdict = by_majority(differences.count("below"), differences.count("above"), both)
    return {"networks": in_words(networks), "holds": verdict}


def in_words(networks):
    return "; ".join(network.words for network in networks)


FINAL = "final ranks of cells that have learned: {networks}"


@judges(
    Statement("our control", "smaller B, lower rank, after equally many steps", FINAL),
    "control", **OPTIONS,
)
def smaller_B_lower_rank_at_equal_steps(found):
    """Cell b against cell a of networks that have learned: lower where the ranges of the final ranks over the
    seeds don't overlap and the means differ by more than either range and by 5 % of the full rank. Holds: so
    in at least half of the networks and higher in none. Fails: higher in one and lower in none. Mixed: both.
    Not seen: two networks, and neither. Else, and with one seed, not decided.
    """
    return smaller_B(networks_of(found, final_rank))


@judges(
    Statement("our control", "what carries the trend after equally many epochs", FINAL),
    "control", **OPTIONS,
)
def what_carries_the_trend(found):
    """For each network, with the differences of the claim above, and "like" for means less than 5 % of the
    full rank apart. b like a, and c below both: steps and budget, not B. b below a: batch size. b above a:
    noise raises the rank. d like a: only η / B and E matter. e like b, and below or above c: E alone. Else
    not decided.
    """
    networks = networks_of(found, final_rank)
    readings = []
    for network in networks:
        if read := _readings(network):
            readings.append(f"{network.name}: {', '.join(read)}")
    return {"networks": in_words(networks), "holds": "; ".join(readings) or "not decided"}


def _readings(network):
    """What the cells of one network say."""
    b_to_a, d_to_a, c_to_a = (compared(network, letter, "a") for letter in "bdc")
    c_to_b, e_to_b = (compared(network, letter, "b") for letter in "ce")
    e_to_c = compared(network, "e", "c")
    readings = {
        "steps and budget, not B": b_to_a == "like" and c_to_a == c_to_b == "below",
        "batch size": b_to_a == "below",
        "noise raises the rank": b_to_a == "above",
        "only η / B and E matter": d_to_a == "like",
        "E alone": e_to_b == "like" and e_to_c in ("below", "above"),
    }
    return [words for words, seen in readings.items() if seen]


AT_EQUAL_LOSS = "ranks of cells that have learned and reach it: {networks}"


@judges(
    Statement("our control", "smaller B, lower rank, at an equal train loss of 0.1", AT_EQUAL_LOSS),
    "control", **OPTIONS,
)
def smaller_B_lower_rank_at_loss_0_1(found):
    """As after equally many steps, but with the ranks at the first measured epoch with a train loss of at
    most 0.1, of cells all of whose seeds reach it.
    """
    return smaller_B(networks_of(found, rank_at_loss(0.1)))


@judges(
    Statement("our control", "smaller B, lower rank, at an equal train loss of 0.01", AT_EQUAL_LOSS),
    "control", **OPTIONS,
)
def smaller_B_lower_rank_at_loss_0_01(found):
    """As after equally many steps, but with the ranks at the first measured epoch with a train loss of at
    most 0.01, of cells all of whose seeds reach it.
    """
    return smaller_B(networks_of(found, rank_at_loss(0.01)))
