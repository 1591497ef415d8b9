"""What no single file shows: imports point one way, one file names CuPy, the legend has every letter."""

import ast
import re
from pathlib import Path

import pytest

import minigrad

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "minigrad").glob("*.py"))

# What each file of minigrad may import of ours. A new file gets its row here.
MAY_IMPORT = {
    "backend": set(),
    "graph": set(),
    "checks": {"backend"},
    "optim": {"checks"},
    "facts": set(),
    "verify": {"facts"},
    "fetch": {"facts", "verify"},
    "datasets": {"facts", "fetch", "verify"},
    "layers": {"backend"},
    "losses": {"backend", "checks"},
    "measures": {"backend", "checks"},
    "gradcheck": {"backend", "checks"},
    "network": {"backend", "checks", "graph", "layers", "losses", "measures", "optim"},
    "loops_numpy": {"layers"},
    "loops_numba": {"layers"},
    "kernels": {"layers", "losses", "loops_numpy", "loops_numba"},
    "slices": {"layers", "network"},
    "train": {"backend", "checks", "graph", "kernels", "layers", "losses", "measures", "optim", "network", "slices"},
}


def imported(path):
    """Full names of what a file imports, at any depth; `from .graph import mlp` is minigrad.graph."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [path.parent.name if node.level else "", node.module or ""]))
            # `from . import graph` names the module among the names
            if base in ("minigrad", "experiments"):
                yield from (f"{base}.{alias.name}" for alias in node.names)
            else:
                yield base


def test_there_is_a_minigrad_to_look_at():
    assert len(MODULES) > 8, f"no minigrad beside {Path(__file__).parent}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_inside_minigrad_point_one_way(path):
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("minigrad.")}
    if path.stem == "__init__":
        return
    assert path.stem in MAY_IMPORT, f"say in MAY_IMPORT what minigrad/{path.name} may import"
    more = sorted(ours - MAY_IMPORT[path.stem])
    assert not more, f"minigrad/{path.name} may not import {more}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_minigrad_never_imports_experiments(path):
    assert not [name for name in imported(path) if name.split(".")[0] in ("experiments", "tests")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_line_is_longer_than_110_columns(path):
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    assert not [f"{path.name}:{number}" for number, line in lines if len(line) > 110]


def letters(path):
    """The single letters that a file gives a value."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_single_letter_is_in_the_legend(path):
    legend = minigrad.__doc__.split("THE LEGEND")[1].splitlines()
    column = [line[4:16] for line in legend if line.startswith("    ")]
    known = re.findall(r"\b[A-Za-z]\b", " ".join(column))
    assert not {name for name in letters(path) if len(name) == 1} - {*known, "_"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_the_backend_names_cupy(path):
    """In words as well as in imports: with one file to change, another library can replace or join CuPy."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    named = [f"{path.name}:{n}" for n, line in lines if "cupy" in line.lower()]
    assert bool(named) == (path.stem == "backend"), named
