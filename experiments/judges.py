"""The rules by which the memo's claims are judged.

A judge is pure: settings in, (verdict, what was measured) out. Its docstring is its rule, as the
page of claims prints it. Trends and the control are in trends.py.
"""

from typing import NamedTuple

import numpy

from .results import LEARNED, learned
from .runs import Run

LEAST = 5  # percent of the full rank, the width or the accuracy: a smaller difference is none


class Setting(NamedTuple):
    """A point of a figure: the run of its first seed, and the history of every seed."""

    run: Run
    seeds: list
    accuracy: float = LEARNED  # percent of train accuracy from which it has learned


def has_learned(setting):
    """Whether every seed has."""
    return all(learned(made, setting.accuracy) for made in setting.seeds)


def last(setting, field):
    """The final value of every seed."""
    return numpy.array([made[field][-1] for made in setting.seeds])


def share(setting, ranks):
    """Ranks in percent of the full rank."""
    return 100 * numpy.asarray(ranks) / setting.seeds[0]["full_rank"]


def span(values):
    """The range of some numbers in three digits: "3 to 40"."""
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def listed(texts):
    """Texts in a row, or that there are none."""
    return ", ".join(texts) or "none"


def by_majority(shown, opposite, eligible):
    """Holds: at least half of what is eligible show the claim and none the opposite. Fails: at
    least one shows the opposite and none the claim. Mixed: some show it and some the opposite, or
    some show it but fewer than half. Not seen: two or more are eligible and none shows either. Else
    not decided.
    """
    if opposite:
        return "mixed" if shown else "fails"
    if shown:
        return "holds" if 2 * shown >= eligible else "mixed"
    return "not seen" if eligible >= 2 else "not decided"


def by_thirds(shown, what, texts):
    """Holds: so in two thirds or more of the settings. Fails: in one third or fewer. Else mixed;
    with fewer than three settings not decided.
    """
    verdict = "mixed"
    if len(shown) < 3:
        verdict = "not decided"
    elif 3 * sum(shown) >= 2 * len(shown):
        verdict = "holds"
    elif 3 * sum(shown) <= len(shown):
        verdict = "fails"
    return verdict, f"so in {sum(shown)} of {len(shown)} settings; {what}: {listed(texts)}"


def by_all(shown):
    """Holds: so in every seed. Fails: in none. Else mixed; of nothing, nothing follows."""
    if not shown:
        return "not decided"
    if all(shown):
        return "holds"
    return "mixed" if any(shown) else "fails"


# Where rank is lost, and how close W comes to rank B.


def _lost(setting, count="rank"):
    """For every seed, the rank at the start minus that at the end, in percent of the full rank."""
    return share(setting, [made[count][0] - made[count][-1] for made in setting.seeds])


def no_rank_lost_without_decay(settings):
    """Networks that have learned at λ = 0, the memo's batch norm at η = 0.01. Both counts, above
    1e-4 ‖W‖ and above 1e-4 ‖W₀‖, end at most 1 % of the full rank below the start: holds if so in
    every seed of all, which are two batch sizes at least; fails if not in one; else not decided.
    """
    most, texts = [], []
    for setting in settings:
        if setting.run.lam == 0 and has_learned(setting):
            relative, from_start = max(_lost(setting)), max(_lost(setting, "rank_from_start"))
            most.append(max(relative, from_start))
            texts.append(f"{relative:.2g} and {from_start:.2g} at B = {setting.run.B}")
    verdict = "holds" if len(most) >= 2 else "not decided"
    if max(most, default=0) > 1:
        verdict = "fails"
    return verdict, f"lost by the two counts, in percent of the full rank: {listed(texts)}"


def gradient_descent_keeps_the_rank(settings):
    """B = m beside smaller B, all with equally many steps and equal E on 5,000 images; networks
    that have learned. Rank lost: that at the start minus that at the end. A B of SGD counts if
    every seed of it has lost at least 5 % of the full rank. Holds if gradient descent loses less
    than a tenth of what SGD loses, from the same start, in every seed of all B that count; fails if
    in none; else mixed. Not decided where gradient descent has not learned or no B counts. (Mended:
    at the E of before, 7.6, SGD itself lost too little.)
    """
    lost = {setting.run.B: _lost(setting) for setting in settings if has_learned(setting)}
    texts = [f"{span(values)} at B = {B}" for B, values in lost.items()]
    by_descent = lost.pop(settings[0].run.samples(), None)
    kept = []
    for by_sgd in lost.values():
        if by_descent is not None and min(by_sgd) >= LEAST:
            kept += list(by_descent < by_sgd / 10)
    return by_all(kept), f"lost, in percent of the full rank: {listed(texts)}"


def close_to_rank_B(settings):
    """τ_B = (Σ σ_i² over i > B)^(1/2) / ‖W‖ at the end, σ_i the singular values of W; its median
    over the W with more than B singular values. A setting is close if that is below 0.1 in every
    seed. By thirds of the settings that have learned, with B <= H / 2 and E >= 4.9. (Mended: where
    less has decayed nothing can be close, and a W of at most B singular values was close by
    definition.)
    """
    close, by_B = [], {}
    for setting in settings:
        run = setting.run
        if has_learned(setting) and run.B <= _width(run) / 2 and run.budget() >= 4.9:
            medians = [numpy.median(made["tau_B"], axis=0) for made in setting.seeds]
            by_B.setdefault(run.B, []).extend(medians)
            close.append(max(end for start, end in medians) < 0.1)
    texts = []
    for B, medians in sorted(by_B.items()):
        starts, ends = zip(*medians)
        texts.append(f"{span(ends)} at B = {B} (at the start {span(starts)})")
    return by_thirds(close, "median τ_B", texts)


def _width(run):
    return int(run.network.rsplit("-", 1)[1])


# Figure 1: whether W goes on moving.


def _moving(settings):
    """[(setting, last d over that at lambda = 0, and over the drift)] of learned ones."""
    trained = [setting for setting in settings if has_learned(setting)]
    at_zero = {one.run.dataset: last(one, "distance") for one in trained if one.run.lam == 0}
    found = []
    for setting in trained:
        run, d = setting.run, last(setting, "distance")
        if run.lam > 0 and run.dataset in at_zero:
            drift = 2 * run.eta * run.lam * run.steps() * last(setting, "norm")
            found.append((setting, d / at_zero[run.dataset], d / drift))
    return found


def _by_moving(found, shown, opposite):
    """The verdict by majority, if one shows the claim or its opposite, and the ratios."""
    texts = []
    for setting, over_zero, over_drift in found:
        place = f"λ = {setting.run.lam:.2g}, {setting.run.dataset}"
        texts.append(f"{span(over_zero)} and {span(over_drift)} ({place})")
    measured = f"{shown} of {len(found)} show it, {opposite} the opposite"
    verdict = by_majority(shown, opposite, len(found)) if shown or opposite else "not decided"
    return verdict, f"{measured}; d over d at λ = 0 and over the drift: {listed(texts)}"


def far_smaller_without_decay(settings):
    """d at the end, of networks with λ > 0 that have learned, over d of the same at λ = 0 and over
    the drift of decay alone, 2 η λ steps ‖W‖. A setting shows it where d is at least 100 times that
    at λ = 0 and at least 3 times the drift, in every seed; its opposite where d is at least 3 times
    the drift but less than 100 times that at λ = 0, in every seed. Else it shows neither: decay
    alone moves W. By majority, but not decided where none shows either.
    """
    found = _moving(settings)
    beyond = [over_zero for _, over_zero, over_drift in found if min(over_drift) >= 3]
    shown = sum(min(ratios) >= 100 for ratios in beyond)
    return _by_moving(found, shown, sum(max(ratios) < 100 for ratios in beyond))


def does_not_converge(settings):
    """Networks with λ > 0 that have learned, as the same at λ = 0 have, and whose loss stays within
    10 % and accuracy within 1 % of their means over the last quarter of the epochs, in every seed.
    A setting shows it if the last d is at least half of the mean d of that quarter, at least 10
    times d at λ = 0 and at least 3 times the drift of decay alone, in every seed; its opposite if
    in no seed the first two are so. By majority, but not decided where none shows either. (Mended:
    100 more epochs of each run cost 127 core hours.)
    """
    found, shown, opposite = [], 0, 0
    for setting, over_zero, over_drift in _moving(settings):
        is_late = setting.seeds[0]["epoch"] > 0.75 * setting.run.epochs
        fields = ("distance", "train_loss", "train_accuracy")
        d, loss, accuracy = ([made[field][is_late] for made in setting.seeds] for field in fields)
        if _settled(loss, 0.1) and _settled(accuracy, 0.01):
            goes_on = last(setting, "distance") >= numpy.mean(d, axis=1) / 2
            moves = goes_on & (over_zero >= 10)
            found.append((setting, over_zero, over_drift))
            shown += (moves & (over_drift >= 3)).all()
            opposite += not moves.any()
    return _by_moving(found, shown, opposite)


def _settled(values, part):
    """Whether the values (seeds, epochs) lie within this part of each seed's mean."""
    means = numpy.mean(values, axis=1, keepdims=True)
    return (abs(values - means) <= part * means).all()


def _decayed(settings, budget):
    """The settings on CIFAR-10 of at least this decay budget."""
    on_cifar = [setting for setting in settings if setting.run.dataset.endswith("cifar10")]
    return [setting for setting in on_cifar if setting.run.budget() > budget]


def _kept(made):
    """The norm at the end over that at the start, of the W that keeps most."""
    return made["layer_norm_kept"].max()


def goes_to_zero(settings):
    """On CIFAR-10, where E is that of 2,000 epochs, 15.6 at λ = 1e-4 and 156 at 1e-3: every ‖W‖
    ends below a thousandth of its start. Holds if so in every seed at both λ, fails if in none,
    else mixed. (Mended: 100 epochs can't decide it.)
    """
    decayed = _decayed(settings, 15)
    kept = [_kept(made) for setting in decayed for made in setting.seeds]
    verdict = by_all([value < 1e-3 for value in kept]) if len(decayed) == 2 else "not decided"
    texts = [f"{value:.3g}" for value in kept]
    return verdict, f"‖W‖ over its start, of the W that keeps most: {listed(texts)}"


def has_rank_zero(settings):
    """On CIFAR-10, where E is that of 2,000 epochs at λ = 1e-3, 156, and every ‖W‖ ends below a
    thousandth of its start: the final rank is 0. (At λ = 1e-4 no norm can reach the 1e-12 below
    which a W counts as zero.) Holds if so in every seed, fails if in none, else mixed.
    """
    seeds = [made for setting in _decayed(settings, 150) for made in setting.seeds]
    ranks = [made["rank"][-1] for made in seeds if _kept(made) < 1e-3]
    return by_all([rank == 0 for rank in ranks]), f"average rank: {listed(map(str, ranks))}"


# Ranks by layer.


def _layer_ranks(setting):
    """The final ranks (seeds, matrices), in percent of the width H."""
    return 100 * numpy.array([made["layer_rank"] for made in setting.seeds]) / _width(setting.run)


def bottleneck(settings):
    """Hidden matrices (all but the output's) of active settings: those that have learned, with some
    hidden rank below 0.8 H in every seed. A setting shows it if in every seed the least rank lies
    inside and at least 0.05 H below both ends, and the ranks fall to it and rise after it,
    reversals of at most 0.02 H ignored. By thirds. (Mended: in random order the least rank alone
    lies so in 27 to 53 % of the cases.)
    """
    shown, texts = [], []
    for setting in settings:
        hidden = _layer_ranks(setting)[:, :-1]
        if has_learned(setting) and (hidden.min(axis=1) < 80).all():
            depths = hidden[:, [0, -1]].min(axis=1) - hidden[:, 1:-1].min(axis=1)
            reversals = [_reversal(ranks) for ranks in hidden]
            shown.append(min(depths) >= LEAST and max(reversals) <= 2)
            texts.append(f"{span(depths)} and {span(reversals)}")
    return by_thirds(shown, "depth and largest reversal in percent of H", texts)


def _reversal(ranks):
    """The largest rise on the way to the least rank, or fall on the way from it."""
    to_least, from_least = ranks[: ranks.argmin() + 1], ranks[ranks.argmin() :]
    rises = to_least - numpy.minimum.accumulate(to_least)
    falls = numpy.maximum.accumulate(from_least) - from_least
    return max(*rises, *falls)


def _active_blocks(settings):
    """The ranks (seeds, blocks, 2) of active settings, in percent of H."""
    for setting in settings:
        ranks = _layer_ranks(setting)[:, 1:-1]  # the first and the last W are in no block
        if has_learned(setting) and (ranks.mean(axis=1) < 80).all():
            yield ranks.reshape(len(ranks), -1, 2)


def equal_within_blocks(settings):
    """Active settings: those that have learned, with a mean rank in blocks below 0.8 H in every
    seed. r₁ and r₂ are the ranks of a block's two matrices. A setting shows it if, in every seed,
    mean |r₁ - r₂| is at most 0.05 H and at most half of the standard deviation of (r₁ + r₂) / 2
    between blocks. By thirds.
    """
    shown, texts = [], []
    for pairs in _active_blocks(settings):
        difference = abs(pairs[..., 0] - pairs[..., 1]).mean(axis=1)
        deviation = pairs.mean(axis=2).std(axis=1)
        shown.append((difference <= numpy.minimum(LEAST, deviation / 2)).all())
        texts.append(f"{span(difference)} and {span(deviation)}")
    return by_thirds(shown, "mean |r₁ - r₂| and deviation in percent of H", texts)


def equal_across_blocks(settings):
    """The same settings. A setting shows it if, in every seed, the mean over all pairs of blocks of
    the difference of their ranks (r₁ + r₂) / 2 is at most 0.05 H. By thirds.
    """
    shown, texts = [], []
    for pairs in _active_blocks(settings):
        block = pairs.mean(axis=2)
        first, second = numpy.triu_indices(block.shape[1], k=1)
        difference = abs(block[:, first] - block[:, second]).mean(axis=1)
        shown.append((difference <= LEAST).all())
        texts.append(span(difference))
    return by_thirds(shown, "mean difference of two blocks in percent of H", texts)
