"""The README's examples and commands work as printed, its links lead somewhere, its numbers are published."""

import ast
import csv
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import minigrad as mg
from experiments.options import command_line, parse_settings
from experiments.plans import Plan
from experiments.results import LEARNED

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "experiments" / "published"
QUICK = ("fig2", "fig2-true", "fig2-standard")
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


def ranks_at_night(name):
    """{(eta, B): the final average rank of seed 0}: from the CSV, or the page as long as no seed is whole."""
    if (PUBLISHED / f"{name}-night.csv").exists():
        return published(f"{name}-night", "rank", "100")
    page = (PUBLISHED / "runs-night.md").read_text(encoding="utf-8")
    section = page.split(f"## Not whole: {name}\n")[1].split("\n## ")[0]
    row = r"^\| η\s=\s(\S+), B\s=\s(\d+) \| 0 \| 100 \| \S+ % \| (\S+) of"
    return {(eta, B): float(rank) for eta, B, rank in re.findall(row, section, re.MULTILINE)}


def test_the_accuracies_in_the_readme_are_those_of_the_published_runs():
    """By reading of batch norm, in the order of the table: eta from left to right, B from 4 to 128."""
    rows = re.findall(r"^\|.*? \| ([\d, ]+) % \| ([\d, ]+) % \| ([\d, ]+) % \|$", TEXT, re.MULTILINE)
    written = [[int(number) for cell in row for number in cell.split(",")] for row in rows]
    found = [published(name, "train_accuracy", "10").values() for name in QUICK]
    assert written == [[round(value) for value in values] for values in found]


def test_the_numbers_of_networks_at_chance_in_the_readme_are_those_of_the_published_runs():
    counts = r"(\d+) of the 18 networks .* (\d+) of the 18 end at chance.* there, (\d+) end at chance"
    written = re.search(counts, TEXT)
    for number, name in zip(written.groups(), QUICK):
        ends = published(name, "train_accuracy", "10").values()
        assert len(ends) == 18 and int(number) == sum(round(value) == 10 for value in ends)


def test_the_ranks_in_the_readme_are_those_of_the_published_runs():
    """To half a rank: on the page they have one digit."""
    ranks = ranks_at_night("fig2-true")
    row = r"η = (\S+), 100 epochs: rank (\d+) at B = (\d+) .*?, (\d+) at B = (\d+) .*?, (\d+) at B = (\d+)"
    eta, *numbers = re.search(row, TEXT).groups()
    smaller_eta, least = re.search(r"the same B at η = (\S+): rank above (\d+) ", TEXT).groups()
    floor = int(re.search(r"fig2-night.png\): above (\d+) at every B that learns there", TEXT)[1])
    accuracies = published("fig2-night", "train_accuracy", "100")
    memo = ranks_at_night("fig2")
    learned = [memo[eta, B] for B in ("4", "8", "16", "32", "64", "128") if accuracies[eta, B] >= LEARNED]
    assert len(learned) == 3 and min(learned) > floor
    for rank, B in (numbers[:2], numbers[2:4], numbers[4:]):
        assert abs(ranks[eta, B] - int(rank)) <= 0.5
        assert ranks[smaller_eta, B] > int(least)


def test_networks_that_learn_have_lost_as_little_rank_after_ten_epochs_as_the_readme_says():
    """One percent of the full rank, 91.8."""
    words = f"networks above {LEARNED} % train accuracy have lost less than 1 % of their rank"
    assert words in TEXT
    for name in QUICK:
        first, last = published(name, "rank", "0"), published(name, "rank", "10")
        learned = [key for key, value in published(name, "train_accuracy", "10").items() if value >= LEARNED]
        assert len(learned) >= 8 and all(first[key] - last[key] <= 0.918 for key in learned)
