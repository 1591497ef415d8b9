"""What is read off a stored run: its history, how a rank is counted, whether it learned, its CSV rows."""

from dataclasses import asdict, dataclass

import numpy

from minigrad.measures import norm_of_spectrum, rank_of_spectrum

LEARNED = 50  # percent of the training samples
VANISHED = 1e-3  # of its first norm: a matrix below has decayed to zero
SMALLEST = 1e-12  # what a norm is taken for at least, where a count must end at 0 for a W that vanishes
# What a row of a CSV has beside the settings.
VALUES = ("diverged", "learned", "epoch", "layer", "field", "value")


@dataclass(frozen=True, kw_only=True)
class View:
    """How stored spectra are read (Section 4.1): changing it trains nothing."""

    tol: float = 1e-4
    norm: str = "frobenius"  # or "spectral"; "start" is the Frobenius norm before training
    output_layer: bool = True  # whether the output matrix counts in the average

    def __post_init__(self):
        if not 0 <= self.tol < 1:
            raise ValueError(f"tol must be in [0, 1), got {self.tol!r}")
        if self.norm not in ("frobenius", "spectral", "start"):
            raise ValueError(f"norm must be frobenius, spectral or start, got {self.norm!r}")

    def rank(self, s):
        """The rank of a matrix at every measured epoch; s (epochs, r) has its singular values."""
        if self.norm == "start":
            return rank_of_spectrum(s, self.tol * norm_of_spectrum(s[0], "frobenius"), None)
        return rank_of_spectrum(s, self.tol, self.norm)


FROM_START = View(norm="start")


def spectra_of(arrays):
    """Singular values (epochs, r) of every W, in order, in float64: that holds their squares."""
    return [values.astype("float64") for name, values in arrays.items() if name.startswith("spectrum ")]


def history(meta, arrays, view):
    """One stored run as figures draw it, against "epoch": scalars, rank and norm averaged over E_T.

    Beside it what claims ask for: ranks counted in two other ways, the rank that nothing exceeds, and by
    layer the final rank and the final norm over the first.
    """
    spectra = spectra_of(arrays)
    averaged = spectra if view.output_layer else spectra[:-1]
    norms = [norm_of_spectrum(s, "frobenius") for s in spectra]
    measured = {name: values for name, values in arrays.items() if values.ndim == 1}
    diverged = meta["status"] == "diverged"  # its layers have no final rank, whatever can be counted
    made = measured | {
        "train_accuracy": 100 * measured["train_accuracy"],
        "test_accuracy": 100 * measured["test_accuracy"],
        "rank": numpy.mean([view.rank(s) for s in averaged], axis=0),
        "rank_from_start": numpy.mean([FROM_START.rank(s) for s in averaged], axis=0),
        "rank_guarded": numpy.mean([_guarded_rank(s, view.tol) for s in averaged], axis=0),
        "full_rank": numpy.mean([s.shape[-1] for s in averaged]),
        "largest_full_rank": max(s.shape[-1] for s in spectra),
        "norm": numpy.mean(norms[: len(averaged)], axis=0),
        "layer": numpy.arange(1, len(spectra) + 1),
        "layer_rank": numpy.array([numpy.nan if diverged else view.rank(s)[-1] for s in spectra]),
        "layer_norm_kept": numpy.array([norm[-1] / norm[0] for norm in norms]),
        "diverged": diverged,
    }
    return made | {"learned": learned(made)}


def learned(made, accuracy=LEARNED):
    """Whether the run ends finite, with enough training samples right, and with no W decayed to zero."""
    kept = (made["layer_norm_kept"] >= VANISHED).all()
    fits = made["train_accuracy"][-1] >= accuracy
    return bool(kept and fits and numpy.isfinite(made["train_loss"][-1]) and not made["diverged"])


def distance_to_rank_B(arrays, B):
    """tau_B of every W at the end: what lies beyond its B largest singular values, over its norm."""
    last = [s[-1] for s in spectra_of(arrays)]
    beyond = [norm_of_spectrum(s[B:], "frobenius") for s in last]
    norm = [norm_of_spectrum(s, "frobenius") for s in last]
    return numpy.array(beyond) / numpy.maximum(norm, SMALLEST)


def _guarded_rank(s, tol):
    """The count after dividing by max(||W||, SMALLEST), not by ||W||: 0 for a W that is nearly zero."""
    norm = numpy.maximum(norm_of_spectrum(s, "frobenius"), SMALLEST)
    return rank_of_spectrum(s, tol * norm[:, None], None)


def csv_rows(preset, run, made, view, fields):
    """The finite numbers of one run's history as dicts, whose keys are the same in every figure.

    These are all settings, then VALUES. `layer` is empty where a number is about the whole network; ranks by
    layer are those after the last epoch.
    """
    setting = {"preset": preset} | run.as_dict() | asdict(view)
    setting |= {
        "milestones": " ".join(map(str, run.milestones)),
        "diverged": made["diverged"],
        "learned": made["learned"],
    }
    for field in fields:
        for epoch, layer, value in _values(made, field):
            name = "rank" if field == "layer_rank" else field
            yield setting | dict(zip(VALUES[2:], (int(epoch), layer, name, value)))


def _values(made, field):
    """(epoch, layer, value) of every finite number; of a run that diverged, ranks by layer have no value."""
    last = made["epoch"][-1]
    if field != "layer_rank":
        found = zip(made["epoch"], made[field])
        return [(epoch, "", float(value)) for epoch, value in found if numpy.isfinite(value)]
    if made["diverged"]:
        return [(last, "", "")]
    return [(last, layer, float(value)) for layer, value in zip(made["layer"], made[field])]
