"""Judges of trends, and of our control: is it the batch size, or the number of steps?"""

import itertools

import numpy

from . import statistics
from .judges import NOTABLE, by_majority, span

ENOUGH_SEEDS = 3  # fewer give no p and no range
SIGNIFICANT = 0.05


def trend(settings, field, by, sign, of="rank"):
    """The rule for trends. A column is all settings that differ in the varied field alone, eligible
    with at least three values that have learned. Over its runs: Kendall's τ_b of the final rank (or
    train accuracy) against the field's logarithm (λ: its order), and its two-sided p from 10,000
    permutations, with Holm's correction over the figure's columns (p = 1 for one that is not
    eligible). It shows the trend, or its opposite, if p < 0.05 and the Theil-Sen slope over the
    range of the field that has learned is at least 5 % of the full rank (of 100 % for accuracies).
    By majority of the columns; not decided with fewer than three seeds. (Mended: over the whole
    range of the field it gave falls of 140 %.)
    """
    values = sorted({getattr(setting.run, field) for setting in settings})
    places = dict(zip(values, range(len(values)) if field == "lam" else numpy.log(values)))
    columns = sorted({getattr(setting.run, by) for setting in settings})
    points = {}
    for column in columns:
        learned = [one for one in settings if getattr(one.run, by) == column and one.has_learned()]
        if len(learned) >= 3:
            x = [places[getattr(one.run, field)] for one in learned for _ in one.histories]
            points[column] = x, numpy.concatenate([one.final(of) for one in learned])
    enough_seeds = _enough_seeds(settings)
    p = [1.0] * len(columns)
    if enough_seeds:
        p[: len(points)] = [statistics.p_value(x, y) for x, y in points.values()]
    shown, opposite, texts = 0, 0, []
    for (column, (x, y)), corrected in zip(points.items(), statistics.holm(p)):
        change = statistics.slope(x, y) * (max(x) - min(x))
        if corrected < SIGNIFICANT:
            shown += sign * change >= NOTABLE
            opposite += sign * change <= -NOTABLE
        chance = f", p = {corrected:.2g}" if enough_seeds else ""
        tau = f"τ_b = {statistics.tau_b(x, y):.2f}{chance}"
        texts.append(f"{change:+.1f} % at {by} = {column:g} ({tau})")
    verdict = by_majority(shown, opposite, len(points)) if enough_seeds else "not decided"
    counts = f"{len(points)} of {len(columns)} columns are eligible, {shown} show it"
    return verdict, f"{counts}, {opposite} the opposite; change: {', '.join(texts)}"


def _enough_seeds(settings):
    return all(len(setting.histories) >= ENOUGH_SEEDS for setting in settings)


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
    for setting in sorted(settings, key=lambda setting: setting.run.B):
        eta = setting.run.eta if setting.has_learned() else 0.0
        largest[setting.run.B] = max(eta, largest.get(setting.run.B, 0.0))
    etas = ", ".join(str(eta or "none") for eta in largest.values())
    measured = f"largest η that learns: {etas} at B = {', '.join(map(str, largest))}"
    if len(largest) != 6 or not _enough_seeds(settings):
        return "not decided", measured
    sizes, etas = list(largest), list(largest.values())
    tau, p = statistics.tau_b(sizes, etas), statistics.p_value(sizes, etas, exact=True)
    verdict = "not seen"
    if p < SIGNIFICANT:
        verdict = "holds" if tau > 0 else "fails"
    return verdict, f"{measured}; τ_b = {tau:.2f}, p = {p:.2g}"


def compared(ranks, others):
    """How the ranks of some seeds lie to others: below, above or like them."""
    gap = abs(numpy.mean(ranks) - numpy.mean(others))
    if gap > max(NOTABLE, numpy.ptp(ranks), numpy.ptp(others)):
        if max(ranks) < min(others):
            return "below"
        if min(ranks) > max(others):
            return "above"
    return "like"


def lower_rank_at_equal_steps(settings):
    """At one η and λ, the rank of B_a at epoch 60 against that of B_b < B_a at epoch 60 B_b / B_a,
    where that is measured: equal steps, equal E, before the first drop of η. A pair counts if E is
    at least 9.2 and both have at least 20 % train accuracy there in every one of at least three
    seeds. Below: every seed of the smaller batch lies below every seed of the larger one, the means
    apart by more than 5 % of the full rank and more than either range; above likewise; else like.
    By majority of at least three pairs, but it fails only if at least half are above; mixed says
    little: half of the tables without any effect are. (Mended: cells of the first control either
    died or had too little decay.)
    """
    lies, texts = [], []
    for small, large in itertools.permutations(settings, 2):
        b, a = small.run, large.run
        budget = 60 * a.steps() * 2 * a.eta * a.lam / (1 - a.momentum)
        if b.B < a.B and (b.eta, b.lam) == (a.eta, a.lam) and budget >= 9.2:
            ranks, others = _ranks_at(60 * b.B / a.B, small), _ranks_at(60, large)
            if ranks and others:
                lies.append(compared(ranks, others))
                pair = f"{span(ranks)} % at B = {b.B}, {span(others)} % at B = {a.B}"
                texts.append(f"{lies[-1]} ({pair}, η = {a.eta:g})")
    below, above = lies.count("below"), lies.count("above")
    verdict = by_majority(below, above, len(lies)) if len(lies) >= 3 else "not decided"
    if verdict == "fails" and 2 * above < len(lies):
        verdict = "mixed"
    return verdict, f"{below} of {len(lies)} pairs are below, {above} above: {', '.join(texts)}"


def _ranks_at(epoch, setting):
    """The rank of every seed at an epoch; none unless three or more seeds all train there."""
    ranks = []
    for history in setting.histories:
        trains = (history["epoch"] == epoch) & (history["train_accuracy"] >= 20)
        ranks += list(history["rank"][trains])
    return ranks if len(ranks) == len(setting.histories) >= ENOUGH_SEEDS else []


def what_carries_the_trend(settings):
    """Cell a: B = 128. b: B = 32 in as many steps. c: B = 32. d: B = 32, η / 4. e: B = 32, λ / 4; c
    has four times the steps and E of a, d and e its E in four times the steps. Final ranks of cells
    that have learned, of at least three seeds, compared as at equal steps. b like a, and c below
    both: steps and budget, not B. b below a: batch size. b above a: noise raises the rank. d like
    a: only η / B and E matter. e like b and not like c: E alone. Else not decided. (Mended: with η
    = 0.03 and B = 16 the small batch died, with 0.01 nothing decayed.)
    """
    ranks = {}
    for setting in settings:
        if setting.has_learned() and len(setting.histories) >= ENOUGH_SEEDS:
            ranks[_cell(setting.run)] = setting.final("rank")
    lies = {a + b: compared(ranks[a], ranks[b]) for a, b in itertools.permutations(ranks, 2)}
    b_to_a = lies.get("ba")
    readings = {
        "steps and budget, not B": b_to_a == "like" and lies.get("ca") == lies.get("cb") == "below",
        "batch size": b_to_a == "below",
        "noise raises the rank": b_to_a == "above",
        "only η / B and E matter": lies.get("da") == "like",
        "E alone": lies.get("eb") == "like" and lies.get("ec", "like") != "like",
    }
    verdict = "; ".join(words for words, is_so in readings.items() if is_so) or "not decided"
    texts = [f"{cell} {span(values)} %" for cell, values in sorted(ranks.items())]
    return verdict, f"final ranks of cells that have learned: {', '.join(texts)}"


def _cell(run):
    """The letter of the control's cell."""
    marks = {"a": run.B == 128, "b": run.steps_of_B, "d": run.eta < 0.05, "e": run.lam < 5e-4}
    return next((cell for cell, is_so in marks.items() if is_so), "c")
