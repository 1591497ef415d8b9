"""SGD beside gradient descent: what is trained for it, and both judges on made-up outcomes."""

from dataclasses import replace

import numpy
import pytest

from experiments import claims
from experiments.claims import descent
from experiments.figures import FIGURES
from experiments.plans import Plan
from outcomes import outcome, seed, store

# Rank: B = m beside B = 16 and 128.


def test_descent_has_the_control_s_network_steps_budget_and_schedule():
    ((_, cells),) = Plan("control", "paper", settings={"network": "MLP-BN-10-100"}).columns
    a = cells[0].runs[0]
    runs = Plan("descent", "paper").runs()
    assert len(runs) == 9 and {(run.B, run.m) for run in runs} == {(16, 5000), (128, 5000), (5000, 5000)}
    assert {run.seed for run in runs} == {0, 1, 2}
    for run in runs:
        assert run.steps() * run.epochs == a.steps() * a.epochs == 195_000
        assert run.budget() == pytest.approx(a.budget(), rel=1e-12) == pytest.approx(7.64, rel=1e-3)
        assert [drop * run.steps() for drop in run.milestones] == [drop * a.steps() for drop in a.milestones]
        same = ("network", "dataset", "eta", "lam", "momentum", "factor", "detached", "scalar", "loss", "init")
        assert [getattr(run, name) for name in same] == [getattr(a, name) for name in same]
    assert Plan("descent", "night").runs() == runs  # its drops come late, so night runs it whole


def test_the_quick_descent_is_its_first_epochs_and_smoke_keeps_its_batches():
    quick = Plan("descent", "quick")
    for line in quick.columns[0][1]:
        assert line.runs == [replace(line.paper, epochs=30)]
    assert "first 30 of 5000 epochs, 1 seed" in quick.title() and "Reduced" not in quick.note()
    smoke = Plan("descent", "smoke").runs()
    assert {(run.B, run.m) for run in smoke} == {(16, 5000), (128, 5000), (5000, 5000)}
    assert {round(run.budget(), 2) for run in smoke} == {7.64}
    assert "training samples" not in Plan("descent", "smoke").note()  # they are as many


def losing(**lost):
    """Three seeds for each of "sgd_16", "sgd_128", "descent", that start at rank 100 and lose these ranks."""
    batches = {"sgd_16": 16, "sgd_128": 128, "descent": 5000}
    found = []
    for name, losses in lost.items():
        seeds = [seed(100 - loss) for loss in losses]
        found.append(outcome(seeds, str(batches[name]), B=batches[name], m=5000))
    return found


def rank_verdict(found):
    return descent.gradient_descent_keeps_the_rank.judge(found)["holds"]


ALL = (30, 40, 50)


@pytest.mark.parametrize(
    "sgd_16, sgd_128, by_descent, verdict",
    [
        (ALL, ALL, (0, 0, 0), "holds"),
        (ALL, ALL, (2.9, 3.9, 4.9), "holds"),
        (ALL, ALL, (3.1, 4.1, 5.1), "fails"),
        (ALL, ALL, ALL, "fails"),
        (ALL, ALL, (2.9, 3.9, 5.1), "mixed"),  # one seed
        (ALL, (10, 10, 10), (2.9, 2.9, 2.9), "mixed"),  # by one batch size
        (ALL, (4.9, 30, 30), (2.9, 2.9, 2.9), "holds"),  # a seed of B = 128 has lost nothing: it doesn't count
        ((5.1, 5.1, 5.1), (0, 0, 0), (0.5, 0.5, 0.5), "holds"),
        ((4.9, 4.9, 4.9), (0, 0, 0), (0, 0, 0), "not decided"),  # SGD loses nothing
        ((0, 0, 0), (0, 0, 0), ALL, "not decided"),
    ],
)
def test_gradient_descent_loses_less_than_a_tenth_of_what_sgd_loses(sgd_16, sgd_128, by_descent, verdict):
    found = losing(sgd_16=sgd_16, sgd_128=sgd_128, descent=by_descent)
    assert rank_verdict(found) == rank_verdict(found[::-1]) == verdict


def test_seeds_are_compared_with_their_own_start():
    """Fault: a tenth of the mean, or of the least, over the seeds of SGD."""
    assert rank_verdict(losing(sgd_16=(60, 60, 6), descent=(5.9, 5.9, 0.5))) == "holds"
    assert rank_verdict(losing(sgd_16=(60, 60, 6), descent=(0.5, 0.5, 0.7))) == "mixed"


@pytest.mark.parametrize("which, verdict", [(0, "mixed"), (1, "mixed"), (2, "not decided")])
def test_a_network_that_has_not_learned_decides_nothing_of_the_rank(which, verdict):
    """Fault: its rank counted. B = 16 and 128 say mixed each, alone as together."""
    found = losing(sgd_16=ALL, sgd_128=ALL, descent=(2.9, 3.9, 5.1))
    found[which].seeds[1]["train_accuracy"][-1] = 10.0
    numbers = descent.gradient_descent_keeps_the_rank.judge(found)
    assert numbers["holds"] == verdict
    texts = ["30 to 50 at B = 16", "30 to 50 at B = 128", "2.9 to 5.1 by gradient descent"]
    del texts[which]
    assert numbers["lost"] == ", ".join(texts)


def test_without_one_of_both_nothing_is_decided_of_the_rank():
    assert rank_verdict(losing(sgd_16=ALL, sgd_128=ALL)) == "not decided"
    assert rank_verdict(losing(descent=(0, 0, 0))) == "not decided"


def test_where_gradient_descent_loses_as_much_as_sgd_the_claim_never_holds(rng):
    """2,000 tables in which the rank lost doesn't depend on B. Fault: the sign of either loss."""
    said = []
    for _ in range(2000):
        lost = rng.normal(rng.uniform(0, 50), 5, (3, 3)).clip(0, 100)
        said.append(rank_verdict(losing(sgd_16=lost[0], sgd_128=lost[1], descent=lost[2])))
    assert said.count("holds") <= 20 and said.count("fails") > 1000


def judged(folder, preset, words, name, seeds=None):
    """The one Judged of a claim on this figure."""
    plans = {figure: Plan(figure, preset, seeds if figure == name else None) for figure in FIGURES}
    (row,) = [row for row in claims.judge(plans, folder) if row.statement.words == words]
    (one,) = row.judged[preset]
    return one


KEEPS = "gradient descent does not lower the rank"


def test_the_claim_on_rank_is_judged_from_the_store(tmp_path, no_waiting_for_the_disk):
    one = judged(tmp_path, "night", KEEPS, "descent")
    assert one.verdict.measured == "not run (make descent PRESET=night)"
    plan = Plan("descent", "night", 2)
    for run in plan.runs():
        store([run], tmp_path, ranks=[100] * 6 if run.B == 5000 else [60] * 6)
    one = judged(tmp_path, "night", KEEPS, "descent", 2)
    assert one.verdict.verdict == "holds" and one.verdict.place == "Section 3.2" and one.otherwise == {}
    assert one.verdict.measured.startswith("2 seeds: rank lost") and "0 by gradient descent" in one.verdict.measured
    store([run for run in plan.runs() if run.B == 5000], tmp_path, ranks=[60] * 6)
    assert judged(tmp_path, "night", KEEPS, "descent", 2).verdict.verdict == "fails"
