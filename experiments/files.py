"""Pictures and tables as files that appear together or not at all."""

import contextlib
import csv
import errno
import os
import re
from pathlib import Path

from . import layout, locks


@contextlib.contextmanager
def together(stem, *suffixes):
    """Final paths stem.SUFFIX, and paths to write to in the block: none appears before all are written."""
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    _sweep(stem.parent)
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in suffixes]
    for path in paths:
        if path.is_dir():  # or the others would appear without this one
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    partial = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]
    with contextlib.ExitStack() as stack:
        for new in partial:
            stack.enter_context(locks.held(new))
            stack.callback(new.unlink, missing_ok=True)
        yield paths, partial
        for new, path in zip(partial, paths):
            os.replace(new, path)


def _sweep(folder):
    """Remove files half written by processes that were killed."""
    for path in folder.glob(".*.tmp"):
        if re.fullmatch(r"\..+\.(png|svg|csv|md|npz)\.\d+\.tmp", path.name):
            with contextlib.suppress(OSError), locks.left_by_the_dead(path):
                pass


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


def save_table(stem, head, header, rows, records, below=""):
    """Write stem.md (`head`, `rows` under `header`, `below`) and stem.csv (dicts `records`); their paths."""
    with together(stem, "md", "csv") as (paths, partial):
        parts = [head, markdown(header, rows).rstrip(), below]
        partial[0].write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
        write_csv(partial[1], records)
    return paths


def save_picture(stem, figure, records, text=None):
    """Write stem.png, stem.svg, the numbers in them, the dicts `records`, as stem.csv; their paths.

    `text`, what is said of the picture, becomes stem.md.
    """
    suffixes = ["png", "svg", "csv"]
    if text is not None:
        suffixes.append("md")
    with together(stem, *suffixes) as (paths, (png, svg, table, *said)):
        layout.write(figure, png, "png")
        layout.write(figure, svg, "svg")
        write_csv(table, records)
        for path in said:
            path.write_text(text, encoding="utf-8")
    return paths
