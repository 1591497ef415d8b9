"""The table of claims from a store: what counts as run, how runs are looked at, presets side by side."""

import csv
import re
from pathlib import Path

import pytest

from experiments import __main__ as command
from experiments import claims
from experiments.claims import cases, descent, layers, settings, trends
from experiments.claims.outcomes import AS_RULED, RANKS, Shelf
from experiments.commands import PUBLISHED
from experiments.figures import FIGURES
from experiments.plans import Plan
from experiments.store import read, result_path, write
from outcomes import store

BOTTLENECK = "MLPs have a bottleneck: the ranks are lowest in the middle"


pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def plans(preset, seeds=None, **given):
    return {name: Plan(name, preset, seeds, given) for name in FIGURES if name not in given}


def judged(folder, preset, words, seeds=None, **given):
    """{preset: [Judged]} of the claim with these words."""
    rows = claims.judge(plans(preset, seeds, **given), folder)
    (row,) = [row for row in rows if row.statement.words == words]
    return row.judged


def test_every_reading_of_batch_norm_has_its_verdict(tmp_path):
    store(Plan("fig6", "night").runs(), tmp_path)
    store(Plan("fig6-true", "night").runs(), tmp_path, ranks=(30, 70, 90, 70, 30, 10))
    memo, true, standard = judged(tmp_path, "night", BOTTLENECK)["night"]
    assert [one.verdict.setting for one in (memo, true, standard)] == [
        "the memo's text", "true gradient", "standard batch norm"
    ]
    assert [one.verdict.verdict for one in (memo, true, standard)] == ["holds", "fails", "not decided"]
    assert standard.verdict.measured == "not run (make fig6-standard PRESET=night)"
    assert standard.otherwise is None
    assert memo.verdict.place == "Appendix A, Fig. 6"


def test_a_figure_decides_nothing_before_all_its_settings_are_there(tmp_path):
    runs = Plan("fig6", "night").runs()
    store(runs[:-3], tmp_path)  # all but the last setting
    memo, *_ = judged(tmp_path, "night", BOTTLENECK)["night"]
    assert memo.verdict.measured == "not complete: 33 of 36 runs (make fig6 PRESET=night)"
    assert memo.verdict.verdict == "not decided"
    store(runs[-3:-2], tmp_path)
    memo, *_ = judged(tmp_path, "night", BOTTLENECK)["night"]
    assert memo.verdict.measured.startswith("1 of 3 seeds: ") and memo.verdict.verdict == "holds"
    store(runs[-2:], tmp_path)
    memo, *_ = judged(tmp_path, "night", BOTTLENECK)["night"]
    assert memo.verdict.measured.startswith("so in 12 of 12 active settings")


def test_the_row_says_how_many_seeds_there_are_if_fewer_than_three(tmp_path):
    store(Plan("fig6", "night", 2).runs(), tmp_path)
    memo, *_ = judged(tmp_path, "night", BOTTLENECK, seeds=2)["night"]
    assert memo.verdict.measured.startswith("2 seeds: so in 12")


def test_the_control_is_judged_by_the_cells_that_are_there(tmp_path):
    runs = Plan("control", "night").runs()
    store([run for run in runs if run.B == 128], tmp_path, ranks=[90] * 6)
    words = "smaller B, lower rank, after equally many steps"
    (one,) = judged(tmp_path, "night", words)["night"]
    assert one.verdict.verdict == "not decided" and "MLP-5-500 at η = 0.03: a 90 %" in one.verdict.measured
    store([run for run in runs if run.steps_of_B], tmp_path, ranks=[60] * 6)
    (one,) = judged(tmp_path, "night", words)["night"]
    assert one.verdict.verdict == "holds" and "a 90 %, b 60 %" in one.verdict.measured


def test_the_control_finds_the_smaller_eta_in_the_store(tmp_path):
    store(Plan("control", "night").runs(), tmp_path, accuracy=0.1)
    store(Plan("control", "night", settings={"eta": 0.01}).runs(), tmp_path, ranks=[90] * 6)
    (one,) = judged(tmp_path, "night", "what carries the trend after equally many epochs")["night"]
    assert "MLP-BN-10-100 at η = 0.01, as b has not learned at 0.03: a 90 %" in one.verdict.measured
    assert "only η / B and E matter" in one.verdict.verdict


def test_a_verdict_that_another_tolerance_or_threshold_changes_says_so(tmp_path):
    """Singular values that are small, but not small enough for 1e-4, leave the ranks full."""
    runs = Plan("fig6", "night", 1).runs()
    for small, accuracy, verdict, otherwise in (
        (1e-5, 0.8, "holds", {"learned from 90 %": "not decided"}),
        (1e-5, 0.4, "not decided", {"learned from 20 %": "holds"}),
        (5e-3, 0.99, "not decided", {"tol 1e-3": "holds", "tol 1e-2": "holds"}),
        (5e-2, 0.99, "not decided", {"tol 1e-2": "holds"}),
    ):
        store(runs, tmp_path, small=small, accuracy=accuracy)
        memo, *_ = judged(tmp_path, "night", BOTTLENECK, seeds=1)["night"]
        assert (memo.verdict.verdict, memo.otherwise) == (verdict, otherwise)


def test_the_count_above_a_part_of_the_first_norm_may_change_a_verdict(tmp_path):
    """A matrix in the middle shrinks as a whole, so that its relative rank stays full."""
    runs = Plan("fig6", "night", 1).runs()
    store(runs, tmp_path, ranks=[100] * 6)
    for run in runs:
        meta, arrays = read(result_path(tmp_path, run))
        arrays["spectrum 6-5"][-1, :30] = 1.3e-3  # the first norm is 10; a learned network keeps 1e-3 of it
        arrays["spectrum 6-5"][-1, 30:] = 0.9e-3
        write(result_path(tmp_path, run), meta, arrays)
    memo, *_ = judged(tmp_path, "night", BOTTLENECK, seeds=1)["night"]
    assert memo.verdict.verdict == "not decided"
    assert memo.otherwise == {"counted above 1e-4 ‖W₀‖": "holds"}


def test_every_verdict_on_ranks_is_tried_under_every_look():
    on_ranks = (
        trends.smaller_B_lower_rank,
        trends.larger_lambda_lower_rank,
        settings.no_rank_lost_without_decay,
        descent.gradient_descent_keeps_the_rank,
        layers.bottleneck,
        layers.equal_within_blocks,
    )
    assert all(claim.looks == RANKS for claim in on_ranks)
    assert [look.name for look in RANKS] == [
        "tol 1e-3", "tol 1e-2", "counted above 1e-4 ‖W₀‖", "learned from 20 %", "learned from 90 %"
    ]


def test_a_run_is_read_once_whatever_looks_at_it(tmp_path, monkeypatch):
    plan = Plan("fig6", "night", 1)
    store(plan.runs(), tmp_path)
    read = []
    original = claims.outcomes.read_result
    monkeypatch.setattr(claims.outcomes, "read_result", lambda *run: read.append(run) or original(*run))
    shelf = Shelf(tmp_path)
    found = shelf.settings(plan, whole=True)
    for look in (AS_RULED, *RANKS):
        assert len(shelf.outcomes(found, plan.view, look)) == 12
    assert len(read) == len(set(read)) == 12


def test_the_distance_to_rank_B_is_that_of_the_run_s_own_B(tmp_path):
    """Of 100 singular values of 1, those beyond B have norm sqrt(100 - B). The fault: one B for all."""
    plan = Plan("fig6", "night", 1)
    store(plan.runs(), tmp_path, ranks=[100] * 6)
    shelf = Shelf(tmp_path)
    outcomes = shelf.outcomes(shelf.settings(plan, whole=True), plan.view, AS_RULED)
    assert {outcome.run.B for outcome in outcomes} == {32, 64, 128}
    for outcome in outcomes:
        *hidden, output = outcome.seeds[0]["tau_B"]
        beyond = max(100 - outcome.run.B, 0)
        assert hidden == pytest.approx([(beyond / 100) ** 0.5] * 10)
        assert output == 0  # its full rank is 10


def test_night_and_paper_have_a_column_each_where_the_store_has_both(tmp_path):
    night, paper = Plan("fig6", "night"), Plan("fig6", "paper")
    store(night.runs(), tmp_path)
    assert list(judged(tmp_path, "night", BOTTLENECK)) == ["night"]
    store(Plan("control", "night").runs(), tmp_path)  # paper's own runs, under another name
    assert list(judged(tmp_path, "night", BOTTLENECK)) == ["night"]
    store(paper.runs(), tmp_path, ranks=(30, 70, 90, 70, 30, 10))
    for asked in ("night", "paper"):
        found = judged(tmp_path, asked, BOTTLENECK)
        assert {preset: row[0].verdict.verdict for preset, row in found.items()} == {
            "night": "holds", "paper": "fails"
        }
    assert list(judged(tmp_path, "quick", BOTTLENECK)) == ["quick"]


def test_every_claim_has_a_figure_and_a_row_that_says_what_would_train_it(tmp_path):
    """Fault: a claim without a figure, which then has no row at all."""
    rows = claims.judge(plans("night"), tmp_path)
    assert [words for words in dict.fromkeys(row.statement.words for row in rows)] == [
        claim.statement.words for claim in claims.CLAIMS
    ]
    for row in rows:
        for one in row.judged["night"]:
            name = one.verdict.measured.removeprefix("not run (make ").removesuffix(" PRESET=night)")
            assert name in FIGURES and one.verdict.verdict == "not decided"


def test_the_written_table_has_a_row_per_claim_and_a_record_per_verdict(tmp_path):
    store(Plan("fig6", "night").runs() + Plan("fig6", "paper").runs(), tmp_path)
    store(Plan("fig7", "night").runs()[:5], tmp_path)
    its_plans = plans("night")
    rows = claims.judge(its_plans, tmp_path)
    markdown, table = claims.write(its_plans, rows, tmp_path / "figures")
    lines = [line for line in markdown.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    assert all(line.replace("\\|", "").count("|") == 5 for line in lines)
    (line,) = [line for line in lines if line.startswith(f"| {BOTTLENECK}")]
    both = "the memo's text: **holds**<br>true gradient: not run<br>standard batch norm: not run"
    assert line == f"| {BOTTLENECK} | Appendix A, Fig. 6 | {both} | {both} |"
    partly = "the memo's text: **not decided**<br>true gradient: not run<br>standard batch norm: not run"
    assert lines[-1].endswith(f"Appendix A, Fig. 7 | {partly} | not run |")
    section = markdown.read_text(encoding="utf-8").split(f"## {BOTTLENECK}\n\n")[1].split("\n\n##")[0]
    rule, items = section.split("\n\n")
    assert rule == f"Rule: {layers.bottleneck.rule}"
    first, measured, second, *_ = items.splitlines()
    assert first == "- Appendix A, Fig. 6, night: the memo's text: **holds** (the same otherwise)"
    assert measured.startswith("  - so in 12 of 12 active settings")
    assert second == "- Appendix A, Fig. 6, night: true gradient: not run (make fig6-true PRESET=night)"
    *_, last = markdown.read_text(encoding="utf-8").split("\n\n")
    assert last.splitlines()[:2] == [
        "- Appendix A, Fig. 7, night: the memo's text: **not decided**",
        "  - not complete: 5 of 36 runs (make fig7 PRESET=night)",
    ]
    assert last.endswith(")\n") and not last.endswith("\n\n")
    with open(table, encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    assert len(records) == sum(len(judged) for row in rows for judged in row.judged.values())
    found = [r for r in records if r["statement"] == BOTTLENECK and r["batch_norm"] == "the memo's text"]
    assert [(r["preset"], r["verdict"]) for r in found] == [("night", "holds"), ("paper", "holds")]


def test_every_rule_stands_on_the_page_once_as_the_code_has_it(tmp_path):
    its_plans = plans("night")
    markdown, _ = claims.write(its_plans, claims.judge(its_plans, tmp_path), tmp_path)
    text = markdown.read_text(encoding="utf-8")
    assert text.count(" ".join(trends.trend.__doc__.split())) == 1
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## The words", *(f"## {claim.statement.words}" for claim in claims.CLAIMS)
    ]
    rules = [line.removeprefix("Rule: ") for line in text.splitlines() if line.startswith("Rule: ")]
    assert rules == [claim.rule for claim in claims.CLAIMS]
    assert "- Appendix A, Fig. 6: the memo's text: not run (make fig6 PRESET=night)\n" in text  # one preset
    assert text.startswith("Preset night, up to 3 seeds a setting.\n")


def claims_command(capsys, *args):
    """Its standard error, and the first line of its table."""
    assert command.main(["claims", *args]) == 0
    out, err = capsys.readouterr()
    markdown = next(line for line in out.splitlines() if line.endswith(".md"))
    return err, Path(markdown).read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize("preset", ["quick", "night"])
def test_without_any_run_the_reader_is_told_of_the_published_table_and_the_time(
    tmp_path, monkeypatch, capsys, preset
):
    """Faults: a figure left out; a run of two figures counted twice; one core's hours for those of many."""
    monkeypatch.chdir(tmp_path)
    err, first = claims_command(capsys, "--preset", preset)
    assert err == first + "\n"
    assert "results has none of the runs" in first and PUBLISHED in first
    assert (Path(command.__file__).resolve().parents[1] / PUBLISHED).exists()
    (names,) = re.findall(r"make (.*) PRESET=night SEEDS=3, then make claims", first)
    assert names.startswith("moving fig1 fig2 ") and set(names.split()) == set(FIGURES) - {"norms"}
    total = {}
    for name in names.split():
        for run in Plan(name, "night", 3).runs():
            total[run] = run.cost() - (run.start().cost() if run.start() else 0)
    (hours,) = re.findall(r"about (\d+) hours on one core", first)
    assert abs(sum(total.values()) / 3600 - int(hours)) <= 0.5


def test_with_a_run_the_reader_is_told_of_no_other_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store(Plan("fig6", "night").runs()[:1], tmp_path / "results")
    err, first = claims_command(capsys, "--preset", "night")
    assert not err and first.startswith("Preset night")
    err, first = claims_command(capsys, "--preset", "quick")
    assert PUBLISHED in err and PUBLISHED in first


@pytest.mark.parametrize("name", [name for name in FIGURES if name.startswith("fig")])
def test_a_claim_says_which_batch_norm_its_figure_has(name):
    reading = cases._reading(Plan(name, "night"))
    plain = "" if name in ("fig1", "fig5") else "the memo's text"
    expected = {"true": "true gradient", "standard": "standard batch norm"}
    assert reading == expected.get(name.partition("-")[2], plain)


def test_the_table_is_written_from_the_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--preset", "smoke", "--seeds", "1"]
    assert command.main(["fig6", *small, "--jobs", "1"]) == 0
    assert command.main(["claims", *small]) == 0
    stem = Path("figures") / "claims-smoke-seeds=1"
    assert capsys.readouterr().out.splitlines()[-2:] == [f"{stem}.{kind}" for kind in ("md", "csv")]
    with open(f"{stem}.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["verdict"] for row in rows} == {"says nothing"}
    assert {row["preset"] for row in rows} == {"smoke"}
    run = [row["place"] for row in rows if not row["measured"].startswith(("not run", "not complete"))]
    assert run == ["Appendix A, Fig. 6"]
    text = Path(f"{stem}.md").read_text(encoding="utf-8")
    assert text.startswith("Preset smoke, 1 seed a setting. Smoke tests the program")
