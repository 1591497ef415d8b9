"""The memo's claims, each with its judge; their verdicts from stored runs; the page of them."""

import functools
import inspect
import itertools
from dataclasses import replace

import numpy

from minigrad.measures import norm_of_spectrum

from . import judges, report
from .judges import Setting
from .results import LEARNED, View, history, spectra_of
from .runs import changed_rules

AS_RULED = "as ruled"
# How the View that counts ranks changes, and the train accuracy in percent that counts as learned.
CRITERIA = {
    AS_RULED: ({}, LEARNED),
    "tol 1e-3": ({"tol": 1e-3}, LEARNED),
    "tol 1e-2": ({"tol": 1e-2}, LEARNED),
    "counted above 1e-4 ‖W₀‖": ({"tol": 1e-4, "norm": "start"}, LEARNED),
    "learned from 20 %": ({}, 20),
    "learned from 90 %": ({}, 90),
}
IN_QUICK = {"holds": "seen", "fails": "not seen", "mixed": "not seen", "not seen": "not seen"}
FIG1 = ("fig1, cross-entropy", "fig1, squared loss")
CLAIMS = (  # what the memo says, its judge, and the figures of which it is said
    ("smaller B, lower rank, at equal epochs", judges.smaller_B_lower_rank,
     "fig2", "fig4", "fig5", "fig2, λ halved"),
    ("larger η, lower rank", judges.larger_eta_lower_rank, "fig2, fig6", "fig4", "fig5"),
    ("larger η, worse training", judges.larger_eta_worse_training, "fig2", "fig4", "fig5"),
    ("smaller B needs smaller η", judges.smaller_B_needs_smaller_eta, "fig2", "fig4", "fig5"),
    ("smaller B, lower rank, at equal steps (our control)", judges.lower_rank_at_equal_steps,
     "fig2, fig6", "fig4", "fig5"),
    ("what carries the trend (our control)", judges.what_carries_the_trend, "control"),
    ("larger λ, lower rank", judges.larger_lambda_lower_rank, "fig3"),
    ("no rank is lost at λ = 0, whatever B", judges.no_rank_lost_without_decay, "fig3"),
    ("gradient descent does not lower the rank (Section 3.2)",
     judges.gradient_descent_keeps_the_rank, "descent"),
    ("W is close to rank at most B (Section 3.2)", judges.close_to_rank_B,
     "fig2", "fig4", "fig5", "fig6"),
    ("d(W_{t+1}, W_t) is smaller by orders of magnitude at λ = 0",
     judges.far_smaller_without_decay, *FIG1),
    ("with λ > 0 W does not converge though loss and accuracy do", judges.does_not_converge, *FIG1),
    ("W goes to zero at λ = 1e-4 and 1e-3 (CIFAR-10)", judges.goes_to_zero, FIG1[0]),
    ("its rank is zero", judges.has_rank_zero, FIG1[0]),
    ("MLPs have a bottleneck", judges.bottleneck, "fig6"),
    ("the two matrices of a residual block have equal ranks", judges.equal_within_blocks, "fig7"),
    ("all residual blocks have equal ranks", judges.equal_across_blocks, "fig7"),
)
# The run in place of a figure's; None where a claim isn't about it.
SELECTED = {
    "fig1, cross-entropy": lambda run: run if run.loss == "cross_entropy" else None,
    "fig1, squared loss": lambda run: run if run.loss == "mean_squared_error" else None,
    # Were 5e-4 PyTorch's weight_decay, lambda would be half of it; tried with PyTorch's batch norm.
    "fig2, λ halved": lambda run: None if run.scalar else replace(run, lam=run.lam / 2),
    # With the memo's batch norm most networks of Figure 3 die at its eta = 0.1.
    "fig3": lambda run: replace(run, eta=0.01) if run.detached else run,
}


def judge(experiments, read):
    """The rows of claims.csv, from {name: Experiment} and read(run): (meta, arrays) or None.

    One is the verdict on a claim about figures for one variant of batch norm, a dict.
    """
    preset, view = experiments["fig2"].preset, experiments["fig2"].view

    @functools.cache
    def by_criterion(run):
        stored = read(run)
        return stored and _histories(run, *stored, view)

    findings = []
    for claim, rule, *figures in CLAIMS:
        for figure in figures:
            for variant, settings in _settings(figure, experiments).items():
                found = {run: list(map(by_criterion, seeds)) for run, seeds in settings.items()}
                place = {"preset": preset, "claim": claim, "figure": figure, "batch_norm": variant}
                findings.append(place | _judged(rule, found, preset))
    return findings


def _settings(place, experiments):
    """{variant: {the run of the first seed: those of all}}; runs that figures share count once."""
    select = SELECTED.get(place, lambda run: run)
    settings = {}
    for figure, twin in itertools.product(place.split(", "), ("", "-true", "-standard")):
        columns = experiments[figure + twin].columns if figure + twin in experiments else ()
        for line in itertools.chain.from_iterable(lines for _, lines in columns):
            runs = list(map(select, line.seeds))
            if runs[0]:
                settings.setdefault(runs[0].batchnorm, {})[runs[0]] = runs
    return settings


def _histories(run, meta, arrays, view):
    """{criterion: history}, with ranks in percent of the full rank and of the width."""
    width, tau = run.graph().width(2), tau_B(arrays, run.B)
    histories = {}
    for criterion, (changes, accuracy) in CRITERIA.items():
        made = history(meta, arrays, replace(view, **changes), accuracy)
        made["layer_rank"] = 100 * made["layer_rank"] / width
        for count in ("rank", "rank_from_start"):
            made[count] = 100 * made[count] / made["full_rank"]
        histories[criterion] = made | {"tau_B": tau}
    return histories


def tau_B(arrays, B):
    """What lies beyond B singular values, over ||W||; (epochs,), the median over W with more."""
    longer = [s for s in spectra_of(arrays) if s.shape[1] > B]
    ratios = [norm_of_spectrum(s[:, B:], "frobenius") / View().size(s) for s in longer]
    return numpy.median(ratios, axis=0) if ratios else None


def _judged(rule, found, preset):
    """The verdict and what stands beside it; found: {run: the histories of its seeds, or None}."""
    rows = found.values()
    runs = sum(map(len, rows))
    done = runs - sum(row.count(None) for row in rows)
    seeds = [seed for seed in zip(*rows) if None not in seed]  # that all settings have
    whole = dict(zip(found, zip(*seeds)))
    judged = {}
    for criterion in CRITERIA:
        settings = [Setting(run, [one[criterion] for one in row]) for run, row in whole.items()]
        verdict, text = rule(settings)
        judged[criterion] = _in_preset(verdict, preset), f"{text}; {_unlearned(settings)}"
    verdict, measured = judged[AS_RULED]
    others = [f"{criterion}: {word}" for criterion, (word, _) in judged.items() if word != verdict]
    return {
        "verdict": verdict if seeds else "not run",
        "done": done,
        "runs": runs,
        "seeds": len(seeds),
        "measured": measured if seeds else "",
        "otherwise": "; ".join(others),  # the verdicts by other criteria that differ
    }


def _in_preset(verdict, preset):
    """The verdict as far as runs of the preset allow one."""
    if preset == "smoke":
        return "says nothing"
    return IN_QUICK.get(verdict, "too early") if preset == "quick" else verdict


def _unlearned(settings):
    """How many settings have not learned, and how many of these ended early."""
    lost = sum(not setting.has_learned() for setting in settings)
    diverged = sum(setting.has_diverged() for setting in settings)
    collapsed = sum(any(seed["collapsed"] for seed in setting.histories) for setting in settings)
    text = f"{lost} of {len(settings)} settings have not learned"
    return f"{text} ({diverged} diverged, {collapsed} collapsed)"


WORDS = """\
W is a trainable matrix, ‖W‖ its Frobenius norm, ‖W₀‖ that before training; d(W_{t+1}, W_t) is how \
far W moves in an epoch. The rank of W is the number of its singular values above tol ‖W‖, tol = \
1e-4 unless this file's name says otherwise; that of a network is the mean over all its W, the \
full rank the largest possible. B is the batch size, η the learning rate, λ the weight decay of \
Eq. 2 (γ and β do not decay), H the width, m the number of training samples, E = Σ η_t 2 λ / (1 - \
momentum), over all steps, the decay budget. Were the memo's λ PyTorch's weight_decay, ours would \
be half of it: "λ halved".

A setting has learned if every seed ends with a finite loss, a train accuracy of at least 50 % \
and every ‖W‖ at least 1e-3 of its first. One that has not counts only for claims about not \
learning. Beside a verdict stands what it would be, where it differs, with other cutoffs, with \
ranks counted above 1e-4 ‖W₀‖, and if a train accuracy of 20 % or 90 % counted as learned. Seeds \
are those that all settings have; without one a figure is "not run".

The rules were fixed on 2026-11-24, before most of these runs; those that say so could decide \
nothing, or only one way, and were mended on 2026-11-28, with one seed of Figures 2 and 6, the \
norms, cells of the control, and part of two more seeds of Figure 2 with the true gradient there. \
Under the preset quick a verdict is only seen, not seen or too early; smoke says nothing."""


def write(findings, experiment, folder):
    """Write claims.md, and claims.csv with a row for every finding; returns their paths."""
    variants = dict.fromkeys((finding["batch_norm"] for finding in findings), "")
    table, items = {}, {claim: [] for claim, *_ in CLAIMS}
    for finding in findings:
        claim, figure, variant = (finding[name] for name in ("claim", "figure", "batch_norm"))
        said = finding["verdict"]
        if finding["seeds"]:
            said = f"**{said}**, {finding['seeds']} seed{'s' if finding['seeds'] > 1 else ''}"
            runs = f"{finding['done']} of {finding['runs']} runs"
            others = finding["otherwise"] or "the same by all criteria"
            text = f"- {figure}, {variant}: {said} ({runs}; {others}). {finding['measured']}"
            items[claim].append(text)
        table.setdefault((claim, figure), dict(variants))[variant] = said
    rows = [[*place, *row.values()] for place, row in table.items()]
    head = f"Preset {experiment.preset}."
    if changed_rules():
        head += " Changed rules: minigrad's mathematics, and so every run, is not as published."
    page = [head, report.markdown(["claim", "figure", *variants], rows)]
    page += ["## The words", WORDS]
    page += map(inspect.getdoc, (judges.by_majority, judges.by_thirds, judges.trend))
    for claim, rule, *_ in CLAIMS:
        page += [f"## {claim}", f"Rule: {inspect.getdoc(rule)}", "\n".join(items[claim])]
    text = "\n\n".join(part.strip() for part in page) + "\n"
    stem = f"{folder}/{experiment.stem().replace(experiment.name, 'claims', 1)}"
    return [report.write_text(f"{stem}.md", text), report.write_csv(f"{stem}.csv", findings)]
