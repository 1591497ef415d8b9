"""What the library refuses, in one sentence with rule and value, and what it takes, on host and device."""

import inspect

import numpy as np
import pytest
import standin

import minigrad as mg
from minigrad import checks
from minigrad.losses import LOSSES

NAN = float("nan")
libraries = pytest.mark.parametrize("xp", [np, standin], ids=["numpy", "device"])


@pytest.fixture(autouse=True)
def nothing_counted_before_the_test():
    standin.reset()


def setting(net="MLP-BN-2-6", k=3, m=12, B=4, runs=None, dtype="float32", loss=None):
    """The arguments of train_epoch by name, on the host; `runs` are stacked side by side."""
    rng = np.random.default_rng(0)
    graph = mg.parse(net, 5, k)
    params = mg.init_params(graph, rng, dtype=dtype)
    rows = mg.batches(m, B, 0, 0)
    if runs is not None:
        params = {key: np.stack([W] * runs) for key, W in params.items()}
        rows = np.stack([mg.batches(m, B, seed, 0) for seed in range(runs)], axis=1)
    x = rng.normal(size=(m, 5)).astype(dtype)
    labels = np.arange(m) % max(k, 2)
    y = np.eye(k, dtype=dtype)[labels] if k > 1 else (2 * labels[:, None] - 1).astype(dtype)
    return {
        "graph": graph,
        "params": params,
        "velocity": {key: np.zeros_like(W) for key, W in params.items()},
        "x": x,
        "y": y,
        "rows": rows,
        "loss": loss or ("cross_entropy" if k > 1 else "logistic"),
        "eta": 0.1,
        "lam": 1e-3,
        "momentum": 0.9,
    }


def moved(xp, value):
    """The same nest of dicts with its arrays in the library xp."""
    if isinstance(value, dict):
        return {key: moved(xp, item) for key, item in value.items()}
    return xp.asarray(value) if isinstance(value, np.ndarray) else value


def refused(call, error, words):
    """That `call` raises this error with these words, in one sentence."""
    with pytest.raises(error) as found:
        call()
    message = str(found.value)
    assert type(found.value) is error and "\n" not in message
    for word in words:
        assert word in message, message


def without(key):
    return lambda a: {name: W for name, W in a.items() if name != key}


def changed(key, change):
    return lambda a: a | {key: change(a[key])}


def as_labels(y):
    return y.argmax(axis=1)[:, None]


def float64(a):
    return a.astype("float64")


def gamma_by_unit(params):
    return params | {("gamma", 2): np.ones((1, 6), "float32")}


# What train_epoch refuses: an argument, how it is changed, and words of the sentence.
EPOCH = {
    "y too short": ("y", lambda y: y[:8], ["(12, 3)", "(8, 3)"]),
    "y too long": ("y", lambda y: np.concatenate([y, y]), ["(12, 3)", "(24, 3)"]),
    "y of one row": ("y", lambda y: y[:1], ["(12, 3)", "(1, 3)"]),
    "integer labels": ("y", as_labels, ["(12, 3)", "one-hot rows", "int64 (12, 1)"]),
    "labels": ("y", lambda y: as_labels(y).astype("float32"), ["one-hot rows", "float32 (12, 1)"]),
    "flat labels": ("y", lambda y: y.argmax(axis=1), ["(12, 3)", "int64 (12,)"]),
    "integer y": ("y", lambda y: y.astype("int64"), ["y must be float32", "int64 (12, 3)"]),
    "y in float64": ("y", float64, ["y must be float32", "float64 (12, 3)"]),
    "stacked y": ("y", lambda y: y[None], ["(m, k)", "(1, 12, 3)"]),
    "x of 4 inputs": ("x", lambda x: x[:, :4], ["n=5", "(12, 4)"]),
    "flat x": ("x", lambda x: x[:, 0], ["x must be", "(..., m, n)", "(12,)"]),
    "stacked x": ("x", lambda x: x[None], ["(m, n)", "(1, 12, 5)"]),
    "integer x": ("x", lambda x: x.astype("int64"), ["x must be", "float32", "int64"]),
    "complex x": ("x", lambda x: x.astype("complex64"), ["x must be", "complex64"]),
    "x in float64": ("x", float64, ["float64", "as x is", "float32"]),
    "empty x": ("x", lambda x: x[:0], ["x must be", "not empty", "(0, 5)"]),
    "boolean rows": ("rows", lambda rows: np.ones((2, 12), bool), ["rows must be integers", "bool (2, 12)"]),
    "rows of floats": ("rows", lambda rows: rows * 1.0, ["rows must be integers", "float64"]),
    "flat rows": ("rows", np.ravel, ["(S, *R, B)", "(12,)"]),
    "empty rows": ("rows", lambda rows: rows[:, :0], ["B at least 1", "(3, 0)"]),
    "batches of one": ("rows", lambda rows: np.arange(12)[:, None], ["batch norm", "B >= 2", "B=1"]),
    "rows for runs": ("rows", lambda rows: rows[:, None], ["R=()", "(3, 1, 4)"]),
    "gamma by unit": ("params", gamma_by_unit, ["params[('gamma', 2)]", "(1, 1)", "(1, 6)"]),
    "another W": ("params", changed((3, 2), lambda W: W[:5]), ["params[(3, 2)]", "(6, 6)", "(5, 6)"]),
    "a W in float64": ("params", changed((3, 2), float64), ["params[(3, 2)]", "float32", "float64"]),
    "a stacked W": ("params", changed((3, 2), lambda W: W[None]), ["params[(3, 2)]", "(6, 6)", "(1, 6, 6)"]),
    "no W": ("params", without((3, 2)), ["params", "(3, 2) is missing"]),
    "another's parameter": ("params", lambda a: a | {(4, 2): a[4, 3]}, ["params", "alone", "(4, 2)"]),
    "velocity without W": ("velocity", without((3, 2)), ["velocity", "(3, 2) is missing"]),
    "velocity by unit": ("velocity", gamma_by_unit, ["velocity[('gamma', 2)]", "(1, 1)", "(1, 6)"]),
    "velocity of one row": ("velocity", changed((3, 2), lambda W: W[:1]), ["velocity[(3, 2)]", "(1, 6)"]),
    "velocity in float64": ("velocity", changed((3, 2), float64), ["velocity[(3, 2)]", "float64"]),
    "another loss": ("loss", lambda loss: "hinge", ["loss must be one of cross_entropy", "'hinge'"]),
    "no loss": ("loss", lambda loss: None, ["loss must be one of", "None"]),
    "a list of losses": ("loss", lambda loss: [loss], ["loss must be one of", "['cross_entropy']"]),
    "lam negative": ("lam", lambda lam: -lam, ["lam must be", ">= 0", "-0.001"]),
    "lam NaN": ("lam", lambda lam: NAN, ["lam must be", ">= 0", "nan"]),
    "lam infinite": ("lam", lambda lam: float("inf"), ["lam must be", "finite", "inf"]),
    "eta negative": ("eta", lambda eta: -eta, ["eta must be", ">= 0", "-0.1"]),
    "eta NaN": ("eta", lambda eta: NAN, ["eta must be", ">= 0", "nan"]),
    "eta of another shape": ("eta", lambda eta: np.full(6, eta), ["eta must be", "(1, 1)", "(6,)"]),
    "momentum NaN": ("momentum", lambda momentum: NAN, ["momentum must be in [0, 1)", "nan"]),
    "momentum 1": ("momentum", lambda momentum: 1, ["momentum must be in [0, 1)", "1"]),
}


@libraries
@pytest.mark.parametrize("case", EPOCH)
def test_train_epoch_refuses_before_the_first_step_what_does_not_fit(case, xp):
    """On a device by shapes, dtypes and Python's numbers alone, without waiting for it."""
    name, change, words = EPOCH[case]
    args = setting()
    args = moved(xp, args | {name: change(args[name])})
    copies = {key: W.copy() for key, W in args["params"].items()}
    refused(lambda: mg.train_epoch(**args), ValueError, words)
    assert standin.synchronizations == 0
    for key, W in args["params"].items():
        assert bool((W == copies[key]).all())


WRONG_TYPES = {
    "a list for x": ("x", np.ndarray.tolist, ["x must be an array", "list"]),
    "a list for y": ("y", np.ndarray.tolist, ["y must have", "list"]),
    "a list for rows": ("rows", np.ndarray.tolist, ["rows must be integers", "list"]),
    "a list for W": ("params", changed((3, 2), np.ndarray.tolist), ["params[(3, 2)]", "an array", "list"]),
    "a list for params": ("params", list, ["params must be a dict", "list"]),
    "a list for velocity": ("velocity", list, ["velocity must be a dict", "list"]),
    "a device's W": ("params", changed((3, 2), standin.asarray), ["params[(3, 2)]", "numpy, as x is"]),
    "a device's y": ("y", standin.asarray, ["y must be", "numpy, as x is"]),
    "text for lam": ("lam", str, ["lam must be", "'0.001'"]),
    "a list for eta": ("eta", lambda eta: [eta], ["eta must be", "[0.1]"]),
    "a complex momentum": ("momentum", complex, ["momentum must be", "(0.9+0j)"]),
}


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_train_epoch_names_the_type_that_is_wrong(case):
    name, change, words = WRONG_TYPES[case]
    args = setting()
    args[name] = change(args[name])
    refused(lambda: mg.train_epoch(**args), TypeError, words)


@libraries
@pytest.mark.parametrize("runs", [3, 5, None])
def test_stacked_runs_have_batches_of_their_own_each(runs, xp):
    """Five runs used to train on the batches of three, the last two on nothing."""
    args = setting(runs=5)
    rows = setting(runs=runs)["rows"]
    args = moved(xp, args | {"rows": rows})
    if runs == 5:
        mg.train_epoch(**args)
    else:
        refused(lambda: mg.train_epoch(**args), ValueError, ["rows must be", "R=(5,)", str(rows.shape)])


@libraries
def test_every_parameter_of_stacked_runs_is_stacked(xp):
    args = setting(runs=3)
    args["params"]["gamma", 2] = args["params"]["gamma", 2][0]
    args = moved(xp, args)
    refused(lambda: mg.train_epoch(**args), ValueError, ["('gamma', 2)", "(3, 1, 1)", "(1, 1)"])


def test_parameters_of_another_network_are_refused():
    args = setting() | {"graph": mg.parse("MLP-2-6", 5, 3)}
    refused(lambda: mg.train_epoch(**args), ValueError, ["the graph alone", "('gamma', 2)"])


@libraries
def test_numbers_of_stacked_runs_stand_in_front_of_the_matrices(xp):
    """Six numbers against matrices of six columns broadcast, to a number for each column."""
    args = setting(runs=6) | {"eta": np.full(6, 0.1, "float32")}
    refused(lambda: mg.train_epoch(**moved(xp, args)), ValueError, ["eta must be", "(6, 1, 1)", "(6,)"])
    mg.train_epoch(**moved(xp, args | {"eta": args["eta"].reshape(6, 1, 1)}))


@pytest.mark.parametrize("value", [NAN, -1.0])
def test_each_number_of_stacked_runs_is_looked_at_on_the_host(value):
    args = setting(runs=2)
    for name in ("eta", "lam", "momentum"):
        numbers = np.array([0.5, value], "float32").reshape(2, 1, 1)
        refused(lambda: mg.train_epoch(**args | {name: numbers}), ValueError, [name, f"[0.5, {value}]"])


# y has the right shape and dtype, and values that the loss has no meaning for.
VALUES = {
    "0 and 1": ("logistic", 1, lambda y: (y + 1) / 2, ["logistic takes y = -1 or +1", "got 0"]),
    "0 and 1, exponential": ("exponential", 1, lambda y: (y + 1) / 2, ["exponential takes", "got 0"]),
    "one-hot": ("logistic", 3, lambda y: y, ["logistic takes y = -1 or +1", "got 0"]),
    "NaN": ("exponential", 1, lambda y: y * NAN, ["exponential takes y = -1 or +1", "got nan"]),
    "labels": ("cross_entropy", 1, lambda y: (y + 1) / 2, ["cross_entropy", "sum to 1", "got 0"]),
    "signs": ("cross_entropy", 3, lambda y: 2 * y - 1, ["cross_entropy", "sum to 1", "got -1"]),
    "counts": ("cross_entropy", 3, lambda y: 2 * y, ["cross_entropy", "one-hot rows", "got 2"]),
    "rows with NaN": ("cross_entropy", 3, lambda y: y * NAN, ["sum to 1", "got nan"]),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_of_y_that_a_loss_has_no_meaning_for_are_refused_on_the_host(case):
    """By the loss, and by train_epoch and evaluate, which are given its name or the loss itself."""
    name, k, change, words = VALUES[case]
    args = setting(k=k)
    args["y"] = change(args["y"])
    network, data = (args["graph"], args["params"]), (args["x"], args["y"])
    for loss in (name, LOSSES[name]):
        refused(lambda: mg.train_epoch(**args | {"loss": loss}), ValueError, words)
        refused(lambda: mg.evaluate(*network, *data, loss), ValueError, words)
    refused(lambda: LOSSES[name](np.zeros_like(args["y"]), args["y"]), ValueError, words)


@pytest.mark.parametrize("case", VALUES)
def test_values_on_a_device_are_not_waited_for(case):
    name, k, change, _ = VALUES[case]
    args = setting(k=k, loss=name)
    args = moved(standin, args | {"y": change(args["y"])})
    mg.train_epoch(**args)
    mg.evaluate(args["graph"], args["params"], args["x"], args["y"], name)
    LOSSES[name](standin.zeros_like(args["y"]), args["y"])
    assert standin.synchronizations == 0


def test_shares_of_classes_and_real_targets_are_values_too():
    f = np.zeros((2, 3))
    mg.cross_entropy(f, np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    mg.mean_squared_error(f, np.array([[0.0, -7.0, 1e30], [0.1, 0.2, 3.0]]))


# What a loss is given: f, y, and words of the sentence.
PAIRS = {
    "y flat": (np.zeros((4, 1)), np.ones(4), ["(4, 1)", "float64 (4,)"]),
    "y a row": (np.zeros((4, 3)), np.eye(3)[:1], ["(4, 3)", "(1, 3)"]),
    "y a column": (np.zeros((4, 3)), np.ones((4, 1)), ["(4, 3)", "(4, 1)"]),
    "integer labels": (np.zeros((4, 3)), np.array([[0], [1], [2], [0]]), ["one-hot rows", "int64 (4, 1)"]),
    "both flat": (np.zeros(4), np.ones(4), ["f must be (..., m, k)", "(4,)"]),
    "no samples": (np.zeros((0, 3)), np.ones((0, 3)), ["f must be", "at least 1", "(0, 3)"]),
}


@libraries
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", PAIRS)
def test_a_loss_refuses_y_that_would_broadcast(case, loss, xp):
    f, y, words = PAIRS[case]
    refused(lambda: LOSSES[loss](xp.asarray(f), xp.asarray(y)), ValueError, words)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_takes_arrays_alone(loss):
    f = np.ones((2, 1))
    refused(lambda: LOSSES[loss](f.tolist(), f), TypeError, ["f must be an array", "list"])
    refused(lambda: LOSSES[loss](f, f.tolist()), TypeError, ["y must have", "list"])


@pytest.mark.parametrize("loss", LOSSES)
def test_axes_in_front_of_a_loss_stay_free(loss, rng):
    """One y for stacked runs, and one f for several y."""
    f, y = rng.normal(size=(4, 3)), np.eye(3)[[0, 1, 2, 0]]
    y = 2 * y - 1 if loss in ("logistic", "exponential") else y
    one = LOSSES[loss](f, y)
    for pair in ((np.stack([f, f]), y), (f, np.stack([y, y]))):
        found = LOSSES[loss](*pair)
        for r in (0, 1):
            np.testing.assert_array_equal(found[0][r], one[0])
            np.testing.assert_array_equal(found[1][r], one[1])


# What evaluate refuses, as EPOCH.
EVALUATE = {name: EPOCH[name] for name in EPOCH if EPOCH[name][0] in ("params", "loss")}
EVALUATE |= {name: EPOCH[name] for name in EPOCH if EPOCH[name][0] in ("x", "y") and "stacked" not in name}
EVALUATE["one sample"] = ("m", lambda m: 1, ["batch norm", "m >= 2", "m=1"])


@libraries
@pytest.mark.parametrize("case", EVALUATE)
def test_evaluate_refuses_what_does_not_fit(case, xp):
    name, change, words = EVALUATE[case]
    args = setting(m=1, B=1) if name == "m" else setting()
    if name != "m":
        args[name] = change(args[name])
    args = moved(xp, args)
    graph, params, x, y, loss = (args[name] for name in ("graph", "params", "x", "y", "loss"))
    refused(lambda: mg.evaluate(graph, params, x, y, loss), ValueError, words)
    if name in ("params", "m"):
        refused(lambda: mg.predict(graph, params, x), ValueError, words)
    assert standin.synchronizations == 0


@libraries
def test_one_sample_is_evaluated_with_the_statistics_of_others(xp):
    args = moved(xp, setting())
    graph, params, x, y = (args[name] for name in ("graph", "params", "x", "y"))
    stats = mg.evaluate(graph, params, x, y, "cross_entropy")[2]
    loss, accuracy, _ = mg.evaluate(graph, params, x[:1], y[:1], "cross_entropy", stats)
    assert np.isfinite(float(loss)) and float(accuracy) in (0, 1)


@libraries
@pytest.mark.parametrize("dtype, size", [("float32", 1e25), ("float64", 1e200)])
def test_a_variance_that_overflows_is_no_finite_loss(dtype, size, xp):
    """A of Eq. 5 is then 0, and every output that of beta. A run stacked next to it keeps its numbers."""
    args = setting(runs=2, dtype=dtype)
    args["params"][2, 1][1] *= size
    args = moved(xp, args)
    graph, params, x, y = (args[name] for name in ("graph", "params", "x", "y"))
    loss, accuracy, stats = mg.evaluate(graph, params, x, y, "cross_entropy")
    others = mg.evaluate(graph, params, x[:5], y[:5], "cross_entropy", stats)
    assert standin.synchronizations == 0 and loss.dtype == dtype
    alone = mg.evaluate(graph, {key: W[0] for key, W in params.items()}, x, y, "cross_entropy")
    for found in (loss, accuracy, *others[:2]):
        assert np.isfinite(float(found[0])) and np.isnan(float(found[1]))
    assert (float(loss[0]), float(accuracy[0])) == (float(alone[0]), float(alone[1]))


@libraries
def test_a_single_unit_s_variance_that_overflows_is_enough(xp):
    """The fault: a loss is given up only where all units of a layer have overflowed."""
    args = setting()
    args["params"][3, 2][0] *= 1e25
    args = moved(xp, args)
    graph, params, x, y = (args[name] for name in ("graph", "params", "x", "y"))
    loss, accuracy, stats = mg.evaluate(graph, params, x, y, "cross_entropy")
    assert int((stats.A[3] == 0).sum()) == 1
    assert np.isnan(float(loss)) and np.isnan(float(accuracy))


# What is taken.


@libraries
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_may_be_a_function_and_the_step_is_the_same(loss, xp):
    """One of ours by itself; and another's, whose last bits differ where ours is compiled."""
    k = 1 if loss in ("logistic", "exponential") else 3
    ends = []
    for given in (loss, LOSSES[loss], lambda f, y: LOSSES[loss](f, y)):
        args = moved(xp, setting(k=k, loss=given))
        mg.train_epoch(**args)
        value = mg.evaluate(args["graph"], args["params"], args["x"], args["y"], given)[0]
        ends.append([*args["params"].values(), value])
    by_name, by_itself, another = ends
    for W, same, other in zip(by_name, by_itself, another):
        assert bool((W == same).all())
        assert float(abs(W - other).max()) <= 1e-6 * float(abs(W).max())


@libraries
def test_a_velocity_that_is_none_is_made_of_zeros_and_returned(xp):
    """The next epoch goes on with it."""
    given, made = (moved(xp, setting()) for _ in range(2))
    velocity = None
    for _ in range(2):
        assert mg.train_epoch(**given) is given["velocity"]
        velocity = mg.train_epoch(**made | {"velocity": velocity})
    for key, W in given["params"].items():
        assert bool((made["params"][key] == W).all()), key
        assert bool((velocity[key] == given["velocity"][key]).all()), key


def test_an_epoch_is_checked_once_however_many_steps_it_has(monkeypatch):
    """A step that looks at what it is given costs time in every one."""
    called = []

    def counting(name):
        function = getattr(checks, name)

        def count(*args, **options):
            called.append(name)
            return function(*args, **options)

        return count

    for name, value in list(vars(checks).items()):
        if inspect.isfunction(value) and value.__module__ == checks.__name__:
            monkeypatch.setattr(checks, name, counting(name))
    for xp in (np, standin):
        found = []
        for passes in (1, 20):
            args = setting()
            args["rows"] = np.concatenate([args["rows"]] * passes)
            called.clear()
            mg.train_epoch(**moved(xp, args))
            found.append(called.copy())
        assert found[0] == found[1]
        assert found[0][0] == "epoch"


# Initialization, batches, the step schedule.

GRAPH = mg.parse("MLP-BN-2-6", 5, 3)
RNG = np.random.default_rng(0)
CALLS = {
    "init rng 0": (lambda: mg.init_params(GRAPH, 0), TypeError, ["rng must be a generator", "got 0"]),
    "init rng None": (lambda: mg.init_params(GRAPH, None), TypeError, ["rng must be a generator", "None"]),
    "init int32": (lambda: mg.init_params(GRAPH, RNG, dtype="int32"), ValueError, ["float64", "'int32'"]),
    "init complex": (lambda: mg.init_params(GRAPH, RNG, dtype=complex), ValueError, ["float64", "complex"]),
    "init half": (lambda: mg.init_params(GRAPH, RNG, dtype="float16"), ValueError, ["dtype", "'float16'"]),
    "init no type": (lambda: mg.init_params(GRAPH, RNG, dtype="real"), ValueError, ["float64", "'real'"]),
    "epoch -1": (lambda: mg.batches(12, 4, 0, -1), ValueError, ["epoch must be an integer >= 0", "-1"]),
    "epoch NaN": (lambda: mg.batches(12, 4, 0, NAN), ValueError, ["epoch must be an integer", "nan"]),
    "epoch 0.5": (lambda: mg.batches(12, 4, 0, 0.5), ValueError, ["epoch must be an integer", "0.5"]),
    "epoch text": (lambda: mg.batches(12, 4, 0, "1"), TypeError, ["epoch must be an integer", "'1'"]),
    "seed -1": (lambda: mg.batches(12, 4, -1, 0), ValueError, ["seed must be an integer >= 0", "-1"]),
    "B 2.5": (lambda: mg.batches(12, 2.5, 0, 0), ValueError, ["B must be an integer", "2.5"]),
    "B NaN": (lambda: mg.batches(12, NAN, 0, 0), ValueError, ["B must be an integer", "nan"]),
    "B 0": (lambda: mg.batches(12, 0, 0, 0), ValueError, ["1 <= B <= m=12", "B=0"]),
    "m 0": (lambda: mg.batches(0, 1, 0, 0), ValueError, ["1 <= B <= m=0", "B=1"]),
    "drop at -1": (lambda: mg.step_decay(0.1, -1), ValueError, ["epoch must be an integer >= 0", "-1"]),
    "drop at NaN": (lambda: mg.step_decay(0.1, NAN), ValueError, ["epoch must be an integer", "nan"]),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_with_a_wrong_value_is_refused(case):
    refused(*CALLS[case])


def test_integers_and_types_of_numpy_are_taken():
    np.testing.assert_array_equal(mg.batches(*map(np.int64, (12, 4, 0, 1))), mg.batches(12, 4, 0, 1))
    assert mg.step_decay(0.1, np.int32(60)) == mg.step_decay(0.1, 60)
    for dtype in ("float64", np.float64, np.dtype("float64"), float):
        assert mg.init_params(GRAPH, np.random.default_rng(0), dtype=dtype)[2, 1].dtype == "float64"


# The measures.

LOW = np.outer(np.arange(1, 6.0), np.arange(1, 5.0))  # of rank one
MEASURES = {
    "singular_values": mg.singular_values,
    "rank": mg.rank,
    "stable_rank": mg.stable_rank,
    "effective_rank": mg.effective_rank,
    "distance_to_rank": lambda W: mg.distance_to_rank(W, 1),
    "theorem1_bound": lambda W: mg.theorem1_bound(W, 0.1),
    "distance": lambda W: mg.distance({(2, 1): W}, {(2, 1): W}, [(2, 1)]),
}
NO_MATRICES = {
    "integers": (LOW.astype("int64"), "int64 (5, 4)"),
    "complex": (LOW * 1j, "complex128 (5, 4)"),
    "truth values": (LOW > 3, "bool (5, 4)"),
    "half": (LOW.astype("float16"), "float16 (5, 4)"),
    "a vector": (LOW[0], "float64 (4,)"),
    "no columns": (LOW[:, :0], "float64 (5, 0)"),
}


@libraries
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("case", NO_MATRICES)
def test_a_measure_refuses_what_is_no_real_matrix(case, measure, xp):
    W, got = NO_MATRICES[case]
    rule = "must be an array (..., d_p, d_q) of float32 or float64"
    refused(lambda: MEASURES[measure](xp.asarray(W)), ValueError, [rule, got])


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("W, got", [(LOW.tolist(), "list"), (3.0, "float"), (None, "NoneType")])
def test_a_measure_refuses_what_is_no_array(measure, W, got):
    refused(lambda: MEASURES[measure](W), TypeError, ["must be an array (..., d_p, d_q)", got])


EDGE = [(2, 1)]
NUMBERS = {
    "r = -1": (lambda: mg.distance_to_rank(LOW, -1), ["r must be an integer >= 0", "-1"]),
    "r NaN": (lambda: mg.distance_to_rank(LOW, NAN), ["r must be an integer >= 0", "nan"]),
    "r = 1.5": (lambda: mg.distance_to_rank(LOW, 1.5), ["r must be an integer >= 0", "1.5"]),
    "lam = -1": (lambda: mg.theorem1_bound(LOW, -1.0), ["lam must be", ">= 0", "-1.0"]),
    "lam NaN": (lambda: mg.theorem1_bound(LOW, NAN), ["lam must be", ">= 0", "nan"]),
    "tol = -1": (lambda: mg.rank(LOW, -1.0), ["tol must be", ">= 0", "-1.0"]),
    "tol NaN": (lambda: mg.rank(LOW, NAN), ["tol must be", ">= 0", "nan"]),
    "no edges": (lambda: mg.distance({}, {}, []), ["edges", "one matrix or more", "[]"]),
    "no such edge": (lambda: mg.distance({(2, 1): LOW}, {}, EDGE), ["before", "(2, 1) is missing"]),
    "one row": (lambda: mg.distance({(2, 1): LOW}, {(2, 1): LOW[:1]}, EDGE), ["equal (d_p, d_q)", "(1, 4)"]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_measure_refuses_a_number_or_an_edge_that_is_none(case):
    call, words = NUMBERS[case]
    refused(call, ValueError, words)

