"""make claims: the paper's testable statements, each judged from the store by a rule.

One rule for every trend: two settings that differ in one step of one field are told apart where the ranges of their final
ranks over the seeds don't overlap and their means differ by more than one singular value. Only networks that have learned
count (train accuracy of at least 50 %): one that decays to the zero function keeps whatever relative spectrum it had, and is
a claim of its own. A trend holds if some pair shows it and none the opposite, and fails if one
does; else it isn't decided.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy

from . import files
from .captions import seeds_of, variation, written
from .figures import FIGURES
from .results import LEARNED, history
from .store import finished, read, result_path

short = functools.partial(numpy.format_float_positional, precision=3, fractional=False, trim="-")
LAST = 0.9  # of the epochs: what lies after it is the end of a run


class Claim(NamedTuple):
    """A statement, its place in the memo, its rule, what was measured, and "holds", "fails" or "not decided"."""

    place: str
    statement: str
    rule: str
    measured: str
    verdict: str


class Outcome(NamedTuple):
    """One setting of the paper and the histories of its seeds."""

    paper: object
    histories: list

    def last(self, field):
        """The final value of every seed; NaN for a run that diverged."""
        return numpy.array([numpy.nan if h["diverged"] else h[field][-1] for h in self.histories])

    def end(self, field):
        """The mean over the end of the runs and their seeds."""
        return numpy.mean([h[field][h["epoch"] > LAST * h["epoch"][-1]].mean() for h in self.histories])

    def learned(self):
        return all(h["learned"] for h in self.histories)


def outcomes(plan, where):
    """Every setting of a figure, or None where the store lacks one of its runs."""
    found = []
    for line in (line for _, lines in plan.columns for line in lines):
        if not all(finished(where.results, run) for run in line.runs):
            return None
        stored = [read(result_path(where.results, run)) for run in line.runs]
        found.append(Outcome(line.paper, [history(*result, plan.view) for result in stored]))
    return found


def steps_of(found, field):
    """Pairs of outcomes that differ in one step of `field` and in nothing else, the smaller value first."""
    values = sorted({getattr(outcome.paper, field) for outcome in found})
    by = {tuple(getattr(o.paper, f) for f in ("dataset", "loss", "network", "eta", "B", "lam")): o for o in found}
    for key, small in by.items():
        place = values.index(getattr(small.paper, field))
        if place + 1 < len(values):
            names = dict(zip(("dataset", "loss", "network", "eta", "B", "lam"), key)) | {field: values[place + 1]}
            if large := by.get(tuple(names.values())):
                yield small, large


def compare(a, b):
    """-1, 0 or 1: whether the ranks a lie below b, can't be told apart, or lie above."""
    if not (numpy.isfinite(a).all() and numpy.isfinite(b).all()) or abs(a.mean() - b.mean()) <= 1:
        return 0
    return -1 if a.max() < b.min() else 1 if a.min() > b.max() else 0


def trend(found, field, sign):
    """(measured, verdict) of "the rank rises with `field`" (sign 1) or falls (sign -1)."""
    shown = {True: [], False: []}
    for small, large in steps_of(found, field):
        shown[small.learned() and large.learned()].append(-sign * compare(small.last("rank"), large.last("rank")))
    with_, against, total = shown[True].count(1), shown[True].count(-1), len(shown[True])
    measured = f"{with_} of {total} pairs as claimed, {against} the other way"
    if shown[False]:
        measured += f" (of {len(shown[False])} with a network that has not learned: {shown[False].count(1)}, {shown[False].count(-1)})"
    return measured, "fails" if against else "holds" if with_ else "not decided"


def no_rank_lost(found):
    """(measured, verdict) of "at lambda = 0 no rank is lost"."""
    lost = {o.paper.B: (numpy.array([h["rank"][0] for h in o.histories]) - o.last("rank")).max() for o in found if o.paper.lam == 0}
    measured = "lost since the start: " + ", ".join(f"{value:.2g} (B = {B})" for B, value in sorted(lost.items()))
    if any(value > 1 for value in lost.values()):
        return measured, "fails"
    return measured, "holds" if lost and numpy.isfinite(list(lost.values())).all() else "not decided"


def small_batches_need_small_steps(found):
    """(measured, verdict): the eta with the highest final train accuracy, against B, where that is at least LEARNED."""
    best = {}
    for o in found:
        accuracy = numpy.nan_to_num(o.last("train_accuracy")).mean()
        reached = (accuracy, o.paper.eta) if accuracy >= LEARNED else (0, None)
        best[o.paper.B] = max(best.get(o.paper.B, (0, None)), reached, key=lambda pair: pair[0])
    etas = {B: eta for B, (_, eta) in sorted(best.items()) if eta is not None}
    measured = "best η: " + ", ".join(f"{eta:g} (B = {B})" for B, eta in etas.items())
    measured += "; nothing learned at B = " + ", ".join(str(B) for B in sorted(best) if B not in etas) if len(etas) < len(best) else ""
    order = list(etas.values())
    if sorted(order) != order:
        return measured, "fails"
    return measured, "holds" if order and order[0] < order[-1] else "not decided"


def equal_steps(found):
    """(measured, verdict): cells a and b of the control, the same network and number of steps at B = 128 and B = 16."""
    shown = []
    for a in found:
        for b in found:
            if a.paper.steps_of_B == 0 and b.paper.steps_of_B == a.paper.B and a.paper.network == b.paper.network:
                if a.learned() and b.learned():
                    shown.append(compare(b.last("rank"), a.last("rank")))
    measured = f"lower at B = 16 in {shown.count(-1)} of {len(shown)} networks that have learned, higher in {shown.count(1)}"
    return measured, "fails" if 1 in shown else "holds" if -1 in shown else "not decided"


def vanished(o):
    """Whether W has gone to zero: below a thousandth of its norm at the start."""
    return all(h["norm"][-1] < 1e-3 * h["norm"][0] for h in o.histories)


def far_lower_at_zero(found):
    """(measured, verdict): d at lambda > 0 over d at lambda = 0, at the end, where W hasn't gone to zero."""
    ratios = {}
    for o in found:
        if o.paper.lam > 0 and not vanished(o):
            for zero in found:
                if (zero.paper.dataset, zero.paper.loss, zero.paper.lam) == (o.paper.dataset, o.paper.loss, 0):
                    ratios.setdefault(o.paper.lam, []).append(o.end("distance") / zero.end("distance"))
    if not ratios:
        return "nothing to compare", "not decided"
    measured = "; ".join(f"λ = {written('lam', lam)}: {short(min(r))} to {short(max(r))} times" for lam, r in sorted(ratios.items()))
    least = min(min(r) for r in ratios.values())
    return measured, "holds" if least >= 100 else "fails" if least < 10 else "not decided"


def parameters_go_on_moving(found):
    """(measured, verdict): the slope of log d against log epoch over the last half, where accuracy is 100 %."""
    slopes = {True: [], False: []}
    for o in found:
        if (o.last("train_accuracy") >= 99.9).all():
            for h in o.histories:
                half = h["epoch"] > h["epoch"][-1] / 2
                slope = numpy.polyfit(numpy.log(h["epoch"][half]), numpy.log(h["distance"][half]), 1)[0]
                slopes[o.paper.lam > 0].append(slope)
    if not slopes[True]:
        return "no network with λ > 0 fits all samples", "not decided"
    measured = f"slopes {min(slopes[True]):.2f} to {max(slopes[True]):.2f} with λ > 0"
    if slopes[False]:
        measured += f", {min(slopes[False]):.2f} to {max(slopes[False]):.2f} with λ = 0"
    least = min(slopes[True])
    return measured, "holds" if least > -0.5 else "fails" if max(slopes[True]) < -1 else "not decided"


def zero_function(found, lam):
    """(measured, verdict) of "W goes to zero, and with it the rank": CIFAR-10 with cross-entropy."""
    o = next((o for o in found if (o.paper.dataset, o.paper.loss, o.paper.lam) == ("cifar10", "cross_entropy", lam)), None)
    if o is None:
        return "not among the settings", "not decided"
    norm, rank, accuracy = (o.last(field) for field in ("norm", "rank", "train_accuracy"))
    measured = (
        f"mean ‖W‖ {norm.min():.2g} to {norm.max():.2g}, rank {rank.min():.3g} to {rank.max():.3g}, "
        f"accuracy {accuracy.min():.3g} to {accuracy.max():.3g} %"
    )
    return measured, "holds" if vanished(o) and (rank == 0).all() else "fails"


def bottleneck(found):
    """(measured, verdict): the middle third of the hidden matrices against the first and the last of them."""
    shown = []
    for o in found:
        hidden = numpy.array([h["layer_rank"][:-1] for h in o.histories])
        third = hidden.shape[1] // 3
        if third and o.learned() and hidden.max() - hidden.min() > 1:
            middle = hidden[:, third:-third].mean(axis=1)
            ends = [compare(middle, hidden[:, end]) for end in (0, -1)]
            shown.append(-1 if max(ends) < 0 else 1 if max(ends) > 0 else 0)
    measured = f"lower in the middle in {shown.count(-1)} of {len(shown)} settings whose ranks differ, higher than an end in {shown.count(1)}"
    return measured, "fails" if 1 in shown else "holds" if -1 in shown else "not decided"


def equal_in_blocks(found):
    """(measured, verdict): the two matrices of every residual block that has lost rank; full ranks are equal anyway."""
    differences = []
    for o in found:
        ranks = numpy.array([h["layer_rank"] for h in o.histories])
        if o.learned() and ranks.shape[1] % 2 == 0:  # two in every block, the first and the last
            first, second, full = ranks[:, 1:-1:2], ranks[:, 2:-1:2], ranks.max()
            differences += list((abs(first - second) / full)[numpy.minimum(first, second) < 0.95 * full])
    if not differences:
        return "no block of a network that has learned has lost rank", "not decided"
    equal = numpy.mean(numpy.array(differences) <= 0.05)
    measured = f"{100 * equal:.0f} % of the {len(differences)} blocks that have lost rank, largest difference {100 * max(differences):.0f} %"
    return measured, "holds" if equal >= 0.9 else "fails"


TREND = "the rule for trends"


def readings(n):
    """Figure n under every reading of batch norm that it is drawn for: its place in the table, and its name."""
    for suffix, words in (("", ""), ("-true", ", true gradient"), ("-standard", ", standard batch norm")):
        if f"fig{n}{suffix}" in FIGURES:
            yield f"Section 4.3, Fig. {n}{words}", f"fig{n}{suffix}"


# Place, statement, rule, figure, and what judges the figure's outcomes.
RULES = [
    *((place, "smaller B, lower rank, at a fixed number of epochs", TREND, name, lambda f: trend(f, "B", 1))
      for n in (2, 4, 5) for place, name in readings(n)),
    *((place, "larger η, lower rank", TREND, name, lambda f: trend(f, "eta", -1))
      for n in (2, 4, 5) for place, name in readings(n)),
    *((place, "larger λ, lower rank", TREND, name, lambda f: trend(f, "lam", -1)) for place, name in readings(3)),
    *((place, "no rank is lost at λ = 0, whatever B", "holds if the average rank ends at most one singular value below its "
       "start in every run", name, no_rank_lost) for place, name in readings(3)),
    *((place, "smaller B needs smaller η to train", "the η of the highest final train accuracy: holds if it never falls with "
       "B and rises once, fails if it falls", name, small_batches_need_small_steps)
      for n in (2, 4, 5) for place, name in readings(n)),
    ("Section 4.2, Fig. 1", "d(W_{t+1}, W_t) is smaller by orders of magnitude at λ = 0, but where W goes to zero",
     "means over the last tenth of the epochs: holds at 100 times (two orders, the least plural) or more everywhere, fails below 10 anywhere", "fig1", far_lower_at_zero),
    ("Section 4.2, Fig. 1", "with λ > 0 loss and accuracy converge and the parameters don't", "at 100 % accuracy, slope of log d against "
     "log epoch over the last half: holds above -0.5 everywhere (a sum of steps like 1/t would diverge), fails below -1 everywhere",
     "fig1", parameters_go_on_moving),
    *(("Section 4.2, Fig. 1", f"λ = {written('lam', lam)}, CIFAR-10, cross-entropy: W goes to zero, and the rank is zero",
       "holds if ‖W‖ ends below a thousandth of its start (no network that fits its samples shrinks as far) with rank 0", "fig1", lambda f, lam=lam: zero_function(f, lam))
      for lam in (1e-4, 1e-3)),
    *((place, "MLPs have a bottleneck: lower ranks in the middle", "the middle third of the hidden matrices against the first "
       "and the last, told apart as for trends", name, bottleneck) for place, name in readings(6)),
    *((place, "the matrices of a residual block have equal ranks", "holds if they differ by at most 5 % of the full rank "
       "(up to which a block counts as full) in 90 % of the blocks that have lost more", name, equal_in_blocks)
      for place, name in readings(7)),
    ("our control", "smaller B, lower rank, at equal steps and an equal decay budget", "B = 16 against B = 128, told apart as "
     "for trends", "control", equal_steps),
]


def judge(plans, where):
    """[Claim] from what the store has of {name: plan}."""
    found, claims = {name: outcomes(plan, where) for name, plan in plans.items()}, []
    for place, statement, rule, name, judgement in RULES:
        measured, verdict = judgement(found[name]) if found[name] else (f"not run: make {name}", "not decided")
        claims.append(Claim(place, statement, rule, measured, verdict))
    return claims


def write(plans, claims, folder):
    """folder/claims.md and claims.csv, whole or not at all; their paths. `plans` is as for judge."""
    first = plans["fig1"]
    numbers = sorted({plan.seeds for plan in plans.values()})
    given = numbers[0] if any(plan.seeds != plan.reduction.seeds for plan in plans.values()) else None
    stem = variation("claims", first.preset, first.given, given, ())
    head = f"Preset {first.preset}, {' or '.join(map(seeds_of, numbers))} a setting."
    if numbers[0] == 1:
        head += " Of one seed, the range over seeds means nothing."
    rules = " ".join(__doc__.split("\n\n")[1].split())
    header = ("statement", "where", "measured", "verdict", "rule")
    rows = [(c.statement, c.place, c.measured, f"**{c.verdict}**", c.rule) for c in claims]
    records = [{"preset": first.preset} | c._asdict() for c in claims]
    return files.save_table(Path(folder) / stem, f"{head} {rules}", header, rows, records)
