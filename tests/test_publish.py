"""What is published of a results folder: pictures, numbers, spectra and the page, all of it or nothing."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest

from experiments import __main__ as command
from experiments import publish as publishing
from experiments.plans import Plan
from experiments.publish import Refusal, publish
from experiments.store import read, read_result, result_path, write
from outcomes import ORIGIN, store

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "experiments" / "published"
LARGEST = 25e6  # bytes of all that is published
HERE = ORIGIN | {"commit": "1234567890abcdef", "machine": "Linux x86_64"}
THERE = ORIGIN | {"commit": "fedcba0987654321", "machine": "Darwin arm64"}
FIG2, FIG6 = Plan("fig2", "smoke"), Plan("fig6", "smoke")
SEED_0 = [run for run in FIG6.runs() if run.seed == 0]
SEED_1 = [run for run in FIG6.runs() if run.seed == 1]


pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """(results, folder, paths): of Figure 6 seed 0 and a run of seed 1; of Figure 2 two, one diverged."""
    folder = tmp_path_factory.mktemp("publish")
    results, out = folder / "results", folder / "out"
    fill(results)
    return results, out, publish("smoke", results, out)


def fill(results):
    store(SEED_0, results, origin=HERE)
    store(SEED_1[:1], results, origin=THERE)
    store(FIG2.runs()[:2], results, accuracy=0.625, origin=HERE)
    path = result_path(results, FIG2.runs()[1])
    meta, arrays = read(path)
    ended = {name: values[:2].copy() for name, values in arrays.items()}
    ended["train_loss"][1] = numpy.nan
    write(path, meta | {"status": "diverged", "epoch": 1}, ended)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def text(shown):
    results, out, paths = shown
    return (out / "runs-smoke.md").read_text(encoding="utf-8")


def cells(shown, start):
    """The cells of the page's row whose first cell begins so."""
    (row,) = re.findall(rf"^\| ({start}.*) \|$", text(shown), re.MULTILINE)
    return row.split(" | ")


# What is written.


def test_the_files_are_those_that_the_command_names_and_the_page_links_to(shown):
    results, out, paths = shown
    linked = {"fig6-smoke.png", "fig6-smoke.csv", "fig6-smoke-spectra.npz"}
    linked |= {"claims-smoke.md", "claims-smoke.csv"}
    assert set(re.findall(r"\]\(([^)]+)\)", text(shown))) == linked
    assert {path.name for path in paths} == set(contents(out)) == linked | {"runs-smoke.md"}


def test_the_default_preset_stands_in_no_name_but_the_page_s(tmp_path):
    store(Plan("fig6", "quick").runs(), tmp_path / "results")
    publish("quick", tmp_path / "results", tmp_path / "out")
    linked = {"fig6.png", "fig6.csv", "fig6-spectra.npz", "claims.md", "claims.csv"}
    page = (tmp_path / "out" / "runs-quick.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([^)]+)\)", page)) == linked
    assert set(contents(tmp_path / "out")) == linked | {"runs-quick.md"}


def test_a_figure_is_published_as_its_whole_seeds_are_drawn(shown, tmp_path):
    results, out, paths = shown
    plan = Plan("fig6", "smoke", 1)
    plan.draw({run: read_result(results, run) for run in plan.runs()}, tmp_path)
    for kind in ("png", "csv"):
        drawn = (tmp_path / f"{plan.stem()}.{kind}").read_bytes()
        assert (out / f"fig6-smoke.{kind}").read_bytes() == drawn


def test_the_spectra_are_those_after_the_last_epoch_with_all_that_the_store_says(shown):
    results, out, paths = shown
    with numpy.load(out / "fig6-smoke-spectra.npz") as file:
        published = dict(file)
    about = json.loads(str(published.pop("meta")))
    expected = {}
    for run in SEED_0:
        meta, arrays = read_result(results, run)
        assert about.pop(run.key) == meta
        expected |= {f"{run.key} {name}": s[-1] for name, s in arrays.items() if name.startswith("spectrum ")}
    assert not about and published.keys() == expected.keys()
    for name, s in expected.items():
        assert published[name].dtype == "float32"
        assert numpy.array_equal(published[name], s.astype("float32"))


def test_the_page_says_how_many_seeds_are_whole_and_how_many_runs_are_done(shown):
    title, links, seeds, runs, by = cells(shown, "Figure 6")
    assert title == Plan("fig6", "smoke", 1).title()
    assert (seeds, runs, by) == ("1 of 2", "13 of 24", "1, 2")


def test_a_figure_that_is_not_whole_has_a_row_for_every_run_that_is_done(shown):
    """Three of them are Figure 6's too."""
    results, out, paths = shown
    section = text(shown).split("## Not whole: fig2-smoke\n")[1].split("\n## ")[0]
    assert f"{FIG2.title()}: 5 of 36 runs are done, computed by 1." in section
    settings = re.findall(r"^\| η\s=\s(\S+), B\s=\s(\d+) \| \S+ \| (\d) ", section, re.MULTILINE)
    assert settings == [
        ("0.001", "4", "0"), ("0.001", "4", "1"), ("0.1", "32", "0"), ("0.1", "64", "0"), ("0.1", "128", "0")
    ]
    spectra = read_result(results, FIG2.runs()[0])[1]
    ranks = [(s[-1] > 0).sum() for name, s in spectra.items() if name.startswith("spectrum ")]
    assert f"| 0 | 2 | 62.5 % | {sum(ranks) / len(ranks):.1f} of 8.0 |" in section


def test_runs_that_a_claim_falls_back_on_are_on_the_page_too(tmp_path):
    plan = Plan("control", "smoke", settings={"eta": 0.01})
    store(plan.runs()[-1:], tmp_path / "results", accuracy=0.625)
    publish("smoke", tmp_path / "results", tmp_path / "out")
    page = (tmp_path / "out" / "runs-smoke.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"## Not whole: control-smoke-eta=0.01\n(.*?)\n## ", page, re.DOTALL)
    assert f"{plan.title()}: 1 of 20 runs are done, computed by 1." in section and "| 62.5 % |" in section
    assert "## Not whole: control-smoke\n" not in page


def test_a_run_that_diverged_has_no_accuracy_and_no_rank(shown):
    (row,) = [row for row in text(shown).splitlines() if "diverged" in row]
    assert row.endswith("| 1 | diverged at 1 |  |  |")


def test_figures_of_which_nothing_is_done_are_named(shown):
    absent = text(shown).split("## Not begun\n\n")[1].split("\n")[0].split(", ")
    assert {"fig1", "fig2-true", "control"} <= set(absent) and not {"fig2", "fig6"} & set(absent)


def test_every_commit_and_machine_is_listed_with_the_number_of_its_runs(shown):
    for start, commit, machine, runs in (
        ("1 ", "1234567890", "Linux x86_64", "14"),
        ("2 ", "fedcba0987", "Darwin arm64", "1"),
    ):
        row = cells(shown, start)
        assert row[1:3] == [commit, machine] and row[-1] == runs


def test_a_run_that_was_continued_elsewhere_has_both_machines(tmp_path):
    store(SEED_0[:2], tmp_path / "results", origin=HERE)
    path = result_path(tmp_path / "results", SEED_0[0])
    meta, arrays = read(path)
    write(path, meta | {"provenance": [HERE, THERE, HERE]}, arrays)
    page, *_ = publish("smoke", tmp_path / "results", tmp_path / "out")
    last = page.read_text(encoding="utf-8").split("## Computed by")[1].strip().splitlines()[2:]
    assert [row[:16] for row in last] == ["| 1 | 1234567890", "| 2 | fedcba0987"]
    assert [row[-5:] for row in last] == ["| 2 |", "| 1 |"]


def test_what_is_beyond_float32_is_infinite_in_the_published_spectra(tmp_path):
    store(SEED_0, tmp_path / "results")
    path = result_path(tmp_path / "results", SEED_0[0])
    meta, arrays = read(path)
    ended = {name: values[:2].copy() for name, values in arrays.items()}
    ended["train_loss"][1], ended["spectrum 2-1"][1, 0] = numpy.inf, 1e39
    write(path, meta | {"status": "diverged", "epoch": 1}, ended)
    publish("smoke", tmp_path / "results", tmp_path / "out")
    with numpy.load(tmp_path / "out" / "fig6-smoke-spectra.npz") as file:
        assert file[f"{SEED_0[0].key} spectrum 2-1"][0] == numpy.inf


# All of it or nothing.


def test_the_same_results_give_the_same_bytes(shown, tmp_path):
    results, out, paths = shown
    publish("smoke", results, tmp_path)
    assert contents(tmp_path) == contents(out)


@pytest.mark.parametrize(
    "module, name", [(publishing, "page_of"), (publishing, "_write_figure"), (publishing.claims, "write")]
)
def test_nothing_appears_or_changes_where_writing_fails(shown, tmp_path, monkeypatch, module, name):
    """The claims are written last, when all the rest lies ready."""
    results, out, paths = shown
    shutil.copytree(out, tmp_path / "out")
    store(FIG6.runs() + FIG2.runs(), tmp_path / "results")

    def disk_full(*args):
        raise OSError("disk full")

    monkeypatch.setattr(module, name, disk_full)
    with pytest.raises(OSError, match="disk full"):
        publish("smoke", tmp_path / "results", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(out)


def test_the_page_appears_last(shown, tmp_path, monkeypatch):
    results, out, paths = shown
    appeared, original = [], os.replace

    def replace(new, path):
        appeared.append(Path(path).name)
        original(new, path)

    monkeypatch.setattr(os, "replace", replace)
    publish("smoke", results, tmp_path)
    assert len(appeared) == len(paths) and appeared[-1] == "runs-smoke.md"


# What is refused.


def refused(results, out, preset="smoke"):
    """The one sentence of a refusal, after which the folder has what it had."""
    before = contents(out) if out.exists() else None
    with pytest.raises(Refusal) as error:
        publish(preset, results, out)
    assert (contents(out) if out.exists() else None) == before
    message = str(error.value)
    assert "\n" not in message and ". " not in message
    return message


@pytest.mark.parametrize("commit", ["1234567890abcdef-dirty", "unknown"])
@pytest.mark.parametrize("place", [0, 1], ids=["begun", "continued"])
def test_results_of_uncommitted_code_are_refused(tmp_path, commit, place):
    store(SEED_0, tmp_path / "results")
    path = result_path(tmp_path / "results", SEED_0[3])
    meta, arrays = read(path)
    provenance = [HERE, HERE]
    provenance[place] = HERE | {"commit": commit}
    write(path, meta | {"provenance": provenance}, arrays)
    message = refused(tmp_path / "results", tmp_path / "out")
    assert message.startswith(f"1 of 12 runs in {tmp_path / 'results'} are from code that was not committed")
    assert str(path) in message and commit in message


def test_uncommitted_runs_that_only_the_claims_look_at_are_refused_too(tmp_path):
    dirty = ORIGIN | {"commit": "1234567890abcdef-dirty"}
    store(SEED_0, tmp_path / "by hand")
    store(Plan("control", "smoke", settings={"eta": 0.01}).runs()[-1:], tmp_path / "by hand", origin=dirty)
    assert refused(tmp_path / "by hand", tmp_path / "out").startswith("1 of 13 runs")
    store(Plan("fig6", "night", 1).runs()[:1], tmp_path / "other preset")
    store(Plan("fig6", "paper", 1).runs(), tmp_path / "other preset", origin=dirty)
    assert refused(tmp_path / "other preset", tmp_path / "out", "night").startswith("12 of 13 runs")


def test_uncommitted_runs_of_another_preset_that_nothing_looks_at_do_no_harm(tmp_path):
    store(SEED_0, tmp_path / "results")
    store(Plan("fig6", "night").runs()[:1], tmp_path / "results", origin=ORIGIN | {"commit": "unknown"})
    assert publish("smoke", tmp_path / "results", tmp_path / "out")


def test_an_empty_folder_of_results_is_refused(tmp_path):
    assert "no finished run of --preset smoke" in refused(tmp_path / "results", tmp_path / "out")


def test_what_is_published_is_not_replaced_by_less(shown, tmp_path):
    results, out, paths = shown
    shutil.copytree(out, tmp_path / "out")
    store(FIG6.runs(), tmp_path / "more")
    store(SEED_0[1:], tmp_path / "less")
    spectra = tmp_path / "out" / "fig6-smoke-spectra.npz"
    assert f"{spectra} has 12 runs" in refused(tmp_path / "less", tmp_path / "out")
    publish("smoke", tmp_path / "more", tmp_path / "out")
    assert f"{spectra} has 12 runs" in refused(results, tmp_path / "out")


def test_damaged_spectra_are_told_by_their_name(shown, tmp_path):
    results, out, paths = shown
    shutil.copytree(out, tmp_path / "out")
    spectra = tmp_path / "out" / "fig6-smoke-spectra.npz"
    for content in (b"", b"no archive", spectra.read_bytes()[:-100]):
        spectra.write_bytes(content)
        assert f"{spectra} can't be read" in refused(results, tmp_path / "out")


# The command.


def test_the_command_says_what_it_wrote_or_refuses_in_one_sentence(shown, tmp_path, capsys):
    results, out, paths = shown
    arguments = ["published", "--preset", "smoke", "--results", str(results), "--out"]
    assert command.main([*arguments, str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "new" / path.name) for path in paths]
    (tmp_path / "file").write_text("")
    for wrong in (
        [*arguments, str(tmp_path / "file")],
        [*arguments, str(tmp_path / "new"), "--seeds", "1"],
        ["published", "--preset", "smoke", "--results", str(tmp_path / "absent")],
    ):
        with pytest.raises(SystemExit) as end:
            command.main(wrong)
        out, err = capsys.readouterr()
        assert end.value.code == 2 and not out and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_publishes_though_a_folder_has_that_name(tmp_path):
    """Without .PHONY: "'published' is up to date", as it is newer than the environment."""
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv-plain").mkdir()
    (tmp_path / ".venv-plain" / "installed-numpy").touch()
    (tmp_path / "published").mkdir()
    call = ["make", "-n", "published", "PRESET=night", "FAST=0"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    assert "-m experiments published --preset night" in done.stdout, done.stderr


# What is published in this repository.


def test_all_that_is_published_is_small():
    assert sum(path.stat().st_size for path in PUBLISHED.rglob("*") if path.is_file()) <= LARGEST


@pytest.mark.parametrize("page", sorted(PUBLISHED.glob("runs-*.md")), ids=lambda page: page.name)
def test_every_file_that_a_page_of_runs_names_is_there(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert links and [link for link in links if not (page.parent / link).exists()] == []
