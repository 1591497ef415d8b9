"""A claim tried on a figure: one preset, one reading of batch norm, every way to look at the runs."""

from typing import NamedTuple

from ..captions import LABELS, seeds_of
from ..verdicts import Verdict
from .claim import said
from .outcomes import AS_RULED, ENOUGH_SEEDS, LEARNING

NOT_RUN = "not run"  # nothing at all; what is there in part is "not complete"
# Of batch norm, by the end of a figure's name.
ENDINGS = {"": "memo", "-true": "true", "-standard": "standard"}


class Judged(NamedTuple):
    """A Verdict, and what it would be otherwise, {way to look at the runs: verdict}; None: not tried."""

    verdict: Verdict
    otherwise: dict | None = None

    def not_run(self):
        """Whether there was nothing at all to judge."""
        return self.verdict.measured.startswith(NOT_RUN)


def readings(figure, plans):
    """The plans of a figure for every reading of batch norm that it is drawn for."""
    return [plans[figure + ending] for ending in ENDINGS if figure + ending in plans]


def untried(statement, preset, measured, reading=""):
    """Judged, where there is nothing to judge; `measured` says why."""
    verdict = said("not decided", preset)
    return Judged(Verdict(statement.words, statement.place, measured, reading, verdict))


def tried(claim, statement, plan, shelf):
    """Judged, from the runs of `plan` that are on the shelf."""
    settings = _settings(claim, plan, shelf)
    if not settings:
        done = sum(len(runs) for _, runs in shelf.settings(plan, whole=False))
        why = f"not complete: {done} of {len(plan.runs())} runs" if done else NOT_RUN
        measured = f"{why} (make {plan.name} PRESET={plan.preset})"
        return untried(statement, plan.preset, measured, _reading(plan))
    by_rule = shelf.outcomes(settings, plan.view, AS_RULED)
    verdict = statement.judged(_numbers(claim, plan, by_rule), _reading(plan))
    measured = _seeds(settings, plan) + verdict.measured
    if LEARNING[0] in claim.looks:
        measured += _unlearned(by_rule)
    verdict = verdict._replace(measured=measured)
    if not claim.looks:
        return Judged(verdict)
    otherwise = {}
    for look in claim.looks:
        then = _numbers(claim, plan, shelf.outcomes(settings, plan.view, look))["holds"]
        if then != verdict.verdict:
            otherwise[look.name] = then
    return Judged(verdict, otherwise)


def _settings(claim, plan, shelf):
    """What the shelf has of the figure and, where the claim has a fallback, of that with it set by hand."""
    settings = shelf.settings(plan, claim.whole)
    fallback = {field: value for field, value in claim.fallback.items() if field not in plan.given}
    if fallback:
        settings += shelf.settings(plan.another(given=fallback), claim.whole)
    return settings


def _numbers(claim, plan, outcomes):
    """What the judge says, its verdict in the words of the preset."""
    numbers = claim.judge(outcomes)
    return numbers | {"holds": said(numbers["holds"], plan.preset)}


def _reading(plan):
    """Which batch norm the figure has, in words; nothing where it has none."""
    if not plan.name.startswith("fig") or not plan.figure.base.normalized():
        return ""
    number, hyphen, twin = plan.name.partition("-")
    return LABELS[ENDINGS[hyphen + twin]]


def _seeds(settings, plan):
    """What a reader must know first: fewer than three seeds."""
    seeds = min(len(runs) for _, runs in settings)
    if seeds >= ENOUGH_SEEDS:
        return ""
    return f"{seeds_of(seeds)}: " if seeds == plan.seeds else f"{seeds} of {plan.seeds} seeds: "


def _unlearned(outcomes):
    """How many settings judge nothing."""
    number = sum(not outcome.learned() for outcome in outcomes)
    return f"; {number} of {len(outcomes)} settings have not learned" if number else ""
