"""The bench compares like with like: all contestants take the same steps. No time is asserted."""

import numpy as np
import pytest

import minigrad as mg
from experiments import files
from experiments.bench import contestants, measurements, problem, table
from experiments.figures import FIGURES

NETWORKS = [("MLP-BN-3-16", True), ("MLP-BN-3-16", False), ("RES-BN-2-16", True), ("MLP-2-16", True)]
LIBRARIES = {"NumPy alone": None, "rules alone": None, "PyTorch": "torch", "JAX scan": "jax"}


@pytest.fixture
def small(monkeypatch):
    """Networks of width 16 on 12 inputs, and their data."""
    monkeypatch.setattr(problem, "INPUTS", 12)
    return problem.data(64)


@pytest.mark.parametrize("name, detached", NETWORKS)
@pytest.mark.parametrize("contestant", LIBRARIES)
def test_contestants_take_the_same_steps(contestant, name, detached, small, monkeypatch):
    if LIBRARIES[contestant]:
        pytest.importorskip(LIBRARIES[contestant])
    monkeypatch.setattr(contestants, "LAM", 0.5)  # of the bench's own decay, half is below the tolerance
    graph, params = problem.start(name, detached)
    rows, ends = mg.batches(64, 8, seed=0, epoch=1)[:4], []
    for make in (contestants.minigrad, contestants.TRAINING[contestant]):
        advance, weights = make(graph, params, *small)
        advance(rows)
        ends.append(weights())
    for edge in graph.E_T:
        np.testing.assert_allclose(ends[1][edge], ends[0][edge], rtol=0, atol=1e-5 * abs(ends[0][edge]).max())
        assert abs(ends[0][edge] - params[edge]).max() > 1e-5  # they did move


@pytest.mark.parametrize("fault", [{"MOMENTUM": 0.8}, {"LAM": 0.5}, {"ETA": 2e-3}])
def test_a_contestant_that_takes_other_steps_is_found(fault, small, monkeypatch):
    def wrong(*args):
        advance, weights = contestants.rules_alone(*args)

        def advance_wrongly(rows):
            with monkeypatch.context() as patch:
                for name, value in fault.items():
                    patch.setattr(contestants, name, value)
                advance(rows)

        return advance_wrongly, weights

    for other in ("PyTorch", "JAX scan"):
        monkeypatch.setitem(contestants.TRAINING, other, contestants.rules_alone)
    assert measurements.agree("MLP-BN-3-16", *small) < 1e-5
    monkeypatch.setitem(contestants.TRAINING, "JAX scan", wrong)
    assert measurements.agree("MLP-BN-3-16", *small) > 1e-5


def test_the_floor_takes_every_product_of_a_step(small, monkeypatch):
    """Forward and gradient on every trainable edge, and the cotangent below all but those from the input."""
    taken, matmul = [], np.matmul

    def counted(a, b, out):
        taken.append((a.shape, b.shape))
        return matmul(a, b, out=out)

    monkeypatch.setattr(np, "matmul", counted)
    graph, params = problem.start("RES-BN-2-16")
    advance, _ = contestants.products(graph, params, *small)
    advance(mg.batches(64, 8, seed=0, epoch=1)[:1])
    multiplications = sum(a[0] * a[1] * b[1] for a, b in taken)
    products = [(graph.width(p) * graph.width(q), 3 if q > 1 else 2) for p, q in graph.E_T]
    assert multiplications == sum(8 * size * times for size, times in products)


def test_every_network_and_batch_size_of_figures_2_to_7_is_measured():
    cells = set()
    for name in ("fig2", "fig3", "fig4", "fig5", "fig6", "fig7"):
        figure = FIGURES[name]
        cells |= {(figure.base.network, B) for B in figure.axes["B"]}
    assert cells <= set(problem.WHOLE.cells) and cells <= set(problem.WHOLE.measured)
    assert problem.MEASURE_EVERY == figure.base.measure_every


def test_a_measured_epoch_and_both_gradients_of_the_norm_take_time(small):
    parts = measurements.measured_epoch("MLP-BN-3-16", 8, *small)
    by_gradient = measurements.gradients_of_norm(8, *small, rounds=1)
    assert list(parts) == ["steps", "evaluation", "ranks"] and list(by_gradient) == ["detached", "true"]
    assert all(value > 0 for values in [*parts.values(), *by_gradient.values()] for value in values)


def test_numbers_have_three_digits_and_no_power_of_ten():
    numbers = {0.000338: "0.000338", 0.5: "0.5", 12.34: "12.3", 999.6: "1000", 171713.2: "172000"}
    assert [table.number(v) for v in numbers] == list(numbers.values())
    assert table.middle([3, 1, 2]) == "2 (1 to 3)" and table.middle([2]) == "2"
    assert files.markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_importing_the_bench_keeps_every_core_and_needs_neither_pytorch_nor_jax(start):
    """Workers import it, and want more than one core; the suite imports it where nothing of `bench` is."""
    program = """
import os, sys
os.sched_setaffinity = None  # a call of it is a TypeError
sys.modules |= {"torch": None, "jax": None}  # an import of them is an ImportError
import experiments.bench.__main__, experiments.bench.table
"""
    process = start("-c", program)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_the_command_is_read_before_any_library(start):
    """BLAS starts as many threads as it may use cores when it is imported, so it must not come first."""
    program = "import sys, experiments.bench.__main__; assert not {'numpy', 'threadpoolctl'} & {*sys.modules}"
    process = start("-c", program)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
