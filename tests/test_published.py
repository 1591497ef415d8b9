"""Published runs are whole, and a clone without data, network or training draws them."""

import csv
import json
import os

import numpy

from experiments import __main__ as command
from experiments import store
from experiments.figures import Experiment
from experiments.runs import Run


def test_published_runs_are_drawn_without_data_or_training_and_are_only_read(here, start):
    """In a notebook too, whose backend Matplotlib can't import here."""
    before = os.stat(command.PUBLISHED).st_mtime_ns
    notebook = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    process = start(*"-m experiments fig2-true --preset night --seeds 1".split(), env=notebook)
    out, err = process.communicate(timeout=100)
    (told,) = err.splitlines()
    assert process.returncode == 0
    assert told.startswith("18 of 18 runs") and str(command.PUBLISHED) in told
    with open(out.splitlines()[-1], encoding="utf-8") as file:
        found = {(float(row["eta"]), int(row["B"])) for row in csv.DictReader(file)}
    assert found == {(run.eta, run.B) for run in Experiment("fig2-true", "night", 1).runs()}
    assert os.listdir(here) == ["figures"] and os.stat(command.PUBLISHED).st_mtime_ns == before


def test_every_published_file_is_whole_and_named_by_its_run():
    paths = list(command.PUBLISHED.iterdir())
    assert len(paths) > 100
    for path in paths:
        with numpy.load(path) as archive:
            values = json.loads(str(archive["meta"]))["meta"]["run"]
        run = Run(**{name: value for name, value in values.items() if not name.startswith("tail_")})
        assert path.name == f"{run.key}.npz"
        meta, arrays = store.read(path, run)
        assert meta["status"] in ("finished", "diverged", "collapsed")
        assert len(arrays["epoch"]) == len(arrays["spectrum 2-1"])
