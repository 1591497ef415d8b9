"""The bench compares like with like, and sees what isn't. No time is asserted."""

import functools
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from experiments import bench

EVERY_NETWORK = [("MLP-BN-3-16", variant) for variant in bench.VARIANTS]
EVERY_NETWORK += [("RES-BN-2-16", "standard"), ("MLP-2-16", "standard")]


@pytest.fixture
def data(rng):
    """64 samples with 12 inputs, in float64."""
    x = rng.standard_normal((64, 12))
    y = np.eye(10)[rng.integers(10, size=64)]
    return mg.Dataset(x, y, x, y, "random")


@pytest.mark.parametrize("name, variant", EVERY_NETWORK)
def test_minigrad_pytorch_and_jax_have_one_gradient_and_take_the_same_steps(name, variant, data):
    jax = pytest.importorskip("jax", reason="needs the extra bench: JAX")
    pytest.importorskip("torch", reason="needs the extra bench: PyTorch")
    with jax.enable_x64(True):
        found = bench.agreement(bench.network(name, variant, n=12), data.x_train, data.y_train)
    assert max(found) < 1e-12


@pytest.mark.parametrize("constant, value", [("ETA", 0.0101), ("LAM", 5.1e-4), ("MOMENTUM", 0.91)])
def test_a_trainer_that_takes_other_steps_is_seen(constant, value, data, monkeypatch):
    def other(*args):
        advance, end = bench.by_minigrad(*args)

        def advance_otherwise(rows):
            with monkeypatch.context() as patch:
                patch.setattr(bench, constant, value)
                advance(rows)

        return advance_otherwise, end

    task = bench.network("MLP-BN-3-16", n=12), data.x_train, data.y_train
    monkeypatch.setattr(bench, "TRAINERS", {"minigrad": bench.by_minigrad})
    assert max(bench.agreement(*task)) < 1e-12
    monkeypatch.setitem(bench.TRAINERS, "other", other)
    assert max(bench.agreement(*task)) > 1e-6


def test_matrix_products_are_all_products_of_a_step_and_no_other(data, monkeypatch):
    """Forward and gradient on every trainable edge, and the cotangent below all but the input's."""
    multiplications, matmul = [], np.matmul

    def counted(a, b, out):
        multiplications.append(a.shape[0] * a.shape[1] * b.shape[1])
        return matmul(a, b, out=out)

    graph = bench.network("RES-BN-2-16", n=12)
    advance, _ = bench.by_products(graph, bench.start(graph), data.x_train, data.y_train)
    monkeypatch.setattr(np, "matmul", counted)
    advance(np.arange(8).reshape(1, 8))
    widths = [(graph.width(p), graph.width(q), 3 if q > 1 else 2) for p, q in graph.E_T]
    assert sum(multiplications) == sum(8 * d_p * d_q * times for d_p, d_q, times in widths)


def test_functions_take_turns_and_several_threads_are_refused(monkeypatch):
    calls = []
    functions = {name: functools.partial(calls.append, name) for name in "ab"}
    times = bench.in_turns(functions, rounds=2)
    assert "".join(calls) == "ababab"
    assert len(times["a"]) == len(times["b"]) == 2
    monkeypatch.setattr(bench.time, "process_time", lambda: 2 * bench.time.perf_counter())
    with pytest.raises(RuntimeError, match="thread"):
        bench.in_turns({"two threads": lambda: sum(range(2_000_000))}, rounds=1)


def test_norms_and_ranks_that_are_timed_agree(data):
    pytest.importorskip("torch", reason="needs the extra bench: PyTorch")
    x, y = data.x_train.astype("float32"), data.y_train.astype("float32")
    times = bench.norm_times(bench.network("MLP-2-16", n=12), x, y, rounds=1)
    assert times.keys() == {"minigrad", "PyTorch"}
    assert bench.rank_times((20, 30), rounds=1).keys() == {"minigrad", "NumPy's SVD"}


@pytest.mark.parametrize("variant", ["true gradient", "standard"])
def test_pytorch_trains_alike_and_half_the_decay_is_seen(variant, data, monkeypatch):
    pytest.importorskip("torch", reason="needs the extra bench: PyTorch")
    monkeypatch.setattr(bench, "LAM", 0.02)
    data = mg.Dataset(*(part.astype("float32") for part in data[:4]), "random")
    graph = bench.network("MLP-BN-3-16", variant, n=12)
    apart = []
    for decay in (0.04, 0.02):
        rows = bench.compared_training(graph, data, 16, 20, range(6), weight_decay=decay)
        apart.append({quantity: float(errors) for quantity, _, _, errors in rows})
    right, wrong = apart
    assert max(right.values()) < 4
    assert wrong["norm of W"] > 8


def test_standard_errors_of_one_entry_are_students_t_and_chance_alone_gives_about_1(rng):
    a, b = np.array([[1.0], [3.0]]), np.array([[4.0], [8.0]])
    assert bench.standard_errors(a, b) == 4 / 1  # differences of 3 and 5: mean 4, standard error 1
    a, b = rng.standard_normal((2, 5, 10_000))
    assert 0.95 < bench.standard_errors(a, b) < 1.05


def test_without_pytorch_and_jax_the_command_says_what_to_install():
    program = """
import sys
sys.modules |= {"torch": None, "jax": None}  # importing them is an ImportError
sys.argv = ["bench"]
from experiments import bench
bench.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install" in done.stderr and "Traceback" not in done.stderr
