"""The rules by which the memo's claims are judged: trends, our control, and the others.

A judge is a function of a list of Settings that returns a verdict and what was measured, in words.
Its docstring is its rule: the page of claims prints it, and says what E, H and the like are. Ranks
are in percent of the full rank, ranks by layer in percent of the width.
"""

import functools
import itertools
from typing import NamedTuple

import numpy

from .runs import Run
from .statistics import differences, holm, kendall, slope

NOTABLE = 5  # percent of the full rank, the width or the accuracy; a smaller difference is none
ENOUGH_SEEDS = 3  # fewer give no p and no range
SIGNIFICANT = 0.05


class Setting(NamedTuple):
    """One network, B, eta and lambda: the run of its first seed, and the history of every seed."""

    run: Run
    histories: list

    def has_learned(self):
        """Whether every seed has."""
        return all(history["learned"] for history in self.histories)

    def has_diverged(self):
        """Whether any seed has."""
        return any(history["diverged"] for history in self.histories)

    def values(self, field, at=slice(None)):
        """What the history of every seed has in a field, at some places of it, (seeds, ...)."""
        return numpy.array([history[field][at] for history in self.histories])

    def lost(self, field):
        """The first value of every seed minus its last."""
        return self.values(field, 0) - self.values(field, -1)


def span(values):
    """The range of some numbers in three digits: "3 to 40"."""
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def by_majority(shown, opposite, eligible):
    """By majority. Holds: at least half of what is eligible show the claim and none the opposite.
    Fails: at least one shows the opposite and none the claim. Mixed: some show each, or fewer than
    half show it. Not seen: two or more are eligible and none shows either. Else not decided.
    """
    if opposite:
        return "mixed" if shown else "fails"
    if shown:
        return "holds" if 2 * shown >= eligible else "mixed"
    return "not seen" if eligible >= 2 else "not decided"


def in_every_seed(seeds):
    """Holds: so in every seed. Fails: in none. Else mixed; not decided without any seed."""
    return by_majority(seeds.count(True), seeds.count(False), len(seeds))


def by_thirds(shows):
    """By thirds of the settings that have learned. Holds: so in two thirds or more of them. Fails:
    in one third or fewer. Else mixed; with fewer than three settings not decided.
    """
    # shows(setting) returns whether it shows the claim, and what was measured; None: it can't.

    @functools.wraps(shows)
    def judge(settings):
        answers = [shows(setting) for setting in settings if setting.has_learned()]
        answers = [answer for answer in answers if answer]
        number = sum(is_shown for is_shown, _ in answers)
        verdict = "mixed"
        if len(answers) < 3:
            verdict = "not decided"
        elif 3 * number >= 2 * len(answers):
            verdict = "holds"
        elif 3 * number <= len(answers):
            verdict = "fails"
        texts = ", ".join(text for _, text in answers) or "none can show it"
        return verdict, f"so in {number} of {len(answers)} settings: {texts}"

    return judge


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
    p = dict.fromkeys(sorted({getattr(setting.run, by) for setting in settings}), 1.0)
    found = {}
    for column in p:
        learned = [one for one in settings if getattr(one.run, by) == column and one.has_learned()]
        if len(learned) >= 3:
            x = [places[getattr(one.run, field)] for one in learned for _ in one.histories]
            y = numpy.concatenate([one.values(of, -1) for one in learned])
            tau, p[column] = kendall(x, y)
            found[column] = slope(x, y) * (max(x) - min(x)), tau
    p = holm(p)
    enough_seeds = _enough_seeds(settings)
    shown, opposite, texts = 0, 0, []
    for column, (change, tau) in found.items():
        if enough_seeds and p[column] < SIGNIFICANT:
            shown += sign * change >= NOTABLE
            opposite += sign * change <= -NOTABLE
        chance = f", p = {p[column]:.2g}" if enough_seeds else ""
        texts.append(f"{change:+.1f} % at {by} = {column:g} (τ_b = {tau:.2f}{chance})")
    verdict = by_majority(shown, opposite, len(found)) if enough_seeds else "not decided"
    counts = f"{len(found)} of {len(p)} columns are eligible, {shown} show it"
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
    tried = [(one.run.B, one.run.eta if one.has_learned() else 0.0) for one in settings]
    largest = dict(sorted(tried))  # the last of each B counts
    etas, sizes = list(largest.values()), ", ".join(map(str, largest))
    measured = f"largest η that learns: {', '.join(str(e or 'none') for e in etas)} at B = {sizes}"
    if len(largest) != 6 or not _enough_seeds(settings):
        return "not decided", measured
    tau, p = kendall(largest, etas)
    verdict = "not seen"
    if p < SIGNIFICANT:
        verdict = "holds" if tau > 0 else "fails"
    return verdict, f"{measured}; τ_b = {tau:.2f}, p = {p:.2g}"


def compared(ranks, others):
    """Whether the ranks of some seeds lie below or above those of others, or are like them."""
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
    at least 9.2 and both have at least 20 % train accuracy there in every seed of three or more.
    Below: all seeds of the smaller batch lie below all of the larger one, the means apart by more
    than 5 % of the full rank and more than either range; above likewise; else like. By majority of
    at least three pairs, but it fails only if at least half are above; mixed says little: so are
    half of all random tables. (Mended: cells of the first control died or had too little decay.)
    """
    found, texts = [], []
    for small, large in itertools.permutations(settings, 2):
        b, a = small.run, large.run
        budget = 60 * a.steps() * 2 * a.eta * a.lam / (1 - a.momentum)
        undropped = min(a.milestones, default=60) >= 60
        if b.B < a.B and (b.eta, b.lam) == (a.eta, a.lam) and undropped and budget >= 9.2:
            ranks, others = _ranks_at(60 * b.B / a.B, small), _ranks_at(60, large)
            if ranks and others:
                found.append(compared(ranks, others))
                pair = f"{span(ranks)} % at B = {b.B}, {span(others)} % at B = {a.B}"
                texts.append(f"{found[-1]} ({pair}, η = {a.eta:g})")
    below, above = found.count("below"), found.count("above")
    verdict = by_majority(below, above, len(found)) if len(found) >= 3 else "not decided"
    if verdict == "fails" and 2 * above < len(found):
        verdict = "mixed"
    return verdict, f"{below} of {len(found)} pairs are below, {above} above: {', '.join(texts)}"


def _ranks_at(epoch, setting):
    """The rank of every seed at an epoch; none unless three or more seeds all train there."""
    ranks = []
    for history in setting.histories:
        trains = (history["epoch"] == epoch) & (history["train_accuracy"] >= 20)
        ranks += list(history["rank"][trains])
    return ranks if len(ranks) == len(setting.histories) >= ENOUGH_SEEDS else []


def what_carries_the_trend(settings):
    """Cell a: B = 128. b: B = 32 in as many steps. c: B = 32. d: B = 32, η / 4. e: B = 32, λ / 4; c
    has four times the steps and E of a; d and e have the E of a in four times its steps. Final
    ranks of cells that have learned, of at least three seeds, compared as at equal steps. b like a,
    and c below both: steps and decay. b below a: batch size. b above a: noise raises the rank. d
    like a: η / B and E. e like b and not like c: E alone. Else not decided.
    (Mended: with η = 0.03 and B = 16 the small batch died, with 0.01 nothing decayed.)
    """
    ranks = {}
    for setting in settings:
        run = setting.run
        marks = {"a": run.B == 128, "b": run.steps_of_B, "d": run.eta < 0.05, "e": run.lam < 5e-4}
        cell = next((cell for cell, is_so in marks.items() if is_so), "c")
        if setting.has_learned() and len(setting.histories) >= ENOUGH_SEEDS:
            ranks[cell] = setting.values("rank", -1)
    found = {a + b: compared(ranks[a], ranks[b]) for a, b in itertools.permutations(ranks, 2)}
    b_to_a, c_is_below = found.get("ba"), found.get("ca") == found.get("cb") == "below"
    readings = {
        "steps and decay": b_to_a == "like" and c_is_below,
        "batch size": b_to_a == "below",
        "noise raises the rank": b_to_a == "above",
        "η / B and E": found.get("da") == "like",
        "E alone": found.get("eb") == "like" and found.get("ec", "like") != "like",
    }
    verdict = ", or ".join(words for words, is_so in readings.items() if is_so) or "not decided"
    texts = [f"{cell} {span(values)} %" for cell, values in sorted(ranks.items())]
    return verdict, f"final ranks of cells that have learned: {', '.join(texts)}"


def no_rank_lost_without_decay(settings):
    """At λ = 0, the memo's batch norm at η = 0.01. Both counts, above 1e-4 ‖W‖ and above
    1e-4 ‖W₀‖, end at most 1 % of the full rank below the start. Holds if so in every seed of two or
    more batch sizes that have learned; fails if not in one seed; else not decided.
    """
    most, texts = [], []
    for setting in settings:
        if setting.run.lam == 0 and setting.has_learned():
            lost = [max(setting.lost(count)) for count in ("rank", "rank_from_start")]
            most.append(max(lost))
            texts.append(f"{lost[0]:.2g} and {lost[1]:.2g} at B = {setting.run.B}")
    verdict = "holds" if len(most) >= 2 else "not decided"
    if max(most, default=0) > 1:
        verdict = "fails"
    return verdict, f"lost by the two counts, in percent of the full rank: {', '.join(texts)}"


def gradient_descent_keeps_the_rank(settings):
    """B = m beside smaller B, equally many steps and equal E on 5,000 images. A B of SGD counts if
    every seed of it has lost at least 5 % of the full rank. Holds if gradient descent loses less
    than a tenth of what SGD loses, from the same start, in every seed of all B that count; fails if
    in none; else mixed. Not decided where gradient descent has not learned or no B counts. (Mended:
    at the E of before, 7.6, SGD itself lost too little.)
    """
    lost = {one.run.B: one.lost("rank") for one in settings if one.has_learned()}
    texts = [f"{span(values)} at B = {B}" for B, values in lost.items()]
    by_descent = lost.pop(5000, ())
    by_sgd = [values for values in lost.values() if min(values) >= NOTABLE]
    kept = [descent < sgd / 10 for values in by_sgd for descent, sgd in zip(by_descent, values)]
    return in_every_seed(kept), f"lost, in percent of the full rank: {', '.join(texts)}"


@by_thirds
def close_to_rank_B(setting):
    """τ_B = (Σ σ_i² over i > B)^(1/2) / ‖W‖ at the end, σ_i the singular values of W; its median
    over the W with more than B singular values. A setting is close if that is below 0.1 in every
    seed. By thirds of those with B <= H / 2 and E >= 4.9. (Mended: where less has decayed nothing
    can be close, and a W of at most B singular values was close by definition.)
    """
    run = setting.run
    if run.B > run.graph().width(2) / 2 or run.budget() < 4.9:
        return None
    start, end = setting.values("tau_B", 0), setting.values("tau_B", -1)
    text = f"τ_B {span(end)} at B = {run.B}, η = {run.eta:g} (before training {span(start)})"
    return max(end) < 0.1, text


def by_movement(shows):
    """By majority of those that count; not decided where none shows the claim or its opposite."""
    # shows(setting, d over d at λ = 0, d over the drift), of a learned setting with λ > 0, returns
    # whether it shows the claim, and whether its opposite; None: it doesn't count.

    @functools.wraps(shows)
    def judge(settings):
        learned = [setting for setting in settings if setting.has_learned()]
        still = [one for one in learned if one.run.lam == 0]
        at_zero = {one.run.dataset: one.values("distance", -1) for one in still}
        decayed = [one for one in learned if one.run.lam > 0 and one.run.dataset in at_zero]
        shown, opposite, texts = 0, 0, []
        for setting in decayed:
            run, d = setting.run, setting.values("distance", -1)
            over_zero = d / at_zero[run.dataset]
            over_drift = d / (2 * run.eta * run.lam * run.steps() * setting.values("norm", -1))
            if answer := shows(setting, over_zero, over_drift):
                shown += answer[0]
                opposite += answer[1]
                ratios = f"{span(over_zero)} and {span(over_drift)}"
                texts.append(f"{ratios} (λ = {run.lam:.2g}, {run.dataset})")
        verdict = by_majority(shown, opposite, len(texts)) if shown or opposite else "not decided"
        counts = f"{shown} of {len(texts)} show it, {opposite} the opposite"
        return verdict, f"{counts}; d over d at λ = 0 and over the drift: {', '.join(texts)}"

    return judge


@by_movement
def far_smaller_without_decay(_, over_zero, over_drift):
    """At the end, d at λ > 0 over d at λ = 0, and over the drift of decay alone, 2 η λ steps ‖W‖. A
    setting shows it if d is at least 3 times the drift and at least 100 times that at λ = 0 in
    every seed; its opposite if the first is so in every seed and the second in none. Below 3 times
    the drift, decay alone moves W, and it shows neither. By majority, but not decided where none
    shows either.
    """
    if min(over_drift) < 3:
        return False, False
    return min(over_zero) >= 100, max(over_zero) < 100


@by_movement
def does_not_converge(setting, over_zero, over_drift):
    """Settings with λ > 0 whose loss stays within 10 % and accuracy within 1 % of their means over
    the last quarter of the epochs, in every seed. One shows it if the last d is at least half of
    the mean d of that quarter, at least 10 times d at λ = 0 and at least 3 times the drift of decay
    alone, in every seed; its opposite if in no seed the first two are so. By majority, but not
    decided where none shows either. (Mended: 100 more epochs of each run cost 127 core hours.)
    """
    is_late = setting.histories[0]["epoch"] > 0.75 * setting.run.epochs
    for field, part in (("train_loss", 0.1), ("train_accuracy", 0.01)):
        values = setting.values(field, is_late)
        means = values.mean(axis=1, keepdims=True)
        if not (abs(values - means) <= part * means).all():
            return None
    d = setting.values("distance", is_late)
    moves = (d[:, -1] >= d.mean(axis=1) / 2) & (over_zero >= 10)
    return (moves & (over_drift >= 3)).all(), not moves.any()


def _on_cifar(settings, budget):
    """The settings on CIFAR-10 of more than this decay budget E."""
    on_cifar = [setting for setting in settings if setting.run.dataset.endswith("cifar10")]
    return [setting for setting in on_cifar if setting.run.budget() > budget]


def goes_to_zero(settings):
    """On CIFAR-10, where E is that of 2,000 epochs, 15.6 at λ = 1e-4 and 156 at 1e-3: every ‖W‖
    ends below a thousandth of its start. Holds if so in every seed at both λ, fails if in none,
    else mixed. A setting that diverged counts for neither, and one alone can't hold. (Mended: 100
    epochs can't decide it; on 2026-11-30, these runs known: a diverged one counted as not gone.)
    """
    decayed = [one for one in _on_cifar(settings, 15) if not one.has_diverged()]
    kept = [norm for setting in decayed for norm in setting.values("layer_norm_kept").max(axis=1)]
    is_gone = [norm < 1e-3 for norm in kept]
    verdict = in_every_seed(is_gone) if len(decayed) >= 2 or not any(is_gone) else "not decided"
    texts = [f"{norm:.3g}" for norm in kept]
    return verdict, f"‖W‖ over its start, of the W that keeps most: {', '.join(texts)}"


def has_rank_zero(settings):
    """On CIFAR-10, where E is that of 2,000 epochs at λ = 1e-3, 156, and every ‖W‖ ends below a
    thousandth of its start: the final rank is 0. (At λ = 1e-4 no norm can reach the 1e-12 below
    which a W counts as zero.) Holds if so in every seed, fails if in none, else mixed.
    """
    seeds = [history for setting in _on_cifar(settings, 150) for history in setting.histories]
    ranks = [seed["rank"][-1] for seed in seeds if seed["layer_norm_kept"].max() < 1e-3]
    verdict = in_every_seed([rank == 0 for rank in ranks])
    return verdict, f"rank in percent of the full rank: {', '.join(map(str, ranks))}"


@by_thirds
def bottleneck(setting):
    """Hidden matrices (all but the output's) of active settings: those with some hidden rank below
    0.8 H in every seed. A setting shows it if in every seed the least rank lies inside and at least
    0.05 H below both ends, and the ranks fall to it and rise after it, reversals of at most 0.02 H
    ignored. By thirds. (Mended: in random order the least rank alone lies so in 27 to 53 % of the
    cases.)
    """
    hidden = setting.values("layer_rank")[:, :-1]
    if (hidden.min(axis=1) >= 80).any():
        return None
    depths = hidden[:, [0, -1]].min(axis=1) - hidden[:, 1:-1].min(axis=1)
    before = numpy.minimum.accumulate(hidden, axis=1)
    after = numpy.minimum.accumulate(hidden[:, ::-1], axis=1)[:, ::-1]
    # Before the least rank `before` is the larger one, after it `after` is.
    reversals = (hidden - numpy.maximum(before, after)).max(axis=1)
    is_shown = min(depths) >= NOTABLE and max(reversals) <= 2
    return is_shown, f"depth {span(depths)}, reversal {span(reversals)} % of H"


def _in_blocks(setting):
    """The ranks by block (seeds, blocks, 2), without the first and the last W; None if inactive."""
    ranks = setting.values("layer_rank")[:, 1:-1]
    is_active = (ranks.mean(axis=1) < 80).all()
    has_blocks = setting.run.network.startswith("RES")
    return ranks.reshape(len(ranks), -1, 2) if has_blocks and is_active else None


@by_thirds
def equal_within_blocks(setting):
    """Active settings: those with a mean rank in blocks below 0.8 H in every seed. r₁ and r₂ are
    the ranks of a block's two matrices. A setting shows it if, in every seed, mean |r₁ - r₂| is at
    most 0.05 H and at most half of the standard deviation of (r₁ + r₂) / 2 between blocks. By
    thirds.
    """
    if (ranks := _in_blocks(setting)) is None:
        return None
    difference = abs(ranks[..., 0] - ranks[..., 1]).mean(axis=1)
    deviation = ranks.mean(axis=2).std(axis=1)
    is_shown = (difference <= numpy.minimum(NOTABLE, deviation / 2)).all()
    return is_shown, f"mean |r₁ - r₂| {span(difference)}, deviation {span(deviation)} % of H"


@by_thirds
def equal_across_blocks(setting):
    """The same settings. A setting shows it if, in every seed, the mean over all pairs of blocks of
    the difference of their ranks (r₁ + r₂) / 2 is at most 0.05 H. By thirds.
    """
    if (ranks := _in_blocks(setting)) is None:
        return None
    difference = abs(differences(ranks.mean(axis=2))).mean(axis=1)
    return (difference <= NOTABLE).all(), f"mean difference {span(difference)} % of H"
