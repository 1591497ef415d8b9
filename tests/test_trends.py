"""The rule for trends on made-up tables: every verdict, what turns it round, and what chance makes."""

import numpy
import pytest

from experiments import statistics
from experiments.claims import trends
from outcomes import ending, outcome, seed

ETAS = (0.001, 0.01, 0.1)
BATCHES = (4, 8, 16, 32, 64, 128)
LAMBDAS = (0.0, 1e-4, 2e-4, 4e-4, 8e-4, 6e-3)


def table(*effects, seeds=3, accuracy=100.0, noise=0.0, rng=None):
    """Figure 2 with a column for every effect: by how much the rank rises from B = 4 to 128, in percent."""
    found = []
    for eta, effect in zip(ETAS, effects):
        for place, B in enumerate(BATCHES):
            ranks = 50 + effect * place / 5 + 0.01 * numpy.arange(seeds)
            if noise:
                ranks = ranks + rng.normal(0, noise, seeds)
            found.append(ending(ranks, accuracy, B=B, eta=eta))
    return found


def verdict(found, sign=1, field="B"):
    return trends.trend(found, field, sign)["holds"]


@pytest.mark.parametrize(
    "effects, said, opposite",
    [
        ((20, 20, 20), "holds", "fails"),
        ((20, 20, 0), "holds", "fails"),
        ((20, 0, 0), "mixed", "fails"),  # fewer than half; of the opposite, one is enough to fail
        ((20, 20, -20), "mixed", "mixed"),
        ((0, 0, 0), "not seen", "not seen"),
        ((0, 0), "not seen", "not seen"),
        ((20,), "holds", "fails"),
        ((0,), "not decided", "not decided"),
        ((), "not decided", "not decided"),
        ((4.9, 4.9, 4.9), "not seen", "not seen"),  # as certain, but less than 5 % of the full rank
        ((5.1, 5.1, 5.1), "holds", "fails"),
    ],
)
def test_every_verdict_and_its_opposite(effects, said, opposite):
    assert verdict(table(*effects)) == said
    assert verdict(table(*effects), sign=-1) == opposite
    assert verdict(table(*[-effect for effect in effects])) == opposite


def test_what_chance_could_make_is_no_trend(rng):
    """An effect of 30 % in noise of 60 %. Fault: the slope alone."""
    found = table(30, 30, 30, noise=60, rng=rng)
    assert verdict(found) == "not seen"


def test_the_slope_counts_over_the_whole_range_of_the_figure_also_where_part_has_learned():
    """From B = 4 to 16 the rank rises by 2.4 % of the full rank, from 4 to 128 it would by 6 %."""
    found = table(6, 6)
    for dead in BATCHES[3:]:
        found = [ending([10] * 3, 10.0, B=dead, eta=o.paper.eta) if o.paper.B == dead else o for o in found]
    assert verdict(found) == "holds"
    assert "+6.0 %" in trends.trend(found, "B", 1)["columns"]


def test_networks_that_have_not_learned_show_nothing():
    """Fault: their ranks counted, which here would turn the verdict round."""
    found = table(20)
    for B in (2, 3):
        found.append(ending([100] * 3, 10.0, B=B, eta=0.001))
    assert verdict(found) == "holds"
    assert verdict([o._replace(learned_at=5) for o in found]) != "holds"


def test_a_setting_one_of_whose_seeds_has_not_learned_is_left_out():
    found = table(20)[:3]
    assert verdict(found) == "holds"
    found[0].seeds[2] = seed(90, numpy.nan)
    assert verdict(found) == "not decided"  # two values are left
    assert trends.trend(found, "B", 1)["summary"].startswith("0 of 1 columns are eligible")


def test_fewer_than_three_seeds_give_no_p_and_decide_nothing():
    for seeds in (1, 2):
        numbers = trends.trend(table(40, 40, 40, seeds=seeds), "B", 1)
        assert numbers["holds"] == "not decided"
        assert numbers["summary"] == "3 of 3 columns are eligible, too few seeds for p"
        assert "p =" not in numbers["columns"] and "+40.0 % (τ_b = " in numbers["columns"]
    assert "p =" in trends.trend(table(40, 40, 40), "B", 1)["columns"]


def test_p_is_corrected_for_the_columns_of_the_figure(monkeypatch):
    """0.02 in each of three columns is 0.06; Holm's correction left out, the claim would hold."""
    monkeypatch.setattr(statistics, "permutation_p", lambda x, y, permutations: 0.02)
    assert verdict(table(20, 20)) == "holds"
    assert verdict(table(20, 20, 20)) == "not seen"


def test_a_column_that_is_not_eligible_counts_in_the_correction(monkeypatch):
    monkeypatch.setattr(statistics, "permutation_p", lambda x, y, permutations: 0.02)
    dead = [ending([90] * 3, 10.0, B=B, eta=0.1) for B in BATCHES]
    assert verdict(table(20, 20) + dead) == "not seen"


def test_lambda_goes_by_its_order_and_zero_is_one_of_its_values():
    """Without a warning, which the logarithm of 0 would raise; a step at the first value is seen in all."""
    found = [ending([90 - 4 * place] * 3, B=16, lam=lam) for place, lam in enumerate(LAMBDAS)]
    numbers = trends.larger_lambda_lower_rank.judge(found)
    assert numbers["holds"] == "holds" and "-20.0 %" in numbers["columns"]


@pytest.mark.parametrize(
    "claim, field, values, rises",
    [
        (trends.smaller_B_lower_rank, "B", BATCHES, "holds"),
        (trends.larger_eta_lower_rank, "eta", ETAS, "fails"),
        (trends.larger_lambda_lower_rank, "lam", LAMBDAS, "fails"),
    ],
)
def test_the_direction_of_every_claim_on_ranks(claim, field, values, rises):
    """Fault: the sign of any of them."""
    falls = {"holds": "fails", "fails": "holds"}[rises]
    for step, said in ((8, rises), (-8, falls)):
        found = [ending([50 + step * i] * 3, **{field: value}) for i, value in enumerate(values)]
        assert claim.judge(found)["holds"] == said


def test_larger_eta_trains_worse_by_the_accuracy_and_not_by_the_rank():
    for falling, said in ((True, "holds"), (False, "fails")):
        accuracies = (99.0, 90.0, 80.0) if falling else (80.0, 90.0, 99.0)
        found = [ending([90, 91, 92], accuracy, eta=eta) for eta, accuracy in zip(ETAS, accuracies)]
        numbers = trends.larger_eta_worse_training.judge(found)
        assert numbers["holds"] == said
        assert ("-19.0 %" if falling else "+19.0 %") in numbers["columns"]


def test_a_column_holds_all_other_fields_fixed():
    found = [outcome([seed()] * 3, B=B, eta=eta) for B in BATCHES for eta in ETAS]
    columns = trends._columns(found, "B")
    assert list(columns) == [f"η\u00a0=\u00a0{eta}" for eta in ETAS]
    for settings in columns.values():
        assert len({o.paper.eta for o in settings}) == 1 and len(settings) == len(BATCHES)


# Tables in which nothing depends on the field.


@pytest.mark.parametrize(
    "field, values, other, columns, learn",
    [
        ("B", BATCHES, "eta", ETAS, 1.0),
        ("eta", ETAS, "B", BATCHES, 1.0),
        ("lam", LAMBDAS, "B", BATCHES[2:], 0.7),
    ],
)
def test_where_nothing_depends_a_claim_holds_and_fails_in_at_most_a_twentieth_of_tables(
    field, values, other, columns, learn, rng
):
    """2,000 tables, three seeds, ranks in steps of a tenth; `learn` is the share of settings that learn.

    Faults: without p, 6 to 25 % of the tables fail; without Holm's correction, 6 to 10 % do.
    """
    template = [ending([0] * 3, **{field: value, other: column}) for column in columns for value in values]
    said = []
    for _ in range(2000):
        ranks = rng.normal(50, 20, (len(template), 3)).round(1)
        learned = rng.uniform(size=len(template)) < learn
        found = []
        for made, its_ranks, has_learned in zip(template, ranks, learned):
            seeds = [
                made.seeds[0] | {"rank": [rank], "train_accuracy": [100.0 if has_learned else 10.0]}
                for rank in its_ranks
            ]
            found.append(made._replace(seeds=seeds))
        said.append(trends.trend(found, field, 1, permutations=400)["holds"])
    assert said.count("holds") <= 100 and said.count("fails") <= 100
    assert said.count("not seen") > 1800
