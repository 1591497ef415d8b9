"""Every figure: the paper's settings, prefixes of them, names that never collide, pictures of the store."""

import csv
import itertools
from dataclasses import fields, replace
from pathlib import Path

import numpy
import pytest

from experiments import __main__ as command
from experiments import commands, files, figures, layout, looks, plots, presets, results, runner, runs, store
from experiments.figures import BATCHES, CELLS, FIGURES, READINGS
from experiments.plans import Plan, below_each_other
from experiments.presets import PRESETS
from experiments.results import View
from experiments.runs import Run
from minigrad import rank
from minigrad.optim import step_decay
from minigrad.train import batches

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
TWINS = {}
for kind in ("true", "standard"):
    TWINS |= {f"fig{n}-{kind}": (f"fig{n}", READINGS[kind]) for n in (2, 3, 4, 6, 7)}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same_for_all(runs, *names):
    """The one value of every field, which all runs have."""
    (values,) = {tuple(getattr(run, name) for name in names) for run in runs}
    return values


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_preset_is_the_paper_s_setting(name):
    network, etas, sizes, lams = PAPER[name]
    runs = Plan(name, "paper").runs()
    assert {(r.eta, r.B, r.lam) for r in runs} == set(itertools.product(etas, sizes, lams))
    assert len(set(runs)) == len(runs) == 3 * len(etas) * len(sizes) * len(lams)
    assert same_for_all(runs, "network", "dataset", "loss") == (network, "cifar10", "cross_entropy")
    assert same_for_all(runs, "m", "m_test") == (0, 0)
    assert same_for_all(runs, "momentum", "milestones", "factor", "epochs") == (0.9, (60, 100, 200), 0.1, 500)
    assert same_for_all(runs, "detached", "scalar", "steps_of_B") == (True, True, 0)  # the memo's text
    assert [epoch for epoch in range(31) if runs[0].measured(epoch)] == [*range(11), 15, 20, 25, 30]
    assert Plan(name, "paper").title().endswith("(3 seeds)") and "Reduced" not in Plan(name, "paper").note()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("twin", TWINS)
def test_a_twin_differs_from_its_figure_in_batch_norm_alone(twin, preset):
    name, reading = TWINS[twin]
    assert Plan(twin, preset).runs() == [replace(run, **reading) for run in Plan(name, preset).runs()]
    (ours, rest), (twin_s, twin_rest) = (Plan(which, preset).title().split(": ") for which in (name, twin))
    assert ours != twin_s and rest == twin_rest


def test_every_figure_with_batch_norm_has_its_twins_and_no_other():
    assert {name for name in FIGURES if name.endswith(("-true", "-standard"))} == set(TWINS)
    memo_s = [f"fig{n}" for n in range(1, 8)]
    ours = ["norms", "control", "descent", "moving"]
    assert [name for name in FIGURES if name not in TWINS] == [*memo_s, *ours]


def test_norms_is_figure_2_s_column_under_four_readings():
    runs = Plan("norms", "night").runs()
    assert {(r.detached, r.scalar) for r in runs} == set(itertools.product((True, False), repeat=2))
    for name in ("fig2", "fig2-true", "fig2-standard"):
        assert {run for run in Plan(name, "night").runs() if run.eta == 0.01} <= set(runs)
    assert len(runs) == 4 * 6 * 3 and {run.eta for run in runs} == {0.01}
    titles = [title for title, _ in Plan("norms", "night").columns]
    assert titles == ["the memo's text", "true gradient", "detached, γ, β per unit", "standard batch norm"]


PREFIXED = [*PAPER, *TWINS, "norms"]


@pytest.mark.parametrize("preset", ["quick", "night"])
@pytest.mark.parametrize("name", PREFIXED)
def test_a_prefix_is_the_paper_s_run_stopped_early(name, preset):
    """Nothing is rescaled; only quick narrows the networks of width 500."""
    plan = Plan(name, preset)
    epochs, seeds = {"quick": (presets.QUICK_EPOCHS, 1), "night": (100, 3)}[preset]
    for line in (line for _, lines in plan.columns for line in lines):
        assert len(line.runs) == seeds
        for seed, run in enumerate(line.runs):
            network = line.paper.network.replace("-500", "-100") if preset == "quick" else line.paper.network
            assert run == replace(line.paper, epochs=epochs, seed=seed, network=network)
    assert f"first {epochs} of 500 epochs" in plan.title()
    narrowed = preset == "quick" and name.startswith(("fig4", "fig5", "fig7"))
    assert ("-100 for " in plan.title()) == narrowed and "Reduced" not in plan.note()


def test_figure_1_is_cut_off_by_night_and_scaled_by_quick_alone():
    night = Plan("fig1", "night")
    assert {run.epochs for run in night.runs()} == {100} and {run.seed for run in night.runs()} == {0}
    assert {run.lam for run in night.runs()} == {0.0, 1e-6, 1e-5, 1e-4, 1e-3}
    assert "first 100 of 2000" in night.title()
    assert "reduced" in Plan("fig1", "quick").title() and "decay budget" in Plan("fig1", "quick").note()
    presets = [(name, preset, how) for name in FIGURES for preset, how in FIGURES[name].presets.items()]
    scaled = {(name, preset) for name, preset, how in presets if how.scaled}
    assert scaled == {(name, "smoke") for name in FIGURES} | {("fig1", "quick"), ("moving", "quick")}


def budget(run, m=50_000):
    """E = sum over the steps of eta_t 2 lambda / (1 - momentum)."""
    etas = [step_decay(run.eta, epoch, run.milestones, run.factor) for epoch in range(run.epochs)]
    return sum(etas) * ((run.m or m) // (run.steps_of_B or run.B)) * 2 * run.lam / (1 - run.momentum)


@pytest.mark.parametrize("name", [*PREFIXED, "control"])
def test_the_smoke_reduction_keeps_the_decay_budget_and_the_shape_of_the_schedule(name):
    plan = Plan(name, "smoke")
    for line in (line for _, lines in plan.columns for line in lines):
        paper = line.paper
        assert len(line.runs) == plan.seeds >= 2
        for run in line.runs:
            numpy.testing.assert_allclose(budget(run), budget(paper), rtol=1e-12)
            numpy.testing.assert_allclose(run.budget(), budget(run), rtol=1e-12)
            same_for_all([run, paper], "B", "eta", "momentum", "loss")
            pairs = zip(run.milestones, paper.milestones)
            fractions = [epoch / run.epochs - full / paper.epochs for epoch, full in pairs]
            assert len(fractions) == 3 and max(map(abs, fractions)) <= 0.5 / run.epochs
            assert run.m // run.B >= 5 and run.m % run.B == 0  # several steps an epoch, no sample left out
    assert "decay budget" in plan.note()
    assert f"{plan.runs()[0].m} (paper: all) training samples" in plan.note()
    assert plan.title().endswith("no result, 2 seeds)")


@pytest.mark.parametrize("name", ["fig1", "fig2"])
def test_a_data_set_chosen_by_hand_is_replaced_like_the_paper_s(name):
    def datasets(preset, dataset, **options):
        return {run.dataset for run in Plan(name, preset, settings={"dataset": dataset}, **options).runs()}

    assert datasets("quick", "mnist") == {"mnist"}
    assert datasets("quick", "mnist", stand_ins=["mnist"]) == {"synthetic-mnist"}
    assert datasets("smoke", "mnist") == datasets("smoke", "synthetic-mnist") == {"synthetic-mnist"}


def test_milestones_and_a_lambda_set_by_hand():
    assert Plan("fig2", "smoke", settings={"milestones": (10,)}).runs()[0].milestones == (10,)
    assert Plan("fig2", "paper", settings={"epochs": 100}).runs()[0].milestones == (60, 100, 200)
    one, two = (Plan("fig2", "smoke", settings={"lam": lam}).runs()[0].lam for lam in (1e-4, 2e-4))
    assert two == pytest.approx(2 * one)
    assert "times the given 2e-4" in Plan("fig2", "smoke", settings={"lam": 2e-4}).note()
    assert Plan("fig2", "quick", settings={"lam": 1e-4}).runs()[0].lam == 1e-4  # a prefix scales nothing


def test_a_network_set_by_hand_keeps_its_width():
    runs = Plan("fig4", "quick", settings={"network": "RES-BN-2-300"}).runs()
    assert {run.network for run in runs} == {"RES-BN-2-300"}


@pytest.mark.parametrize(
    "preset, given", [("night", {}), ("smoke", {}), (None, {"eta": 0.01}), ("night", {"B": 4})]
)
def test_another_plan_keeps_seeds_stand_ins_and_what_was_set_by_hand(preset, given):
    """The fault: the seeds of the other preset in place of those that were given."""
    plan = Plan("fig2", "quick", 2, {"epochs": 7}, ["cifar10"])
    another = plan.another(preset, given)
    asked = Plan("fig2", preset or "quick", 2, {"epochs": 7} | given, ["cifar10"])
    assert another.runs() == asked.runs() and another.stem() == asked.stem()
    assert {run.seed for run in another.runs()} == {0, 1}


def test_seeds_that_nobody_set_are_those_of_the_other_preset():
    assert Plan("fig2", "quick").another("night").runs() == Plan("fig2", "night").runs()


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"cell": "a"}, "fig2 varies eta, B, not cell"),
        ({"reading": ("memo",)}, "fig2 varies eta, B, not reading"),
        ({"lam": (0.0, 1e-4)}, "lam takes one value, fig2 varies eta, B"),
    ],
)
def test_a_setting_that_a_figure_does_not_vary_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Plan("fig2", "quick", settings=settings)


@pytest.mark.parametrize(
    "name, field, value",
    [("norms", "detached", True), ("control", "B", 4), ("control", "detached", False)],
)
def test_what_an_axis_sets_cannot_be_set_by_hand_too(name, field, value):
    with pytest.raises(ValueError, match=f"{name} varies .*, which set {field}: it can't be set by hand too"):
        Plan(name, "quick", settings={field: value})


def test_another_learning_rate_and_lambda_reach_the_cells_that_divide_them():
    """Where cell b does not learn, all are run at eta = 0.01, and d at an eighth of that."""
    ((_, lines), _) = Plan("control", "night", settings={"eta": 0.01, "lam": 8e-4}).columns
    runs = {line.label[0]: line.runs[0] for line in lines}
    assert {cell: run.eta for cell, run in runs.items()} == dict.fromkeys("abcde", 0.01) | {"d": 0.01 / 8}
    assert {cell: run.lam for cell, run in runs.items()} == dict.fromkeys("abcde", 8e-4) | {"e": 1e-4}


def test_an_unknown_point_of_an_axis_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="cell must be one of a, b, c, d, e in control, got z"):
        Plan("control", "quick", settings={"cell": ("a", "z")})


# Names of files, and what stands in the picture.


@pytest.mark.parametrize(
    "name, settings, words",
    [
        ("fig2", {}, "Figure 2, batch norm of the memo's text: "),
        ("fig2", {"detached": False}, "Figure 2, true gradient of batch norm: "),
        ("fig2", {"scalar": False}, "Figure 2, detached batch norm with γ, β per unit: "),
        ("fig2", {"detached": False, "scalar": False}, "Figure 2, standard batch norm: "),
        ("fig2-standard", {}, "Figure 2, standard batch norm: "),
        ("fig3", {"network": "MLP-10-100"}, "Figure 3: rank of MLP-10-100"),
        ("fig5", {}, "Figure 5: "),
        ("norms", {"eta": 0.1}, "η = 0.1 "),
        ("control", {}, "η = 0.03 "),
        ("control", {"eta": 0.01}, "η = 0.01 "),
        ("descent", {}, "trained on m = 5000 images of CIFAR-10, true gradient of batch norm, η = 0.03 "),
        ("descent", {"m": 1000, "B": (16, 1000)}, "trained on m = 1000 images"),
        ("descent", {"m": 0, "B": 16}, "trained on m = 50000 images"),
    ],
)
def test_a_title_says_what_is_trained_also_where_it_was_set_by_hand(name, settings, words):
    assert words in Plan(name, "night", settings=settings).title().replace("\u00a0", " ")


def test_a_batch_size_that_the_paper_has_not_looks_like_none_of_the_paper_s():
    ((_, lines),) = Plan("fig2", "quick", settings={"eta": 0.1, "B": (256, 4, 512)}).columns
    assert len({line.style for line in lines}) == 3 and lines[1].style == BATCHES.index(4)


def test_the_order_of_settings_changes_no_name_and_a_name_too_long_is_refused_before_the_work():
    one, other = ({"B": 4, "eta": 0.1}, {"eta": 0.1, "B": 4})
    assert Plan("fig2", "quick", settings=one).stem() == Plan("fig2", "quick", settings=other).stem()
    with pytest.raises(ValueError, match="no name for fig1's files: give fewer"):
        Plan("fig1", "quick", settings={"lam": tuple(i * 1e-6 for i in range(40))})


def test_no_preset_and_no_variation_overwrites_another_s_files():
    settings = [{}, {"tol": 1e-3}, {"B": (4, 16)}, {"B": 4}, {"eta": 0.1, "B": 4}]
    settings += [{"detached": False}, {"milestones": (60, 100)}]
    plans = [Plan("fig2", preset, settings=given) for preset in PRESETS for given in settings]
    plans += [Plan("fig2", "quick", seeds=2), Plan("fig2", "quick", stand_ins=["cifar10"])]
    plans += [Plan(name, "quick") for name in FIGURES if name != "fig2"]
    stems = [plan.stem() for plan in plans]
    assert len(set(stems)) == len(stems)
    assert Plan("fig2", "quick").stem() == "fig2" and Plan("fig2", "night", seeds=3).stem() == "fig2-night"
    varied = Plan("fig2", "night", 1, {"B": (4, 16), "tol": 1e-3})
    assert varied.stem() == "fig2-night-B=4,16-tol=0.001-seeds=1"
    assert Plan("fig2", "quick", settings={"detached": False}).stem() == "fig2-detached=false"


def test_changed_measures_and_axes_are_said_in_the_picture():
    note = Plan("fig2", "night", settings={"B": (4, 16), "tol": 1e-3, "output_layer": False}).note()
    assert "Set by hand: B = 4, 16; tol = 0.001; output_layer = False." in note


@pytest.mark.parametrize("name", [name for name in FIGURES if FIGURES[name].line == "B"])
def test_a_batch_size_looks_the_same_in_every_figure(name):
    columns = Plan(name, "paper", seeds=1).columns
    styles = {line.label: line.style for _, lines in columns for line in lines}
    known = {str(B): BATCHES.index(B) for B in FIGURES[name].axes["B"] if B in BATCHES}
    others = {label: style for label, style in styles.items() if label not in known}
    assert {label: styles[label] for label in known} == known and len(known) >= 2
    assert min(others.values(), default=len(BATCHES)) >= len(BATCHES)


# The way through the store.


def run_of(name, *options):
    small = ["--set", "eta=0.1", "--set", "B=128", "--set", "network=MLP-BN-2-8", "--seeds", "1"]
    return command.main([name, "--preset", "smoke", "--jobs", "1", *small, *options])


def read(pattern):
    (path,) = Path("figures").glob(f"{pattern}.csv")
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_ranks_across_layers_are_those_of_the_last_epoch_s_weights(capsys):
    assert run_of("fig6", "--keep-weights", "--set", "tol=0.2") == 0
    (path,) = Path("results").glob("*.npz")
    meta, arrays = store.read(path)
    weights = [W for key, W in arrays.items() if key.startswith("W ") and min(W.shape) > 1]
    rows = read("fig6*")
    assert [row["layer"] for row in rows] == ["1", "2", "3"] and {row["field"] for row in rows} == {"rank"}
    assert {row["epoch"] for row in rows} == {"2"} and {row["tol"] for row in rows} == {"0.2"}
    assert [float(row["value"]) for row in rows] == [rank(W, tol=0.2) for W in weights]
    assert len({row["value"] for row in rows}) > 1  # so that their order was checked


@pytest.mark.parametrize("name", ["fig2", "fig3-true"])
def test_training_figures_have_ranks_and_both_accuracies(name, capsys):
    assert run_of(name, "--set", "lam=1e-4") == 0
    rows = read(f"{name}*")
    assert {row["field"] for row in rows} == {"rank", "train_accuracy", "test_accuracy"}
    assert {row["epoch"] for row in rows} == {"0", "1", "2"} and {row["layer"] for row in rows} == {""}
    assert {row["detached"] for row in rows} == {str(name == "fig2")}


def test_every_csv_has_the_same_columns_which_say_all_about_a_number(capsys):
    """Every field of the run as it was trained, how the spectra were read, and the run's end."""
    texts = []
    for name in ("fig2", "fig6-standard", "norms"):
        assert run_of(name) == 0
        texts.append(read(f"{name}*"))
    assert run_of("fig1", "--set", "m=640", "--set", "dataset=mnist", "--set", "lam=1e-4") == 0
    texts.append(read("fig1*"))
    expected = ["preset", *(f.name for f in fields(Run) + fields(View)), *results.VALUES]
    assert all(list(row) == expected for rows in texts for row in rows)
    (lam,) = {float(row["lam"]) for row in texts[-1]}
    assert lam == pytest.approx(1e-4 * 2000 * 468 / (5 * 5))  # as trained, to keep the decay budget
    four = set(itertools.product(("True", "False"), repeat=2))
    assert {(row["detached"], row["scalar"]) for row in texts[2]} == four


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
    assert [line.split()[0] for line in lines] == [*FIGURES]
    assert "5 of  36 runs, about" in lines[1] and "left on 2 cores" in lines[1]
    assert all("0 of" in line for line in lines[2:5])
    for run in plan.runs():
        Path(store.result_path("here", run)).touch()
    assert command.main(["list", "--preset", "smoke", "--results", "here"]) == 0
    assert "36 of  36 runs, done" in capsys.readouterr().out.splitlines()[1]
    assert store.finished("here", plan.runs()[0])


def test_the_list_counts_what_runs_start_from_once_and_not_if_it_is_there(monkeypatch, capsys):
    """Faults: a start without its weights, which is trained again; a tail as long as all of its run."""
    there, with_their_weights = set(), set()

    def finished(results, run, with_weights=False):
        return run in (with_their_weights if with_weights else there)

    def left(jobs):
        assert command.main(["list", "--preset", "night", "--jobs", str(jobs)]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("moving ")]
        assert f"left on {jobs} core{'s' if jobs > 1 else ''}:" in line
        return line.split("runs, about ")[1].split(" left")[0]

    monkeypatch.setattr(commands, "finished", finished)
    runs = Plan("moving", "night").runs()
    starts = {run.start() for run in runs}
    tails = [run.cost() - run.start().cost() for run in runs]
    all_of_it = commands.duration(sum(tails) + sum(start.cost() for start in starts))
    assert left(1) == all_of_it != commands.duration(sum(tails))
    assert left(1000) == commands.duration(max(run.cost() for run in runs))
    there |= starts
    assert left(1) == all_of_it
    with_their_weights |= starts
    assert left(1) == commands.duration(sum(tails))
    assert left(1000) == commands.duration(max(tails))


@pytest.mark.parametrize("compiled", [True, False])
def test_the_cost_grows_with_what_a_run_computes(compiled, monkeypatch):
    monkeypatch.setattr(runs, "COMPILED", compiled)
    base = Run().cost()
    more = [{"epochs": 1000}, {"B": 4}, {"steps_of_B": 16}]
    more += [{"network": "MLP-BN-10-500"}, {"network": "MLP-BN-20-100"}]
    for change in more:
        assert Run(**change).cost() > 1.1 * base, change
    assert Run(m=1000).cost() < base / 4
    words = [commands.duration(seconds) for seconds in (0.1, 90, 600, 9000, 1e6)]
    assert words == ["1 s", "90 s", "10 min", "2 h", "12 days"]


# The control.


def test_the_cells_of_the_control_have_the_steps_and_the_budgets_that_it_compares():
    for title, lines in Plan("control", "paper").columns:
        runs = {line.label[0]: line.runs[0] for line in lines}
        steps = {cell: run.epochs * (50_000 // (run.steps_of_B or run.B)) for cell, run in runs.items()}
        assert steps == {"a": 195_000, "b": 195_000, "c": 1_562_500, "d": 1_562_500, "e": 1_562_500}
        budgets = {cell: budget(run) for cell, run in runs.items()}
        expected = {"a": 7.64, "b": 7.64, "c": 61.2, "d": 7.65, "e": 7.65}
        assert budgets == pytest.approx(expected, rel=1e-3)
        assert budgets["a"] == budgets["b"]
        assert {cell: run.B for cell, run in runs.items()} == {"a": 128, "b": 16, "c": 16, "d": 16, "e": 16}
        assert same_for_all(runs.values(), "momentum", "epochs", "milestones") == (0.9, 500, (60, 100, 200))
        assert same_for_all(runs.values(), "detached", "scalar") == (title == "MLP-5-500", True)
        assert {cell: run.eta for cell, run in runs.items()} == dict.fromkeys("abcde", 0.03) | {"d": 0.03 / 8}
        assert {cell: run.lam for cell, run in runs.items()} == dict.fromkeys("abcde", 5e-4) | {"e": 5e-4 / 8}
    # Its drops come late, so night runs it whole.
    assert Plan("control", "night").runs() == Plan("control", "paper").runs()


def test_an_epoch_of_other_length_takes_the_next_batches_of_one_pass_after_another():
    """Against a single list of all passes, cut into pieces: no batch is left out and none comes twice."""
    m = 50
    for B, steps_of_B in ((4, 16), (4, 0), (16, 4), (8, 10)):
        run = Run(B=B, steps_of_B=steps_of_B, seed=3)
        stream = numpy.concatenate([batches(m, B, 3, epoch) for epoch in range(1, 40)])
        S = m // (steps_of_B or B)
        for epoch in range(1, 8):
            rows = runner.rows_of(run, m, epoch)
            numpy.testing.assert_array_equal(rows, stream[(epoch - 1) * S : epoch * S])


def test_the_control_s_picture_draws_the_cells_that_were_asked_for(capsys):
    options = ["--set", "cell=a,b", "--set", "network=MLP-BN-10-100", "--jobs", "1", "--seeds", "1"]
    assert command.main(["control", "--preset", "smoke", *options]) == 0
    rows = read("control-smoke-cell=a,b*")
    assert {(row["B"], row["steps_of_B"], row["network"]) for row in rows} == {
        (str(point["B"]), str(point.get("steps_of_B", 0)), "MLP-BN-10-8")
        for point in (CELLS["a"], CELLS["b"])
    }
    assert {row["detached"] for row in rows} == {"False"}


# Learned, or not.


def stored(accuracy=0.6, loss=1.0, end=(1.0, 1.0), status="finished"):
    """(meta, arrays) of a made-up run of two epochs, whose matrices end at `end` times their first size."""
    arrays = {name: numpy.array([0.1, accuracy]) for name in ("train_accuracy", "test_accuracy")}
    arrays |= {"epoch": numpy.arange(2.0), "train_loss": numpy.array([2.3, loss]), "distance": numpy.ones(2)}
    spectra = {f"spectrum {p}-{p - 1}": numpy.outer([1, size], numpy.ones(3)) for p, size in zip((2, 3), end)}
    return {"status": status}, arrays | spectra


@pytest.mark.parametrize(
    "values, learned",
    [
        ({}, True),
        ({"accuracy": 0.5}, True),
        ({"accuracy": 0.4999}, False),
        ({"accuracy": numpy.nan}, False),
        ({"loss": numpy.inf}, False),
        ({"end": (1.0, 1.1e-3)}, True),
        ({"end": (1.0, 0.9e-3)}, False),  # one matrix is enough
        ({"status": "diverged"}, False),
    ],
)
def test_learned_is_half_of_the_samples_finite_and_no_matrix_gone_to_zero(values, learned):
    assert results.history(*stored(**values), View())["learned"] is learned


def test_a_setting_is_drawn_grey_if_one_of_its_seeds_has_not_learned(monkeypatch, tmp_path):
    plan = Plan("fig2", "quick", seeds=2, settings={"B": (4, 8), "eta": 0.1})
    found = dict(zip(plan.runs(), (stored(), stored(), stored(), stored(accuracy=0.1))))
    drawn = []
    monkeypatch.setattr(plots, "histories", lambda columns, *args: drawn.extend(columns))
    monkeypatch.setattr(files, "save_picture", lambda stem, picture, rows: list(rows))
    rows = plan.draw(found, tmp_path)
    assert [line.grey for line in drawn[0].lines] == [False, True]
    assert {(row["B"], row["seed"]) for row in rows if not row["learned"]} == {(8, 1)}


def test_a_grey_line_keeps_its_dashes_and_markers_and_the_legend_says_what_grey_means():
    made = {"epoch": numpy.arange(3.0), "rank": numpy.arange(3.0), "diverged": False}
    lines = [plots.Line("4", 0, [made]), plots.Line("8", 1, [made], grey=True)]
    rest = ([layout.Row("rank", "rank")], "title", "", "B", "grey: why")
    figure = plots.histories([plots.Column("", lines)], *rest)
    coloured, grey = (line for line in figure.axes[0].lines if line.get_label() in ("4", "8"))
    assert coloured.get_color() == looks.COLOURS[0] and grey.get_color() == looks.GREY
    assert grey.get_marker() == looks.MARKERS[1] and grey.get_linestyle() == "--"
    texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert texts == ["B = 4", "B = 8", "grey: why"]
    figure = plots.histories([plots.Column("", lines[:1])], *rest)
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == ["B = 4"]


def test_a_diverged_run_has_no_final_rank_even_if_its_matrices_still_have_one():
    meta, arrays = stored()
    for status, expected in (("finished", 3), ("diverged", numpy.nan)):
        made = results.history({"status": status}, arrays, View())
        numpy.testing.assert_equal(made["layer_rank"], [expected] * 2)
        assert made["rank"].tolist() == [3, 3]


def test_a_run_that_diverged_is_in_the_csv_of_ranks_by_layer_too():
    made = results.history(*stored(status="diverged"), View())
    rows = list(results.csv_rows("quick", Run(B=32), made, View(), ["layer_rank"]))
    assert [(row["B"], row["diverged"], row["field"], row["layer"], row["value"]) for row in rows] == [
        (32, True, "rank", "", "")
    ]


def test_diverged_runs_in_a_picture_of_layers_do_not_hide_each_other():
    lost = {"layer": numpy.arange(1, 6), "layer_rank": numpy.full(5, numpy.nan), "diverged": True}
    found = lost | {"layer_rank": numpy.arange(5.0), "diverged": False}
    lines = [plots.Line("32", 3, [lost], grey=True), plots.Line("64", 4, [lost], grey=True)]
    lines.append(plots.Line("128", 5, [found]))
    column = plots.Column("", lines, figures.LAYER)
    (axis,) = plots.histories([column], figures.LAYERS, "title", "note", "B").axes
    crosses = [line for line in axis.lines if line.get_label() == "_diverged"]
    drawn = {tuple(line.get_transform().transform(line.get_xydata())[0]) for line in crosses}
    assert len(drawn) == 2 and len({y for _, y in drawn}) == 1
    assert len({line.get_color() for line in crosses}) == 2  # also of lines that are grey
    assert {tuple(line.get_ydata()) for line in crosses} == {(axis.get_ylim()[1],)}


# Pictures as a reader meets them.


def picture_of(plan, **fields):
    """The picture of a plan all of whose runs end alike."""
    picture, _ = plan.picture({run: results.history(*stored(**fields), View()) for run in plan.runs()})
    return picture


def in_legend(picture):
    return [text.get_text() for legend in picture.legends for text in legend.get_texts()]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ["fig1", "fig3"])
def test_the_legend_has_lambda_as_it_was_trained(name, preset):
    """The fault: the paper's, where the preset trains with another."""
    plan = Plan(name, preset)
    groups = plan.groups()
    for title, lines in plan.columns:
        group = groups[tuple(line.trained for line in lines)]
        assert group in title
        for line in lines:
            for run in line.runs:
                digits = 0.05 if plan.reduction.scaled else 1e-12
                assert float(line.trained) == pytest.approx(run.lam, rel=digits)
    assert set(in_legend(picture_of(plan))) >= {f"λ = {name}" for names in groups for name in names}


def test_quick_figure_1_names_the_lambdas_of_both_data_sets_and_says_how_the_paper_s_differ():
    plan = Plan("fig1", "quick")
    legend = in_legend(picture_of(plan))
    assert [text for text in legend if text.endswith(":")] == ["MNIST:", "CIFAR-10:"]
    assert {"λ = 9.4e-5", "λ = 9.4e-2", "λ = 7.8e-5", "λ = 7.8e-2"} <= set(legend)
    assert "λ = 1e-6" not in legend and "λ is 93.6 or 78 times the paper's 0 to 1e-3" in plan.note()


@pytest.mark.parametrize("name", FIGURES)
def test_no_title_and_no_note_has_more_than_two_lines(name):
    """Seen in smoke's notes, and in quick's where the data are synthetic."""
    plans = [Plan(name, preset) for preset in PRESETS]
    plans.append(Plan(name, "quick", stand_ins=["mnist", "cifar10"]))
    for plan in plans:
        columns, rows = [plots.Column(title, []) for title, _ in plan.columns], plan.figure.rows[:1]
        if plan.figure.below:
            columns, rows = below_each_other(columns, rows)
        picture = plots.histories(columns, rows[:1], plan.title(), plan.note(), "")
        texts = [*picture.texts, *(axis.title for axis in picture.axes)]
        assert len(texts) == 2 + len(columns)
        assert max(text.get_text().count("\n") for text in texts) <= 1, plan.stem()


def coloured(picture):
    """The colours of the lines in all panels, grey left out."""
    return {line.get_color() for axis in picture.axes for line in axis.lines} - {looks.GREY}


@pytest.mark.parametrize("name", FIGURES)
def test_a_network_that_has_not_learned_is_grey_in_every_panel(name):
    plan = Plan(name, "night", seeds=1)
    picture = picture_of(plan, accuracy=0.1)
    assert all(axis.lines for axis in picture.axes) and not coloured(picture)
    (words,) = [text for text in in_legend(picture) if text.startswith("grey: not learned")]


@pytest.mark.parametrize("name", [name for name in FIGURES if FIGURES[name].rows == figures.LAYERS])
def test_the_output_layer_stands_apart_from_the_others(name):
    """It has 10 units: no line may lead there, as if it were a bottleneck."""
    plan = Plan(name, "night", seeds=1)
    for axis in picture_of(plan).axes:
        lines = [line for line in axis.lines if line.get_linestyle() != "None" and line.get_marker() != ""]
        assert {tuple(line.get_xdata()) for line in lines if len(line.get_xdata()) != 2} == {(1,)}
        assert axis.get_xticklabels()[-1].get_text() == "out" and "rank ≤ 10" in axis.get_xlabel()


def test_the_control_s_picture_has_three_colours_and_each_means_one_thing():
    """The colour says B and E, the dashes the steps; every cell has its marker."""
    plan = Plan("control", "night")
    for _, lines in plan.columns:
        by_colour, by_dash = {}, {}
        for line in lines:
            run = line.runs[0]
            by_colour.setdefault(line.style.colour, set()).add((run.B, round(run.budget())))
            by_dash.setdefault(line.style.dash, set()).add(run.epochs * run.steps())
        assert {len(meanings) for meanings in (*by_colour.values(), *by_dash.values())} == {1}
        assert len(by_colour) == 3 and len(by_dash) == 2 and len({line.style.marker for line in lines}) == 5
        assert by_colour == {0: {(128, 8)}, 1: {(16, 8)}, 4: {(16, 61)}}
        (few,), (many,) = by_dash[0], by_dash[1]
        assert round(many / few) == 8
    picture = picture_of(plan)
    assert len(coloured(picture)) == 3
    assert [axis.get_title() for axis in picture.axes[:2]] == ["MLP-BN-10-100", "MLP-5-500"]
    assert {"a: B = 128, 500 epochs", "b: B = 16, as many steps as a"} <= set(in_legend(picture))
    assert {"c: B = 16, 500 epochs", "d: B = 16, a's epochs, η / 8"} <= set(in_legend(picture))
    assert "a: B = 128, 2 epochs" in in_legend(picture_of(Plan("control", "smoke")))
