"""Made-up settings make every judge say each of its words; a made-up store fills the page."""

import csv
import itertools

import numpy
import pytest

from experiments import claims, judges, trends
from experiments.figures import CELLS, FIGURES, Experiment
from experiments.judges import Setting
from experiments.runs import Run

BATCHES = (4, 8, 16, 32, 64, 128)
ETAS = (0.001, 0.01, 0.1)
LAMBDAS = (0.0, 1e-4, 2e-4, 4e-4, 8e-4, 6e-3)


def made_up(end=90.0, **given):
    """The history of a run that has learned and ends at this rank, in percent."""
    made = {
        "epoch": numpy.array([0.0, 60.0, 100.0]),
        "train_loss": numpy.array([2.3, 0.05, 0.05]),
        "train_accuracy": numpy.array([10.0, 100.0, 100.0]),
        "rank": numpy.array([100.0, 95.0, end]),
        "rank_from_start": numpy.array([100.0, 95.0, end]),
        "norm": numpy.ones(3),
        "distance": numpy.ones(3),
        "layer_rank": numpy.full(11, 90.0),
        "layer_norm_kept": numpy.ones(11),
        "tau_B": numpy.ones(3),
        "learned": True,
    }
    return made | given


def ending(ranks, **fields):
    """The Setting whose seeds end at these ranks."""
    return Setting(Run(epochs=100, **fields), [made_up(rank) for rank in ranks])


def around(rank):
    return (rank - 0.5, rank, rank + 0.5)


def unlearned(setting):
    """The same but for its second seed, which has not learned."""
    seeds = list(setting.histories)
    seeds[1] = seeds[1] | {"learned": False}
    return setting._replace(histories=seeds)


def word(judge, settings):
    return judge(settings)[0]


# Trends.


def grid(change=(0, 0, 0), learns=lambda B, eta: True, seeds=3):
    """Figure 2, with ranks of 50 and more by `change` with each doubling of B, for each eta."""
    found = []
    for (eta, step), (place, B) in itertools.product(zip(ETAS, change), enumerate(BATCHES)):
        setting = ending([50 + step * place + seed / 10 for seed in range(seeds)], B=B, eta=eta)
        found.append(setting if learns(B, eta) else unlearned(setting))
    return found


def learns_to(most):
    return lambda B, eta: eta <= most


@pytest.mark.parametrize(
    "settings, said",
    [
        (grid((3, 3, 0)), "holds"),
        (grid((-3, 0, 0)), "fails"),
        (grid((3, -3, 0)), "mixed"),
        (grid((3, 0, 0)), "mixed"),
        (grid((0, 0, 0)), "not seen"),
        (grid((0.9, 0.9, 0.9)), "not seen"),  # 4.5 % of the full rank
        (grid((2, 2, 2)), "holds"),
        (grid((2, 2, 2), lambda B, eta: B >= 32), "not seen"),  # 4 % where it has learned
        (grid((3, 3, 3), lambda B, eta: B >= 32), "holds"),
        (grid((3, 3, 3), lambda B, eta: B >= 64), "not decided"),  # two values have learned
        (grid((3, 0, 0), learns_to(0.01)), "holds"),  # one of two that are eligible
        (grid((0, 0, 0), learns_to(0.001)), "not decided"),
        (grid((3, 3, 3), seeds=2), "not decided"),
    ],
)
def test_smaller_B_lower_rank(settings, said):
    assert word(trends.smaller_B_lower_rank, settings) == said


def test_columns_that_are_not_eligible_count_in_holm_s_correction():
    """p = 0.04 of one in three columns is 0.12. Fault: Holm's correction over the eligible alone."""
    ranks = {4: (50, 52, 62), 8: (57, 58, 70), 16: (65, 66, 75)}
    column = [ending(values, B=B, eta=0.1) for B, values in ranks.items()]
    others = [unlearned(one) for one in grid() if one.run.eta < 0.1]
    assert word(trends.smaller_B_lower_rank, column) == "holds"
    assert word(trends.smaller_B_lower_rank, column + others) == "not decided"


@pytest.mark.parametrize(
    "judge, field, values, measured, other",
    [
        (trends.larger_eta_lower_rank, "eta", ETAS, "rank", "train_accuracy"),
        (trends.larger_lambda_lower_rank, "lam", LAMBDAS, "rank", "train_accuracy"),
        (trends.larger_eta_worse_training, "eta", ETAS, "train_accuracy", "rank"),
    ],
)
def test_the_direction_of_a_trend(judge, field, values, measured, other):
    """Ranks and accuracies go opposite ways. Fault: one for the other, or the wrong sign."""
    for step, said in ((8, "fails"), (-8, "holds")):
        settings = []
        for place, value in enumerate(values):
            numbers = {measured: numpy.full(3, 50 + step * place)}
            numbers[other] = numpy.full(3, 50 - step * place)
            settings.append(Setting(Run(**{field: value}), [made_up(**numbers)] * 3))
        assert word(judge, settings) == said


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
    """For each B, up to which eta every seed learns."""
    for seeds, expected in ((3, said), (2, "not decided")):
        settings = grid(learns=lambda B, eta: eta <= most[BATCHES.index(B)], seeds=seeds)
        assert word(trends.smaller_B_needs_smaller_eta, settings) == expected


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


def pair(small, large=90, B=(32, 64), eta=0.1, epoch=30.0, accuracy=100.0):
    """Two settings with these ranks at equal steps; those at the end mislead."""
    settings = []
    for size, at, rank in ((B[0], epoch, small), (B[1], 60.0, large)):
        seeds = []
        for of_seed in around(rank):
            made = made_up(epoch=numpy.array([0.0, at, 100.0]))
            made["rank"][1] = of_seed
            made["train_accuracy"][1] = accuracy
            seeds.append(made)
        settings.append(Setting(Run(B=size, eta=eta), seeds))
    return settings


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
    """As many pairs, each at its own eta; the larger batch has rank 90."""
    settings = [one for i, rank in enumerate(small) for one in pair(rank, eta=0.1 + i / 10)]
    assert word(trends.lower_rank_at_equal_steps, settings) == said


@pytest.mark.parametrize(
    "settings, number",
    [
        (pair(60), 1),
        (pair(60, B=(16, 64), epoch=15.0), 1),
        (pair(60, epoch=25.0), 0),  # not measured where the steps are equal
        (pair(60, accuracy=19.0), 0),
        (pair(60, eta=0.01), 0),  # E = 4.7
        ([pair(60)[0], pair(60, eta=0.2)[1]], 0),
        ([setting._replace(histories=setting.histories[:2]) for setting in pair(60)], 0),
    ],
)
def test_a_pair_counts_at_equal_steps_with_enough_decay_accuracy_and_seeds(settings, number):
    """Fault: any of these conditions dropped."""
    measured = trends.lower_rank_at_equal_steps(settings)[1]
    assert measured.startswith(f"of {number} pairs {number} are below")


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
    ],
)
def test_what_carries_the_trend(ranks, said):
    judge = trends.what_carries_the_trend
    settings = [ending(around(rank), **{"eta": 0.05} | CELLS[cell]) for cell, rank in ranks.items()]
    assert word(judge, settings) == said
    assert word(judge, [unlearned(setting) for setting in settings]) == "not decided"
    two_seeds = [setting._replace(histories=setting.histories[:2]) for setting in settings]
    assert word(judge, two_seeds) == "not decided"


# Where rank is lost, and how close W comes to rank B.


def without_decay(relative, from_start, B=16, **fields):
    """Three seeds at lambda = 0; the last ends at these by the two counts, from 100."""
    worst = made_up(relative, rank_from_start=numpy.array([100.0, 95.0, from_start]))
    return Setting(Run(B=B, **({"lam": 0.0} | fields)), [made_up(100.0), made_up(100.0), worst])


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
    settings += [without_decay(5, 5, lam=1e-3), unlearned(without_decay(5, 5, B=64))]
    assert word(judges.no_rank_lost_without_decay, settings) == said


@pytest.mark.parametrize(
    "by_descent, by_sgd, said",
    [
        ((98, 98, 98), {32: 60, 64: 70}, "holds"),
        ((98, 98, 96.9), {32: 60, 64: 70}, "mixed"),  # 3.1 of 30
        ((60, 60, 60), {32: 60, 64: 70}, "fails"),
        ((99, 99, 99), {32: 60, 64: 96}, "holds"),  # 4 are too little
        ((99, 99, 99), {64: 96}, "not decided"),
        ((98, 98, 98), {}, "not decided"),
    ],
)
def test_gradient_descent_keeps_the_rank(by_descent, by_sgd, said):
    judge = judges.gradient_descent_keeps_the_rank
    descent = ending(by_descent, B=5000, m=5000)
    others = [ending((rank,) * 3, B=B, m=5000) for B, rank in by_sgd.items()]
    assert word(judge, [descent, *others]) == said
    assert word(judge, [unlearned(descent), *others]) == "not decided"


def close(end, B=32, **fields):
    """A setting of which the last of three seeds ends at this tau_B."""
    near, far = (made_up(tau_B=numpy.array([0.5, 0.5, tau])) for tau in (0.0, end))
    return Setting(Run(B=B, **fields), [near, near, far])


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
    others = [close(0.0, B=64), close(0.0, eta=0.002), unlearned(close(0.0))]
    assert word(judges.close_to_rank_B, [close(end) for end in ends] + others) == said


def test_tau_B_is_the_distance_to_the_nearest_matrix_of_rank_B(rng):
    """By the SVD; the median over the W with more than B singular values."""
    arrays, expected = {"spectrum 2-1": numpy.ones((3, 4))}, []
    for p in range(3):
        weights = rng.normal(size=(3, 6, 8))
        arrays[f"spectrum {p + 3}-2"] = numpy.linalg.svd(weights, compute_uv=False)
        for W in weights:
            left, values, right = numpy.linalg.svd(W)
            nearest = left[:, :4] @ numpy.diag(values[:4]) @ right[:4]
            expected.append(numpy.linalg.norm(W - nearest) / numpy.linalg.norm(W))
    medians = numpy.median(numpy.reshape(expected, (3, 3)), axis=0)
    numpy.testing.assert_allclose(claims.tau_B(arrays, 4), medians)


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
        ([moving(500, 1e-5, drifts=2.9)] * 2, "not decided"),  # decay alone moves W
        ([moving(500, 1e-5, dataset="cifar10")], "not decided"),  # nothing to compare with
    ],
)
def test_d_is_orders_of_magnitude_smaller_without_decay(settings, said):
    judge = judges.far_smaller_without_decay
    assert word(judge, [moving(1, 0.0), *settings]) == said
    assert word(judge, [unlearned(moving(1, 0.0)), *settings]) == "not decided"


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
        ([moving(11, 1e-5, drifts=2.9)] * 2, "not decided"),
        ([moving(11, 1e-5, **UNSETTLED)], "not decided"),
        ([moving(11, 1e-5, **RISING)], "not decided"),
    ],
)
def test_W_does_not_converge(settings, said):
    assert word(judges.does_not_converge, [moving(1, 0.0), *settings]) == said


def decayed(kept, rank=0.0, lams=(1e-4, 1e-3), epochs=2000):
    """CIFAR-10: for each lambda what is kept of ||W||, and the final rank."""
    options = {"network": "MLP-5-200", "momentum": 0.0, "milestones": (), "epochs": epochs}
    seeds = [[made_up(rank, layer_norm_kept=numpy.array([0.0, share]))] * 2 for share in kept]
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
    return Setting(Run(network=network), [made_up(layer_rank=numpy.array(one)) for one in ranks])


LOWER = [90, 70, 30, 70, 90, 10]  # the output matrix is the last
LEVEL = [30, 30, 30, 30, 30, 10]
FULL = [95, 90, 85, 90, 95, 10]


@pytest.mark.parametrize(
    "settings, said",
    [
        ([LOWER, LOWER, LEVEL], "holds"),
        ([LOWER, LOWER, LEVEL, LEVEL], "mixed"),
        ([LOWER, LEVEL, LEVEL], "fails"),
        ([LOWER, LOWER, FULL, FULL], "not decided"),  # in two the rank is not constrained
        ([[90, 70, 66, 70, 71, 10]] * 3, "holds"),  # 5 below the lower end
        ([[90, 70, 67, 70, 71, 10]] * 3, "fails"),
        ([[90, 60, 63, 30, 90, 10]] * 3, "fails"),  # rises by 3 on the way down
        ([[90, 61, 63, 30, 90, 10]] * 3, "holds"),  # by 2
        ([[90, 30, 60, 57, 90, 10]] * 3, "fails"),  # falls on the way up
    ],
)
def test_the_bottleneck(settings, said):
    assert word(judges.bottleneck, [layered(ranks, ranks) for ranks in settings]) == said
    one_seed_differs = [layered(ranks, LEVEL) for ranks in settings]
    assert word(judges.bottleneck, one_seed_differs) in ("fails", "not decided")


def blocks(*pairs):
    """Ranks by layer of a residual network with these pairs in its blocks."""
    return [100, *itertools.chain(*pairs), 10]


@pytest.mark.parametrize(
    "ranks, within, across",
    [
        (blocks((30, 31), (50, 50), (70, 68)), "holds", "fails"),
        (blocks((40, 60), (60, 40), (50, 50)), "fails", "holds"),
        (blocks((50, 50), (50, 50), (50, 50)), "holds", "holds"),
        (blocks((40, 40), (50, 50), (45, 45)), "holds", "fails"),  # 6.7 apart
        (blocks((10, 20), (50, 60), (90, 100)), "fails", "fails"),  # 10 apart
        (blocks((50, 53), (53, 50), (50, 54)), "fails", "holds"),  # within 5, as much as between
        (blocks((90, 90), (80, 80), (95, 95)), "not decided", "not decided"),  # not constrained
    ],
)
def test_equal_ranks_within_and_across_blocks(ranks, within, across):
    """Fault: the first seed alone."""
    settings = [layered(blocks((50, 50), (50, 50), (50, 50)), ranks)] * 3
    assert word(judges.equal_within_blocks, settings) == within
    assert word(judges.equal_across_blocks, settings) == across


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
    """Findings, and those of (claim, place); runs of Figures 2 and 6 with true gradients exist."""
    experiments = {name: Experiment(name, preset) for name in FIGURES}
    there = set(experiments["fig2-true"].runs() + experiments["fig6-true"].runs())
    findings = claims.judge(
        experiments, lambda run: stored(run) if run in there and not lacking(run) else None
    )
    of_true = [one for one in findings if one.batch_norm == "true gradient"]
    return findings, {(one.claim, one.figure): one for one in of_true}


@pytest.fixture(scope="module")
def whole():
    return judged()


TREND = claims.CLAIMS[0][0], "fig2"
PAIRS = claims.CLAIMS[4][0], "fig2, fig6"


def test_a_claim_is_judged_from_whole_seeds_and_says_what_is_missing(whole):
    findings = whole[1]
    assert findings[TREND].verdict == "holds" and findings[TREND].otherwise == "tol 1e-2: not seen"
    assert findings[PAIRS].verdict == "holds" and findings[PAIRS].runs == 81  # 12 runs are shared
    assert findings[claims.CLAIMS[1][0], "fig4"].verdict == "not run"
    _, findings = judged(lambda run: run.seed == 2 and (run.B, run.eta) == (4, 0.1))
    assert findings[TREND][4:8] == ("not decided", 53, 54, 2)
    assert findings[PAIRS].verdict == "not decided" and "pairs" in findings[PAIRS].measured
    _, findings = judged(lambda run: run.B == 4)
    assert findings[TREND][4:8] == ("not decided", 45, 54, 0)


def test_ranks_are_in_percent_of_the_full_rank_and_of_the_width():
    run = Run(network="MLP-BN-5-500", B=16)
    view = Experiment("fig2", "night").view
    made = claims._histories(run, *stored(run), view)[claims.AS_RULED]
    assert made["rank"][[0, -1]] == pytest.approx([100, 60], abs=1)
    assert made["layer_rank"] == pytest.approx([60] * 5 + [1.2])


def test_figure_3_of_the_memo_s_text_is_judged_at_a_smaller_eta():
    asked = set()
    claims.judge({name: Experiment(name, "night") for name in FIGURES}, asked.add)
    of_figure_3 = {(run.detached, run.eta) for run in asked if run.lam == 6e-3}
    assert of_figure_3 == {(True, 0.01), (False, 0.1)}


def test_few_epochs_and_smoke_decide_nothing():
    assert judged(preset="quick")[1][TREND].verdict == "too early"
    words = ["holds", "fails", "mixed", "not seen", "not decided", "batch size"]
    seen = [claims._in_preset(word, "quick") for word in words]
    assert seen == ["seen", "not seen", "not seen", "not seen", "too early", "too early"]
    assert {claims._in_preset(word, "smoke") for word in words} == {"says nothing"}


def test_the_page_has_a_line_for_every_claim_and_the_csv_a_row_for_every_verdict(whole, tmp_path):
    findings, _ = whole
    page, table = claims.write(findings, Experiment("fig2", "night"), tmp_path)
    assert (page.name, table.name) == ("claims-night.md", "claims-night.csv")
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == [finding.verdict for finding in findings]
    text = page.read_text(encoding="utf-8")
    lines = [line.split(" | ") for line in text.split("##")[0].splitlines() if line.startswith("|")]
    assert len(lines) == 2 + sum(len(figures) for _, _, *figures in claims.CLAIMS)
    assert "holds" in lines[2][4] and lines[2][3] == "not run"
    for claim, *_ in claims.CLAIMS:
        assert text.count(f"## {claim}\n\nRule: ") == 1


def test_every_judge_is_undecided_by_nothing_and_by_networks_that_died():
    died = {"train_loss": numpy.full(3, numpy.nan), "learned": False}
    lost = made_up(numpy.nan, layer_rank=numpy.full(12, numpy.nan), **died)
    settings = [Setting(Run(network="RES-BN-5-100", lam=1e-6), [lost] * 3)]
    for _, judge, *_ in claims.CLAIMS:
        assert word(judge, []) == word(judge, settings) == "not decided"


# Tables without any effect, of the sizes of the figures: a claim holds and fails in 5 % at most.


FIG2 = grid()
FIG6 = [ending(around(50), B=B, eta=eta) for eta in (0.0125, 0.025, 0.05) for B in BATCHES[3:]]
FIG3 = [ending(around(50), B=B, lam=lam) for B in BATCHES[2:] for lam in LAMBDAS]


def by_chance(settings, rng, share):
    """The settings with ranks that depend on the run alone; this share of them learns."""
    table = []
    for setting in settings:
        ranks = rng.normal(50, 20, (3, 1)) + rng.normal(0, 3, (3, 3)).round(1)
        given = {"learned": rng.uniform() < share, "epoch": numpy.array([15.0, 30.0, 60.0])}
        seeds = [made_up(rank=of_seed, **given) for of_seed in ranks]
        table.append(setting._replace(histories=seeds))
    return table


def in_random_order(matrices):
    return lambda rng: [layered(ranks) for ranks in rng.uniform(10, 90, (3, matrices))]


@pytest.mark.parametrize(
    "judge, table",
    [
        (trends.smaller_B_lower_rank, lambda rng: by_chance(FIG2, rng, 1)),
        (trends.larger_eta_lower_rank, lambda rng: by_chance(FIG2 + FIG6, rng, 1)),
        (trends.larger_lambda_lower_rank, lambda rng: by_chance(FIG3, rng, 0.7)),
        (trends.smaller_B_needs_smaller_eta, lambda rng: by_chance(FIG2, rng, 0.6)),
        (trends.lower_rank_at_equal_steps, lambda rng: by_chance(FIG2 + FIG6, rng, 1)),
        (judges.bottleneck, in_random_order(11)),
        (judges.equal_within_blocks, in_random_order(12)),
        (judges.equal_across_blocks, in_random_order(12)),
    ],
)
def test_without_an_effect_a_claim_rarely_holds(judge, table, rng):
    """Nor does a trend fail. Faults: no p, no Holm's correction, means alone, reversals ignored."""
    said = [word(judge, table(rng)) for _ in range(100)]
    assert said.count("holds") <= 0.05 * len(said) and said.count("not decided") < 0.5 * len(said)
    assert judge.__module__.endswith("judges") or said.count("fails") <= 0.05 * len(said)
