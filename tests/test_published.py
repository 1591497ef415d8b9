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

RUNS = Experiment("fig2-true", "night", 1).runs()


@pytest.fixture
def draw(here, monkeypatch, capsys):
    """draw(*options): Figure 2 at night, one seed, where neither data nor training can be had."""
    monkeypatch.setattr(train, "train", lambda *args: pytest.fail("trained"))

    def call(*options):
        assert command.main(["fig2-true", "--preset", "night", "--seeds", "1", *options]) == 0
        out, err = capsys.readouterr()
        with open(out.splitlines()[-1], encoding="utf-8") as file:
            return list(csv.DictReader(file)), err

    return call


def test_published_runs_are_drawn_without_data_or_training_and_are_only_read(draw, here):
    before = os.stat(command.PUBLISHED).st_mtime_ns
    rows, err = draw()
    assert "18 of 18 runs" in err and str(command.PUBLISHED) in err
    found = {(float(row["eta"]), int(row["B"])) for row in rows}
    assert found == {(run.eta, run.B) for run in RUNS}
    assert os.listdir(here) == ["figures"] and os.stat(command.PUBLISHED).st_mtime_ns == before


def test_a_result_is_drawn_in_place_of_a_published_run(draw):
    meta, arrays = store.Reader(command.PUBLISHED).read(RUNS[0])
    arrays["test_accuracy"][-1] = 0.123
    store.write(store.result_path("results", RUNS[0]), meta, arrays)
    rows, err = draw("--set", "eta=0.001", "--set", "B=4,8")
    assert "1 of 2 runs" in err and "12.3" in {row["value"] for row in rows}


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
