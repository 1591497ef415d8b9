"""Published runs are whole, and a clone without data, network or training draws them."""

import csv
import json
import os

import numpy
import pytest

from experiments import __main__ as command
from experiments import store, train
from experiments.figures import Experiment
from experiments.runs import Run


def test_published_runs_are_drawn_without_data_or_training_and_are_only_read(
    here, monkeypatch, capsys
):
    monkeypatch.setattr(train, "train", lambda *args: pytest.fail("trained"))
    before = os.stat(command.PUBLISHED).st_mtime_ns
    assert command.main("fig2-true --preset night --seeds 1".split()) == 0
    out, err = capsys.readouterr()
    assert "18 of 18 runs" in err and str(command.PUBLISHED) in err
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
