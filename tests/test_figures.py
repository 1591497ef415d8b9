"""Every figure: the paper's settings, a reduction that keeps the decay budget and says so, and pictures that match the store."""

import csv
from pathlib import Path

import numpy
import pytest

from experiments import figures, plots, store
from experiments import __main__ as command
from experiments.figures import BATCHES, FIGURES, Plan
from experiments.runner import Where, cost, finished
from experiments.runs import Run
from experiments.steps import Steps
from minigrad import rank
from minigrad.optim import step_decay

ETAS, WIDE_ETAS = {0.001, 0.01, 0.1}, {0.0125, 0.025, 0.05, 0.1}
LAMS = {0.0, 1e-4, 2e-4, 4e-4, 8e-4, 6e-3}
PAPER = {  # Section 4.3 and the captions: network, eta, B, lambda
    "fig2": ("MLP-BN-10-100", ETAS, {4, 8, 16, 32, 64, 128}, {5e-4}),
    "fig3": ("MLP-BN-10-100", {0.1}, {16, 32, 64, 128}, LAMS),
    "fig4": ("RES-BN-5-500", ETAS, {4, 8, 16, 32, 64, 128}, {5e-4}),
    "fig5": ("MLP-5-500", ETAS, {4, 8, 16, 32, 64, 128}, {5e-4}),
    "fig6": ("MLP-BN-10-100", WIDE_ETAS, {32, 64, 128}, {5e-4}),
    "fig7": ("RES-BN-5-500", WIDE_ETAS, {32, 64, 128}, {5e-4}),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_preset_is_the_paper_s_setting(name):
    network, etas, batches, lams = PAPER[name]
    runs = Plan(name, "paper").runs()
    assert {(r.eta, r.B, r.lam) for r in runs} == {(eta, B, lam) for eta in etas for B in batches for lam in lams}
    assert len(set(runs)) == len(runs) == 3 * len(etas) * len(batches) * len(lams)
    same = {(r.network, r.dataset, r.loss, r.m, r.m_test, r.momentum, r.milestones, r.factor, r.epochs) for r in runs}
    assert same == {(network, "cifar10", "cross_entropy", 0, 0, 0.9, (60, 100, 200), 0.1, 500)}
    assert {r.measure_every for r in runs} == {1}
    assert Plan(name, "paper").title().endswith("(3 seeds)") and "Reduced" not in Plan(name, "paper").note()


def budget(run):
    """E = sum over the steps of eta_t 2 lambda / (1 - momentum)."""
    etas = [step_decay(run.eta, epoch, run.milestones, run.factor) for epoch in range(run.epochs)]
    return sum(etas) * ((run.m or 50_000) // run.B) * 2 * run.lam / (1 - run.momentum)


@pytest.mark.parametrize("preset", ["quick", "smoke"])
@pytest.mark.parametrize("name", PAPER)
def test_a_reduction_keeps_the_decay_budget_and_the_shape_of_the_schedule(name, preset):
    plan = Plan(name, preset)
    for lines in plan.columns:
        for paper, runs in lines:
            assert len(runs) == plan.seeds >= 2
            for run in runs:
                numpy.testing.assert_allclose(budget(run), budget(paper), rtol=1e-12)
                assert (run.B, run.eta, run.momentum, run.loss) == (paper.B, paper.eta, paper.momentum, paper.loss)
                fractions = [epoch / run.epochs - full / paper.epochs for epoch, full in zip(run.milestones, paper.milestones)]
                assert len(fractions) == 3 and max(map(abs, fractions)) <= 0.5 / run.epochs
                assert run.m // run.B >= 5 and run.m % run.B == 0  # several steps an epoch, no sample left out
    assert "decay budget" in plan.note() and f"{runs[0].m} (paper: all) training samples" in plan.note()
    assert plan.title().endswith("(reduced, 2 seeds)" if preset == "quick" else "no result, 2 seeds)")


@pytest.mark.parametrize("name", ["fig1", "fig2"])
def test_a_data_set_chosen_by_hand_is_replaced_like_the_paper_s(name):
    def datasets(preset, dataset, **options):
        return {run.dataset for run in Plan(name, preset, settings={"dataset": dataset}, **options).runs()}

    assert datasets("quick", "mnist") == {"mnist"} and datasets("quick", "mnist", stand_ins=["mnist"]) == {"synthetic-mnist"}
    assert datasets("smoke", "mnist") == datasets("smoke", "synthetic-mnist") == {"synthetic-mnist"}


def test_milestones_and_a_lambda_set_by_hand():
    assert Plan("fig2", "quick", settings={"milestones": (10,)}).runs()[0].milestones == (10,)
    assert Plan("fig2", "paper", settings={"epochs": 100}).runs()[0].milestones == (60, 100, 200)  # nothing else was asked for
    one, two = (Plan("fig2", "quick", settings={"lam": lam}).runs()[0].lam for lam in (1e-4, 2e-4))
    assert two == pytest.approx(2 * one)
    assert "times the given 2e-4" in Plan("fig2", "quick", settings={"lam": 2e-4}).note()


@pytest.mark.parametrize("name", [name for name in FIGURES if FIGURES[name].line == "B"])
def test_a_batch_size_looks_the_same_in_every_figure(name, monkeypatch):
    styles = {}
    monkeypatch.setattr(figures.plots, "save", lambda picture, records, stem: None)
    monkeypatch.setattr(figures.plots, "histories", lambda columns, *args: styles.update({
        line.label: line.style for column in columns for line in column.lines
    }))
    monkeypatch.setattr(figures.plots, "tidy", lambda *args: None)
    monkeypatch.setattr(figures, "history", lambda *args: None)
    plan = Plan(name, "paper", seeds=1)
    plan.draw([(None, None)] * len(plan.runs()), "figures")
    assert styles == {str(B): BATCHES.index(B) for B in plan.figure.axes["B"]}


def run_of(name, *options):
    settings = ["--set", "eta=0.1", "--set", "B=128", "--set", "network=MLP-BN-2-8", "--seeds", "1", "--jobs", "1"]
    return command.main([name, "--preset", "smoke", *settings, *options])


def read(name):
    with open(Path("figures") / f"{name}.csv") as file:
        return list(csv.DictReader(file))


def test_ranks_across_layers_are_those_of_the_last_epoch_s_weights(capsys):
    assert run_of("fig6", "--keep-weights", "--set", "tol=0.2") == 0
    (path,) = Path("results").glob("*.npz")
    meta, arrays = store.read(path)
    weights = [W for key, W in arrays.items() if key.startswith("W ") and min(W.shape) > 1]
    rows = read("fig6")
    assert [row["layer"] for row in rows] == ["1", "2", "3"] and {row["field"] for row in rows} == {"layer_rank"}
    assert [float(row["value"]) for row in rows] == [rank(W, tol=0.2) for W in weights]
    assert len({row["value"] for row in rows}) > 1  # so that their order was checked


@pytest.mark.parametrize("name", ["fig2", "fig3"])
def test_training_figures_have_ranks_and_both_accuracies(name, capsys):
    assert run_of(name, "--set", "lam=1e-4") == 0
    rows = read(name)
    assert {row["field"] for row in rows} == {"rank", "train_accuracy", "test_accuracy"}
    assert {row["epoch"] for row in rows} == {"0", "1", "2"}
    assert {(row["column"], row["line"]) for row in rows} == {{"fig2": ("η = 0.1", "128"), "fig3": ("B = 128", "1e-4")}[name]}


def test_the_list_counts_what_is_done_and_tells_the_time_left(capsys):
    assert run_of("fig2") == 0
    plan = Plan("fig2", "smoke")
    Path("results").rename("elsewhere")
    for run in plan.runs()[:5]:
        Path(store.result_path("here", run)).parent.mkdir(exist_ok=True)
        Path(store.result_path("here", run)).touch()
    capsys.readouterr()
    assert command.main(["list", "--preset", "smoke", "--results", "here", "--jobs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*FIGURES, "steps"]
    assert "5 of  36 runs, about" in lines[1] and "left on 2 cores" in lines[1]
    assert all("0 of" in line for line in lines[2:5])
    for run in plan.runs():
        Path(store.result_path("here", run)).touch()
    assert command.main(["list", "--preset", "smoke", "--results", "here"]) == 0
    assert "36 of  36 runs, done" in capsys.readouterr().out.splitlines()[1]
    assert finished(plan.runs()[0], Where("here"))


def test_the_cost_grows_with_what_a_run_computes():
    base = cost(Run())
    for change in ({"epochs": 1000}, {"B": 4}, {"network": "MLP-BN-10-500"}, {"network": "MLP-BN-20-100"}):
        assert cost(Run(**change)) > 1.2 * base, change
    assert cost(Run(m=1000)) < base / 10
    assert [command.duration(s) for s in (0.1, 90, 600, 9000, 1e6)] == ["1 s", "90 s", "10 min", "2 h", "12 days"]


# The equal-step control.


def steps_of(run):
    return run.epochs * (run.m // run.B)


def test_the_control_has_the_figures_runs_and_as_many_steps_for_every_batch_size():
    control, shared = Steps("steps", "quick"), [run for name in ("fig2", "fig5") for run in Plan(name, "quick").runs()]
    runs = control.runs()
    assert runs[: len(shared)] == shared and len(set(runs)) == 2 * len(shared) - len([run for run in shared if run.B == 16])
    for network in {run.network for run in runs}:
        added = [run for run in runs[len(shared) :] if run.network == network]
        assert len({steps_of(run) for run in added}) == 1 and {run.B for run in added} == set(BATCHES)
        for eta in ETAS:
            budgets = [budget(run) for run in added if run.eta == eta]
            assert max(budgets) < 1.04 * min(budgets)  # the drops fall on whole epochs
            assert max(abs(figures.budget(run) / budget(run) - 1) for run in added) < 1e-12


def test_the_control_s_picture_has_every_final_rank_against_batch_size_and_budget(here, capsys):
    settings = ["--set", "eta=0.01,0.1", "--set", "B=64,128", "--jobs", "1", "--seeds", "2"]
    assert command.main(["steps", "--preset", "smoke", *settings]) == 0
    rows = read("steps")
    assert {row["field"] for row in rows} == {"MLP-BN-10-100", "MLP-5-500"}
    plan = Steps("steps", "smoke", 2, {"eta": (0.01, 0.1), "B": (64, 128)})
    final = {}
    for run in plan.runs():
        meta, arrays = store.read(store.result_path("results", run))
        value = figures.history(meta, arrays, figures.View())["final_rank"]
        final[run.network.split("-")[:-1] == ["MLP", "5"], run.eta, run.B, run.epochs > 2, run.seed] = value
    for column, scheme in (("equal epochs", False), ("equal steps", True)):
        drawn = {
            (row["field"] == "MLP-5-500", float(row["line"].split(",")[0]), int(row["B"]), "steps" in row["line"], int(row["seed"])): float(row["value"])
            for row in rows if row["column"] == column
        }
        assert drawn == {key: value for key, value in final.items() if key[3] == scheme and numpy.isfinite(value)}
    against_budget = [row for row in rows if row["column"].startswith("all")]
    assert len(against_budget) == numpy.isfinite(list(final.values())).sum() and all(float(row["E"]) > 0 for row in against_budget)
    before = Path("figures/steps.png").read_bytes()
    assert command.main(["steps", "--preset", "smoke", *settings, "--plot-only"]) == 0
    assert Path("figures/steps.png").read_bytes() == before


def test_a_diverged_run_is_a_cross_and_no_rank():
    values = {"B": numpy.array([4, 8, 16]), "rank": numpy.array([numpy.nan, 3.0, 5.0]), "diverged": False}
    column = plots.Column("equal steps", [plots.Line("0.1", 0, [values])], "B")
    picture = plots.histories([column], [plots.Row("rank", "final rank", floor=0)], "title", "note", "η")
    (axis,) = picture.axes
    crosses = [line for line in axis.lines if line.get_label() == "_diverged"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in crosses] == [(4, axis.get_ylim()[1])]
    assert [record["B"] for record in plots.tidy([column], [plots.Row("rank", "final rank")])] == [8, 16]


def test_a_diverged_run_has_no_final_rank_even_if_its_matrices_still_have_one():
    arrays = {name: numpy.array([1.0, numpy.nan]) for name in ("train_loss", "train_accuracy", "test_accuracy", "distance")}
    arrays |= {"epoch": numpy.arange(2.0), "spectrum 2-1": numpy.ones((2, 3)), "spectrum 3-2": numpy.ones((2, 3))}
    for status, expected in (("finished", 3), ("diverged", numpy.nan)):
        made = figures.history({"status": status}, arrays, figures.View())
        numpy.testing.assert_equal([made["final_rank"], *made["layer_rank"]], [expected] * 3)
        assert made["rank"].tolist() == [3, 3]


def test_diverged_runs_in_a_picture_of_layers_do_not_hide_each_other():
    lost = {"layer": numpy.arange(1, 6), "layer_rank": numpy.full(5, numpy.nan), "diverged": True}
    found = lost | {"layer_rank": numpy.arange(5.0), "diverged": False}
    lines = [plots.Line("32", 3, [lost]), plots.Line("64", 4, [lost]), plots.Line("128", 5, [found])]
    (axis,) = plots.histories([plots.Column("", lines, "layer")], figures.LAYERS, "title", "note", "B").axes
    crosses = [line for line in axis.lines if line.get_label() == "_diverged"]
    assert len({tuple(line.get_xdata()) for line in crosses}) == 2 and {tuple(line.get_ydata()) for line in crosses} == {(axis.get_ylim()[1],)}
