"""A statement is a row of a table: its place in the memo, its words, and what is said of the numbers."""

from typing import NamedTuple

from . import files

HOLDS = {True: "holds", False: "does not hold", None: "not decided"}
HEADER = ("statement", "in the memo", "measured", "on", "verdict")


class Verdict(NamedTuple):
    """A statement that was tried: what was measured, on what, and the verdict ("holds", "fails", ...)."""

    statement: str
    place: str
    measured: str
    setting: str
    verdict: str


class Statement(NamedTuple):
    """A statement before it is tried; `template` says what was measured, the numbers' names in braces."""

    place: str
    words: str
    template: str

    def judged(self, numbers, setting):
        """The Verdict on `numbers`: what the template names, and `holds`, a truth value or words."""
        verdict = HOLDS.get(numbers["holds"], numbers["holds"])
        return Verdict(self.words, self.place, self.template.format_map(numbers), setting, verdict)


def save(stem, head, verdicts, preset):
    """Write stem.md (`head`, then a row each) and stem.csv (the same rows and the preset); their paths."""
    rows = [(*verdict[:-1], f"**{verdict.verdict}**") for verdict in verdicts]
    records = [{"preset": preset} | verdict._asdict() for verdict in verdicts]
    return files.save_table(stem, head, HEADER, rows, records)
