"""What is read off a stored run: its history, how a rank is counted, whether it learned, its CSV rows."""

from dataclasses import asdict, dataclass

import numpy

from minigrad.measures import norm_of_spectrum, rank_of_spectrum

LEARNED = 50  # percent of the training samples
VANISHED = 1e-3  # of its first norm: a matrix below has decayed to zero
# What a row of a CSV has beside the settings.
VALUES = ("diverged", "learned", "epoch", "layer", "field", "value")


@dataclass(frozen=True, kw_only=True)
class View:
    """How stored spectra are read (Section 4.1): changing it trains nothing."""

    tol: float = 1e-4
    norm: str = "frobenius"  # or "spectral"
    output_layer: bool = True  # whether the output matrix counts in the average

    def __post_init__(self):
        if not 0 <= self.tol < 1:
            raise ValueError(f"tol must be in [0, 1), got {self.tol!r}")
        if self.norm not in ("frobenius", "spectral"):
            raise ValueError(f"norm must be frobenius or spectral, got {self.norm!r}")


def history(meta, arrays, view):
    """One stored run as figures draw it, against "epoch": scalars, rank and norm averaged over E_T."""
    spectra = [values for name, values in arrays.items() if name.startswith("spectrum ")]
    ranks = [rank_of_spectrum(s, view.tol, view.norm) for s in spectra]
    norms = [norm_of_spectrum(s, "frobenius") for s in spectra]
    averaged = len(spectra) if view.output_layer else len(spectra) - 1
    measured = {name: values for name, values in arrays.items() if values.ndim == 1}
    diverged = meta["status"] == "diverged"  # its layers have no final rank, whatever can be counted
    made = measured | {
        "train_accuracy": 100 * measured["train_accuracy"],
        "test_accuracy": 100 * measured["test_accuracy"],
        "rank": numpy.mean(ranks[:averaged], axis=0),
        "norm": numpy.mean(norms[:averaged], axis=0),
        "layer": numpy.arange(1, len(spectra) + 1),
        "layer_rank": numpy.array([numpy.nan if diverged else r[-1] for r in ranks]),
        "diverged": diverged,
    }
    return made | {"learned": _learned(made, norms)}


def _learned(made, norms):
    """Whether the run ends finite, with enough training samples right, and with no W decayed to zero."""
    kept = all(norm[-1] >= VANISHED * norm[0] for norm in norms)
    fits = made["train_accuracy"][-1] >= LEARNED
    return bool(kept and fits and numpy.isfinite(made["train_loss"][-1]) and not made["diverged"])


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
