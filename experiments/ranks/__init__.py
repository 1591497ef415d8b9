"""make ranks: what the ranks of Figure 2 mean, from stored spectra, as one picture and three sentences."""

from pathlib import Path

from .. import captions, files
from .networks import FIGURES, read
from .picture import draw
from .words import headline, sentences

__all__ = ["FIGURES", "read", "save"]


def save(plans, found, folder):
    """Write folder/ranks[-PRESET].png, .svg, .csv, and .md with the sentences; the paths."""
    preset = plans[next(iter(found))].preset
    networks = [network for settings in found.values() for seeds in settings for network in seeds]
    records = [record for network in networks for record in network.records(preset)]
    title = headline(plans, found)
    lines = [f"# {title}", ""]
    for place, sentence in enumerate(sentences(networks), start=1):
        lines.append(f"{place}. {sentence}")
    stem = Path(folder) / captions.variation("ranks", preset, {}, None, ())
    return files.save_picture(stem, draw(found, title), records, "\n".join(lines) + "\n")
