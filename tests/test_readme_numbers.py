"""The README's tables say what the published files say."""

import csv
import functools
import re
from pathlib import Path

import pytest

from experiments.__main__ import PUBLISHED
from experiments.figures import Experiment
from experiments.results import history
from experiments.train import Config

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PLAIN = "no batch norm"  # where what was seen names no variant
VARIANTS = ("the memo's text", "true gradient", "standard")
TRENDS = dict(zip(VARIANTS, ("fig2", "fig2-true", "fig2-standard"))) | {PLAIN: "fig5"}
VERDICTS = {"holds": "reproduced", "mixed": "partly", "fails": "not reproduced"}
CLAIMS = {  # how a row of the README begins: the claim and figures of claims-night.csv
    "Figure 1: W moves": (
        "d(W_{t+1}, W_t) is smaller by orders of magnitude at λ = 0",
        "fig1, cross-entropy",
    ),
    "Figure 1: every W": ("W goes to zero at λ = 1e-4 and 1e-3 (CIFAR-10)", "fig1, cross-entropy"),
    "Figure 2: smaller B": ("smaller B, lower rank, at equal epochs", "fig2"),
    "Figure 2 at half": ("smaller B, lower rank, at equal epochs", "fig2, λ halved"),
    "the same at equal": ("smaller B, lower rank, at equal steps (our control)", "fig2, fig6"),
    "B or steps?": ("what carries the trend (our control)", "control"),
    "larger η, lower rank": ("larger η, lower rank", "fig2, fig6"),
    "smaller B needs smaller η": ("smaller B needs smaller η", "fig2"),
    "Figure 3: larger λ": ("larger λ, lower rank", "fig3"),
    "Figure 5": ("smaller B, lower rank, at equal epochs", "fig5"),
    "Figure 6: a bottleneck": ("MLPs have a bottleneck", "fig6"),
    "Figure 7: equal ranks": ("the two matrices of a residual block have equal ranks", "fig7"),
    "W is close to rank B": ("W is close to rank at most B (Section 3.2)", "fig2"),
    "the same in Figure 5": ("W is close to rank at most B (Section 3.2)", "fig5"),
    "the same in Figure 6": ("W is close to rank at most B (Section 3.2)", "fig6"),
}


def table(header):
    """The rows under a header, as lists of cells without links."""
    text = TEXT.split(f"| {header} |")[1].split("\n\n")[0]
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]


SEEN = {of: (seen, verdict) for of, seen, verdict in table("claim or figure | seen | reproduced?")}
JUDGED = {row: of for row in SEEN for begin, of in CLAIMS.items() if row.startswith(begin)}


@functools.cache
def findings():
    with open(PUBLISHED.with_name("claims-night.csv"), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [row["batch_norm"].replace("standard batch norm", "standard") for row in rows]
    return {(row["claim"], row["figure"], name): row for row, name in zip(rows, names)}


@functools.cache
def ends(figure, lam):
    """{(η, B): the last rank of every seed that learned}."""
    found = {}
    for run in Experiment(figure, "night", 3, {"lam": (lam,)}).runs():
        if stored := Config(PUBLISHED).read(run):
            one = history(*stored)
            if one["learned"]:
                found.setdefault((run.eta, run.B), []).append(one["rank"][-1])
    return found


def written(numbers):
    low, high = f"{min(numbers):.0f}", f"{max(numbers):.0f}"
    return low if low == high else f"{low} to {high}"


COLUMNS = r"([^;:]+): [^;]+ \((\d) of (\d) usable η\)"
SETTING = re.compile(r"(?:(.*), )?(η|B) = (.*): (.*) at (?:η|B) = (.*)")


@pytest.mark.parametrize("row", JUDGED)
def test_what_was_seen_is_in_the_published_runs(row):
    for entry in SEEN[row][0].split("; "):
        if match := SETTING.fullmatch(entry):
            variant, field, fixed, values, varied = match.groups()
            places = [(float(value), float(fixed)) for value in varied.split(", ")]
            if field == "η":
                places = [place[::-1] for place in places]
            end = ends(TRENDS[variant or PLAIN], 2.5e-4 if "half of λ" in row else 5e-4)
            assert values.split(", ") == [written(end[place]) for place in places]
        else:
            variant, _, said = entry.rpartition(": ")
            measured = findings()[(*JUDGED[row], variant or PLAIN)]["measured"]
            assert re.search(rf"(?<![\d.]){re.escape(said)}(?![\d.])", measured)


@pytest.mark.parametrize("row", SEEN)
def test_a_verdict_is_that_of_the_claims_page(row):
    said = re.findall(r"([^;:|]+): \*\*(.+?)\*\*", SEEN[row][1])
    assert bool(said) == (row in JUDGED)
    for variants, verdict in said:
        names = " and ".join(VARIANTS) if "all three" in variants else variants
        for variant in names.split(" and "):
            judged = findings()[(*JUDGED[row], variant.strip())]["verdict"]
            assert verdict == VERDICTS.get(judged, judged)


def test_columns_that_show_figure_2_are_those_of_the_claims_page():
    row = next(row for row in JUDGED if row.startswith("Figure 2: smaller B"))
    said = re.findall(COLUMNS, SEEN[row][1])
    assert len(said) == 2
    for variant, shown, eligible in said:
        measured = findings()[(*JUDGED[row], variant.strip())]["measured"]
        assert measured.startswith(f"{eligible} of 3 columns are eligible, {shown} show it")


def test_the_speed_is_that_of_the_bench():
    bench = PUBLISHED.with_name("speed.md").read_text(encoding="utf-8")
    for B, *ratios in table("B | to PyTorch | to JAX | to matrix products alone"):
        (line,) = re.findall(rf"\| MLP-BN-10-100 \| {B} \|.*", bench)
        measured = [cell.split()[0] for cell in line.strip("| ").split(" | ")[3:]]
        assert ratios == [f"{float(ratio):.2f}" for ratio in measured]
