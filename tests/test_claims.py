"""Made-up settings make every judge say each of its words; a made-up store fills the page."""

import csv
import itertools

import numpy
import pytest

import minigrad as mg
from experiments import claims, judges
from experiments.figures import BATCH_SIZES, CELLS, ETAS, FIGURES, Experiment
from experiments.judges import Setting
from experiments.runs import Run

LAMBDAS = FIGURES["fig3"].axes["lam"]


def history(end=90.0, **given):
    """The history of a run that has learned and ends at this rank, in percent."""
    made = {
        "epoch": [0, 60, 100],
        "train_loss": [2.3, 0.05, 0.05],
        "train_accuracy": [10, 100, 100],
        "rank": [100, 95, end],
        "rank_from_start": [100, 95, end],
        "layer_norm_kept": [1] * 11,
        "diverged": False,
    }
    return {"learned": True} | {name: numpy.array(row) for name, row in (made | given).items()}


def ending(*seeds, **fields):
    """The Setting whose seeds have these histories, or end at these ranks."""
    histories = [seed if isinstance(seed, dict) else history(seed) for seed in seeds]
    return Setting(Run(**{"epochs": 100} | fields), histories)


def unlearned(setting):
    """The same but for its second seed, which has not learned."""
    first, second, *others = setting.histories
    return setting._replace(histories=[first, second | {"learned": False}, *others])


def grid(*change, learns=lambda B, eta: True, seeds=3):
    """Figure 2, with ranks of 50 and more by `change` with each doubling of B, for each eta."""
    found = []
    for (eta, step), (place, B) in itertools.product(zip(ETAS, change), enumerate(BATCH_SIZES)):
        setting = ending(*[50 + step * place + seed / 10 for seed in range(seeds)], B=B, eta=eta)
        found.append(setting if learns(B, eta) else unlearned(setting))
    return found


def up_to(*most, seeds=3):
    """Figure 2 where every seed learns up to this eta, for each B."""
    return grid(0, 0, 0, learns=lambda B, eta: eta <= most[BATCH_SIZES.index(B)], seeds=seeds)


def rising(field, values, step):
    """A column whose rank rises by so much with each value, while its accuracy falls."""
    changes = zip(values, step * numpy.arange(len(values)))
    seeds = {value: history(50 + by, train_accuracy=[10, 50, 50 - by]) for value, by in changes}
    return [ending(seed, seed, seed, **{field: value}) for value, seed in seeds.items()]


FEW = {4: (50, 52, 62), 8: (57, 58, 70), 16: (65, 66, 75)}  # p = 0.04, of one in three 0.12
COLUMN = [ending(*ranks, B=B, eta=0.1) for B, ranks in FEW.items()]
UNLEARNED = [unlearned(one) for one in grid(0, 0)]  # the columns of two more eta


def pairs(*small, epoch=30, accuracy=100, seeds=3, **fields):
    """At so many eta a rank of B = 32 beside 90 of B = 64 at equal steps; the last ones mislead."""
    settings = []
    for place, rank in enumerate(small):
        for B, at, level in ((32, epoch, rank), (64, 60, 90)):
            given = {"epoch": [0, at, 100], "train_accuracy": [10, accuracy, 100]}
            found = [history(rank=[100, level, 90], **given)] * seeds
            settings.append(ending(*found, B=B, eta=0.1 + place / 100, **fields))
    return settings


def cells(**ranks):
    """The control; the rank of a cell, or those of its seeds."""
    found = {cell: numpy.broadcast_to(rank, 3) for cell, rank in ranks.items()}
    return [ending(*seeds, **{"eta": 0.05} | CELLS[cell]) for cell, seeds in found.items()]


def without_decay(*ends):
    """For each B what is left by the two counts; with decay or without success all may be lost."""
    settings = [ending(5, 5, lam=1e-3), unlearned(ending(5, 5, lam=0.0, B=64))]
    for B, (relative, from_start) in zip(BATCH_SIZES, ends):
        worst = history(relative, rank_from_start=[100, 95, from_start])
        settings.append(ending(100, worst, B=B, lam=0.0))
    return settings


def descent(*by_descent, **by_sgd):
    """Final ranks of gradient descent, one a seed, and of SGD, one for each B."""
    others = [ending(rank, rank, rank, B=int(name[1:]), m=5000) for name, rank in by_sgd.items()]
    return [ending(*by_descent, B=5000, m=5000), *others]


SPARED = descent(99, 99, 99, B32=60, B64=96)  # at B = 64 a loss of 4 % is too little


def close(*ends, B=32, **fields):
    """For each setting the last tau_B of the last of three seeds."""
    near, *seeds = [history(tau_B=[0.5, 0.5, tau]) for tau in (0, *ends)]
    return [ending(near, near, seed, B=B, **fields) for seed in seeds]


SILENT = [*close(0, B=64), *close(0, eta=0.0045), unlearned(close(0)[0])]  # E = 4.6


def moving(d, lam, drifts=10.0, **given):
    """Two seeds whose W move by d in the last epoch, so many times as far as by decay alone."""
    run = Run(lam=lam, epochs=100)
    norm = d / drifts / (2 * run.eta * lam * run.steps()) if lam else 1
    late = {"epoch": [0, 80, 100], "distance": [numpy.nan, d, d], "norm": [norm]}
    return Setting(run, [history(**late | given)] * 2)


STILL = moving(1, 0.0)


def decayed(*kept, rank=0.0, epochs=2000):
    """CIFAR-10: for lambda 1e-4 and 1e-3 what is kept of ||W||, and the final rank."""
    settings = []
    for lam, share in zip((1e-4, 1e-3), kept):
        seed = history(rank, layer_norm_kept=[0, share], diverged=numpy.isnan(share))
        settings.append(ending(seed, seed, lam=lam, momentum=0, milestones=(), epochs=epochs))
    return settings


def layered(*seeds, **fields):
    """A setting whose seeds end at these ranks by layer; the output matrix is the last."""
    return ending(*[history(layer_rank=ranks) for ranks in seeds], **fields)


RANKS = [90, 70, 30, 70, 90, 10], [30, 30, 30, 30, 30, 10], [95, 90, 85, 90, 95, 10]
LOWER, LEVEL, FULL = map(layered, RANKS)


def blocks(*ranks, network="RES-BN-3-100"):
    """Three settings; in the second seed the blocks have these pairs of ranks."""
    seeds = [100, 50, 50, 50, 50, 50, 50, 10], [100, *ranks, 10]
    return [layered(*seeds, network=network)] * 3


CASES = [
    (judges.smaller_B_lower_rank, "holds", grid(3, 0, 0, learns=lambda B, eta: eta < 0.1)),
    (judges.smaller_B_lower_rank, "fails", grid(-3, 0, 0)),
    (judges.smaller_B_lower_rank, "mixed", grid(3, 0, 0)),
    # 4 % of the full rank where it has learned; two values that have learned; Holm's correction
    (judges.smaller_B_lower_rank, "not seen", grid(2, 2, 2, learns=lambda B, eta: B >= 32)),
    (judges.smaller_B_lower_rank, "not decided", grid(3, 3, 3, learns=lambda B, eta: B >= 64)),
    (judges.smaller_B_lower_rank, "not decided", grid(3, 3, 3, seeds=2)),
    (judges.smaller_B_lower_rank, "holds", COLUMN),
    (judges.smaller_B_lower_rank, "not decided", COLUMN + UNLEARNED),
    (judges.larger_eta_lower_rank, "holds", rising("eta", ETAS, -8)),
    (judges.larger_eta_lower_rank, "fails", rising("eta", ETAS, 8)),
    (judges.larger_lambda_lower_rank, "holds", rising("lam", LAMBDAS, -8)),
    (judges.larger_lambda_lower_rank, "fails", rising("lam", LAMBDAS, 8)),
    (judges.larger_eta_worse_training, "holds", rising("eta", ETAS, 8)),
    (judges.larger_eta_worse_training, "fails", rising("eta", ETAS, -8)),
    (judges.smaller_B_needs_smaller_eta, "holds", up_to(0, 0, 0.01, 0.01, 0.1, 0.1)),
    (judges.smaller_B_needs_smaller_eta, "fails", up_to(0.1, 0.1, 0.01, 0.01, 0.001, 0)),
    (judges.smaller_B_needs_smaller_eta, "not seen", up_to(0, 0, 0, 0.1, 0.1, 0.1)),  # p = 0.1
    (judges.smaller_B_needs_smaller_eta, "not decided", up_to(0, 0, 0, 0.1, 0.1, 0.1, seeds=2)),
    (judges.lower_rank_at_equal_steps, "holds", pairs(60, 60, 90, 90)),
    (judges.lower_rank_at_equal_steps, "fails", pairs(99, 99, 90, 90)),
    (judges.lower_rank_at_equal_steps, "mixed", pairs(99, 90, 90)),
    (judges.lower_rank_at_equal_steps, "not seen", pairs(90, 90, 90)),
    # Of unequal eta they would be four; steps are not equal; accuracy; E = 7.5 to 9; a drop; seeds
    (judges.lower_rank_at_equal_steps, "not decided", pairs(60, 60)),
    (judges.lower_rank_at_equal_steps, "not decided", pairs(60, 60, 60, epoch=25)),
    (judges.lower_rank_at_equal_steps, "not decided", pairs(60, 60, 60, accuracy=19)),
    (judges.lower_rank_at_equal_steps, "not decided", pairs(60, 60, 60, lam=8e-5)),
    (judges.lower_rank_at_equal_steps, "not decided", pairs(60, 60, 60, milestones=(59,))),
    (judges.lower_rank_at_equal_steps, "not decided", pairs(60, 60, 60, seeds=2)),
    (judges.what_carries_the_trend, "steps and decay", cells(a=90, b=89, c=40)),
    (judges.what_carries_the_trend, "not decided", cells(a=90, b=86, c=83)),  # c is like b
    (judges.what_carries_the_trend, "η / B and E", cells(a=90, d=88)),
    (judges.what_carries_the_trend, "batch size, or E alone", cells(a=90, b=70, c=40, e=71)),
    (judges.what_carries_the_trend, "noise raises the rank", cells(a=80, b=90, c=89, e=91)),
    (judges.what_carries_the_trend, "not decided", list(map(unlearned, cells(a=90, b=60)))),
    # Less than 5 apart; ranges that overlap; a range that is as wide as the gap
    (judges.what_carries_the_trend, "not decided", cells(a=(90, 91, 92), b=(86, 87, 88))),
    (judges.what_carries_the_trend, "not decided", cells(a=(90, 99, 99), b=(82, 82, 91))),
    (judges.what_carries_the_trend, "not decided", cells(a=(91, 92, 99), b=(80, 85, 90))),
    (judges.no_rank_lost_without_decay, "holds", without_decay((99.5, 99.5), (99, 101))),
    (judges.no_rank_lost_without_decay, "fails", without_decay((100, 100), (98, 100))),
    (judges.no_rank_lost_without_decay, "fails", without_decay((100, 100), (100, 98))),
    (judges.no_rank_lost_without_decay, "not decided", without_decay((99.5, 99.5))),
    (judges.gradient_descent_keeps_the_rank, "holds", SPARED),
    (judges.gradient_descent_keeps_the_rank, "mixed", descent(98, 98, 96.9, B32=60, B64=70)),
    (judges.gradient_descent_keeps_the_rank, "fails", descent(60, 60, 60, B32=60, B64=70)),
    (judges.gradient_descent_keeps_the_rank, "not decided", descent(99, 99, 99, B64=96)),
    (judges.gradient_descent_keeps_the_rank, "not decided", list(map(unlearned, SPARED))),
    (judges.close_to_rank_B, "holds", close(0.09, 0.09, 0.5) + SILENT),
    (judges.close_to_rank_B, "mixed", close(0.09, 0.09, 0.5, 0.5) + SILENT),
    (judges.close_to_rank_B, "fails", close(0.09, 0.11, 0.11) + SILENT),
    (judges.close_to_rank_B, "not decided", close(0.09, 0.09) + SILENT),
    (judges.far_smaller_without_decay, "holds", [STILL, moving(500, 1e-5)]),
    (judges.far_smaller_without_decay, "fails", [STILL, moving(50, 1e-5)]),
    (judges.far_smaller_without_decay, "mixed", [STILL, moving(500, 1e-5), moving(50, 1e-4)]),
    (judges.far_smaller_without_decay, "not decided", [STILL, *[moving(500, 1e-5, 2.9)] * 2]),
    (judges.far_smaller_without_decay, "not decided", [unlearned(STILL), moving(500, 1e-5)]),
    (judges.does_not_converge, "holds", [STILL, moving(11, 1e-5)]),
    (judges.does_not_converge, "fails", [STILL, moving(9, 1e-5)]),  # hardly more than STILL
    (judges.does_not_converge, "fails", [STILL, moving(500, 1e-5, distance=[9, 5000, 500])]),
    (judges.does_not_converge, "mixed", [STILL, moving(11, 1e-5), moving(9, 1e-4)]),
    (judges.does_not_converge, "not decided", [STILL, moving(11, 1e-5, drifts=2.9)]),
    (judges.does_not_converge, "not decided", [STILL, moving(11, 1e-5, train_loss=[2, 6, 4.5])]),
    (judges.does_not_converge, "not decided", [STILL, moving(11, 1, train_accuracy=[1, 90, 93])]),
    (judges.goes_to_zero, "holds", decayed(1e-9, 1e-9)),
    (judges.goes_to_zero, "fails", decayed(0.5, 2e-3)),
    (judges.goes_to_zero, "mixed", decayed(0.5, 1e-9)),
    (judges.goes_to_zero, "not decided", decayed(1e-9, 1e-9, epochs=100)),
    (judges.goes_to_zero, "not decided", decayed(1e-9)),  # one lambda
    (judges.goes_to_zero, "fails", decayed(0.5, numpy.nan)),  # one diverged
    (judges.has_rank_zero, "holds", decayed(0.5, 1e-9)),
    (judges.has_rank_zero, "fails", decayed(1e-9, 1e-9, rank=90.0)),
    (judges.has_rank_zero, "not decided", decayed(1e-9, 2e-3)),  # only at lambda = 1e-4
    (judges.bottleneck, "holds", [LOWER, LOWER, LEVEL]),
    (judges.bottleneck, "mixed", [LOWER, LOWER, LEVEL, LEVEL]),
    (judges.bottleneck, "not decided", [LOWER, LOWER, FULL, FULL]),  # nothing constrains two
    (judges.bottleneck, "fails", [layered(*RANKS[:2])] * 3),
    (judges.bottleneck, "fails", [layered([90, 70, 67, 70, 71, 10])] * 3),  # 4 below an end
    (judges.bottleneck, "holds", [layered([90, 61, 63, 30, 90, 10])] * 3),  # rises by 2 before
    (judges.bottleneck, "fails", [layered([90, 60, 63, 30, 90, 10])] * 3),  # by 3
    (judges.bottleneck, "fails", [layered([90, 30, 60, 57, 90, 10])] * 3),  # falls after it
    (judges.equal_within_blocks, "holds", blocks(30, 31, 50, 50, 70, 68)),
    (judges.equal_within_blocks, "fails", blocks(10, 20, 50, 60, 90, 100)),  # 10 apart
    (judges.equal_within_blocks, "fails", blocks(50, 53, 53, 50, 50, 54)),  # as much as between
    (judges.equal_within_blocks, "not decided", blocks(90, 90, 80, 80, 95, 95)),
    (judges.equal_within_blocks, "not decided", blocks(*[9] * 6, network="MLP-BN-7-100")),
    (judges.equal_across_blocks, "holds", blocks(40, 60, 60, 40, 50, 50)),
    (judges.equal_across_blocks, "fails", blocks(40, 40, 50, 50, 45, 45)),  # 6.7 apart
    (judges.equal_across_blocks, "not decided", blocks(90, 90, 80, 80, 95, 95)),
]


@pytest.mark.parametrize("judge, word, settings", CASES)
def test_a_judge_says_each_of_its_words(judge, word, settings):
    assert judge(settings)[0] == word


def test_every_judge_is_undecided_by_nothing_and_by_networks_that_died():
    nan = numpy.nan
    lost = history(nan, layer_rank=[nan] * 12, train_loss=[nan] * 3) | {"learned": False}
    died = ending(lost, network="RES-BN-5-100", lam=1e-6)
    for _, judge, *_ in claims.CLAIMS:
        assert judge([])[0] == judge([died])[0] == "not decided"


def test_tau_B_is_the_distance_to_the_nearest_matrix_of_rank_B(rng):
    """The median over the W with more than B singular values."""
    weights = rng.normal(size=(3, 5, 6, 8))  # of every W and epoch
    arrays = {"spectrum 2-1": numpy.ones((5, 4))}
    for p, W in enumerate(weights, start=3):
        arrays[f"spectrum {p}-2"] = numpy.linalg.svd(W, compute_uv=False)
    sizes = numpy.linalg.norm(weights, axis=(-2, -1))
    expected = numpy.median(mg.distance_to_rank(weights, 4, "frobenius") / sizes, axis=0)
    numpy.testing.assert_allclose(claims.tau_B(arrays, 4), expected)


def stored(run):
    """(meta, arrays) of a finished run: rank is lost with smaller B, at tol 1e-2 all but 10 %."""
    graph, names = run.graph(), ("distance", "train_loss", "train_accuracy", "test_accuracy")
    arrays = dict.fromkeys(names, numpy.ones(5)) | {"epoch": numpy.array([0, 15, 30, 60, 100])}
    for p, q in graph.E_T:
        r = min(graph.width(p), graph.width(q))
        arrays[f"spectrum {p}-{q}"] = s = numpy.ones((5, r))
        s[1:, r // 10 :] = 5e-3
        s[1:, r // 2 + r * BATCH_SIZES.index(run.B) // 20 :] = 1e-5
    return {"status": "finished"}, arrays


def judged(lacking=lambda run: False):
    """{(claim, figure, variant): finding}; only runs of fig2-true and fig6-true are stored."""
    experiments = {name: Experiment(name, "night") for name in FIGURES}
    runs = experiments["fig2-true"].runs() + experiments["fig6-true"].runs()
    there = {run for run in runs if not lacking(run)}
    findings = claims.judge(experiments, lambda run: stored(run) if run in there else None)
    return {(one["claim"], one["figure"], one["batch_norm"]): one for one in findings}


TREND = claims.CLAIMS[0][0], "fig2", "true gradient"
PAIRS = claims.CLAIMS[4][0], "fig2, fig6", "true gradient"


def counted(finding):
    return [finding[name] for name in ("verdict", "done", "runs", "seeds")]


def test_a_seed_counts_once_all_settings_have_it():
    findings = judged(lambda run: run.seed == 2 and (run.B, run.eta) == (4, 0.1))
    assert counted(findings[TREND]) == ["not decided", 53, 54, 2]
    assert findings[PAIRS]["verdict"] == "not decided" and "pairs" in findings[PAIRS]["measured"]
    findings = judged(lambda run: (run.B, run.eta) == (4, 0.1))
    assert counted(findings[TREND]) == ["not run", 51, 54, 0]


def test_the_page_has_a_line_for_every_claim_and_the_csv_a_row_for_every_verdict(tmp_path):
    findings = judged()
    assert counted(findings[TREND]) == ["holds", 54, 54, 3]
    assert findings[TREND]["otherwise"] == "tol 1e-2: not seen"
    assert counted(findings[PAIRS]) == ["holds", 81, 81, 3]  # the figures share 12 runs
    page, table = claims.write(list(findings.values()), Experiment("fig2", "night"), tmp_path)
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == [one["verdict"] for one in findings.values()]
    overview, *sections = page.read_text(encoding="utf-8").split("\n## ")
    lines = [line.split(" | ") for line in overview.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len({place[:2] for place in findings})
    assert "holds" in lines[2][3] and lines[2][2] == "not run"
    assert len(sections) == 1 + len(claims.CLAIMS)


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
    words = ["holds", "fails", "mixed", "not seen", "not decided", "batch size"]
    seen = [claims._in_preset(word, "quick") for word in words]
    assert seen == ["seen", "not seen", "not seen", "not seen", "too early", "too early"]
    assert {claims._in_preset(word, "smoke") for word in words} == {"says nothing"}


def by_chance(rng):
    """Figure 2 without any effect: ranks that depend on the run alone; 9 of 10 settings learn."""
    table = []
    for setting in grid(0, 0, 0):
        ranks = rng.normal(50, 20, (3, 1)) + rng.normal(0, 3, (3, 3)).round(1)
        given = {"learned": rng.uniform() < 0.9, "epoch": [15, 30, 60]}
        table.append(setting._replace(histories=[history(rank=row, **given) for row in ranks]))
    return table


def in_random_order(rng):
    return [layered(ranks) for ranks in rng.uniform(10, 90, (3, 11))]


NULL = {
    judges.larger_eta_lower_rank: by_chance,
    judges.smaller_B_needs_smaller_eta: by_chance,
    judges.lower_rank_at_equal_steps: by_chance,
    judges.bottleneck: in_random_order,
}


@pytest.mark.parametrize("judge", NULL)
def test_without_an_effect_a_claim_rarely_holds(judge, rng):
    """Nor does a trend fail. Faults: no p, reversals ignored, a failure by one pair of eight."""
    said = [judge(NULL[judge](rng))[0] for _ in range(100)]
    assert said.count("holds") <= 5 and said.count("not decided") < 50
    assert judge is judges.bottleneck or said.count("fails") <= 5
