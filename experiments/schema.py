"""What a file of a run holds, its meta and its arrays; nothing that is read is believed without it."""

import numpy

SCALARS = ("epoch", "distance", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
SPECTRUM = "float32"  # as W: more digits would mean nothing
PROVENANCE = {"commit", "backend", "kernels", "python", "numpy", "blas", "machine"}


class Unfit(Exception):
    """What a file holds is not what the run that was asked for leaves; the message says what."""


def array_name(kind, key):
    """What an array is called in a file: its kind ("spectrum", "W", "velocity") and its key in params."""
    return f"{kind} {key[0]}-{key[1]}"


def of_history(run):
    """{name: (shape of a row, dtype)} of the arrays that have a row for every measured epoch."""
    graph = run.graph()
    names = {name: ((), "float64") for name in SCALARS}
    for p, q in graph.E_T:
        names[array_name("spectrum", (p, q))] = ((min(graph.width(p), graph.width(q)),), SPECTRUM)
    return names


def rounded(arrays):
    """A history with its spectra as SPECTRUM: what is measured, and older files, have them in float64."""
    found = dict(arrays)
    for name, array in arrays.items():
        if name.startswith("spectrum ") and array.dtype == "float64":
            with numpy.errstate(over="ignore"):  # of a run that diverges
                found[name] = array.astype(SPECTRUM)
    return found


def of_params(run, kinds):
    """{name: (shape, dtype)} of the arrays of these kinds ("W", "velocity"), each as params are."""
    shapes = run.graph().shapes()
    return {array_name(kind, key): (shape, "float32") for kind in kinds for key, shape in shapes.items()}


def check_meta(run, meta, statuses):
    """Unfit unless meta is that of this run, in one of the statuses and at an epoch that goes with it."""
    if not isinstance(meta, dict) or set(meta) != {"run", "status", "epoch", "provenance"}:
        raise Unfit("its meta is not that of a run")
    try:
        stored = type(run)(**meta["run"])
    except (TypeError, ValueError) as error:
        raise Unfit(f"its run is none: {error}") from None
    if stored != run:
        ours, other = run.as_dict(), stored.as_dict()
        differ = [f"{name}={other[name]} for {ours[name]}" for name in ours if ours[name] != other[name]]
        raise Unfit(f"it is another run: {', '.join(differ)}")
    status, epoch = meta["status"], meta["epoch"]
    if status not in statuses:
        raise Unfit(f"its status is {status!r}, not {' or '.join(statuses)}")
    if type(epoch) is not int or not 0 <= epoch <= run.epochs:
        raise Unfit(f"its epoch is {epoch!r}, of {run.epochs}")
    ends = status != "unfinished"
    ends_early = status == "finished" and epoch != run.epochs
    if ends_early or (ends and not run.measured(epoch)):
        raise Unfit(f"it is {status} at epoch {epoch} of {run.epochs}")
    origins = meta["provenance"]
    if not isinstance(origins, list) or not origins:
        raise Unfit("its provenance is no list")
    for origin in origins:
        texts = isinstance(origin, dict) and all(type(value) is str for value in origin.values())
        if not texts or set(origin) != PROVENANCE:
            raise Unfit("its provenance is incomplete")


def check_arrays(run, meta, arrays, kinds):
    """Unfit unless the arrays of the history and of `kinds` are there, no others, in shape and dtype."""
    measured = [epoch for epoch in range(meta["epoch"] + 1) if run.measured(epoch)]
    expected = {name: ((len(measured), *shape), dtype) for name, (shape, dtype) in of_history(run).items()}
    expected |= of_params(run, kinds)
    for name in sorted(set(arrays) ^ set(expected)):
        what = "unknown" if name in arrays else "missing"
        raise Unfit(f"the array {name!r} is {what}")
    for name, (shape, dtype) in expected.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != dtype:
            raise Unfit(f"the array {name!r} is {array.dtype} {array.shape}, not {dtype} {shape}")
    if arrays["epoch"].tolist() != measured:
        raise Unfit("its epochs are not those that such a run measures")
    if meta["status"] != "unfinished" and is_finite(arrays) != (meta["status"] == "finished"):
        raise Unfit(f"it is {meta['status']}, and its last numbers say otherwise")


def is_finite(history):
    """Whether the last measured train loss and singular values are finite."""
    judged = [name for name in history if name == "train_loss" or name.startswith("spectrum")]
    return all(numpy.isfinite(history[name][-1:]).all() for name in judged)
