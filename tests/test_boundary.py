"""The arguments that the library refuses, on the host, and on a device without waiting for it."""

import re

import fake_cupy
import numpy as np
import pytest
from problems import targets, zeros_like

import minigrad as mg
from minigrad.losses import LOSSES

NAN = float("nan")
libraries = pytest.mark.parametrize("xp", [np, fake_cupy], ids=["numpy", "device"])


def arguments(rng, k=3, m=12, B=4, runs=None, loss="cross_entropy"):
    """The arguments of train_epoch by name, on the host; `runs` are stacked side by side."""
    graph = mg.parse("MLP-BN-2-6", 5, k)
    params = mg.init_params(graph, rng)
    rows = [mg.batches(m, B, seed, 0) for seed in range(runs or 1)]
    if runs:
        params = {key: np.stack([W] * runs) for key, W in params.items()}
    return {
        "graph": graph,
        "params": params,
        "velocity": zeros_like(params),
        "x": rng.normal(size=(m, 5)).astype("float32"),
        "y": targets(loss, (m, k), rng).astype("float32"),
        "rows": np.stack(rows, axis=1) if runs else rows[0],
        "loss": loss,
        "eta": 0.1,
        "lam": 1e-3,
        "momentum": 0.9,
    }


def moved(xp, value):
    """The same nest of dicts with its arrays in the library xp."""
    if isinstance(value, dict):
        return {key: moved(xp, item) for key, item in value.items()}
    return xp.asarray(value) if isinstance(value, np.ndarray) else value


def evaluation(args):
    return [args[name] for name in ("graph", "params", "x", "y", "loss")]


def with_nan(x):
    return np.where(np.arange(x.size).reshape(x.shape) == 7, NAN, x).astype(x.dtype)


def of(key, change):
    return lambda params: params | {key: change(params[key])}


def float64(a):
    return a.astype("float64")


def labels(y):
    return y.argmax(axis=1)[:, None].astype(y.dtype)


W32 = (3, 2)  # the edge into layer 3, (6, 6)
# What is refused on every library: the argument, its change, and words of the sentence.
SHAPES = {
    "y of one row": ("y", lambda y: y[:1], "one-hot rows.*(1, 3)"),
    "labels": ("y", labels, "one-hot rows.*(12, 1)"),
    "y in float64": ("y", float64, "y must be float32.*float64"),
    "integer x": ("x", lambda x: x.astype("int64"), "x must be float32.*int64"),
    "x of 4 inputs": ("x", lambda x: x[:, :4], "x must have n=5 columns.*(12, 4)"),
    "flat x": ("x", lambda x: x[:, 0], "x must be.*two axes.*(12,)"),
    "stacked x": ("x", lambda x: x[None], "x and y must be (m, n) and (m, k).*(1, 12, 5)"),
    "boolean rows": ("rows", lambda rows: np.ones((2, 12), bool), "rows must be integers.*bool"),
    "flat rows": ("rows", np.ravel, "rows must be integers"),
    "rows for runs": ("rows", lambda rows: rows[:, None], "rows must be integers.*(3, 1, 4)"),
    "batches of one": ("rows", lambda rows: rows.reshape(-1, 1), "2 samples"),
    "no W": ("params", lambda a: {(2, 1): a[2, 1]}, "params must have the keys.*3, 2"),
    "one W more": ("params", lambda a: a | {(4, 2): a[4, 3]}, "params must have the keys.*4, 2"),
    "a stacked W": ("params", of(W32, lambda W: W[None]), "3, 2.*shape.*(1, 6, 6)"),
    "a W in float64": ("params", of(W32, float64), "3, 2.*float32"),
    "velocity without W": ("velocity", lambda a: {}, "velocity must have the keys"),
    "velocity of one row": ("velocity", of(W32, lambda W: W[:1]), "velocity.*3, 2.*shape"),
    "velocity in float64": ("velocity", of(W32, float64), "velocity.*float32"),
    "another loss": ("loss", lambda loss: "hinge", "loss must be one of.*'hinge'"),
    "lam NaN": ("lam", lambda lam: NAN, "lam must be >= 0.*nan"),
    "eta negative": ("eta", lambda eta: -eta, "eta must be >= 0"),
    "eta infinite": ("eta", lambda eta: float("inf"), "eta must be >= 0"),
    "eta in float64": ("eta", lambda eta: np.full((1, 1), eta), "eta must be float32"),
    "momentum 1": ("momentum", lambda momentum: 1, "momentum must be >= 0 and < 1"),
}
# What only the host can see, or has.
VALUES = {
    "NaN in x": ("x", with_nan, "x must be finite"),
    "rows too large": ("rows", lambda rows: rows + 1, "rows must be.* < m=12.*12"),
    "rows negative": ("rows", lambda rows: rows - 1, "rows must be >= 0.*-1"),
    "read-only params": ("params", of(W32, lambda W: np.broadcast_to(W, W.shape)), "writable"),
    "tied weights": ("params", lambda a: a | {("beta", 2): a["beta", 3]}, "memory of their own"),
}
TYPES = {
    "a list": ("x", np.ndarray.tolist, "numpy.asarray.*list"),
    "a matrix": ("params", of(W32, np.asmatrix), "3, 2.*numpy.asarray.*matrix"),
    "a masked array": ("y", np.ma.array, "y.*numpy.asarray.*MaskedArray"),
    "a device's W": ("params", of(W32, fake_cupy.asarray), "3, 2.*array of numpy"),
    "a device's y": ("y", fake_cupy.asarray, "y must be an array of numpy"),
    "text for lam": ("lam", str, "lam must be"),
}
# evaluate doesn't write to params, and takes stacks of x.
TRAINED = ("stacked x", "tied weights", "read-only params")
EVALUATED = [
    case
    for name, case in (SHAPES | VALUES | TYPES).items()
    if case[0] in ("params", "x", "y", "loss") and name not in TRAINED
]
CASES = [(np, ValueError, case) for case in (SHAPES | VALUES).values()]
CASES += [(fake_cupy, ValueError, case) for case in SHAPES.values()]
CASES += [(np, TypeError, case) for case in TYPES.values()]
NAMES = [*(SHAPES | VALUES), *(f"device: {name}" for name in SHAPES), *TYPES]


def refused(call, error, words):
    """`call` raises this error with these words, in their order, and waits for no device."""
    fake_cupy.reset()
    with pytest.raises(error, match=".*".join(map(re.escape, words.split(".*")))):
        call()
    assert fake_cupy.waits == 0


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("xp, error, case", CASES, ids=NAMES)
def test_arguments_that_give_wrong_numbers_are_refused_before_a_step(xp, error, case, rng):
    name, change, words = case
    args = arguments(rng)
    copies = {key: W.copy() for key, W in args["params"].items()}
    given = args | {name: change(args[name])}
    args_there = moved(xp, given) if error is ValueError else given
    refused(lambda: mg.train_epoch(**args_there), error, words)
    for key, W in args["params"].items():
        np.testing.assert_array_equal(W, copies[key])
    if case in EVALUATED:
        refused(lambda: mg.evaluate(*evaluation(args_there)), error, words)


def test_velocity_that_is_params_is_refused(rng):
    args = arguments(rng)
    args["velocity"] = args["params"]
    refused(lambda: mg.train_epoch(**args), ValueError, "memory of their own")


@pytest.mark.parametrize("name, wrong", [("eta", NAN), ("lam", -1), ("momentum", 1)])
def test_one_wrong_number_of_stacked_runs_is_refused(name, wrong, rng):
    args = arguments(rng, runs=2)
    args[name] = np.array([0.5, wrong], "float32").reshape(2, 1, 1)
    refused(lambda: mg.train_epoch(**args), ValueError, f"{name} must be >= 0")


@pytest.mark.parametrize("engine", ["reference", None])
def test_numbers_of_numpy_train_as_python_s_bit_for_bit(engine, rng):
    """Fault: float32_array * numpy.float64(eta) is computed in float64."""
    args = arguments(rng)
    others = args | {"params": {key: W.copy() for key, W in args["params"].items()}}
    others["velocity"] = zeros_like(args["params"])
    others |= {name: np.float64(args[name]) for name in ("eta", "lam", "momentum")}
    mg.train_epoch(**args, engine=engine)
    mg.train_epoch(**others, engine=engine)
    for key, W in args["params"].items():
        assert W.tobytes() == others["params"][key].tobytes()


def test_a_host_s_numbers_are_refused_on_a_device(rng):
    args = moved(fake_cupy, arguments(rng, runs=2))
    args["eta"] = np.full((2, 1, 1), 0.5, "float32")
    refused(lambda: mg.train_epoch(**args), TypeError, "eta must be an array of fake_cupy")


@libraries
def test_stacked_runs_have_rows_and_numbers_of_their_own(xp, rng):
    """Faults: five runs trained on the batches of three; six numbers broadcast to six columns."""
    args = moved(xp, arguments(rng, runs=6))
    for rows in (arguments(rng, runs=3)["rows"], arguments(rng)["rows"]):
        wrong = args | {"rows": xp.asarray(rows)}
        refused(lambda: mg.train_epoch(**wrong), ValueError, "rows must be integers")
    eta = xp.asarray(np.full(6, 0.1, "float32"))
    refused(lambda: mg.train_epoch(**args | {"eta": eta}), ValueError, "eta must.*(6, 1, 1)")
    mg.train_epoch(**args | {"eta": eta.reshape(6, 1, 1)})
    assert fake_cupy.waits == 0


TARGETS = {
    "0 and 1": ("logistic", 1, lambda y: (y + 1) / 2, "logistic takes y = -1 or +1, got 0"),
    "one-hot": ("exponential", 3, lambda y: np.abs(y) * [1, 0, 0], "exponential takes.*got 0"),
    "signs": ("cross_entropy", 3, lambda y: 2 * y - 1, "cross_entropy.*-1"),
    "NaN in a row": ("cross_entropy", 3, with_nan, "cross_entropy.*nan"),
}


@pytest.mark.parametrize("case", TARGETS)
def test_values_of_y_that_a_loss_has_no_meaning_for_are_refused_on_the_host_alone(case, rng):
    name, k, change, words = TARGETS[case]
    args = arguments(rng, k=k, loss=name)
    args["y"] = change(args["y"]).astype("float32")
    for loss in (name, LOSSES[name]):
        args["loss"] = loss
        refused(lambda: mg.train_epoch(**args), ValueError, words)
        refused(lambda: mg.evaluate(*evaluation(args)), ValueError, words)
    refused(lambda: LOSSES[name](np.zeros_like(args["y"]), args["y"]), ValueError, words)
    there = moved(fake_cupy, args)
    mg.train_epoch(**there)
    mg.evaluate(*evaluation(there))
    assert fake_cupy.waits == 0


@libraries
def test_statistics_of_another_network_are_refused(xp, rng):
    """Faults: those of one unit broadcast, those of fewer layers raised KeyError."""
    graph, params, x, y, loss = evaluation(moved(xp, arguments(rng)))
    stats = mg.predict(graph, params, x)[1]
    for wrong in (
        mg.Stats({2: stats.A[2]}, {2: stats.b[2]}),
        mg.Stats({p: a[:, :1] for p, a in stats.A.items()}, stats.b),
    ):
        refused(lambda: mg.predict(graph, params, x, wrong), ValueError, "stats")
    refused(lambda: mg.predict(graph, params, x[:1]), ValueError, "2 samples")
    one, _ = mg.predict(graph, params, x[:1], stats)
    assert one.shape == (1, 3)


GRAPH, RNG = mg.mlp(2, 1, 2, 2), np.random.default_rng(0)
CALLS = {
    "int32": lambda: mg.init_params(GRAPH, RNG, dtype="int32"),
    "another init": lambda: mg.init_params(GRAPH, RNG, init="zero"),
    "a drop at epoch -1": lambda: mg.step_decay(0.1, -1),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_with_a_wrong_value_is_refused(case):
    refused(CALLS[case], ValueError, "must be")


@libraries
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_a_name_or_a_function(loss, xp):
    ends = []
    for given in (loss, LOSSES[loss], lambda f, y: LOSSES[loss](f, y)):
        args = moved(xp, arguments(np.random.default_rng(0), loss=loss) | {"loss": given})
        mg.train_epoch(**args)
        ends.append([*args["params"].values(), mg.evaluate(*evaluation(args))[0]])
    for by_name, by_itself, other in zip(*ends):
        assert bool((by_name == by_itself).all())
        # The compiled step rounds otherwise; beta is a small sum of terms that cancel.
        assert float(abs(by_name - other).max()) <= 1e-6 * max(1, float(abs(by_name).max()))
