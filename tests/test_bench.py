"""The bench compares like with like: all contestants take the same steps. No time is asserted."""

import numpy as np
import pytest

import minigrad as mg
from experiments import bench

CONTESTANTS = {"NumPy alone": None, "rules alone": None, "PyTorch": "torch", "JAX scan": "jax"}


@pytest.fixture
def small(monkeypatch):
    """Networks of width 16 on 12 inputs, and their data."""
    monkeypatch.setattr(bench, "INPUTS", 12)
    monkeypatch.setattr(bench, "SAMPLES", 64)
    return bench.data()


@pytest.mark.parametrize("name", ["MLP-BN-3-16", "RES-BN-2-16", "MLP-2-16"])
@pytest.mark.parametrize("contestant", CONTESTANTS)
def test_contestants_take_the_same_steps(contestant, name, small):
    if CONTESTANTS[contestant]:
        pytest.importorskip(CONTESTANTS[contestant])
    graph, params = bench.start(name)
    rows, ends = mg.batches(64, 8, seed=0, epoch=1)[:4], []
    for make in (bench.minigrad, bench.CONTESTANTS[contestant]):
        advance, weights = make(graph, params, *small)
        advance(rows)
        ends.append(weights())
    for edge in graph.E_T:
        np.testing.assert_allclose(ends[1][edge], ends[0][edge], rtol=0, atol=1e-5 * abs(ends[0][edge]).max())
        assert abs(ends[0][edge] - params[edge]).max() > 1e-5  # they did move


@pytest.mark.parametrize("fault", [{"MOMENTUM": 0.8}, {"LAM": 0.5}, {"ETA": 2e-3}])
def test_a_contestant_that_takes_other_steps_is_found(fault, small, monkeypatch):
    def wrong(*args):
        advance, weights = readable(*args)

        def advance_wrongly(rows):
            with monkeypatch.context() as patch:
                for name, value in fault.items():
                    patch.setattr(bench, name, value)
                advance(rows)

        return advance_wrongly, weights

    readable = bench.readable
    for other in ("pytorch", "jax_scan"):
        monkeypatch.setattr(bench, other, readable)
    assert bench.agree("MLP-BN-3-16", *small) < 1e-5
    monkeypatch.setattr(bench, "jax_scan", wrong)
    assert bench.agree("MLP-BN-3-16", *small) > 1e-5


def test_the_floor_takes_every_product_of_a_step(small, monkeypatch):
    """Forward and gradient on every trainable edge, and the cotangent below all but those from the input."""
    taken, matmul = [], np.matmul

    def counted(a, b, out):
        taken.append((a.shape, b.shape))
        return matmul(a, b, out=out)

    monkeypatch.setattr(np, "matmul", counted)
    graph, params = bench.start("RES-BN-2-16")
    advance, _ = bench.products(graph, params, *small)
    advance(mg.batches(64, 8, seed=0, epoch=1)[:1])
    multiplications = sum(a[0] * a[1] * b[1] for a, b in taken)
    products = [(graph.width(p) * graph.width(q), 3 if q > 1 else 2) for p, q in graph.E_T]
    assert multiplications == sum(8 * size * times for size, times in products)


def test_numbers_have_three_digits_and_no_power_of_ten():
    numbers = {0.000338: "0.000338", 0.5: "0.5", 12.34: "12.3", 999.6: "1000", 171713.2: "172000"}
    assert [bench.number(v) for v in numbers] == list(numbers.values())
    assert bench.middle([3, 1, 2]) == "2 (1 to 3)" and bench.middle([2]) == "2"
    assert bench.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
