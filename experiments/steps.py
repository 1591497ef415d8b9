"""The equal-step control: at a fixed number of epochs a smaller batch takes more steps, and so a larger decay budget.

Figures 2 and 5 again with as many steps for every batch size: is it the batch size, or the number of steps?
"""

from dataclasses import replace
from pathlib import Path

import numpy

from . import plots
from .figures import SPREAD, Plan, budget, history, standing

REFERENCE = 16  # the batch size whose number of steps all take
FIGURES = ("fig2", "fig5")


def equal_steps(run):
    """`run` with the number of steps that B = 16 takes in its epochs; the learning rate drops at the same fractions."""

    def scaled(epochs):
        return max(1, round(epochs * run.B / REFERENCE))

    milestones = tuple(map(scaled, run.milestones))
    return replace(run, epochs=scaled(run.epochs), milestones=milestones, measure_every=scaled(run.measure_every))


class Steps:
    """Like a Plan: the runs of Figures 2 and 5, at equal epochs and at equal steps, and their picture."""

    def __init__(self, name, preset, seeds=None, settings=None, stand_ins=()):
        self.name, self.preset = name, preset
        self.plans = [Plan(figure, preset, seeds, settings, stand_ins) for figure in FIGURES]

    def runs(self):
        """All of them, first those of the figures."""
        at_equal_epochs = [run for plan in self.plans for run in plan.runs()]
        return at_equal_epochs + [equal_steps(run) for run in at_equal_epochs]

    def title(self):
        """The picture's title: it says what reduces the paper's setting."""
        return "The equal-step control: rank at equal epochs and at equal steps" + standing(self.preset, self.plans[0].seeds)

    def note(self):
        """The lines under the title."""
        sentences = [f"Equal steps: as many for every B as B = {REFERENCE} takes at equal epochs."]
        sentences += [f"{plan.runs()[0].network}: {sentence}" for plan in self.plans for sentence in plan.differences()]
        return " ".join(sentences + SPREAD * (self.plans[0].seeds > 1))

    def draw(self, results, folder):
        """Draw `results` (in the order of runs()) into folder/NAME.png, .svg and .csv; the paths."""
        found = dict(zip(self.runs(), results))
        schemes = {"epochs": lambda run: run, "steps": equal_steps}
        lines = {scheme: [] for scheme in schemes}
        for place, grids in enumerate(zip(*(plan.columns for plan in self.plans))):
            for style, (scheme, change) in zip((place, place + 3), schemes.items()):
                seeds = []
                for seed in range(self.plans[0].seeds):
                    values = {"diverged": False}
                    for plan, column in zip(self.plans, grids):
                        runs = sorted((change(runs[seed]) for _, runs in column), key=lambda run: run.B)
                        values["B"], values["E"] = (numpy.array([f(run) for run in runs]) for f in (lambda run: run.B, budget))
                        values[plan.figure.base.network] = numpy.array([history(*found[run], plan.view)["final_rank"] for run in runs])
                    seeds.append(values)
                label = f"{runs[0].eta}" + ", equal steps" * (scheme == "steps")
                lines[scheme].append(plots.Line(label, style, seeds))
        columns = [
            plots.Column("equal epochs", lines["epochs"], "B"),
            plots.Column("equal steps", lines["steps"], "B"),
            plots.Column("all, against the decay budget", lines["epochs"] + lines["steps"], "E"),
        ]
        rows = [plots.Row(plan.figure.base.network, f"final rank, {plan.runs()[0].network}", floor=0) for plan in self.plans]
        picture = plots.histories(columns, rows, self.title(), self.note(), "η")
        return plots.save(picture, plots.tidy(columns, rows), Path(folder) / self.name)
