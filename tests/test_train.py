"""The loop of an experiment: what it stores, how it resumes, and when a run ends early."""

import json
import os
import re
import resource
import shutil
import subprocess
import types
from dataclasses import replace

import fake_cupy
import numpy
import pytest
from threadpoolctl import threadpool_info

import minigrad as mg
from experiments import provenance, store, train
from experiments.runs import Run, grid
from experiments.train import Config, State, has_collapsed, load, rows_of, stacked
from minigrad.train import batches, train_step
from training import COLLAPSING, DIVERGING, RUN, RUNS, Stop, alone, assert_only_results, assert_same
from training import assert_same_bits, side_by_side, stop_after, stored

HERE = provenance.provenance("numpy", provenance.engine_of(RUN, Config()))
EDGES = ("2-1", "3-2", "4-3")
SCALARS = ("distance", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """RUNS, each trained alone and without a stop."""
    return alone(RUNS, tmp_path_factory.mktemp("alone"))


@pytest.fixture
def save_always(monkeypatch):
    """A checkpoint after every epoch."""
    monkeypatch.setattr(train, "SAVE_EVERY", 0)


def interrupted(runs, results, epochs):
    """Leave checkpoints of a stack after so many epochs."""
    # One call for what is stored, one for each run at its start and after each epoch.
    calls = 1 + len(runs) * (1 + epochs) + 1
    with pytest.raises(Stop):
        train.train(runs, Config(str(results), keep_weights=True), stop_after(calls))
    for run in runs:
        assert store.read(store.checkpoint_path(results, run), run)[0]["epoch"] == epochs


def refused(runs, results, *words):
    """The one sentence of a StoreError."""
    with pytest.raises(store.StoreError) as error:
        train.train(runs, Config(str(results)))
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words)


# What a result holds.


def test_a_finished_run_holds_its_fields_its_provenance_and_every_measured_number(expected):
    meta, arrays = expected[RUN]
    assert meta == {
        "run": RUN.as_dict(),
        "status": "finished",
        "epoch": 14,
        "rules": "",
        "provenance": [HERE],
    }
    epochs = [*range(11), 12, 14]
    assert arrays["epoch"].tolist() == epochs
    for name in SCALARS:
        assert arrays[name].shape == (len(epochs),)
        assert arrays[name].dtype == "float64"
        assert numpy.isfinite(arrays[name][1:]).all()
    assert numpy.isnan(arrays["distance"][0])
    for edge in EDGES:
        last = mg.singular_values(arrays[f"W {edge}"]).astype("float32")
        numpy.testing.assert_array_equal(arrays[f"spectrum {edge}"][-1], last, strict=True)
    for name in ("gamma", "beta"):
        for p in (2, 3):
            assert arrays[f"{name} {p}"].shape == (len(epochs), 1)
            assert arrays[f"{name} {p}"][-1] == arrays[f"W {name}-{p}"][0]
            assert arrays[f"{name} {p}"][0] == (name == "gamma")


def by_hand(run):
    """(epoch, params before, params after) with every step written out."""
    data = mg.load_dataset(run.dataset)
    by_class = [numpy.flatnonzero(data.y_train[:, c])[: run.m // 10] for c in range(10)]
    rows = numpy.sort(numpy.concatenate(by_class))
    x, y = data.x_train[rows], data.y_train[rows]
    graph = run.graph()
    params = mg.init_params(graph, numpy.random.default_rng(run.seed))
    velocity = {key: 0 * W for key, W in params.items()}
    for epoch in range(1, run.epochs + 1):
        before = {key: W.copy() for key, W in params.items()}
        order = numpy.random.default_rng((run.seed, epoch)).permutation(run.m)
        eta = run.eta * run.factor ** sum(epoch > milestone for milestone in run.milestones)
        for step in range(run.m // run.B):
            batch = order[step * run.B : (step + 1) * run.B]
            cache = mg.forward(graph, params, x[batch])
            _, df = mg.cross_entropy(cache.v[graph.L], y[batch])
            grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
            for key, g in grads.items():
                if key in graph.E_T:
                    g = g + 2 * run.lam * params[key]
                velocity[key] = run.momentum * velocity[key] + g
                params[key] = params[key] - eta * velocity[key]
        yield epoch, before, params


@pytest.mark.parametrize("network", ["MLP-2-8", "MLP-BN-1-8"])
def test_every_epoch_is_that_of_a_training_written_out_by_hand(tmp_path, network):
    """Distances of Section 4.2, spectra, gamma; with momentum, and a drop of eta."""
    run = replace(RUN, network=network, eta=0.05, milestones=(2,), epochs=3)
    _, arrays = alone([run], tmp_path)[run]
    for epoch, before, after in by_hand(run):
        moved = []
        for p, q in run.graph().E_T:
            W = after[p, q].astype("float64")
            moved.append(numpy.linalg.norm(W - before[p, q]))
            s = numpy.linalg.svd(W, compute_uv=False)
            spectrum = arrays[f"spectrum {p}-{q}"][epoch]
            numpy.testing.assert_allclose(spectrum, s, rtol=1e-3, atol=1e-5)
        numpy.testing.assert_allclose(arrays["distance"][epoch], numpy.mean(moved), rtol=1e-3)
        if run.normalized():
            gamma = arrays["gamma 2"][epoch]
            numpy.testing.assert_allclose(gamma, after["gamma", 2][0], rtol=1e-3)


def test_the_distance_is_that_of_one_epoch_also_where_few_epochs_are_measured(tmp_path, expected):
    """d(W_{t+1}, W_t): the epochs between two measurements must not add up."""
    often = replace(RUN, measure_every=1)
    _, rare = expected[RUN]
    _, all_epochs = alone([often], tmp_path)[often]
    both = rare["epoch"].astype(int)
    for name in SCALARS:
        numpy.testing.assert_array_equal(rare[name], all_epochs[name][both], err_msg=name)


def test_the_last_numbers_are_those_of_the_kept_weights(expected):
    """At test time: the statistics of the full training set, for the test set too."""
    _, arrays = expected[RUN]
    graph = RUN.graph()
    params = {(p, q): arrays[f"W {p}-{q}"] for p, q in graph.E_T}
    for p in (2, 3):
        params["gamma", p] = arrays[f"W gamma-{p}"]
        params["beta", p] = arrays[f"W beta-{p}"]
    x, y, x_test, y_test = load(RUN, Config())
    f, stats = mg.predict(graph, params, x)
    f_test, _ = mg.predict(graph, params, x_test, stats)
    for part, output, target in (("train", f, y), ("test", f_test, y_test)):
        shifted = output.astype("float64") - output.max(axis=-1, keepdims=True)
        loss = numpy.log(numpy.exp(shifted).sum(axis=-1)) - (shifted * target).sum(axis=-1)
        numpy.testing.assert_allclose(arrays[f"{part}_loss"][-1], loss.mean(), rtol=1e-5)
        right = output.argmax(axis=-1) == target.argmax(axis=-1)
        assert arrays[f"{part}_accuracy"][-1] == right.mean()


@pytest.mark.parametrize("steps_of_B", [0, 5, 16, 25, 60])
def test_epochs_take_the_next_batches_of_one_pass_after_another(steps_of_B):
    m, epochs = 60, 9
    run = replace(RUN, steps_of_B=steps_of_B)
    taken = [rows_of(run, m, epoch) for epoch in range(1, epochs + 1)]
    S = m // (steps_of_B or 16)
    assert {rows.shape for rows in taken} == {(S, 16)}
    steps = numpy.concatenate(taken)
    passes = [batches(m, 16, run.seed, number) for number in range(1, 1 + len(steps))]
    numpy.testing.assert_array_equal(steps, numpy.concatenate(passes)[: len(steps)])


def test_a_pass_takes_each_sample_once():
    run = replace(RUN, B=15, steps_of_B=30, epochs=1)  # two epochs are a pass
    rows = numpy.concatenate([rows_of(run, 60, epoch) for epoch in (3, 4)])
    assert sorted(rows.ravel()) == list(range(60))


def test_a_subset_has_as_many_samples_of_every_class_in_the_file_s_order():
    data = mg.load_dataset("synthetic-mnist")
    x, y, x_test, y_test = load(RUN, Config())
    assert (y.sum(axis=0) == 6).all()
    assert (y_test.sum(axis=0) == 6).all()
    for part, whole in ((x, data.x_train), (x_test, data.x_test)):
        places = [numpy.flatnonzero((whole == row).all(axis=1)).item() for row in part]
        assert places == sorted(places)
        assert max(places) < 200


@pytest.mark.parametrize("field", ["m", "m_test"])
def test_more_samples_than_the_data_set_has_are_refused(tmp_path, field):
    with pytest.raises(mg.DataError, match=f"{field}=30000"):
        train.train([replace(RUN, **{field: 30000})], Config(str(tmp_path)))


def test_weights_that_are_asked_for_later_are_trained_anew_to_the_same_numbers(tmp_path, expected):
    train.train([RUN], Config(str(tmp_path)))
    meta, arrays = stored(RUN, tmp_path)
    history = {n: array for n, array in expected[RUN][1].items() if not n.startswith("W ")}
    assert_same_bits(arrays, history)
    assert_same(alone([RUN], tmp_path), {RUN: expected[RUN]})


def test_the_progress_adds_up_to_the_costs(tmp_path, save_always):
    """Also if resumed, if runs end early, and if one ends at the epoch at which another waits."""
    lasting = replace(DIVERGING, eta=0.01)
    _, ended = alone([DIVERGING], tmp_path / "alone")[DIVERGING]
    interrupted([lasting], tmp_path, int(ended["epoch"][-1]))
    done = []
    train.train([DIVERGING, lasting], Config(str(tmp_path)), done.append)
    numpy.testing.assert_allclose(sum(done), DIVERGING.cost() + lasting.cost(), rtol=1e-9)


def test_training_uses_one_blas_thread_and_gives_the_others_back(tmp_path):
    def threads():
        return [library["num_threads"] for library in threadpool_info()]

    before, during = threads(), []
    train.train([replace(RUN, epochs=1)], Config(str(tmp_path)), lambda _: during.extend(threads()))
    assert set(during) == {1}
    assert threads() == before


# Interrupted and resumed.


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "MLP-BN-2-8"},
        {"network": "RES-BN-1-8"},
        {"network": "MLP-BN-2-8", "detached": False, "scalar": False},
        {"network": "MLP-1-8", "steps_of_B": 25},  # an epoch ends in the middle of a pass
    ],
    ids=str,
)
def test_a_run_resumed_in_every_epoch_equals_an_uninterrupted_one(tmp_path, fields, save_always):
    run = replace(RUN, **fields, eta=0.01)
    expected = alone([run], tmp_path / "whole")
    config = Config(str(tmp_path), keep_weights=True)
    for _ in range(run.epochs - 1):
        with pytest.raises(Stop):  # before its second epoch
            train.train([run], config, stop_after(4))
    assert store.read(store.checkpoint_path(tmp_path, run), run)[0]["epoch"] == run.epochs - 1
    assert_same(alone([run], tmp_path), expected)


def test_a_stack_of_runs_at_different_epochs_goes_on_to_the_same_bits(
    tmp_path, expected, save_always
):
    """One at epoch 5, one at 2, one not begun; then stopped at every call of progress."""
    interrupted(RUNS[:1], tmp_path, 5)
    interrupted(RUNS[1:2], tmp_path, 2)
    for calls in range(5, 100):
        try:
            train.train(RUNS, Config(str(tmp_path), keep_weights=True), stop_after(calls))
            break
        except Stop:
            continue
    assert 8 < calls < 99
    assert_same({run: stored(run, tmp_path) for run in RUNS}, expected)
    assert_only_results(tmp_path, RUNS)


def test_a_stack_s_checkpoints_are_continued_by_each_alone(tmp_path, expected, save_always):
    interrupted(RUNS, tmp_path, 4)
    assert_same(alone(RUNS, tmp_path), expected)


@pytest.mark.parametrize("run", [DIVERGING, COLLAPSING], ids=["diverged", "collapsed"])
def test_a_run_that_ends_early_resumes_to_the_same_end(tmp_path, run, save_always):
    expected = alone([run], tmp_path / "whole")
    interrupted([run], tmp_path, expected[run][0]["epoch"])
    assert_same(alone([run], tmp_path), expected)


@pytest.mark.parametrize("part", ["backend", "engine", "device", "blas"])
def test_a_checkpoint_of_other_last_bits_is_refused_and_kept(tmp_path, part, save_always):
    interrupted([RUN], tmp_path, 2)
    path = store.checkpoint_path(tmp_path, RUN)
    meta, arrays = store.read(path, RUN)
    meta["provenance"][-1][part] = "another 1.0"
    store.write(path, meta, arrays)
    written = path.read_bytes()
    refused([RUN], tmp_path, str(path), part, "another 1.0", "delete")
    assert path.read_bytes() == written


def test_a_damaged_checkpoint_is_refused_and_its_neighbours_stay(tmp_path, save_always):
    interrupted(RUNS, tmp_path, 2)
    paths = [store.checkpoint_path(tmp_path, run) for run in RUNS]
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    whole = [path.read_bytes() for path in paths]
    refused(RUNS, tmp_path, str(paths[1]), "delete")
    assert [path.read_bytes() for path in paths] == whole


def test_another_machine_that_goes_on_with_a_run_is_added_to_its_provenance(
    tmp_path, monkeypatch, save_always
):
    interrupted([RUN], tmp_path, 2)
    there = HERE | {"machine": "another"}
    monkeypatch.setattr(train, "provenance", lambda *_: there)
    assert alone([RUN], tmp_path)[RUN][0]["provenance"] == [HERE, there]


@pytest.mark.parametrize("at_the_end", [False, True], ids=["checkpoint", "result"])
def test_a_full_disk_is_one_sentence_and_loses_nothing(
    tmp_path, expected, at_the_end, monkeypatch
):
    """A limit on the size of files stands for the disk."""
    alone(RUNS[1:2], tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(train, "SAVE_EVERY", 0)
        interrupted([RUN], tmp_path, 3)
    path = store.checkpoint_path(tmp_path, RUN)
    written = path.read_bytes()
    monkeypatch.setattr(train, "SAVE_EVERY", 1e9 if at_the_end else 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        refused([RUN], tmp_path, "can't be written", "no finished run is lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == written
    assert sorted(found.suffix for found in tmp_path.glob("*")) == ["", ".npz", ".npz"]
    assert_same(alone(RUNS[:2], tmp_path), {run: expected[run] for run in RUNS[:2]})


# Side by side.


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "MLP-2-8", "loss": "mean_squared_error"},
        {"network": "MLP-BN-2-9", "detached": False, "scalar": False},
        {"network": "RES-BN-1-8", "steps_of_B": 25},
    ],
    ids=str,
)
def test_runs_side_by_side_equal_each_alone_bit_for_bit(tmp_path, fields):
    runs = [replace(run, **fields, epochs=6) for run in RUNS]
    assert_same(side_by_side(runs, tmp_path / "stack"), alone(runs, tmp_path / "alone"))


def test_runs_that_end_early_leave_their_neighbours_as_they_are(tmp_path):
    """And are stored at once."""
    lasting = [replace(DIVERGING, eta=0.01), replace(DIVERGING, eta=0.003, seed=1)]
    ending = [DIVERGING, replace(DIVERGING, eta=50.0, seed=1)]
    runs = [ending[0], lasting[0], ending[1], lasting[1]]
    expected = alone(runs, tmp_path / "alone")
    early, config = set(), Config(str(tmp_path), keep_weights=True)

    def look(seconds):
        if config.missing(lasting) == lasting:
            early.update(set(runs) - set(config.missing(runs)))

    train.train(runs, config, look)
    assert early == set(ending)
    assert_same({run: stored(run, tmp_path) for run in runs}, expected)


def test_numpy_stacks_none_unless_asked_and_no_more_than_asked():
    runs = grid(RUN, seed=range(9))
    assert stacked(runs, Config()) == [[run] for run in runs]
    for most, sizes in ((4, [3, 3, 3]), (8, [5, 4]), (9, [9]), (20, [9])):
        assert [len(stack) for stack in stacked(runs, Config(stack=most))] == sizes


def test_runs_are_stacked_that_differ_in_eta_lambda_momentum_and_seed_alone():
    others = [replace(RUN, B=8), replace(RUN, epochs=3), replace(RUN, milestones=()), *RUNS]
    assert sorted(map(len, stacked(others, Config(stack=9)))) == [1, 1, 1, 3]


@pytest.fixture
def device(monkeypatch):
    """A fake CuPy."""
    monkeypatch.setattr(train, "load_backend", lambda name: fake_cupy if name == "cupy" else numpy)
    monkeypatch.setattr(train, "provenance", lambda *_: HERE)


def test_on_a_device_all_that_are_alike_are_stacked():
    runs = grid(RUN, seed=range(12))
    assert stacked(runs, Config(backend="cupy")) == [runs]


def test_on_a_device_a_stack_equals_runs_alone_and_waits_at_measurements_alone(
    tmp_path, device, monkeypatch
):
    """Within rounding; everything on the device is float32."""
    runs = [replace(run, network="MLP-2-8", epochs=2, eta=0.01) for run in RUNS]
    expected = alone(runs, tmp_path / "alone")
    train_epoch, seen = train.train_epoch, []

    def watched(*args):
        fake_cupy.reset()
        train_epoch(*args)
        kinds = {str(made) for made in fake_cupy.dtypes if numpy.dtype(made).kind == "f"}
        seen.append((fake_cupy.waits, kinds))

    monkeypatch.setattr(train, "train_epoch", watched)
    found = side_by_side(runs, tmp_path / "stack", backend="cupy")
    assert seen == [(0, {"float32"})] * 2
    for run, (_, arrays) in expected.items():
        for name, array in arrays.items():
            numpy.testing.assert_allclose(
                found[run][1][name], array, rtol=1e-4, atol=1e-5, err_msg=name
            )


# Divergence.


def test_a_diverged_run_is_stored_as_that_with_its_numbers_up_to_there(tmp_path):
    meta, arrays = alone([DIVERGING], tmp_path)[DIVERGING]
    assert meta["status"] == "diverged"
    assert 1 < meta["epoch"] < DIVERGING.epochs
    assert arrays["epoch"].tolist() == list(range(meta["epoch"] + 1))
    *earlier, last = arrays["train_loss"]
    assert numpy.isfinite(earlier).all()
    assert not numpy.isfinite(last)
    assert max(earlier) > 1e3
    assert_only_results(tmp_path, [DIVERGING])


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "MLP-2-8", "eta": 1e20},
        {"network": "MLP-BN-2-8", "eta": 1e20},
        {"network": "MLP-BN-2-8", "eta": 1e20, "loss": "mean_squared_error"},
    ],
    ids=str,
)
def test_numbers_that_are_not_finite_are_stored_as_such_and_never_as_zero(tmp_path, fields):
    run = replace(RUN, **fields)
    meta, arrays = alone([run], tmp_path)[run]
    assert meta["status"] == "diverged"
    for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "spectrum 2-1"):
        assert not numpy.isfinite(arrays[name][-1]).any(), name


def test_a_run_that_diverges_between_two_measurements_ends_at_the_next(tmp_path):
    run = replace(DIVERGING, eta=5.0, epochs=60, measure_every=20)
    meta, arrays = alone([run], tmp_path)[run]
    assert meta["status"] == "diverged"
    assert meta["epoch"] == arrays["epoch"][-1]
    assert meta["epoch"] in (20, 40)


# Collapse (DESIGN 4.14).


def test_a_collapsed_run_ends_measured_and_as_one_that_is_trained_on(tmp_path, monkeypatch):
    meta, arrays = alone([COLLAPSING], tmp_path)[COLLAPSING]
    assert meta["status"] == "collapsed"
    assert 0 < meta["epoch"] == arrays["epoch"][-1] < COLLAPSING.epochs
    monkeypatch.setattr(train, "has_collapsed", lambda state: False)
    _, trained_on = alone([COLLAPSING], tmp_path / "on")[COLLAPSING]
    assert len(trained_on["epoch"]) > len(arrays["epoch"])
    for name in ("epoch", *SCALARS, "spectrum 3-2", "gamma 2", "beta 3"):
        part = trained_on[name][: len(arrays[name])]
        numpy.testing.assert_array_equal(arrays[name], part, err_msg=name)
    for name in ("gamma 2", "gamma 3", "beta 2", "beta 3"):
        numpy.testing.assert_allclose(trained_on[name][-1], trained_on[name][-2], rtol=0.1)


def outlier(run, rng):
    """A batch of which one sample differs from the others: normalized values of sqrt(B - 1)."""
    x = numpy.zeros((run.B, 784), "float32")
    x[0] = rng.normal(size=784)
    return x


def outputs_differ(state, x):
    """Whether f, in training mode, depends on the sample."""
    graph = state.run.graph()
    f = mg.forward(graph, state.params, x).v[graph.L]
    return bool((f != f[0]).any())


def depends_on_x(state, rng, steps=50):
    """Whether f depends on x now or during so many steps; every batch has an outlier."""
    run, graph = state.run, state.run.graph()
    for _ in range(steps):
        x = outlier(run, rng)
        if outputs_differ(state, x) or outputs_differ(state, -x):
            return True
        y = numpy.eye(10, dtype="float32")[rng.integers(0, 10, run.B)]
        eta = train.eta_of(run, state.epoch + 1)
        train_step(
            graph, state.params, state.velocity, x, y, run.loss, eta, run.lam, run.momentum
        )
    return False


def made_up(run, rng, **values):
    """A State at initialization whose layer 2 has these values of gamma, beta, and velocities."""
    state = State.begin(run, Config("nowhere"))
    for name in ("gamma", "beta"):
        state.params[name, 2][...] = values[name]
        state.velocity[name, 2][...] = values.get(f"v_{name}", 0)
    return state


@pytest.mark.parametrize("fields", [{}, {"detached": False}, {"scalar": False}], ids=str)
@pytest.mark.parametrize("case", range(5))
def test_a_network_declared_collapsed_does_not_depend_on_x_and_never_will(rng, fields, case):
    """At the very bound: gamma and beta move by momentum as far towards being on as they can."""
    run = replace(RUN, **fields, momentum=rng.uniform(0, 0.9), eta=rng.uniform(0.01, 0.5))
    state = made_up(run, rng, gamma=1, beta=0)
    for key, W in state.params.items():
        W += rng.normal(size=W.shape)
        state.velocity[key] += rng.normal(size=W.shape)
    p = rng.integers(2, 4)
    gamma, beta = state.params["gamma", p], state.params["beta", p]
    v_gamma, v_beta = state.velocity["gamma", p], state.velocity["beta", p]
    v_gamma[...] = -numpy.sign(gamma) * abs(v_gamma)
    v_beta[...] = -abs(v_beta)
    reach = run.eta * run.momentum / (1 - run.momentum)
    bound = (abs(gamma) + reach * abs(v_gamma)) * run.B**0.5 + reach * abs(v_beta)
    beta[...] = -bound + 0.01 * abs(bound)
    assert not has_collapsed(state)
    beta[...] = -bound - 1e-5 * abs(bound)
    assert has_collapsed(state)
    x = 10.0 ** rng.integers(-3, 4) * rng.normal(size=(100, run.B, 784)).astype("float32")
    assert not outputs_differ(state, x.astype("float32"))
    assert not depends_on_x(state, rng)


# The bound without this term would declare it collapsed; reach is 0.9 and sqrt(B) is 4.
WITHOUT = {
    "sqrt(B)": {"gamma": 1.0, "beta": -2.0},
    "|gamma|": {"gamma": -1.0, "beta": -2.0},
    "r_gamma": {"gamma": 0.1, "beta": -2.0, "v_gamma": -1.0},
    "r_beta": {"gamma": 0.1, "beta": -0.5, "v_beta": -1.0},
    "all units": {"gamma": 0.1, "beta": [-1, -1, -1, 0.1, -1, -1, -1, -1]},
}


@pytest.mark.parametrize("term", WITHOUT)
def test_every_term_of_the_bound_is_needed(rng, term):
    run = replace(RUN, eta=0.1, momentum=0.9, milestones=(), scalar=term != "all units")
    state = made_up(run, rng, **WITHOUT[term])
    assert not has_collapsed(state)
    assert depends_on_x(state, rng)


def test_a_residual_path_or_another_activation_keeps_a_network_from_collapse(rng):
    off = {"gamma": 0.1, "beta": -1.0}
    assert has_collapsed(made_up(RUN, rng, **off))
    residual = State.begin(replace(RUN, network="RES-BN-1-8"), Config("nowhere"))
    for p in (3, 4):
        residual.params["gamma", p][...] = off["gamma"]
        residual.params["beta", p][...] = off["beta"]
    assert not has_collapsed(residual)
    assert outputs_differ(residual, outlier(RUN, rng))
    hidden = mg.Layer(8, "relu", batchnorm=True)
    for activation in ("identity", "leaky_relu", "relu"):
        layers = (mg.Layer(784), replace(hidden, activation=activation), mg.Layer(10, "identity"))
        graph = mg.Graph(layers, (mg.Edge(2, 1), mg.Edge(3, 2)))
        state = made_up(replace(RUN, network="MLP-BN-1-8"), rng, **off)
        state.run = types.SimpleNamespace(
            graph=lambda: graph, B=16, eta=0.1, milestones=(), factor=1, momentum=0.9
        )
        assert has_collapsed(state) == (activation == "relu")
        assert outputs_differ(state, outlier(RUN, rng)) == (activation != "relu")


# Provenance.


def test_provenance_names_versions_engine_and_machine():
    found = HERE
    assert json.loads(json.dumps(found)) == found
    assert found["backend"] == f"numpy {numpy.__version__}"
    assert set(provenance.BITS_DEPEND_ON) < set(found)
    assert found["engine"]
    assert re.fullmatch(r"unknown|[0-9a-f]{40}(-dirty)?", found["commit"])


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_commit_is_that_of_the_checkout_and_says_whether_it_was_changed(tmp_path, monkeypatch):
    """Outside a checkout, and inside another project's, there is none to name."""
    ours = tmp_path / "provenance.py"
    ours.touch()
    monkeypatch.setattr(provenance, "__file__", str(ours))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit() == "unknown"

    def git(*args):
        names = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM")
        env = os.environ | dict.fromkeys(names, os.devnull)
        command = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *args]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
        return done.stdout.strip()

    git("init")
    git("commit", "--allow-empty", "-m", "another project's")
    assert provenance.commit() == "unknown"
    git("add", "provenance.py")
    git("commit", "-m", "ours")
    head = git("rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as in a hook of another repository
    assert provenance.commit() == head
    ours.write_text("# changed")
    assert provenance.commit() == head + "-dirty"
