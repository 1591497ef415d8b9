"""The README's examples run as printed, and its message is what the check says."""

import re
from pathlib import Path

import pytest

import minigrad as mg

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
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
