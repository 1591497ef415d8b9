"""Made-up settings make every judge say each of its words; a made-up store fills the page."""

import csv
import itertools

import numpy
import pytest

from experiments import claims, judges, trends
from experiments.figures import CELLS, Experiment
from experiments.judges import Setting
from experiments.runs import Run

BATCHES = (4, 8, 16, 32, 64, 128)
ETAS = (0.001, 0.01, 0.1)
LAMBDAS = (0.0, 1e-4, 2e-4, 4e-4, 8e-4, 6e-3)


def made_up(rank=90.0, accuracy=100.0, **given):
    """The history of a run whose full rank is 100, that ends at this rank and train accuracy."""
    made = {
        "epoch": numpy.array([0.0, 60.0, 100.0]),
        "train_loss": numpy.array([2.3, 0.05, 0.05]),
        "train_accuracy": numpy.array([10.0, accuracy, accuracy]),
        "rank": numpy.array([100.0, 95.0, rank]),
        "rank_from_start": numpy.array([100.0, 95.0, rank]),
        "full_rank": 100.0,
        "norm": numpy.ones(3),
        "distance": numpy.ones(3),
        "layer_rank": numpy.full(11, 90.0),
        "layer_norm_kept": numpy.ones(11),
        "tau_B": numpy.ones((11, 2)),
        "diverged": False,
        "collapsed": False,
    }
    return made | given


def ending(ranks, accuracy=100.0, **fields):
    """The Setting whose seeds end at these ranks."""
    return Setting(Run(epochs=100, **fields), [made_up(rank, accuracy) for rank in ranks])


def around(rank):
    return (rank - 0.5, rank, rank + 0.5)


def word(judge, settings, *more):
    return judge(settings, *more)[0]


# Trends.


def grid(change, accuracy=lambda B, eta: 100.0, seeds=3):
    """Figure 2, with ranks of 50 and more by `change` with each doubling of B, for each eta."""
    found = []
    for (eta, step), (place, B) in itertools.product(zip(ETAS, change), enumerate(BATCHES)):
        ranks = [50 + step * place + seed / 10 for seed in range(seeds)]
        found.append(ending(ranks, accuracy(B, eta), B=B, eta=eta))
    return found


def dies_above(eta_alive):
    return lambda B, eta: 100.0 if eta <= eta_alive else 10.0


@pytest.mark.parametrize(
    "settings, said",
    [
        (grid((3, 3, 3)), "holds"),
        (grid((3, 3, 0)), "holds"),
        (grid((-3, 0, 0)), "fails"),
        (grid((3, -3, 0)), "mixed"),
        (grid((3, 0, 0)), "mixed"),
        (grid((0, 0, 0)), "not seen"),
        (grid((0.9, 0.9, 0.9)), "not seen"),  # 4.5 % of the full rank
        (grid((3, 0, 0), dies_above(0.01)), "holds"),  # one of two that are eligible
        (grid((3, 3, 3), dies_above(0.001)), "holds"),
        (grid((0, 0, 0), dies_above(0.001)), "not decided"),
        (grid((3, 3, 3), dies_above(0)), "not decided"),
        (grid((3, 3, 3), seeds=2), "not decided"),
    ],
)
def test_smaller_B_lower_rank(settings, said):
    assert word(trends.smaller_B_lower_rank, settings) == said


def test_a_trend_is_measured_over_the_range_that_has_learned():
    """2 a doubling over three of six values are 4. Fault: the whole range, where they are 10."""
    column = grid((2, 2, 2), lambda B, eta: 100.0 if B >= 32 else 10.0)
    verdict, measured = trends.smaller_B_lower_rank(column)
    assert verdict == "not seen" and "+4.0 %" in measured
    assert word(trends.smaller_B_lower_rank, grid((2, 2, 2))) == "holds"


def test_a_column_needs_three_values_that_learned_in_every_seed():
    column = [setting for setting in grid((3, 3, 3)) if setting.run.B >= 32]
    assert word(trends.smaller_B_lower_rank, column) == "holds"
    for setting in column:
        if setting.run.B == 32:
            setting.seeds[1]["train_accuracy"][-1] = 49.0
    assert word(trends.smaller_B_lower_rank, column) == "not decided"


@pytest.mark.parametrize(
    "judge, field, values, rising",
    [
        (trends.smaller_B_lower_rank, "B", BATCHES, "holds"),
        (trends.larger_eta_lower_rank, "eta", ETAS, "fails"),
        (trends.larger_lambda_lower_rank, "lam", LAMBDAS, "fails"),
    ],
)
def test_the_direction_of_every_trend_of_ranks(judge, field, values, rising):
    falling = {"holds": "fails", "fails": "holds"}[rising]
    for step, said in ((8, rising), (-8, falling)):
        ranks = [around(50 + step * place) for place in range(len(values))]
        settings = [ending(rank, **{field: value}) for rank, value in zip(ranks, values)]
        assert word(judge, settings) == said


def test_larger_eta_trains_worse_by_the_accuracy_and_not_by_the_rank():
    for accuracies, said in (((99, 90, 80), "holds"), ((80, 90, 99), "fails")):
        found = [ending((90, 91, 92), accuracy, eta=eta) for eta, accuracy in zip(ETAS, accuracies)]
        assert word(trends.larger_eta_worse_training, found) == said


@pytest.mark.parametrize(
    "most, said",
    [
        ((0, 0.001, 0.01, 0.01, 0.1, 0.1), "holds"),
        ((0.1, 0.1, 0.01, 0.01, 0.001, 0), "fails"),
        ((0.01, 0.01, 0.1, 0.01, 0.01, 0.1), "not seen"),
        ((0, 0, 0, 0.1, 0.1, 0.1), "not seen"),  # p = 0.1: two of 20 orders
        ((0, 0, 0.01, 0.01, 0.1, 0.1), "holds"),  # two of 90
    ],
)
def test_smaller_B_needs_smaller_eta(most, said):
    """For each B, up to which eta every seed learns; beyond, one dies."""
    settings = grid((0, 0, 0))
    for setting in settings:
        if setting.run.eta > most[BATCHES.index(setting.run.B)]:
            setting.seeds[1]["train_accuracy"][-1] = 10.0
    assert word(trends.smaller_B_needs_smaller_eta, settings) == said
    two_seeds = [setting._replace(seeds=setting.seeds[:2]) for setting in settings]
    assert word(trends.smaller_B_needs_smaller_eta, two_seeds) == "not decided"


# The control.


@pytest.mark.parametrize(
    "ranks, others, said",
    [
        ((80, 81, 82), (90, 91, 92), "below"),
        ((99, 98, 97), (90, 91, 92), "above"),
        ((86, 87, 88), (90, 91, 92), "like"),  # less than 5 apart
        ((60, 70, 81), (80, 90, 100), "like"),  # the ranges overlap
        ((82, 82, 91), (90, 99, 99), "like"),  # they do, though the means are further apart
        ((80, 85, 90), (91, 92, 99), "like"),  # they don't, but one is as wide as the gap
    ],
)
def test_ranks_differ_beyond_both_ranges_and_a_twentieth_of_the_full_rank(ranks, others, said):
    assert trends.compared(ranks, others) == said


def measured_at(epoch, ranks, accuracy=100.0, **fields):
    """A Setting with these ranks and this accuracy at one epoch; the last epoch misleads."""
    seeds = []
    for rank in ranks:
        made = made_up(epoch=numpy.array([0.0, epoch, 100.0]), rank=200.0)
        made["rank"][1], made["train_accuracy"][1] = rank, accuracy
        seeds.append(made)
    return Setting(Run(**fields), seeds)


def pair(small, large=90, B=(32, 64), eta=0.1, epoch=30.0, accuracy=100.0):
    """Two settings at equal steps."""
    b = measured_at(epoch, around(small), accuracy, B=B[0], eta=eta)
    return [b, measured_at(60.0, around(large), B=B[1], eta=eta)]


def pairs(*small):
    """As many pairs, each at its own eta; the larger batch has rank 90."""
    return [one for i, rank in enumerate(small) for one in pair(rank, eta=0.1 + i / 10)]


@pytest.mark.parametrize(
    "small, said",
    [
        ((60, 60, 60), "holds"),
        ((60, 60, 90, 90), "holds"),
        ((99, 99, 90, 90), "fails"),
        ((60, 60, 99), "mixed"),
        ((60, 90, 90), "mixed"),
        ((99, 90, 90), "mixed"),
        ((90, 90, 90), "not seen"),
        ((60, 60), "not decided"),
    ],
)
def test_smaller_B_lower_rank_at_equal_steps(small, said):
    assert word(trends.smaller_B_lower_rank_at_equal_steps, pairs(*small)) == said


@pytest.mark.parametrize(
    "settings",
    [
        pair(60, epoch=25.0),  # not measured where the steps are equal
        pair(60, epoch=15.0),
        pair(60, accuracy=19.0),
        pair(60, eta=0.01),  # E = 4.7
        [pair(60)[0], pair(60, eta=0.2)[1]],
        [setting._replace(seeds=setting.seeds[:2]) for setting in pair(60)],
    ],
)
def test_a_pair_counts_at_equal_steps_with_enough_decay_accuracy_and_seeds(settings):
    """Fault: any of these conditions dropped."""
    judge = trends.smaller_B_lower_rank_at_equal_steps
    assert judge(pair(60))[1].startswith("of 1 pairs 1 are below")
    assert judge(pair(60, B=(16, 64), epoch=15.0))[1].startswith("of 1 pairs 1 are below")
    assert judge(settings)[1].startswith("of 0 pairs")


@pytest.mark.parametrize(
    "ranks, said",
    [
        ({"a": 90, "b": 89, "c": 40}, "steps and budget, not B"),
        ({"a": 90, "b": 89, "c": 91}, "not decided"),  # no trend to carry
        ({"a": 90, "b": 86, "c": 83}, "not decided"),  # c is below a, and like b
        ({"a": 90, "b": 60, "c": 40}, "batch size"),
        ({"a": 80, "b": 95, "c": 40}, "noise raises the rank"),
        ({"a": 90, "d": 88}, "only η / B and E matter"),
        ({"a": 90, "d": 80}, "not decided"),
        ({"a": 80, "b": 90, "c": 40, "e": 91}, "noise raises the rank; E alone"),
        ({"a": 80, "b": 90, "c": 89, "e": 91}, "noise raises the rank"),  # e is like c too
        ({"a": 90, "b": 60, "c": 40, "e": 41}, "batch size"),  # e is like c
    ],
)
def test_what_carries_the_trend(ranks, said):
    settings = [ending(around(rank), **{"eta": 0.05} | CELLS[cell]) for cell, rank in ranks.items()]
    assert word(trends.what_carries_the_trend, settings) == said
    dead = [setting._replace(accuracy=101) for setting in settings]
    assert word(trends.what_carries_the_trend, dead) == "not decided"
    one_seed = [setting._replace(seeds=setting.seeds[:1]) for setting in settings]
    assert word(trends.what_carries_the_trend, one_seed) == "not decided"


# Where rank is lost, and how close W comes to rank B.


def without_decay(relative, from_start, B=16, **fields):
    """Three seeds at lambda = 0 that start at rank 100 and end at these by the two counts."""
    made = made_up(relative, rank_from_start=numpy.array([100.0, 95.0, from_start]))
    return Setting(Run(B=B, **({"lam": 0.0} | fields)), [made] * 3)


@pytest.mark.parametrize(
    "ends, said",
    [
        (((99.5, 99.5), (99.0, 101.0)), "holds"),
        (((99.5, 99.5), (98.0, 99.5)), "fails"),
        (((99.5, 99.5), (99.5, 98.0)), "fails"),  # by the other count alone
        (((99.5, 99.5),), "not decided"),  # one batch size
    ],
)
def test_no_rank_is_lost_without_decay(ends, said):
    settings = [without_decay(*counts, B=B) for counts, B in zip(ends, (16, 32))]
    settings.append(without_decay(5, 5, lam=1e-3))
    settings.append(without_decay(5, 5, B=64)._replace(accuracy=101))  # has not learned
    assert word(judges.no_rank_lost_without_decay, settings) == said


@pytest.mark.parametrize(
    "by_descent, by_sgd, said",
    [
        ((98, 98, 98), {32: (60, 60, 60), 64: (70, 70, 70)}, "holds"),
        ((98, 98, 96.9), {32: (60, 60, 60), 64: (70, 70, 70)}, "mixed"),  # 3.1 of 30
        ((60, 60, 60), {32: (60, 60, 60), 64: (70, 70, 70)}, "fails"),
        ((99, 99, 99), {32: (60, 60, 60), 64: (96, 96, 96)}, "holds"),  # too little
        ((99, 99, 99), {64: (96, 96, 96)}, "not decided"),
        ((98, 98, 98), {}, "not decided"),
    ],
)
def test_gradient_descent_keeps_the_rank(by_descent, by_sgd, said):
    settings = [ending(by_descent, B=5000, m=5000)]
    settings += [ending(ranks, B=B, m=5000) for B, ranks in by_sgd.items()]
    judge = judges.gradient_descent_keeps_the_rank
    assert word(judge, settings) == said
    unlearned = settings[0]._replace(accuracy=101)
    assert word(judge, [unlearned, *settings[1:]]) == "not decided"


def close(end, B=32, **fields):
    """Two matrices lie far from rank B and nine at this distance, in the last of three seeds."""
    tau = numpy.full((11, 2), 0.5)
    tau[2:, 1] = end
    seeds = [made_up(tau_B=numpy.zeros((11, 2)))] * 2 + [made_up(tau_B=tau)]
    return Setting(Run(B=B, **fields), seeds)


@pytest.mark.parametrize(
    "ends, said",
    [
        ((0.09, 0.09, 0.5), "holds"),
        ((0.09, 0.09, 0.5, 0.5), "mixed"),
        ((0.09, 0.11, 0.11), "fails"),
        ((0.09, 0.09), "not decided"),
    ],
)
def test_W_is_close_to_rank_at_most_B(ends, said):
    """Those at B = 64 of 100, with E = 3.5, or not learned say nothing."""
    others = [close(0.0, B=64), close(0.0, eta=0.002), close(0.0)._replace(accuracy=101)]
    assert word(judges.close_to_rank_B, [close(end) for end in ends] + others) == said


def test_tau_B_is_the_distance_to_the_nearest_matrix_of_rank_B(rng):
    """By the SVD, at the start and at the end; a W with at most B singular values is left out."""
    weights = rng.normal(size=(3, 6, 8))
    s = numpy.linalg.svd(weights, compute_uv=False)
    arrays = {"epoch": numpy.arange(3.0), "spectrum 2-1": s, "spectrum 3-2": s[:, :4]}
    expected = []
    for W in weights[[0, -1]]:
        left, values, right = numpy.linalg.svd(W)
        nearest = left[:, :4] @ numpy.diag(values[:4]) @ right[:4]
        expected.append(numpy.linalg.norm(W - nearest) / numpy.linalg.norm(W))
    numpy.testing.assert_allclose(claims.tau_B(arrays, 4), [expected])


# Figure 1.


def moving(d, lam, drifts=10.0, dataset="mnist", **given):
    """Two seeds whose W move by d in the last epoch, so many times as far as by decay alone."""
    run = Run(network="MLP-5-200", dataset=dataset, lam=lam, epochs=100, milestones=(), momentum=0)
    norm = d / drifts / (2 * run.eta * lam * run.steps()) if lam else 1.0
    late = {"epoch": numpy.array([0.0, 80.0, 100.0]), "distance": numpy.array([numpy.nan, d, d])}
    return Setting(run, [made_up(norm=numpy.full(3, norm), **(late | given))] * 2)


@pytest.mark.parametrize(
    "settings, said",
    [
        ([moving(500, 1e-5)], "holds"),
        ([moving(50, 1e-5)], "fails"),
        ([moving(500, 1e-5), moving(50, 1e-4)], "mixed"),
        ([moving(500, 1e-5), *[moving(500, 1e-4, drifts=2.9)] * 2], "mixed"),
        ([moving(500, 1e-5, drifts=2.9)], "not decided"),  # decay alone moves W
        ([moving(500, 1e-5, dataset="cifar10")], "not decided"),  # nothing to compare with
        ([], "not decided"),
    ],
)
def test_d_is_orders_of_magnitude_smaller_without_decay(settings, said):
    judge = judges.far_smaller_without_decay
    assert word(judge, [moving(1, 0.0), *settings]) == said
    assert word(judge, [moving(1, 0.0)._replace(accuracy=101), *settings]) == "not decided"


UNSETTLED = {"train_loss": numpy.array([2.3, 0.06, 0.045])}
RISING = {"train_accuracy": numpy.array([10.0, 90.0, 93.0])}
FALLING = {"distance": numpy.array([numpy.nan, 5000.0, 500.0])}


@pytest.mark.parametrize(
    "settings, said",
    [
        ([moving(11, 1e-5)], "holds"),
        ([moving(9, 1e-5)], "fails"),  # hardly more than without decay
        ([moving(500, 1e-5, **FALLING)], "fails"),
        ([moving(11, 1e-5), moving(9, 1e-4)], "mixed"),
        ([moving(11, 1e-5, drifts=2.9)], "not decided"),
        ([moving(11, 1e-5, **UNSETTLED)], "not decided"),
        ([moving(11, 1e-5, **RISING)], "not decided"),
    ],
)
def test_W_does_not_converge(settings, said):
    assert word(judges.does_not_converge, [moving(1, 0.0), *settings]) == said


def decayed(kept, rank=0.0, lams=(1e-4, 1e-3), epochs=2000):
    """CIFAR-10: for each lambda what is kept of ||W||, and the final rank."""
    options = {"network": "MLP-5-200", "momentum": 0.0, "milestones": (), "epochs": epochs}
    seeds = [[made_up(rank, 10.0, layer_norm_kept=numpy.array([0.0, share]))] * 2 for share in kept]
    return [Setting(Run(lam=lam, **options), made) for lam, made in zip(lams, seeds)]


@pytest.mark.parametrize(
    "settings, gone, rank_zero",
    [
        (decayed((1e-9, 1e-9)), "holds", "holds"),
        (decayed((1e-9, 1e-9), rank=90.0), "holds", "fails"),
        (decayed((0.5, 2e-3)), "fails", "not decided"),  # one W that is left is enough
        (decayed((0.5, 1e-9)), "mixed", "holds"),
        (decayed((1e-9, 1e-9), epochs=100), "not decided", "not decided"),
        (decayed((1e-9, 1e-9), lams=(1e-6, 1e-4)), "not decided", "not decided"),
    ],
)
def test_W_goes_to_zero_and_its_rank_is_zero(settings, gone, rank_zero):
    assert word(judges.goes_to_zero, settings) == gone
    assert word(judges.has_rank_zero, settings) == rank_zero


# Ranks by layer.


def layered(*ranks, network="MLP-BN-10-100"):
    """A setting whose seeds end at these ranks by layer."""
    seeds = [made_up(layer_rank=numpy.array(of_seed, dtype="float64")) for of_seed in ranks]
    return Setting(Run(network=network), seeds)


LOWER = [90, 70, 30, 70, 90, 10]  # the output matrix is the last
LEVEL = [30, 30, 30, 30, 30, 10]
FULL = [95, 90, 85, 90, 95, 10]
WAVY = [90, 60, 63, 30, 90, 10]  # rises by 3 on the way down


@pytest.mark.parametrize(
    "settings, said",
    [
        ([LOWER, LOWER, LEVEL], "holds"),
        ([LOWER, LOWER, LEVEL, LEVEL], "mixed"),
        ([LOWER, LEVEL, LEVEL], "fails"),
        ([LOWER, LOWER, FULL, FULL], "not decided"),  # in two the rank is not constrained
        ([[90, 70, 66, 70, 71, 10]] * 3, "holds"),  # 5 below the lower end
        ([[90, 70, 67, 70, 71, 10]] * 3, "fails"),
        ([WAVY] * 3, "fails"),
        ([[90, 61, 63, 30, 90, 10]] * 3, "holds"),  # by 2
        ([[90, 30, 60, 57, 90, 10]] * 3, "fails"),  # falls on the way up
    ],
)
def test_the_bottleneck(settings, said):
    assert word(judges.bottleneck, [layered(ranks, ranks) for ranks in settings]) == said
    one_seed_differs = [layered(ranks, LEVEL) for ranks in settings]
    assert word(judges.bottleneck, one_seed_differs) in ("fails", "not decided")
    unlearned = [layered(ranks)._replace(accuracy=101) for ranks in settings]
    assert word(judges.bottleneck, unlearned) == "not decided"


def test_ranks_by_layer_are_in_percent_of_the_width():
    """Of 500, 90 and 66 are 4.8 % apart."""
    of_500 = [layered([90, 70, 66, 70, 90, 10], network="MLP-BN-5-500")] * 3
    assert word(judges.bottleneck, of_500) == "fails"


def blocks(*pairs):
    """Ranks by layer of a residual network with these pairs in its blocks."""
    return [100, *(rank for pair in pairs for rank in pair), 10]


WITHIN = blocks((30, 31), (50, 50), (70, 68))


@pytest.mark.parametrize(
    "ranks, within, across",
    [
        (WITHIN, "holds", "fails"),
        (blocks((40, 60), (60, 40), (50, 50)), "fails", "holds"),
        (blocks((50, 50), (50, 50), (50, 50)), "holds", "holds"),
        (blocks((40, 40), (50, 50), (45, 45)), "holds", "fails"),  # 6.7 apart
        (blocks((10, 20), (50, 60), (90, 100)), "fails", "fails"),  # 10 apart
        (blocks((50, 53), (53, 50), (50, 54)), "fails", "holds"),  # within 5, as much as between
        (blocks((90, 90), (80, 80), (95, 95)), "not decided", "not decided"),  # not constrained
    ],
)
def test_equal_ranks_within_and_across_blocks(ranks, within, across):
    settings = [layered(ranks, ranks, network="RES-BN-3-100")] * 3
    assert word(judges.equal_within_blocks, settings) == within
    assert word(judges.equal_across_blocks, settings) == across
    assert word(judges.equal_within_blocks, settings[:2]) == "not decided"


def test_equal_ranks_in_half_of_the_settings_are_mixed_and_every_seed_counts():
    judge = judges.equal_within_blocks
    equal = layered(WITHIN, WITHIN, network="RES-BN-3-100")
    in_one = layered(WITHIN, blocks((20, 60), (60, 90), (10, 90)), network="RES-BN-3-100")
    assert word(judge, [equal] * 2 + [in_one] * 2) == "mixed"
    assert word(judge, [in_one] * 3) == "fails"


# Verdicts from stored runs, and the page.


def stored(run):
    """(meta, arrays) of a finished run: rank is lost with smaller B, at tol 1e-2 all but 10 %."""
    graph = run.graph()
    names = ("distance", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
    arrays = {"epoch": numpy.array([0.0, 15.0, 30.0, 60.0, 100.0])}
    arrays |= {name: numpy.ones(5) for name in names}
    for p, q in graph.E_T:
        r = min(graph.width(p), graph.width(q))
        arrays[f"spectrum {p}-{q}"] = s = numpy.ones((5, r))
        s[1:, r // 10 :] = 5e-3
        s[1:, r // 2 + r * BATCHES.index(run.B) // 20 :] = 1e-5
    return {"status": "finished"}, arrays


def judged(lacking=lambda run: False, preset="night"):
    """Found, and {(judge, place, variant): Finding}; true gradients are there but `lacking`."""
    names = ("fig2", "fig2-true", "fig6-true", "fig3")

    def read(run):
        is_there = not run.detached and run.scalar and not lacking(run)
        return stored(run) if is_there else None

    found = claims.judge({name: Experiment(name, preset) for name in names}, read)
    findings = {}
    for claim, by_variant in found.rows:
        for variant, finding in by_variant.items():
            findings[claim.judge, claim.place, variant] = finding
    return found, findings


@pytest.fixture(scope="module")
def whole():
    return judged()


TREND = trends.smaller_B_lower_rank, "fig2", "true gradient"
PAIRS = trends.smaller_B_lower_rank_at_equal_steps, "fig2, fig6", "true gradient"


def test_a_claim_is_judged_from_whole_seeds_and_says_what_is_missing(whole):
    _, findings = whole
    assert findings[TREND].verdict == "holds" and findings[TREND].otherwise == "tol 1e-2: not seen"
    assert findings[PAIRS].verdict == "holds" and not findings[PAIRS].seeds
    assert findings[PAIRS].runs == 81  # what two figures share counts once
    assert findings[TREND[0], "fig2", "the memo's text"] == claims.Finding("not run", 0, 54)
    _, findings = judged(lambda run: run.seed == 2 and (run.B, run.eta) == (4, 0.1))
    assert findings[TREND][:4] == ("not decided", 53, 54, "2 of 3 seeds")
    assert findings[PAIRS].verdict == "not decided" and "so far holds" in findings[PAIRS].measured
    _, findings = judged(lambda run: run.B == 4)
    assert findings[TREND] == claims.Finding("not decided", 45, 54)


def test_figure_3_of_the_memo_s_text_is_judged_at_a_smaller_eta():
    asked = set()
    names = ("fig2", "fig3", "fig3-true")
    claims.judge({name: Experiment(name, "night") for name in names}, asked.add)
    of_figure_3 = {(run.detached, run.eta) for run in asked if run.lam == 6e-3}
    assert of_figure_3 == {(True, 0.01), (False, 0.1)}


def test_few_epochs_and_smoke_decide_nothing():
    _, findings = judged(preset="quick")
    assert findings[TREND].verdict == "too early"
    assert findings[judges.bottleneck, "fig6", "true gradient"].verdict == "not seen"
    words = {finding.verdict for finding in judged(preset="smoke")[1].values()}
    assert words == {"says nothing", "not run"}


def test_the_page_has_a_line_for_every_claim_and_the_csv_a_row_for_every_verdict(whole, tmp_path):
    found, findings = whole
    page, table = claims.write(found, tmp_path)
    assert (page.name, table.name) == ("claims-night.md", "claims-night.csv")
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == [finding.verdict for finding in findings.values()]
    text = page.read_text(encoding="utf-8")
    lines = [line.split(" | ") for line in text.split("##")[0].splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(claims.CLAIMS)
    assert lines[2][4] == "**holds**" and lines[2][3] == "not run"
    for words in {claim.words for claim in claims.CLAIMS}:
        assert text.count(f"## {words}\n\nRule: ") == 1


def test_every_judge_is_undecided_by_nothing_and_by_networks_that_died():
    died = {"train_accuracy": numpy.full(3, 10.0), "train_loss": numpy.full(3, numpy.nan)}
    run = Run(network="RES-BN-5-100", dataset="mnist", lam=1e-6)
    lost = made_up(numpy.nan, layer_rank=numpy.full(12, numpy.nan), collapsed=True, **died)
    for claim in claims.CLAIMS:
        assert word(claim.judge, [Setting(run, [lost] * 3)]) == "not decided"


# Tables without any effect, of the sizes of the figures: a claim holds and fails in 5 % at most.


def shares(judge, tables):
    """{verdict: its share of the tables}."""
    said = [judge(table)[0] for table in tables]
    return {verdict: said.count(verdict) / len(said) for verdict in (*said, "holds", "fails")}


def tables_without_effect(settings, rng, learn=1.0, number=150, **given):
    """Ranks at three epochs that depend on the run alone; `learn` is the share that learns."""
    for _ in range(number):
        table = []
        for setting in settings:
            accuracy = numpy.full(3, 100.0 if rng.uniform() < learn else 10.0)
            ranks = rng.normal(50, 20, (3, 1)) + rng.normal(0, 3, (3, 3)).round(1)
            changed = {"train_accuracy": accuracy} | given
            seeds = [setting.seeds[0] | changed | {"rank": of_seed} for of_seed in ranks]
            table.append(setting._replace(seeds=seeds))
        yield table


FIG2 = [ending(around(50), B=B, eta=eta) for eta in ETAS for B in BATCHES]
FIG6 = [ending(around(50), B=B, eta=eta) for eta in (0.0125, 0.025, 0.05) for B in BATCHES[3:]]
FIG3 = [ending(around(50), B=B, lam=lam) for B in BATCHES[2:] for lam in LAMBDAS]


@pytest.mark.parametrize(
    "settings, field, by, learn",
    [(FIG2, "B", "eta", 1.0), (FIG2 + FIG6, "eta", "B", 1.0), (FIG3, "lam", "B", 0.7)],
)
def test_without_an_effect_a_trend_is_not_seen(settings, field, by, learn, rng):
    """Faults: without p or without Holm's correction, 6 to 25 % of the tables fail."""
    tables = tables_without_effect(settings, rng, learn)
    said = shares(lambda table: trends.trend(table, field, by, 1, permutations=200), tables)
    assert max(said["holds"], said["fails"]) <= 0.05 and said["not seen"] > 0.85


def test_without_an_effect_smaller_B_needs_no_smaller_eta(rng):
    """Fault: any positive tau-b holds."""
    said = shares(trends.smaller_B_needs_smaller_eta, tables_without_effect(FIG2, rng, learn=0.6))
    assert max(said["holds"], said["fails"]) <= 0.05


def test_without_an_effect_batches_are_alike_at_equal_steps(rng):
    """Fault: the means alone decide."""
    tables = tables_without_effect(FIG2 + FIG6, rng, epoch=numpy.array([15.0, 30.0, 60.0]))
    said = shares(trends.smaller_B_lower_rank_at_equal_steps, tables)
    assert max(said["holds"], said["fails"]) <= 0.05 and "not decided" not in said


@pytest.mark.parametrize(
    "judge, network, matrices",
    [
        (judges.bottleneck, "MLP-BN-10-100", 11),
        (judges.equal_within_blocks, "RES-BN-5-100", 12),
        (judges.equal_across_blocks, "RES-BN-5-100", 12),
    ],
)
def test_layers_in_random_order_show_nothing(judge, network, matrices, rng):
    """Three settings of one seed. Fault: reversals ignored: a third of the orders show it."""
    tables = []
    for ranks in rng.uniform(10, 90, (150, 3, matrices)):
        tables.append([layered(order, network=network) for order in ranks])
    assert shares(judge, tables)["holds"] <= 0.05
