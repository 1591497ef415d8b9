"""Files that appear together or not at all, and a table as Markdown for readers and as CSV for programs."""

import contextlib
import csv
import os
from pathlib import Path


@contextlib.contextmanager
def together(stem, *suffixes):
    """Final paths stem.SUFFIX, and paths to write to in the block: all appear when it ends well, or none."""
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in suffixes]
    partial = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]
    try:
        yield paths, partial
        for new, path in zip(partial, paths):
            os.replace(new, path)
    finally:
        for new in partial:
            new.unlink(missing_ok=True)


def write_csv(path, records):
    """Dicts, whose keys may differ, as rows under the names of them all."""
    names = dict.fromkeys(name for record in records for name in record)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def markdown(header, rows):
    """The lines of a Markdown table, as one text."""
    lines = []
    for row in (header, ("---",) * len(header), *rows):
        cells = (cell.replace("|", "\\|") for cell in row)
        lines.append("| " + " | ".join(cells) + " |\n")
    return "".join(lines)


def save(stem, head, header, rows, records):
    """Write stem.md (`head`, then `rows` under `header`) and stem.csv (the dicts `records`); their paths."""
    with together(stem, "md", "csv") as (paths, partial):
        partial[0].write_text(f"{head}\n\n{markdown(header, rows)}", encoding="utf-8")
        write_csv(partial[1], records)
    return paths
