"""A claim: a statement of the memo, its figures, and its judge, whose docstring is the rule."""

from collections.abc import Callable
from typing import NamedTuple

from ..captions import written
from ..verdicts import Statement
from .outcomes import LEARNING

# How a verdict is said under a preset: few epochs decide nothing, and smoke is no training at all.
SAID = {
    "quick": {"holds": "seen", "fails": "not seen", "mixed": "not seen", "not seen": "not seen"},
    "smoke": {},
}
ELSE_SAID = {"quick": "too early", "smoke": "says nothing"}


class Claim(NamedTuple):
    """judge([Outcome]) returns the numbers that the statement's template names; "holds" is the verdict."""

    statement: Statement
    rule: str
    figures: tuple
    judge: Callable
    looks: tuple = LEARNING  # other ways to look at the runs, under which the verdict is tried again
    whole: bool = True  # whether the figure decides nothing before all its settings are trained
    fallback: dict = {}  # what is set by hand in runs that are looked at too


def judges(statement, *figures, **options):
    """The decorated judge of a statement becomes its Claim."""

    def claim(judge):
        return Claim(statement, " ".join(judge.__doc__.split()), figures, judge, **options)

    return claim


def said(verdict, preset):
    """The verdict in the words that the preset allows."""
    if preset in SAID:
        return SAID[preset].get(verdict, ELSE_SAID[preset])
    return verdict


def by_majority(shown, opposite, eligible):
    """The verdict where each of the `eligible` shows a statement, its opposite or neither, and some must."""
    if opposite:
        return "mixed" if shown else "fails"
    if shown:
        return "holds" if 2 * shown >= eligible else "mixed"
    return "not seen" if eligible >= 2 else "not decided"


def by_thirds(shown, active):
    """The verdict where each of the `active` settings shows a statement or doesn't; below three, none."""
    if active < 3:
        return "not decided"
    if 3 * shown >= 2 * active:
        return "holds"
    return "fails" if 3 * shown <= active else "mixed"


class Comparison(NamedTuple):
    """Two ratios of a setting, each in every seed, and whether it shows a statement or its opposite."""

    lam: float
    first: list
    second: list
    shows: bool
    opposes: bool


def by_comparison(comparisons):
    """What a judge returns who compares settings so: the verdict by majority, and the ratios by λ."""
    by_lam = {}
    for made in comparisons:
        first, second = by_lam.setdefault(made.lam, ([], []))
        first.extend(made.first)
        second.extend(made.second)
    texts = []
    for lam, (first, second) in sorted(by_lam.items()):
        texts.append(f"{span(first)} and {span(second)} times at λ = {written('lam', lam)}")
    shown = sum(made.shows for made in comparisons)
    against = sum(made.opposes for made in comparisons)
    decided = shown or against
    return {
        "shown": shown,
        "against": against,
        "compared": len(comparisons),
        "ratios": "; ".join(texts) or "nothing to compare",
        "holds": by_majority(shown, against, len(comparisons)) if decided else "not decided",
    }


def span(values, unit=""):
    """The range of some numbers in three digits: "3 to 40 %"."""
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"
