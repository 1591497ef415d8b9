"""make published: what a results folder has of a preset, as files to show and a page that says whence.

A figure of which a seed is whole has its picture, its CSV and the final spectra of its runs; any other has a
row on the page for every run that is done. The claims' table, judged from the same folder, stands beside.
"""

import contextlib
import json
from pathlib import Path

import numpy

from .. import claims, files, layout
from ..figures import FIGURES
from ..plans import Plan
from ..store import finished, read_result, result_path
from .page import page_of
from .shares import read_run, share_of

__all__ = ["Refusal", "publish"]


class Refusal(Exception):
    """What is not published; the message says why and what to do."""


def publish(preset, results, folder):
    """Write what `results` has of the preset into `folder`, all of it or nothing; the paths.

    Refusal if there is nothing, if uncommitted code computed any of it, or if `folder` has more.
    """
    folder = Path(folder)
    plans = {name: Plan(name, preset) for name in FIGURES}
    shares = [share_of(plan, results) for plan in [*plans.values(), *_fallbacks(plans)]]
    runs = dict.fromkeys(run for share in shares for run in share.done)
    if not runs:
        raise Refusal(f"{results} has no finished run of --preset {preset}: train a figure first")
    _refuse_to_drop(shares, results, folder)
    ended = {run: read_run(results, run) for run in runs}
    judged = claims.judge(plans, results)
    origins = {run: one.meta["provenance"] for run, one in ended.items()}
    for run in _of_claims(plans, judged):
        if run not in origins and finished(results, run):
            origins[run] = read_result(results, run)[0]["provenance"]
    _refuse_uncommitted(origins, results)
    with contextlib.ExitStack() as stack:
        # What is entered first appears last: no page names a file that isn't there.
        paths, (page,) = stack.enter_context(files.together(folder / f"runs-{preset}", "md"))
        page.write_text(page_of(preset, shares, ended, origins), encoding="utf-8")
        for share in shares:
            if share.whole:
                paths += _write_figure(share, ended, folder, stack)
        return paths + claims.write(plans, judged, folder)


def _fallbacks(plans):
    """The figures with that set by hand which claims look at too."""
    found = {}
    for claim in claims.CLAIMS:
        if claim.fallback:
            for figure in claim.figures:
                plan = plans[figure].another(given=claim.fallback)
                found[plan.stem()] = plan
    return found.values()


def _of_claims(plans, judged):
    """The runs that the claims look at where they are there: of night and paper the other, and fallbacks."""
    for preset in judged[0].judged:
        for plan in plans.values():
            asked = plan.another(preset)
            yield from asked.runs()
            for claim in claims.CLAIMS:
                if claim.fallback and plan.name in claim.figures:
                    yield from asked.another(given=claim.fallback).runs()


def _write_figure(share, ended, folder, stack):
    """Write a figure's picture, CSV and spectra; the paths at which they appear when `stack` is left."""
    stem = folder / share.plan.stem()
    paths, (picture, table) = stack.enter_context(files.together(stem, "png", "csv"))
    (path,), (spectra,) = stack.enter_context(files.together(_spectra_stem(folder, share), "npz"))
    runs = dict.fromkeys(share.whole.runs())
    drawn, rows = share.whole.picture({run: ended[run].made for run in runs})
    layout.write(drawn, picture, "png")
    files.write_csv(table, rows)
    arrays = {"meta": numpy.array(json.dumps({run.key: ended[run].meta for run in runs}))}
    for run in runs:
        arrays |= {f"{run.key} {name}": s for name, s in ended[run].spectra.items()}
    with open(spectra, "wb") as file:  # savez would add a suffix to a name
        numpy.savez_compressed(file, **arrays)
    return [*paths, path]


def _spectra_stem(folder, share):
    return folder / f"{share.plan.stem()}-spectra"


# What is refused.


def _refuse_uncommitted(origins, results):
    """Refusal if code that nobody can look up computed any of the runs."""
    uncommitted = {}
    for run, provenance in origins.items():
        for origin in provenance:
            if origin["commit"] == "unknown" or origin["commit"].endswith("-dirty"):
                uncommitted[run] = origin["commit"]
    if uncommitted:
        run, commit = next(iter(uncommitted.items()))
        raise Refusal(
            f"{len(uncommitted)} of {len(origins)} runs in {results} are from code that was not committed "
            f"({result_path(results, run)}: commit {commit}): train them anew from a clean checkout"
        )


def _refuse_to_drop(shares, results, folder):
    """Refusal if `folder` has runs of a figure that its new files would not have."""
    for share in shares:
        path = _spectra_stem(folder, share).with_suffix(".npz")
        if path.exists():
            here = {run.key for run in share.whole.runs()} if share.whole else set()
            gone = _published(path) - here
            if gone:
                more = f"{path} has {len(gone)} runs that are in no whole seed of {results}"
                raise Refusal(f"{more}: copy them there, or give another --out")


def _published(path):
    """The keys of the runs in a file of spectra."""
    try:
        # numpy.load leaves a damaged file open that it opened itself.
        with open(path, "rb") as file, numpy.load(file) as arrays:
            return set(json.loads(str(arrays["meta"])))
    except Exception:  # a damaged file makes zipfile, NumPy and JSON raise nearly anything
        raise Refusal(f"{path} can't be read: mend or delete it") from None
