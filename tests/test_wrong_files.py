"""Files of the store that are well formed and wrong: each is refused by a sentence that names it.

Every field of meta and every array is left out, renamed, reshaped, retyped, or taken from another run. Each
wrong file is tried with a digest that fits it, and without one, as files of before the digest are.
"""

import copy
import json
import os
import zipfile
from dataclasses import replace

import numpy
import pytest

from experiments import store
from experiments.runner import Where, train
from experiments.runs import Run

RUN = Run(
    network="MLP-BN-2-4",
    dataset="synthetic-mnist",
    m=40,
    m_test=20,
    B=10,
    eta=0.1,
    epochs=12,
    measure_every=5,
)
OTHERS = {
    "eta": replace(RUN, eta=0.2),
    "seed": replace(RUN, seed=1),
    "loss": replace(RUN, loss="mean_squared_error"),
    "network": replace(RUN, network="MLP-BN-2-5"),
}


pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """{kind: (meta, arrays)} of the run's result, its result with weights, and its checkpoint at epoch 11."""
    folder = tmp_path_factory.mktemp("whole")
    train([RUN], Where(str(folder), keep_weights=True))
    meta, arrays = store.read_result(folder, RUN)
    checkpoint = at_epoch_11(meta, arrays)
    plain = {name: array for name, array in arrays.items() if not name.startswith("W ")}
    return {"result": (meta, plain), "result with weights": (meta, arrays), "checkpoint": checkpoint}


def at_epoch_11(meta, arrays):
    """As a checkpoint of that epoch looks; epoch 11 is not measured, 12 is."""
    weights = {name: array for name, array in arrays.items() if name.startswith("W ")}
    velocity = {name.replace("W ", "velocity "): 0 * array for name, array in weights.items()}
    history = {name: array[:-1] for name, array in arrays.items() if name not in weights}
    return meta | {"status": "unfinished", "epoch": 11}, history | weights | velocity


def read(folder, kind, run=RUN):
    return store.read_checkpoint(folder, run) if kind == "checkpoint" else store.read_result(folder, run)


def path_of(folder, kind, run=RUN):
    return store.partial_path(folder, run) if kind == "checkpoint" else store.result_path(folder, run)


def put(path, meta, arrays, with_digest=True):
    """A whole file of this content."""
    store.write(path, meta, arrays)
    if not with_digest:
        rewrite(path, without="digest.npy")


def rewrite(path, without=None, **members):
    """The same archive without a member, or with other bytes in one."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if name != without}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (kept | members).items():
            archive.writestr(name, content)


def assert_refused(folder, kind, words=""):
    with pytest.raises(store.StoreError) as error:
        read(folder, kind)
    message = str(error.value)
    assert str(path_of(folder, kind)) in message and "delete it" in message and "\n" not in message
    assert words in message


def refusal(folder, kind, what):
    """What is said of a file that is refused."""
    try:
        read(folder, kind)
    except store.StoreError as error:
        return str(error)
    pytest.fail(f"believed: {what}")


KINDS = ("result", "result with weights", "checkpoint")


@pytest.mark.parametrize("with_digest", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_right_file_is_read(tmp_path, whole, kind, with_digest):
    meta, arrays = whole[kind]
    put(path_of(tmp_path, kind), meta, arrays, with_digest)
    found, numbers = read(tmp_path, kind)
    assert found == meta and list(numbers) == list(arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_spectra_in_float64_as_they_once_were_is_read_as_one_of_today(tmp_path, whole, kind, rng):
    meta, arrays = whole[kind]
    older = dict(arrays)
    for name in arrays:
        if name.startswith("spectrum "):
            # Digits that float32 doesn't have, and that rounding takes away again.
            older[name] = arrays[name] * (1 + 1e-9 * rng.normal(size=arrays[name].shape))
    put(path_of(tmp_path, kind), meta, older)
    assert older["spectrum 2-1"].dtype == "float64"
    _, numbers = read(tmp_path, kind)
    for name, array in arrays.items():
        assert numbers[name].dtype == array.dtype, name
        assert numbers[name].tobytes() == array.tobytes(), name


def wrong_metas(meta):
    """(what is wrong, the meta)."""
    for name in meta:
        yield f"without {name}", {key: value for key, value in meta.items() if key != name}
        yield f"{name} renamed", {key + "s" if key == name else key: value for key, value in meta.items()}
        for value in (None, [], {}, "5", -1, 1e30, float("nan"), True, 10**9):
            yield f"{name} = {value!r}", meta | {name: value}
    yield "more", meta | {"more": 1}
    for value in (None, [], "meta", 3):
        yield f"meta is {value!r}", value
    for name, value in meta["run"].items():
        for odd in (None, [], "x", -1):
            if odd != value:
                yield f"run.{name} = {odd!r}", meta | {"run": meta["run"] | {name: odd}}
    yield "a field of no run", meta | {"run": meta["run"] | {"speed": 9}}
    for status in ("finished", "diverged", "unfinished"):
        if status != meta["status"]:
            yield f"status {status}", meta | {"status": status}
    for epoch in (0, 1, 11, 12, 13):
        if epoch != meta["epoch"]:
            yield f"epoch {epoch}", meta | {"epoch": epoch}
    for name in meta["provenance"][0]:
        origin = copy.deepcopy(meta["provenance"][0])
        del origin[name]
        yield f"provenance without {name}", meta | {"provenance": [origin]}
        yield f"provenance with {name} = 3", meta | {"provenance": [origin | {name: 3}]}
    yield "provenance of nothing", meta | {"provenance": [None]}


@pytest.mark.parametrize("with_digest", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_meta_is_refused(tmp_path, whole, kind, with_digest):
    meta, arrays = whole[kind]
    tried = 0
    for what, wrong in wrong_metas(meta):
        put(path_of(tmp_path, kind), wrong, arrays, with_digest)
        assert str(path_of(tmp_path, kind)) in refusal(tmp_path, kind, what), what
        tried += 1
    assert tried > 100


def wrong_arrays(arrays):
    """(what is wrong, the arrays)."""
    for name, array in arrays.items():
        rest = {key: value for key, value in arrays.items() if key != name}
        yield f"without {name}", rest
        yield f"{name} renamed", rest | {name + "x": array}
        yield f"{name} a row short", arrays | {name: array[:-1]}
        yield f"{name} a row long", arrays | {name: numpy.concatenate([array, array[-1:]])}
        yield f"{name} with an axis more", arrays | {name: array[None]}
        other_axes = array.reshape(-1, 1) if array.ndim == 1 else array[0]
        yield f"{name} with other axes", arrays | {name: other_axes}
        for dtype in ("float16", "int64", "complex128", "float32", "float64"):
            as_before = name.startswith("spectrum ") and dtype == "float64"
            if array.dtype != dtype and not as_before:
                yield f"{name} as {dtype}", arrays | {name: numpy.nan_to_num(array).astype(dtype)}
    yield "one more", arrays | {"more": numpy.ones(3)}
    yield "other epochs", arrays | {"epoch": arrays["epoch"] + 1}
    yield "epochs of NaN", arrays | {"epoch": numpy.full_like(arrays["epoch"], numpy.nan)}


@pytest.mark.parametrize("with_digest", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_array_is_refused_and_the_sentence_names_it(tmp_path, whole, kind, with_digest):
    meta, arrays = whole[kind]
    tried = 0
    for what, wrong in wrong_arrays(arrays):
        put(path_of(tmp_path, kind), meta, wrong, with_digest)
        message = refusal(tmp_path, kind, what)
        name = what.removeprefix("without ").split(" ")[0]
        assert str(path_of(tmp_path, kind)) in message, what
        assert name in message or "epochs" in message or "more" in message, (what, message)
        tried += 1
    assert tried > 50


def test_a_result_whose_last_numbers_contradict_its_status_is_refused(tmp_path, whole):
    meta, arrays = whole["result"]
    for name in ("train_loss", "spectrum 2-1"):
        broken = {key: array.copy() for key, array in arrays.items()}
        broken[name][-1] = numpy.nan
        put(path_of(tmp_path, "result"), meta, broken)
        assert_refused(tmp_path, "result", "its last numbers say otherwise")


def test_a_run_diverges_only_where_it_is_measured(tmp_path, whole):
    """Epoch 11 is not: its arrays are those of epoch 10. The fault: any epoch is believed."""
    meta, arrays = whole["result"]
    until_10 = {name: array[:11].copy() for name, array in arrays.items()}
    until_10["train_loss"][-1] = numpy.nan
    path, diverged = path_of(tmp_path, "result"), meta | {"status": "diverged"}
    put(path, diverged | {"epoch": 10}, until_10)
    assert read(tmp_path, "result")[0]["epoch"] == 10
    put(path, diverged | {"epoch": 11}, until_10)
    assert_refused(tmp_path, "result", "it is diverged at epoch 11 of 12")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", OTHERS)
def test_another_run_s_file_under_this_run_s_name_is_refused(tmp_path, kind, field):
    other = OTHERS[field]
    train([other], Where(str(tmp_path / "other"), keep_weights=kind != "result"))
    meta, arrays = store.read_result(tmp_path / "other", other)
    if kind == "checkpoint":
        meta, arrays = at_epoch_11(meta, arrays)
    put(path_of(tmp_path, kind), meta, arrays)
    assert_refused(tmp_path, kind, f"another run: {field}=")


def test_a_checkpoint_in_a_result_s_place_is_refused_and_the_reverse(tmp_path, whole):
    put(path_of(tmp_path, "result"), *whole["checkpoint"])
    assert_refused(tmp_path, "result", "its status is 'unfinished'")
    put(path_of(tmp_path, "checkpoint"), *whole["result with weights"])
    assert_refused(tmp_path, "checkpoint", "its status is 'finished'")


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_was_changed_after_writing_is_told(tmp_path, whole, kind):
    """With checksums of the archive that fit: last bits of an array, a word of meta."""
    meta, arrays = whole[kind]
    for name, array in arrays.items():
        other_bits = numpy.nextafter(array, numpy.inf).astype(array.dtype)
        put(path_of(tmp_path, kind), meta, arrays | {name: other_bits})
        with zipfile.ZipFile(path_of(tmp_path, kind)) as archive:
            changed = archive.read(f"{name}.npy")
        put(path_of(tmp_path, kind), meta, arrays)
        rewrite(path_of(tmp_path, kind), **{f"{name}.npy": changed})
        assert_refused(tmp_path, kind)
    put(path_of(tmp_path, kind), meta, arrays)
    with zipfile.ZipFile(path_of(tmp_path, kind)) as archive:
        text = archive.read("meta.npy")
    rewrite(path_of(tmp_path, kind), **{"meta.npy": text.replace(b"L\x00\x00\x00i", b"l\x00\x00\x00i")})
    assert_refused(tmp_path, kind, "other numbers than were written")


def test_files_already_written_keep_their_digest():
    """They must stay readable. The fault: an array in F order counted in C order, which refuses them."""
    values = numpy.array([[1.5, -2.0, 3.25], [0.0, 1e-3, 7.0]])
    arrays = {
        "in C order": values,
        "in F order": numpy.asfortranarray(values.astype("float32")),
        "empty": numpy.empty((0, 3)),
    }
    meta = {"status": "finished", "epoch": 12, "run": {"lam": 5e-4}}
    assert store._digest(meta, arrays) == "2aad5fc9ef23e34813fba997b5c810aa15b356ce2f5fd4af54c6657185ca5644"


def test_a_meta_that_is_too_large_is_refused_before_it_is_read(tmp_path, whole, monkeypatch):
    """The fault: no limit to what is read and parsed before anything is known of a file."""
    meta, arrays = whole["result"]
    origin = meta["provenance"][0] | {"machine": "x" * 2**18}  # 4 bytes each
    put(path_of(tmp_path, "result"), meta | {"provenance": [origin]}, arrays)
    monkeypatch.setattr(store, "_member", lambda archive, name: pytest.fail(f"read {name}"))
    assert_refused(tmp_path, "result", "it is not a whole result")


def test_a_compressed_file_is_refused_before_it_is_inflated(tmp_path, whole):
    path = path_of(tmp_path, "result")
    put(path, *whole["result"])
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert_refused(tmp_path, "result")


def test_an_array_that_says_it_is_larger_than_the_file_is_refused(tmp_path, whole):
    put(path_of(tmp_path, "result"), *whole["result"])
    header = b"\x93NUMPY\x01\x00v\x00"
    header += b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000,), }"
    rewrite(path_of(tmp_path, "result"), **{"distance.npy": header.ljust(127) + b"\n"})
    assert_refused(tmp_path, "result")


@pytest.mark.parametrize("kind", KINDS)
def test_a_fifo_or_a_folder_in_a_file_s_place_is_told(tmp_path, kind):
    path = path_of(tmp_path, kind)
    path.mkdir()
    assert_refused(tmp_path, kind, "it is no file")
    if hasattr(os, "mkfifo"):
        path.rmdir()
        os.mkfifo(path)
        assert_refused(tmp_path, kind, "it is no file")


def test_a_run_of_before_a_field_was_added_is_still_read(tmp_path, whole):
    """Its meta lacks the field, which then has its default."""
    meta, arrays = whole["result"]
    older = {name: value for name, value in meta["run"].items() if name != "steps_of_B"}
    put(path_of(tmp_path, "result"), meta | {"run": older}, arrays)
    assert json.dumps(read(tmp_path, "result")[0]["run"]) == json.dumps(older)
