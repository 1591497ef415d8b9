"""The compiled step against the readable one, and when it is used."""

import importlib.util
import os
import shutil
import subprocess
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
        mg.Layer(9, "identity"), mg.Layer(7), mg.Layer(7, batchnorm=True, detached=False),
        mg.Layer(3, "identity", batchnorm=True, scalar=False), mg.Layer(7), mg.Layer(4, "identity"),
    ],
    [
        mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(4, 2), mg.Edge(5, 3), mg.Edge(5, 2, trainable=False),
        mg.Edge(5, 1), mg.Edge(6, 5), mg.Edge(6, 2),
    ],
)  # layer 4 leads nowhere; layers 5 and 2 take several terms forward and backward
STANDARD = mg.resnet(9, 2, 7, 4, True, detached=False, scalar=False)
GRAPHS = {
    "mlp": mg.mlp(9, 3, 7, 4),
    "mlp-bn": mg.mlp(9, 3, 7, 4, True),
    "res-standard": STANDARD,
    "skip": SKIP,
    "one edge": mg.Graph([mg.Layer(9), mg.Layer(4, "identity")], [mg.Edge(2, 1)]),
    "one unit": mg.mlp(1, 2, 1, 2, True),
}  # fmt: skip
TOLERANCE = {"float64": 1e-11, "float32": 5e-5}


def setting(graph, rng, dtype="float64", m=160):
    """params, a velocity that is not zero, x and y."""
    params, x = problems.setting(graph, rng, m, dtype)
    velocity = {key: (0.01 * rng.normal(size=W.shape)).astype(dtype) for key, W in params.items()}
    y = problems.targets("cross_entropy", (m, graph.width(graph.L)), rng)
    return params, velocity, x, y.astype(dtype)


def trained(engine, graph, params, velocity, x, y, rows, **options):
    """Copies of params and velocity after the steps of rows, as one dict."""
    params = {key: W.copy() for key, W in params.items()}
    velocity = {key: W.copy() for key, W in velocity.items()}
    mg.train_epoch(graph, params, velocity, x, y, rows, **OPTIONS | options, engine=engine)
    return params | {("velocity", key): W for key, W in velocity.items()}


def assert_close(found, expected, tolerance):
    """Entries, relative to the largest of their matrix; a lone scalar may have cancelled."""
    for key, W in expected.items():
        assert found[key].dtype == W.dtype
        atol = tolerance * max(abs(W).max(), 0.1)
        np.testing.assert_allclose(found[key], W, rtol=0, atol=atol, err_msg=str(key))


def assert_equal(found, expected):
    for key, W in expected.items():
        np.testing.assert_array_equal(found[key], W, err_msg=str(key))


def compare(graph, rng, B, dtype="float64", steps=3, **options):
    """Both engines from one start."""
    params, velocity, x, y = setting(graph, rng, dtype)
    signs = options.get("loss") in ("logistic", "exponential")
    problem = graph, params, velocity, x, 2 * y - 1 if signs else y
    rows = rng.permutation(160)[: steps * B].reshape(-1, B)
    found = trained("fast", *problem, rows, **options)
    assert_close(found, trained("reference", *problem, rows, **options), TOLERANCE[dtype])


@needs_numba
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("net", GRAPHS)
@pytest.mark.parametrize("B", [3, 4, 8, 10, 40])
def test_the_compiled_step_is_the_readable_one(net, B, dtype, rng):
    """Compiled products of 4 and 8 samples, and BLAS's, W^T U in either order."""
    compare(GRAPHS[net], rng, B, dtype)


@needs_numba
@pytest.mark.parametrize("loss", losses.LOSSES)
def test_every_loss_and_setting(loss, rng):
    compare(SKIP, rng, 13, loss=loss, eta=0.01, lam=0.0, momentum=0.0)
    compare(SKIP, rng, 13, loss=loss, eta=0.002, lam=0.3, momentum=0.5)


@needs_numba
def test_a_matrix_is_updated_in_blocks(rng, monkeypatch):
    """Three rows at a time of seven and nine."""
    from minigrad.fast import table

    monkeypatch.setattr(table, "BLOCK", 21)
    compare(GRAPHS["mlp"], rng, 10)


def elsewhere(a):
    """The same values in every second column of a larger array."""
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


@needs_numba
@pytest.mark.parametrize("B", [4, 10])
def test_no_bit_depends_on_memory_layout_or_on_steps_a_call_and_the_data_may_be_read_only(B, rng):
    params, velocity, x, y = setting(SKIP, rng, "float32")
    rows = mg.batches(len(x), B, seed=3, epoch=1)
    expected = trained("fast", SKIP, params, velocity, x, y, rows)
    x, y, rows = elsewhere(x), np.asfortranarray(y), elsewhere(rows)
    for a in (x, y, rows):
        a.flags.writeable = False
    params = {key: elsewhere(W) for key, W in params.items()}
    velocity = {key: np.asfortranarray(a) for key, a in velocity.items()}
    for step in rows:
        mg.train_epoch(SKIP, params, velocity, x, y, step[None], **OPTIONS, engine="fast")
    assert_equal(params | {("velocity", key): a for key, a in velocity.items()}, expected)


@needs_numba
@pytest.mark.parametrize("B", [4, 10])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_spread_as_in_the_readable_step(B, value, rng):
    params, velocity, x, y = setting(SKIP, rng)
    params[3, 2][1, 2] = value
    problem = SKIP, params, velocity, x, y, np.arange(B)[None]
    found, expected = trained("fast", *problem), trained("reference", *problem)
    for key, W in expected.items():
        np.testing.assert_array_equal(np.isfinite(found[key]), np.isfinite(W), err_msg=str(key))


@needs_numba
@pytest.mark.parametrize(
    "row", [(1000, 0, -1000), (0, 1, np.inf), (np.inf, np.inf, 0), (0, 1, np.nan), (-np.inf, 0, 1)]
)
def test_the_cotangent_of_the_cross_entropy_is_that_of_losses_at_any_output(row):
    """It was seen to fail without subtracting the largest, and with a total starting at 0 f[0]."""
    from minigrad.fast import compiled

    f, y = np.array([row, (0, 1, 2)], "float64"), np.eye(3)[:2]
    df = np.empty_like(f)
    compiled.cross_entropy(df, f, y)
    with np.errstate(invalid="ignore"):
        expected = mg.cross_entropy(f, y)[1]
    np.testing.assert_allclose(df, expected, rtol=1e-12, atol=1e-15)


@needs_numba
def test_a_product_of_few_samples_rounds_no_more_than_twice_as_much_as_blas(rng):
    """One sum over all 3072 rows in turn rounded 3 times as much."""
    from minigrad.fast import compiled

    v = rng.normal(size=(4, 3072)).astype("float32")
    W = rng.normal(size=(3072, 100)).astype("float32")
    exact = v.astype("float64") @ W
    z, scratch = np.empty((2, 4, 100), "float32")
    compiled.matmul(z, v, W, scratch, False)
    assert abs(z - exact).std() <= 2 * abs(v @ W - exact).std()


@needs_numba
def test_no_value_of_a_float32_step_is_float64():
    """By Numba's type inference; `2 * eta`, an integer times float32, was seen to fail."""
    from numba import boolean, float32, int64
    from numba.core import compiler, typed_passes
    from numba.core.registry import cpu_target

    from minigrad.fast import compiled

    kinds = dict.fromkeys(("eta", "decay", "momentum", "eps"), float32)
    kinds |= dict.fromkeys(("memory", "scalars"), float32[::1])
    kinds |= dict.fromkeys(("accumulate", "detached"), boolean)
    kinds |= {"table": int64[:, ::1], "row": int64[::1], "i": int64}
    contexts = cpu_target.typing_context, cpu_target.target_context
    for context in contexts:
        context.refresh()
    rules = [rule for rule in vars(compiled).values() if hasattr(rule, "py_func")]
    for rule in rules:
        code = rule.py_func.__code__
        names = code.co_varnames[: code.co_argcount]
        args = [kinds.get(name, float32[:, ::1]) for name in names]
        ir = compiler.run_frontend(rule.py_func)
        types = typed_passes.type_inference_stage(*contexts, ir, args, None).typemap
        wide = [name for name, found in types.items() if "float64" in str(found)]
        assert wide == [], rule
    assert len(rules) >= 12


# When it is used.


def halved(rule, *places):
    """The rule, with these of its results halved (all, where it has one)."""

    def changed(*args):
        results = rule(*args)
        if not places:
            return results / 2
        return tuple(a / 2 if i in places else a for i, a in enumerate(results))

    return changed


def other_eps(z):
    b = z.mean(axis=-2, keepdims=True)
    return (z.var(axis=-2, keepdims=True) + 10 * layers.EPS) ** -0.5, b


def without_through_A(da, gamma, A, normalized, A_is_constant, b_is_constant):
    return layers.batchnorm_backward(da, gamma, A, normalized, True, b_is_constant)


sgd_step = train.sgd_step
relu, relu_backward = layers.ACTIVATION["relu"]
CHANGES = {
    "relu": (layers.ACTIVATION, "relu", (layers.leaky_relu, relu_backward)),
    "derivative of relu": (layers.ACTIVATION, "relu", (relu, halved(relu_backward))),
    "NaN": (network, "linear_backward", lambda dz, W: layers.linear_backward(dz, W) * np.nan),
    "derivative of linear": (network, "linear_backward", halved(layers.linear_backward)),
    "EPS": (network, "batch_statistics", other_eps),
    "batch norm": (network, "batchnorm", halved(layers.batchnorm, 0)),
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


@needs_numba
def test_a_changed_EPS_is_what_the_compiled_step_computes(rng, monkeypatch):
    problem = STANDARD, *setting(STANDARD, rng), np.arange(10)[None]
    before = trained("fast", *problem)
    monkeypatch.setattr(layers, "EPS", 1e-2)
    found = trained("fast", *problem)
    assert_close(found, trained("reference", *problem), 1e-12)
    assert abs(found[3, 2] - before[3, 2]).max() > 1e-6
    assert fast.unavailable.__wrapped__("float32") is None


class WithMore(mg.Layer):
    """A layer to whose class something was added."""


@pytest.mark.parametrize("layer", [mg.Layer(4, "sigmoid"), WithMore(4)])
def test_what_the_table_does_not_know_takes_the_readable_step(layer, rng):
    edges = [mg.Edge(2, 1), mg.Edge(3, 2)]
    graph = mg.Graph([mg.Layer(9), layer, mg.Layer(4, "identity")], edges)
    problem = graph, *setting(graph, rng), np.arange(20).reshape(2, 10)
    assert_equal(trained(None, *problem), trained("reference", *problem))
    with pytest.raises(ValueError, match="know"):
        trained("fast", *problem)


def test_the_readable_engine_is_train_step_and_the_default_is_the_fast_one(rng):
    """Bit for bit: the engines have other last bits."""
    params, velocity, x, y = setting(STANDARD, rng, "float32")
    rows = np.arange(30).reshape(3, 10)
    problem = STANDARD, params, velocity, x, y, rows
    default, reference = trained(None, *problem), trained("reference", *problem)
    is_fast = fast.unavailable() is None
    assert all(np.array_equal(default[key], W) for key, W in reference.items()) != is_fast
    if is_fast:
        assert_equal(default, trained("fast", *problem))
    for batch in rows:
        mg.train_step(STANDARD, params, velocity, x[batch], y[batch], **OPTIONS)
    assert_equal(reference, params)
    with pytest.raises(ValueError, match="engine"):
        trained("faster", *problem)


@pytest.mark.parametrize("how", ["missing", "OSError"])
def test_if_numba_cannot_be_imported_the_readable_step_trains(how, rng, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    if how != "missing":
        (tmp_path / "numba.py").write_text(f"raise {how}")
        monkeypatch.syspath_prepend(tmp_path)
        del sys.modules["numba"]
    monkeypatch.setattr(fast, "unavailable", fast.unavailable.__wrapped__)
    problem = GRAPHS["mlp"], *setting(GRAPHS["mlp"], rng), np.arange(20).reshape(2, 10)
    assert_equal(trained(None, *problem), trained("reference", *problem))
    with pytest.raises(ValueError, match="Numba can't"):
        trained("fast", *problem)


def python(program, where=ROOT, **variables):
    """stdout of a process that imports minigrad from a folder."""
    env = os.environ | {"PYTHONPATH": str(where)} | variables
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_minigrad_imports_no_numba_and_numba_can_be_switched_off():
    program = "import sys, minigrad; print('numba' in sys.modules, minigrad.fast.unavailable())"
    assert python(program, NUMBA_DISABLE_JIT="1").startswith("False NUMBA_DISABLE_JIT")


@needs_numba
def test_with_a_truncated_cache_the_readable_step_trains(tmp_path):
    from minigrad.fast import compiled

    shutil.copytree(ROOT / "minigrad", tmp_path / "minigrad")
    for index in Path(compiled.run.stats.cache_path).glob("*.nbi"):
        (tmp_path / "minigrad" / "fast" / "__pycache__" / index.name).write_bytes(b"")
    found = python("import minigrad; print(minigrad.fast.unavailable())", tmp_path)
    assert "EOFError" in found and str(tmp_path) in found


@pytest.mark.parametrize("graph", [GRAPHS["mlp"], SKIP], ids=["mlp", "skip"])
def test_evaluation_in_chunks_is_that_of_all_samples_at_once(graph, rng, monkeypatch):
    """With the statistics of all samples, or given ones."""
    params, _, x, y = setting(graph, rng)
    loss, accuracy, stats = mg.evaluate(graph, params, x, y, "cross_entropy")
    monkeypatch.setattr(train, "CHUNK", 50)
    for given in (None, stats):
        found = mg.evaluate(graph, params, x, y, "cross_entropy", given)
        np.testing.assert_allclose(found[0], loss, rtol=1e-13)
        assert found[1] == accuracy and list(found[2].A) == list(stats.A)


@needs_numba
def test_where_no_folder_can_be_written_rules_are_compiled_without_a_cache():
    """A function that lies in no file has no cache either; Numba raises the same RuntimeError."""
    from minigrad.fast import compiled

    assert compiled.compiled(eval("lambda a: a + 1"))(1) == 2
