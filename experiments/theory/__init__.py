"""make theory: the memo's statements as numbers that could contradict them, in a table and in pictures.

A chapter tries some statements on real data; the mathematics and the statements about it are in lemmas,
propositions, theorem, window and appendices.
"""

import functools
from pathlib import Path

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from .. import parallel, plots, verdicts
from ..captions import variation
from . import appendices, lemmas, propositions, theorem, window

CHAPTERS = (
    lemmas.report_lemma_1,
    lemmas.report_lemma_2,
    propositions.report_prop_1,
    propositions.report_prop_2,
    theorem.report_theorem_1,
    window.report_window,
    appendices.report_appendix_d,
    appendices.report_appendix_e,
)
HEAD = (
    "Ranks of gradients are decided in float64 at 1e-10 of the largest singular value, where rounding leaves "
    "1e-15; those of W and V at 1e-4 of the norm, as in the figures."
)


def _chapter(number, size, folder):
    with threadpool_limits(1):
        found = CHAPTERS[number](size, folder)
    parallel.report(1)
    return found


def measure(size, folder, jobs=None):
    """What every chapter finds, (verdicts, picture) each, `jobs` chapters at a time."""
    longest = CHAPTERS.index(theorem.report_theorem_1)
    order = sorted(range(len(CHAPTERS)), key=lambda number: number != longest)  # first, so that no core waits
    shown = "{desc}: {n} of {total} chapters|{bar}| {elapsed} gone"
    with tqdm(total=len(CHAPTERS), desc="theory", bar_format=shown) as bar:
        work = functools.partial(_chapter, size=size, folder=folder)
        found = parallel.in_parallel(work, order, jobs or parallel.cores(), bar)
    return [found[order.index(number)] for number in range(len(CHAPTERS))]


def save(size, found, figures):
    """figures/theory.md and .csv, and a picture of every chapter that has one; their paths."""
    smoke = size.preset == "smoke"
    stand_ins = not smoke and any(name.startswith("synthetic") for name in size.datasets)
    stem = Path(figures) / variation("theory", size.preset, {}, None, stand_ins)
    paths = []
    for picture in (picture for _, picture in found if picture):
        title = picture.title
        if smoke:
            title += " (smoke test of the program, no result)"
        elif picture.data.startswith("synthetic"):
            title += " (synthetic stand-in)"
        drawn = plots.histories(picture.columns, picture.rows, title, picture.note, "")
        records = plots.tidy(picture.columns, picture.rows)
        paths += plots.save(drawn, records, stem.with_name(f"{stem.name}-{picture.name}"))
    meaning = ", which tests the program: no verdict means anything" if smoke else ""
    head = f"Preset {size.preset}{meaning}. {HEAD}"
    rows = [verdict for chapter, _ in found for verdict in chapter]
    return verdicts.save(stem, head, rows, size.preset) + paths
