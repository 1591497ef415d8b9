"""Ranks at several cutoffs, from whatever runs of Figure 2 are stored."""

import csv

import pytest

from experiments import spectra
from experiments.figures import Experiment
from experiments.results import View, history
from experiments.store import Reader, StoreError


def test_the_ranks_are_those_of_the_stored_runs_at_every_cutoff(smoke, tmp_path):
    """The stored runs of Figure 6 at eta = 0.1 are Figure 2's too."""
    reader = Reader(smoke)
    png, svg, path = spectra.write("smoke", None, reader.read, tmp_path)
    assert png.exists() and svg.exists()
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shared = [run for run in Experiment("fig2-true", "smoke").runs() if reader.has(run)]
    assert len(shared) == 6 and len(rows) == 6 * len(spectra.CUTOFFS)
    for run in shared:
        mine = [row for row in rows if (int(row["B"]), int(row["seed"])) == (run.B, run.seed)]
        stored = reader.read(run)
        for row in mine:
            made = history(*stored, View(tol=float(row["tol"])))
            assert float(row["rank"]) == made["rank"][-1]
        assert len({row["rank"] for row in mine}) > 1


def test_without_a_stored_run_there_is_no_picture(tmp_path):
    with pytest.raises(StoreError, match="fig2"):
        spectra.write("smoke", None, Reader(tmp_path).read, tmp_path)
    assert not list(tmp_path.iterdir())
