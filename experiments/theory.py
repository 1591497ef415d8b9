"""make theory: the memo's statements as numbers that could contradict them, in a table and in pictures.

A chapter tries some statements on real data: the mathematics and the chapters about it are in lemmas, propositions, theorem
and appendices.
"""

import functools
from pathlib import Path

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from . import appendices, lemmas, parallel, plots, propositions, tables, theorem
from .captions import variation

CHAPTERS = (
    lemmas.report_lemma_1, lemmas.report_lemma_2, propositions.report_prop_1, propositions.report_prop_2, theorem.report_theorem_1,
    theorem.report_window, appendices.report_appendix_d, appendices.report_appendix_e,
)


def _chapter(number, size, folder):
    with threadpool_limits(1):
        found = CHAPTERS[number](size, folder)
    parallel.report(1)
    return found


def measure(size, folder, jobs=None):
    """What every chapter finds, (checks, picture) each, `jobs` chapters at a time."""
    order = sorted(range(len(CHAPTERS)), key=lambda n: CHAPTERS[n] is not theorem.report_theorem_1)  # the longest first, so that no core waits
    with tqdm(total=len(CHAPTERS), desc="theory", bar_format="{desc}: {n} of {total} chapters|{bar}| {elapsed} gone") as bar:
        found = parallel.in_parallel(functools.partial(_chapter, size=size, folder=folder), order, jobs or parallel.cores(), bar)
    return [found[order.index(n)] for n in range(len(CHAPTERS))]


def save(size, found, figures):
    """figures/theory.md and .csv, and a picture of every chapter that has one as .png, .svg and .csv; their paths."""
    checks, paths = [check for some, _ in found for check in some], []
    stand_ins = size.preset == "quick" and any("synthetic" in name for name in size.datasets)
    stem = variation("theory", size.preset, {}, None, stand_ins)
    for picture in (picture for _, picture in found if picture):
        reduced = " (smoke test of the program, no result)" if size.preset == "smoke" else " (synthetic stand-in)" * picture.data.startswith("synthetic")
        drawn = plots.histories(picture.columns, picture.rows, picture.title + reduced, picture.note, "")
        paths += plots.save(drawn, plots.tidy(picture.columns, picture.rows), Path(figures) / f"{stem}-{picture.name}")
    verdict = {True: "holds", False: "does not hold"}
    header = ("statement", "in the memo", "measured", "on", "verdict")
    rows = [(c.statement, c.place, c.measured, c.setting, f"**{verdict[c.holds]}**") for c in checks]
    records = [{"preset": size.preset} | c._asdict() | {"holds": verdict[c.holds]} for c in checks]
    head = f"Preset {size.preset}{', which tests the program: no verdict means anything' * (size.preset == 'smoke')}. Ranks of gradients are decided in float64 at 1e-10 of the largest singular value, where rounding leaves 1e-15; those of W and V at 1e-4 of the norm, as in the figures."
    return tables.save(Path(figures) / stem, head, header, rows, records) + paths
