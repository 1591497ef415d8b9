"""The memo's claims, each with its judge; their verdicts from stored runs; the page of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy

from minigrad.measures import norm_of_spectrum

from . import judges, report, trends
from .judges import Setting, has_learned
from .results import LEARNED, SMALLEST, history, spectra_of

VARIANTS = ("no batch norm", "the memo's text", "true gradient", "standard batch norm")
# How runs are read: changes of the View, and the train accuracy in percent that counts as learned.
AS_RULED = "as ruled"
WAYS = {
    AS_RULED: ({}, LEARNED),
    "tol 1e-3": ({"tol": 1e-3}, LEARNED),
    "tol 1e-2": ({"tol": 1e-2}, LEARNED),
    "counted above 1e-4 ‖W₀‖": ({"tol": 1e-4, "norm": "start"}, LEARNED),
    "learned from 20 %": ({}, 20),
    "learned from 90 %": ({}, 90),
}
# A judge's words under presets that decide nothing.
SAID = {
    "quick": {"holds": "seen", "fails": "not seen", "mixed": "not seen", "not seen": "not seen"},
    "smoke": {},
}
OTHERWISE_SAID = {"quick": "too early", "smoke": "says nothing"}


class Claim(NamedTuple):
    """What the memo says of the figures that its place names, and the judge of it."""

    words: str
    place: str
    judge: Callable


FIGURES = ("fig2", "fig4", "fig5")
WITH_FIG6 = ("fig2, fig6", "fig4", "fig5")
FIG1 = ("fig1, cross-entropy", "fig1, squared loss")
TABLE = (
    (
        "smaller B, lower rank, at equal epochs", trends.smaller_B_lower_rank,
        (*FIGURES, "fig2, λ halved"),
    ),
    ("larger η, lower rank", trends.larger_eta_lower_rank, WITH_FIG6),
    ("larger η, worse training", trends.larger_eta_worse_training, FIGURES),
    ("smaller B needs smaller η", trends.smaller_B_needs_smaller_eta, FIGURES),
    (
        "smaller B, lower rank, at equal steps (our control)",
        trends.smaller_B_lower_rank_at_equal_steps, WITH_FIG6,
    ),
    ("what carries the trend (our control)", trends.what_carries_the_trend, ("control",)),
    ("larger λ, lower rank", trends.larger_lambda_lower_rank, ("fig3",)),
    ("no rank is lost at λ = 0, whatever B", judges.no_rank_lost_without_decay, ("fig3",)),
    (
        "gradient descent does not lower the rank (Section 3.2)",
        judges.gradient_descent_keeps_the_rank, ("descent",),
    ),
    ("W is close to rank at most B (Section 3.2)", judges.close_to_rank_B, (*FIGURES, "fig6")),
    (
        "d(W_{t+1}, W_t) is smaller by orders of magnitude at λ = 0",
        judges.far_smaller_without_decay, FIG1,
    ),
    (
        "with λ > 0 W does not converge though loss and accuracy do",
        judges.does_not_converge, FIG1,
    ),
    ("W goes to zero at λ = 1e-4 and 1e-3 (CIFAR-10)", judges.goes_to_zero, FIG1[:1]),
    ("its rank is zero", judges.has_rank_zero, FIG1[:1]),
    ("MLPs have a bottleneck", judges.bottleneck, ("fig6",)),
    (
        "the two matrices of a residual block have equal ranks",
        judges.equal_within_blocks, ("fig7",),
    ),
    ("all residual blocks have equal ranks", judges.equal_across_blocks, ("fig7",)),
)
CLAIMS = [Claim(words, place, judge) for words, judge, places in TABLE for place in places]
# Their settings are compared two by two: each needs its own seeds, and no others.
IN_PAIRS = (trends.smaller_B_lower_rank_at_equal_steps, trends.what_carries_the_trend)
# The run in place of a figure's, None where a claim isn't about it.
SELECTED = {
    "fig1, cross-entropy": lambda run: run if run.loss == "cross_entropy" else None,
    "fig1, squared loss": lambda run: run if run.loss == "mean_squared_error" else None,
    # Were 5e-4 PyTorch's weight_decay, lambda would be half of it; tried with PyTorch's batch norm.
    "fig2, λ halved": lambda run: None if run.scalar else replace(run, lam=run.lam / 2),
    # With the memo's batch norm most networks of Figure 3 die at its eta = 0.1.
    "fig3": lambda run: replace(run, eta=0.01) if run.detached else run,
}


class Finding(NamedTuple):
    """What is said of a claim for one variant of batch norm, and from how much."""

    verdict: str
    done: int
    runs: int
    seeds: str = ""  # said where they are fewer than three, or than asked for
    measured: str = ""
    otherwise: str = ""  # the words where runs are read in other ways, if they differ


class Found(NamedTuple):
    """All findings under a preset: rows of (Claim, {variant: Finding}); the stem of their files."""

    preset: str
    stem: str
    rows: list


def judge(experiments, read):
    """Found, from {name: Experiment} and read(run): (meta, arrays), or None for a missing run."""
    example = experiments["fig2"]
    histories = {}

    def find(run):
        if run not in histories:
            stored = read(run)
            histories[run] = stored and _histories(run, *stored, example.view)
        return histories[run]

    rows = []
    for claim in CLAIMS:
        findings = {}
        for variant, settings in _settings(claim, experiments).items():
            findings[variant] = _judged(claim, settings, find, example.preset)
        rows.append((claim, findings))
    return Found(example.preset, example.stem().replace(example.name, "claims", 1), rows)


def _histories(run, meta, arrays, view):
    """The run's history read in every way, {way: history}."""
    tau = tau_B(arrays, run.B)
    read = {}
    for changes, _ in WAYS.values():
        changed = replace(view, **changes)
        if changed not in read:
            read[changed] = history(meta, arrays, changed) | {"tau_B": tau}
    return {way: read[replace(view, **changes)] for way, (changes, _) in WAYS.items()}


def tau_B(arrays, B):
    """What lies beyond B singular values, over ||W||, of every W with more: (W, 2), start, end."""
    found = []
    for s in spectra_of(arrays):
        if s.shape[1] > B:
            ends = s[[0, -1]]
            norms = numpy.maximum(norm_of_spectrum(ends, "frobenius"), SMALLEST)
            with numpy.errstate(invalid="ignore"):  # of a W that diverged
                found.append(norm_of_spectrum(ends[:, B:], "frobenius") / norms)
    return numpy.reshape(found, (-1, 2))


def _settings(claim, experiments):
    """{variant: settings, each a tuple of a run per seed}; what two figures share counts once."""
    select = SELECTED.get(claim.place, lambda run: run)
    settings = {}
    for figure in claim.place.split(", "):
        for name in (figure, f"{figure}-true", f"{figure}-standard"):
            columns = experiments[name].columns if name in experiments else ()
            for line in (line for _, lines in columns for line in lines):
                runs = tuple(select(run) for run in line.runs)
                if None not in runs:
                    settings.setdefault(_variant(runs[0]), {})[runs] = None
    return {variant: list(found) for variant, found in settings.items()}


def _variant(run):
    if not run.normalized():
        return "no batch norm"
    if run.detached:
        return "the memo's text"
    return "true gradient" if run.scalar else "standard batch norm"


def _judged(claim, settings, find, preset):
    """The Finding from the runs that are there."""
    stored = [[find(run) for run in runs] for runs in settings]
    total = sum(map(len, settings))
    done = total - sum(line.count(None) for line in stored)
    if claim.judge not in IN_PAIRS:  # a seed counts once all settings have it
        stored = list(zip(*(seed for seed in zip(*stored) if None not in seed)))
    found = []
    for runs, line in zip(settings, stored):
        if seeds := [made for made in line if made]:
            found.append((runs[0], seeds))
    if not found:
        return Finding(_said("not decided", preset) if done else "not run", done, total)
    seeds = _of_seeds(min(len(seeds) for _, seeds in found), len(settings[0]))
    words = {}
    for way, (_, accuracy) in WAYS.items():
        read = [Setting(run, [made[way] for made in seeds], accuracy) for run, seeds in found]
        words[way], text = claim.judge(read)
        if way == AS_RULED:
            measured = text + _unlearned(read)
    word = words[AS_RULED]
    if claim.judge in IN_PAIRS and done < total:
        undecided, so_far = _said("not decided", preset), f"so far {word}: {measured}"
        return Finding(undecided, done, total, seeds, so_far)
    others = [f"{way}: {_said(other, preset)}" for way, other in words.items() if other != word]
    return Finding(_said(word, preset), done, total, seeds, measured, "; ".join(others))


def _said(word, preset):
    """A judge's word as the preset allows it."""
    return SAID[preset].get(word, OTHERWISE_SAID[preset]) if preset in SAID else word


def _of_seeds(seeds, asked):
    """What a reader must know first: fewer seeds than three, or than asked for."""
    if seeds < asked:
        return f"{seeds} of {asked} seeds"
    return {1: "one seed", 2: "two seeds"}.get(seeds, "")


def _unlearned(settings):
    """How many settings judge nothing but the claims about them, and how they ended."""
    lost = [setting for setting in settings if not has_learned(setting)]
    text = f"; {len(lost)} of {len(settings)} settings have not learned" if lost else ""
    for end in ("diverged", "collapsed"):
        ended = sum(any(made[end] for made in setting.seeds) for setting in lost)
        text += f", {ended} {end}" if ended else ""
    return text


HEAD = {
    "quick": " A prefix or a reduced setting decides no claim: seen, not seen, or too early.",
    "smoke": " It tests the program and says nothing about any claim.",
}
WORDS = """\
W is a trainable matrix, ‖W‖ its Frobenius norm, ‖W₀‖ that before training; d(W_{t+1}, W_t) is \
how far W moves in an epoch. The rank of W is the number of its singular values above tol ‖W‖, \
tol = 1e-4, that of a network the mean over all its W; the full rank is the largest that this can \
be. B is the batch size, η the learning rate, λ the weight decay of Eq. 2 (γ and β do not decay), \
H the width, m the number of training samples, E = Σ η_t 2 λ / (1 - momentum), over all steps, \
the decay budget. The rules were fixed on 2026-11-24, before these runs; those that say so were \
mended on 2026-11-28, when one seed of Figures 2 and 6 was known and the rules could not decide, \
or only one way. Were the memo's λ PyTorch's weight_decay, ours would be half of it: "λ halved".

A setting has learned if every seed ends with a finite loss, a train accuracy of at least 50 % \
and every ‖W‖ at least 1e-3 of its first. One that has not judges nothing but the claims about \
it. Beside a verdict stands what it would be, where it differs, with other cutoffs, with ranks \
counted above 1e-4 ‖W₀‖, and if a train accuracy of 20 % or 90 % counted as learned."""
RULES = {
    "By majority": judges.by_majority,
    "By thirds": judges.by_thirds,
    "The rule for trends": trends.trend,
}


def write(found, folder):
    """Write claims.md, and claims.csv with a row for every verdict; returns their paths."""
    table, records, sections = [], [], {}
    for claim, findings in found.rows:
        cells = [_cell(findings[name]) if name in findings else "" for name in VARIANTS]
        table.append([claim.words, claim.place, *cells])
        section = sections.setdefault(claim.words, [f"Rule: {_rule(claim.judge)}\n"])
        for variant, finding in findings.items():
            section.append(f"- {claim.place}, {variant}: {_item(finding)}")
            place = {"claim": claim.words, "figure": claim.place, "batch_norm": variant}
            rule = {"rule": _rule(claim.judge)}
            records.append({"preset": found.preset} | place | finding._asdict() | rule)
    header = ["claim", "figure", *VARIANTS]
    parts = [f"Preset {found.preset}.{HEAD.get(found.preset, '')}", report.markdown(header, table)]
    parts += ["## The words", WORDS]
    parts += [f"{name}. {_rule(rule)}" for name, rule in RULES.items()]
    for words, section in sections.items():
        parts += [f"## {words}", "\n".join(section)]
    page = "\n\n".join(part.strip() for part in parts) + "\n"
    stem = Path(folder) / found.stem
    return [
        report.write_text(stem.with_name(f"{stem.name}.md"), page),
        report.write_csv(stem.with_name(f"{stem.name}.csv"), records),
    ]


def _rule(judge):
    return " ".join(judge.__doc__.split())


def _cell(finding):
    """A verdict in the table: its word, and the seeds where they are few."""
    if finding.verdict == "not run":
        return "not run"
    return f"**{finding.verdict}**" + (f", {finding.seeds}" if finding.seeds else "")


def _item(finding):
    """A verdict in its section: what is missing, what it would be otherwise, what was measured."""
    text = _cell(finding)
    if finding.done < finding.runs:
        text += f" ({finding.done} of {finding.runs} runs are there)"
    if finding.otherwise:
        text += f" ({finding.otherwise})"
    return f"{text}\n  - {finding.measured}" if finding.measured else text
