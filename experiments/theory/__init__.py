"""make theory: the memo's statements as numbers that could contradict them, in a table and in pictures.

A chapter tries some statements on real data; the mathematics and the statements about it are in lemmas,
convergence, directions, normalized, propositions, theorem, window and appendices.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from .. import files, parallel, plots, verdicts
from ..captions import variation
from . import appendices, lemmas, normalized, pictures, propositions, theorem, window


class Chapter(NamedTuple):
    """measure(size, folder) returns [Verdict] and numbers; picture(size, numbers) a Picture, if any."""

    measure: Callable
    picture: Callable | None = None


CHAPTERS = {
    "lemma 1": Chapter(lemmas.measure_lemma_1, pictures.lemma_1),
    "lemma 2": Chapter(lemmas.measure_lemma_2, pictures.lemma_2),
    "appendix C": Chapter(normalized.measure_appendix_c),
    "proposition 1": Chapter(propositions.measure_prop_1, pictures.prop_1),
    "proposition 2": Chapter(propositions.measure_prop_2, pictures.prop_2),
    "theorem 1": Chapter(theorem.measure_theorem_1, pictures.theorem_1),
    "window": Chapter(window.measure_window, pictures.window),
    "appendix D": Chapter(appendices.measure_appendix_d),
    "appendix E": Chapter(appendices.measure_appendix_e, pictures.appendix_e),
}
LONGEST = "theorem 1"  # is measured first, so that no core waits for it
HEAD = (
    "Ranks of gradients are decided in float64 at 1e-10 of the largest singular value, where rounding leaves "
    "1e-15; those of W and V at 1e-4 of the norm, as in the figures."
)


def _measure(name, report, size, folder):
    with threadpool_limits(1):
        found = CHAPTERS[name].measure(size, folder)
    report(1)
    return found


def measure(size, folder, jobs=None):
    """{chapter: (verdicts, numbers)}, `jobs` chapters at a time."""
    order = sorted(CHAPTERS, key=lambda name: name != LONGEST)
    shown = "{desc}: {n} of {total} chapters|{bar}| {elapsed} gone"
    with tqdm(total=len(order), desc="theory", bar_format=shown) as bar:
        work = functools.partial(_measure, size=size, folder=folder)
        jobs = min(jobs or parallel.cores(), len(order))
        found = dict(zip(order, parallel.in_parallel(work, order, parallel.local(jobs), bar)))
    return {name: found[name] for name in CHAPTERS}


def save(size, found, figures):
    """figures/theory.md and .csv, and a picture of every chapter that has one; their paths."""
    smoke = size.preset == "smoke"
    stand_ins = not smoke and any(name.startswith("synthetic") for name in size.datasets)
    stem = Path(figures) / variation("theory", size.preset, {}, None, stand_ins)
    paths = []
    for name, (_, numbers) in found.items():
        if CHAPTERS[name].picture is None:
            continue
        picture = CHAPTERS[name].picture(size, numbers)
        title = picture.title
        if smoke:
            title += " (smoke test of the program, no result)"
        elif picture.data.startswith("synthetic"):
            title += " (synthetic stand-in)"
        names = None if picture.keys else ""
        drawn = plots.histories(
            picture.columns, picture.rows, title, picture.note, names, picture.grey, picture.keys
        )
        records = plots.tidy(picture.columns, picture.rows)
        paths += files.save_picture(stem.with_name(f"{stem.name}-{picture.name}"), drawn, records)
    meaning = ", which tests the program: no verdict means anything" if smoke else ""
    head = f"Preset {size.preset}{meaning}. {HEAD}"
    rows = [verdict for chapter, _ in found.values() for verdict in chapter]
    return verdicts.save(stem, head, rows, size.preset) + paths
