"""The claims' page: a table of verdicts, then what was measured; its CSV has a row per verdict."""

from pathlib import Path

from .. import files
from ..captions import seeds_of, variation
from .cases import NOT_RUN
from .trends import trend

SYMBOLS = (
    "W is a trainable matrix, ‖W‖ its Frobenius norm, ‖W₀‖ that before training; d(W_{t+1}, W_t) is how far "
    "it moves in an epoch t. The rank of W is the number of its singular values above tol ‖W‖, tol = 1e-4; "
    "that of a network is the mean over all its W, and the full rank is the largest that this can be. B is "
    "the batch size, η the learning rate, λ the weight decay, H the width, m the number of training samples; "
    "the decay budget is E = Σ η_t 2 λ / (1 - momentum) over all steps t."
)
LEARNED = (
    "A setting has learned if every seed ends with a finite loss, a train accuracy of at least 50 % and "
    "every ‖W‖ at least 1e-3 of its first. One that has not judges nothing but the claims about it."
)
OTHERWISE = (
    "Beside a verdict stands what it would be with another tol, with ranks counted above 1e-4 ‖W₀‖, and if a "
    "train accuracy of 20 % or 90 % counted as learned."
)
TRENDS = "The rule for trends. " + " ".join(trend.__doc__.split())
CONTROL = (
    "The control: cell a has B = 128; b has B = 16 and a's number of steps; c, d and e have B = 16 and a's "
    "number of epochs, d with η / 8, e with λ / 8."
)
MEANING = {
    "quick": "Ten epochs or a reduced setting: seen, not seen or too early, and no claim is decided.",
    "smoke": "Smoke tests the program: it says nothing about any claim.",
}


def write(plans, rows, folder, first_of_all=""):
    """folder/claims.md and claims.csv, whole or not at all; their paths. `plans` is as for judge.

    The page has the verdicts as a table, then its words, then what was measured for every claim.
    `first_of_all` is what a reader must know before the rest.
    """
    first = next(iter(plans.values()))
    numbers = sorted({plan.seeds for plan in plans.values()})
    given = numbers[0] if any(plan.seeds != plan.reduction.seeds for plan in plans.values()) else None
    stem = variation("claims", first.preset, first.given, given, ())
    presets = list(rows[0].judged)
    header = ["claim", "in the memo", *(f"verdict ({preset})" for preset in presets)]
    lines = [_line(row) for row in rows]
    records = [record for row in rows for record in _records(row)]
    at_most = "" if len(numbers) == 1 else "up to "
    asked = f"Preset {first.preset}, {at_most}{seeds_of(numbers[-1])} a setting."
    others = [preset for preset in presets if preset != first.preset]
    beside = [f"Beside it {other}, of which the store has runs too." for other in others]
    meaning = [MEANING[first.preset]] if first.preset in MEANING else []
    head = [first_of_all] if first_of_all else []
    head.append(" ".join([asked, *beside, *meaning]))
    below = ["## The words", SYMBOLS, f"{LEARNED} {OTHERWISE}", TRENDS, CONTROL, *_sections(rows)]
    table = "\n\n".join(head), header, lines, records
    return files.save_table(Path(folder) / stem, *table, "\n\n".join(below))


def _line(row):
    """The cells of a row of the table; every reading of batch norm has a line of its own."""
    cells = [row.statement.words, row.statement.place]
    for judged in row.judged.values():
        if all(one.not_run() for one in judged):
            cells.append(NOT_RUN)
        else:
            cells.append("<br>".join(_reading(one) + _verdict(one) for one in judged))
    return cells


def _sections(rows):
    """A heading, the rule and what was measured, for every claim; it may be about several figures."""
    claims = {}
    for row in rows:
        claims.setdefault((row.statement.words, row.rule), []).append(row)
    for (words, rule), its_rows in claims.items():
        yield f"## {words}"
        yield f"Rule: {rule}"
        yield "\n".join(item for row in its_rows for item in _items(row))


def _items(row):
    """A line of a list for every verdict on a row."""
    for preset, judged in row.judged.items():
        at = f"{row.statement.place}, {preset}" if len(row.judged) > 1 else row.statement.place
        for one in judged:
            if one.not_run():
                yield f"- {at}: {_reading(one)}{one.verdict.measured}"
            else:
                yield f"- {at}: {_reading(one)}{_verdict(one)}{_otherwise(one, ' ({})')}"
                yield f"  - {one.verdict.measured}"


def _verdict(judged):
    return NOT_RUN if judged.not_run() else f"**{judged.verdict.verdict}**"


def _reading(judged):
    """Which batch norm a verdict is about, before it; nothing where there is none."""
    return f"{judged.verdict.setting}: " if judged.verdict.setting else ""


def _otherwise(judged, form="{}"):
    """What the verdict would be otherwise; nothing where that wasn't tried."""
    if judged.otherwise is None:
        return ""
    texts = [f"{look}: {verdict}" for look, verdict in judged.otherwise.items()]
    return form.format("; ".join(texts) or "the same otherwise")


def _records(row):
    """The rows of the CSV: a verdict each."""
    for preset, judged in row.judged.items():
        for one in judged:
            yield {
                "preset": preset,
                "statement": one.verdict.statement,
                "place": one.verdict.place,
                "batch_norm": one.verdict.setting,
                "measured": one.verdict.measured,
                "verdict": one.verdict.verdict,
                "otherwise": _otherwise(one),
                "rule": row.rule,
            }
