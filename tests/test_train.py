"""The loop of an experiment: what it stores, how it resumes, and when a run ends early."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

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
from training import assert_same_bits, side_by_side, stop_at, stored

HERE = provenance.provenance("numpy", provenance.engine_of(RUN, Config()))
SCALARS = ("distance", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """RUNS, each trained alone and without a stop."""
    return alone(RUNS, tmp_path_factory.mktemp("alone"))


@pytest.fixture
def save_always(monkeypatch):
    """A checkpoint after every epoch."""
    monkeypatch.setattr(train, "SAVE_EVERY", 0)


def interrupted(runs, results, epoch):
    """Leave checkpoints of a stack at this epoch."""
    with pytest.raises(Stop):
        train.train(runs, Config(str(results), keep_weights=True), stop_at(epoch))
    for run in runs:
        assert store.read(store.checkpoint_path(results, run), run)[0]["epoch"] == epoch


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
    for edge in ("2-1", "3-2", "4-3"):
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
        loss, _ = mg.cross_entropy(output, target)
        numpy.testing.assert_allclose(arrays[f"{part}_loss"][-1], loss, rtol=1e-5)
        right = output.argmax(axis=-1) == target.argmax(axis=-1)
        assert arrays[f"{part}_accuracy"][-1] == right.mean()


@pytest.mark.parametrize("steps_of_B", [0, 5, 25, 60])
def test_epochs_take_the_next_batches_of_one_pass_after_another(steps_of_B):
    m, epochs = 60, 9
    run = replace(RUN, steps_of_B=steps_of_B)
    taken = [rows_of(run, m, epoch) for epoch in range(1, epochs + 1)]
    S = m // (steps_of_B or 16)
    assert {rows.shape for rows in taken} == {(S, 16)}
    steps = numpy.concatenate(taken)
    passes = [batches(m, 16, run.seed, number) for number in range(1, 1 + len(steps))]
    numpy.testing.assert_array_equal(steps, numpy.concatenate(passes)[: len(steps)])


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


def test_the_progress_of_every_run_grows_to_its_end(tmp_path, save_always):
    """Also if it is resumed, ends early, or has been trained meanwhile."""
    runs = [DIVERGING, replace(DIVERGING, eta=0.01), replace(DIVERGING, eta=0.02)]
    interrupted(runs[1:2], tmp_path, 3)
    alone(runs[2:], tmp_path)
    done = {run: [] for run in runs}
    train.train(runs, Config(str(tmp_path)), lambda run, fraction: done[run].append(fraction))
    for fractions in done.values():
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1 and fractions.count(1) == 1


def test_training_uses_one_blas_thread_and_gives_the_others_back(tmp_path):
    def threads():
        return [library["num_threads"] for library in threadpool_info()]

    before, during = threads(), []
    run = replace(RUN, epochs=1)
    train.train([run], Config(str(tmp_path)), lambda *_: during.extend(threads()))
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
    for epoch in range(1, run.epochs):
        interrupted([run], tmp_path, epoch)
    assert_same(alone([run], tmp_path), expected)


def test_a_stack_of_runs_at_different_epochs_goes_on_to_the_same_bits(
    tmp_path, expected, save_always
):
    """One at epoch 5, one at 2, one not begun."""
    interrupted(RUNS[:1], tmp_path, 5)
    interrupted(RUNS[1:2], tmp_path, 2)
    assert_same(side_by_side(RUNS, tmp_path), expected)
    assert_only_results(tmp_path, RUNS)


def test_a_stack_s_checkpoints_are_continued_by_each_alone(tmp_path, expected, save_always):
    interrupted(RUNS, tmp_path, 4)
    assert_same(alone(RUNS, tmp_path), expected)


@pytest.mark.parametrize("run", [DIVERGING, COLLAPSING], ids=["diverged", "collapsed"])
def test_a_run_stopped_between_its_early_end_and_its_result_resumes_to_that_end(
    tmp_path, run, save_always, monkeypatch
):
    expected = alone([run], tmp_path / "whole")

    def stop(*args):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(State, "finish", stop)
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
    with pytest.raises(store.StoreError, match=f"{part} 'another 1.0'"):
        train.train([RUN], Config(str(tmp_path)))
    assert path.read_bytes() == written


def test_another_machine_that_goes_on_with_a_run_is_added_to_its_provenance(
    tmp_path, monkeypatch, save_always
):
    interrupted([RUN], tmp_path, 2)
    there = HERE | {"machine": "another"}
    monkeypatch.setattr(train, "provenance", lambda *_: there)
    assert alone([RUN], tmp_path)[RUN][0]["provenance"] == [HERE, there]


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


def test_runs_that_end_early_are_stored_at_once_and_leave_their_neighbours_alone(tmp_path):
    lasting = [replace(DIVERGING, eta=0.01), replace(DIVERGING, eta=0.003, seed=1)]
    ending = [DIVERGING, replace(DIVERGING, eta=50.0, seed=1)]
    runs = [ending[0], lasting[0], ending[1], lasting[1]]
    expected = alone(runs, tmp_path / "alone")
    early, config = set(), Config(str(tmp_path), keep_weights=True)

    def look(run, fraction):
        if config.missing(lasting) == lasting:
            early.update(set(runs) - set(config.missing(runs)))

    train.train(runs, config, look)
    assert early == set(ending)
    assert_same({run: stored(run, tmp_path) for run in runs}, expected)


def test_stacks_are_alike_but_for_eta_lambda_momentum_and_seed_and_no_larger_than_asked():
    others = [replace(RUN, B=8), replace(RUN, epochs=3), replace(RUN, milestones=()), *RUNS]
    assert sorted(map(len, stacked(others, Config(stack=9)))) == [1, 1, 1, 3]
    runs = grid(RUN, seed=range(9))
    assert stacked(runs, Config()) == [[run] for run in runs]
    assert stacked(runs, Config(backend="cupy")) == [runs]
    for most, sizes in ((4, [3, 3, 3]), (8, [5, 4]), (20, [9])):
        assert [len(stack) for stack in stacked(runs, Config(stack=most))] == sizes


@pytest.fixture
def device(monkeypatch):
    """A fake CuPy."""
    monkeypatch.setattr(train, "load_backend", lambda name: fake_cupy if name == "cupy" else numpy)
    monkeypatch.setattr(train, "provenance", lambda *_: HERE)


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


def f_depends_on(x, state):
    """Whether f, in training mode, depends on the sample."""
    f = mg.forward(state.run.graph(), state.params, x).v[state.run.graph().L]
    return bool((f != f[..., :1, :]).any())


@pytest.mark.parametrize("fields", [{}, {"detached": False}, {"scalar": False}], ids=str)
@pytest.mark.parametrize("case", range(5))
def test_a_network_declared_collapsed_does_not_depend_on_x_and_never_will(rng, fields, case):
    """At the very bound: gamma and beta move by momentum as far towards being on as they can."""
    run = replace(RUN, **fields, momentum=rng.uniform(0, 0.9), eta=rng.uniform(0.01, 0.5))
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
        assert not f_depends_on(batch, state) and not f_depends_on(-batch, state)
        y = numpy.eye(10, dtype="float32")[rng.integers(0, 10, run.B)]
        eta = train.eta_of(run, state.epoch + 1)
        settings = run.loss, eta, run.lam, run.momentum
        train_step(graph, state.params, state.velocity, batch, y, *settings)


def test_a_residual_path_or_another_activation_keeps_a_network_from_collapse(rng, monkeypatch):
    x = rng.normal(size=(RUN.B, 784)).astype("float32")
    leaky = mg.Layer(8, "leaky_relu", batchnorm=True)
    edges = (mg.Edge(2, 1), mg.Edge(3, 2))
    graphs = {
        "MLP-BN-1-8": mg.parse("MLP-BN-1-8", 784, 10),
        "RES-BN-1-8": mg.parse("RES-BN-1-8", 784, 10),
        "leaky": mg.Graph((mg.Layer(784), leaky, mg.Layer(10, "identity")), edges),
    }
    for name, graph in graphs.items():
        monkeypatch.setattr(Run, "graph", lambda run: graph)
        state = State.begin(RUN, Config("nowhere"))
        for key, value in state.params.items():
            if key[0] in ("gamma", "beta"):
                value[...] = 0.1 if key[0] == "gamma" else -1
        assert has_collapsed(state) == (name == "MLP-BN-1-8")
        assert f_depends_on(x, state) != has_collapsed(state)


# Provenance.


def test_provenance_names_versions_engine_and_commit():
    assert HERE["backend"] == f"numpy {numpy.__version__}"
    assert set(provenance.BITS_DEPEND_ON) < set(HERE)
    assert HERE["engine"]
    assert re.fullmatch(r"unknown|[0-9a-f]{40}(-dirty)?", HERE["commit"])


def test_the_blas_is_numpy_s_also_where_scipy_s_is_listed_first(monkeypatch):
    """Loading Numba adds SciPy's, and the order is the system's."""
    numpys = provenance.blas()
    site = Path(numpy.__file__).parents[1]
    scipys = {"user_api": "blas", "internal_api": "openblas", "version": "0.0"}
    scipys["filepath"] = str(site / "scipy.libs" / "libscipy_openblas.so")
    monkeypatch.setattr(provenance, "threadpool_info", lambda: [scipys, *threadpool_info()])
    assert provenance.blas() == numpys


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
    assert provenance.commit() == head
    ours.write_text("# changed")
    assert provenance.commit() == head + "-dirty"
