"""Every figure: the paper's settings, prefixes of them, file names, the numbers drawn."""

import itertools
from dataclasses import replace

import numpy
import pytest

from experiments.__main__ import PUBLISHED
from experiments.figures import BATCH_SIZES, PRESETS, VARIANTS, Experiment
from experiments.results import CUTOFFS, View, history
from experiments.runs import LOSSES, Run
from experiments.train import Config

BY_SIZE = {"eta": (0.001, 0.01, 0.1), "B": (4, 8, 16, 32, 64, 128)}
BY_LAYER = {"eta": (0.0125, 0.025, 0.05, 0.1), "B": (32, 64, 128)}
SECTION_4_1 = Run(
    network="MLP-BN-10-100", dataset="cifar10", m=0, m_test=0, loss="cross_entropy", B=128, eta=0.1,
    lam=5e-4, momentum=0.9, milestones=(60, 100, 200), factor=0.1, epochs=500,
)
PAPER = {  # Section 4.3 and the captions: what differs from Section 4.1, and the axes
    "fig1": (
        {"network": "MLP-5-2000", "momentum": 0.0, "milestones": (), "epochs": 2000},
        {"dataset": ("mnist", "cifar10"), "loss": LOSSES, "lam": (0.0, 1e-6, 1e-5, 1e-4, 1e-3)},
    ),
    "fig2": ({}, BY_SIZE),
    "fig3": ({}, {"B": (16, 32, 64, 128), "lam": (0.0, 1e-4, 2e-4, 4e-4, 8e-4, 6e-3)}),
    "fig4": ({"network": "RES-BN-5-500"}, BY_SIZE),
    "fig5": ({"network": "MLP-5-500"}, BY_SIZE),
    "fig6": ({}, BY_LAYER),
    "fig7": ({"network": "RES-BN-5-500"}, BY_LAYER),
}


def lines_of(experiment):
    return [line for _, lines in experiment.columns for line in lines]


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_preset_is_the_paper_s_setting(name):
    changed, axes = PAPER[name]
    runs = Experiment(name, "paper").runs()
    points = itertools.product(*axes.values(), range(3))
    expected = [changed | dict(zip((*axes, "seed"), point)) for point in points]
    assert [replace(run, measure_every=1) for run in runs] == [
        replace(SECTION_4_1, **fields) for fields in expected
    ]


@pytest.mark.parametrize("variant", ["true", "standard"])
@pytest.mark.parametrize("name", ["fig2", "fig3", "fig4", "fig6", "fig7"])
def test_a_twin_differs_from_its_figure_in_batch_norm_alone(name, variant):
    figure, twin = Experiment(name, "night"), Experiment(f"{name}-{variant}", "night")
    assert twin.runs() == [replace(run, **VARIANTS[variant]) for run in figure.runs()]
    assert twin.title() != figure.title()


@pytest.mark.parametrize("preset, epochs, seeds", [("quick", 10, 1), ("night", 100, 3)])
@pytest.mark.parametrize("name", ["fig2", "fig3", "fig4", "fig5", "norms", "control"])
def test_a_prefix_is_the_paper_s_run_stopped_early(name, preset, epochs, seeds):
    """Only quick narrows networks, those of width 500."""
    experiment = Experiment(name, preset)
    for line, whole in zip(lines_of(experiment), lines_of(Experiment(name, "paper")), strict=True):
        network = whole.seeds[0].network
        if preset == "quick":
            network = network.replace("-500", "-100")
        for seed, run in zip(range(seeds), line.seeds, strict=True):
            assert run == replace(whole.seeds[seed], epochs=epochs, network=network)
    assert f"first {epochs} of 500 epochs" in experiment.title().replace("\u00a0", " ")


@pytest.mark.parametrize("name", ["fig1", "control"])
def test_the_smoke_reduction_keeps_the_decay_budget_and_the_places_of_the_drops(name):
    smoke, whole = (lines_of(Experiment(name, preset)) for preset in ("smoke", "paper"))
    for line, full in zip(smoke, whole, strict=True):
        paper = full.seeds[0]
        for run in line.seeds:
            assert run.budget() == pytest.approx(paper.budget(), rel=1e-12)
            for epoch, drop in zip(run.milestones, paper.milestones, strict=True):
                assert abs(epoch / run.epochs - drop / paper.epochs) <= 0.5 / run.epochs
            assert run.dataset.startswith("synthetic-")


def test_the_control_s_cells_have_the_steps_and_budgets_that_it_compares():
    for _, lines in Experiment("control", "paper").columns:
        runs = {line.label[0]: line.seeds[0] for line in lines}
        steps = {cell: run.epochs * run.steps() for cell, run in runs.items()}
        assert steps["a"] == steps["b"] and steps["c"] == steps["d"] == steps["e"]
        assert steps["c"] > 3.9 * steps["a"]
        E = {cell: run.budget() for cell, run in runs.items()}
        assert E["a"] == E["b"] == pytest.approx(E["d"], rel=0.01)
        assert E["d"] == pytest.approx(E["e"]) and E["c"] == pytest.approx(4 * E["a"], rel=0.01)


@pytest.mark.parametrize(
    "name, settings, word",
    [
        ("fig2", {"cell": ("a",)}, "cell"),
        ("fig2", {"tol": (1e-4, 1e-3)}, "tol"),
        ("control", {"B": (4,)}, "B"),
        ("control", {"cell": ("a", "z")}, "z"),
        ("fig2", {"B": tuple(range(1000, 1050))}, "too long a file name"),
    ],
)
def test_settings_that_a_figure_has_no_room_for_are_refused(name, settings, word):
    with pytest.raises(ValueError, match=word):
        Experiment(name, "quick", settings=settings)


def test_settings_and_synthetic_data_are_in_the_runs_the_note_and_the_name():
    settings = {"network": ("MLP-2-300",), "milestones": (10,), "tol": (1e-3,), "lam": (0.0, 1e-4)}
    experiment = Experiment("fig1", "quick", 1, settings, synthetic=("mnist",))
    found = {(run.network, run.milestones, run.dataset) for run in experiment.runs()}
    assert found == {("MLP-2-300", (10,), name) for name in ("synthetic-mnist", "cifar10")}
    for written in ("lam=0.0,0.0001", "tol=0.001", "ynthetic data in place of MNIST"):
        assert written in experiment.note()
    assert "synthetic" in experiment.columns[0][0] and "synthetic" in experiment.stem()


def test_a_batch_size_has_the_same_colour_in_every_figure():
    other_sizes = {"fig6": {"B": (4, 256)}}  # and 5,000 in descent
    for name in ("fig2", "fig6", "descent"):
        for line in lines_of(Experiment(name, "paper", settings=other_sizes.get(name))):
            B = line.seeds[0].B
            assert line.style == (BATCH_SIZES.index(B) if B in BATCH_SIZES else 6)


def test_no_two_experiments_have_the_same_files():
    settings = [{}, {"tol": (1e-3,)}, {"B": (4, 16)}, {"B": (4,)}, {"eta": (0.1,), "B": (4,)}]
    cases = [(preset, None, given, ()) for preset in PRESETS for given in settings]
    cases += [("quick", 2, {}, ()), ("quick", None, {}, ("cifar10",))]
    assert len({Experiment("fig2", *case).stem() for case in cases}) == len(cases)


def test_a_panel_draws_its_field_of_its_column_s_runs_and_the_csv_holds_every_number():
    """Of three seeds each, of which all, some or none have learned."""
    experiment = Experiment("fig2-true", "night", settings={"eta": (0.01, 0.1), "tol": (1e-2,)})
    results = {run: Config(PUBLISHED).read(run) for run in experiment.runs()}
    histories = {run: history(*results[run], View(tol=1e-2)) for run in results}
    picture, table = experiment.picture(results)
    panels = itertools.product(experiment.figure.rows, experiment.columns)
    for panel, (row, (_, lines)) in zip(picture.axes, panels, strict=True):
        expected = []
        for line in lines:
            its_histories = [histories[run] for run in line.seeds]
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


def test_the_ranks_by_cutoff_are_those_with_that_tol_and_only_of_runs_that_finished():
    experiment = Experiment("spectra-true", "night", 1, {"eta": (0.01,), "B": (16, 32)})
    ended, run = experiment.runs()
    meta, arrays = Config(PUBLISHED).read(run)
    stored = {ended: (meta | {"status": "collapsed"}, arrays), run: (meta, arrays)}
    _, table = experiment.picture(stored)
    found = [(row["B"], row["tol"], row["value"]) for row in table]
    ranks = [history(meta, arrays, View(tol=tol))["rank"][-1] for tol in CUTOFFS]
    of_ended = zip(itertools.repeat(16), CUTOFFS, itertools.repeat(numpy.nan))
    numpy.testing.assert_equal(found, [*of_ended, *zip(itertools.repeat(32), CUTOFFS, ranks)])
