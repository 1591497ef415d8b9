"""The bench compares like with like, and sees what isn't. No time is asserted."""

from functools import partial

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from experiments import bench


@pytest.mark.parametrize("variant", bench.VARIANTS)
def test_minigrad_pytorch_and_jax_take_the_same_steps(variant, monkeypatch):
    """The fault that is seen: half the decay in PyTorch."""
    jax = pytest.importorskip("jax", reason="needs the extra bench: JAX")
    pytest.importorskip("torch", reason="needs the extra bench: PyTorch")
    task = bench.problem("RES-BN-2-16", *variant, 64, 12, "float64")
    with jax.enable_x64(True):
        assert bench.disagreement(*task) < 1e-12
    half_the_decay = partial(bench.by_torch, decay=bench.LAM)
    monkeypatch.setattr(bench, "TRAINERS", [bench.by_minigrad, half_the_decay])
    assert bench.disagreement(*task) > 1e-6


def test_matrix_products_norms_and_ranks_that_are_timed_are_right(monkeypatch):
    """The products are forward and gradient on every trainable edge, and the cotangents below."""
    multiplications = []
    graph, *task = bench.problem("RES-BN-2-16", m=64, n=12)
    with monkeypatch.context() as patch:
        patch.setattr(np, "matmul", lambda a, b: multiplications.append(a.size * b.shape[1]))
        bench.by_products(graph, *task)(np.zeros((1, 8), int))
    widths = [(graph.width(p), graph.width(q), 3 if q > 1 else 2) for p, q in graph.E_T]
    assert sum(multiplications) == sum(8 * d_p * d_q * times for d_p, d_q, times in widths)
    assert [count() for count in bench.ranks(30)] == [15, 15]
    pytest.importorskip("torch", reason="needs the extra bench: PyTorch")
    by_factors, by_vmap = bench.gradient_norms(*bench.problem("MLP-2-16", m=64, n=12))
    np.testing.assert_allclose(by_factors(), by_vmap(), rtol=1e-4)


def test_pytorch_trains_alike_and_half_the_decay_is_seen(monkeypatch):
    pytest.importorskip("torch", reason="needs the extra bench: PyTorch")
    monkeypatch.setattr(bench, "LAM", 0.02)
    graph, _, x, y = bench.problem("MLP-BN-3-16", m=64, n=12)
    task = graph, x, y, 16, 20, range(6)
    with threadpool_limits(1):
        right = [bench.standard_errors(a, b) for _, a, b in bench.train_both(*task, 0.04)]
        wrong = {name: bench.standard_errors(a, b) for name, a, b in bench.train_both(*task, 0.02)}
    # Differences of 3 and 5: their mean is 4, its standard error 1.
    assert bench.standard_errors(np.array([[1], [3]]), np.array([[4], [8]])) == 4
    assert max(right) < 4 and wrong["norm of W"] > 8


def test_without_pytorch_the_command_says_what_to_install(start):
    program = "import sys; sys.modules['torch'] = None; from experiments import bench; "
    program += "bench.write(bench.speed)"
    _, err = start("-c", program).communicate(timeout=100)
    assert "pip install" in err and "Traceback" not in err
