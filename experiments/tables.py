"""A table for readers and the same table for programs: Markdown and CSV, both whole or neither."""

import csv
import os
from pathlib import Path


def save(stem, head, header, rows, records):
    """Write stem.md (`head`, then `rows` under `header`) and stem.csv (dicts with the same keys); their paths."""
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("md", "csv")]
    partial = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]
    try:
        lines = ("| " + " | ".join(row) + " |" for row in (header, ("---",) * len(header), *rows))
        partial[0].write_text(f"{head}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
        with open(partial[1], "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, records[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
        for new, path in zip(partial, paths):
            os.replace(new, path)
    finally:
        for new in partial:
            new.unlink(missing_ok=True)
    return paths
