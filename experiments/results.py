"""Numbers of a stored run: its history, how a rank is counted, whether it learned, its CSV rows."""

from dataclasses import asdict, dataclass

import numpy

from minigrad.measures import norm_of_spectrum, rank_of_spectrum

LEARNED = 50  # percent of the training samples
VANISHED = 1e-3  # of a matrix's first norm: a smaller one counts as decayed to zero
# Below 1e-7 of the norm singular values are the rounding of a Gram matrix.
CUTOFFS = numpy.logspace(-7, -1, 25)
SMALLEST = 1e-12  # the least norm that a spectrum is divided by: a vanished W has rank 0


@dataclass(frozen=True, kw_only=True)
class View:
    """How a rank is counted (Section 4.1). Spectra are stored, so a change trains nothing anew."""

    tol: float = 1e-4
    norm: str = "frobenius"  # or "spectral"; "start": the Frobenius norm before training
    output_layer: bool = True  # whether the output matrix counts in the average

    def __post_init__(self):
        if not 0 <= self.tol < 1:
            raise ValueError(f"tol must be in [0, 1), got {self.tol!r}")
        if self.norm not in ("frobenius", "spectral", "start"):
            raise ValueError(f"norm must be frobenius, spectral or start, got {self.norm!r}")

    def rank(self, s):
        """The rank at every epoch (epochs,) of one W with singular values s (epochs, r)."""
        return rank_of_spectrum(s, self.tol * self.size(s)[:, None], None)

    def size(self, s):
        """The norm that tol refers to, at least SMALLEST: at every epoch, or (1,) at the start."""
        size = norm_of_spectrum(s, self.norm if self.norm == "spectral" else "frobenius")
        return numpy.maximum(size[:1] if self.norm == "start" else size, SMALLEST)


def spectra_of(arrays):
    """Singular values (epochs, r) of every W, from the input on, in float64."""
    return [s.astype("float64") for name, s in arrays.items() if name.startswith("spectrum ")]


def history(meta, arrays, view=View(), accuracy=LEARNED):
    """One stored run as figures and claims read it, a dict.

    Against "epoch" (epochs,): the measured numbers, accuracies in percent, rank, rank_from_start
    and norm averaged over E_T. At the end, against "layer" (|E_T|,): layer_rank, layer_norm_kept;
    against "tol": tol_rank. A run that diverged or collapsed has no final rank, so its layer_rank
    and tol_rank are NaN. A run has learned if it ends in neither way, fits enough samples, and has
    no W decayed to zero.
    """
    spectra = spectra_of(arrays)
    averaged = spectra if view.output_layer else spectra[:-1]
    norms = [norm_of_spectrum(s, "frobenius") for s in spectra]
    norm_kept = numpy.array([norm[-1] / norm[0] for norm in norms])
    layer_rank = numpy.array([view.rank(s)[-1] for s in spectra])
    cutoffs = CUTOFFS[:, None]
    above = [rank_of_spectrum(s[-1], cutoffs * view.size(s)[-1], None) for s in averaged]
    tol_rank = numpy.mean(above, axis=0)
    ended_early = meta["status"] in ("diverged", "collapsed")
    if ended_early:
        layer_rank[:] = tol_rank[:] = numpy.nan
    train_accuracy = 100 * arrays["train_accuracy"]
    fits = train_accuracy[-1] >= accuracy  # false where the loss is NaN, and with it the accuracy
    measured = {name: values for name, values in arrays.items() if values.ndim == 1}
    return measured | {
        "epoch": arrays["epoch"].astype(int),
        "train_accuracy": train_accuracy,
        "test_accuracy": 100 * arrays["test_accuracy"],
        "rank": numpy.mean([view.rank(s) for s in averaged], axis=0),
        "rank_from_start": numpy.mean([View(norm="start").rank(s) for s in averaged], axis=0),
        "norm": numpy.mean(norms, axis=0),
        "full_rank": numpy.mean([s.shape[-1] for s in averaged]),
        "tol": CUTOFFS,
        "tol_rank": tol_rank,
        "layer": numpy.arange(1, len(spectra) + 1),
        "layer_rank": layer_rank,
        "layer_norm_kept": norm_kept,
        "diverged": meta["status"] == "diverged",
        "collapsed": meta["status"] == "collapsed",
        "learned": bool(fits and not ended_early and (norm_kept >= VANISHED).all()),
    }


def csv_rows(preset, run, run_history, view, drawn):
    """The finite numbers of one run's history as dicts with the same keys in every figure.

    `drawn` are pairs of fields: the numbers and what they are drawn against. `layer` is empty for a
    number of the whole network. Ranks by layer or tol are those after the last epoch, NaN for a
    run that diverged or collapsed.
    """
    setting = {"preset": preset} | asdict(run) | asdict(view)
    setting["milestones"] = " ".join(map(str, run.milestones))
    setting |= {name: run_history[name] for name in ("diverged", "collapsed", "learned")}
    last = run_history["epoch"][-1]
    for field, x in drawn:
        end = {"epoch": last, "layer": "", "field": field if x == "epoch" else "rank"}
        for place, value in zip(run_history[x].tolist(), run_history[field].tolist()):
            if x != "epoch" or numpy.isfinite(value):
                yield setting | end | {x: place, "value": value}
