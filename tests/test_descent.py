"""SGD beside gradient descent: what is trained for it, and both judges on made-up outcomes."""

from dataclasses import replace

import numpy
import pytest

from experiments import claims
from experiments.captions import written
from experiments.claims import descent
from experiments.figures import FIGURES, TAILS
from experiments.presets import PRESETS
from experiments.plans import Plan
from experiments.store import read, result_path, write
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
        drops = [epoch * run.steps() for epoch in run.milestones]
        assert drops == [epoch * a.steps() for epoch in a.milestones]
        for name in ("network", "dataset", "loss", "init", "eta", "lam", "momentum", "factor"):
            assert getattr(run, name) == getattr(a, name)
        assert (run.detached, run.scalar) == (a.detached, a.scalar) == (False, True)
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
        (ALL, ALL, (3, 4, 5), "fails"),  # a tenth is not less than a tenth
        ((5, 5, 5), (0, 0, 0), (0.4, 0.4, 0.4), "holds"),  # 5 % is enough
        (ALL, ALL, ALL, "fails"),
        (ALL, ALL, (2.9, 3.9, 5.1), "mixed"),  # one seed
        (ALL, (10, 10, 10), (2.9, 2.9, 2.9), "mixed"),  # by one batch size
        (ALL, (4.9, 30, 30), (2.9, 2.9, 2.9), "holds"),  # a seed of B = 128 loses nothing: B doesn't count
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


def test_gradient_descent_is_what_was_trained_on_all_samples_at_once_also_if_set_by_hand():
    """Fault: the batch of all of the figure's own images."""
    found = losing(sgd_16=ALL, descent=(0, 0, 0))
    fewer = [one._replace(run=replace(one.run, m=1000, B=min(one.run.B, 1000))) for one in found]
    assert rank_verdict(fewer) == "holds"
    assert rank_verdict([one._replace(run=replace(one.run, m=0)) for one in found]) == "not decided"


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


# Whether W goes on moving.


@pytest.mark.parametrize("preset", PRESETS)
def test_what_goes_on_moving_are_figure_1_s_runs_with_decay(preset):
    """Under every preset, so that both share them; quick scales lambda by the steps of these runs alone."""
    moving, fig1 = (Plan(name, preset).runs() for name in ("moving", "fig1"))
    assert {run.beginning() for run in moving} == {run for run in fig1 if run.lam > 0}
    assert {run.start() for run in moving} == {run.beginning() for run in moving}
    ways = {}
    for run in moving:
        ways.setdefault(run.beginning(), []).append((run.tail_steps, run.tail_gd))
    assert all(sorted(way) == [(0, False), (0, True), (1, False)] for way in ways.values())
    assert {run.tail_epochs for run in moving} == {4 if preset == "smoke" else 100}


def test_the_titles_of_what_goes_on_moving_say_after_how_many_epochs():
    title = Plan("moving", "night").title()
    assert title.startswith("Does W go on moving? MLP-5-2000 of Figure 1 in 100 more epochs")
    assert title.endswith("(after the first 100 of 2000 epochs, 1 seed)")
    assert Plan("moving", "paper").title().endswith("(3 seeds)")
    note = Plan("moving", "quick").note()
    assert "93.6 or 78 times the paper's by the panels" in note and "epochs" not in note


def test_the_picture_has_a_row_for_each_lambda_and_the_tail_alone():
    """A run that diverged before has its cross where the tail begins. Fault: all epochs, or all rows."""
    plan = Plan("moving", "night", settings={"dataset": ("mnist", "cifar10"), "lam": (1e-6, 1e-3)})
    read = {run: made_up(run, lost=run.dataset == "cifar10") for run in plan.runs()}
    picture, rows = plan.picture(read)
    panels = picture.axes
    assert len(panels) == 2 * 4
    titles = [panel.get_title().replace("\n", " ") for panel in panels[:4]]
    assert titles == [f"{data}, {loss}" for data in ("MNIST", "CIFAR-10") for loss in LOSSES]
    labels = [panel.get_ylabel() for panel in panels if panel.get_ylabel()]
    assert [label.split("\n")[0] for label in labels] == ["λ\u00a0=\u00a01e-6", "λ\u00a0=\u00a01e-3"]
    for place, panel in enumerate(panels):
        lines = [line for line in panel.lines if not line.get_label().startswith("_")]
        if place % 4 < 2:
            assert [line.get_label() for line in lines] == [written("tail", way) for way in TAILS]
            for line in lines:
                numpy.testing.assert_array_equal(line.get_xdata(), numpy.arange(1, 101))
            assert [line.get_ydata()[-1] for line in lines] == [lam_of(place) * times for times in (3, 2, 1)]
        else:
            assert not lines and {tuple(line.get_xdata()) for line in panel.lines} == {(1,)}
    epochs = {row["epoch"] for row in rows if row["dataset"] == "mnist"}
    assert {1, 10, 100, 101, 200} <= epochs  # the numbers of the beginning are in the CSV


LOSSES = ("cross-entropy", "squared loss")


def lam_of(place):
    return (1e-6, 1e-3)[place // 4]


def made_up(run, lost):
    """A history whose d is lambda times 3 (SGD), 2 (a step an epoch) or 1; or that diverged at epoch 3."""
    epochs = numpy.array([epoch for epoch in range(run.epochs + 1) if run.measured(epoch)], float)
    if lost:
        epochs = epochs[:4]
    times = 1 if run.tail_gd else 2 if run.tail_steps else 3
    distance = numpy.where(epochs == 0, numpy.nan, run.lam * times)
    if lost:
        distance[1:] = numpy.nan
    return {"epoch": epochs, "distance": distance, "diverged": lost, "learned": not lost}


WAYS = {"epochs": {}, "steps": {"tail_steps": 1}, "descent": {"tail_gd": True}}


def going_on(epochs, steps, by_descent=(1.0, 1.0, 1.0), lam=1e-5, accuracy=100.0, **fields):
    """The three ways on from one W, with d of three seeds in every epoch of the tail's second half."""
    found = []
    for way, values in zip(WAYS, (epochs, steps, by_descent)):
        seeds = []
        for d in values:
            first_half = numpy.full(50, 1e4 if way == "descent" else 1e-4)  # what must not count
            distance = numpy.concatenate([[numpy.nan], numpy.full(9, 1.0), first_half, numpy.full(50, d)])
            seeds.append(seed(accuracy=accuracy, distance=distance))
        run = dict(network="MLP-5-500", momentum=0.0, lam=lam, epochs=109, tail_epochs=100)
        found.append(outcome(seeds, written("tail", way), **run, **WAYS[way], **fields))
    return found


def moving_verdict(*settings):
    return descent.goes_on_moving.judge([one for ways in settings for one in ways])["holds"]


MORE, LESS = (10.1, 11.0, 50.0), (9.9, 9.0, 2.0)


@pytest.mark.parametrize(
    "epochs, steps, verdict",
    [
        (MORE, MORE, "holds"),
        ((10.0,) * 3, (10.0,) * 3, "holds"),
        (MORE, LESS, "fails"),  # by the number of steps alone. Fault: d per epoch as the only measure
        (LESS, MORE, "fails"),
        (LESS, LESS, "fails"),
        (MORE, (10.1, 11.0, 9.9), "not decided"),  # neither in every seed
        ((10.1, 9.9, 50.0), MORE, "not decided"),
        ((9.9, 11.0, 50.0), (11.0, 9.9, 9.9), "fails"),  # in every seed one of both
    ],
)
def test_w_goes_on_moving_where_both_ratios_are_ten_in_every_seed(epochs, steps, verdict):
    assert moving_verdict(going_on(epochs, steps)) == verdict


def test_of_several_settings_half_must_show_it_and_none_the_opposite():
    shows, opposes = going_on(MORE, MORE, lam=1e-6), going_on(MORE, LESS, lam=1e-4)
    neither = [going_on(MORE, (11.0, 11.0, 9.0), lam=lam) for lam in (1e-5, 1e-3)]
    assert moving_verdict(shows, neither[0]) == "holds"
    assert moving_verdict(shows, *neither) == moving_verdict(shows, opposes) == "mixed"
    assert moving_verdict(opposes, *neither) == "fails" and moving_verdict(*neither) == "not decided"


def test_a_ratio_is_that_of_the_same_seed_data_loss_and_lambda():
    """Fault: d of gradient descent from another W. Against its own, each is 11 times as large."""
    one = going_on((11.0,) * 3, (11.0,) * 3, (1.0,) * 3, lam=1e-6)
    other = going_on((1100.0, 110.0, 11.0), (1100.0, 110.0, 11.0), (100.0, 10.0, 1.0), lam=1e-4)
    mnist = going_on((1.1,) * 3, (1.1,) * 3, (0.1,) * 3, lam=1e-6, dataset="mnist")
    squared = going_on((0.11,) * 3, (0.11,) * 3, (0.01,) * 3, lam=1e-6, loss="mean_squared_error")
    settings = [one, other, mnist, squared]
    numbers = descent.goes_on_moving.judge([way for ways in settings for way in ways])
    assert numbers["holds"] == "holds" and numbers["shown"] == numbers["compared"] == 4
    assert numbers["ratios"] == "11 and 11 times at λ = 1e-6; 11 and 11 times at λ = 1e-4"


def test_d_is_the_median_of_the_second_half_of_the_tail():
    """Leaps of a hundred times in it change nothing. Faults: the mean, the last value, all of the tail."""
    found = going_on(MORE, MORE)
    for way, factor in zip(found, (0.01, 0.01, 100)):
        for made in way.seeds:
            made["distance"][-1] *= factor
            made["distance"][-20] *= factor
    assert moving_verdict(found) == "holds"


@pytest.mark.parametrize("tail, d", [(1, 7), (2, 7), (3, 6), (4, 6)])
def test_of_an_odd_tail_the_second_half_is_the_longer_one(tail, d):
    """Fault: of a tail of one epoch all the history."""
    made = seed(distance=numpy.array([1.0, 1.0, 1.0, 1.0, 5.0, 7.0]))
    assert descent.moved(outcome([made], network="MLP-5-500", tail_epochs=tail)) == [d]


@pytest.mark.parametrize("which", range(3))
def test_what_has_not_learned_or_is_missing_decides_nothing_of_moving(which):
    found = going_on(MORE, MORE)
    assert moving_verdict(found[:which] + found[which + 1 :]) == "not decided"
    found[which].seeds[2]["train_accuracy"][-1] = 49.0
    assert moving_verdict(found) == "not decided"
    assert moving_verdict(found, going_on(MORE, LESS, lam=1e-3)) == "fails"


def test_without_decay_nothing_is_decided_of_moving_and_what_stands_still_does_not_move():
    assert moving_verdict(going_on(MORE, MORE, lam=0.0)) == "not decided"
    still = (0.0, 0.0, 0.0)
    assert moving_verdict(going_on(still, still, still)) == "fails"
    assert moving_verdict(going_on(MORE, MORE, still)) == "holds"


def test_where_a_step_of_sgd_moves_w_as_far_as_one_of_gradient_descent_the_claim_never_holds(rng):
    """200 tables of four settings: an epoch of 390 steps moves it 390 times as far. Fault: that one alone."""
    said = []
    for _ in range(200):
        settings = []
        for lam in (1e-6, 1e-5, 1e-4, 1e-3):
            steps, by_descent = rng.lognormal(0, 0.5, (2, 3))
            settings.append(going_on(390 * steps, steps, by_descent, lam=lam))
        said.append(moving_verdict(*settings))
    assert set(said) <= {"fails", "not decided"} and said.count("fails") > 190


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
    assert one.verdict.measured.startswith("2 seeds: rank lost")
    assert "0 by gradient descent" in one.verdict.measured
    store([run for run in plan.runs() if run.B == 5000], tmp_path, ranks=[60] * 6)
    assert judged(tmp_path, "night", KEEPS, "descent", 2).verdict.verdict == "fails"


MOVES = "with λ > 0 W does not converge though loss and accuracy do"


def test_the_claim_on_moving_is_judged_from_the_store(tmp_path, no_waiting_for_the_disk):
    one = judged(tmp_path, "quick", MOVES, "moving")
    assert one.verdict.measured == "not run (make moving PRESET=quick)"
    assert one.verdict.verdict == "too early"
    runs = Plan("moving", "quick").runs()
    for run in runs:
        store([run], tmp_path)
        meta, arrays = read(result_path(tmp_path, run))
        arrays["distance"][:] = 1.0 if run.tail_gd else 30.0
        write(result_path(tmp_path, run), meta, arrays)
    one = judged(tmp_path, "quick", MOVES, "moving")
    assert one.verdict.verdict == "seen" and one.otherwise == {}
    assert one.verdict.place == "Section 4.2, Fig. 1"
    shown = "16 of 16 networks that have learned in all three ways show it, 0 the opposite"
    assert one.verdict.measured.startswith(f"2 seeds: {shown}; ")
    for run in runs:
        if run.tail_steps:
            meta, arrays = read(result_path(tmp_path, run))
            arrays["distance"][:] = 2.0
            write(result_path(tmp_path, run), meta, arrays)
    one = judged(tmp_path, "quick", MOVES, "moving")
    assert one.verdict.verdict == "not seen" and "30 and 2 times at λ = 1e-6" in one.verdict.measured


def test_the_stricter_rule_stands_beside_the_verdict_with_its_date_and_reason():
    rule = descent.goes_on_moving.rule
    assert "Made stricter on 2026-11-24" in rule and "their number alone could make d larger" in rule
