"""NumPy and CuPy run the same code: on fake_cupy everywhere, and with a GPU on CuPy (`-m gpu`)."""

import sys
import types
import warnings

import fake_cupy
import numpy
import pytest
from problems import NETWORKS, mixed_graph, setting, targets

import minigrad as mg
from minigrad.backend import fused, swap, to_host
from minigrad.layers import linear, linear_backward
from minigrad.losses import LOSSES

GRAPHS = {name: NETWORKS[name] for name in ("mlp-bn", "res-true", "skip")}
GRAPHS["mixed"] = mixed_graph()

nets = pytest.mark.parametrize("net", GRAPHS)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
stacks = pytest.mark.parametrize("R", [None, 3], ids=["alone", "stacked"])


@pytest.fixture(autouse=True)
def nothing_counted_before_the_test():
    fake_cupy.reset()


def import_cupy():
    """CuPy, or a skip that says why. Without a GPU it imports, and may warn about CUDA."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="CUDA path could not be detected")
        try:
            import cupy
        except ImportError as error:
            pytest.skip(f"CuPy can't be imported: {str(error).strip().splitlines()[0]}")
        return cupy


@pytest.fixture
def cupy():
    module = import_cupy()
    if not module.cuda.is_available():
        pytest.skip("CuPy finds no CUDA GPU on this machine")
    return module


def leaves(value, path=()):
    """(path, array) for every array in a nest of dicts and tuples."""
    if isinstance(value, (tuple, list)):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif hasattr(value, "dtype"):
        yield path, value


def assert_same(actual, expected, xp, tol=0.0):
    """Arrays of xp that differ by tol of the largest number beside them: a sum can come near 0."""
    actual, expected = dict(leaves(actual)), dict(leaves(expected))
    assert actual.keys() == expected.keys()
    size = {}
    for path, array in expected.items():
        largest = numpy.nanmax(numpy.abs(array), initial=1e-30)
        size[path[:-1]] = max(size.get(path[:-1], 0), largest)
    for path, array in expected.items():
        assert isinstance(actual[path], xp.ndarray), path
        assert actual[path].dtype == array.dtype, path
        atol = tol * size[path[:-1]]
        numpy.testing.assert_allclose(
            to_host(actual[path]), array, rtol=0, atol=atol, err_msg=str(path), strict=True
        )


# The computations, once for every library: each draws with NumPy, moves to xp and stays there.


def problem(xp, graph, dtype, R, m=8):
    """params, of R stacked runs if R, with x (m, n) and one-hot y (m, k)."""
    rng = numpy.random.default_rng(0)
    runs = [setting(graph, rng, m, dtype) for _ in range(R or 1)]
    x = runs[0][1]
    params = {key: numpy.stack([run[key] for run, _ in runs]) for key in runs[0][0]}
    params = {key: xp.asarray(W if R else W[0]) for key, W in params.items()}
    return params, xp.asarray(x), xp.asarray(targets("cross_entropy", (m, 3), rng).astype(dtype))


def one_pass(xp, graph, dtype, R):
    """Both passes, and test time with the statistics of other samples."""
    params, x, y = problem(xp, graph, dtype, R)
    cache = mg.forward(graph, params, x)
    loss, df = mg.cross_entropy(cache.v[graph.L], y)
    U, dscale = mg.backward(graph, params, cache, df)
    factors = mg.factors(graph, cache, U)
    held = mg.forward(graph, params, x, A=cache.A, b=cache.b)
    of_samples = mg.backward(graph, params, cache, mg.per_sample(df))
    f, stats = mg.predict(graph, params, x)
    return {
        "cache": cache[:4],
        "loss": {"loss": loss},
        "gradients": mg.gradients(graph, cache, U, dscale),
        "terms": {edge: factor.terms() for edge, factor in factors.items()},
        "norms": {edge: factor.norms() for edge, factor in factors.items()},
        "held": mg.backward(graph, params, held, df),
        "samples": mg.gradients(graph, cache, *of_samples),
        "test time": (f, *stats, mg.predict(graph, params, x[:3], stats)[0]),
    }


def steps(xp, graph, dtype, R):
    """params and velocity after three steps; stacked runs have a rate and a lambda each."""
    params, x, y = problem(xp, graph, dtype, R)
    velocity = {name: xp.zeros_like(W) for name, W in params.items()}
    eta, lam = 0.1, 1e-3
    if R:
        numbers = numpy.arange(1, R + 1).reshape(R, 1, 1).astype(dtype)
        eta, lam = xp.asarray(0.05 * numbers), xp.asarray(1e-3 * numbers)
    for epoch in range(59, 62):
        scalars = (mg.step_decay(eta, epoch), lam, 0.9)
        mg.train_step(graph, params, velocity, x, y, "cross_entropy", *scalars)
    return {"params": params, "velocity": velocity}


def an_epoch(xp, graph, dtype, R):
    """An epoch on batches of every run's own, and its evaluation."""
    params, x, y = problem(xp, graph, dtype, R, m=24)
    rows = [mg.batches(24, 8, seed=run, epoch=1) for run in range(R or 1)]
    rows = xp.asarray(numpy.stack(rows, axis=1) if R else rows[0])
    velocity = mg.train_epoch(graph, params, None, x, y, rows, "cross_entropy", 0.1, 1e-3, 0.9)
    loss, accuracy, stats = mg.evaluate(graph, params, x, y, "cross_entropy")
    others = mg.evaluate(graph, params, x[:7], y[:7], "mean_squared_error", stats)
    values = {"loss": (loss, others[0]), "accuracy": (accuracy, others[1])}
    return {"params": params, "velocity": velocity, "stats": tuple(stats)} | values


# float32 loses 2.5e-6 against float64 on such problems. So 3e-5 leaves room for another order of
# sums, as a compiled epoch and products of stacks have it, and catches TF32, which loses 1e-3.
CLOSE = {"float32": 3e-5, "float64": 1e-12}
computations = pytest.mark.parametrize("compute", [one_pass, steps, an_epoch])


@computations
@nets
@dtypes
@stacks
def test_a_network_computes_the_same_numbers_on_a_device_without_waiting(compute, net, dtype, R):
    """Nor does a step make an array of another precision, as `array * numpy.float64(eta)` does."""
    actual = compute(fake_cupy, GRAPHS[net], dtype, R)
    assert fake_cupy.waits == 0
    if compute is steps:
        assert {made.name for made in fake_cupy.dtypes if made.kind == "f"} == {dtype}
    tol = 0 if compute is steps and R is None else CLOSE[dtype]
    assert_same(actual, compute(numpy, GRAPHS[net], dtype, R), fake_cupy, tol)


@pytest.mark.parametrize("loss", LOSSES)
@dtypes
def test_a_loss_computes_the_same_numbers_on_a_device_without_waiting(loss, dtype, rng):
    f, y = rng.normal(size=(2, 8, 3)).astype(dtype), targets(loss, (8, 3), rng).astype(dtype)
    actual = LOSSES[loss](fake_cupy.asarray(f), fake_cupy.asarray(y))
    assert fake_cupy.waits == 0
    assert_same(actual, LOSSES[loss](f, y), fake_cupy)


def measured(xp, dtype):
    """Every measure of a stack: matrices of rank 3, of full rank, zero and not finite."""
    rng = numpy.random.default_rng(0)
    W = rng.normal(size=(4, 9, 3)) @ rng.normal(size=(4, 3, 6))
    W[1] += 0.1 * rng.normal(size=(9, 6))
    W[2], W[3, 2, 2] = 0, numpy.nan
    W = xp.asarray(W.astype(dtype))
    norms = ("spectral", "frobenius")
    return {
        "singular values": (mg.singular_values(W), mg.singular_values(swap(W))),
        "rank": [mg.rank(W, norm=norm) for norm in (*norms, None)],
        "distance to rank": [mg.distance_to_rank(W, r, norm) for r in (2, 6) for norm in norms],
        "bound": [mg.theorem1_bound(W, 1e-3, norm) for norm in norms],
        "effective": (mg.stable_rank(W), mg.effective_rank(W)),
        "distance": {"d": mg.distance({(2, 1): W}, {(2, 1): W[0]}, [(2, 1)])},
    }


@dtypes
def test_the_measures_are_the_same_numbers_on_a_device(dtype):
    # In older versions of OpenBLAS the last bit depends on where an array lies.
    assert_same(measured(fake_cupy, dtype), measured(numpy, dtype), fake_cupy, tol=1e-14)


def test_a_gradient_can_be_checked_on_a_device(rng):
    graph = GRAPHS["res-true"]
    params, x, y = problem(fake_cupy, graph, "float64", None)
    cache = mg.forward(graph, params, x)
    _, df = mg.cross_entropy(cache.v[graph.L], y)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))

    def loss(params):
        value, _ = mg.cross_entropy(mg.forward(graph, params, x).v[graph.L], y)
        return value

    mg.check_gradient(loss, params, grads, rng)
    with pytest.raises(AssertionError, match="2, 1"):
        mg.check_gradient(loss, params, grads | {(2, 1): 1.001 * grads[2, 1]}, rng)


def test_products_raise_no_floating_point_warnings():
    """Some BLAS libraries raise the flags in right products; here inf times 0 does."""
    W = v = numpy.array([[numpy.inf, 0.0], [0.0, numpy.inf]])
    with numpy.errstate(all="raise"):
        for product in (linear(W, v), linear_backward(v, W), mg.GradFactors(W, v).matrix()):
            assert numpy.isnan(product).any()


# The fake refuses what CuPy refuses.

HOST = numpy.arange(6.0).reshape(2, 3)
MIXTURES = {
    "array + device": lambda a: HOST + a,
    "device @ array": lambda a: a @ HOST.T,
    "device * 0-d array": lambda a: a * numpy.array(2.0),
    "device[0] = array": lambda a: a.__setitem__(0, HOST[0]),
    "numpy.asarray": lambda a: numpy.asarray(a),
    "function of a list with one": lambda a: fake_cupy.stack([a, HOST]),
    "fused product": lambda a: fake_cupy.fuse(lambda a: a @ a)(a),
    "fused decision": lambda a: fake_cupy.fuse(lambda a: a if a > 0 else -a)(a),
    "fused numbers": lambda a: fake_cupy.fuse(lambda a, lam: 2 * lam * a)(a, 0.1),
}


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_fake_refuses_to_mix_with_numpy_and_to_fuse_what_cupy_cannot(mixture):
    with pytest.raises(TypeError):
        MIXTURES[mixture](fake_cupy.asarray(HOST))


WAITS = {
    "float": lambda a: float(a[0, 0]),
    "bool": lambda a: bool(a.any()),
    "mask": lambda a: a[a > 0],
    "where": lambda a: fake_cupy.where(a > 0),
}


@pytest.mark.parametrize("wait", WAITS)
def test_the_fake_counts_waits(wait):
    a = fake_cupy.asarray(HOST) * 2 + fake_cupy.ones((2, 3))
    assert fake_cupy.waits == 0
    WAITS[wait](a)
    assert fake_cupy.waits == 1


def test_the_fake_s_list_of_names_agrees_with_an_installed_cupy():
    """An error here means that CuPy or NumPy has moved: freeze the lists anew."""
    cupy = import_cupy()
    for ours, theirs, frozen in (
        (numpy, cupy, fake_cupy.LACKING),
        (numpy.linalg, cupy.linalg, fake_cupy.LACKING_LINALG),
    ):
        public = {name for name in dir(ours) if not name.startswith("_")}
        assert {name for name in public if not hasattr(theirs, name)} <= frozen
    assert {*fake_cupy.METHODS, *fake_cupy.ATTRIBUTES} <= set(dir(cupy.ndarray))


def test_a_fused_rule_is_the_same_rule(rng):
    @fused
    def descend(W, g, decay=None):
        W -= g if decay is None else g + decay * W
        return W * W, W > 0

    for more in ((), (0.01,)):
        W, g = rng.normal(size=(2, 3, 4, 5)).astype("float32")
        there = [fake_cupy.asarray(W), fake_cupy.asarray(g)]
        actual = descend(*there, *more)
        assert_same((*actual, there[0]), (*descend(W, g, *more), W), fake_cupy)


# A backend that can't be used.


@pytest.mark.parametrize("installed", [True, False])
def test_cupy_that_cannot_be_used_is_one_sentence_and_no_fallback(installed, monkeypatch):
    without_gpu = types.SimpleNamespace(is_available=lambda: False)
    fake = types.SimpleNamespace(cuda=without_gpu) if installed else None
    monkeypatch.setitem(sys.modules, "cupy", fake)
    with pytest.raises(mg.BackendError, match="CuPy .*--backend numpy$"):
        mg.load_backend("cupy")


def test_an_unknown_backend_is_refused():
    assert mg.load_backend("numpy") is numpy
    with pytest.raises(ValueError, match="backend must be one of"):
        mg.load_backend("CuPy")


# CuPy against NumPy, where there is a GPU.


@pytest.mark.gpu
@computations
@nets
@dtypes
@stacks
def test_cupy_agrees_with_numpy_on_a_network(cupy, compute, net, dtype, R):
    graph = GRAPHS[net]
    assert_same(compute(cupy, graph, dtype, R), compute(numpy, graph, dtype, R), cupy, CLOSE[dtype])


@pytest.mark.gpu
@dtypes
def test_cupy_agrees_with_numpy_on_the_measures(cupy, dtype):
    """Singular values that are 0 come out near 1.5e-8 of the norm in float32 (the Gram matrix)."""
    tol = {"float32": 1e-6, "float64": 1e-12}[dtype]
    assert_same(measured(cupy, dtype), measured(numpy, dtype), cupy, tol)


@pytest.mark.gpu
def test_the_fake_refuses_what_this_cupy_refuses(cupy):
    a = cupy.asarray(HOST)
    for mixture in ("array + device", "device @ array", "device * 0-d array", "numpy.asarray"):
        with pytest.raises(TypeError):
            MIXTURES[mixture](a)
    assert (cupy.ones(2, "float32") * numpy.float64(2)).dtype == "float64"
    assert cupy.fuse(lambda a, lam: lam * a)(cupy.ones(2, "float32"), 0.5).dtype == "float32"
