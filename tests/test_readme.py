"""The README's examples run, its commands are understood, its links lead somewhere."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from experiments.__main__ import command_line, experiment
from experiments.figures import FIGURES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "experiments" / "published" / "README.md"]
TEXT = PAGES[0].read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
EXAMPLES = [block for language, block in FENCED if language == "python"]
SHELL = "".join(block for language, block in FENCED if language != "python")
COMMANDS = SHELL.splitlines()
MAKE = [line.split("#")[0] for line in COMMANDS if line.startswith("make")]
CALLS = [line.split("-m experiments")[1] for line in COMMANDS if "-m experiments" in line]
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


def understood(arguments):
    """The name in the arguments of `python -m experiments`, which parse and make an Experiment."""
    args = command_line().parse_args(shlex.split(arguments))
    if args.name in FIGURES:
        experiment(args.name, args)
    return args.name


def dry_run(*arguments):
    """What make would do."""
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.splitlines()[-1][:30])
def test_an_example_runs(block, tmp_path, monkeypatch):
    """In a folder that looks like the clone, where it may leave a picture."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    exec(block, {})


@needs_make
@pytest.mark.parametrize("line", MAKE)
def test_make_calls_what_is_said(line):
    _, target, *variables = shlex.split(line)
    done = dry_run(target, *variables)
    assert done.returncode == 0, done.stderr
    for arguments in re.findall(r"-m experiments (.*)", done.stdout):
        assert understood(arguments) == target


@pytest.mark.parametrize("arguments", CALLS)
def test_the_command_line_takes_what_is_said(arguments):
    assert understood(arguments)


@needs_make
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_name_in_the_makefile(name):
    (arguments,) = re.findall(r"-m experiments (.*)", dry_run(name, "SET=tol=0.1").stdout)
    assert understood(arguments) == name and "tol=0.1" in arguments


@needs_make
@pytest.mark.parametrize("variable", ["LAM=1", "preset=night", "BACKEND=cupyy"])
def test_make_refuses_a_variable_or_backend_that_there_is_not(variable):
    done = dry_run("fig2", variable)
    assert done.returncode and variable.split("=")[0] in done.stderr and not done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_file_that_a_page_links_to_is_there(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    files = [target for target in targets if not target.startswith("http")]
    assert files and not [target for target in files if not (page.parent / target).exists()]
