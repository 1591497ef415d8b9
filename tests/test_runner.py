"""Training what is missing: complete results, exact resumption, real interruptions, divergence, processes."""

import contextlib
import functools
import multiprocessing
import os
import signal
import subprocess
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from threadpoolctl import threadpool_info

import minigrad as mg
from experiments import parallel, runner, samples, schema, state, store
from experiments.provenance import origin
from experiments.results import View, history
from experiments.runner import Where, complete, train
from experiments.runs import Run, grid
from experiments.samples import load
from minigrad.measures import rank_of_spectrum
from minigrad.train import batches
from processes import wait_for

ROOT = Path(runner.__file__).resolve().parents[1]

# Momentum, batch norm and a schedule, so that velocity, gamma, beta and the epoch's number all matter; epoch
# 13 is not measured, and B = 16 leaves 12 of the 60 samples out of every epoch.
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
PLAIN = replace(RUN, network="MLP-2-8", momentum=0.0, milestones=(), epochs=3)
DIVERGING = replace(RUN, network="MLP-2-8", eta=20.0, milestones=())
EDGES = ("2-1", "3-2", "4-3")


def stored(run, where):
    return store.read(store.result_path(where.results, run))


def trained(run, results, **where):
    train([run], Where(str(results), **where))
    return stored(run, Where(str(results)))


def assert_same_bits(actual, expected):
    """Names, their order, dtypes, and every bit: NaN equals NaN."""
    assert list(actual) == list(expected)
    for name, array in expected.items():
        numpy.testing.assert_array_equal(actual[name], array, err_msg=name, strict=True)


def assert_only_results(folder, runs):
    """No checkpoint, no temporary file and no lock is left."""
    found = {path.name for path in Path(folder).iterdir()}
    assert found == {f"{run.key}.npz" for run in runs}


def assert_one_sentence(error, *words):
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """RUN with its weights: (meta, arrays)."""
    return trained(RUN, tmp_path_factory.mktemp("uninterrupted"), keep_weights=True)


def without_weights(arrays):
    return {name: array for name, array in arrays.items() if not name.startswith("W ")}


# What a result holds.


def test_a_finished_run_holds_its_fields_its_provenance_and_every_measured_number(uninterrupted):
    meta, arrays = uninterrupted
    assert meta == {
        "run": RUN.as_dict(),
        "status": "finished",
        "epoch": 14,
        "provenance": [origin("numpy")],
    }
    epochs = [*range(11), 12, 14]
    assert arrays["epoch"].tolist() == epochs
    for name in schema.SCALARS:
        assert arrays[name].shape == (len(epochs),)
        assert arrays[name].dtype == "float64"
        assert numpy.isfinite(arrays[name][1:]).all()
    assert numpy.isnan(arrays["distance"][0])
    assert (arrays["distance"][1:] > 0).all()
    for name in ("train_accuracy", "test_accuracy"):
        assert ((arrays[name] >= 0) & (arrays[name] <= 1)).all()
    spectra = {name: array.shape for name, array in arrays.items() if name.startswith("spectrum ")}
    assert spectra == {f"spectrum {edge}": (len(epochs), 8) for edge in EDGES}
    for edge in EDGES:
        last = mg.singular_values(arrays[f"W {edge}"]).astype("float32")
        assert arrays[f"spectrum {edge}"][-1].tobytes() == last.tobytes()
    matrices = {f"W {edge}" for edge in EDGES}
    scales = {"W gamma-2", "W beta-2", "W gamma-3", "W beta-3"}
    assert {name for name in arrays if name.startswith("W ")} == matrices | scales


def test_a_run_learns(tmp_path):
    """Its training loss falls below half of the start's, so what is compared below is not noise."""
    _, arrays = trained(replace(RUN, epochs=30, eta=0.05, milestones=()), tmp_path)
    assert arrays["train_loss"][-1] < arrays["train_loss"][0] / 2


def by_hand(run):
    """(epoch, params before, params after) with every step written out, in minigrad's own precision."""
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


def test_every_epoch_is_that_of_a_training_written_out_by_hand(tmp_path):
    """The distance of Section 4.2 and the spectra, with momentum and an eta that drops after epoch 2."""
    run = replace(RUN, network="MLP-2-8", eta=0.05, milestones=(2,), epochs=3)
    _, arrays = trained(run, tmp_path)
    E_T = run.graph().E_T
    for epoch, before, after in by_hand(run):
        moved = []
        for p, q in E_T:
            W = after[p, q].astype("float64")
            moved.append(numpy.linalg.norm(W - before[p, q].astype("float64")))
            s = numpy.linalg.svd(W, compute_uv=False)
            spectrum = arrays[f"spectrum {p}-{q}"][epoch]
            numpy.testing.assert_allclose(spectrum, s, rtol=1e-4, atol=1e-5)
        numpy.testing.assert_allclose(arrays["distance"][epoch], numpy.mean(moved), rtol=1e-4)


def test_the_distance_is_that_of_one_epoch_also_where_few_epochs_are_measured(tmp_path):
    """d(W_{t+1}, W_t): the epochs between two measurements must not add up."""
    _, often = trained(replace(RUN, measure_every=1), tmp_path)
    _, rare = trained(RUN, tmp_path)
    both = rare["epoch"].astype(int)
    assert len(both) < 15
    for name, array in rare.items():
        numpy.testing.assert_array_equal(array, often[name][both], err_msg=name)


def test_the_last_numbers_are_those_of_the_kept_weights(uninterrupted):
    """Loss and accuracy at test time: the statistics of the full training set, for the test set too."""
    _, arrays = uninterrupted
    graph = RUN.graph()
    params = {(p, q): arrays[f"W {p}-{q}"] for p, q in graph.E_T}
    for p in (2, 3):
        params["gamma", p] = arrays[f"W gamma-{p}"]
        params["beta", p] = arrays[f"W beta-{p}"]
    x, y, x_test, y_test = load(RUN.dataset, None, RUN.m, RUN.m_test)
    f, stats = mg.predict(graph, params, x)
    f_test, _ = mg.predict(graph, params, x_test, stats)
    for part, output, target in (("train", f, y), ("test", f_test, y_test)):
        shifted = output.astype("float64") - output.max(axis=-1, keepdims=True)
        loss = numpy.log(numpy.exp(shifted).sum(axis=-1)) - (shifted * target).sum(axis=-1)
        numpy.testing.assert_allclose(arrays[f"{part}_loss"][-1], loss.mean(), rtol=1e-5)
        right = output.argmax(axis=-1) == target.argmax(axis=-1)
        assert arrays[f"{part}_accuracy"][-1] == right.mean()


@pytest.mark.parametrize(
    "tol, norm",
    [
        (1e-4, "frobenius"),
        (1e-3, "spectral"),
        (0.1, "frobenius"),
        (0.3, "spectral"),
    ],
)
def test_the_rank_under_another_tolerance_needs_no_training(uninterrupted, tol, norm):
    meta, arrays = uninterrupted
    ranks = []
    for edge in EDGES:
        rank = mg.rank(arrays[f"W {edge}"], tol, norm)
        assert rank_of_spectrum(arrays[f"spectrum {edge}"][-1].astype("float64"), tol, norm) == rank
        ranks.append(rank)
    drawn = history(meta, arrays, View(tol=tol, norm=norm))
    assert drawn["rank"][-1] == numpy.mean(ranks)
    assert len(drawn["rank"]) == len(drawn["epoch"])
    without_output = history(meta, arrays, View(tol=tol, norm=norm, output_layer=False))
    assert without_output["rank"][-1] == numpy.mean(ranks[:-1])


def test_a_result_has_no_weights_unless_they_are_asked_for(tmp_path, uninterrupted):
    _, arrays = trained(RUN, tmp_path)
    assert_same_bits(arrays, without_weights(uninterrupted[1]))
    assert_only_results(tmp_path, [RUN])


def test_a_subset_has_as_many_samples_of_every_class_in_the_file_s_order():
    data = mg.load_dataset("synthetic-mnist")
    x, y, x_test, y_test = load("synthetic-mnist", None, 60, 60)
    assert (y.sum(axis=0) == 6).all()
    assert (y_test.sum(axis=0) == 6).all()
    for part, whole in ((x, data.x_train), (x_test, data.x_test)):
        places = [numpy.flatnonzero((whole == row).all(axis=1)).item() for row in part]
        assert places == sorted(places)
        assert max(places) < 200


# Interrupted and continued.


class Stop(Exception):
    pass


def stop_after(calls):
    """A progress function that ends training at its n-th call, as Ctrl-C would."""
    called = 0

    def progress(cost):
        nonlocal called
        called += 1
        if called == calls:
            raise Stop

    return progress


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "MLP-BN-2-8"},
        {"network": "RES-BN-1-8"},
        {"network": "MLP-1-40"},
        {"network": "MLP-BN-2-8", "detached": False, "scalar": False},
        {"network": "MLP-BN-2-8", "steps_of_B": 25},  # an epoch ends in the middle of a pass
    ],
    ids=str,
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, fields):
    """Stopped in every epoch in turn, with the last checkpoint one epoch behind."""
    run = replace(RUN, **fields, loss="mean_squared_error", eta=0.01)
    _, expected = trained(run, tmp_path / "whole", keep_weights=True)
    where = Where(str(tmp_path), keep_weights=True, save_every=0)
    for _ in range(run.epochs - 1):
        with pytest.raises(Stop):  # call 1 is for the epochs of the checkpoint, 2 and 3 for one epoch each
            train([run], where, stop_after(3))
    unfinished, _ = store.read(store.partial_path(tmp_path, run))
    assert unfinished["epoch"] == run.epochs - 1
    train([run], where)
    meta, arrays = stored(run, where)
    assert_same_bits(arrays, expected)
    assert meta["status"] == "finished"
    assert meta["epoch"] == run.epochs
    assert len(meta["provenance"]) == 1


# Every call of these functions is a moment at which the process can die: before and after a step of the
# training, and inside the writing of a checkpoint or a result. One process loads the data once and forks the
# ones that die.
DIE = """if True:
    import os, signal, sys, time
    from experiments import runner, store
    from experiments.provenance import origin
    from experiments.runs import Run
    import test_runner
    results = sys.argv[1]
    where = runner.Where(results, keep_weights=True, save_every=0)
    runner.load("synthetic-mnist", None, 60, 60)
    origin("numpy")
    deaths = 0
    for life in [*range(1, 24), 10**9]:
        child = os.fork()
        if not child:
            moments = 0
            def deadly(function):
                def called(*args, **options):
                    global moments
                    moments += 1
                    if moments == life:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*args, **options)
                return called
            os.fsync = deadly(os.fsync)
            os.replace = deadly(os.replace)
            os.unlink = deadly(os.unlink)
            runner.train_epoch = deadly(runner.train_epoch)
            runner.train([test_runner.RUN], where, deadly(lambda cost: None))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            deaths += 1
        elif status:
            sys.exit("a life ended with status %d" % status)
        else:
            break
    print(deaths)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_run_killed_again_and_again_equals_an_uninterrupted_one(tmp_path, uninterrupted, start):
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    process = start("-c", DIE, tmp_path, env={"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"})
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert int(stdout) >= 8
    _, arrays = stored(RUN, Where(str(tmp_path)))
    assert_same_bits(arrays, uninterrupted[1])
    assert_only_results(tmp_path, [RUN])


def test_a_diverged_run_resumes_to_the_same_end(tmp_path):
    expected_meta, expected = trained(DIVERGING, tmp_path / "whole")
    where = Where(str(tmp_path), save_every=0)
    with contextlib.suppress(Stop):
        train([DIVERGING], where, stop_after(3))
    assert store.partial_path(tmp_path, DIVERGING).exists()
    train([DIVERGING], where)
    meta, arrays = stored(DIVERGING, where)
    assert_same_bits(arrays, expected)
    assert meta == expected_meta


def test_another_machine_that_continues_a_run_is_added_to_its_provenance(tmp_path, monkeypatch):
    where = Where(str(tmp_path), save_every=0)
    with pytest.raises(Stop):
        train([RUN], where, stop_after(4))
    here = origin("numpy")
    there = here | {"machine": "another"}
    monkeypatch.setattr(state, "origin", lambda *args: there)
    train([RUN], where)
    meta, _ = stored(RUN, where)
    assert meta["provenance"] == [here, there]


def checkpoint(results):
    """The path of a checkpoint of RUN."""
    with pytest.raises(Stop):
        train([RUN], Where(str(results), save_every=0), stop_after(4))
    return store.partial_path(results, RUN)


def test_a_checkpoint_of_another_backend_is_refused_and_kept(tmp_path):
    path = checkpoint(tmp_path)
    meta, arrays = store.read(path)
    meta["provenance"][-1]["backend"] = "cupy 14.2.0"
    store.write(path, meta, arrays)
    written = path.read_bytes()
    with pytest.raises(store.StoreError) as error:
        train([RUN], Where(str(tmp_path)))
    assert_one_sentence(error, str(path), "--backend cupy", "delete it")
    assert path.read_bytes() == written
    assert not store.finished(tmp_path, RUN)


@pytest.mark.parametrize(
    "part, other, words",
    [
        ("kernels", "others 1.0", "kernels of others 1.0.*Numba.*delete it"),
        ("blas", "openblas 0.3 Prescott", "openblas 0.3 Prescott.*OPENBLAS_CORETYPE.*delete it"),
    ],
)
def test_a_checkpoint_of_other_kernels_or_blas_is_refused_and_kept(tmp_path, part, other, words):
    path = checkpoint(tmp_path)
    meta, arrays = store.read(path)
    meta["provenance"][-1][part] = other
    store.write(path, meta, arrays)
    with pytest.raises(store.StoreError, match=words):
        train([RUN], Where(str(tmp_path)))
    assert path.exists()
    assert not store.finished(tmp_path, RUN)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = checkpoint(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(store.StoreError, match="delete it"):
        train([RUN], Where(str(tmp_path)))


# From the end of another run.

MOVING = replace(PLAIN, loss="mean_squared_error", eta=0.05, epochs=16, tail_epochs=4)
WAYS = {"sgd": {}, "steps": {"tail_steps": 1}, "descent": {"tail_gd": True}}
ways = pytest.mark.parametrize("way", WAYS)


def forbid_the_beginning(monkeypatch, run):
    """No epoch before the tail may be trained."""
    original = runner.rows_of

    def rows_of(its_run, m, epoch):
        assert its_run != run or epoch > run.begun(), f"epoch {epoch} of the beginning is trained"
        return original(its_run, m, epoch)

    monkeypatch.setattr(runner, "rows_of", rows_of)


@ways
def test_a_run_that_starts_at_another_s_end_equals_one_that_is_trained_through(tmp_path, way, monkeypatch):
    """Every bit of the history and the weights. Faults: a beginning without its history; rows of epoch 1."""
    run = replace(MOVING, network="MLP-BN-2-8", **WAYS[way])
    _, through = trained(run, tmp_path / "through", keep_weights=True)
    trained(run.beginning(), tmp_path / "shared", keep_weights=True)
    forbid_the_beginning(monkeypatch, run)
    meta, arrays = trained(run, tmp_path / "shared", keep_weights=True)
    assert_same_bits(arrays, through)
    assert meta["provenance"] == [origin("numpy")] and meta["epoch"] == 16
    assert arrays["epoch"].tolist() == [*range(11), 12, 13, 14, 15, 16]


def test_the_beginning_that_runs_share_is_trained_once_and_kept_with_its_weights(tmp_path, monkeypatch):
    runs = [replace(MOVING, **way) for way in WAYS.values()]
    where = Where(str(tmp_path))
    epochs = []
    original = runner.rows_of
    monkeypatch.setattr(runner, "rows_of", lambda *of: epochs.append(of[0]) or original(*of))
    results = complete(runs, where, jobs=1)
    assert list(results) == runs and epochs.count(MOVING.beginning()) == 12
    assert [epochs.count(run) for run in runs] == [4, 4, 4]
    assert store.finished(tmp_path, MOVING.beginning(), with_weights=True)
    assert_only_results(tmp_path, [MOVING.beginning(), *runs])
    forbid_training(monkeypatch)
    assert list(complete(runs, where, jobs=1)) == runs


@pytest.mark.parametrize("change", [{"momentum": 0.9}, {}], ids=["momentum", "no weights"])
def test_where_another_run_s_end_lacks_something_a_run_is_trained_through(tmp_path, change):
    """With momentum a velocity, else the weights."""
    run = replace(MOVING, **change)
    _, through = trained(run, tmp_path / "through")
    trained(run.beginning(), tmp_path / "shared", keep_weights=bool(change))
    _, arrays = trained(run, tmp_path / "shared")
    assert_same_bits(arrays, through)


def test_a_run_starts_at_no_end_that_other_kernels_came_to(tmp_path):
    _, through = trained(MOVING, tmp_path / "through")
    meta, arrays = trained(MOVING.beginning(), tmp_path, keep_weights=True)
    meta["provenance"][-1]["kernels"] = "others 1.0"
    arrays["W 2-1"] = 0 * arrays["W 2-1"]
    store.write(store.result_path(tmp_path, MOVING.beginning()), meta, arrays)
    meta, arrays = trained(MOVING, tmp_path)
    assert_same_bits(arrays, through)
    assert meta["provenance"] == [origin("numpy")]


def test_where_a_run_started_stands_in_its_provenance(tmp_path, monkeypatch):
    trained(MOVING.beginning(), tmp_path, keep_weights=True)
    here = origin("numpy")
    there = here | {"machine": "another"}
    monkeypatch.setattr(state, "origin", lambda backend, is_stacked=False: there)
    meta, _ = trained(MOVING, tmp_path)
    assert meta["provenance"] == [here, there]


def test_a_run_whose_beginning_diverged_is_diverged_at_the_same_epoch(tmp_path):
    run = replace(MOVING, eta=1e20, tail_steps=1)
    expected_meta, expected = trained(run, tmp_path / "through")
    results = complete([run], Where(str(tmp_path)), jobs=1)
    meta, arrays = results[run]
    assert meta == expected_meta and meta["status"] == "diverged" and meta["epoch"] <= 12
    assert_same_bits(arrays, expected)


@ways
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_run_resumed_in_its_tail_equals_an_uninterrupted_one(tmp_path, way, momentum):
    run = replace(MOVING, momentum=momentum, **WAYS[way])
    _, expected = trained(run, tmp_path / "whole", keep_weights=True)
    where = Where(str(tmp_path), keep_weights=True, save_every=0)
    for _ in range(run.epochs - 1):
        with pytest.raises(Stop):
            train([run], where, stop_after(3))
    train([run], where)
    assert_same_bits(stored(run, where)[1], expected)


def test_the_tail_of_sgd_is_what_a_longer_run_does(tmp_path):
    run = replace(MOVING, measure_every=1)
    _, longer = trained(replace(run, tail_epochs=0), tmp_path, keep_weights=True)
    _, arrays = trained(run, tmp_path, keep_weights=True)
    assert_same_bits(arrays, longer)


def test_the_steps_of_a_tail_are_the_first_batches_of_the_next_pass_or_all_samples(rng):
    """Fault: batches that the beginning had, in the same order."""
    m = 60
    next_pass = batches(m, 16, 0, 13)
    for epoch in (13, 14, 15):
        steps = runner.rows_of(replace(MOVING, tail_steps=1), m, epoch)
        numpy.testing.assert_array_equal(steps, next_pass[epoch - 13 : epoch - 12])
        everything = runner.rows_of(replace(MOVING, tail_gd=True), m, epoch)
        assert everything.shape == (1, m) and sorted(everything[0]) == list(range(m))
    numpy.testing.assert_array_equal(
        runner.rows_of(replace(MOVING, tail_steps=1), m, 16), batches(m, 16, 0, 14)[:1]
    )


def test_where_a_batch_is_the_whole_training_set_a_step_of_sgd_is_one_of_gradient_descent(tmp_path):
    run = replace(MOVING, B=60)
    _, steps = trained(replace(run, tail_steps=1), tmp_path, keep_weights=True)
    _, descent = trained(replace(run, tail_gd=True), tmp_path, keep_weights=True)
    assert_same_bits(descent, steps)


# What is there is not trained again.


def forbid_training(monkeypatch):
    monkeypatch.setattr(runner, "train_epoch", lambda *args: pytest.fail("trained again"))


def test_a_second_call_trains_nothing(tmp_path, monkeypatch, uninterrupted):
    where = Where(str(tmp_path))
    meta, arrays = complete([RUN], where, jobs=1)[RUN]
    changed = store.result_path(tmp_path, RUN).stat().st_mtime_ns
    forbid_training(monkeypatch)
    train([RUN], where)
    meta_again, arrays_again = complete([RUN], where)[RUN]
    assert meta_again == meta
    assert_same_bits(arrays_again, arrays)
    assert store.result_path(tmp_path, RUN).stat().st_mtime_ns == changed


def test_a_process_that_waited_for_a_run_takes_the_other_one_s_result(tmp_path, monkeypatch):
    trained(RUN, tmp_path)
    forbid_training(monkeypatch)
    done = []
    train([RUN], Where(str(tmp_path)), done.append)
    assert sum(done) == RUN.cost()


def test_keep_weights_trains_a_run_without_them_anew_and_equals_it(tmp_path, monkeypatch, uninterrupted):
    without = Where(str(tmp_path))
    with_weights = Where(str(tmp_path), keep_weights=True)
    _, before = complete([RUN], without, jobs=1)[RUN]
    assert store.finished(tmp_path, RUN)
    assert not store.finished(tmp_path, RUN, with_weights=True)
    _, after = complete([RUN], with_weights, jobs=1)[RUN]
    assert_same_bits(without_weights(after), before)
    assert_same_bits(after, uninterrupted[1])
    forbid_training(monkeypatch)
    for where in (with_weights, without):
        _, again = complete([RUN], where, jobs=1)[RUN]
        assert_same_bits(again, after)


def test_every_run_has_its_own_result(tmp_path):
    short, long = grid(PLAIN, epochs=(1, 3))
    results = complete([short, long, short], Where(str(tmp_path)), jobs=1)
    assert list(results) == [short, long]
    assert all(meta["run"] == run.as_dict() for run, (meta, _) in results.items())
    assert complete([], Where(str(tmp_path))) == {}


# Divergence.


def test_a_diverged_run_is_recorded_as_diverged_with_its_numbers_and_spares_the_others(tmp_path):
    _, alone = trained(RUN, tmp_path / "alone")
    both = tmp_path / "both"
    results = complete([DIVERGING, RUN], Where(str(both)), jobs=1)
    (meta, arrays), (_, spared) = results[DIVERGING], results[RUN]
    assert_same_bits(spared, alone)
    assert meta["status"] == "diverged"
    assert 1 < meta["epoch"] < DIVERGING.epochs
    assert arrays["epoch"].tolist() == list(range(meta["epoch"] + 1))
    *earlier, last = arrays["train_loss"]
    assert numpy.isfinite(earlier).all()
    assert not numpy.isfinite(last)
    assert max(earlier) > 1e3  # what it did before is there to see
    assert_only_results(both, [DIVERGING, RUN])


@pytest.mark.parametrize("network", ["MLP-2-8", "MLP-BN-2-8"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mean_squared_error"])
def test_what_is_not_finite_is_stored_as_that_and_never_as_zero(tmp_path, network, loss):
    run = replace(RUN, network=network, loss=loss, eta=1e20, epochs=30)
    meta, arrays = trained(run, tmp_path)
    assert meta["status"] == "diverged"
    for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "spectrum 2-1"):
        assert not numpy.isfinite(arrays[name][-1]).any(), name
    drawn = history(meta, arrays, View())
    assert drawn["diverged"]
    assert numpy.isnan(drawn["rank"][-1])
    assert numpy.isnan(drawn["train_accuracy"][-1])
    assert drawn["rank"][0] == 8


def test_a_run_that_diverges_between_two_measurements_ends_at_the_next(tmp_path):
    run = replace(DIVERGING, eta=5.0, epochs=60, measure_every=20)
    meta, arrays = trained(run, tmp_path)
    assert meta["status"] == "diverged"
    assert meta["epoch"] in (20, 40, 60)
    assert arrays["epoch"][-1] == meta["epoch"]


def test_weights_of_a_diverged_run_can_be_kept(tmp_path):
    _, arrays = trained(DIVERGING, tmp_path, keep_weights=True)
    assert {f"W {edge}" for edge in EDGES} <= set(arrays)
    assert store.finished(tmp_path, DIVERGING, with_weights=True)


# Progress, threads, data.


@pytest.mark.parametrize("run", [RUN, DIVERGING], ids=["finished", "diverged"])
def test_the_progress_adds_up_to_the_cost_of_the_run_also_when_resumed(tmp_path, run):
    for name in ("fresh", "resumed"):
        where = Where(str(tmp_path / name), save_every=0)
        if name == "resumed":
            with pytest.raises(Stop):
                train([run], where, stop_after(3))
        done = []
        train([run], where, done.append)
        numpy.testing.assert_allclose(sum(done), run.cost(), rtol=1e-9)


def test_training_uses_one_blas_thread_and_gives_the_others_back(tmp_path):
    def threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = threads()
    during = []
    train([PLAIN], Where(str(tmp_path)), lambda cost: during.extend(threads()))
    assert set(during) == {1}
    assert threads() == before


@pytest.mark.parametrize(
    "change, words",
    [
        ({"m": 20_000}, "m=20000"),
        ({"m_test": 9000}, "m_test=9000"),
    ],
)
def test_more_samples_than_there_are_is_one_sentence(tmp_path, change, words):
    with pytest.raises(mg.DataError, match=words) as error:
        train([replace(RUN, **change)], Where(str(tmp_path)))
    assert_one_sentence(error)
    assert not list(tmp_path.glob("*.npz"))


# Several processes.


def test_one_process_and_two_give_the_same_bits(tmp_path):
    runs = [*grid(RUN, seed=(0, 1), lam=(0.0, 1e-3)), DIVERGING]
    one = complete(runs, Where(str(tmp_path / "one")), jobs=1)
    two = complete(runs, Where(str(tmp_path / "two")), jobs=2)
    assert list(one) == list(two) == runs
    for run in runs:
        assert two[run][0] == one[run][0]
        assert_same_bits(two[run][1], one[run][1])
    assert_only_results(tmp_path / "two", runs)
    different = {arrays["train_loss"].tobytes() for _, arrays in one.values()}
    assert len(different) == len(runs)


@pytest.mark.parametrize("which", ["first", "last"])
def test_a_worker_killed_from_outside_is_one_sentence_and_its_checkpoint_stays(tmp_path, which):
    """Also the last one: the pool's own watch may overlook a worker that was started while it looked."""
    runs = grid(replace(RUN, epochs=100_000), seed=(0, 1))
    where = Where(str(tmp_path), save_every=0)
    checkpoints = [store.partial_path(tmp_path, run) for run in runs]
    over = threading.Event()
    rescued = []

    def kill_one():
        try:
            wait_for(lambda: all(path.exists() for path in checkpoints))
        finally:  # nothing else ends these runs
            children = sorted(multiprocessing.active_children(), key=lambda process: process.pid)
            place = {"first": 0, "last": -1}[which]
            children[place].kill()
        if not over.wait(20):  # so that a fault fails the test and does not hang it
            rescued.extend(children)
            for process in children:
                process.kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(parallel.Lost) as error:
        complete(runs, where, jobs=2)
    over.set()
    killer.join()
    assert not rescued, "the other worker went on training"
    assert_one_sentence(error, "killed", "again")
    assert multiprocessing.active_children() == []
    for path in checkpoints:
        meta, _ = store.read(path)
        assert meta["epoch"] > 0


def seen_by_a_process(arguments, report):
    """What load returns there: sums, and whether it can be changed."""
    arrays = load(*arguments)
    return [array.sum() for array in arrays], {array.flags.writeable for array in arrays}


def test_processes_share_one_copy_of_the_data_that_none_can_change(monkeypatch):
    arguments = ("synthetic-mnist", None, 60, 60)
    marked = tuple(array + 5 for array in load(*arguments))  # as no file has them
    monkeypatch.setattr(samples, "_read", functools.lru_cache(lambda *_: marked))
    prepare = functools.partial(samples.adopt, samples.shared([arguments]))
    found = parallel.in_parallel(seen_by_a_process, [arguments, arguments], parallel.local(2, prepare), None)
    assert found == [([array.sum() for array in marked], {False})] * 2


def test_what_a_process_adopts_is_the_common_memory_and_no_copy_of_it(monkeypatch):
    monkeypatch.setattr(samples, "_ADOPTED", {})
    arguments = ("synthetic-mnist", None, 60, 60)
    found = samples.shared([arguments])
    samples.adopt(found)
    for array, (memory, _) in zip(load(*arguments), found[arguments], strict=True):
        assert numpy.shares_memory(array, numpy.frombuffer(memory, "float32"))


def test_an_array_is_let_go_as_soon_as_it_lies_in_common_memory(monkeypatch):
    """A list of them, or the cache of _read, would keep all for as long: the data twice."""
    read = [numpy.ones((2, 2), "float32") for _ in range(4)]
    references, alive = [weakref.ref(array) for array in read], []

    def in_common_memory(array):
        alive.append(sum(reference() is not None for reference in references))

    read_once = functools.lru_cache(lambda *_: tuple(read.pop(0) for _ in range(4)))
    monkeypatch.setattr(samples, "_read", read_once)
    monkeypatch.setattr(samples, "_in_common_memory", in_common_memory)
    samples.shared([("synthetic-mnist", None, 60, 60)])
    assert alive == [4, 3, 2, 1]


def power_of_2(exponent, report):
    return 2**exponent


def test_results_come_in_the_order_of_the_items():
    assert parallel.in_parallel(power_of_2, [5, 1, 3], parallel.local(2), bar=None) == [32, 2, 8]


def test_an_error_in_a_worker_arrives_as_its_sentence(tmp_path):
    runs = grid(RUN, seed=(0, 1))
    path = store.partial_path(tmp_path, runs[1])
    path.write_text("no checkpoint")
    with pytest.raises(store.StoreError, match=str(path)):
        complete(runs, Where(str(tmp_path)), jobs=2)
    assert multiprocessing.active_children() == []


# Real interruptions of the real command. Its workers inherit its standard error, so the end of that pipe is
# the proof that none of them is left.

INTERRUPTED = "interrupted: run the same command again, which trains no stored run anew"

posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


@pytest.fixture
def ctrl_c():
    """SIGINT as at a terminal: a script's background process ignores it, and so does all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def process(tmp_path, start, ctrl_c):
    """The command, at work on two runs that would take minutes."""
    command = "-W error -m experiments fig1 --preset smoke --seeds 1 --jobs 2"
    for setting in ("dataset=mnist", "loss=cross_entropy", "lam=0,1e-4", "epochs=100000"):
        command += f" --set {setting}"
    return start(*command.split(), cwd=tmp_path, stdin=subprocess.DEVNULL)


def children_file(process):
    """It lists what a process has started, where the system has such files."""
    return Path(f"/proc/{process.pid}/task/{process.pid}/children")


def count_children(process):
    return len(children_file(process).read_text(encoding="utf-8").split())


def training(tmp_path):
    """Whether both runs have begun."""
    return len(list((tmp_path / "results").glob(".*.lock"))) == 2


def sentences(stderr):
    """The lines of standard error but the progress bar's."""
    lines = stderr.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("training ")]


@posix
@pytest.mark.parametrize("moment", ["while the workers start", "while they train"])
def test_ctrl_c_ends_every_process_with_one_sentence(tmp_path, process, moment):
    """The terminal sends SIGINT to the whole group."""
    if moment == "while they train":
        wait_for(lambda: training(tmp_path))
    elif not children_file(process).exists():
        pytest.skip("this system does not list a process's children")
    else:
        wait_for(lambda: count_children(process) >= 3)  # multiprocessing's tracker and both workers
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert sentences(stderr) == [INTERRUPTED]
    left = {path.suffix for path in tmp_path.glob("results/*")}
    assert left <= {".lock"}


@posix
def test_a_ctrl_c_that_another_thread_takes_waits_until_the_workers_have_started(ctrl_c):
    """The mask is the main thread's alone; Python runs its handlers there, whichever took the signal."""
    over = threading.Event()
    started = []
    other = threading.Thread(target=over.wait)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        with parallel.interrupts_later():
            signal.pthread_kill(other.ident, signal.SIGINT)
            time.sleep(0.1)
            started.append(True)
    over.set()
    other.join()
    assert started
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@posix
def test_a_ctrl_c_that_is_ignored_stays_ignored_while_the_workers_start(ctrl_c):
    """A script's background process has it so; another thread takes it, whatever the main one's mask is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing)
    try:
        with parallel.interrupts_later():
            signal.pthread_kill(other.ident, signal.SIGINT)
            assert os.read(reading, 1) == bytes([signal.SIGINT])  # it has arrived
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)
        over.set()
        other.join()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@posix
def test_sigint_to_the_parent_alone_ends_its_workers_too(tmp_path, process):
    wait_for(lambda: training(tmp_path))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert sentences(stderr) == [INTERRUPTED]


@posix
def test_no_worker_outlives_a_killed_parent(tmp_path, process):
    wait_for(lambda: training(tmp_path))
    process.kill()
    _, stderr = process.communicate(timeout=60)  # ends when the last worker has closed its standard error
    assert "Traceback" not in stderr
