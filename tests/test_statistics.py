"""The statistics of the claims against slow and obvious versions, and p against all permutations."""

import itertools
import math

import numpy
import pytest

from experiments import statistics


def slow_tau_b(x, y):
    """Concordant and discordant pairs, counted one by one."""
    concordant = discordant = only_x_differs = only_y_differs = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        product = (x[j] - x[i]) * (y[j] - y[i])
        if product > 0:
            concordant += 1
        elif product < 0:
            discordant += 1
        elif x[i] != x[j]:
            only_x_differs += 1
        elif y[i] != y[j]:
            only_y_differs += 1
    differ = concordant + discordant
    return (concordant - discordant) / math.sqrt((differ + only_x_differs) * (differ + only_y_differs))


def exact_p(x, y):
    """Over every order of the labels, equally likely."""
    found = abs(slow_tau_b(x, y))
    others = [abs(slow_tau_b(dealt, y)) for dealt in itertools.permutations(x)]
    return numpy.mean([other >= found - 1e-12 for other in others])


def slow_slope(x, y):
    slopes = []
    for i, j in itertools.combinations(range(len(x)), 2):
        if x[i] != x[j]:
            slopes.append((y[j] - y[i]) / (x[j] - x[i]))
    slopes.sort()
    return (slopes[(len(slopes) - 1) // 2] + slopes[len(slopes) // 2]) / 2


def slow_holm(p):
    """The least alpha at which stepping down rejects the test."""
    order = sorted(range(len(p)), key=lambda test: p[test])
    corrected = [None] * len(p)
    for place, test in enumerate(order):
        needed = [p[earlier] * (len(p) - step) for step, earlier in enumerate(order[: place + 1])]
        corrected[test] = min(1, max(needed))
    return corrected


def made_up(rng, runs=18, groups=6):
    """Labels in equal groups, and ranks with many ties."""
    return numpy.repeat(2.0 ** numpy.arange(groups), runs // groups), rng.integers(0, 9, runs) / 3


def test_tau_b_counts_pairs(rng):
    for _ in range(50):
        x, y = made_up(rng)
        assert statistics.tau_b(x, y) == pytest.approx(slow_tau_b(x, y), abs=1e-6)
        assert statistics.tau_b(-x, y) == -statistics.tau_b(x, y)


def test_tau_b_is_one_for_an_order_without_ties_and_zero_where_nothing_differs(rng):
    x = rng.permutation(9)
    assert statistics.tau_b(x, numpy.exp(x)) == 1 and statistics.tau_b(x, -x) == -1
    assert statistics.tau_b(x, numpy.ones(9)) == 0


def test_tau_b_with_ties_is_not_that_without_a_correction():
    """Fault: pairs that are tied in x counted in the denominator."""
    x, y = numpy.array([1, 1, 2, 2]), numpy.array([1, 2, 3, 4])
    assert statistics.tau_b(x, y) == pytest.approx(4 / math.sqrt(4 * 6)) != 4 / 6


@pytest.mark.parametrize("runs, groups", [(6, 2), (6, 3), (7, 7)])
def test_the_p_value_is_that_of_all_permutations(rng, runs, groups):
    """Within five standard errors of 10,000 draws. Fault: one-sided, or without the ties."""
    for _ in range(3):
        x, y = made_up(rng, runs, groups)
        exact = exact_p(x, y)
        error = 5 * math.sqrt(exact * (1 - exact) / statistics.PERMUTATIONS) + 1e-4
        assert statistics.permutation_p(x, y) == pytest.approx(exact, abs=error)


def test_the_p_value_is_two_sided_never_zero_and_the_same_every_time(rng):
    x, y = made_up(rng)
    p = statistics.permutation_p(x, y)
    assert p == statistics.permutation_p(-x, y) == statistics.permutation_p(numpy.log(x), 2 * y)
    assert statistics.permutation_p(x, numpy.arange(18.0)) == 1 / 10_001
    assert statistics.permutation_p(x, numpy.ones(18)) == 1


def test_holm_steps_down(rng):
    for tests in (1, 2, 6):
        p = rng.uniform(size=tests) ** 3
        numpy.testing.assert_allclose(statistics.holm(p), slow_holm(p), rtol=1e-12)
    numpy.testing.assert_allclose(statistics.holm([0.03, 0.01, 0.04]), [0.06, 0.03, 0.06])
    assert list(statistics.holm([1, 1])) == [1, 1]


def test_the_slope_is_the_median_over_pairs(rng):
    for _ in range(20):
        x, y = made_up(rng)
        assert statistics.slope(x, y) == pytest.approx(slow_slope(x, y), abs=1e-12)


def test_the_slope_of_a_line_is_its_own_whatever_a_few_runs_do(rng):
    x = numpy.arange(12.0)
    y = 3 * x + 1
    y[[2, 7]] = -100
    assert statistics.slope(x, y) == 3
