"""The ranks of Figure 2 at other cutoffs than the memo's 1e-4, from stored runs."""

import numpy
from matplotlib.lines import Line2D

from . import plots, report
from .figures import BATCH_SIZES, ETAS, FIGURES, Experiment
from .results import View, history, spectra_of
from .store import StoreError

ROWS = ("fig2", "fig2-true", "fig2-standard")
# Below 1e-7 of the norm singular values are the rounding of a Gram matrix.
CUTOFFS = numpy.logspace(-7, -1, 25)


def write(preset, seeds, read, folder):
    """Draw runs, read(run) -> (meta, arrays) or None, into folder/spectra.*; returns the paths."""
    wanted = [(name, run) for name in ROWS for run in Experiment(name, preset, seeds).runs()]
    curves, table = {}, []
    for name, run in wanted:
        stored = read(run)
        if stored is None or stored[0]["status"] != "finished":
            continue
        spectra = [s[-1:] for s in spectra_of(stored[1])]
        ranks = [numpy.mean([View(tol=tol).rank(s) for s in spectra]) for tol in CUTOFFS]
        learned = history(*stored)["learned"]
        curves[name, run] = ranks, learned
        setting = {"figure": name, "eta": run.eta, "B": run.B, "seed": run.seed, "learned": learned}
        table += [setting | {"tol": tol, "rank": rank} for tol, rank in zip(CUTOFFS, ranks)]
    if not curves:
        raise StoreError(f"no finished run of Figure 2 is stored: make fig2 PRESET={preset} first")
    title = (
        f"Ranks of Figure 2 by cutoff: {wanted[0][1].network}, preset {preset}, after the last "
        f"epoch ({len(curves)} of {len(wanted)} runs)"
    )
    stem = folder / (f"spectra-{preset}" if preset != "quick" else "spectra")
    paths = report.write_picture(stem, picture(curves, title))
    return [*paths, report.write_csv(f"{stem}.csv", table)]


@plots.styled
def picture(curves, title):
    """A row for every variant of batch norm, a column for every eta, a line for every run."""
    looks = zip(plots.COLOURS, plots.DASHES)
    styles = {B: {"color": c, "linestyle": dash} for B, (c, dash) in zip(BATCH_SIZES, looks)}
    shape = len(ROWS), len(ETAS)
    figure, panels = plots.sheet(shape, 5.6, title, sharex=True, sharey=True)
    for (name, run), (ranks, learned) in curves.items():
        panel = panels[ROWS.index(name), ETAS.index(run.eta)]
        grey = {} if learned else {"color": plots.GREY}
        panel.semilogx(CUTOFFS, ranks, **styles[run.B] | grey)
    for panel in panels.flat:
        panel.axvline(View().tol, color="0.3", linewidth=0.7)
    for top, bottom, eta in zip(panels[0], panels[-1], ETAS):
        top.set_title(f"η = {eta}")
        bottom.set_xlabel("cutoff / ‖W‖")
    for panel, name in zip(panels[:, 0], ROWS):
        panel.set_ylabel(f"{FIGURES[name].base.batchnorm}\naverage rank")
    handles = [Line2D([], [], label=f"B = {B}", **styles[B]) for B in styles]
    handles.append(Line2D([], [], label="not learned", color=plots.GREY))
    handles.append(Line2D([], [], label="the memo's cutoff", color="0.3", linewidth=0.7))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure
