"""Every judge on made-up outcomes: each of its verdicts, and a change that makes it say the opposite."""

import numpy
import pytest

from experiments import claims
from experiments.claims import claim, control, convergence, descent, layers, settings, trends
from experiments.claims.claim import by_thirds, said, span
from outcomes import ending, outcome, seed

NAN = numpy.nan


def test_the_table_has_every_claim_once():
    found = [
        value
        for module in (trends, settings, control, convergence, descent, layers)
        for value in vars(module).values()
        if isinstance(value, claim.Claim)
    ]
    assert len(found) == len(claims.CLAIMS) == len(set(map(id, claims.CLAIMS)))
    assert all(one in claims.CLAIMS for one in found)


@pytest.mark.parametrize("one", claims.CLAIMS, ids=lambda one: one.statement.words)
def test_nothing_follows_from_nothing_or_from_a_network_that_diverged(one):
    """Without warnings, which are errors here."""
    assert one.judge([])["holds"] == "not decided"
    lost = outcome([seed(NAN, NAN)], "a: B = 128", dataset="mnist", lam=1e-6)
    numbers = one.judge([lost])
    assert numbers["holds"] == "not decided"
    one.statement.judged(numbers, "")  # the template names nothing else


def test_the_words_of_every_preset():
    words = ("holds", "fails", "mixed", "not seen", "not decided", "batch size")
    for preset in ("night", "paper"):
        assert [said(word, preset) for word in words] == list(words)
    quick = ["seen", "not seen", "not seen", "not seen", "too early", "too early"]
    assert [said(word, "quick") for word in words] == quick
    assert {said(word, "smoke") for word in words} == {"says nothing"}


def test_thirds():
    verdicts = [by_thirds(shown, 9) for shown in (0, 3, 4, 5, 6, 9)]
    assert verdicts == ["fails", "fails", "mixed", "mixed", "holds", "holds"]
    assert by_thirds(2, 2) == "not decided"


def test_a_range_is_written_once_where_it_is_none():
    assert span([2.0, 2.0004], " %") == "2 %" and span([2, 0.5]) == "0.5 to 2"


# Settings: the best eta, lambda = 0, tau_B.


@pytest.mark.parametrize(
    "best, verdict",
    [
        ((0.01, 0.01, 0.03), "holds"),
        ((0.03, 0.01, 0.01), "fails"),
        ((0.01, 0.03, 0.01), "fails"),
        ((0.01, 0.01, 0.01), "not decided"),  # never rises
        ((0.001, 0.01, 0.1), "not decided"),  # rises only by what is censored
        ((0.1, 0.01, 0.03), "holds"),  # what is censored falls
        ((0.1, 0.1, 0.001), "not decided"),
    ],
)
def test_smaller_B_needs_smaller_eta(best, verdict):
    found = []
    for B, chosen in zip((4, 32, 128), best):
        for eta in (0.001, 0.01, 0.03, 0.1):
            found.append(outcome([seed(accuracy=30.0 if eta == chosen else 20.0)] * 3, B=B, eta=eta))
    assert settings.smaller_B_needs_smaller_eta.judge(found)["holds"] == verdict


def test_the_best_eta_is_that_of_the_mean_and_a_run_that_diverged_counts_with_nothing():
    accuracies = {0.001: (40, 40), 0.01: (60, 50), 0.1: (90, NAN)}
    found = [outcome([seed(accuracy=a) for a in pair], B=4, eta=eta) for eta, pair in accuracies.items()]
    assert settings.smaller_B_needs_smaller_eta.judge(found)["best"] == "0.01 at B = 4"


def test_a_tie_for_the_best_eta_is_censored():
    """Fault: the first of several taken for the best."""
    found = [outcome([seed(accuracy=10.0)], B=4, eta=eta) for eta in (0.001, 0.01, 0.03, 0.1)]
    found[0].seeds[0]["train_accuracy"][-1] = 9.0
    numbers = settings.smaller_B_needs_smaller_eta.judge(found)
    assert numbers["best"] == "0.01 or 0.03 or 0.1 at B = 4 (censored)"


def without_decay(relative, from_start, B=16, **given):
    """Three seeds at lambda = 0 that start at rank 100 and end at these by the two counts."""
    count = {"rank_from_start": numpy.array([100.0, 95.0, from_start])}
    return outcome([seed(relative, **count, **given)] * 3, B=B, lam=0.0)


@pytest.mark.parametrize(
    "ends, verdict",
    [
        (((99.5, 99.5), (99.5, 99.5)), "holds"),
        (((99.0, 101.0), (99.5, 99.5)), "holds"),
        (((99.5, 99.5), (98.0, 99.5)), "fails"),
        (((99.5, 99.5), (99.5, 98.0)), "fails"),  # by the other count alone
        (((99.5, 99.5),), "not decided"),  # one batch size
    ],
)
def test_no_rank_is_lost_without_decay(ends, verdict):
    found = [without_decay(*counts, B=B) for counts, B in zip(ends, (16, 32))]
    found.append(ending([5] * 3, lam=1e-3))  # not at lambda = 0
    found.append(ending([5] * 3, accuracy=10.0, lam=0.0, B=64))  # has not learned
    assert settings.no_rank_lost_without_decay.judge(found)["holds"] == verdict


def close(tau, B=16, accuracy=100.0):
    taus = numpy.array([0.0, tau, tau, tau, 1.0])
    return outcome([seed(accuracy=accuracy, tau_B=taus)] * 3, B=B)


@pytest.mark.parametrize(
    "found, verdict",
    [
        ([close(0.09), close(0.05, B=4)], "holds"),
        ([close(0.11), close(0.5, B=4)], "fails"),
        ([close(0.09), close(0.5, B=4)], "mixed"),
        ([close(0.09, accuracy=10.0)], "not decided"),
        ([close(0.0, B=128)], "not decided"),  # no W has more than 100 singular values
        ([close(0.0, B=128), close(0.5)], "fails"),
    ],
)
def test_W_is_close_to_rank_at_most_B(found, verdict):
    """The median, so that a matrix at either end changes nothing."""
    assert settings.close_to_rank_B.judge(found)["holds"] == verdict


def test_every_seed_must_be_close_to_rank_B():
    found = close(0.05)
    found.seeds[1] = seed(tau_B=numpy.full(5, 0.2))
    numbers = settings.close_to_rank_B.judge([found])
    assert numbers["holds"] == "fails" and numbers["tau"] == "0.05 to 0.2 at B = 16"


# Figure 1.


def moving(distance, lam, norm=1e-9, **fields):
    """A network of 390 steps an epoch, eta = 0.1, whose W moves by `distance` in the last epoch."""
    made = seed(distance=numpy.array([NAN, 1.0, distance]), norm=numpy.full(3, norm))
    return outcome([made] * 2, lam=lam, dataset="mnist", m=50_000, eta=0.1, **fields)


@pytest.mark.parametrize(
    "distances, verdict",
    [
        ((500.0,), "holds"),
        ((50.0,), "fails"),
        ((500.0, 50.0), "mixed"),
        ((500.0, 500.0, 50.0), "mixed"),
        ((), "not decided"),
    ],
)
def test_d_is_orders_of_magnitude_lower_without_decay(distances, verdict):
    found = [moving(1.0, 0.0)] + [moving(d, 1e-5 * (1 + i)) for i, d in enumerate(distances)]
    assert convergence.far_smaller_without_decay.judge(found)["holds"] == verdict


def test_where_decay_alone_moves_W_nothing_is_decided():
    """The drift is 2 * 0.1 * 1e-3 * 390 * ||W||. Fault: d over d at lambda = 0 alone, which is 500 times."""
    lam, steps = 1e-3, 50_000 // 128
    per_norm = 2 * 0.1 * lam * steps
    for times, verdict in ((2.9, "not decided"), (3.1, "holds")):
        found = [moving(1.0, 0.0), moving(500.0, lam, norm=500 / times / per_norm)]
        numbers = convergence.far_smaller_without_decay.judge(found)
        assert numbers["holds"] == verdict
        assert numbers["ratios"] == f"500 and {times} times at λ = 1e-3"


def test_where_most_settings_move_by_decay_alone_the_claim_does_not_hold():
    drifting = [moving(500.0, 1e-3 * (1 + i), norm=1e6) for i in range(3)]
    found = [moving(1.0, 0.0), *drifting]
    assert convergence.far_smaller_without_decay.judge(found)["holds"] == "not decided"
    found.append(moving(500.0, 1e-5))
    assert convergence.far_smaller_without_decay.judge(found)["holds"] == "mixed"


def test_d_is_compared_on_the_same_data_and_loss_and_only_where_both_have_learned():
    other = moving(1.0, 0.0, loss="mean_squared_error")
    assert convergence.far_smaller_without_decay.judge([other, moving(500.0, 1e-5)])["holds"] == "not decided"
    found = [moving(1.0, 0.0), moving(500.0, 1e-5)]
    found[0].seeds[0]["train_accuracy"][-1] = 10.0
    assert convergence.far_smaller_without_decay.judge(found)["holds"] == "not decided"


def decayed(kept, rank=0.0, guarded=0.0, lams=(1e-4, 1e-3)):
    """CIFAR-10, cross-entropy: for each lambda what is kept of ||W||, and the final ranks."""
    found = []
    for lam, share in zip(lams, kept):
        made = seed(rank, 10.0)
        made["rank_guarded"] = numpy.array([100.0, 95.0, guarded])
        made["layer_norm_kept"] = numpy.array([0.0, share])
        found.append(outcome([made] * 2, lam=lam))
    return found


@pytest.mark.parametrize(
    "found, verdict",
    [
        (decayed((1e-9, 1e-9)), "holds"),
        (decayed((0.5, 2e-3)), "fails"),  # one W that is left is enough
        (decayed((0.5, 1e-9)), "mixed"),
        (decayed((1e-9,)), "not decided"),
        (decayed((1e-9, 1e-9), lams=(0.0, 1e-6)), "not decided"),
    ],
)
def test_W_goes_to_zero(found, verdict):
    assert convergence.goes_to_zero.judge(found)["holds"] == verdict


@pytest.mark.parametrize(
    "found, verdict",
    [
        (decayed((1e-9, 1e-9)), "holds"),
        (decayed((1e-9, 1e-9), rank=90.0, guarded=90.0), "fails"),
        (decayed((1e-9, 1e-9), rank=90.0), "not decided"),  # the readings differ
        (decayed((0.5, 0.5)), "not decided"),  # W has not gone to zero
    ],
)
def test_the_rank_of_what_has_gone_to_zero(found, verdict):
    assert convergence.has_rank_zero.judge(found)["holds"] == verdict


# Figures 6 and 7.


def layered(*ranks, accuracy=100.0, network="MLP-BN-10-100"):
    """A setting whose seeds end at these ranks by layer."""
    seeds = [seed(accuracy=accuracy, layer_rank=numpy.array(r, dtype="float64")) for r in ranks]
    return outcome(seeds, network=network)


LOWER = [90, 70, 30, 70, 90, 10]  # the output matrix is the last
LEVEL = [30, 30, 30, 30, 30, 10]
HIGHER = [30, 70, 90, 70, 30, 10]
FULL = [95, 90, 85, 90, 95, 10]


@pytest.mark.parametrize(
    "found, verdict",
    [
        ([LOWER] * 3, "holds"),
        ([LOWER] * 2 + [HIGHER], "holds"),
        ([LOWER] * 2 + [LEVEL] * 2, "mixed"),
        ([LOWER] + [HIGHER] * 2, "fails"),
        ([HIGHER] * 3, "fails"),
        ([LEVEL] * 3, "fails"),
        ([LOWER] * 2 + [FULL] * 9, "not decided"),  # the rank constraint isn't active in nine
        ([[90, 70, 66, 70, 71, 10]] * 3, "holds"),  # 5 below the lower end
        ([[90, 70, 67, 70, 71, 10]] * 3, "fails"),  # 4 below
    ],
)
def test_the_bottleneck(found, verdict):
    assert layers.bottleneck.judge([layered(ranks, ranks) for ranks in found])["holds"] == verdict


def test_a_bottleneck_must_be_there_in_every_seed_of_a_network_that_has_learned():
    found = [layered(LOWER, LOWER, HIGHER)] * 3
    assert layers.bottleneck.judge(found)["holds"] == "fails"
    found = [layered(LOWER, accuracy=10.0)] * 3
    assert layers.bottleneck.judge(found)["holds"] == "not decided"
    found = [layered(LOWER, FULL)] * 3  # active in one seed only
    assert layers.bottleneck.judge(found)["holds"] == "not decided"


def test_ranks_are_measured_by_the_width_of_the_network_that_was_trained():
    """Of 500, 90 and 66 are 4.8 % apart. Fault: the paper's width, or 100."""
    narrow = [layered([90, 70, 66, 70, 90, 10], network="MLP-BN-5-100")] * 3
    wide = [layered([90, 70, 66, 70, 90, 10], network="MLP-BN-5-500")] * 3
    assert layers.bottleneck.judge(narrow)["holds"] == "holds"
    assert layers.bottleneck.judge(wide)["holds"] == "fails"


def blocks(*pairs):
    """Ranks by layer of a residual network with these pairs in its blocks."""
    return [100, *(rank for pair in pairs for rank in pair), 10]


WITHIN = blocks((30, 31), (50, 50), (70, 68))  # equal within blocks, not across
ACROSS = blocks((40, 60), (60, 40), (50, 50))  # across, not within
EQUAL = blocks((50, 50), (50, 50), (50, 50))
UNEQUAL = blocks((20, 60), (60, 90), (10, 90))
FAR = blocks((10, 20), (50, 60), (90, 100))  # closer within than between blocks, yet 10 apart
NOISE = blocks((50, 53), (53, 50), (50, 54))  # within 5 of each other, but as much between blocks


@pytest.mark.parametrize(
    "ranks, within, across",
    [
        (WITHIN, "holds", "fails"),
        (ACROSS, "fails", "holds"),
        (EQUAL, "holds", "holds"),
        (UNEQUAL, "fails", "fails"),
        (FAR, "fails", "fails"),
        (NOISE, "fails", "holds"),
        (blocks((90, 90), (80, 80), (95, 95)), "not decided", "not decided"),  # not active
    ],
)
def test_equal_ranks_within_blocks_and_across(ranks, within, across):
    found = [layered(ranks, ranks, network="RES-BN-3-100")] * 3
    assert layers.equal_within_blocks.judge(found)["holds"] == within
    assert layers.equal_across_blocks.judge(found)["holds"] == across
    assert layers.equal_within_blocks.judge(found[:2])["holds"] == "not decided"
    assert layers.equal_across_blocks.judge(found[:2])["holds"] == "not decided"


def test_equal_ranks_must_be_there_in_every_seed_and_a_half_of_the_settings_is_mixed():
    of_every_seed, of_one = layered(WITHIN, WITHIN), layered(WITHIN, UNEQUAL)
    judge = layers.equal_within_blocks.judge
    assert judge([of_every_seed] * 3)["holds"] == "holds" and judge([of_one] * 3)["holds"] == "fails"
    assert judge([of_every_seed] * 2 + [of_one] * 2)["holds"] == "mixed"
    of_every_seed, of_one = layered(EQUAL, ACROSS), layered(EQUAL, UNEQUAL)
    judge = layers.equal_across_blocks.judge
    assert judge([of_every_seed] * 2 + [of_one] * 2)["holds"] == "mixed"
