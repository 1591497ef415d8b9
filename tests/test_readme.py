"""The README's examples run as printed, and its message is what the check says."""

import csv
import re
from pathlib import Path

import pytest

import minigrad as mg

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1][:30])
def test_the_examples_run(block):
    exec(block, {})


def test_the_faults_that_the_readme_names_raise():
    network, layer = BLOCKS
    with pytest.raises(AssertionError, match="gradient of"):
        exec(network.replace(", A=cache.A", ""), {})
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


def test_the_accuracies_in_the_readme_are_those_of_the_published_runs():
    """By reading of batch norm, in the order of the table: eta from left to right, B from 4 to 128."""
    rows = re.findall(r"^\|.*? \| ([\d, ]+) % \| ([\d, ]+) % \| ([\d, ]+) % \|$", TEXT, re.MULTILINE)
    written = [[int(number) for cell in row for number in cell.split(",")] for row in rows]
    published = []
    for name in ("fig2", "fig2-true", "fig2-standard"):
        with open(ROOT / "experiments" / "published" / f"{name}.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        last = [row for row in rows if row["epoch"] == "10" and row["field"] == "train_accuracy"]
        last.sort(key=lambda row: (float(row["eta"]), int(row["B"])))
        published.append([round(float(row["value"])) for row in last])
    assert written == published
