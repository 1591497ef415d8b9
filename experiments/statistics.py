"""Kendall's tau-b, its p, and the slope of Theil and Sen, for x and y (n,); Holm's correction."""

import functools
import itertools
import math

import numpy

PERMUTATIONS = 10_000


def kendall(x, y):
    """Kendall's tau-b, in [-1, 1], 0 where x or y is constant; and its two-sided p.

    p is over all orders of x, or where there are more over 10,000 random ones, always the same.
    """
    of_x, of_y = _signs_of_orders(tuple(x)), _signs(y)
    numerators = of_x @ of_y  # the first order is x itself
    pairs = numpy.sqrt((of_x[0] != 0).sum() * (of_y != 0).sum())  # the same in every order
    p = (abs(numerators) >= abs(numerators[0])).mean()
    return float(numerators[0] / pairs) if pairs else 0.0, float(p)


def holm(p):
    """{test: p}, corrected by Holm's step-down rule."""
    order = sorted(p, key=p.get)
    products = (p[test] * remaining for test, remaining in zip(order, range(len(p), 0, -1)))
    return {test: min(1, most) for test, most in zip(order, itertools.accumulate(products, max))}


def slope(x, y):
    """The median slope over all pairs of runs that differ in x (Theil and Sen)."""
    run, rise = differences(x), differences(y)
    return float(numpy.median(rise[run != 0] / run[run != 0]))


def differences(values):
    """Later minus earlier value of every pair, (..., pairs), in float64."""
    values = numpy.asarray(values, dtype="float64")
    earlier, later = numpy.triu_indices(values.shape[-1], k=1)
    return values[..., later] - values[..., earlier]


@functools.lru_cache(maxsize=8)
def _signs_of_orders(x):
    if math.factorial(len(x)) <= PERMUTATIONS:
        return _signs(list(itertools.permutations(x)))
    orders = numpy.tile(x, (1 + PERMUTATIONS, 1))
    orders[1:] = numpy.random.default_rng(0).permuted(orders[1:], axis=1)
    return _signs(orders)


def _signs(values):
    """The sign of every pair's difference, (..., pairs); float32 is exact here, and fast."""
    return numpy.sign(differences(values)).astype("float32")
