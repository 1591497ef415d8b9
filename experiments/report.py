"""Markdown, CSV, PNG and SVG as files that appear whole or not at all."""

import contextlib
import csv
import os
from pathlib import Path

from .plots import styled


@contextlib.contextmanager
def replacing(path):
    """A path to write to in the block; `path` appears, or is replaced, when the block ends."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path, text):
    """Write text; returns the path."""
    with replacing(path) as partial:
        partial.write_bytes(text.encode())
    return Path(path)


def write_csv(path, records):
    """Write dicts with the same keys as rows; returns the path."""
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, records[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return Path(path)


def markdown(header, rows):
    """A Markdown table as text."""
    table = [header, ["---"] * len(header), *rows]
    lines = [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in table]
    return "".join(f"| {line} |\n" for line in lines)


@styled
def write_picture(stem, figure):
    """Write stem.png and stem.svg, the same numbers to the same bytes; returns their paths."""
    paths = [Path(f"{stem}.png"), Path(f"{stem}.svg")]
    for path in paths:
        with replacing(path) as partial:
            figure.savefig(partial, format=path.suffix[1:], dpi=200, metadata={"Date": None})
    return paths
