"""The statistics of the claims against slow and obvious versions of them."""

import itertools
import math

import numpy
import pytest

from experiments import statistics


def slow_tau_b(x, y):
    """Concordant and discordant pairs, counted one by one."""
    score = differ_in_x = differ_in_y = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        dx, dy = x[j] - x[i], y[j] - y[i]
        score += numpy.sign(dx * dy)
        differ_in_x += dx != 0
        differ_in_y += dy != 0
    return score / math.sqrt(differ_in_x * differ_in_y)


@pytest.mark.parametrize("runs, groups", [(6, 2), (7, 7)])
def test_tau_b_and_p_are_those_of_loops_over_pairs_and_permutations(rng, monkeypatch, runs, groups):
    """Random ones within five standard errors. Faults: one-sided; ties in x counted."""
    for _ in range(3):
        x = numpy.repeat(2.0 ** numpy.arange(groups), runs // groups)
        y = rng.integers(0, 9, runs) / 3
        found, *others = [slow_tau_b(order, y) for order in itertools.permutations(x)]
        exact = (1 + sum(abs(other) >= abs(found) - 1e-12 for other in others)) / (1 + len(others))
        assert statistics.kendall(x, y) == pytest.approx((found, exact), abs=1e-6)
        with monkeypatch.context() as patch:
            patch.setattr(statistics, "PERMUTATIONS", 700)  # fewer than all 6! orders
            _, p = statistics.kendall(numpy.log(x), y)
        assert p == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 700) + 2e-3)
    assert statistics.kendall(x, numpy.ones(runs)) == (0, 1)


def test_p_from_permutations_is_never_zero_and_the_same_every_time(rng):
    x, y = numpy.repeat([2.0, 4.0, 8.0], 6), rng.integers(0, 9, 18)
    assert statistics.kendall(x, y) == statistics.kendall(numpy.log(x), 2 * y)
    assert statistics.kendall(x, numpy.arange(18.0))[1] == 1 / 10_001


def test_the_slope_is_that_of_most_runs_whatever_a_few_do():
    x = numpy.array([0.0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8])
    y = 3 * x + 1
    y[[2, 7]] = -100
    assert statistics.slope(x, y) == 3


def test_holm_steps_down():
    """Fault: the corrected values don't rise with p, or exceed 1."""
    given = {"a": 0.03, "b": 0.01, "c": 0.04}
    assert statistics.holm(given) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert statistics.holm({"a": 0.7, "b": 0.6}) == {"a": 1, "b": 1}
