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
# Each with an eta, a lambda, a momentum and a seed of its own.
RUNS = [
    replace(RUN, eta=0.1, lam=1e-3, momentum=0.9, seed=0),
    replace(RUN, eta=0.03, lam=0.0, momentum=0.5, seed=1),
    replace(RUN, eta=0.01, lam=1e-2, momentum=0.0, seed=2),
]


def stored(run, results):
    """(meta, arrays) of a finished run."""
    return store.read(store.result_path(results, run), run)


def alone(runs, results, **config):
    """{run: (meta, arrays)} with weights, each trained alone."""
    for run in runs:
        train([run], Config(str(results), keep_weights=True, **config))
    return {run: stored(run, results) for run in runs}


def side_by_side(runs, results, **config):
    """The same, trained as one stack."""
    train(runs, Config(str(results), keep_weights=True, **config))
    return {run: stored(run, results) for run in runs}


def assert_same(actual, expected):
    """The same runs in the same order, with the same meta and every bit: NaN equals NaN."""
    assert list(actual) == list(expected)
    for run, (meta, arrays) in expected.items():
        assert actual[run][0] == meta
        assert_same_bits(actual[run][1], arrays)


def assert_same_bits(actual, expected):
    """Names, their order, dtypes, and every bit."""
    assert list(actual) == list(expected)
    for name, array in expected.items():
        numpy.testing.assert_array_equal(actual[name], array, err_msg=name, strict=True)


def assert_only_results(folder, runs):
    """No checkpoint and no temporary file is left."""
    found = {path.name for path in folder.iterdir() if path.name != ".locks"}
    assert found == {f"{run.key}.npz" for run in runs}


class Stop(Exception):
    """Ends a training, as Ctrl-C would."""


def stop_at(epoch):
    """A progress function that raises Stop when a run has reached this epoch."""

    def progress(run, fraction):
        if round(fraction * run.epochs) >= epoch:
            raise Stop

    return progress


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
