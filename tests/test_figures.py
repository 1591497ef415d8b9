"""Every figure: the paper's settings, prefixes of them, file names, the numbers drawn."""

import itertools
from dataclasses import replace

import numpy
import pytest

from experiments.__main__ import PUBLISHED, parse_settings
from experiments.figures import BATCH_SIZES, FIGURES, PRESETS, VARIANTS, Experiment
from experiments.results import View, history
from experiments.runs import Run
from experiments.store import Reader

ETAS, WIDE_ETAS = {0.001, 0.01, 0.1}, {0.0125, 0.025, 0.05, 0.1}
LAMBDAS = {0.0, 1e-4, 2e-4, 4e-4, 8e-4, 6e-3}
PAPER = {  # Section 4.3 and the captions: network, eta, B, lambda
    "fig2": ("MLP-BN-10-100", ETAS, {4, 8, 16, 32, 64, 128}, {5e-4}),
    "fig3": ("MLP-BN-10-100", {0.1}, {16, 32, 64, 128}, LAMBDAS),
    "fig4": ("RES-BN-5-500", ETAS, {4, 8, 16, 32, 64, 128}, {5e-4}),
    "fig5": ("MLP-5-500", ETAS, {4, 8, 16, 32, 64, 128}, {5e-4}),
    "fig6": ("MLP-BN-10-100", WIDE_ETAS, {32, 64, 128}, {5e-4}),
    "fig7": ("RES-BN-5-500", WIDE_ETAS, {32, 64, 128}, {5e-4}),
}
TWINS = [f"fig{n}-{variant}" for variant in ("true", "standard") for n in (2, 3, 4, 6, 7)]


def runs_of(command):
    """The runs of, say, "fig2 night 1 lam=1e-4 B=16,64": figure, preset, seeds, settings."""
    name, preset, seeds, *settings = command.split()
    return Experiment(name, preset, int(seeds), parse_settings(settings)).runs()


def lines_of(experiment):
    return [line for _, lines in experiment.columns for line in lines]


# The paper's settings.


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_preset_is_the_paper_s_setting(name):
    network, etas, sizes, lams = PAPER[name]
    runs = Experiment(name, "paper").runs()
    assert {(r.eta, r.B, r.lam) for r in runs} == set(itertools.product(etas, sizes, lams))
    assert len(set(runs)) == len(runs) == 3 * len(etas) * len(sizes) * len(lams)
    base = Run(network=network, dataset="cifar10", loss="cross_entropy", momentum=0.9, epochs=500)
    base = replace(base, milestones=(60, 100, 200), factor=0.1, detached=True, scalar=True)
    for run in runs:
        same = {name: getattr(run, name) for name in ("eta", "B", "lam", "seed", "measure_every")}
        assert run == replace(base, **same)


def test_figure_1_is_the_paper_s():
    runs = Experiment("fig1", "paper").runs()
    datasets, losses = ("mnist", "cifar10"), ("cross_entropy", "mean_squared_error")
    lams = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
    axes = set(itertools.product(datasets, losses, lams))
    assert {(run.dataset, run.loss, run.lam) for run in runs} == axes and len(runs) == 3 * len(axes)
    same = {(r.network, r.m, r.B, r.eta, r.momentum, r.milestones, r.epochs) for r in runs}
    assert same == {("MLP-5-2000", 0, 128, 0.1, 0.0, (), 2000)}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("twin", TWINS)
def test_a_twin_differs_from_its_figure_in_batch_norm_alone(twin, preset):
    name, variant = twin.split("-")
    changed = [replace(run, **VARIANTS[variant]) for run in Experiment(name, preset).runs()]
    assert Experiment(twin, preset).runs() == changed
    assert Experiment(twin, preset).title() != Experiment(name, preset).title()


@pytest.mark.parametrize("preset, epochs, seeds", [("quick", 10, 1), ("night", 100, 3)])
@pytest.mark.parametrize("name", [*PAPER, "norms", "control"])
def test_a_prefix_is_the_paper_s_run_stopped_early(name, preset, epochs, seeds):
    """Only quick narrows networks, those of width 500."""
    experiment = Experiment(name, preset)
    for line in lines_of(experiment):
        network = line.paper.network
        if preset == "quick":
            network = network.replace("-500", "-100")
        for seed, run in zip(range(seeds), line.runs, strict=True):
            assert run == replace(line.paper, epochs=epochs, seed=seed, network=network)
    assert f"first {epochs} of 500 epochs" in experiment.title()


@pytest.mark.parametrize("name", [*PAPER, "fig1", "norms", "control"])
def test_the_smoke_reduction_keeps_the_decay_budget_and_the_places_of_the_drops(name):
    for line in lines_of(Experiment(name, "smoke")):
        for run in line.runs:
            assert run.budget() == pytest.approx(line.paper.budget(), rel=1e-12)
            for epoch, full in zip(run.milestones, line.paper.milestones, strict=True):
                assert abs(epoch / run.epochs - full / line.paper.epochs) <= 0.5 / run.epochs
            assert run.dataset.startswith("synthetic-")


# Our own figures.


def test_norms_is_a_column_of_figure_2_and_its_twins():
    norms = Experiment("norms", "night").runs()
    variants = set(itertools.product((True, False), repeat=2))
    assert {(run.detached, run.scalar) for run in norms} == variants
    for name in ("fig2", "fig2-true", "fig2-standard"):
        column = [run for run in Experiment(name, "night").runs() if run.eta == 0.01]
        assert column and set(column) <= set(norms)


def test_the_control_s_cells_have_the_steps_and_budgets_that_it_compares():
    for _, lines in Experiment("control", "paper").columns:
        runs = {line.label[0]: line.runs[0] for line in lines}
        steps = {cell: run.epochs * run.steps() for cell, run in runs.items()}
        assert steps["a"] == steps["b"] and steps["c"] == steps["d"] == steps["e"]
        assert steps["c"] > 3.9 * steps["a"]
        E = {cell: run.budget() for cell, run in runs.items()}
        assert E["a"] == E["b"] == pytest.approx(E["d"], rel=0.01)
        assert E["d"] == pytest.approx(E["e"]) and E["c"] == pytest.approx(4 * E["a"], rel=0.01)


# Settings by hand.


@pytest.mark.parametrize(
    "name, settings, word",
    [
        ("fig2", {"cell": "a"}, "cell"),
        ("fig2", {"tol": (1e-4, 1e-3)}, "tol"),
        ("norms", {"detached": True}, "detached"),
        ("control", {"B": 4}, "B"),
        ("control", {"cell": ("a", "z")}, "z"),
        ("fig1", {"B": 1000}, "B"),
        ("fig1", {"lam": tuple(place * 1e-6 for place in range(40))}, "file name"),
    ],
)
def test_settings_that_a_figure_has_no_room_for_are_refused(name, settings, word):
    with pytest.raises(ValueError, match=word):
        Experiment(name, "quick", settings=settings)


def test_a_network_or_drops_set_by_hand_are_kept():
    (run, *_) = runs_of("fig4 smoke 1 network=RES-BN-2-300 milestones=10")
    assert run.network == "RES-BN-2-300" and run.milestones == (10,)


def test_a_batch_size_has_the_same_colour_in_every_figure():
    for name in ("fig2", "fig6", "descent"):
        for line in lines_of(Experiment(name, "paper")):
            B = line.paper.B
            assert line.style == BATCH_SIZES.index(B) if B in BATCH_SIZES else line.style >= 6


def test_no_two_experiments_have_the_same_files():
    settings = [{}, {"tol": 1e-3}, {"B": (4, 16)}, {"B": 4}, {"eta": 0.1, "B": 4}]
    cases = [(preset, None, given, ()) for preset in PRESETS for given in settings]
    cases += [("quick", 2, {}, ()), ("quick", None, {}, ("cifar10",))]
    stems = [Experiment("fig2", *case).stem() for case in cases]
    assert len(set(stems)) == len(stems)
    reordered = Experiment("fig2", "quick", settings={"B": 4, "eta": 0.1})
    assert reordered.stem() == Experiment("fig2", "quick", settings={"eta": 0.1, "B": 4}).stem()


def test_synthetic_data_in_place_of_others_are_said_in_name_title_and_note():
    experiment = Experiment("fig1", "quick", synthetic=("mnist",))
    assert {run.dataset for run in experiment.runs()} == {"synthetic-mnist", "cifar10"}
    assert "synthetic" in experiment.stem()
    assert "MNIST" in experiment.note() and "ynthetic" in experiment.note()
    assert "synthetic" in Experiment("fig2", "quick", synthetic=("cifar10",)).title()


def test_settings_by_hand_are_said_in_the_note():
    experiment = Experiment("fig2", "night", settings={"B": 4, "tol": 1e-3})
    assert "tol=0.001" in experiment.note() and "B=4" in experiment.note()


# Pictures.


def test_a_panel_draws_its_field_of_its_column_s_runs_and_the_csv_holds_every_number():
    """Of three seeds each, of which all, some or none have learned."""
    experiment = Experiment("fig2-true", "night", settings={"eta": (0.01, 0.1), "tol": 1e-2})
    reader = Reader(PUBLISHED)
    results = {run: reader.read(run) for run in experiment.runs()}
    histories = {run: history(*results[run], View(tol=1e-2)) for run in results}
    picture, table = experiment.picture(results)
    panels = itertools.product(experiment.figure.rows, experiment.columns)
    for panel, (row, (_, lines)) in zip(picture.axes, panels, strict=True):
        expected = []
        for line in lines:
            its_histories = [histories[run] for run in line.runs]
            learned = [made[row.field] for made in its_histories if made["learned"]]
            expected += [made[row.field] for made in its_histories if not made["learned"]]
            expected += [numpy.mean(learned, axis=0)] if learned else []
        curves = [curve.get_ydata() for curve in panel.lines if curve.get_linestyle() != "None"]
        for drawn, numbers in zip(curves, expected, strict=True):
            numpy.testing.assert_allclose(drawn, numbers, rtol=1e-12)
    written = [row["value"] for row in table]
    fields = [row.field for row in experiment.figure.rows]
    stored = numpy.concatenate([made[field] for made in histories.values() for field in fields])
    assert written == stored[numpy.isfinite(stored)].tolist()
