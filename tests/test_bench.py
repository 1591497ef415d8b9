"""The bench compares like with like, and sees what isn't. No time is asserted."""

import subprocess
import sys

import numpy as np
import pytest

from experiments import bench, trainer

EVERY_NETWORK = [("MLP-BN-3-16", *variant) for variant in bench.VARIANTS]
EVERY_NETWORK += [("RES-BN-2-16", False, False), ("MLP-2-16", False, False)]


@pytest.mark.parametrize("case", EVERY_NETWORK)
def test_minigrad_pytorch_and_jax_take_the_same_steps(case):
    jax = pytest.importorskip("jax", reason="needs the extra bench: JAX")
    pytest.importorskip("torch", reason="needs the extra bench: PyTorch")
    with jax.enable_x64(True):
        assert bench.disagreement(*bench.problem(*case, 64, 12, "float64")) < 1e-12


@pytest.mark.parametrize("constant", ["ETA", "LAM", "MOMENTUM"])
def test_a_trainer_that_takes_other_steps_is_seen(constant, monkeypatch):
    def other(*task):
        def train(rows):
            with monkeypatch.context() as patch:
                patch.setattr(bench, constant, 1.01 * getattr(bench, constant))
                return bench.by_minigrad(*task)(rows)

        return train

    monkeypatch.setattr(bench, "TRAINERS", [bench.by_minigrad, other])
    assert bench.disagreement(*bench.problem("MLP-BN-3-16", m=64, n=12, dtype="float64")) > 1e-6


def test_matrix_products_are_all_products_of_a_step_and_no_other(monkeypatch):
    """Forward and gradient on every trainable edge, and the cotangent below all but the input's."""
    multiplications = []
    graph, *task = bench.problem("RES-BN-2-16", m=64, n=12)
    multiply = bench.by_products(graph, *task)
    with monkeypatch.context() as patch:
        patch.setattr(np, "matmul", lambda a, b: multiplications.append(a.size * b.shape[1]))
        multiply(np.zeros((1, 8), int))
    widths = [(graph.width(p), graph.width(q), 3 if q > 1 else 2) for p, q in graph.E_T]
    assert sum(multiplications) == sum(8 * d_p * d_q * times for d_p, d_q, times in widths)


def test_norms_and_ranks_that_are_timed_agree():
    by_minigrad, by_svd = bench.ranks(30)
    assert by_minigrad() == by_svd() == 15
    pytest.importorskip("torch", reason="needs the extra bench: PyTorch")
    by_factors, by_vmap = bench.gradient_norms(*bench.problem("MLP-2-16", m=64, n=12))
    np.testing.assert_allclose(by_factors(), by_vmap(), rtol=1e-4)


@pytest.mark.parametrize("is_scalar", [True, False])
def test_pytorch_trains_alike_and_half_the_decay_is_seen(is_scalar, monkeypatch):
    pytest.importorskip("torch", reason="needs the extra bench: PyTorch")
    monkeypatch.setattr(bench, "LAM", 0.02)
    graph, _, x, y = bench.problem("MLP-BN-3-16", False, is_scalar, 64, 12)
    task = graph, x, y, 16, 20, range(6)
    right = [trainer.standard_errors(a, b) for _, a, b in trainer.compare(*task, 0.04)]
    wrong = {name: trainer.standard_errors(a, b) for name, a, b in trainer.compare(*task, 0.02)}
    assert max(right) < 4
    assert wrong["norm of W"] > 8


def test_standard_errors_of_one_entry_are_students_t():
    a, b = np.array([[1.0], [3.0]]), np.array([[4.0], [8.0]])
    assert trainer.standard_errors(a, b) == 4 / 1  # differences of 3 and 5: mean 4, error 1


@pytest.mark.parametrize("module", ["bench", "trainer"])
def test_without_pytorch_the_command_says_what_to_install(module):
    without = "import runpy, sys; sys.modules |= {'torch': None, 'jax': None}"
    program = f"{without}; runpy.run_module('experiments.{module}', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install" in done.stderr and "Traceback" not in done.stderr
