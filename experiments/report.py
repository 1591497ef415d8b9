"""Markdown, CSV, PNG and SVG as files that appear whole or not at all."""

import contextlib
import csv
import io
import os
from pathlib import Path

from matplotlib import style

from .plots import STYLE


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
        partial.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_csv(path, records):
    """Write dicts, whose keys may differ, as rows under the names of them all; returns the path."""
    names = dict.fromkeys(name for record in records for name in record)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return write_text(path, text.getvalue())


def markdown(header, rows):
    """A Markdown table as text."""
    lines = []
    for row in (header, ("---",) * len(header), *rows):
        cells = (str(cell).replace("|", "\\|") for cell in row)
        lines.append("| " + " | ".join(cells) + " |\n")
    return "".join(lines)


def write_picture(stem, figure):
    """Write stem.png and stem.svg, the same numbers to the same bytes; returns their paths."""
    paths = [Path(f"{stem}.png"), Path(f"{stem}.svg")]
    with style.context(STYLE, after_reset=True):
        for path, options in zip(paths, ({"dpi": 200}, {"metadata": {"Date": None}})):
            with replacing(path) as partial:
                figure.savefig(partial, format=path.suffix[1:], **options)
    return paths
