"""Is there a trend, and could chance make it: Kendall's tau-b, permutations, Holm, Theil and Sen.

x and y are (n,): two numbers for each of n runs.
"""

import functools
import itertools

import numpy

PERMUTATIONS = 10_000


def tau_b(x, y):
    """Kendall's tau-b, in [-1, 1]: how far y rises with x; 0 where x or y never differs."""
    of_x, of_y = _signs(x), _signs(y)
    pairs = numpy.sqrt((of_x != 0).sum() * (of_y != 0).sum())
    return float(of_x @ of_y / pairs) if pairs else 0.0


def permutation_p(x, y, permutations=PERMUTATIONS, seed=0):
    """The share of random orders of x with at least this |tau-b|; the order found counts as one."""
    labels = tuple(numpy.unique(x, return_inverse=True)[1].tolist())
    as_large = _at_least(labels, y, _shuffled(labels, permutations, seed))
    return float((1 + as_large.sum()) / (1 + permutations))


def exact_p(x, y):
    """The share of all n! orders of x with at least this |tau-b|; for small n."""
    return float(_at_least(x, y, _signs(list(itertools.permutations(x)))).mean())


def holm(p):
    """The p-values of several tests corrected by Holm's step-down rule, in their order."""
    p = numpy.asarray(p, dtype="float64")
    order = numpy.argsort(p)
    remaining = numpy.arange(len(p), 0, -1)
    corrected = numpy.empty_like(p)
    corrected[order] = numpy.minimum(numpy.maximum.accumulate(p[order] * remaining), 1)
    return corrected


def slope(x, y):
    """The Theil-Sen estimate: the median slope over all pairs of runs that differ in x."""
    x, y = numpy.asarray(x, dtype="float64"), numpy.asarray(y, dtype="float64")
    earlier, later = numpy.triu_indices(len(x), k=1)
    run, rise = x[later] - x[earlier], y[later] - y[earlier]
    return float(numpy.median(rise[run != 0] / run[run != 0]))


def _at_least(x, y, orders):
    """Where |tau-b| is at least that of x. Ties are the same in every order: numerators suffice."""
    of_y = _signs(y)
    return abs(orders @ of_y) >= abs(_signs(x) @ of_y)


@functools.lru_cache(maxsize=8)
def _shuffled(labels, permutations, seed):
    rows = numpy.tile(numpy.array(labels), (permutations, 1))
    return _signs(numpy.random.default_rng(seed).permuted(rows, axis=1))


def _signs(values):
    """The sign of every pair's difference, (..., pairs); float32 is exact here, and fast."""
    values = numpy.asarray(values)
    earlier, later = numpy.triu_indices(values.shape[-1], k=1)
    return numpy.sign(values[..., later] - values[..., earlier]).astype("float32")
