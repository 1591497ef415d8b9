"""Run: what determines a run's numbers, checked at the boundary; its key; grids."""

import json
import shlex
from dataclasses import field, fields, make_dataclass, replace
from pathlib import Path

import pytest

from experiments.__main__ import command_line, experiments
from experiments.runs import Run
from minigrad.optim import step_decay

# {arguments of the command line: the keys of its runs}; stored results are found by them.
KEYS = json.loads((Path(__file__).parent / "data" / "keys.json").read_text(encoding="utf-8"))

# A run that differs from the default one in every field.
OTHER = Run(
    network="MLP-BN-5-50", dataset="mnist", loss="mean_squared_error", init="he", m=600, m_test=600,
    B=64, eta=0.2, lam=1e-4, momentum=0.0, detached=False, scalar=False, milestones=(), factor=0.2,
    epochs=400, steps_of_B=64, measure_every=10, seed=1,
)

WRONG = {
    "network": ("MLP-5",),
    "dataset": ("imagenet",),
    "m": (15, -10),
    "m_test": (15, -10),
    "loss": ("logistic",),
    "init": ("zeros",),
    "B": (1, 50_001),
    "eta": (0.0, float("nan"), float("inf")),
    "lam": (-1e-9, float("inf"), float("nan")),
    "momentum": (-0.1, 1.0, 0.99999999),
    "detached": (1,),
    "milestones": ((60, -1), (60.0,)),
    "factor": (0.0, 1.1),
    "epochs": (0, True),
    "steps_of_B": (-1, 50_001),
    "measure_every": (0,),
    "seed": (-1,),
}


@pytest.mark.parametrize("command", KEYS)
def test_the_runs_of_a_command_keep_their_keys(command, monkeypatch):
    monkeypatch.setattr("experiments.runs.changed_rules", lambda: "")  # tested elsewhere
    args = command_line().parse_args(shlex.split(command))
    assert [run.key for run in experiments(args, [args.name])[args.name].runs()] == KEYS[command]


def test_the_key_differs_for_every_field():
    names = [f.name for f in fields(Run)]
    keys = {replace(Run(), **{name: getattr(OTHER, name)}).key for name in names} - {Run().key}
    assert len(keys) == len(names)


def test_what_json_gives_back_is_the_same_run_and_a_new_field_leaves_old_keys_valid():
    one, other = Run(eta=1, milestones=[60]), Run(eta=1.0, milestones=(60,))
    assert one == other and one.key == other.key
    augment = ("augment", str, field(default="none"))
    Later = make_dataclass("Later", [augment], bases=(Run,), frozen=True, kw_only=True)
    assert Later(B=64).key == Run(B=64).key and Later(augment="flip").key != Run().key


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_one_sentence_with_field_and_value(name):
    for value in WRONG[name]:
        with pytest.raises(ValueError) as error:
            Run(**{name: value})
        message = str(error.value)
        assert name in message and repr(value) in message and "\n" not in message


def test_variants_of_batch_norm_are_refused_without_it():
    for variant in ("detached", "scalar"):
        with pytest.raises(ValueError, match=variant):
            Run(network="MLP-5-500", **{variant: False})


@pytest.mark.parametrize("given", [{}, {"B": 4, "steps_of_B": 128}, {"m": 640, "momentum": 0.5}])
def test_the_decay_budget_is_the_sum_over_the_steps(given):
    run = Run(milestones=(1, 3), factor=0.3, epochs=5, **given)
    steps = (run.m or 50_000) // (run.steps_of_B or run.B)
    total = 0.0
    for epoch in range(run.epochs):
        eta = step_decay(run.eta, epoch, run.milestones, run.factor)
        total += steps * 2 * eta * run.lam / (1 - run.momentum)
    assert run.budget() == pytest.approx(total, rel=1e-9)
