"""NumPy and CuPy run the same code: on fake_cupy everywhere, and with a GPU on CuPy (`-m gpu`)."""

import sys
import types
import warnings

import fake_cupy
import numpy
import pytest
from problems import NETWORKS, mixed_graph, setting, targets

import minigrad as mg
from minigrad.backend import swap, to_host
from minigrad.losses import LOSSES

GRAPHS = {"res-true": NETWORKS["res-true"], "skip": NETWORKS["skip-bn"], "mixed": mixed_graph()}
# float32 loses 2.5e-6 against float64 on such problems. So 3e-5 leaves room for another order of
# sums, as products of stacks have it, and catches TF32, which loses 1e-3.
CLOSE = {"float32": 3e-5, "float64": 1e-12}


def import_cupy():
    """CuPy, or a skip that says why. Without a GPU it imports, and may warn about CUDA."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="CUDA path could not be detected")
        try:
            import cupy
        except ImportError as error:
            pytest.skip(f"CuPy can't be imported: {str(error).strip().splitlines()[0]}")
        return cupy


@pytest.fixture(params=["fake", pytest.param("cupy", marks=pytest.mark.gpu)])
def xp(request):
    """The fake, or CuPy where there is a GPU."""
    fake_cupy.reset()
    if request.param == "fake":
        return fake_cupy
    cupy = import_cupy()
    if not cupy.cuda.is_available():
        pytest.skip("CuPy finds no CUDA GPU on this machine")
    return cupy


def assert_same(actual, expected, xp, tol=0.0):
    """Lists of arrays, of xp and of NumPy, that differ by tol of the largest number, or of 0.1."""
    assert len(actual) == len(expected)
    for found, array in zip(actual, expected):
        assert isinstance(found, xp.ndarray)
        atol = tol * numpy.nanmax(numpy.abs(array), initial=0.1)
        numpy.testing.assert_allclose(to_host(found), array, rtol=0, atol=atol, strict=True)


# The computations, once for every library: each draws with NumPy, moves to xp and stays there.


def problem(xp, graph, dtype, R, m=8):
    """params, of R stacked runs if R, with x (m, n) and one-hot y (m, k)."""
    rng = numpy.random.default_rng(0)
    runs = [setting(graph, rng, m, dtype)[0] for _ in range(R or 1)]
    params = {key: numpy.stack([run[key] for run in runs]) for key in runs[0]}
    params = {key: xp.asarray(W if R else W[0]) for key, W in params.items()}
    x = rng.normal(size=(m, graph.width(1))).astype(dtype)
    return params, xp.asarray(x), xp.asarray(targets("cross_entropy", (m, 3), rng).astype(dtype))


def one_pass(xp, graph, dtype, R):
    """Both passes, and test time with the statistics of other samples."""
    params, x, y = problem(xp, graph, dtype, R)
    cache = mg.forward(graph, params, x)
    loss, df = mg.cross_entropy(cache.v[graph.L], y)
    U, dscale = mg.backward(graph, params, cache, df)
    held = mg.forward(graph, params, x, A=cache.A, b=cache.b)
    U_held, dscale_held = mg.backward(graph, params, held, df)
    of_samples = mg.backward(graph, params, cache, mg.per_sample(df))
    f, stats = mg.predict(graph, params, x)
    found = [loss, f, mg.predict(graph, params, x[:3], stats)[0]]
    for function in LOSSES.values():
        found += function.rule(f, y)
    for factor in mg.factors(graph, cache, U).values():
        found += [factor.terms(), factor.norms()]
    for gradients in (U_held, dscale_held, mg.gradients(graph, cache, U, dscale)):
        found += gradients.values()
    return [*found, *mg.gradients(graph, cache, *of_samples).values()]


def an_epoch(xp, graph, dtype, R):
    """An epoch of readable steps on batches and rates of every run's own, and its evaluation."""
    params, x, y = problem(xp, graph, dtype, R, m=24)
    rows = [mg.batches(24, 8, seed=run, epoch=1) for run in range(R or 1)]
    rows = xp.asarray(numpy.stack(rows, axis=1) if R else rows[0])
    eta, lam = 0.1, 1e-3
    if R:
        numbers = numpy.arange(1, R + 1).reshape(R, 1, 1).astype(dtype)
        eta, lam = xp.asarray(0.05 * numbers), xp.asarray(1e-3 * numbers)
    scalars = mg.step_decay(eta, 60), lam, 0.9
    fake_cupy.reset()
    velocity = mg.train_epoch(
        graph, params, None, x, y, rows, "cross_entropy", *scalars, engine="reference"
    )
    if xp is fake_cupy:  # no precision in between, as `array * numpy.float64(eta)` has it
        assert {made.name for made in fake_cupy.dtypes if made.kind == "f"} == {dtype}
    loss, accuracy, stats = mg.evaluate(graph, params, x, y, "cross_entropy")
    others = mg.evaluate(graph, params, x[:7], y[:7], "mean_squared_error", stats)
    return [*params.values(), *velocity.values(), loss, accuracy, *others[:2], *stats.A.values()]


@pytest.mark.parametrize("compute", [one_pass, an_epoch])
@pytest.mark.parametrize("net", GRAPHS)
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("R", [None, 3], ids=["alone", "stacked"])
def test_a_network_computes_the_same_on_a_device_without_waiting(compute, net, dtype, R, xp):
    found = compute(xp, GRAPHS[net], dtype, R)
    assert fake_cupy.waits == 0
    assert_same(found, compute(numpy, GRAPHS[net], dtype, R), xp, CLOSE[dtype])


def measured(xp, dtype):
    """Every measure of a stack: matrices of rank 3, of full rank, zero and not finite."""
    rng = numpy.random.default_rng(0)
    W = rng.normal(size=(4, 9, 3)) @ rng.normal(size=(4, 3, 6))
    W[1] += 0.1 * rng.normal(size=(9, 6))
    W[2], W[3, 2, 2] = 0, numpy.nan
    W = xp.asarray(W.astype(dtype))
    found = [mg.singular_values(W), mg.singular_values(swap(W)), mg.rank(W, norm=None)]
    found += [mg.stable_rank(W), mg.effective_rank(W), mg.distance([W], [W[0]], [0])]
    for norm in ("spectral", "frobenius"):
        found += [mg.rank(W, norm=norm), mg.theorem1_bound(W, 1e-3, norm)]
        found += [mg.distance_to_rank(W, r, norm) for r in (2, 6)]
    return found


@pytest.mark.parametrize("dtype, tol", [("float32", 1e-6), ("float64", 1e-12)])
def test_the_measures_are_the_same_numbers_on_a_device(dtype, tol, xp):
    """Singular values that are 0 come out near 1.5e-8 of the norm in float32 (the Gram matrix)."""
    assert_same(measured(xp, dtype), measured(numpy, dtype), xp, tol)


def test_a_gradient_can_be_checked_on_a_device(rng):
    W = fake_cupy.asarray(rng.normal(size=(3, 4)))
    mg.check_gradient(lambda params: (params["W"] ** 2).sum(), {"W": W}, {"W": 2 * W}, rng)


def without_cuda_toolkit(shape):
    raise RuntimeError("no CUDA headers\nare found")


@pytest.mark.parametrize("lacking", ["CuPy", "a GPU", "the CUDA Toolkit"])
def test_cupy_that_cannot_be_used_is_one_sentence_and_no_fallback(lacking, monkeypatch):
    cuda = types.SimpleNamespace(is_available=lambda: lacking != "a GPU")
    fake = types.SimpleNamespace(cuda=cuda, ones=without_cuda_toolkit)
    monkeypatch.setitem(sys.modules, "cupy", None if lacking == "CuPy" else fake)
    with pytest.raises(mg.BackendError, match="CuPy .*--backend numpy$"):
        mg.load_backend("cupy")


MIXTURES = {
    "array + device": lambda a: numpy.ones(3) + a,
    "device @ array": lambda a: a @ numpy.ones(3),
    "device * 0-d array": lambda a: a * numpy.array(2.0),
    "numpy.asarray": lambda a: numpy.asarray(a),
}


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_fake_refuses_what_cupy_refuses(mixture, xp):
    with pytest.raises(TypeError):
        MIXTURES[mixture](xp.ones((3, 3)))


def test_cupy_has_the_names_of_the_fake():
    cupy = import_cupy()
    assert set(fake_cupy.NAMES) <= set(dir(cupy))
    assert set(fake_cupy.LINALG) <= set(dir(cupy.linalg))
    assert {*fake_cupy.METHODS, *fake_cupy.ATTRIBUTES} <= set(dir(cupy.ndarray))
