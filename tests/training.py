"""Small runs, their stored numbers compared bit for bit, and other processes watched."""

import time
from dataclasses import replace

import numpy

from experiments import store
from experiments.runs import Run
from experiments.train import Config, train

# Momentum, batch norm and drops of eta, so that velocity, gamma, beta and the epoch's number all
# matter; epoch 13 is not measured, and B = 16 leaves 12 of the 60 samples out of every epoch.
RUN = Run(
    network="MLP-BN-2-8",
    dataset="synthetic-mnist",
    m=60,
    m_test=60,
    B=16,
    lam=1e-3,
    milestones=(5, 11),
    epochs=14,
    measure_every=4,
)
DIVERGING = replace(RUN, network="MLP-2-8", eta=20.0, milestones=())
COLLAPSING = replace(RUN, detached=False, eta=2.0)
SEEDS = [replace(RUN, seed=seed) for seed in range(2)]


def stored(run, results):
    """(meta, arrays) of a finished run."""
    return store.read(store.result_path(results, run), run)


def trained(runs, results, stack=1, **config):
    """{run: (meta, arrays)} with weights, trained `stack` at a time."""
    for start in range(0, len(runs), stack):
        train(runs[start : start + stack], Config(str(results), keep_weights=True, **config))
    return {run: stored(run, results) for run in runs}


def assert_same(actual, expected):
    """The same runs with the same meta, names, dtypes and every bit: NaN equals NaN."""
    assert list(actual) == list(expected)
    for run, (meta, arrays) in expected.items():
        assert actual[run][0] == meta
        found = actual[run][1]
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            numpy.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


def assert_only_results(folder, runs):
    """No checkpoint and no temporary file is left."""
    found = {path.name for path in folder.iterdir() if path.name != ".locks"}
    assert found == {f"{run.key}.npz" for run in runs}


def wait_for(condition):
    """Until condition() holds; a program that hangs fails the test."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def sentences(stderr):
    """The lines of standard error but the progress bar's."""
    lines = stderr.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and "%|" not in line]
