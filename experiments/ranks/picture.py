"""The picture: a row for every reading of batch norm, a column for every way to count."""

import numpy

from .. import captions, layout, looks, traces
from ..results import LEARNED
from .networks import CUTOFFS, FIGURES, FROM_START, MEMO, RELATIVE, TOLERANCES

AT = {tol: f"cutoff {captions.scientific(tol)}" for tol in TOLERANCES}  # what the legend calls its marker
AT[MEMO.tol] += ", the memo's"
SIZES = {"stable_rank": "stable rank", "effective_rank": "effective rank"}
MARKERS = {
    AT[1e-5]: "hollow triangle",
    AT[1e-4]: "circle",
    AT[1e-3]: "hollow diamond",
    AT[1e-2]: "hollow square",
    SIZES["stable_rank"]: "plus",
    SIZES["effective_rank"]: "star",
}
LOSSES = (0.1, 0.5, 1)  # where the train loss gets another colour
UNLEARNED = captions.grey(LEARNED)
COLOURS = dict(zip(traces.classes("train loss", LOSSES), traces.COLOURS)) | {UNLEARNED: looks.GREY}
CUTOFF = layout.Axis("cutoff", "cutoff / $\\|W\\|_F$", 10, "places")
BUDGET = layout.Axis("budget", "decay budget E", 10, "places")
E_IS = "E = Σ 2ηλ / (1 − momentum)".replace(" ", "\u00a0")  # kept in one line
NOTE = (
    "Averages over a network's matrices after its last epoch; the full rank is {full:.3g}. "
    "A curve in (a), and the marks at one E, are a network, the mean of its seeds. W₀ is W before training. "
    f"{E_IS} over the steps: what no gradient refreshes shrinks by exp(−E)."
)


def draw(found, title):
    """The picture of {figure's name: [[Network of every seed] of every setting]}."""
    rows = []
    for name in found:
        reading = captions.LABELS[FIGURES[name]]
        rows.append(layout.Row(name, f"{reading}\naverage rank", floor=0))
    columns = [
        traces.Column("(a) spectra: rank by cutoff", [], CUTOFF, guide=MEMO.tol),
        traces.Column("(b) cutoffs relative to $\\|W\\|_F$", [], BUDGET),
        traces.Column("(c) relative to $\\|W_0\\|_F$", [], BUDGET),
        traces.Column("(d) ranks without a cutoff", [], BUDGET),
    ]
    for name, settings in found.items():
        for seeds in settings:
            for column, drawn in zip(columns, _traces(name, seeds)):
                column.traces.extend(drawn)
    note = NOTE.format(full=seeds[0].full_rank)  # the same in all networks of a preset
    return traces.picture(columns, rows, title, note, COLOURS, MARKERS)


def _traces(name, seeds):
    """The traces of one network, a list for every column."""
    E = seeds[0].numbers["budget"]
    ended = [network for network in seeds if not network.diverged]
    crosses = []
    if len(ended) < len(seeds):
        crosses.append(_trace(name, seeds, (E,), (numpy.nan,), (None,)))
    if not ended:
        return [], crosses, crosses, crosses
    sizes = [_mean(network.numbers[size] for network in ended) for size in SIZES]
    over_cutoffs = _mean_ranks(ended, RELATIVE, CUTOFFS)
    return (
        [_trace(name, seeds, CUTOFFS, over_cutoffs, [AT.get(tol) for tol in CUTOFFS])],
        [_at_one_E(name, seeds, _mean_ranks(ended, RELATIVE, TOLERANCES), AT), *crosses],
        [_at_one_E(name, seeds, _mean_ranks(ended, FROM_START, TOLERANCES), AT), *crosses],
        [_at_one_E(name, seeds, sizes, SIZES), *crosses],
    )


def _at_one_E(name, seeds, ranks, names):
    """The ranks of one network above one another, with the markers of `names`."""
    E = seeds[0].numbers["budget"]
    return _trace(name, seeds, [E] * len(ranks), ranks, names.values())


def _trace(name, seeds, x, y, markers):
    run = seeds[0].run
    label = f"{captions.named('eta', run.eta)}, {captions.named('B', run.B)}"
    return traces.Trace(label, name, _colour(seeds), tuple(x), tuple(y), tuple(markers))


def _mean_ranks(networks, views, tolerances):
    """The mean over the seeds at every tolerance."""
    return [_mean(network.ranks[views[tol]] for network in networks) for tol in tolerances]


def _mean(values):
    return float(numpy.mean(list(values)))


def _colour(seeds):
    """The key of COLOURS: a network with a seed that has not learned is grey."""
    if not all(network.learned for network in seeds):
        return UNLEARNED
    loss = _mean(network.numbers["train_loss"] for network in seeds)
    return list(COLOURS)[sum(loss >= limit for limit in LOSSES)]
