"""The README's examples run, its commands are understood, its links lead somewhere."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from experiments.__main__ import command_line, experiments
from experiments.figures import FIGURES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "experiments" / "published" / "README.md"]
TEXT = PAGES[0].read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
MAKE = re.findall(r"(?:^|`)make (?!test|bench)([^`\n]+)", TEXT, re.MULTILINE)
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


def understood(arguments):
    """The name in the arguments of `python -m experiments`, which parse and make an Experiment."""
    args = command_line().parse_args(shlex.split(arguments))
    if args.name in FIGURES:
        experiments(args, [args.name])
    return args.name


def dry_run(*arguments):
    """What make would do: its standard output and error, and the arguments of the command."""
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout, done.stderr, re.findall(r"-m experiments (.*)", done.stdout)


@pytest.mark.parametrize("block", EXAMPLES, ids=["training", "gradient"])
def test_an_example_runs(block):
    exec(block, {})


@needs_make
@pytest.mark.parametrize("arguments", [*MAKE, *(f"{name} SET=norm=start" for name in FIGURES)])
def test_make_calls_what_is_said(arguments):
    """Also for every figure that there is."""
    target, *variables = shlex.split(arguments)
    _, errors, (call,) = dry_run(target, *variables)
    assert not errors and understood(call) == target
    assert ("tol=" in call) == ("tol=" in arguments)


@needs_make
@pytest.mark.parametrize("variable", ["LAM=1", "preset=night", "BACKEND=cupyy"])
def test_make_refuses_a_variable_or_backend_that_there_is_not(variable):
    output, errors, _ = dry_run("fig2", variable)
    assert variable.split("=")[0] in errors and not output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_file_that_a_page_links_to_is_there(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    files = [target for target in targets if not target.startswith("http")]
    assert files and not [target for target in files if not (page.parent / target).exists()]
