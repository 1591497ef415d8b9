"""Runs trained side by side: each as it would be alone, whatever becomes of the others."""

import itertools
import math
import tracemalloc
import types
from dataclasses import fields, replace

import numpy
import pytest
import standin

from experiments import runner, stacks, state, store
from experiments.figures import FIGURES
from experiments.plans import Plan
from experiments.provenance import origin
from experiments.runner import Where, complete, train
from experiments.runs import Run, grid
from experiments.stacks import memory, stacked
from experiments.state import State
from minigrad import backend, kernels
from test_runner import DIVERGING, MOVING, RUN, WAYS, Stop, assert_one_sentence, assert_only_results
from test_runner import assert_same_bits, stop_after, stored

# Each has an eta, a lambda, a momentum and a seed of its own.
RUNS = [
    replace(RUN, eta=eta, lam=lam, momentum=momentum, seed=seed)
    for seed, (eta, lam, momentum) in enumerate([(0.1, 1e-3, 0.9), (0.03, 0.0, 0.5), (0.01, 1e-2, 0.0)])
]
NETWORKS = {
    "MLP-2-8": {},
    "MLP-BN-2-8": {},
    "MLP-BN-2-9": {"detached": False, "scalar": False},
    "RES-BN-1-8": {"steps_of_B": 25},
}


def alone(runs, results, **where):
    """{run: (meta, arrays)} of each trained alone."""
    where = Where(str(results), keep_weights=True, **where)
    for run in runs:
        train([run], where)
    return {run: stored(run, where) for run in runs}


def side_by_side(runs, results, **where):
    where = Where(str(results), keep_weights=True, **where)
    train(runs, where)
    return {run: stored(run, where) for run in runs}


def assert_same(actual, expected):
    """Every result, with its weights, but for what computed it."""
    assert list(actual) == list(expected)
    for run, (meta, arrays) in expected.items():
        assert actual[run][0] == meta
        assert_same_bits(actual[run][1], arrays)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return alone(RUNS, tmp_path_factory.mktemp("alone"))


# Stacked equals alone.


@pytest.mark.parametrize("path", ["fast", "readable"])
@pytest.mark.parametrize("network", NETWORKS)
def test_runs_side_by_side_equal_each_alone_bit_for_bit(tmp_path, network, path, monkeypatch):
    if path == "readable":
        monkeypatch.setattr(kernels, "applies", lambda *args: False)
    runs = [replace(run, network=network, **NETWORKS[network], epochs=6) for run in RUNS]
    assert_same(side_by_side(runs, tmp_path / "stack"), alone(runs, tmp_path / "alone"))
    assert_only_results(tmp_path / "stack", runs)


FAULTS = {
    "one eta for all": ("numbers", lambda self, of_each: list(of_each)[0]),
    "one order of the samples for all": (
        "rows",
        lambda self, of_each: numpy.stack([list(of_each)[0]] * len(self.runs), axis=1),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_belongs_to_each_run_is_its_own(tmp_path, expected, fault, monkeypatch):
    name, wrong = FAULTS[fault]
    monkeypatch.setattr(stacks.Stack, name, wrong)
    with pytest.raises(AssertionError):
        assert_same(side_by_side(RUNS, tmp_path), expected)


def test_results_don_t_depend_on_how_many_are_stacked_or_in_how_many_processes(tmp_path, expected):
    for most, jobs in ((2, 1), (3, 1), (2, 2)):
        where = Where(str(tmp_path / f"{most} {jobs}"), keep_weights=True, stack=most)
        assert_same(complete(RUNS, where, jobs), expected)


def test_tails_side_by_side_equal_each_alone_and_begin_where_others_end(tmp_path):
    """Those with momentum can't: they are behind, until the others' ends are reached."""
    runs = []
    for way in WAYS.values():
        runs += grid(replace(MOVING, **way), momentum=(0.0, 0.9), seed=(0, 1))
    where = Where(str(tmp_path / "stack"), keep_weights=True, stack=4)
    assert_same(complete(runs, where, jobs=1), alone(runs, tmp_path / "alone"))
    beginnings = {run.start() for run in runs} - {None}
    assert len(beginnings) == 2
    assert_only_results(tmp_path / "stack", [*runs, *beginnings])


def test_the_progress_adds_up_to_the_costs(tmp_path):
    done = []
    runs = [replace(DIVERGING, epochs=8), replace(DIVERGING, epochs=8, eta=0.01)]
    train(runs, Where(str(tmp_path)), done.append)
    numpy.testing.assert_allclose(sum(done), sum(map(Run.cost, runs)), rtol=1e-9)


# One of them ends early, or is behind.


def test_a_diverged_run_is_stored_at_once_and_leaves_the_others_as_they_are(tmp_path):
    diverging = [replace(DIVERGING, epochs=9), replace(DIVERGING, epochs=9, eta=50.0, seed=1)]
    lasting = [replace(run, network=DIVERGING.network, milestones=(), epochs=9, eta=0.01) for run in RUNS[:2]]
    runs = [diverging[0], lasting[0], diverging[1], lasting[1]]
    expected = alone(runs, tmp_path / "alone")
    ends = {run: meta["epoch"] for run, (meta, _) in expected.items()}
    assert all(ends[run] < 9 for run in diverging)
    stored_while_training = set()

    def look(cost):
        stored_while_training.update(run for run in runs if store.finished(tmp_path / "stack", run))

    train(runs, Where(str(tmp_path / "stack"), keep_weights=True), look)
    assert stored_while_training == set(diverging)
    assert_same({run: stored(run, Where(str(tmp_path / "stack"))) for run in runs}, expected)
    assert {meta["status"] for run, (meta, _) in expected.items() if run in diverging} == {"diverged"}


def interrupted(runs, results, epochs):
    """Checkpoints of runs, together, after so many epochs."""
    where = Where(str(results), keep_weights=True, save_every=0)
    with pytest.raises(Stop):
        train(runs, where, stop_after(len(runs) * (epochs + 1) + 1))
    for run in runs:
        meta, _ = store.read(store.partial_path(results, run))
        assert meta["epoch"] == epochs


def test_runs_at_different_epochs_catch_up_and_equal_uninterrupted_ones(tmp_path, expected, monkeypatch):
    """One at epoch 5, one at 2, one not begun: those behind are trained until they meet the others."""
    interrupted([RUNS[0]], tmp_path, 5)
    interrupted([RUNS[1]], tmp_path, 2)
    sizes = []
    monkeypatch.setattr(runner, "train_epoch", count_runs(sizes, runner.train_epoch))
    assert_same(side_by_side(RUNS, tmp_path), expected)
    assert sizes == [1] * 2 + [2] * 3 + [3] * 9
    assert_only_results(tmp_path, RUNS)


def test_who_is_ahead_goes_on_where_the_only_other_diverges(tmp_path):
    """As many are trained as before, but another. Fault: the one that diverged is trained on."""
    lasting = replace(DIVERGING, eta=0.01)
    expected = alone([lasting, DIVERGING], tmp_path / "alone")
    interrupted([lasting], tmp_path, expected[DIVERGING][0]["epoch"])
    assert_same(side_by_side([lasting, DIVERGING], tmp_path), expected)


def count_runs(sizes, train_epoch):
    def counting(graph, params, velocity, x, y, rows, *others):
        sizes.append(rows.shape[1] if rows.ndim == 3 else 1)
        return train_epoch(graph, params, velocity, x, y, rows, *others)

    return counting


def test_finished_and_unfinished_runs_make_a_stack_of_the_unfinished(tmp_path, expected, monkeypatch):
    alone(RUNS[:1], tmp_path)
    done = store.result_path(tmp_path, RUNS[0]).stat().st_mtime_ns
    sizes = []
    monkeypatch.setattr(runner, "train_epoch", count_runs(sizes, runner.train_epoch))
    where = Where(str(tmp_path), keep_weights=True, stack=3)
    assert_same(complete(RUNS, where, jobs=1), expected)
    assert set(sizes) == {2}
    train(RUNS, where)  # as a process that waited while another one trained them
    assert len(sizes) == RUN.epochs
    assert store.result_path(tmp_path, RUNS[0]).stat().st_mtime_ns == done


def test_a_stack_s_checkpoints_are_continued_by_each_run_alone(tmp_path, expected):
    interrupted(RUNS, tmp_path, 4)
    assert_same(alone(RUNS, tmp_path), expected)


def test_checkpoints_of_runs_alone_are_continued_by_a_stack(tmp_path, expected):
    for run in RUNS:
        interrupted([run], tmp_path, 4)
    assert_same(side_by_side(RUNS, tmp_path), expected)


def test_a_stack_stopped_again_and_again_equals_runs_alone(tmp_path, expected):
    """At each call of the progress in turn: between two runs' measurements too."""
    where = Where(str(tmp_path), keep_weights=True, save_every=0)
    for calls in itertools.count(len(RUNS) + 1):
        try:
            train(RUNS, where, stop_after(calls))
            break
        except Stop:
            continue
    assert calls > 8
    assert_same({run: stored(run, where) for run in RUNS}, expected)


def test_a_damaged_checkpoint_of_one_is_one_sentence_and_the_others_stay(tmp_path):
    interrupted(RUNS, tmp_path, 2)
    paths = [store.partial_path(tmp_path, run) for run in RUNS]
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    whole = [path.read_bytes() for path in paths]
    with pytest.raises(store.StoreError) as error:
        train(RUNS, Where(str(tmp_path)))
    assert_one_sentence(error, str(paths[1]), "delete it")
    assert [path.read_bytes() for path in paths] == whole


def test_the_runs_of_a_stack_are_locked_in_one_order_so_that_two_stacks_never_wait_for_each_other(
    tmp_path, monkeypatch
):
    orders = []

    class Lock:
        def __init__(self, results, run):
            self.run = run

        def __enter__(self):
            orders[-1].append(self.run)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(store, "lock", Lock)
    for runs in itertools.permutations(RUNS):
        orders.append([])
        with store.locks_of(tmp_path, runs):
            assert set(orders[-1]) == set(RUNS)
    assert all(order == orders[0] for order in orders)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_stack_is_one_array_of_which_each_run_sees_its_part_in_the_layout_that_it_had(tmp_path, order):
    """Which layout is fast depends on the library: in Fortran order NumPy's products are, at small B."""
    states = [State.begin(run, Where(str(tmp_path))) for run in RUNS]
    for state in states:
        state.params = {key: numpy.array(W, order=order) for key, W in state.params.items()}
    before = [dict(state.params) for state in states]
    stack = stacks.Stack(states)
    for key, W in stack.params.items():
        assert W.shape == (len(RUNS), *before[0][key].shape)
        for place, state in enumerate(states):
            own = state.params[key]
            numpy.testing.assert_array_equal(own, before[place][key], strict=True)
            assert own.flags[f"{order}_CONTIGUOUS"]
            assert numpy.shares_memory(own, W[place])
    own = states[0].params
    assert stacks.Stack(states[:1]).params is own


# Which runs are stacked.


@pytest.mark.parametrize("name, sizes", [("fig1", {15}), ("fig2", {9}), ("fig3", {18}), ("fig6", {12})])
def test_the_stacks_of_a_figure(name, sizes):
    """All that differs in eta, lambda and seed alone: for Figure 2, 3 etas and 3 seeds of each B."""
    runs = Plan(name, "paper").runs()
    found = stacked(runs, "numpy", most=99)
    assert {len(stack) for stack in found} == sizes
    assert sorted(run.key for stack in found for run in stack) == sorted(run.key for run in set(runs))


OTHERS = {
    "network": "RES-BN-1-8",
    "dataset": "synthetic-cifar10",
    "m": 50,
    "m_test": 50,
    "loss": "mean_squared_error",
    "init": "he",
    "B": 8,
    "detached": False,
    "scalar": False,
    "milestones": (5,),
    "factor": 0.2,
    "epochs": 9,
    "steps_of_B": 25,
    "measure_every": 1,
    "tail_epochs": 1,
}
OF_TAILS = {"tail_steps": 1, "tail_gd": True}


def test_runs_that_differ_in_anything_else_are_not_stacked():
    assert {field.name for field in fields(Run)} == {*OTHERS, *OF_TAILS, "eta", "lam", "momentum", "seed"}
    for base, others in ((RUN, OTHERS), (replace(RUN, tail_epochs=1), OF_TAILS)):
        for field, value in others.items():
            assert len(stacked([base, replace(base, **{field: value})], "numpy", most=9)) == 2, field
    assert len(stacked(RUNS, "numpy", most=9)) == 1


def test_numpy_stacks_none_unless_it_is_asked_to_and_no_more_than_asked():
    runs = grid(RUN, seed=range(9))
    assert stacked(runs, "numpy") == [[run] for run in runs]
    for most, sizes in ((4, [3, 3, 3]), (8, [5, 4]), (9, [9]), (20, [9])):
        assert [len(stack) for stack in stacked(runs, "numpy", most)] == sizes
    assert stacked([], "numpy") == []


def test_what_float32_holds_as_infinity_alone_is_trained_alone(tmp_path):
    """In an array of them it would be refused; alone it diverges, and is told so."""
    runs = [replace(RUN, eta=1e39), replace(RUN, lam=1e39), *RUNS[:2]]
    assert [len(stack) for stack in stacked(runs, "numpy", most=9)] == [1, 1, 2]
    results = complete(runs, Where(str(tmp_path), stack=9), jobs=1)
    assert [results[run][0]["status"] for run in runs[:2]] == ["diverged"] * 2
    assert len(stacked([replace(RUN, eta=3.4e38), *RUNS[:2]], "numpy", most=9)) == 1


# On a device.


@pytest.fixture
def device(monkeypatch):
    """The stand-in in CuPy's place, as much memory as `device.free` says."""
    found = types.SimpleNamespace(free=1e10)

    def load(name):
        return standin if name == "cupy" else numpy

    for file in (runner, stacks, state):
        monkeypatch.setattr(file, "load_backend", load)
    monkeypatch.setattr(stacks, "free_memory", lambda xp: found.free)
    made_up = origin("numpy") | {"backend": "cupy 0"}

    def of_device(name, is_stacked=False):
        return made_up | {"kernels": "cupy stacked" if is_stacked else "cupy"}

    monkeypatch.setattr(state, "origin", of_device)
    standin.reset()
    return found


def test_on_a_device_all_are_stacked_that_fit_and_fewer_where_more_processes_share_it(device):
    runs = grid(RUN, seed=range(12))
    together, each = memory(RUN)
    for fitting, size in ((1, 1), (3, 3), (5, 4), (12, 12), (100, 12)):
        device.free = (together + (fitting + 0.5) * each) / stacks.USABLE
        assert max(len(stack) for stack in stacked(runs, "cupy")) == size
    device.free = 2 * (together + 3.5 * each) / stacks.USABLE
    assert max(len(stack) for stack in stacked(runs, "cupy", jobs=2)) == 3
    assert max(len(stack) for stack in stacked(runs, "cupy", most=2)) == 2
    device.free = 0
    assert stacked(runs, "cupy") == [[run] for run in runs]


def test_what_the_paper_stacks_fits_into_80_gigabytes(device):
    """Figure 1's 15 runs of MLP-5-2000 as well."""
    device.free = 79e9
    for name, figure in FIGURES.items():
        runs = Plan(name, "paper").runs()
        assert len(stacked(runs, "cupy")) == len(stacked(runs, "numpy", most=99)), name


def test_the_free_memory_is_what_the_device_has_and_what_is_kept_for_reuse():
    pool = types.SimpleNamespace(free_bytes=lambda: 30)
    cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(memGetInfo=lambda: (100, 1000)))
    library = types.SimpleNamespace(cuda=cuda, get_default_memory_pool=lambda: pool)
    assert backend.free_memory(library) == 130
    assert backend.free_memory(numpy) == math.inf


def test_the_memory_counts_all_test_samples_and_the_largest_batch():
    assert memory(replace(RUN, m_test=0)) == memory(replace(RUN, m_test=10_000)) > memory(RUN)
    sizes = [memory(replace(RUN, tail_epochs=1, **tail)) for tail in WAYS.values()]
    assert sizes == [memory(RUN), memory(RUN), memory(replace(RUN, B=60))]


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "MLP-2-300"},
        {"network": "MLP-BN-2-100", "B": 50},
        {"network": "RES-BN-1-150", "detached": False, "scalar": False},
    ],
    ids=str,
)
def test_a_stack_takes_no_more_memory_than_is_foreseen_for_it(tmp_path, device, fields):
    """By the peak of all that the stand-in allocates, with one run that diverges; and a third at least."""
    runs = [replace(RUN, **fields, m=300, epochs=2, eta=eta) for eta in (0.01, 0.02, 0.03, 1e30)]
    together, each = memory(runs[0])
    foreseen = together + len(runs) * each
    where = Where(str(tmp_path), backend="cupy")
    runner.on_device(runs[0], where)
    tracemalloc.start()
    try:
        train(runs, where)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert foreseen / 3 < peak < foreseen


def test_on_a_device_a_stack_equals_runs_alone_within_rounding_and_says_that_it_was_one(tmp_path, device):
    """Its products are written otherwise: the same numbers in another order."""
    runs = [replace(run, network="MLP-2-8", epochs=2, eta=0.01) for run in RUNS]
    expected = alone(runs, tmp_path / "alone", backend="cupy")
    found = side_by_side(runs, tmp_path / "stack", backend="cupy")
    for run, (meta, arrays) in expected.items():
        assert meta["provenance"][0]["kernels"] == "cupy"
        assert found[run][0]["provenance"][0]["kernels"] == "cupy stacked"
        assert list(found[run][1]) == list(arrays)
        for name, array in arrays.items():
            numpy.testing.assert_allclose(found[run][1][name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_training_a_stack_waits_for_the_device_at_measurements_alone_and_copies_no_matrix(
    tmp_path, device, monkeypatch
):
    """What is copied for a matrix is U, and v, or W itself where that is smaller; and all is float32."""
    runs = [replace(run, network="MLP-BN-2-40", epochs=2) for run in RUNS]
    graph = runs[0].graph()
    widths = [(graph.width(p), graph.width(q)) for p, q in graph.E_T]
    of_step = len(runs) * sum(RUN.B * d_p + min(RUN.B, d_p) * d_q for d_p, d_q in widths)
    train_epoch = runner.train_epoch
    epochs = []

    def watched(*args):
        standin.reset()
        train_epoch(*args)
        floats = {made.name for made in standin.dtypes if made.kind == "f"}
        epochs.append((standin.synchronizations, standin.copied, floats))

    monkeypatch.setattr(runner, "train_epoch", watched)
    train(runs, Where(str(tmp_path), backend="cupy"))
    assert epochs == [(0, RUN.steps() * of_step, {"float32"})] * 2


@pytest.mark.gpu
def test_on_cupy_a_stack_equals_runs_alone_within_rounding(tmp_path):
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("CuPy finds no CUDA GPU on this machine")
    runs = [replace(run, network="MLP-2-8", epochs=2, eta=0.01) for run in RUNS]
    expected = alone(runs, tmp_path / "alone", backend="cupy")
    where = Where(str(tmp_path / "stack"), backend="cupy", keep_weights=True)
    found = complete(runs, where)
    for run, (_, arrays) in expected.items():
        for name, array in arrays.items():
            numpy.testing.assert_allclose(found[run][1][name], array, rtol=1e-3, atol=1e-4, err_msg=name)
