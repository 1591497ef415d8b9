"""Markdown, CSV, PNG and SVG as files that appear whole or not at all."""

import csv
import io
import os
from pathlib import Path

from .plots import styled


def write_bytes(path, content):
    """Write bytes; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_text(path, text):
    """Write text; returns the path."""
    return write_bytes(path, text.encode())


def write_csv(path, records):
    """Write dicts with the same keys as rows; returns the path."""
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return write_text(path, text.getvalue())


def markdown(header, rows):
    """A Markdown table as text."""
    table = [header, ["---"] * len(header), *rows]
    lines = [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in table]
    return "".join(f"| {line} |\n" for line in lines)


@styled
def write_picture(stem, figure):
    """Write stem.png and stem.svg, the same numbers to the same bytes; returns their paths."""
    paths = []
    for kind in ("png", "svg"):
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=200, metadata={"Date": None})
        paths.append(write_bytes(f"{stem}.{kind}", content.getvalue()))
    return paths
