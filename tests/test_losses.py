"""The losses against plain formulas, at the ends of their range, refusals."""

import numpy as np
import pytest
from problems import targets

from minigrad.losses import LOSSES

OF_AN_OUTPUT = {
    "mean_squared_error": lambda f_c, y_c: (f_c - y_c) ** 2,
    "logistic": lambda f_c, y_c: np.log(1 + np.exp(-y_c * f_c)),
    "exponential": lambda f_c, y_c: np.exp(-y_c * f_c),
}


def plain(name, f, y):
    """The loss of one sample, one output at a time."""
    if name == "cross_entropy":
        total = np.exp(f).sum()
        return -sum(y_c * np.log(np.exp(f_c) / total) for f_c, y_c in zip(f, y))
    return np.mean([OF_AN_OUTPUT[name](f_c, y_c) for f_c, y_c in zip(f, y)])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("axes", [(), (2, 3)])
def test_a_loss_is_the_mean_of_its_plain_formula_over_the_batch(name, axes, rng):
    """Stacked runs share y. Targets of cross_entropy may be shares of classes."""
    f, y = rng.normal(size=(*axes, 7, 4)), targets(name, (7, 4), rng)
    if name in ("cross_entropy", "mean_squared_error"):
        y = (y + targets(name, (7, 4), rng)) / 2
    loss, df = LOSSES[name](f, y)
    assert loss.shape == axes
    for run in np.ndindex(axes):
        expected = np.mean([plain(name, f_j, y_j) for f_j, y_j in zip(f[run], y)])
        np.testing.assert_allclose(loss[run], expected, rtol=1e-12)
        np.testing.assert_array_equal(df[run], LOSSES[name](f[run], y)[1])


@pytest.mark.parametrize("name, y, wrong", [("cross_entropy", [1, 0], 2e4), ("logistic", [1], 1e4)])
def test_no_exponential_overflows(name, y, wrong):
    """Outputs of +-1e4 in float32: right ones cost 0, wrong ones their margin, without warnings."""
    y = np.array([y], "float32")
    f = 1e4 * (2 * y - 1)
    for output, expected, largest in ((f, 0.0, 0), (-f, wrong, 1)):
        loss, df = LOSSES[name](output, y)
        assert loss == expected
        assert abs(df).max() == largest


@pytest.mark.parametrize("dtype", ["bool", "int8", "float64"])
def test_rows_of_two_classes_are_refused_in_every_dtype(dtype):
    """Fault: the sum of a boolean row is a logical or."""
    with pytest.raises(ValueError, match="rows of y that sum to 1, got 2"):
        LOSSES["cross_entropy"](np.zeros((1, 3)), np.array([[1, 1, 0]], dtype))
