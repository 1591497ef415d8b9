"""The README's examples and commands work as printed, its links lead somewhere, its numbers are published."""

import ast
import csv
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest

import minigrad as mg
from experiments.options import command_line, parse_settings
from experiments.plans import Plan
from experiments.results import LEARNED

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "experiments" / "published"
FIGURE_2 = ("fig2", "fig2-true", "fig2-standard")
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
BLOCKS = [block for language, block in FENCED if language == "python"]
COMMANDS = [line for language, block in FENCED if not language for line in block.splitlines()]
EQUATIONS = re.findall(r"^\| (Eq\..*?) \| (.*?) \| (.*?) \|$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1][:30])
def test_the_examples_run(block, tmp_path, monkeypatch):
    """In a folder that looks like the clone, where they may leave a picture."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    exec(block, {})


def test_there_are_examples_and_commands():
    assert len(BLOCKS) >= 3 and len(COMMANDS) >= 4


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 150 and len(TEXT.replace("|", " ").split()) <= 1900


def accepted(arguments):
    """The arguments of `python -m experiments` as they are understood; a figure's make a Plan."""
    args = command_line().parse_args(arguments)
    if args.name.startswith("fig"):
        Plan(args.name, args.preset, args.seeds, parse_settings(args.set))
    return args.name


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make")])
def test_make_does_what_is_said(line):
    arguments = shlex.split(line)
    done = subprocess.run([*arguments, "-n"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    called = re.findall(r"-m (experiments|pytest)\b(.*)", done.stdout)
    assert len(called) == 1
    if called[0][0] == "experiments":
        assert accepted(shlex.split(called[0][1])) == arguments[1]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("variable", ["LAM=1", "preset=night", "SETS=a"])
def test_make_refuses_a_variable_that_it_does_not_have(variable):
    done = subprocess.run(["make", "fig2", variable, "-n"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and f"{variable.split('=')[0]} is no variable of this Makefile" in done.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_passes_on_how_many_runs_are_trained_at_once():
    """Also to a command that doesn't take it and says so."""
    for target in ("fig3", "claims"):
        done = subprocess.run(
            ["make", target, "JOBS=2", "STACK=6", "-n"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert f"experiments {target} --preset quick" in done.stdout and "--jobs 2 --stack 6" in done.stdout


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_refuses_an_unknown_backend_before_it_installs_anything():
    done = subprocess.run(["make", "fig1", "BACKEND=cupyy", "-n"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and "BACKEND must be numpy or cupy, got cupyy" in done.stderr and not done.stdout


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_installs_dask_for_a_cluster_and_for_the_tests_and_else_not(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for file in ("setup.cfg", "pyproject.toml"):
        (tmp_path / file).touch()
    said = {}
    for call in ("make fig1", "make fig1 CLUSTER=tcp://a:8786", "make test"):
        done = subprocess.run([*call.split(), "-n"], cwd=tmp_path, capture_output=True, text=True)
        said[call] = done.stdout
    assert [".[cluster]" in text for text in said.values()] == [False, True, True]
    last = said["make fig1 CLUSTER=tcp://a:8786"].splitlines()[-1]
    assert command_line().parse_args(shlex.split(last.split("-m experiments")[1])).cluster == "tcp://a:8786"


@pytest.mark.parametrize("line", [line for line in COMMANDS if "-m experiments" in line])
def test_the_command_line_takes_what_is_said(line):
    assert accepted(shlex.split(line.split("-m experiments")[1])) == "fig2"


def defined(path):
    """The functions and classes of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize("what, functions, tests", EQUATIONS, ids=[row[0] for row in EQUATIONS])
def test_every_equation_has_its_function_and_its_test(what, functions, tests):
    for cell, start in ((functions, ""), (tests, "test_")):
        links = re.findall(r"\[(\w+)\]\(([^)]+)\)", cell)
        assert links and all(name.startswith(start) and name in defined(path) for name, path in links), cell


def test_the_equations_of_the_memo_are_there():
    assert len(EQUATIONS) >= 9
    numbers = re.findall(r"\d+", " ".join(what for what, _, _ in EQUATIONS))
    assert {"2", "5", "10", "13", "14", "18", "20", "24", "25", "26"} <= set(numbers)


def test_the_fault_that_the_readme_names_raises():
    (layer,) = [block for block in BLOCKS if "check_gradient" in block]
    with pytest.raises(AssertionError) as error:
        exec(layer.replace("s * (1 - s)", "s * s"), {})
    found = re.sub(r"[0-9.e+-]+", "#", str(error.value))
    assert found in re.sub(r"[0-9.e+-]+", "#", TEXT) and "gradient of W: slope" in str(error.value)


def test_everything_public_is_where_the_readme_says():
    for name in re.findall(r"\bmg\.(\w+)", TEXT):
        assert hasattr(mg, name), name


@pytest.mark.parametrize("page", ["README.md", "experiments/published/README.md"])
def test_every_file_that_a_page_links_to_is_there(page):
    path = ROOT / page
    targets = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    targets = [target for target in targets if not target.startswith("http")]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def published(name, field, epoch):
    """{(eta, B): the number of seed 0} at an epoch, from a published CSV."""
    with open(PUBLISHED / f"{name}.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["field"], row["epoch"]) == (field, epoch)]
    rows.sort(key=lambda row: (float(row["eta"]), int(row["B"])))
    return {(row["eta"], row["B"]): float(row["value"]) for row in rows if row["seed"] == "0"}


def published_claims():
    """A dict for every verdict."""
    with open(PUBLISHED / "claims-night.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_accuracies_and_ranks_in_the_readme_are_those_of_the_published_runs():
    """By reading of batch norm, eta from left to right, B from 4 to 128; no rank of networks at chance."""
    rows = re.findall(r"^\| \[.*\]\(.*\)" + 4 * r" \| ([\d, –]+)" + r" \|$", TEXT, re.MULTILINE)
    written = [[cell.split(", ") for cell in row] for row in rows]
    found = []
    for name in FIGURE_2:
        cells = []
        accuracies, ranks = (published(f"{name}-night", field, "100") for field in ("train_accuracy", "rank"))
        for eta in ("0.01", "0.1"):
            of_eta = [key for key in accuracies if key[0] == eta]
            cells.append([f"{accuracies[key]:.0f}" for key in of_eta])
            cells.append(["–" if round(accuracies[key]) == 10 else f"{ranks[key]:.0f}" for key in of_eta])
        found.append(cells)
    assert written == found


def test_the_numbers_of_networks_at_chance_in_the_readme_are_those_of_the_published_runs():
    counts = r"Of Figure 2's 18 networks, (\d+), (\d+) and (\d+) end at chance, 10 %"
    written = re.search(counts, TEXT)
    for number, name in zip(written.groups(), FIGURE_2):
        ends = published(f"{name}-night", "train_accuracy", "100").values()
        assert len(ends) == 18 and int(number) == sum(round(value) == 10 for value in ends)


def test_the_weights_of_networks_at_chance_have_decayed_to_zero_as_the_readme_says():
    """In the published spectra: below a millionth of ‖W‖ = 5.8, which a hidden W has before training."""
    for name in FIGURE_2:
        accuracies = published(f"{name}-night", "train_accuracy", "100")
        with numpy.load(PUBLISHED / f"{name}-night-spectra.npz") as file:
            meta = json.loads(str(file["meta"]))
            for key, one in meta.items():
                run = one["run"]
                largest = max(file[name].max() for name in file.files if name.startswith(f"{key} "))
                if run["seed"] == 0:
                    at_chance = round(accuracies[f"{run['eta']:g}", str(run["B"])]) == 10
                    assert (largest < 1e-6 * 5.8) == at_chance


def test_the_control_in_the_readme_is_the_published_one():
    """E = 9.2 takes a direction to 1e-4 of its first size."""
    page = (PUBLISHED / "runs-night.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## Not whole: (\S+)\n(.*?)(?=^## )", page, re.DOTALL | re.MULTILINE))
    written = re.search(
        r"true gradient: at η = (\S+), ranks (\S+) and (\S+) at B = 128 and 16, "
        r"after too little decay to lose any; at η = 0.03, B = 16 learns nothing", TEXT
    )
    row = r"MLP-BN-10-100, {}.*? \| (\S+) \| 0 \| 500 \| (\S+) % \| (\S+) of"
    cells = "a: B = 128", "b: B = 16"
    section = sections[f"control-night-eta={written[1]}"]
    found = [re.search(row.format(cell), section).groups() for cell in cells]
    assert [rank for _, _, rank in found] == [written[2], written[3]]
    assert all(float(budget) < 5 and float(accuracy) > LEARNED for budget, accuracy, _ in found)
    assert re.search(row.format(cells[1]), sections["control-night"])[2] == "10.0"


def test_no_reading_loses_rank_at_the_smallest_learning_rate_as_the_readme_says():
    eta, least = re.search(r"at η = (\S+) every rank is above (\d+)", TEXT).groups()
    for name in FIGURE_2:
        ranks = published(f"{name}-night", "rank", "100")
        assert min(rank for (its_eta, _), rank in ranks.items() if its_eta == eta) > int(least)


def test_the_bottlenecks_in_the_readme_are_those_of_the_published_claims():
    counts = r"true gradient\]\(\S+\) (\d+) of (\d+), \[standard\]\(\S+\) (\d+) of (\d+)"
    of_true, all_true, of_standard, all_standard = re.search(counts, TEXT).groups()
    found = {row["batch_norm"]: row for row in published_claims() if "bottleneck" in row["statement"]}
    for reading, so, active, verdict in (
        ("true gradient", of_true, all_true, "holds"),
        ("standard batch norm", of_standard, all_standard, "holds"),
        ("the memo's text", "0", "0", "not decided"),
    ):
        assert f"so in {so} of {active} active settings" in found[reading]["measured"]
        assert found[reading]["verdict"] == verdict


def test_the_settings_close_to_rank_B_in_the_readme_are_those_of_the_published_claims():
    of = r"(\d+) of (\d+)"
    counts = rf"so in {of} learned settings with B < 100, {of} \(true gradient\), {of} \(standard\)"
    numbers = re.search(counts, TEXT).groups()
    rows = [row for row in published_claims() if row["statement"] == "W is close to rank at most B"]
    for row, so, learned in zip(rows, numbers[::2], numbers[1::2]):
        assert row["place"].endswith("Fig. 2") and row["verdict"] == "mixed"
        assert f"in {so} of {learned} settings that have learned" in row["measured"]


def test_the_verdicts_in_the_readme_are_the_published_ones():
    """In the order of the readings: the memo's text, the true gradient, standard batch norm."""
    table = TEXT.split("| the memo's claim |")[1].split("\n\n")[0].splitlines()[2:]
    said = [line.rstrip(" |").split(" | ")[-1] for line in table]
    records = published_claims()
    statements = (
        ("smaller B, lower rank, after equally many epochs", "Fig. 2"),
        ("smaller B, lower rank, after equally many steps", "control"),
        ("larger η, lower rank", "Fig. 2"),
        ("larger λ, lower rank", "Fig. 3"),
        ("W is close to rank at most B", "Fig. 2"),
        ("MLPs have a bottleneck: the ranks are lowest in the middle", "Fig. 6"),
    )
    assert len(said) == len(statements)
    for words, (statement, place) in zip(said, statements):
        rows = [row for row in records if row["statement"] == statement and row["place"].endswith(place)]
        others, _, text = words.partition("; memo's text: ")
        expected = [text or others, *[others] * (len(rows) - 1)]
        assert [row["verdict"] for row in rows] == expected, statement


def test_the_speed_in_the_readme_is_that_of_the_published_table():
    told = re.search(
        r"takes (\S+) \(B = 4\) and (\S+) \(B = 128\) of the time of JAX's compiled scan, "
        r"and (\S+) and (\S+) of PyTorch's", TEXT
    )
    table = (PUBLISHED / "bench.md").read_text(encoding="utf-8")
    for B, to_jax, of_torch in (("4", told[1], told[3]), ("128", told[2], told[4])):
        row = next(line for line in table.splitlines() if line.startswith(f"| MLP-BN-10-100 | {B} |"))
        cells = [cell.split()[0] for cell in row.strip("| ").split(" | ")]
        ours, torch, jax = (float(cells[i]) for i in (2, 5, 6))
        assert to_jax == f"{ours / jax:.2f}" and of_torch == f"{ours / torch:.2f}"
