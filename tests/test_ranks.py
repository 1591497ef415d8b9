"""What the ranks mean: numbers against loops, a picture and a CSV that agree, sentences of these numbers."""

import csv
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy
import pytest

from experiments import looks, ranks, schema, traces
from experiments.plans import Plan
from experiments.ranks import networks, picture, words
from experiments.results import View
from experiments.runs import Run
from experiments.store import read_result, result_path, write
from minigrad import effective_rank, stable_rank
from calls import call
from texts import assert_no_text_overlaps

RUN = Plan("fig2-true", "smoke").runs()[0]
ORIGIN = dict.fromkeys(schema.PROVENANCE, "made up")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda number: None)


def made_up(run, rng, accuracy=0.9, loss=0.3, shrunk=1.0, diverged=False):
    """(meta, arrays) of a run whose spectra lie in nine decades and are `shrunk` at the end."""
    epochs = numpy.array([epoch for epoch in range(run.epochs + 1) if run.measured(epoch)], float)
    arrays = {name: numpy.full(len(epochs), loss) for name in schema.SCALARS}
    arrays |= {"epoch": epochs, "train_accuracy": numpy.full(len(epochs), accuracy)}
    for name, (shape, _) in schema.of_history(run).items():
        if shape:
            arrays[name] = numpy.sort(10 ** rng.uniform(-9, 0, (len(epochs), *shape)))[:, ::-1].copy()
            arrays[name][:, 0] = 1
            arrays[name][1:] *= 10
            arrays[name][-1] *= shrunk / 10
    status = "finished"
    if diverged:
        status = "diverged"
        arrays["train_loss"][-1] = numpy.nan
    meta = {"run": run.as_dict(), "status": status, "epoch": run.epochs, "provenance": [ORIGIN]}
    return meta, arrays


def put(run, rng, **fields):
    """The made-up run in the store ./results."""
    write(result_path("results", run), *made_up(run, rng, **fields))


def smoke_plans():
    return {name: Plan(name, "smoke") for name in ranks.FIGURES}


# The numbers.


def test_ranks_are_counts_in_a_loop_over_the_matrices(rng):
    """Seen to catch: W's own norm for W_0's, that of another epoch, other epochs' counts, a median."""
    meta, arrays = made_up(RUN, rng, shrunk=0.01)
    network = networks.measured(RUN, meta, arrays)
    spectra = [values for name, values in arrays.items() if name.startswith("spectrum")]
    assert len(spectra) == 11
    for norm, tolerances in (("frobenius", networks.CUTOFFS), ("start", networks.TOLERANCES)):
        for tol in tolerances:
            counts = []
            for s in spectra:
                reference = s[0] if norm == "start" else s[-1]
                size = math.sqrt(sum(value**2 for value in reference))
                counts.append(sum(value > tol * size for value in s[-1]))
            assert network.ranks[View(tol=tol, norm=norm)] == pytest.approx(sum(counts) / 11, rel=1e-14)
    assert len(network.ranks) == len(networks.CUTOFFS) + len(networks.TOLERANCES)


def test_ranks_without_a_cutoff_are_those_of_a_matrix_with_the_spectrum(rng):
    meta, arrays = made_up(RUN, rng)
    numbers = networks.measured(RUN, meta, arrays).numbers
    matrices = [numpy.diag(values[-1]) for name, values in arrays.items() if name.startswith("spectrum")]
    assert numbers["stable_rank"] == pytest.approx(sum(map(stable_rank, matrices)) / 11, rel=1e-12)
    assert numbers["effective_rank"] == pytest.approx(sum(map(effective_rank, matrices)) / 11, rel=1e-12)


def test_the_budget_is_a_sum_over_the_steps():
    run = replace(RUN, epochs=3, milestones=(1, 2), factor=0.5)
    E = sum(run.steps() * 2 * run.eta * 0.5**drops * run.lam / (1 - run.momentum) for drops in (0, 1, 2))
    found = networks.measured(run, *made_up(run, numpy.random.default_rng(0)))
    assert found.numbers["budget"] == pytest.approx(E, rel=1e-13)


def test_the_tolerances_are_among_the_cutoffs_and_one_is_the_memo_s():
    assert set(networks.TOLERANCES) <= set(networks.CUTOFFS)
    assert networks.MEMO.tol in networks.TOLERANCES and networks.MEMO.norm == "frobenius"
    assert list(networks.CUTOFFS) == sorted(networks.CUTOFFS)


def test_pure_decay_leaves_the_relative_ranks_and_takes_those_from_the_start(rng):
    """What a relative count says of a network that has decayed to zero."""
    meta, arrays = made_up(RUN, rng)
    for name, values in arrays.items():
        if name.startswith("spectrum"):
            values[-1] = 1e-20 * values[0]
    network = networks.measured(RUN, meta, arrays)
    assert network.rank(1e-4) > 0 and network.rank_from_start(1e-4) == 0
    assert network.vanished and not network.learned


def test_one_matrix_that_decays_to_zero_is_enough_to_have_vanished(rng):
    meta, arrays = made_up(RUN, rng)
    assert not networks.measured(RUN, meta, arrays).vanished
    arrays["spectrum 2-1"][-1] *= 1e-4
    assert networks.measured(RUN, meta, arrays).vanished


def test_a_diverged_run_has_no_rank_whatever_its_layers_have(rng):
    network = networks.measured(RUN, *made_up(RUN, rng, diverged=True))
    assert numpy.isnan(list(network.ranks.values())).all()
    assert [name for name, value in network.numbers.items() if not numpy.isnan(value)] == ["budget"]
    assert {record["field"] for record in network.records("smoke")} == {"budget"}


def test_only_what_is_finished_is_read_and_seeds_of_a_setting_stand_together(rng):
    plans = smoke_plans()
    assert networks.read(plans, "results") == {}
    first, second, third, *_ = plans["fig2-standard"].runs()
    for run in (first, second, third):
        put(run, rng)
    ((name, settings),) = networks.read(plans, "results").items()
    assert name == "fig2-standard"
    assert [[network.run for network in seeds] for seeds in settings] == [[first, second], [third]]


# The picture.


def results_with_everything(rng):
    """Eight networks of every figure: losses of every class, seeds that diverge or have not learned."""
    for plan in smoke_plans().values():
        for place, run in enumerate(plan.runs()[:16]):
            loss = (0.7, 1.2, 0.01, 0.2)[place // 2 % 4]
            accuracy = 0.3 if place == 2 else 0.9
            shrunk = 10 ** rng.uniform(-2, 0)
            put(run, rng, accuracy=accuracy, loss=loss, shrunk=shrunk, diverged=place in (3, 8, 9))
    return networks.read(smoke_plans(), "results")


def in_panels(figure, found):
    """{(figure's name, column's place): its panel}."""
    panels = numpy.reshape(figure.axes, (len(found), 4))
    return {(name, c): panels[r, c] for r, name in enumerate(found) for c in range(4)}


def test_the_csv_holds_what_is_drawn(rng, capsys):
    """Every point of every line is the mean over the seeds of rows of the CSV, and no row is left over.

    Seen to catch: panels that change places, a seed that diverged in the mean, markers in another order.
    """
    found = results_with_everything(rng)
    assert call(capsys, "ranks", "--preset", "smoke")[0] == 0
    with open("figures/ranks-smoke.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    values = {}  # by network and what is counted, those of the seeds
    for row in rows:
        network = (row["detached"], row["scalar"], row["eta"], row["B"])
        counted = (float(row["tol"]), row["norm"]) if row["field"] == "rank" else ()
        values.setdefault((network, row["field"], *counted), []).append(float(row["value"]))
    used = set()

    def mean(*key):
        used.add(key)
        return numpy.mean(values[key])

    panels = in_panels(picture.draw(found, "title"), found)
    lines = 0
    for name, settings in found.items():
        for seeds in settings:
            run = seeds[0].run
            network = tuple(map(str, (run.detached, run.scalar, run.eta, run.B)))
            label = f"η\u00a0=\u00a0{run.eta}, B\u00a0=\u00a0{run.B}"
            E = mean(network, "budget")
            if all(one.diverged for one in seeds):
                assert (network, "train_loss") not in values
                continue
            of_cutoff = [mean(network, "rank", tol, "frobenius") for tol in networks.CUTOFFS]
            relative = [mean(network, "rank", tol, "frobenius") for tol in networks.TOLERANCES]
            from_start = [mean(network, "rank", tol, "start") for tol in networks.TOLERANCES]
            sizes = [mean(network, "stable_rank"), mean(network, "effective_rank")]
            expected = (
                (networks.CUTOFFS, of_cutoff),
                (4 * [E], relative),
                (4 * [E], from_start),
                (2 * [E], sizes),
            )
            for column, (x, y) in enumerate(expected):
                drawn = [line for line in panels[name, column].lines if line.get_label() == label]
                line = drawn[0]  # a second one is that of a seed that diverged
                numpy.testing.assert_allclose(line.get_xdata(), x, rtol=1e-12)
                numpy.testing.assert_allclose(line.get_ydata(), y, rtol=1e-12)
                lines += 1
            place = sum(mean(network, "train_loss") >= limit for limit in picture.LOSSES)
            learned = all(one.learned for one in seeds)
            assert line.get_color() == (traces.COLOURS[place] if learned else looks.GREY)
    assert lines == 4 * 3 * 7 and used == set(values)


def test_every_tolerance_has_its_marker_where_its_count_is(rng):
    found = results_with_everything(rng)
    panels = in_panels(picture.draw(found, "title"), found)
    expected = {1e-5: "^", 1e-4: "o", 1e-3: "D", 1e-2: "s"}
    for name, settings in found.items():
        for column, views in ((1, networks.RELATIVE), (2, networks.FROM_START)):
            for tol, marker in expected.items():
                drawn = {
                    (line.get_xdata()[0], line.get_ydata()[0])
                    for line in panels[name, column].lines
                    if line.get_marker() == marker
                }
                counted = set()
                for seeds in settings:
                    ended = [network for network in seeds if not network.diverged]
                    if ended:
                        mean = float(numpy.mean([network.ranks[views[tol]] for network in ended]))
                        counted.add((seeds[0].numbers["budget"], mean))
                assert drawn == counted


def test_a_network_with_a_diverged_seed_has_a_cross_and_never_a_rank_of_zero(rng):
    first, second, third, fourth, *_ = smoke_plans()["fig2"].runs()
    put(first, rng)
    put(second, rng, diverged=True)
    put(third, rng, diverged=True)
    put(fourth, rng, diverged=True)
    found = networks.read(smoke_plans(), "results")
    panels = in_panels(picture.draw(found, "title"), found)
    budgets = {first.budget(), third.budget()}
    for column, crossed in enumerate([set(), budgets, budgets, budgets]):
        panel = panels["fig2", column]
        crosses = [line for line in panel.lines if line.get_marker() == "x"]
        assert {line.get_xdata()[0] for line in crosses} == crossed
        assert all(line.get_ydata()[0] == panel.get_ylim()[1] for line in crosses)
    ((mine, _), _) = found["fig2"]
    line = panels["fig2", 1].lines[0]
    assert list(line.get_ydata()) == [mine.rank(tol) for tol in networks.TOLERANCES]


def test_nothing_but_diverged_runs_is_drawn_too_and_said(rng, capsys):
    put(RUN, rng, diverged=True)
    assert call(capsys, "ranks", "--preset", "smoke")[0] == 0
    assert "1 network diverged" in Path("figures/ranks-smoke.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "losses, learned, expected",
    [
        ((0.05,), True, 0),
        ((0.1,), True, 1),
        ((0.3, 0.5), True, 1),
        ((0.3, 0.7), True, 2),
        ((0.99,), True, 2),
        ((1.0,), True, 3),
        ((0.05,), False, 4),
        ((0.05, 0.05), False, 4),
    ],
)
def test_the_colour_is_that_of_the_mean_loss_and_grey_where_a_seed_has_not_learned(losses, learned, expected):
    seeds = [network(loss=loss) for loss in losses]
    seeds[-1] = seeds[-1]._replace(learned=learned)
    assert picture._colour(seeds) == list(picture.COLOURS)[expected]


def in_legend(figure):
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def test_the_legend_has_what_occurs_and_no_text_overlaps(rng):
    found = results_with_everything(rng)
    figure = picture.draw(found, words.headline(smoke_plans(), found))
    assert_no_text_overlaps(figure, least=40)
    assert in_legend(figure) == {*picture.MARKERS, "diverged", *picture.COLOURS}
    alone = picture.draw({"fig2-true": [[network(loss=0.3)]]}, "title")
    assert_no_text_overlaps(alone, least=20)
    assert in_legend(alone) == {*picture.MARKERS, "train loss 0.1 to 0.5"}


def test_the_note_has_at_most_two_lines(rng):
    figure = picture.draw({"fig2": [[network()]]}, "title")
    (note,) = [text for text in figure.texts if "shrinks by" in text.get_text()]
    assert note.get_text().count("\n") <= 1


# The words.


def network(counts=(90, 80, 60, 40), from_start=None, loss=0.3, E=1.0, learned=True, **fields):
    """A made-up Network; its counts are at 1e-5, 1e-4, 1e-3 and 1e-2."""
    found = dict.fromkeys(networks.RELATIVE.values(), 50.0)
    for tol, count, absolute in zip(networks.TOLERANCES, counts, from_start or counts):
        found[networks.RELATIVE[tol]] = float(count)
        found[networks.FROM_START[tol]] = float(absolute)
    numbers = {"stable_rank": 5.0, "effective_rank": 25.0, "train_loss": loss, "budget": E}
    made = networks.Network(RUN, 2, False, learned, False, 91.8, found, numbers)
    return made._replace(**fields)


def test_the_sentences_say_the_numbers_of_networks_that_learned():
    made = [
        network((91, 73, 60, 44), (91, 71.5, 60, 44), loss=0.5, E=20.0, run=Run(eta=0.01, B=16)),
        network((91, 91, 91, 81), loss=0.25, E=2.0),
        network((91, 90, 90, 70), (91, 89, 80, 60), loss=0.75, E=9.0),
        network((50, 0, 0, 0), loss=2.3, E=50.0, learned=False),
        network((91, 90, 89, 80), (0, 0, 0, 0), loss=2.3, E=80.0, learned=False, vanished=True),
        network(run=RUN, learned=False, diverged=True),
    ]
    assert words.sentences(made) == (
        "Counted above 1e-2 ‖W‖_F instead of 1e-5 ‖W‖_F, the average rank of 3 networks that learned is "
        "lower by 10 to 47 of 91.8 (21 in the median), while at 1e-4 it is 73 to 91; it depends most on the "
        "tolerance with batch norm of the memo's text, η\u00a0=\u00a00.01, B\u00a0=\u00a016: "
        "91, 73, 60, 44 at 1e-5, 1e-4, 1e-3, 1e-2, with a stable rank of 5 and an effective rank of 25.",
        "Relative to the norm before training, ‖W_0‖_F, the rank at 1e-4 of 3 networks that learned is lower "
        "by 0 to 1.5; for 1 network with a W that decayed to zero it is 0, though 90 relative to ‖W‖_F.",
        "What no gradient refreshes shrinks by exp(−E), to 1e-4 at E = 9.21: of 3 networks that learned, "
        "2 (rank 90 to 91, train loss 0.25 to 0.75) have a smaller E, "
        "and 1 (rank 73, train loss 0.5) has a larger one.",
    )


def test_where_no_network_learned_the_sentences_say_so():
    first, second, third = words.sentences([network(learned=False), network(learned=False, diverged=True)])
    for sentence in (first, second, third):
        assert "1 network that ended without having learned" in sentence
    assert "no network has a W that decayed to zero" in second
    assert "1 (rank 80, train loss 0.3) has a smaller E, and none has a larger one" in third


def test_the_title_says_the_preset_and_how_much_of_it_there_is(rng):
    plans = {name: Plan(name, "night") for name in ranks.FIGURES}
    found = {"fig2-true": [[network()], [network(), network()]]}
    assert words.headline(plans, found).endswith(
        "trained on CIFAR-10 (night preset: first 100 of 500 epochs, 3 of 162 runs, 2 of 3 seeds)"
    )
    everything = {name: 18 * [3 * [network()]] for name in plans}
    assert words.headline(plans, everything).endswith("(night preset: first 100 of 500 epochs, 3 seeds)")
    smoke = words.headline(smoke_plans(), {"fig2": [[network()]]})
    assert "smoke test of the program, no result" in smoke and "synthetic" in smoke


# The command.


def test_the_command_writes_a_picture_twice_its_numbers_and_the_sentences(rng, capsys):
    put(RUN, rng)
    status, out, err = call(capsys, "ranks", "--preset", "smoke", "--figures", "elsewhere")
    assert (status, err) == (0, "")
    paths = [Path(line) for line in out.splitlines()]
    assert paths == [Path("elsewhere") / f"ranks-smoke.{kind}" for kind in ("png", "svg", "csv", "md")]
    head, *numbered = paths[3].read_text(encoding="utf-8").split("\n\n")
    found = networks.read(smoke_plans(), "results")
    assert head == f"# {words.headline(smoke_plans(), found)}"
    expected = words.sentences([networks.measured(RUN, *read_result("results", RUN))])
    assert "".join(numbered).splitlines() == [f"{n}. {said}" for n, said in enumerate(expected, start=1)]
    assert len(expected) == 3


def test_an_empty_store_is_one_sentence(capsys):
    status, out, err = call(capsys, "ranks", "--preset", "night", "--results", "none")
    assert status == 2 and not out and err.count("\n") == 1
    assert "no run of Figure 2 with the preset night is in none" in err
    assert not list(Path().iterdir())


def test_what_the_command_does_not_take_is_refused(capsys):
    for option in (["--set", "B=16"], ["--seeds", "1"], ["--jobs", "1"]):
        assert call(capsys, "ranks", *option)[0] == 2
