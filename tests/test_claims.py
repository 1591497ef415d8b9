"""The rules of the claim table on made-up outcomes: each can hold, fail and stay undecided, and a diverged run proves nothing."""

import csv
from pathlib import Path

import numpy
import pytest

from experiments import __main__ as command
from experiments import claims
from experiments.claims import Outcome
from experiments.runs import Run

NAN = numpy.nan


def outcome(rank=90, accuracy=100, layers=None, distance=None, norm=(1, 1), seeds=2, **fields):
    """`rank`, `accuracy`: final values, one for all seeds or one each; distance: a function of the epoch."""
    ranks, accuracies = (list(v) if isinstance(v, (list, tuple)) else [v] * seeds for v in (rank, accuracy))
    epochs = numpy.arange(1.0, 101)
    histories = [
        {
            "epoch": epochs, "rank": numpy.array([91.0] * 99 + [r]), "train_accuracy": numpy.array([10.0] * 99 + [a]),
            "distance": (distance or (lambda t: 1 / t))(epochs), "norm": numpy.linspace(*norm, 100),
            "diverged": not numpy.isfinite(a),
            "learned": bool(a >= 50),
            "layer_rank": numpy.array(layers or [90] * 11, "float64"),
        }
        for r, a in zip(ranks, accuracies)
    ]
    return Outcome(Run(**fields), histories)


def over(field, values, **others):
    """Outcomes that differ in `field`, with (rank, accuracy) from `values`."""
    return [outcome(rank=rank, accuracy=accuracy, **{field: value}, **others) for value, (rank, accuracy) in values.items()]


@pytest.mark.parametrize(
    "values, verdict",
    [
        ({4: ((20, 21), 100), 8: ((40, 41), 100), 16: ((40, 42), 100)}, "holds"),
        ({4: ((20, 21), 100), 8: ((40, 41), 100), 16: ((30, 31), 100)}, "fails"),  # one pair the other way
        ({4: ((20, 45), 100), 8: ((40, 41), 100)}, "not decided"),  # the seeds' ranges overlap
        ({4: ((40.2, 40.3), 100), 8: ((41, 41), 100)}, "not decided"),  # less than one singular value
        ({4: ((20, 21), 10), 8: ((40, 41), 100)}, "not decided"),  # B = 4 has learned nothing
        ({4: ((90, 90), 10), 8: ((40, 41), 100), 16: ((60, 60), 100)}, "holds"),
        ({4: ((NAN, 21), 100), 8: ((40, 41), 100)}, "not decided"),  # diverged
        ({4: ((20, 21), (NAN, 100)), 8: ((40, 41), 100)}, "not decided"),
    ],
)
def test_the_rule_for_trends(values, verdict):
    assert claims.trend(over("B", values), "B", 1)[1] == verdict
    falling = {1e-3 * 2**i: pair for i, pair in enumerate(reversed(values.values()))}
    assert claims.trend(over("eta", falling), "eta", -1)[1] == verdict


def test_a_diverged_run_has_no_final_value():
    numpy.testing.assert_equal(outcome(rank=(5, 20), accuracy=(NAN, 100)).last("rank"), [NAN, 20])


def test_pairs_differ_in_one_step_of_one_field():
    found = [outcome(B=B, eta=eta) for B in (4, 8, 32) for eta in (0.01, 0.1)]
    pairs = {(a.paper.B, a.paper.eta, b.paper.B, b.paper.eta) for a, b in claims.steps_of(found, "B")}
    assert pairs == {(4, 0.01, 8, 0.01), (8, 0.01, 32, 0.01), (4, 0.1, 8, 0.1), (8, 0.1, 32, 0.1)}


@pytest.mark.parametrize("ranks, verdict", [
    (((91, 90.5), (91, 91)), "holds"), (((91, 91), (91, 60)), "fails"), (((91, 91), (91, NAN)), "not decided"), (((91, NAN), (91, 60)), "fails"),
])
def test_no_rank_is_lost_without_decay(ranks, verdict):
    found = [outcome(rank=r, lam=0.0, B=B) for r, B in zip(ranks, (16, 32))] + [outcome(rank=5, lam=1e-3)]
    assert claims.no_rank_lost(found)[1] == verdict


@pytest.mark.parametrize(
    "best, verdict", [((0.001, 0.01, 0.1), "holds"), ((0.1, 0.1, 0.1), "not decided"), ((0.1, 0.01, 0.1), "fails"), ((0.001, 0.1, 0.01), "fails")]
)
def test_small_batches_need_small_steps(best, verdict):
    found = [
        outcome(accuracy=90 if eta == chosen else NAN if eta == 0.01 else 50, B=B, eta=eta)
        for B, chosen in zip((4, 32, 128), best) for eta in (0.001, 0.01, 0.1)
    ]
    assert claims.small_batches_need_small_steps(found)[1] == verdict
    unlearned = [outcome(accuracy=15, B=2, eta=0.1), outcome(accuracy=NAN, B=2, eta=0.01)]  # is no evidence
    measured, again = claims.small_batches_need_small_steps(found + unlearned)
    assert again == verdict and measured.endswith("; nothing learned at B = 2")
    assert claims.small_batches_need_small_steps(unlearned)[1] == "not decided"


@pytest.mark.parametrize("times, verdict", [(500, "holds"), (50, "not decided"), (5, "fails")])
def test_d_is_orders_of_magnitude_lower_without_decay(times, verdict):
    found = [outcome(lam=0.0), outcome(lam=1e-5, distance=lambda t: times / t), outcome(lam=1e-3, distance=lambda t: 0 * t, norm=(1, 1e-9))]
    measured, found_verdict = claims.far_lower_at_zero(found)
    assert found_verdict == verdict and measured == f"λ = 1e-5: {times} to {times} times"  # and nothing of what went to zero


@pytest.mark.parametrize("power, verdict", [(0, "holds"), (-0.8, "not decided"), (-2, "fails")])
def test_the_parameters_go_on_moving(power, verdict):
    found = [outcome(lam=0.0, distance=lambda t: t**-3.0), outcome(lam=1e-5, distance=lambda t: t**float(power))]
    found.append(outcome(lam=1e-4, accuracy=50, distance=lambda t: t**-9.0))  # doesn't fit all samples
    assert claims.parameters_go_on_moving(found)[1] == verdict


@pytest.mark.parametrize("rank, norm, verdict", [(0, (1, 1e-9), "holds"), (90, (1, 1e-9), "fails"), (0, (1, 0.5), "fails")])
def test_the_zero_function_and_the_zero_rank(rank, norm, verdict):
    assert claims.zero_function([outcome(rank=rank, norm=norm, lam=1e-3), outcome(lam=0.0)], 1e-3)[1] == verdict


@pytest.mark.parametrize(
    "hidden, verdict",
    [([80, 60, 40, 20, 20, 20, 20, 40, 60, 70], "holds"), ([20, 20, 40, 80, 80, 80, 80, 40, 20, 20], "fails"), ([90] * 10, "not decided")],
)
def test_the_bottleneck(hidden, verdict):
    assert claims.bottleneck([outcome(layers=[*hidden, 10])])[1] == verdict
    assert claims.bottleneck([outcome(layers=[*hidden, 10], accuracy=10)])[1] == "not decided"


@pytest.mark.parametrize(
    "blocks, verdict", [([30, 30, 40, 41, 50, 50, 60, 60, 70, 71], "holds"), ([30, 60] * 5, "fails"), ([100] * 10, "not decided")]
)
def test_equal_ranks_in_residual_blocks(blocks, verdict):
    assert claims.equal_in_blocks([outcome(layers=[100, *blocks, 10])])[1] == verdict


@pytest.mark.parametrize("rule", claims.RULES, ids=lambda rule: f"{rule[1]} ({rule[3]})")
def test_nothing_follows_from_settings_that_a_claim_is_not_about(rule):
    """Without warnings, which are errors here."""
    assert rule[4]([])[1] == "not decided"
    odd = outcome(B=24, layers=[90, 10, 5], lam=3e-3, dataset="mnist", loss="mean_squared_error", accuracy=50)
    assert rule[4]([odd])[1] == "not decided"


def test_the_table_is_written_from_the_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--preset", "smoke", "--seeds", "1"]
    assert command.main(["fig6", *small, "--jobs", "1"]) == 0
    assert command.main(["claims", *small]) == 0
    stem = Path("figures") / "claims-smoke-seeds=1"
    assert capsys.readouterr().out.splitlines()[-2:] == [f"{stem}.{kind}" for kind in ("md", "csv")]
    with open(f"{stem}.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["verdict"] for row in rows} <= {"holds", "fails", "not decided"} and {row["preset"] for row in rows} == {"smoke"}
    run = [row for row in rows if "not run: make" not in row["measured"]]
    assert ["Fig. 6" in row["place"] for row in run] == [True]
    text = Path(f"{stem}.md").read_text(encoding="utf-8")
    assert text.startswith("Preset smoke, 1 seed a setting. Of one seed, the range over seeds means nothing.")
    assert text.count("**not decided**") >= len(rows) - 1
    assert all(line.count("|") == 6 for line in text.splitlines() if line.startswith("|"))
