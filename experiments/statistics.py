"""Is there a trend, and could chance make it: Kendall's tau-b, permutations, Holm, Theil and Sen.

x and y are (n,): two numbers for each of n runs.
"""

import functools

import numpy

PERMUTATIONS = 10_000


def tau_b(x, y):
    """Kendall's tau-b, in [-1, 1]: how far y rises with x; 0 where x or y never differs."""
    of_x, of_y = _signs(x), _signs(y)
    pairs = numpy.sqrt((of_x != 0).sum() * (of_y != 0).sum())
    return float(of_x @ of_y / pairs) if pairs else 0.0


def permutation_p(x, y, permutations=PERMUTATIONS, seed=0):
    """How often |tau-b| is at least as large when the labels x are dealt out anew, the order found included.

    Permuting changes no tie, so the integers over tau-b's fixed denominator are compared, without rounding.
    """
    labels = numpy.unique(x, return_inverse=True)[1]
    of_y = _signs(y)
    found = abs(_signs(labels) @ of_y)
    dealt = abs(_dealt(tuple(labels), permutations, seed) @ of_y)
    return float((1 + (dealt >= found).sum()) / (1 + permutations))


@functools.lru_cache(maxsize=8)
def _dealt(labels, permutations, seed):
    """The signs (permutations, pairs) of labels that are dealt out anew, the same for the same labels."""
    rows = numpy.tile(numpy.array(labels), (permutations, 1))
    return _signs(numpy.random.default_rng(seed).permuted(rows, axis=1))


def _signs(values):
    """The sign of every pair's difference, (..., pairs), as float32: exact here, and fast in products."""
    values = numpy.asarray(values)
    earlier, later = numpy.triu_indices(values.shape[-1], k=1)
    return numpy.sign(values[..., later] - values[..., earlier]).astype("float32")


def holm(p):
    """The p-values of several tests, corrected (Holm, 1979), in their order; below alpha means: rejected."""
    p = numpy.asarray(p, dtype="float64")
    order = numpy.argsort(p)
    left = numpy.arange(len(p), 0, -1)  # the tests that are not rejected yet
    stepped = numpy.maximum.accumulate(p[order] * left)
    corrected = numpy.empty_like(p)
    corrected[order] = numpy.minimum(stepped, 1)
    return corrected


def slope(x, y):
    """The estimate of Theil and Sen: the median slope over all pairs of runs that differ in x."""
    x, y = numpy.asarray(x, dtype="float64"), numpy.asarray(y, dtype="float64")
    earlier, later = numpy.triu_indices(len(x), k=1)
    run = x[later] - x[earlier]
    rise = y[later] - y[earlier]
    return float(numpy.median(rise[run != 0] / run[run != 0]))
