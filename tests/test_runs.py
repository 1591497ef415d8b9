"""Run: what determines a run's numbers, checked at the boundary; its key; grids."""

import json
from dataclasses import field, fields, make_dataclass, replace

import pytest

from experiments.runner import Where
from experiments.runs import Run, cost_of, grid
from experiments.store import partial_path, result_path
from minigrad.optim import step_decay

# One value other than the default for every field of Run. A new field gets its row here.
OTHER = {
    "network": "MLP-BN-10-101",
    "dataset": "mnist",
    "m": 600,
    "m_test": 600,
    "loss": "mean_squared_error",
    "init": "he",
    "B": 64,
    "eta": 0.2,
    "lam": 1e-4,
    "momentum": 0.0,
    "detached": False,
    "scalar": False,
    "milestones": (60, 100),
    "factor": 0.2,
    "epochs": 499,
    "steps_of_B": 64,
    "measure_every": 10,
    "tail_epochs": 101,
    "tail_steps": 1,
    "tail_gd": True,
    "seed": 1,
}

# What a field refuses, and the rule that the sentence has to name.
REFUSED = [
    ("network", "MLP-5", "MLP-5-2000"),
    ("network", "MLP-0-10", "MLP-5-2000"),
    ("network", "mlp-5-10", "MLP-5-2000"),
    ("network", "MLP-5-10\n", "MLP-5-2000"),
    ("network", 5, "str"),
    ("dataset", "imagenet", "one of mnist, cifar10"),
    ("dataset", None, "str"),
    ("m", -10, "multiple of the 10"),
    ("m", 15, "multiple of the 10"),
    ("m", 60.0, "int"),
    ("m_test", -10, "multiple of the 10"),
    ("m_test", 15, "multiple of the 10"),
    ("loss", "hinge", "one of cross_entropy"),
    ("init", "zeros", "uniform or he"),
    ("B", 0, "at least 1"),
    ("B", -1, "at least 1"),
    ("B", 1, "at least 2 for batch norm (MLP-BN-10-100)"),
    ("B", 1.5, "int"),
    ("B", True, "int"),
    ("eta", 0.0, "positive"),
    ("eta", -0.1, "positive"),
    ("eta", float("nan"), "positive"),
    ("eta", float("inf"), "positive"),
    ("eta", "0.1", "float"),
    ("eta", True, "float"),
    ("lam", -1e-9, ">= 0"),
    ("lam", float("nan"), ">= 0"),
    ("lam", float("inf"), ">= 0"),
    ("momentum", -0.1, "[0, 1)"),
    ("momentum", 1.0, "[0, 1)"),
    ("momentum", float("nan"), "[0, 1)"),
    ("milestones", (60, -1), "integers >= 0"),
    ("milestones", (60.0,), "integers >= 0"),
    ("milestones", (True,), "integers >= 0"),
    ("milestones", "60", "milestones must be"),
    ("milestones", 60, "milestones must be"),
    ("milestones", None, "milestones must be"),
    ("factor", 0.0, "(0, 1]"),
    ("factor", 1.1, "(0, 1]"),
    ("factor", float("nan"), "(0, 1]"),
    ("epochs", 0, "from 1 to 100000"),
    ("B", 50_001, "at most m=all"),
    ("epochs", False, "int"),
    ("steps_of_B", -1, "0 for that of B"),
    ("steps_of_B", 50_001, "at most the training samples"),
    ("steps_of_B", True, "int"),
    ("detached", 1, "bool"),
    ("scalar", None, "bool"),
    ("measure_every", 0, "at least 1"),
    ("tail_epochs", -1, "at least 0"),
    ("tail_epochs", 500, "below epochs=500"),
    ("tail_epochs", True, "int"),
    ("tail_steps", -1, "0 for those of a pass"),
    ("tail_steps", 50_001, "at most the training samples"),
    ("tail_gd", 1, "bool"),
    ("seed", -1, ">= 0"),
    ("seed", False, "int"),
]


@pytest.mark.parametrize("name, value, rule", REFUSED, ids=repr)
def test_a_wrong_value_is_one_sentence_with_the_field_the_rule_and_the_value(name, value, rule):
    with pytest.raises(ValueError) as error:
        Run(**{name: value})
    message = str(error.value)
    for words in (name, rule, repr(value)):
        assert words in message
    assert "\n" not in message


def test_every_field_refuses_something():
    assert {name for name, _, _ in REFUSED} == {f.name for f in fields(Run)}


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(ValueError, match="B must be at least 1 and at most m=60, got 61"):
        Run(m=60, B=61)
    assert Run(m=60, B=60).B == 60
    assert Run(m=0, B=61).B == 61


def test_edges_of_the_allowed_ranges_are_allowed():
    Run(eta=1e-30, lam=0, momentum=0, factor=1, epochs=1, measure_every=1, milestones=(0, 0))
    assert Run(network="MLP-5-500", B=1).B == 1
    assert Run(momentum=0.999).momentum == 0.999


def test_a_replaced_field_is_checked_too():
    with pytest.raises(ValueError, match="eta must be a positive number, got -1.0"):
        replace(Run(), eta=-1)


@pytest.mark.parametrize("given", [{"tail_steps": 1}, {"tail_gd": True}])
def test_what_a_tail_is_trained_with_is_refused_without_one(given):
    """Fault: two keys for one run."""
    ((name, value),) = given.items()
    with pytest.raises(ValueError, match=f"tail_epochs must be at least 1 for .*{name}={value}.*, got 0"):
        Run(**given)
    with pytest.raises(ValueError, match="tail_epochs must be at least 1"):
        replace(Run(tail_epochs=7, **given), tail_epochs=0)


# The key.


def test_the_key_differs_for_every_field():
    assert set(OTHER) == {f.name for f in fields(Run)}, "say in OTHER what else the new field may be"
    run = Run(tail_epochs=100)  # without a tail its fields are refused
    keys = [Run().key, run.key] + [replace(run, **{name: value}).key for name, value in OTHER.items()]
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert len(key) == 16
        assert set(key) <= set("0123456789abcdef")


def test_the_key_is_the_same_for_1_and_1_point_0():
    assert Run(eta=1, lam=0, momentum=0).key == Run(eta=1.0, lam=0.0, momentum=0.0).key
    assert Run(milestones=[60, 100]) == Run(milestones=(60, 100))


def test_naming_a_default_changes_no_key():
    for f in fields(Run):
        if f.name != "B":
            assert Run(B=64, **{f.name: f.default}).key == Run(B=64).key
    assert Run(**Run().as_dict()).key == Run().key


def test_close_learning_rates_have_different_keys():
    """A key that rounds would hand one run's numbers to another."""
    assert Run(eta=0.3).key != Run(eta=0.1 + 0.2).key


def test_the_key_knows_nothing_of_where_a_run_is_computed(tmp_path):
    assert not {f.name for f in fields(Where)} & {f.name for f in fields(Run)}
    for path in (result_path, partial_path):
        assert path(tmp_path / "here", Run()).name == path("there", Run()).name
    assert result_path("there", Run()) != partial_path("there", Run())


def test_a_new_field_with_a_default_leaves_old_keys_valid():
    augment = ("augment", str, field(default="none"))
    Later = make_dataclass("Later", [augment], bases=(Run,), frozen=True, kw_only=True)
    assert Later().key == Run().key
    assert Later(B=64).key == Run(B=64).key
    assert Later(augment="flip").key != Run().key


def test_the_keys_of_stored_results_stay_what_they_are():
    """Literal keys, so that a change of the canonical form is seen: it would orphan every result ever stored.

    They change only together with runs.VERSION, when the code changes the numbers.
    """
    fig1 = Run(
        network="MLP-5-2000",
        dataset="mnist",
        lam=1e-4,
        momentum=0.0,
        milestones=(),
        epochs=2000,
        measure_every=10,
    )
    assert Run().key == "7674a781fc38e94c"
    assert fig1.key == "59a2dd6c71a846c5"


def test_the_fields_survive_json():
    run = Run(milestones=(3, 7), lam=1 / 3, seed=2**40)
    again = Run(**json.loads(json.dumps(run.as_dict())))
    assert again == run
    assert again.key == run.key


# Grids, and the epochs that are measured.


def test_a_grid_is_every_combination_with_the_last_axis_fastest():
    base = Run(epochs=7)
    runs = grid(base, B=(8, 16), lam=(0.0, 1e-3, 1e-2))
    assert [(run.B, run.lam) for run in runs] == [
        (8, 0.0),
        (8, 1e-3),
        (8, 1e-2),
        (16, 0.0),
        (16, 1e-3),
        (16, 1e-2),
    ]
    assert {replace(run, B=base.B, lam=base.lam) for run in runs} == {base}
    assert grid(base) == [base]
    assert grid(base, B=()) == []


def test_a_grid_checks_every_run():
    with pytest.raises(ValueError, match="B must be at least 1"):
        grid(Run(), B=(8, 0))


def test_measured_epochs_are_the_first_ten_every_nth_and_the_last():
    run = Run(epochs=30, measure_every=7)
    assert [epoch for epoch in range(31) if run.measured(epoch)] == [*range(11), 14, 21, 28, 30]
    assert all(Run(epochs=30).measured(epoch) for epoch in range(31))


# A tail.

MOVING = Run(network="MLP-5-500", momentum=0.0, epochs=60, measure_every=20, tail_epochs=30)


def test_every_epoch_of_a_tail_is_measured_and_the_one_before_it():
    assert [epoch for epoch in range(61) if MOVING.measured(epoch)] == [*range(11), 20, *range(30, 61)]


def test_the_beginning_is_the_run_without_its_tail_and_measures_the_same_epochs():
    for tail in ({}, {"tail_steps": 1}, {"tail_gd": True}, {"tail_gd": True, "tail_steps": 2}):
        run = replace(MOVING, **tail)
        begins = run.beginning()
        assert begins == Run(network="MLP-5-500", momentum=0.0, epochs=30, measure_every=20)
        assert begins.beginning() == begins and run.start() == begins and begins.start() is None
        assert [run.measured(epoch) for epoch in range(31)] == [begins.measured(epoch) for epoch in range(31)]


def test_with_momentum_a_run_starts_at_the_end_of_no_other():
    """A result has no velocity."""
    assert replace(MOVING, momentum=0.9).start() is None


@pytest.mark.parametrize(
    "tail, sizes",
    [
        ({}, (390, 128)),
        ({"tail_steps": 1}, (1, 128)),
        ({"tail_gd": True}, (1, 50_000)),
        ({"tail_gd": True, "tail_steps": 3}, (3, 50_000)),
    ],
)
def test_a_tail_has_its_own_steps_and_batches(tail, sizes):
    run = replace(MOVING, steps_of_B=64, milestones=(40,), **tail)
    assert [run.sizes(50_000, epoch) for epoch in (1, 30)] == [(781, 128)] * 2 and run.steps() == 781
    assert [run.sizes(50_000, epoch) for epoch in (31, 60)] == [sizes] * 2
    assert run.eta_steps() == pytest.approx(30 * 781 + sizes[0] * (10 + 20 * 0.1), rel=1e-12)
    assert run.budget() == pytest.approx(run.eta_steps() * 2 * run.eta * run.lam, rel=1e-12)


def test_a_run_without_a_tail_has_its_steps_to_the_last_bit():
    """A reduced lambda, and with it a stored run's key, is made of them. Fault: one sum over all steps."""
    for milestones in ((60, 100, 200), (1, 3), ()):
        run = Run(milestones=milestones, factor=0.3)
        decay = sum(step_decay(1.0, epoch, milestones, 0.3) for epoch in range(500))
        assert run.eta_steps() == 390 * decay


def test_the_cost_of_runs_counts_what_they_start_from_once():
    ways = [replace(MOVING, **tail) for tail in ({}, {"tail_steps": 1}, {"tail_gd": True})]
    begins = MOVING.beginning()
    tails = [run.cost() - begins.cost() for run in ways]
    assert min(tails) > 0 and tails[1] < tails[0]
    assert cost_of(ways) == pytest.approx(begins.cost() + sum(tails), rel=1e-12)
    assert cost_of([begins, *ways]) == pytest.approx(cost_of(ways), rel=1e-12)
    others = [replace(run, momentum=0.9) for run in ways]
    assert cost_of(others) == pytest.approx(sum(run.cost() for run in others), rel=1e-12)


def test_a_number_too_large_for_a_float_is_refused():
    with pytest.raises(ValueError, match="eta must be a number of usual size"):
        Run(eta=10**400)
