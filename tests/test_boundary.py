"""The arguments that the library refuses, on the host, and on a device without waiting for it."""

import re

import fake_cupy
import numpy as np
import pytest
from problems import targets, zeros_like

import minigrad as mg
from minigrad.losses import LOSSES

W32 = (3, 2)  # the edge into layer 3, (6, 6)


def arguments(rng, loss="cross_entropy"):
    """The arguments of train_epoch by name, for two runs side by side."""
    graph = mg.parse("MLP-BN-2-6", 5, 3)
    params = {key: np.stack([W, W]) for key, W in mg.init_params(graph, rng).items()}
    return {
        "graph": graph,
        "params": params,
        "velocity": zeros_like(params),
        "x": rng.normal(size=(12, 5)).astype("float32"),
        "y": targets(loss, (12, 3), rng).astype("float32"),
        "rows": np.stack([mg.batches(12, 4, seed, 0) for seed in (0, 1)], axis=1),
        "loss": loss,
        "eta": 0.1,
        "lam": 1e-3,
        "momentum": 0.9,
    }


def on_device(value):
    """The same nest of dicts with its arrays on a device."""
    if isinstance(value, dict):
        return {key: on_device(item) for key, item in value.items()}
    return fake_cupy.asarray(value) if isinstance(value, np.ndarray) else value


def evaluation(args):
    return [args[name] for name in ("graph", "params", "x", "y", "loss")]


def of(key, change):
    return lambda params: params | {key: change(params[key])}


# What is refused on every library: the argument, its change, and words of the sentence.
SHAPES = {
    "y of one row": ("y", lambda y: y[:1], "one-hot rows.*(1, 3)"),
    "y of one column": ("y", lambda y: y[:, :1], "one-hot rows.*(12, 1)"),
    "y in float64": ("y", lambda y: y.astype("float64"), "y must be float32.*float64"),
    "integer x": ("x", lambda x: x.astype("int64"), "x must be float32.*int64"),
    "x of 4 inputs": ("x", lambda x: x[:, :4], "x must have n=5 columns.*(12, 4)"),
    "rows without axes": ("rows", lambda rows: np.array(3), "rows must be integers (S, *R, B)"),
    "boolean rows": ("rows", lambda rows: rows > 0, "rows must be integers.*bool"),
    "rows of one run": ("rows", lambda rows: rows[:, :1], "rows must be integers.*R=(2,)"),
    "batches of one": ("rows", lambda rows: rows[..., :1], "2 samples"),
    "no W": ("params", lambda a: {(2, 1): a[2, 1]}, "params differ, keys and shapes.*3, 2"),
    "a W of one run": ("params", of(W32, lambda W: W[0]), "shape.*3, 2.*(2, 6, 6)"),
    "velocity without W": ("velocity", lambda a: {}, "velocity differ, keys and shapes"),
    "another loss": ("loss", lambda loss: "hinge", "loss must be one of.*'hinge'"),
    "lam NaN": ("lam", lambda lam: float("nan"), "lam must be >= 0.*nan"),
    "momentum 1": ("momentum", lambda momentum: 1, "momentum must be >= 0 and < 1"),
    "eta in float64": ("eta", lambda eta: np.full((2, 1, 1), eta), "eta must be float32"),
    "eta in a row": ("eta", lambda eta: np.full(2, eta, "float32"), "eta must.*(2, 1, 1)"),
}
# What only the host can see, or has.
VALUES = {
    "rows too large": ("rows", lambda rows: rows + 1, "rows must be.* < m=12.*12"),
    "rows negative": ("rows", lambda rows: rows - 1, "rows must be >= 0.*-1"),
    "a y of signs": ("y", lambda y: 2 * y - 1, "cross_entropy takes.*-1"),
    "an eta of -1": ("eta", lambda eta: np.array([[[eta]], [[-1]]], "float32"), "eta must be >= 0"),
}
# What evaluate takes.
TRAINED = {
    "stacked x": ("x", lambda x: x[None], "x must be (m, n).*(1, 12, 5)"),
    "read-only params": ("params", of(W32, lambda W: np.broadcast_to(W, W.shape)), "writable"),
    "stacked y": ("y", lambda y: y[None], "y must be (m, k).*(1, 12, 3)"),
    "tied weights": ("params", lambda a: a | {("beta", 2): a["beta", 3]}, "memory of their own"),
    "tied velocities": ("velocity", lambda a: a | {("beta", 2): a["beta", 3]}, "memory of their"),
}
TYPES = {
    "a list": ("x", np.ndarray.tolist, "numpy.asarray.*list"),
    "a masked array": ("y", np.ma.array, "y.*numpy.asarray.*MaskedArray"),
    "masked rows": ("rows", np.ma.array, "rows.*numpy.asarray.*MaskedArray"),
    "a device's W": ("params", of(W32, fake_cupy.asarray), "3, 2.*array of numpy"),
}
CASES = SHAPES | VALUES | TRAINED | TYPES


def refused(call, error, words):
    """`call` raises this error with these words, in their order, and waits for no device."""
    fake_cupy.reset()
    with pytest.raises(error, match=".*".join(map(re.escape, words.split(".*")))):
        call()
    assert fake_cupy.waits == 0


@pytest.mark.parametrize("case", CASES)
def test_arguments_that_give_wrong_numbers_are_refused_before_a_step(case, rng):
    name, change, words = CASES[case]
    error = TypeError if case in TYPES else ValueError
    args = arguments(rng)
    copies = {key: W.copy() for key, W in args["params"].items()}
    wrong = args | {name: change(args[name])}
    for given in [wrong, on_device(wrong)] if case in SHAPES else [wrong]:
        refused(lambda: mg.train_epoch(**given), error, words)
        if name in ("params", "x", "y", "loss") and case not in TRAINED:
            refused(lambda: mg.evaluate(*evaluation(given)), error, words)
    for key, W in args["params"].items():
        np.testing.assert_array_equal(W, copies[key])


@pytest.mark.parametrize("engine", ["reference", None])
def test_numbers_of_numpy_train_as_python_s_bit_for_bit(engine, rng):
    """Fault: float32_array * numpy.float64(eta) is computed in float64."""
    args = arguments(rng)
    others = args | {"params": {key: W.copy() for key, W in args["params"].items()}}
    others |= {name: np.float64(args[name]) for name in ("eta", "lam", "momentum")}
    others["velocity"] = None
    mg.train_epoch(**args, engine=engine)
    mg.train_epoch(**others, engine=engine)
    for key, W in args["params"].items():
        assert W.tobytes() == others["params"][key].tobytes()


@pytest.mark.parametrize("loss, value", [("logistic", 0), ("exponential", 0.5)])
def test_values_of_y_that_a_loss_has_no_meaning_for_are_refused_on_the_host_alone(loss, value, rng):
    args = arguments(rng, loss)
    args["y"][3, 1] = value
    refused(lambda: mg.train_epoch(**args), ValueError, f"{loss} takes.*{value}")
    refused(lambda: LOSSES[loss](args["y"], args["y"]), ValueError, f"{loss} takes")
    args["eta"] = np.full((2, 1, 1), 0.1, "float32")
    mg.train_epoch(**on_device(args))
    assert fake_cupy.waits == 0


@pytest.mark.parametrize("to", [lambda args: args, on_device], ids=["numpy", "device"])
def test_statistics_of_another_network_are_refused(to, rng):
    """Faults: those of one unit or run broadcast, those of fewer layers raised KeyError."""
    graph, params, x, *_ = evaluation(to(arguments(rng)))
    _, stats = mg.predict(graph, params, x)
    one_unit = mg.Stats({p: a[..., :1] for p, a in stats.A.items()}, stats.b)
    float64 = mg.Stats({p: a.astype("float64") for p, a in stats.A.items()}, stats.b)
    one_run = mg.Stats(*({p: a[0] for p, a in by_layer.items()} for by_layer in stats))
    for wrong in (mg.Stats({2: stats.A[2]}, {2: stats.b[2]}), one_unit, float64, one_run):
        refused(lambda: mg.predict(graph, params, x, wrong), ValueError, "stats")
    refused(lambda: mg.predict(graph, params, x[:1]), ValueError, "2 samples")
    mg.predict(graph, params, x[:1], stats)


def test_a_call_with_a_wrong_value_is_refused(rng):
    graph = mg.mlp(2, 1, 2, 2)
    refused(lambda: mg.init_params(graph, rng, dtype="int32"), ValueError, "dtype must be")
    refused(lambda: mg.init_params(graph, rng, init="zero"), ValueError, "init must be")
    refused(lambda: mg.load_backend("CuPy"), ValueError, "backend must be one of")
    assert mg.load_backend("numpy") is np


@pytest.mark.parametrize("engine", ["reference", None])
@pytest.mark.parametrize("wrong", [lambda df: df.mean(axis=-2), np.transpose, np.ravel])
def test_a_cotangent_of_another_shape_is_refused(wrong, engine, rng):
    args = arguments(rng) | {"loss": lambda f, y: (0.0, wrong(f - y))}
    with pytest.raises(ValueError):
        mg.train_epoch(**args, engine=engine)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_a_name_or_a_function(loss):
    ends = []
    for given in (loss, LOSSES[loss], lambda f, y: LOSSES[loss].rule(f, y)):
        args = arguments(np.random.default_rng(0), loss) | {"loss": given}
        mg.train_epoch(**args, engine="reference")
        ends.append([*args["params"].values(), mg.evaluate(*evaluation(args))[0]])
    for by_name, by_itself, other in zip(*ends):
        np.testing.assert_array_equal(by_name, by_itself)
        np.testing.assert_array_equal(by_name, other)
