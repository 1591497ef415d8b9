"""make claims: the memo's statements, each judged from the store by the rule that stands under it.

A claim is a row for every figure that it is about, and is judged under every reading of batch norm that the
figure is drawn for, and under night and paper where the store has both.
"""

from typing import NamedTuple

from ..verdicts import Statement
from . import cases, control, convergence, descent, layers, settings, trends
from .outcomes import Shelf
from .table import write

__all__ = ["CLAIMS", "figures", "judge", "nothing_run", "write"]

CLAIMS = (
    trends.smaller_B_lower_rank,
    trends.larger_eta_lower_rank,
    trends.larger_eta_worse_training,
    settings.smaller_B_needs_smaller_eta,
    trends.larger_lambda_lower_rank,
    settings.no_rank_lost_without_decay,
    control.smaller_B_lower_rank_at_equal_steps,
    control.what_carries_the_trend,
    control.smaller_B_lower_rank_at_loss_0_1,
    control.smaller_B_lower_rank_at_loss_0_01,
    descent.gradient_descent_keeps_the_rank,
    settings.close_to_rank_B,
    convergence.far_smaller_without_decay,
    descent.goes_on_moving,
    convergence.goes_to_zero,
    convergence.has_rank_zero,
    layers.bottleneck,
    layers.equal_within_blocks,
    layers.equal_across_blocks,
)
OTHER_LENGTH = {"night": "paper", "paper": "night"}


class Row(NamedTuple):
    """A claim about one figure: {preset: [Judged], one for every reading of batch norm}."""

    statement: Statement
    rule: str
    judged: dict


def judge(plans, results):
    """[Row] from what the store has of {name: plan}, in the memo's order."""
    shelf = Shelf(results)
    presets = _presets(plans, shelf)
    rows = []
    for claim in CLAIMS:
        for figure in claim.figures:
            statement = _at(claim.statement, figure)
            judged = {}
            for preset, its_plans in presets.items():
                figures = cases.readings(figure, its_plans)
                judged[preset] = [cases.tried(claim, statement, plan, shelf) for plan in figures]
            rows.append(Row(statement, claim.rule, judged))
    return rows


def nothing_run(rows):
    """Whether the store has no run of what the claims are about."""
    judged = [one for row in rows for of_preset in row.judged.values() for one in of_preset]
    return all(one.not_run() for one in judged)


def figures(plans):
    """Those of {name: plan} that the claims are about, in its order."""
    judged = set()
    for claim in CLAIMS:
        for figure in claim.figures:
            judged.update(plan.name for plan in cases.readings(figure, plans))
    return {name: plan for name, plan in plans.items() if name in judged}


def _at(statement, figure):
    """The statement with the number of the figure in its place."""
    return statement._replace(place=statement.place.format(n=figure.removeprefix("fig")))


def _presets(plans, shelf):
    """{preset: {name: plan}}: the one asked for; of night and paper the other too, if it has its own runs."""
    asked = next(iter(plans.values())).preset
    presets = {asked: plans}
    other = OTHER_LENGTH.get(asked)
    if other:
        others = {name: plan.another(other) for name, plan in plans.items()}
        if any(_has_its_own(others[name], plan, shelf) for name, plan in plans.items()):
            presets[other] = others
    return dict(sorted(presets.items()))  # night before paper


def _has_its_own(other, plan, shelf):
    """Whether the store has a whole seed of `other`, which isn't `plan` by another name."""
    return other.runs() != plan.runs() and bool(shelf.settings(other, whole=True))
