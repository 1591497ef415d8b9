"""The losses against plain formulas and at the ends of their range; the gradient check against wrong ones."""

import re

import numpy as np
import pytest

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


def targets(name, shape, rng):
    if name in ("logistic", "exponential"):
        return rng.choice([-1.0, 1.0], size=shape)
    return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(1, 3), (7, 3), (2, 3, 7, 4)])
def test_a_loss_is_the_mean_of_its_plain_formula_over_the_batch(name, shape):
    rng = np.random.default_rng(3)
    f, y = rng.normal(size=shape), targets(name, shape, rng)
    loss, df = LOSSES[name](f, y)
    for run in np.ndindex(shape[:-2]):
        expected = np.mean([plain(name, f_j, y_j) for f_j, y_j in zip(f[run], y[run])])
        np.testing.assert_allclose(loss[run], expected, rtol=1e-12)
    assert loss.shape == shape[:-2]
    assert df.shape == shape


@pytest.mark.parametrize("name", LOSSES)
def test_the_cotangent_is_the_slope_of_the_loss(name):
    rng = np.random.default_rng(4)
    f, y = rng.normal(size=(5, 3)), targets(name, (5, 3), rng)
    _, df = LOSSES[name](f, y)
    for place in np.ndindex(f.shape):
        step = np.zeros_like(f)
        step[place] = 1e-6
        after, _ = LOSSES[name](f + step, y)
        before, _ = LOSSES[name](f - step, y)
        np.testing.assert_allclose(df[place], (after - before) / 2e-6, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name, wrong", [("cross_entropy", 2e4), ("logistic", 1e4)])
def test_no_exponential_overflows(name, wrong):
    """Outputs of +-1e4 in float32: right ones cost 0 and wrong ones their margin, without a warning."""
    if name == "cross_entropy":
        f, y = [[1e4, -1e4]], [[1, 0]]
    else:
        f, y = [[1e4]], [[1]]
    f, y = np.array(f, "float32"), np.array(y, "float32")
    for output, expected, largest in ((f, 0.0, 0), (-f, wrong, 1)):
        loss, df = LOSSES[name](output, y)
        assert loss == expected
        assert np.isfinite(df).all()
        assert abs(df).max() == largest


def quartic(params):
    return (params["W"] ** 4).sum() + params["b", 1].sum() * 3


def setting():
    """params, the gradients of quartic there, and a generator."""
    rng = np.random.default_rng(5)
    params = {"W": rng.normal(size=(3, 4)), ("b", 1): rng.normal(size=(2,))}
    grads = {"W": 4 * params["W"] ** 3, ("b", 1): np.full(2, 3.0)}
    return params, grads, rng


def test_a_right_gradient_passes():
    params, grads, rng = setting()
    copies = {name: W.copy() for name, W in params.items()}
    assert mg.check_gradient(quartic, params, grads, rng) is None
    for name, W in params.items():
        np.testing.assert_array_equal(W, copies[name])


REFUSAL = (
    r"gradient of \('b', 1\): slope (\S+) by differences, (\S+) by grads, "
    r"relative error (\S+) > 1e-06; no kink was hit"
)


@pytest.mark.parametrize("factor", [1 + 1e-4, 1 - 1e-5, 2, 0.5, -1, 0])
def test_a_wrong_gradient_is_refused_with_its_name_slopes_and_error(factor):
    params, grads, rng = setting()
    grads["b", 1] = factor * grads["b", 1]
    with pytest.raises(AssertionError) as error:
        mg.check_gradient(quartic, params, grads, rng)
    found = re.fullmatch(REFUSAL, str(error.value))
    slope, given, relative = map(float, found.groups())
    np.testing.assert_allclose(given, factor * slope, rtol=1e-6, atol=1e-12)
    if factor == 0:
        assert relative == np.inf
    else:
        expected = abs(slope - given) / np.linalg.norm(grads["b", 1])
        assert relative == pytest.approx(expected, rel=0.05)


def test_one_wrong_entry_among_many_is_refused():
    params, grads, rng = setting()
    grads["W"] = grads["W"].copy()
    grads["W"][1, 2] += 1e-3
    with pytest.raises(AssertionError, match="gradient of W: "):
        mg.check_gradient(quartic, params, grads, rng)


def test_a_kink_is_named():
    params, grads = {"W": np.zeros((3, 4))}, {"W": np.ones((3, 4))}
    rng = np.random.default_rng(6)
    with pytest.raises(AssertionError, match="a kink was hit"):
        mg.check_gradient(lambda p: abs(p["W"]).sum(), params, grads, rng)


@pytest.mark.parametrize(
    "f, grad",
    [
        (lambda u: 1e8 + np.sin(u), np.sin),
        (lambda u: np.sin(1e4 * u), np.cos),
    ],
)
def test_rounding_and_curvature_are_no_kinks(f, grad):
    params = {"W": np.array([0.3])}
    grads = {"W": grad(params["W"])}
    rng = np.random.default_rng(6)
    with pytest.raises(AssertionError, match="no kink was hit"):
        mg.check_gradient(lambda p: f(p["W"]).sum(), params, grads, rng)


def sine(size, offset, slope):
    """check_gradient of offset + size sin(u) at u = 0.3, which is told that the gradient is size * slope."""
    params, grads = {"W": np.array([0.3])}, {"W": np.array([size * slope])}
    mg.check_gradient(lambda p: offset + size * np.sin(p["W"]).sum(), params, grads, np.random.default_rng(6))


@pytest.mark.parametrize("slope", [np.cos(0.3), 0.1, 1e-9, -np.cos(0.3)])
@pytest.mark.parametrize("size, offset", [(1, 1e12), (1e-14, 1), (1e150, 1e300)])
def test_a_gradient_that_rounding_hides_is_refused_whether_right_or_wrong(size, offset, slope):
    """Any gradient that was not larger than the rounding passed."""
    with pytest.raises(ValueError, match="gradient of W: its size .* too small beside the rounding of f, .*"):
        sine(size, offset, slope)


def test_a_gradient_of_zero_is_refused_where_f_moves_by_its_rounding_alone():
    with pytest.raises(ValueError, match="gradient of W: its size 0 is too small beside the rounding of f"):
        sine(1, 1e12, 0.0)


def test_a_small_step_whose_rounding_hides_the_error_is_no_excuse():
    """1 % of 1e-8 is above the rounding of a step of 1e-3, and below that of 1e-5."""
    sine(1e-8, 1, np.cos(0.3))
    with pytest.raises(AssertionError, match="relative error 0.0099 "):
        sine(1e-8, 1, 1.01 * np.cos(0.3))


@pytest.mark.parametrize("noise", [0.0, 1e-17])
def test_a_gradient_that_is_zero_beside_others_may_be_hidden(noise):
    """That of a shift that the next layer subtracts again comes out as 0, or as its rounding."""
    params = {"W": np.array([0.3, 0.4]), "shift": np.array([0.7])}
    grads = {"W": np.cos(params["W"]), "shift": np.array([noise])}

    def f(p):
        return 1 + np.sin(p["W"]).sum() + (p["W"] + p["shift"] - p["shift"] - p["W"]).sum()

    mg.check_gradient(f, params, grads, np.random.default_rng(6))


def test_what_f_does_not_depend_on_has_the_gradient_zero():
    params = {"W": np.array([0.3])}
    mg.check_gradient(lambda p: 1.0, params, {"W": np.zeros(1)}, np.random.default_rng(6))


def test_not_a_number_is_refused():
    params, grads, rng = setting()
    for value in (np.nan, np.inf):
        with pytest.raises(AssertionError, match="not finite there"):
            mg.check_gradient(lambda p: quartic(p) * value, params, grads, rng)
        spoilt = grads["W"].copy()
        spoilt[1, 2] = value
        with pytest.raises(AssertionError, match="not finite there"):
            mg.check_gradient(quartic, params, grads | {"W": spoilt}, rng)


def test_what_cannot_be_checked_is_refused():
    params, grads, rng = setting()
    with pytest.raises(ValueError, match="same keys.*W"):
        mg.check_gradient(quartic, params, {("b", 1): grads["b", 1]}, rng)
    with pytest.raises(ValueError, match="W: needs float64.*float32"):
        mg.check_gradient(quartic, params | {"W": params["W"].astype("float32")}, grads, rng)
    with pytest.raises(ValueError, match="W: needs.*equal shapes"):
        mg.check_gradient(quartic, params, grads | {"W": grads["W"].T}, rng)
    with pytest.raises(ValueError, match=r"f must return one number.*\(3, 4\)"):
        mg.check_gradient(lambda p: p["W"], params, grads, rng)
    with pytest.raises(TypeError, match=r"params\['W'\] must be an array, got list"):
        mg.check_gradient(quartic, params | {"W": params["W"].tolist()}, grads, rng)
    with pytest.raises(TypeError, match=r"grads\['W'\] must be an array, got list"):
        mg.check_gradient(quartic, params, grads | {"W": grads["W"].tolist()}, rng)
    with pytest.raises(TypeError, match="rng must be a generator.* got 7"):
        mg.check_gradient(quartic, params, grads, 7)
