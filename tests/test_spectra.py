"""Ranks at several cutoffs, from whatever runs of Figure 2 are stored."""

import csv

from experiments import spectra
from experiments.__main__ import PUBLISHED
from experiments.figures import Experiment
from experiments.results import View, history
from experiments.train import Config


def test_the_ranks_are_those_of_the_finished_runs_at_every_cutoff(tmp_path):
    ended, run = Experiment("fig2-true", "night", 1, {"eta": 0.01, "B": (16, 32)}).runs()
    meta, arrays = Config(PUBLISHED).read(run)
    stored = {ended: (meta | {"status": "collapsed"}, arrays), run: (meta, arrays)}
    png, svg, path = spectra.write("night", 1, stored.get, tmp_path)
    assert png.exists() and svg.exists()
    with open(path, encoding="utf-8") as file:
        found = [(int(row["B"]), float(row["rank"])) for row in csv.DictReader(file)]
    views = [View(tol=tol) for tol in spectra.CUTOFFS]
    assert found == [(32, history(meta, arrays, view)["rank"][-1]) for view in views]
