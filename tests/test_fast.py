"""The compiled step against the readable one, and when it is used."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import problems
import pytest

import minigrad as mg
from minigrad import fast, layers, losses, network, train

needs_numba = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
    or importlib.util.find_spec("numba") is None,
    reason="Numba is not installed, or switched off",
)
ROOT = Path(__file__).parents[1]
OPTIONS = {"loss": "cross_entropy", "eta": 0.05, "lam": 0.01, "momentum": 0.9}
SKIP = mg.Graph(
    [
        mg.Layer(12, "identity"), mg.Layer(8), mg.Layer(8, batchnorm=True, detached=False),
        mg.Layer(4, "identity", batchnorm=True, scalar=False), mg.Layer(8), mg.Layer(3, "identity"),
    ],
    [
        mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(4, 2), mg.Edge(5, 3), mg.Edge(5, 2, trainable=False),
        mg.Edge(5, 1), mg.Edge(6, 5), mg.Edge(6, 2),
    ],
)  # layer 4 leads nowhere; layers 5 and 2 take several terms forward and backward
GRAPHS = {
    "mlp-bn": mg.mlp(10, 3, 6, 5, True),  # BLAS: no multiples of four
    "res-standard": mg.resnet(12, 2, 8, 3, True, detached=False, scalar=False),
    "skip": SKIP,
}
CASES = [  # B, loss, lambda
    (3, "cross_entropy", 0.01), (4, "cross_entropy", 0.3), (8, "cross_entropy", 0.01),
    (40, "cross_entropy", 0.0), (8, "mean_squared_error", 0.01), (13, "logistic", 0.3),
    (13, "exponential", 0.01),
]  # fmt: skip


def problem(graph, rng, dtype="float64", B=10, loss="cross_entropy"):
    """graph, params, a velocity that is not zero, x, y, and the rows of three steps."""
    params, x = problems.setting(graph, rng, 3 * B, dtype)
    x *= 0.3  # so that exp(f) is finite
    velocity = {key: (0.01 * rng.normal(size=W.shape)).astype(dtype) for key, W in params.items()}
    y = problems.targets(loss, (3 * B, graph.width(graph.L)), rng)
    return graph, params, velocity, x, y.astype(dtype), rng.permutation(3 * B).reshape(3, B)


def trained(engine, graph, params, velocity, x, y, rows, **options):
    """Copies of params and velocity after the steps of rows, as one dict."""
    params = {key: W.copy() for key, W in params.items()}
    velocity = {key: W.copy() for key, W in velocity.items()}
    mg.train_epoch(graph, params, velocity, x, y, rows, **OPTIONS | options, engine=engine)
    return params | {("velocity", key): W for key, W in velocity.items()}


def assert_close(found, expected, tolerance=0.0):
    """Entries, relative to the largest of their matrix; a lone scalar may have cancelled."""
    for key, W in expected.items():
        atol = tolerance * max(abs(W).max(), 0.1)
        np.testing.assert_allclose(found[key], W, 0, atol, err_msg=str(key), strict=True)


@needs_numba
@pytest.mark.parametrize("dtype, tol", [("float64", 1e-11), ("float32", 5e-5)])
@pytest.mark.parametrize("net", GRAPHS)
@pytest.mark.parametrize("B, loss, lam", CASES)
def test_the_compiled_step_is_the_readable_one(B, loss, lam, net, dtype, tol, rng):
    given = problem(GRAPHS[net], rng, dtype, B, loss)
    options = {"loss": loss, "eta": 1e-4, "lam": lam}
    expected = trained("reference", *given, **options)
    assert all(np.isfinite(W).all() for W in expected.values())
    assert_close(trained("fast", *given, **options), expected, tol)


@needs_numba
@pytest.mark.parametrize("net, few", [("skip", True), ("mlp-bn", False)])
def test_products_of_few_samples_are_compiled_for_widths_that_are_multiples_of_four(net, few):
    from minigrad.fast import table

    assert table.Step(GRAPHS[net], 4, None, np.zeros(4, "float32")).few == few


@needs_numba
def test_a_compiled_product_rounds_as_little_as_blas(rng):
    """BLAS's relative error is 4e-7. One sum over all rows of W was seen to have 1e-6."""
    from minigrad.fast import compiled

    v, W = (rng.normal(size=shape).astype("float32") for shape in ((8, 3072), (3072, 100)))
    z, expected = np.empty((8, 100), "float32"), v.astype("float64") @ W
    compiled.matmul(z, v, W)
    assert np.linalg.norm(z - expected) < 5e-7 * np.linalg.norm(expected)


def elsewhere(a):
    """The same values in every second column of a larger array."""
    return np.repeat(a, 2, axis=-1)[..., ::2]


@needs_numba
@pytest.mark.parametrize("B", [4, 10])
def test_no_bit_depends_on_memory_layout_or_on_steps_a_call_and_the_data_may_be_read_only(B, rng):
    graph, params, velocity, x, y, rows = problem(SKIP, rng, "float32", B)
    expected = trained("fast", graph, params, velocity, x, y, rows)
    x, y, rows = elsewhere(x), np.asfortranarray(y), elsewhere(rows)
    for a in (x, y, rows):
        a.flags.writeable = False
    params = {key: elsewhere(W) for key, W in params.items()}
    velocity = {key: np.asfortranarray(a) for key, a in velocity.items()}
    for step in rows:
        mg.train_epoch(graph, params, velocity, x, y, step[None], **OPTIONS, engine="fast")
    assert_close(params | {("velocity", key): a for key, a in velocity.items()}, expected)


@needs_numba
@pytest.mark.parametrize("B", [4, 10])
@pytest.mark.parametrize("edge, value", [((3, 2), np.nan), ((6, 5), np.inf), ((6, 5), 1e4)])
def test_values_that_are_not_finite_spread_as_in_the_readable_step(B, edge, value, rng):
    """exp(1e4) overflows where the largest output is not subtracted."""
    *given, rows = problem(SKIP, rng, B=B)
    given[1][edge][1, 2] = value
    found, expected = (trained(engine, *given, rows[:1]) for engine in ("fast", "reference"))
    for key, W in expected.items():
        np.testing.assert_array_equal(np.isfinite(found[key]), np.isfinite(W), err_msg=str(key))


@needs_numba
def test_no_value_of_a_float32_step_is_float64():
    """By Numba's type inference; `2 * eta`, an integer times float32, was seen to fail."""
    import numba

    from minigrad.fast import compiled

    anew = numba.njit(compiled.run.py_func)  # compiling it compiles, or loads, all that it calls
    anew.compile((numba.float32[::1], numba.int64[:, ::1], numba.float32[::1]))
    rules = [rule for rule in vars(compiled).values() if hasattr(rule, "py_func")]
    rules[rules.index(compiled.run)] = anew
    for rule in rules:
        kinds = {str(args): str(code.type_annotation) for args, code in rule.overloads.items()}
        of_float32 = [types for args, types in kinds.items() if "float64" not in args]
        assert of_float32 and not any("float64" in types for types in of_float32), rule


# When it is used.


def halved(rule, i):
    """The rule with its i-th result halved."""

    def changed(*args):
        return tuple(a / 2 if j == i else a for j, a in enumerate(rule(*args)))

    return changed


def other_eps(z):
    b = z.mean(axis=-2, keepdims=True)
    return (z.var(axis=-2, keepdims=True) + 10 * layers.EPS) ** -0.5, b


def without_through_A(da, gamma, A, normalized, A_is_constant, b_is_constant):
    return layers.batchnorm_backward(da, gamma, A, normalized, True, b_is_constant)


sgd_step = train.sgd_step
CHANGES = {
    "derivative of relu": (layers.ACTIVATION, "relu", (layers.relu, lambda dv, v: dv * (v > 1))),
    "large numbers": (layers.ACTIVATION, "relu", (lambda a: a.clip(0, 6), layers.relu_backward)),
    "NaN": (network, "linear_backward", lambda dz, W: layers.linear_backward(dz, W) * np.nan),
    "EPS": (network, "batch_statistics", other_eps),
    "gradient of gamma": (network, "batchnorm_backward", halved(layers.batchnorm_backward, 1)),
    "gradient of beta": (network, "batchnorm_backward", halved(layers.batchnorm_backward, 2)),
    "true gradient": (network, "batchnorm_backward", without_through_A),
    "decay": (train, "sgd_step", lambda *args: sgd_step(*args[:5], 2 * args[5], args[6])),
    "cross entropy": (losses.cross_entropy, "rule", halved(losses.cross_entropy.rule, 1)),
}


@needs_numba
@pytest.mark.parametrize("change", CHANGES)
def test_after_a_changed_rule_the_readable_step_trains(change, monkeypatch):
    where, name, changed = CHANGES[change]
    (monkeypatch.setitem if isinstance(where, dict) else monkeypatch.setattr)(where, name, changed)
    assert "differs" in fast.unavailable.__wrapped__("float32")


class WithMore(mg.Layer):
    """A layer to whose class something was added."""


@pytest.mark.parametrize("layer", [mg.Layer(4, "sigmoid"), WithMore(4)])
def test_what_the_table_does_not_know_takes_the_readable_step(layer, rng):
    edges = [mg.Edge(2, 1), mg.Edge(3, 2)]
    given = problem(mg.Graph([mg.Layer(9), layer, mg.Layer(4, "identity")], edges), rng)
    assert_close(trained(None, *given), trained("reference", *given))
    with pytest.raises(ValueError, match="know"):
        trained("fast", *given)


def test_the_readable_engine_is_train_step_and_the_default_is_the_fast_one(rng):
    """Bit for bit: the engines have other last bits."""
    graph, params, velocity, x, y, rows = given = problem(GRAPHS["res-standard"], rng, "float32")
    default, reference = trained(None, *given), trained("reference", *given)
    is_fast = not fast.unavailable()
    assert all(np.array_equal(default[key], W) for key, W in reference.items()) != is_fast
    for batch in rows:
        mg.train_step(graph, params, velocity, x[batch], y[batch], **OPTIONS)
    assert_close({key: reference[key] for key in params}, params)
    with pytest.raises(ValueError, match="engine"):
        trained("faster", *given)


def test_if_numba_cannot_be_imported_the_readable_step_trains(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(fast, "unavailable", fast.unavailable.__wrapped__)
    given = problem(SKIP, rng)
    assert_close(trained(None, *given), trained("reference", *given))
    with pytest.raises(ValueError, match="Numba can't"):
        trained("fast", *given)


def test_importing_minigrad_imports_no_numba_and_numba_can_be_switched_off(start):
    program = "import sys, minigrad; print('numba' in sys.modules, minigrad.fast.unavailable())"
    out, _ = start("-c", program, env={"NUMBA_DISABLE_JIT": "1"}).communicate(timeout=100)
    assert out.startswith("False NUMBA_DISABLE_JIT")


@needs_numba
def test_with_a_truncated_cache_the_readable_step_trains(tmp_path, start):
    from minigrad.fast import compiled

    shutil.copytree(ROOT / "minigrad", tmp_path / "minigrad")
    (tmp_path / "minigrad" / "fast" / "__pycache__").mkdir(exist_ok=True)
    for index in Path(compiled.run.stats.cache_path).glob("*.nbi"):
        (tmp_path / "minigrad" / "fast" / "__pycache__" / index.name).write_bytes(b"")
    program = "import minigrad; print(minigrad.fast.unavailable())"
    process = start("-c", program, cwd=tmp_path, env={"PYTHONPATH": ".", "NUMBA_CACHE_DIR": ""})
    found, _ = process.communicate(timeout=100)
    assert "EOFError" in found


@pytest.mark.parametrize("graph", [mg.mlp(9, 3, 7, 4), SKIP], ids=["mlp", "skip"])
def test_evaluation_in_chunks_is_that_of_all_samples_at_once(graph, rng, monkeypatch):
    """With the statistics of all samples, or given ones."""
    params, x = problems.setting(graph, rng, 160)
    y = problems.targets("cross_entropy", (160, graph.width(graph.L)), rng)
    loss, accuracy, stats = mg.evaluate(graph, params, x, y, "cross_entropy")
    monkeypatch.setattr(train, "AT_ONCE", 50)
    for given in (None, stats):
        found = mg.evaluate(graph, params, x, y, "cross_entropy", given)
        np.testing.assert_allclose(found[0], loss, rtol=1e-13)
        assert found[1] == accuracy and list(found[2].A) == list(stats.A)
