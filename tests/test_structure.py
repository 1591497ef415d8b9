"""What no single file shows: imports point one way, one file names CuPy, the legend has every letter."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import minigrad

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "minigrad").glob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))
TESTS = sorted((ROOT / "tests").glob("*.py"))

# What each file of minigrad may import of ours. A new file gets its row here.
MAY_IMPORT = {
    "backend": set(),
    "graph": set(),
    "checks": {"backend"},
    "optim": {"backend", "checks"},
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
    "loops_numba": {"layers", "losses", "loops_numpy"},
    "few": {"loops_numba"},
    "kernels": {"few", "layers", "losses", "loops_numpy", "loops_numba"},
    "slices": {"layers", "network"},
    "train": {
        "backend",
        "checks",
        "graph",
        "kernels",
        "layers",
        "losses",
        "measures",
        "network",
        "optim",
        "slices",
    },
}
# The same for experiments, where a folder is one room.
ROOMS_MAY_IMPORT = {
    "captions": set(),
    "locks": set(),
    "looks": set(),
    "parallel": set(),
    "provenance": set(),
    "results": set(),
    "runs": set(),
    "samples": set(),
    "schema": set(),
    "statistics": set(),
    "store": {"locks", "schema"},
    "meeting": {"locks", "provenance", "store"},
    "cluster": {"meeting", "parallel", "provenance"},
    "marks": {"looks"},
    "layout": {"marks"},
    "plots": {"layout", "looks", "marks"},
    "traces": {"layout", "looks"},
    "files": {"layout", "locks"},
    "verdicts": {"files"},
    "bench": {"files"},
    "presets": set(),
    "figures": {"layout", "looks", "presets", "runs"},
    "plans": {"captions", "figures", "files", "looks", "plots", "results", "runs"},
    "stacks": {"runs"},
    "state": {"provenance", "schema", "store"},
    "runner": {"cluster", "parallel", "runs", "samples", "stacks", "state", "store"},
    "theory": {
        "captions",
        "figures",
        "files",
        "layout",
        "looks",
        "parallel",
        "plots",
        "results",
        "runs",
        "samples",
        "verdicts",
    },
    "claims": {"captions", "figures", "files", "results", "statistics", "store", "verdicts"},
    "publish": {"captions", "claims", "figures", "files", "layout", "plans", "results", "store"},
    "ranks": {"captions", "files", "layout", "looks", "results", "runs", "store", "traces"},
    "options": {"figures", "presets", "results", "runs"},
    "commands": {
        "claims",
        "cluster",
        "figures",
        "options",
        "parallel",
        "plans",
        "publish",
        "ranks",
        "runner",
        "runs",
        "samples",
        "store",
        "theory",
    },
    "__main__": {"commands"},
}
# The lowest files, where numbers stand that several others need.
LOWEST = ("layout", "results", "runs", "theory.sizes", "bench.problem", "claims.outcomes")


def imports(path):
    """(module, name) of every import of a file, at any depth; name is None for `import module`."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            yield from ((module, alias.name) for alias in node.names)


def imported(path):
    """Full names of the modules that a file imports; `from . import graph` imports one too."""
    for module, name in imports(path):
        inner = ROOT.joinpath(*module.split("."), name or "")
        is_module = name and (inner.with_suffix(".py").exists() or (inner / "__init__.py").exists())
        yield f"{module}.{name}" if is_module else module


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_folder_of_ours_is_installed():
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    listed = re.search(r"^packages = (.*)$", text, re.MULTILINE)[1].split(", ")
    folders = {path.parent for path in MODULES + EXPERIMENTS if path.name == "__init__.py"}
    assert set(listed) == {".".join(folder.relative_to(ROOT).parts) for folder in folders}


def test_there_is_something_to_look_at():
    assert min(len(MODULES), len(EXPERIMENTS), len(TESTS)) > 8, f"nothing beside {Path(__file__).parent}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_inside_minigrad_point_one_way(path):
    if path.stem == "__init__":
        return
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("minigrad.")}
    assert path.stem in MAY_IMPORT, f"say in MAY_IMPORT what minigrad/{path.name} may import"
    more = sorted(ours - MAY_IMPORT[path.stem])
    assert not more, f"minigrad/{path.name} may not import {more}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_minigrad_never_imports_experiments(path):
    assert not [name for name in imported(path) if name.split(".")[0] in ("experiments", "tests")]


def room(path):
    """The room of experiments that a file lies in: its own name, or its folder's."""
    return path.relative_to(ROOT / "experiments").with_suffix("").parts[0]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_imports_between_the_rooms_of_experiments_point_one_way(path):
    if path == ROOT / "experiments" / "__init__.py":
        return
    assert room(path) in ROOMS_MAY_IMPORT, f"say in ROOMS_MAY_IMPORT what experiments/{room(path)} may import"
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("experiments.")} - {room(path)}
    more = sorted(ours - ROOMS_MAY_IMPORT[room(path)])
    assert not more, f"experiments/{room(path)} may not import {more}"


def test_no_room_imports_itself_by_a_detour():
    """What a room may import stands above it in the table."""
    seen = set()
    for name, allowed in ROOMS_MAY_IMPORT.items():
        assert allowed <= seen, f"{name} stands above {allowed - seen}"
        seen.add(name)


def test_pictures_of_the_theory_know_no_chapter():
    ours = [name for name in imported(ROOT / "experiments/theory/pictures.py") if ".theory" in name]
    assert set(ours) <= {"experiments.theory.sizes"}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_no_file_imports_a_sibling_for_a_number(path):
    """A number that several files share stands in one of the lowest."""
    for module, name in imports(path):
        if module.startswith("experiments") and name and name.isupper():
            value = getattr(importlib.import_module(module), name)
            lowest = module.removeprefix("experiments.") in LOWEST
            assert lowest or not isinstance(value, (int, float)), f"{name} of {module}"


@pytest.mark.parametrize("path", MODULES + EXPERIMENTS + TESTS, ids=name_of)
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


DASK = {"dask", "distributed"}


@pytest.mark.parametrize("path", MODULES + EXPERIMENTS, ids=name_of)
def test_only_the_cluster_imports_dask(path):
    packages = {module.split(".")[0] for module, _ in imports(path)}
    assert not packages & DASK or path == ROOT / "experiments" / "cluster.py"


def test_the_command_line_does_not_import_dask(start):
    """Only what --cluster asks for does: most users have none."""
    process = start("-c", f"import experiments.commands, sys; print({DASK} & set(sys.modules))")
    stdout, stderr = process.communicate(timeout=60)
    assert stdout == "set()\n", stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_the_backend_names_cupy(path):
    """In words as well as in imports: with one file to change, another library can replace or join CuPy."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    named = [f"{path.name}:{n}" for n, line in lines if "cupy" in line.lower()]
    assert bool(named) == (path.stem == "backend"), named
