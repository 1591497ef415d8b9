"""The losses against plain formulas and differences, at the ends of their range, refusals."""

import numpy as np
import pytest
from problems import targets

import minigrad as mg
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
@pytest.mark.parametrize("shape", [(1, 3), (7, 3), (2, 3, 7, 4)])
def test_a_loss_is_the_mean_of_its_plain_formula_over_the_batch(name, shape, rng):
    f, y = rng.normal(size=shape), targets(name, shape, rng)
    loss, df = LOSSES[name](f, y)
    for run in np.ndindex(shape[:-2]):
        expected = np.mean([plain(name, f_j, y_j) for f_j, y_j in zip(f[run], y[run])])
        np.testing.assert_allclose(loss[run], expected, rtol=1e-12)
    assert loss.shape == shape[:-2]
    assert df.shape == shape


@pytest.mark.parametrize("name", LOSSES)
def test_the_cotangent_is_the_slope_of_the_loss(name, rng):
    f, y = rng.normal(size=(5, 3)), targets(name, (5, 3), rng)
    _, df = LOSSES[name](f, y)
    for place in np.ndindex(f.shape):
        step = np.zeros_like(f)
        step[place] = 1e-6
        after, _ = LOSSES[name](f + step, y)
        before, _ = LOSSES[name](f - step, y)
        np.testing.assert_allclose(df[place], (after - before) / 2e-6, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name, y, wrong", [("cross_entropy", [1, 0], 2e4), ("logistic", [1], 1e4)])
def test_no_exponential_overflows(name, y, wrong):
    """Outputs of +-1e4 in float32: right ones cost 0, wrong ones their margin, without warnings."""
    y = np.array([y], "float32")
    f = 1e4 * (2 * y - 1)
    for output, expected, largest in ((f, 0.0, 0), (-f, wrong, 1)):
        loss, df = LOSSES[name](output, y)
        assert loss == expected
        assert abs(df).max() == largest


@pytest.mark.parametrize("name", LOSSES)
def test_axes_in_front_are_free_in_f_and_in_y(name, rng):
    f, y = rng.normal(size=(4, 3)), targets(name, (4, 3), rng)
    loss, df = LOSSES[name](f, y)
    for pair in ((np.stack([f, f]), y), (f, np.stack([y, y]))):
        losses, dfs = LOSSES[name](*pair)
        for r in (0, 1):
            np.testing.assert_array_equal(losses[r], loss)
            np.testing.assert_array_equal(dfs[r], df)


def test_shares_of_classes_and_real_targets_are_targets_too():
    f = np.zeros((2, 3))
    mg.cross_entropy(f, np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    mg.mean_squared_error(f, np.array([[0.0, -7.0, 1e30], [0.1, 0.2, 3.0]]))


F, SIGNS, LABELS = np.zeros((4, 3)), np.ones((4, 3)), np.array([[0], [1], [2], [0]])
REFUSED = {
    "a flat y": (lambda loss: loss(F[:, :1], np.ones(4)), ValueError),
    "a row": (lambda loss: loss(F, SIGNS[:1]), ValueError),
    "labels": (lambda loss: loss(F, LABELS), ValueError),
    "a list": (lambda loss: loss(F, SIGNS.tolist()), TypeError),
    "a matrix": (lambda loss: loss(F, np.ma.array(SIGNS)), TypeError),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", REFUSED)
def test_a_loss_refuses_y_that_would_broadcast(case, name):
    call, error = REFUSED[case]
    with pytest.raises(error, match="y must"):
        call(LOSSES[name])
