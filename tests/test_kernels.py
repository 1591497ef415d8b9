"""The fast epoch against the readable one: every layer, loss and layout, with Numba's loops and NumPy's."""

import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, loops_numpy, slices
from minigrad.losses import LOSSES

SKIP = mg.Graph(
    (
        mg.Layer(9, "identity"),
        mg.Layer(7, "leaky_relu"),
        mg.Layer(7, "sigmoid", batchnorm=True, detached=False),
        mg.Layer(3, "identity", batchnorm=True, scalar=False),
        mg.Layer(7),
        mg.Layer(4, "identity"),
    ),
    (
        mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(4, 2), mg.Edge(5, 3), mg.Edge(5, 2, trainable=False),
        mg.Edge(6, 5), mg.Edge(6, 2),
    ),
)
WIDE = mg.Graph(
    # Without a kink, on whose other side float32 may take one of so many units.
    [mg.Layer(width, "identity") for width in (1800, 300, 300, 300, 4)],
    [mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(4, 2), mg.Edge(4, 3), mg.Edge(5, 4)],
)
GRAPHS = {
    "mlp": mg.mlp(9, 3, 7, 4),
    "square": mg.mlp(7, 2, 7, 4),  # layers that could take the data's place
    "mlp-bn": mg.mlp(9, 3, 7, 4, True),
    "mlp-true": mg.mlp(9, 3, 7, 4, True, detached=False),
    "mlp-per-unit": mg.mlp(9, 3, 7, 4, True, scalar=False),
    "res": mg.resnet(9, 2, 7, 4),
    "res-bn": mg.resnet(9, 2, 7, 4, True),
    "res-standard": mg.resnet(9, 2, 7, 4, True, detached=False, scalar=False),
    "skip": SKIP,  # layer 4 leads nowhere
    "wide": WIDE,  # has matrices of several blocks, and transposed products, of which one is added
    "two": mg.Graph([mg.Layer(9, "identity"), mg.Layer(4, "identity")], [mg.Edge(2, 1)]),
}
nets = pytest.mark.parametrize("net", GRAPHS)
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


@pytest.fixture(params=["numpy", "numba"])
def fast(request):
    """train_epoch of kernels.py with either set of loops, on what it takes."""
    if request.param == "numba" and not kernels.COMPILED:
        pytest.skip("Numba is not installed, or switched off")
    loops = {"numpy": loops_numpy, "numba": kernels.LOOPS}[request.param]

    def train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, momentum):
        assert kernels.applies(params, x, y, velocity, rows)
        with np.errstate(over="ignore", invalid="ignore"):
            kernels.train_epoch(graph, params, velocity, x, y, rows, loss, eta, lam, momentum, loops=loops)

    return train_epoch


def setting(graph, rng, dtype="float64", order="F", m=41):
    """params, velocity not zero, x and y."""
    params = mg.init_params(graph, rng, dtype=dtype, init="he")
    for key in params:
        if key[0] in ("gamma", "beta"):
            params[key] += 0.3 * rng.normal(size=params[key].shape).astype(dtype)
    params = {key: np.array(W, order=order) for key, W in params.items()}
    velocity = {}
    for key, W in params.items():
        velocity[key] = np.asarray(0.01 * rng.normal(size=W.shape), dtype, order=order)
    x = rng.normal(size=(m, graph.width(1))).astype(dtype)
    k = graph.width(graph.L)
    return params, velocity, x, np.eye(k, dtype=dtype)[rng.integers(0, k, m)]


@np.errstate(over="ignore", invalid="ignore")
def readable(graph, params, velocity, x, y, rows, *args, **options):
    for batch in rows:
        mg.train_step(graph, params, velocity, x[batch], y[batch], *args, **options)


def copied(*dicts):
    return [{key: W.copy(order="K") for key, W in d.items()} for d in dicts]


def assert_close(actual, expected, tolerance):
    """Entries, relative to the largest of their matrix."""
    for key, W in expected.items():
        assert actual[key].dtype == W.dtype and actual[key].flags.f_contiguous == W.flags.f_contiguous
        atol = tolerance * max(abs(W).max(), 1e-3)
        np.testing.assert_allclose(actual[key], W, rtol=0, atol=atol, err_msg=str(key))


@nets
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("B, order", [(4, "C"), (8, "F"), (10, "C"), (10, "F")])
def test_the_fast_epoch_is_the_readable_one(net, dtype, B, order, fast, rng):
    """On 4 and 8 samples, Numba's steps are those of few.py, four rows of W at a time and those left over."""
    graph = GRAPHS[net]
    params, velocity, x, y = setting(graph, rng, dtype, order)
    expected, expected_velocity = copied(params, velocity)
    rows = mg.batches(len(x), B, seed=3, epoch=1)[:4]  # more, and a unit may be on in one alone
    options = {"loss": "cross_entropy", "eta": 0.05, "lam": 0.01, "momentum": 0.9}
    fast(graph, params, velocity, x, y, rows, **options)
    readable(graph, expected, expected_velocity, x, y, rows, **options)
    assert_close(params, expected, TOLERANCE[dtype])
    assert_close(velocity, expected_velocity, TOLERANCE[dtype] * 10)


def calls_of(graph, B, loops, rng):
    """The calls of a step in float32."""
    given = mg.init_params(graph, rng)
    given |= {("velocity", key): W for key, W in given.items()}
    scalars = [np.float32(a) for a in (0.05, 0.01, 0.9)]
    return kernels.Program(graph, given, B, mg.cross_entropy.rule, scalars, loops).calls


@pytest.mark.parametrize("loops", [loops_numpy, kernels.LOOPS])
def test_the_wide_network_has_a_matrix_of_several_blocks(loops, rng):
    """Else the update of all but the first block is held by no test."""
    calls = calls_of(WIDE, 10, loops, rng)
    assert sum(call.func is loops.update for call in calls) > len(WIDE.E_T)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("eta, lam, momentum", [(0.1, 0.0, 0.0), (0.02, 0.3, 0.5)])
def test_every_loss_and_setting(loss, eta, lam, momentum, fast, rng):
    graph = GRAPHS["skip"]
    params, velocity, x, y = setting(graph, rng)
    y = 2 * y - 1 if loss in ("logistic", "exponential") else y
    expected, expected_velocity = copied(params, velocity)
    rows = mg.batches(len(x), 13, seed=3, epoch=1)
    fast(graph, params, velocity, x, y, rows, loss, eta, lam, momentum)
    readable(graph, expected, expected_velocity, x, y, rows, loss, eta, lam, momentum)
    assert_close(params, expected, 1e-12)
    assert_close(velocity, expected_velocity, 1e-11)


@pytest.mark.parametrize("B", [1, 2, 4, 8, 41])
def test_every_batch_size(B, fast, rng):
    """The update of few.py for 4 samples, made for 3, was seen to fail here."""
    graph = GRAPHS["mlp-bn" if B > 1 else "res"]
    params, velocity, x, y = setting(graph, rng)
    expected, expected_velocity = copied(params, velocity)
    rows = mg.batches(len(x), B, seed=3, epoch=1)[:3]
    fast(graph, params, velocity, x, y, rows, "cross_entropy", 0.05, 0.01, 0.9)
    readable(graph, expected, expected_velocity, x, y, rows, "cross_entropy", 0.05, 0.01, 0.9)
    assert_close(params, expected, 1e-12)


@nets
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_evaluation_in_slices_is_the_readable_one(net, dtype, rng, monkeypatch):
    """On the training set with its own statistics, and on other samples with those."""
    monkeypatch.setattr(slices, "SLICE", 16)  # 41 samples are two whole slices and a part of one
    graph = GRAPHS[net]
    params, _, x, y = setting(graph, rng, dtype)
    copies = [W.copy() for W in (x, *params.values())]
    assert kernels.applies(params, x, y)
    f, stats = slices.predict(graph, params, x)
    expected, expected_stats = mg.predict(graph, params, x)
    others, used = slices.predict(graph, params, x[:7] / 2, stats)
    for found, by_rules in [(f, expected), (others, mg.predict(graph, params, x[:7] / 2, stats)[0])]:
        assert found.dtype == by_rules.dtype == dtype and found.shape == by_rules.shape
        np.testing.assert_allclose(found, by_rules, rtol=0, atol=TOLERANCE[dtype] * abs(by_rules).max())
    for found, by_rules in zip((*stats, *used), (*expected_stats, *expected_stats)):
        assert list(found) == list(by_rules)
        for p, a in by_rules.items():
            assert found[p].shape == a.shape
            np.testing.assert_allclose(found[p], a, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    for W, copy in zip((x, *params.values()), copies):
        np.testing.assert_array_equal(W, copy)


def test_moments_are_summed_in_float64_about_a_value_near_the_mean(rng):
    """20,000 slices of one sample, of which the first is far off; about 0, or in float32, it fails."""
    z = (1000 + rng.normal(size=(20_000, 2))).astype("float32")
    z[0] += 5
    moments = slices.Moments()
    for row in z:
        moments.add(row[None])
    A, b = moments.statistics()
    exact = z.astype("float64")
    np.testing.assert_allclose(b, exact.mean(axis=0), rtol=0, atol=1e-7)
    np.testing.assert_allclose(A, (exact.var(axis=0) + slices.EPS) ** -0.5, rtol=1e-7)


@pytest.mark.parametrize("net, layers", [("mlp", 1.5), ("mlp-bn", 1.5), ("res-bn", 2.5)])
def test_evaluation_holds_one_layer_at_a_time_or_two_where_an_edge_skips_one(net, layers, rng, monkeypatch):
    graph = mg.parse({"mlp": "MLP-4-64", "mlp-bn": "MLP-BN-4-64", "res-bn": "RES-BN-4-64"}[net], n=9, k=4)
    params, _, x, y = setting(graph, rng, m=20_000)
    monkeypatch.setattr(slices, "SLICE", 100)
    tracemalloc.start()
    try:
        mg.evaluate(graph, params, x, y, "cross_entropy")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < layers * 64 * len(x) * x.itemsize


@pytest.mark.parametrize("net", ["mlp", "res-bn", "res-standard", "skip"])
def test_stacked_runs_are_evaluated_as_they_are_alone_bit_for_bit(net, rng):
    graph = GRAPHS[net]
    alone = [setting(graph, rng, "float32") for _ in range(3)]
    x, y = alone[0][2:]
    stack = {key: np.stack([params[key] for params, *_ in alone]) for key in alone[0][0]}
    loss, accuracy, stats = mg.evaluate(graph, stack, x, y, "cross_entropy")
    other = mg.evaluate(graph, stack, x[:7], y[:7], "mean_squared_error", stats)
    assert kernels.applies(stack, x, y) and loss.shape == accuracy.shape == (3,)
    for r, (params, *_) in enumerate(alone):
        one = mg.evaluate(graph, params, x, y, "cross_entropy")
        assert (loss[r], accuracy[r]) == one[:2]
        one_other = mg.evaluate(graph, params, x[:7], y[:7], "mean_squared_error", one[2])
        assert (other[0][r], other[1][r]) == one_other[:2]


@pytest.mark.parametrize("net", ["mlp", "res-bn", "res-standard", "skip"])
def test_stacked_runs_equal_the_same_runs_alone_bit_for_bit(net, fast, rng):
    """Each with its own batches and its own eta, lambda and momentum; one of them diverges."""
    graph, R = GRAPHS[net], 3
    alone = [setting(graph, rng, "float32", "C") for _ in range(R)]
    x, y = alone[0][2:]
    stacks = [{key: np.stack([run[i][key] for run in alone]) for key in alone[0][0]} for i in (0, 1)]
    rows = np.stack([mg.batches(len(x), 10, seed, epoch=1) for seed in range(R)], axis=1)
    values = [0.1, 1e30, 0.01], [0, 0.1, 0.2], [0, 0.9, 0.5]
    eta, lam, momentum = (np.array(v, "float32").reshape(R, 1, 1) for v in values)
    fast(graph, *stacks, x, y, rows, "cross_entropy", eta, lam, momentum)
    for r, (params, velocity, _, _) in enumerate(alone):
        its_own = [float(v[r, 0, 0]) for v in (eta, lam, momentum)]
        fast(graph, params, velocity, x, y, rows[:, r], "cross_entropy", *its_own)
        for key, W in params.items():
            np.testing.assert_array_equal(stacks[0][key][r], W)
            np.testing.assert_array_equal(stacks[1][key][r], velocity[key])
        assert all(np.isfinite(W).all() for W in params.values()) == (r != 1)


@pytest.mark.parametrize("B", [4, 10])
def test_an_epoch_is_its_steps_one_by_one_bit_for_bit(B, fast, rng):
    graph = GRAPHS["res-standard"]
    params, velocity, x, y = setting(graph, rng, "float32")
    by_steps, its_velocity = copied(params, velocity)
    rows = rng.integers(0, len(x), (75, B))
    options = {"loss": "cross_entropy", "eta": 0.01, "lam": 0.01, "momentum": 0.9}
    fast(graph, params, velocity, x, y, rows, **options)
    for step in range(len(rows)):
        fast(graph, by_steps, its_velocity, x, y, rows[step : step + 1], **options)
    for key, W in by_steps.items():
        assert np.isfinite(W).all()
        np.testing.assert_array_equal(params[key], W)
        np.testing.assert_array_equal(velocity[key], its_velocity[key])


def in_other_memory(a):
    """Every second column of a larger array."""
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


@pytest.mark.parametrize("B", [4, 10])
def test_no_bit_depends_on_how_an_array_lies_in_memory_or_whether_the_data_can_change(B, fast, rng):
    """Processes share their data read-only. Kernels that take C and F order alone were seen to fail here."""
    graph = GRAPHS["skip"]
    params, velocity, x, y = setting(graph, rng, "float32", "C")
    rows = mg.batches(len(x), B, seed=3, epoch=1)
    options = {"loss": "cross_entropy", "eta": 0.05, "lam": 0.01, "momentum": 0.9}
    elsewhere = {key: in_other_memory(W) for key, W in params.items()}
    turned = {key: np.array(a, order="F") for key, a in velocity.items()}
    data = [in_other_memory(x), np.asfortranarray(y)]
    for a in data:
        a.flags.writeable = False
    fast(graph, elsewhere, turned, *data, rows, **options)
    fast(graph, params, velocity, x, y, rows, **options)
    for key, W in params.items():
        np.testing.assert_array_equal(elsewhere[key], W)
        np.testing.assert_array_equal(turned[key], velocity[key])


@pytest.mark.parametrize("net, loss", [("skip", "mean_squared_error"), ("res-bn", "cross_entropy")])
@pytest.mark.parametrize("B", [4, 10])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_so_and_goes_where_the_readable_step_takes_it(
    net, loss, B, value, fast, rng
):
    graph = GRAPHS[net]
    params, velocity, x, y = setting(graph, rng)
    params[3, 2][1, 2] = value
    expected, expected_velocity = copied(params, velocity)
    rows = mg.batches(len(x), B, seed=3, epoch=1)[:1]
    fast(graph, params, velocity, x, y, rows, loss, 0.05, 0.01, 0.9)
    readable(graph, expected, expected_velocity, x, y, rows, loss, 0.05, 0.01, 0.9)
    for key, W in expected.items():
        np.testing.assert_array_equal(np.isfinite(params[key]), np.isfinite(W), err_msg=str(key))


numba_alone = pytest.mark.skipif(not kernels.COMPILED, reason="Numba is not installed, or switched off")


@numba_alone
@pytest.mark.parametrize(
    "row", [(1000, 0, -1000), (0, 1, np.inf), (np.inf, np.inf, 0), (0, 1, np.nan), (-np.inf, 0, 1)]
)
def test_the_cotangent_of_the_cross_entropy_is_that_of_losses_at_any_output(row):
    """Without the largest taken off, or with a total that starts at 0 f[0], it was seen to fail."""
    f, y = np.array([row, (0, 1, 2)], "float64"), np.eye(3)[:2]
    df = np.empty_like(f)
    kernels.LOOPS.LOSSES[mg.cross_entropy.rule](df, f, y)
    with np.errstate(invalid="ignore"):
        expected = mg.cross_entropy(f, y)[1]
    np.testing.assert_allclose(df, expected, rtol=1e-12, atol=1e-15)


@numba_alone
@pytest.mark.parametrize("network", ["MLP-BN-2-9", "RES-BN-2-9", "MLP-2-9"])
@pytest.mark.parametrize("B", [4, 8, 9])
def test_a_step_of_the_figures_networks_is_one_call_on_4_and_8_samples(network, B, rng):
    """With a call that few.py does not know they would be trained too, at half the speed."""
    calls = calls_of(mg.parse(network, n=9, k=4), B, kernels.LOOPS, rng)
    assert (len(calls) == 1) == (B < 9)


def test_neither_the_data_nor_the_batches_change(fast, rng):
    graph = GRAPHS["res-bn"]
    params, velocity, x, y = setting(graph, rng)
    rows = mg.batches(len(x), 10, seed=3, epoch=1)
    given = [x, y, rows]
    copies = [a.copy() for a in given]
    fast(graph, params, velocity, x, y, rows, "cross_entropy", 0.05, 0.01, 0.9)
    for a, copy in zip(given, copies):
        np.testing.assert_array_equal(a, copy)


def test_what_the_fast_epoch_does_not_take_is_left_to_the_readable_one(rng):
    graph = GRAPHS["mlp"]
    params, velocity, x, y = setting(graph, rng)
    rows = mg.batches(len(x), 10, seed=3, epoch=1)
    assert kernels.applies(params, x, y, velocity, rows)
    others = [
        (params, x.astype("float32"), y, velocity, rows),
        (params, x, y.astype("float32"), velocity, rows),
        (params, x, y, velocity | {(2, 1): velocity[2, 1][0]}, rows),
        (params, x, y, velocity, rows + len(x)),
        (params, x, y, velocity, rows - len(x)),
        (params, x, y, velocity, rows[:0]),
    ]
    others += [(params, x, y, velocity, np.array([[0, row]])) for row in (-1, len(x))]
    for args in others:
        assert not kernels.applies(*args)
    assert kernels.applies(params, x, y, velocity, np.array([[0, len(x) - 1]]))
    assert not kernels.applies(params, x[None], y)
    with pytest.raises(IndexError):
        mg.train_epoch(graph, params, velocity, x, y, rows + len(x), "cross_entropy", 0.05, 0.01, 0.9)


def test_train_epoch_takes_the_loops_that_path_names(rng):
    """Bit for bit: neither the other loops nor the readable step have the same last bits."""
    graph = GRAPHS["mlp-bn"]
    params, velocity, x, y = setting(graph, rng, "float32")
    rows = mg.batches(len(x), 10, seed=3, epoch=1)
    ends = {}
    for name in ("train_epoch", "named", "readable", "numpy"):
        ends[name], its_velocity = copied(params, velocity)
        args = (graph, ends[name], its_velocity, x, y, rows, "cross_entropy", 0.05, 0.01, 0.9)
        if name == "train_epoch":
            mg.train_epoch(*args)
        elif name == "readable":
            readable(*args)
        else:
            kernels.train_epoch(*args, loops=loops_numpy if name == "numpy" else kernels.LOOPS)

    def same(name):
        return all(np.array_equal(W, ends["train_epoch"][key]) for key, W in ends[name].items())

    assert same("named") and not same("readable")
    assert same("numpy") == (kernels.PATH == "numpy")


@pytest.mark.parametrize("how", ["not installed", "switched off"])
def test_without_numba_the_loops_are_those_of_numpy(how):
    """In a process of its own: kernels.py chooses when it is imported."""
    lines = [
        "import sys",
        "sys.modules['numba'] = None" if how == "not installed" else "",
        "from minigrad import kernels",
        "print(kernels.PATH, kernels.COMPILED, kernels.LOOPS.__name__)",
    ]
    switch = {"NUMBA_DISABLE_JIT": "1" if how == "switched off" else "0"}
    found = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=os.environ | switch, cwd=Path(__file__).parents[1],
        capture_output=True, text=True, check=True,
    )
    assert found.stdout.split() == ["numpy", "False", "minigrad.loops_numpy"]


@numba_alone
@pytest.mark.parametrize("changed", [None, "layers.py", "loops_numba.py", "few.py"])
def test_a_step_is_compiled_anew_when_a_file_changes_that_it_is_compiled_from(changed, tmp_path):
    """Numba keeps it on disk by this name. By the function's own, it took steps of before the change."""
    package = Path(kernels.__file__).parent
    shutil.copytree(package, tmp_path / "minigrad", ignore=shutil.ignore_patterns("__pycache__"))
    if changed:
        with (tmp_path / "minigrad" / changed).open("a") as file:
            file.write("# another\n")
    program = "from minigrad import few; print(few.run.py_func.__qualname__)"
    found = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )
    assert (found.stdout.strip() == kernels.few.run.py_func.__qualname__) == (changed is None)


@pytest.mark.skipif(not kernels.COMPILED, reason="Numba is not installed, or switched off")
def test_a_product_of_few_samples_rounds_no_more_than_twice_as_much_as_blas(rng):
    """One sum over all 3072 rows in turn rounded 3 times as much."""
    v, W = rng.normal(size=(4, 3072)).astype("float32"), rng.normal(size=(3072, 100)).astype("float32")
    exact = v.astype("float64") @ W
    z, room = np.empty((2, 4, 100), "float32")
    kernels.few.product(z, v, W, room, True)
    assert abs(z - exact).std() <= 2 * abs(v @ W - exact).std()
