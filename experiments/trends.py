"""Judges of trends, and of our control: is it the batch size, or the number of steps?"""

import itertools

import numpy

from . import statistics
from .judges import LEAST, by_majority, has_learned, last, listed, share, span

ENOUGH_SEEDS = 3  # fewer give no p and no range
SIGNIFICANT = 0.05
NAMES = {"eta": "η", "B": "B"}


def trend(settings, field, by, sign, of="rank", permutations=statistics.PERMUTATIONS):
    """A column is all settings that differ in the varied field alone. It is eligible with at least
    three values that have learned. Over all its runs: Kendall's τ_b of the final rank (or train
    accuracy) against the field's logarithm (λ: its order); p, two-sided, from 10,000 permutations
    of the labels with a fixed seed and Holm's correction over the figure's columns, in which one
    that is not eligible counts with p = 1. A column shows the trend, or its opposite, if p < 0.05
    and the Theil-Sen slope over the range of the field that has learned is at least 5 % of the full
    rank (of 100 % for accuracies). By majority of the columns; not decided with fewer than three
    seeds. (Mended: over the whole range of the field falls of 140 % were found.)
    """
    enough_seeds = _enough_seeds(settings)
    values = sorted({getattr(setting.run, field) for setting in settings})
    places = dict(zip(values, range(len(values)) if field == "lam" else numpy.log(values)))
    columns = sorted({getattr(setting.run, by) for setting in settings})
    points = {}
    for column in columns:
        trained = [one for one in settings if getattr(one.run, by) == column and has_learned(one)]
        if len(trained) >= 3:
            x = [places[getattr(one.run, field)] for one in trained for _ in one.seeds]
            points[column] = x, numpy.concatenate([_final(one, of) for one in trained])
    p = [1.0] * len(columns)
    if enough_seeds:
        for place, (x, y) in enumerate(points.values()):
            p[place] = statistics.permutation_p(x, y, permutations)
    shown = opposite = 0
    texts = []
    for (column, (x, y)), corrected in zip(points.items(), statistics.holm(p)):
        change = statistics.slope(x, y) * (max(x) - min(x))
        if corrected < SIGNIFICANT:
            shown += sign * change >= LEAST
            opposite += sign * change <= -LEAST
        chance = f", p = {corrected:.2g}" if enough_seeds else ""
        tau = f"τ_b = {statistics.tau_b(x, y):.2f}{chance}"
        texts.append(f"{change:+.1f} % at {NAMES[by]} = {column:g} ({tau})")
    verdict = by_majority(shown, opposite, len(points)) if enough_seeds else "not decided"
    told = f"{shown} show it, {opposite} the opposite" if enough_seeds else "too few seeds for p"
    eligible = f"{len(points)} of {len(columns)} columns are eligible"
    return verdict, f"{eligible}, {told}; change: {listed(texts)}"


def _enough_seeds(settings):
    return all(len(setting.seeds) >= ENOUGH_SEEDS for setting in settings)


def _final(setting, of):
    """The final ranks or accuracies of the seeds, in percent."""
    return share(setting, last(setting, of)) if of == "rank" else last(setting, of)


def smaller_B_lower_rank(settings):
    """The rule for trends: the rank against log B, a column for each η."""
    return trend(settings, "B", "eta", 1)


def larger_eta_lower_rank(settings):
    """The rule for trends: the rank against log η, a column for each B. (Mended: the η of Fig. 6
    count with Fig. 2; alone it had one eligible column with the memo's batch norm.)
    """
    return trend(settings, "eta", "B", -1)


def larger_eta_worse_training(settings):
    """The rule for trends: the final train accuracy against log η, a column for each B."""
    return trend(settings, "eta", "B", -1, of="train_accuracy")


def larger_lambda_lower_rank(settings):
    """The rule for trends: the rank against the order of λ, 0 included, a column for each B.
    (Mended: with the memo's batch norm at η = 0.01; at 0.1 three of its four columns are dead
    before decay acts.)
    """
    return trend(settings, "lam", "B", -1)


def smaller_B_needs_smaller_eta(settings):
    """For each B the largest η of the grid at which every seed learns; a B without one counts as
    below the grid. Kendall's τ_b against log B over the six B, exact p over all their orders. Holds
    if τ_b > 0 and p < 0.05, fails if τ_b < 0 and p < 0.05, else not seen; not decided below three
    seeds. (Mended: the η of the best accuracy is mostly the grid's smallest, which censors it.)
    """
    largest = {}
    for setting in settings:
        eta = setting.run.eta if has_learned(setting) else 0.0
        largest[setting.run.B] = max(eta, largest.get(setting.run.B, 0.0))
    sizes = sorted(largest)
    found = [largest[B] for B in sizes]
    texts = [f"{eta or 'none'} at B = {B}" for B, eta in zip(sizes, found)]
    measured = f"largest η that learns: {listed(texts)}"
    if len(sizes) != 6 or not _enough_seeds(settings):
        return "not decided", measured
    tau, p = statistics.tau_b(sizes, found), statistics.exact_p(sizes, found)
    verdict = "not seen"
    if p < SIGNIFICANT:
        verdict = "holds" if tau > 0 else "fails"
    return verdict, f"{measured}; τ_b = {tau:.2f}, p = {p:.2g}"


def compared(ranks, others):
    """How ranks of some seeds, in percent, lie to others: below, above or like them."""
    gap = abs(numpy.mean(ranks) - numpy.mean(others))
    if gap > max(LEAST, numpy.ptp(ranks), numpy.ptp(others)):
        if max(ranks) < min(others):
            return "below"
        if min(ranks) > max(others):
            return "above"
    return "like"


def smaller_B_lower_rank_at_equal_steps(settings):
    """At one η and λ, the rank of B_a at epoch 60 against that of B_b < B_a at epoch 60 B_b / B_a,
    where that is a measured epoch: equal steps, equal E, before the first drop of η. A pair counts
    if E is at least 9.2 and both have at least 20 % train accuracy there, in every one of at least
    three seeds. Below: the highest seed of the smaller batch lies below the lowest of the larger
    one, and the means are apart by more than 5 % of the full rank and more than either range; above
    likewise; else like. By majority of at least three pairs, but it fails only if at least half are
    above; mixed says little, as half of the tables without any effect are. (Mended: cells of the
    first control either died or had too little decay.)
    """
    found, texts = [], []
    for small, large in itertools.permutations(settings, 2):
        b, a = small.run, large.run
        budget = 60 * a.steps() * 2 * a.eta * a.lam / (1 - a.momentum)
        if b.B < a.B and (b.eta, b.lam) == (a.eta, a.lam) and budget >= 9.2:
            ranks, others = _ranks_at(60 * b.B / a.B, small), _ranks_at(60, large)
            if ranks is not None and others is not None:
                found.append(compared(ranks, others))
                pair = f"{span(ranks)} % at B = {b.B}, {span(others)} % at B = {a.B}"
                texts.append(f"{found[-1]} ({pair}, η = {a.eta:g})")
    below, above = found.count("below"), found.count("above")
    verdict = by_majority(below, above, len(found))
    if verdict == "fails" and 2 * above < len(found):
        verdict = "mixed"
    if len(found) < 3:
        verdict = "not decided"
    return verdict, f"of {len(found)} pairs {below} are below, {above} above: {listed(texts)}"


def _ranks_at(epoch, setting):
    """The ranks of all seeds at an epoch, in percent; None unless three or more train there."""
    ranks = []
    for made in setting.seeds:
        (place,) = numpy.nonzero((made["epoch"] == epoch) & (made["train_accuracy"] >= 20))
        ranks += list(made["rank"][place])
    enough = len(ranks) == len(setting.seeds) >= ENOUGH_SEEDS
    return share(setting, ranks) if enough else None


def what_carries_the_trend(settings):
    """Cell a: B = 128. b: B = 32 in as many steps. c: B = 32. d: B = 32, η / 4. e: B = 32, λ / 4; c
    has four times the steps and E of a, d and e its E in four times the steps. Final ranks of cells
    that have learned, of at least three seeds, compared as at equal steps. b like a, and c below
    both: steps and budget, not B. b below a: batch size. b above a: noise raises the rank. d like
    a: only η / B and E matter. e like b and not like c: E alone. Else not decided. (Mended: with η
    = 0.03 and B = 16 the small batch died, with 0.01 nothing decayed.)
    """
    a = max(settings, key=lambda setting: setting.run.B).run
    ranks = {}
    for setting in settings:
        if has_learned(setting) and len(setting.seeds) >= ENOUGH_SEEDS:
            ranks[_cell(setting.run, a)] = share(setting, last(setting, "rank"))
    lies = {}
    for one, other in itertools.permutations(ranks, 2):
        lies[one + other] = compared(ranks[one], ranks[other])
    to_a = lies.get("ba")
    readings = {
        "steps and budget, not B": to_a == "like" and lies.get("ca") == lies.get("cb") == "below",
        "batch size": to_a == "below",
        "noise raises the rank": to_a == "above",
        "only η / B and E matter": lies.get("da") == "like",
        "E alone": lies.get("eb") == "like" and lies.get("ec", "like") != "like",
    }
    verdict = "; ".join(words for words, is_so in readings.items() if is_so) or "not decided"
    texts = [f"{letter} {span(values)} %" for letter, values in sorted(ranks.items())]
    return verdict, f"final ranks of cells that have learned: {listed(texts)}"


def _cell(run, a):
    """The letter of the control's cell, by what differs from a."""
    if run.B == a.B:
        return "a"
    if run.steps_of_B:
        return "b"
    if run.eta < a.eta:
        return "d"
    return "e" if run.lam < a.lam else "c"
