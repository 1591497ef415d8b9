"""The loop of an experiment: what it stores, how it resumes, and when a run ends early."""

import json
import os
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import fake_cupy
import numpy
import pytest
from threadpoolctl import threadpool_info

import minigrad as mg
from experiments import provenance, store, train
from experiments.runs import Run
from experiments.train import Config, State, has_collapsed, load, rows_of, stacked
from minigrad import fast
from minigrad.train import batches, train_step
from training import COLLAPSING, DIVERGING, RUN, assert_only_results, assert_same, stored, trained

HERE = State.begin(RUN, Config("nowhere")).provenance[0]
# Each with an eta, a lambda, a momentum and a seed of its own.
SETTINGS = ((0.1, 1e-3, 0.9), (0.03, 0.0, 0.5), (0.01, 1e-2, 0.0))
RUNS = [
    replace(RUN, eta=eta, lam=lam, momentum=momentum, seed=seed)
    for seed, (eta, lam, momentum) in enumerate(SETTINGS)
]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """RUNS, each trained alone and without a stop."""
    return trained(RUNS, tmp_path_factory.mktemp("alone"))


@pytest.fixture
def save_always(monkeypatch):
    """A checkpoint after every epoch."""
    monkeypatch.setattr(train, "SAVE_EVERY", 0)


class Stop(Exception):
    """Ends a training, as Ctrl-C would."""


def interrupted(runs, results, epoch):
    """Leave checkpoints of a stack at this epoch."""

    def stop(run, fraction):
        if round(fraction * run.epochs) >= epoch:
            raise Stop

    with pytest.raises(Stop):
        train.train(runs, Config(str(results), keep_weights=True), stop)
    for run in runs:
        assert store.read(store.checkpoint_path(results, run), run)[0]["epoch"] == epoch


def test_a_finished_run_holds_its_fields_its_provenance_and_every_measured_number(expected):
    meta, arrays = expected[RUN]
    assert meta["run"] == json.loads(json.dumps(asdict(RUN))) and meta["provenance"] == [HERE]
    assert (meta["status"], meta["epoch"], meta["rules"]) == ("finished", 14, "")
    assert HERE["engine"] == ("reference" if fast.unavailable() else fast.version())
    by_rules = State.begin(RUN, Config("nowhere", engine="reference")).provenance[0]
    assert by_rules == HERE | {"engine": "reference"}
    assert arrays["epoch"].tolist() == [*range(11), 12, 14]
    assert numpy.isnan(arrays["distance"][0])
    for name in train.MEASURED:
        assert arrays[name].shape == (13,) and arrays[name].dtype == "float64"
        assert numpy.isfinite(arrays[name][1:]).all()
    assert arrays["spectrum 2-1"].dtype == arrays["gamma 2"].dtype == "float32"


def test_every_epoch_is_that_of_a_training_written_out_by_hand(tmp_path):
    """Distances of Section 4.2, spectra, gamma; with momentum, and a drop of eta."""
    run = replace(RUN, network="MLP-BN-1-8", eta=0.05, milestones=(2,), epochs=3)
    _, arrays = trained([run], tmp_path)[run]
    data, graph = mg.load_dataset(run.dataset), run.graph()
    by_class = [numpy.flatnonzero(data.y_train[:, c])[: run.m // 10] for c in range(10)]
    rows = numpy.sort(numpy.concatenate(by_class))
    params = mg.init_params(graph, numpy.random.default_rng(run.seed))
    velocity = {key: 0 * W for key, W in params.items()}
    for epoch, eta in ((1, 0.05), (2, 0.05), (3, 0.005)):
        before = {key: W.copy() for key, W in params.items()}
        order = numpy.random.default_rng((run.seed, epoch)).permutation(60)
        for batch in (rows[order[:16]], rows[order[16:32]], rows[order[32:48]]):
            x, y = data.x_train[batch], data.y_train[batch]
            train_step(graph, params, velocity, x, y, run.loss, eta, run.lam, run.momentum)
        moved = [numpy.linalg.norm(params[edge] - before[edge]) for edge in graph.E_T]
        numpy.testing.assert_allclose(arrays["distance"][epoch], numpy.mean(moved), rtol=1e-3)
        for p, q in graph.E_T:
            s = numpy.linalg.svd(params[p, q].astype("float64"), compute_uv=False)
            spectrum = arrays[f"spectrum {p}-{q}"][epoch]
            numpy.testing.assert_allclose(spectrum, s, rtol=1e-3, atol=1e-5)
        gamma = params["gamma", 2][0]
        numpy.testing.assert_allclose(arrays["gamma 2"][epoch], gamma, rtol=1e-3)


def test_the_distance_is_that_of_one_epoch_also_where_few_epochs_are_measured(tmp_path, expected):
    """d(W_{t+1}, W_t): the epochs between two measurements must not add up."""
    often = replace(RUN, measure_every=1)
    _, arrays = trained([often], tmp_path)[often]
    rarely = expected[RUN][1]["distance"]
    numpy.testing.assert_array_equal(rarely[-2:], arrays["distance"][[12, 14]])


def test_the_last_numbers_are_those_of_the_kept_weights(expected):
    """At test time: the statistics of the full training set, for the test set too."""
    _, arrays = expected[RUN]
    graph = RUN.graph()
    params = {key: arrays[f"W {key[0]}-{key[1]}"] for key in graph.shapes()}
    x, y, x_test, y_test = load(RUN, Config())
    assert (y_test.sum(axis=0) == 6).all()
    f, stats = mg.predict(graph, params, x)
    f_test, _ = mg.predict(graph, params, x_test, stats)
    for part, output, target in (("train", f, y), ("test", f_test, y_test)):
        loss, _ = mg.cross_entropy(output, target)
        numpy.testing.assert_allclose(arrays[f"{part}_loss"][-1], loss, rtol=1e-5)
        right = output.argmax(axis=-1) == target.argmax(axis=-1)
        assert arrays[f"{part}_accuracy"][-1] == right.mean()


@pytest.mark.parametrize("steps_of_B", [0, 5, 25])
def test_epochs_take_the_next_batches_of_one_pass_after_another(steps_of_B):
    run = replace(RUN, steps_of_B=steps_of_B)
    taken = [rows_of(run, 60, epoch) for epoch in range(1, 10)]
    assert {len(rows) for rows in taken} == {60 // (steps_of_B or 16)}
    steps = numpy.concatenate(taken)
    passes = [batches(60, 16, run.seed, number) for number in range(1, 1 + len(steps))]
    numpy.testing.assert_array_equal(steps, numpy.concatenate(passes)[: len(steps)])


@pytest.mark.parametrize("field", ["m", "m_test"])
def test_more_samples_than_the_data_set_has_are_refused(tmp_path, field):
    with pytest.raises(mg.DataError, match="30000"):
        train.train([replace(RUN, **{field: 30000})], Config(str(tmp_path)))


def test_weights_that_are_asked_for_later_are_trained_anew_to_the_same_numbers(tmp_path, expected):
    train.train([RUN], Config(str(tmp_path)))
    meta, arrays = expected[RUN]
    history = {name: array for name, array in arrays.items() if not name.startswith("W ")}
    assert_same({RUN: stored(RUN, tmp_path)}, {RUN: (meta, history)})
    assert_same(trained([RUN], tmp_path), {RUN: expected[RUN]})


def test_the_progress_of_every_run_grows_to_its_end(tmp_path, save_always):
    """Also if it is resumed, ends early, or has been trained meanwhile. BLAS has one thread."""
    runs = [DIVERGING, replace(DIVERGING, eta=0.01), replace(DIVERGING, eta=0.02)]
    interrupted(runs[1:2], tmp_path, 3)
    trained(runs[2:], tmp_path)
    done = {run: [] for run in runs}

    def follow(run, fraction):
        done[run].append(fraction)
        assert {library["num_threads"] for library in threadpool_info()} == {1}

    train.train(runs, Config(str(tmp_path)), follow)
    for fractions in done.values():
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1 and fractions.count(1) == 1


KINDS = [
    {"network": "MLP-2-8", "loss": "mean_squared_error"},
    {"network": "MLP-BN-2-9", "detached": False, "scalar": False},
    {"network": "RES-BN-1-8", "steps_of_B": 25},  # an epoch ends in the middle of a pass
]


@pytest.mark.parametrize("fields", KINDS, ids=str)
def test_a_stack_resumed_in_every_epoch_equals_each_run_alone_uninterrupted_bit_for_bit(
    tmp_path, fields, save_always
):
    runs = [replace(run, **fields, epochs=12) for run in RUNS]
    for epoch in range(1, 12):
        interrupted(runs, tmp_path, epoch)
    assert_same(trained(runs, tmp_path, stack=3), trained(runs, tmp_path / "alone"))


def test_a_stack_of_runs_at_different_epochs_goes_on_to_the_same_bits(
    tmp_path, expected, save_always
):
    """One at epoch 5, which went on alone, one at 2, one not begun."""
    interrupted(RUNS[:2], tmp_path, 2)
    interrupted(RUNS[:1], tmp_path, 5)
    assert_same(trained(RUNS, tmp_path, stack=3), expected)
    assert_only_results(tmp_path, RUNS)


def test_a_checkpoint_of_other_last_bits_is_refused_and_one_of_another_machine_is_not(
    tmp_path, expected, save_always
):
    interrupted([RUN], tmp_path, 2)
    path = store.checkpoint_path(tmp_path, RUN)
    meta, arrays = store.read(path, RUN)
    for part in ("backend", "engine", "device", "blas"):
        store.write(path, meta | {"provenance": [HERE | {part: "another 1.0"}]}, arrays)
        written = path.read_bytes()
        with pytest.raises(store.StoreError, match=f"{part} 'another 1.0'"):
            train.train([RUN], Config(str(tmp_path)))
        assert path.read_bytes() == written
    there = HERE | {"machine": "another"}
    store.write(path, meta | {"provenance": [there]}, arrays)
    expected_meta, history = expected[RUN]
    both = {RUN: (expected_meta | {"provenance": [there, HERE]}, history)}
    assert_same(trained([RUN], tmp_path), both)


def test_runs_that_end_early_are_stored_at_once_and_leave_their_neighbours_alone(tmp_path):
    lasting = [replace(DIVERGING, eta=0.01), replace(DIVERGING, eta=0.003, seed=1)]
    ending = [DIVERGING, replace(DIVERGING, eta=50.0, seed=1)]
    runs = [ending[0], lasting[0], ending[1], lasting[1]]
    early, config = set(), Config(str(tmp_path), keep_weights=True)

    def look(run, fraction):
        if config.missing(lasting) == lasting:
            early.update(set(runs) - set(config.missing(runs)))

    train.train(runs, config, look)
    assert early == set(ending)
    found = {run: stored(run, tmp_path) for run in runs}
    assert_same(found, trained(runs, tmp_path / "alone"))
    meta, arrays = found[DIVERGING]
    assert meta["status"] == "diverged" and 1 < meta["epoch"] < DIVERGING.epochs
    assert arrays["epoch"].tolist() == list(range(meta["epoch"] + 1))
    assert numpy.isfinite(arrays["train_loss"][:-1]).all()


def test_stacks_are_alike_but_for_eta_lambda_momentum_and_seed_and_no_larger_than_asked():
    others = [replace(RUN, B=8), replace(RUN, epochs=3), replace(RUN, milestones=()), *RUNS]
    assert sorted(map(len, stacked(others, Config(stack=9)))) == [1, 1, 1, 3]
    runs = [replace(RUN, seed=seed) for seed in range(9)]
    assert list(stacked(runs, Config())) == [[run] for run in runs]
    assert list(stacked(runs, Config(backend="cupy"))) == [runs]
    assert [len(stack) for stack in stacked(runs, Config(stack=8))] == [5, 4]


def test_on_a_device_a_stack_equals_runs_alone_and_waits_at_measurements_alone(
    tmp_path, monkeypatch
):
    """Within rounding; everything on the device is float32."""
    monkeypatch.setattr(mg, "load_backend", lambda name: fake_cupy if name == "cupy" else numpy)
    monkeypatch.setattr(train, "provenance", lambda *_: HERE)
    runs = [replace(run, epochs=1, eta=0.01) for run in RUNS]
    alone = trained(runs, tmp_path / "alone")
    train_epoch, seen = mg.train_epoch, []

    def watched(*args):
        fake_cupy.reset()
        train_epoch(*args)
        kinds = {str(made) for made in fake_cupy.dtypes if numpy.dtype(made).kind == "f"}
        seen.append((fake_cupy.waits, kinds))

    monkeypatch.setattr(mg, "train_epoch", watched)
    found = trained(runs, tmp_path / "stack", stack=3, backend="cupy")
    assert seen == [(0, {"float32"})]
    for run, (_, arrays) in alone.items():
        for name, array in arrays.items():
            numpy.testing.assert_allclose(found[run][1][name], array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", ["MLP-2-8", "MLP-BN-2-8"])
def test_numbers_that_are_not_finite_are_stored_as_such_and_never_as_zero(tmp_path, network):
    run = replace(RUN, network=network, eta=1e20, loss="mean_squared_error")
    meta, arrays = trained([run], tmp_path)[run]
    assert meta["status"] == "diverged"
    for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "spectrum 2-1"):
        assert not numpy.isfinite(arrays[name][-1]).any(), name
    state = State.begin(run, Config("nowhere"))
    state.params[2, 1][...] = 1e38  # its norm leaves the range of float32
    state.measure(load(run, Config()))
    state.history["train_loss"] = [numpy.ones(1)]
    assert state.status() == "diverged"


def test_a_collapsed_run_ends_measured_and_as_one_that_is_trained_on(tmp_path, monkeypatch):
    meta, arrays = trained([COLLAPSING], tmp_path)[COLLAPSING]
    assert meta["status"] == "collapsed"
    assert 0 < meta["epoch"] == arrays["epoch"][-1] < COLLAPSING.epochs
    monkeypatch.setattr(train, "has_collapsed", lambda state: state.epoch > 10)
    _, trained_on = trained([COLLAPSING], tmp_path / "on")[COLLAPSING]
    assert trained_on["epoch"][-1] == 12  # the next that is measured
    for name in ("distance", "train_loss", "spectrum 3-2", "beta 3"):
        numpy.testing.assert_array_equal(arrays[name], trained_on[name][: len(arrays[name])])


def f_depends_on(x, state):
    """Whether f, in training mode, depends on x: samples of one batch may differ by rounding."""
    graph = state.run.graph()
    f, f_of_minus_x = (mg.forward(graph, state.params, a).v[graph.L] for a in (x, -x))
    return not numpy.array_equal(f, f_of_minus_x)


@pytest.mark.parametrize("fields", [{}, {"detached": False}, {"scalar": False}], ids=str)
def test_a_network_declared_collapsed_does_not_depend_on_x_and_never_will(rng, fields):
    """At the very bound: gamma and beta move by momentum as far towards being on as they can."""
    run = replace(RUN, **fields, momentum=rng.uniform(0.1, 0.9), eta=rng.uniform(0.01, 0.5))
    graph, state = run.graph(), State.begin(run, Config("nowhere"))
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
    beta[...] = -bound - 1e-5 * abs(bound)
    off = beta.copy()
    beta[0, 0] += 0.01 * bound[0, 0]  # one unit, or all if they share beta
    assert not has_collapsed(state)
    beta[...] = off
    assert has_collapsed(state)
    # A sample far from all others has the largest normalized values, sqrt(B - 1).
    x = 0.01 * rng.normal(size=(50, run.B, 784)).astype("float32")
    x[:, 0] += rng.normal(size=(50, 784))
    for batch in x:
        assert not f_depends_on(batch, state)
        y = numpy.eye(10, dtype="float32")[rng.integers(0, 10, run.B)]
        settings = run.loss, run.eta, run.lam, run.momentum
        train_step(graph, state.params, state.velocity, batch, y, *settings)


def test_a_residual_path_or_another_activation_keeps_a_network_from_collapse(rng, monkeypatch):
    x = rng.normal(size=(RUN.B, 784)).astype("float32")
    layers = (mg.Layer(784), mg.Layer(8, "leaky_relu", True), mg.Layer(10, "identity"))
    graphs = {name: mg.parse(name, 784, 10) for name in ("MLP-BN-1-8", "RES-BN-1-8")}
    graphs["leaky"] = mg.Graph(layers, (mg.Edge(2, 1), mg.Edge(3, 2)))
    for name, graph in graphs.items():
        monkeypatch.setattr(Run, "graph", lambda run: graph)
        state = State.begin(RUN, Config("nowhere"))
        for (kind, _), value in state.params.items():
            if kind in ("gamma", "beta"):
                value[...] = 0.1 if kind == "gamma" else -1
        assert has_collapsed(state) == (name == "MLP-BN-1-8")
        assert f_depends_on(x, state) != has_collapsed(state)


def test_the_blas_is_numpy_s_also_where_scipy_s_is_listed_first(monkeypatch):
    """Loading Numba adds SciPy's, and the order is the system's."""
    numpys = provenance.blas()
    scipys = {"user_api": "blas", "internal_api": "openblas", "version": "0.0"}
    scipys["filepath"] = str(Path(numpy.__file__).parents[1] / "scipy.libs" / "openblas.so")
    monkeypatch.setattr(provenance, "threadpool_info", lambda: [scipys, *threadpool_info()])
    assert provenance.blas() == numpys


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_commit_is_that_of_the_checkout_and_says_whether_it_was_changed(tmp_path, monkeypatch):
    """Inside another project's there is none to name."""

    def git(folder, *args):
        null = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        command = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *args]
        return subprocess.check_output(command, text=True, env=os.environ | null).strip()

    ours = tmp_path / "inside" / "experiments" / "provenance.py"
    ours.parent.mkdir(parents=True)
    ours.touch()
    for folder in (tmp_path, tmp_path / "inside"):
        monkeypatch.setattr(provenance, "__file__", str(ours))
        assert provenance.commit() == "unknown"
        git(folder, "init", "--quiet")
        git(folder, "add", ours)
        git(folder, "commit", "--quiet", "-m", "a first one")
    head = git(tmp_path / "inside", "rev-parse", "HEAD")
    assert provenance.commit() == head
    ours.write_text("# changed")
    assert provenance.commit() == head + "-dirty"
