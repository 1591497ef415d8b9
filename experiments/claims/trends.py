"""The rule for trends, and the claims that it judges: rank and accuracy against B, eta and lambda."""

from typing import NamedTuple

import numpy

from .. import statistics
from ..captions import named
from ..verdicts import Statement
from .claim import by_majority, judges
from .outcomes import ENOUGH_SEEDS, RANKS

ENOUGH_VALUES = 3  # that have learned, or a column says nothing
SIGNIFICANT = 0.05
LEAST_EFFECT = 5  # percent of the full rank, or of accuracy
VARIED = ("eta", "B", "lam")


class Column(NamedTuple):
    """An eligible column: its name, tau-b, p before Holm's correction, the change over the whole range."""

    name: str
    tau: float
    p: float
    effect: float


def trend(found, field, sign, of="rank", permutations=statistics.PERMUTATIONS):
    """A column is all settings that differ in the varied field alone. It is eligible with at least three
    values that have learned. Over all runs of these values: Kendall's τ_b of the final rank (or train
    accuracy) against the field's logarithm (λ: its order); p, two-sided, from 10,000 permutations of the
    labels with a fixed seed and Holm's correction over the figure's columns, in which one that is not
    eligible counts with p = 1. The column shows the trend, or its opposite, if p < 0.05 and the Theil-Sen
    slope over the whole range of the figure's field is at least 5 % of the full rank (of 100 % for
    accuracies). Holds: at least half of the eligible columns show it and none the opposite. Fails: at least
    one shows the opposite and none shows it. Mixed: some show it and some the opposite, or some show it but
    fewer than half. Not seen: two or more are eligible and none shows either. Not decided: otherwise. Fewer
    than three seeds give no p, and without it no column shows anything: not decided.
    """
    columns = _columns(found, field)
    place = _places(found, field)
    eligible = []
    for name, settings in columns.items():
        learned = [outcome for outcome in settings if outcome.learned()]
        if len(learned) >= ENOUGH_VALUES:
            eligible.append(_measured(name, learned, field, place, of, permutations))
    enough_seeds = all(len(outcome.seeds) >= ENOUGH_SEEDS for outcome in found)
    untested = [1.0] * (len(columns) - len(eligible))
    p = statistics.holm([column.p for column in eligible] + untested)
    shown = opposite = 0
    texts = []
    for column, corrected in zip(eligible, p):
        text = f"{column.effect:+.1f} % (τ_b = {column.tau:.2f}"
        text += f", p = {corrected:.2g})" if enough_seeds else ")"
        texts.append(f"{text} at {column.name}")
        if corrected < SIGNIFICANT and abs(column.effect) >= LEAST_EFFECT:
            shown += column.effect * sign > 0
            opposite += column.effect * sign < 0
    summary = f"{len(eligible)} of {len(columns)} columns are eligible"
    if enough_seeds:
        summary += f", {shown} show it, {opposite} the opposite"
        verdict = by_majority(shown, opposite, len(eligible))
    else:
        summary += ", too few seeds for p"
        verdict = "not decided"
    return {"summary": summary, "columns": ", ".join(texts) or "none", "holds": verdict}


def _columns(found, field):
    """{name: [Outcome]} of those that differ in `field` alone; the name says where the column lies."""
    others = []
    for other in VARIED:
        values = {getattr(outcome.paper, other) for outcome in found}
        if other != field and len(values) > 1:
            others.append(other)
    columns = {}
    for outcome in found:
        name = ", ".join(named(other, getattr(outcome.paper, other)) for other in others)
        columns.setdefault(name, []).append(outcome)
    return columns


def _places(found, field):
    """{value: its logarithm}, of lambda, which can be 0, its place in the order."""
    values = sorted({getattr(outcome.paper, field) for outcome in found})
    if field == "lam":
        return {value: place for place, value in enumerate(values)}
    return dict(zip(values, numpy.log(values)))


def _measured(name, learned, field, place, of, permutations):
    """The Column of some settings; p is 1 where there are too few seeds for one."""
    x, y = [], []
    for outcome in learned:
        values = outcome.last(of)
        x += [place[getattr(outcome.paper, field)]] * len(values)
        y += list(outcome.share(values) if of == "rank" else values)
    whole_range = max(place.values()) - min(place.values())
    enough_seeds = all(len(outcome.seeds) >= ENOUGH_SEEDS for outcome in learned)
    p = statistics.permutation_p(x, y, permutations) if enough_seeds else 1.0
    return Column(name, statistics.tau_b(x, y), p, statistics.slope(x, y) * whole_range)


CHANGE = "{summary}; slope of the rank over the whole range: {columns}"


@judges(
    Statement("Section 4.3, Fig. {n}", "smaller B, lower rank, after equally many epochs", CHANGE),
    "fig2", "fig4", "fig5", looks=RANKS,
)
def smaller_B_lower_rank(found):
    """The rule for trends: the rank against log B, a column for each η."""
    return trend(found, "B", 1)


@judges(
    Statement("Section 4.3, Fig. {n}", "larger η, lower rank", CHANGE),
    "fig2", "fig4", "fig5", looks=RANKS,
)
def larger_eta_lower_rank(found):
    """The rule for trends: the rank against log η, a column for each B."""
    return trend(found, "eta", -1)


@judges(
    Statement(
        "Section 4.3, Fig. {n}",
        "larger η, worse training",
        "{summary}; slope of the accuracy over the whole range: {columns}",
    ),
    "fig2", "fig4", "fig5",
)
def larger_eta_worse_training(found):
    """The rule for trends: the final train accuracy against log η, a column for each B."""
    return trend(found, "eta", -1, of="train_accuracy")


@judges(Statement("Section 4.3, Fig. {n}", "larger λ, lower rank", CHANGE), "fig3", looks=RANKS)
def larger_lambda_lower_rank(found):
    """The rule for trends: the rank against the order of λ, 0 included, a column for each B."""
    return trend(found, "lam", -1)
