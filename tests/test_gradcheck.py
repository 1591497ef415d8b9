"""The gradient check takes right gradients, refuses wrong ones, and says so where it can't tell."""

import re

import numpy as np
import pytest

import minigrad as mg


def quartic(params):
    return (params["W"] ** 4).sum() + params["b", 1].sum() * 3


@pytest.fixture
def point(rng):
    """params, and the gradients of quartic there."""
    params = {"W": rng.normal(size=(3, 4)), ("b", 1): rng.normal(size=(2,))}
    return params, {"W": 4 * params["W"] ** 3, ("b", 1): np.full(2, 3.0)}


MESSAGE = r"gradient of \('b', 1\): slope (\S+) by .*, (\S+) by grads, .* error (\S+) > .*no kink.*"


@pytest.mark.parametrize("factor", [1 - 1e-5, 2, 0])
def test_a_wrong_gradient_is_refused_with_its_name_slopes_and_error(factor, point, rng):
    params, grads = point
    mg.check_gradient(quartic, params, grads, rng)
    grads["b", 1] = factor * grads["b", 1]
    with pytest.raises(AssertionError) as error:
        mg.check_gradient(quartic, params, grads, rng)
    slope, given, relative = map(float, re.fullmatch(MESSAGE, str(error.value)).groups())
    np.testing.assert_allclose(given, factor * slope, rtol=1e-6, atol=1e-12)
    size = np.linalg.norm(grads["b", 1])
    assert relative == pytest.approx(abs(slope - given) / size if size else np.inf, rel=0.05)


@pytest.mark.parametrize("number", range(5))
def test_one_wrong_entry_of_a_thousand_is_refused(number, rng):
    W = rng.normal(size=1000)
    grads = np.cos(W)
    grads[rng.integers(1000)] += 0.1
    with pytest.raises(AssertionError, match="no kink"):
        mg.check_gradient(lambda p: np.sin(p["W"]).sum(), {"W": W}, {"W": grads}, rng)


U = np.array([0.3, 0.5, 0.7])
WRONG = {  # f, a gradient at U, and what is said
    "a kink": (lambda u: abs(u - 0.5), np.ones(3), "a kink was hit"),
    "a kink too small": (lambda u: u + 1e-5 * abs(u - 0.5), 2 * np.ones(3), "no kink"),
    "a large constant": (lambda u: 1e8 + np.sin(u), np.sin(U), "no kink"),
    "no gradient": (lambda u: u * u, np.zeros(3), "no kink"),
    "strong curvature": (lambda u: np.sin(1e4 * u), np.cos(U), "no kink"),
}
RIGHT = {
    "terms that cancel": (lambda u: 3e9 + np.sin(u) - 3e9, np.cos(U)),
    "some curvature": (lambda u: np.sin(50 * u), 50 * np.cos(50 * U)),
    "rounded, of 0": (lambda u: 1e3 * (u - U) ** 3, np.full(3, 1e-16)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_kink_is_named_but_rounding_and_curvature_are_none(case, rng):
    f, wrong, words = WRONG[case]
    with pytest.raises(AssertionError, match=words):
        mg.check_gradient(lambda p: f(p["W"]).sum(), {"W": U}, {"W": wrong}, rng)


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_gradient_passes_where_differences_are_not_exact(case, rng):
    """A gradient of 0 is measured by that of all parameters: batch norm makes such ones."""
    f, right = RIGHT[case]
    params, grads = {"W": U, "b": np.ones(2)}, {"W": right, "b": np.ones(2)}
    mg.check_gradient(lambda p: f(p["W"]).sum() + p["b"].sum(), params, grads, rng)


def sine(size, offset, slope, rng):
    """Check size * slope as the gradient of offset + size sin(u) at u = 0.3."""
    params, grads = {"W": np.array([0.3])}, {"W": np.array([size * slope])}
    mg.check_gradient(lambda p: offset + size * np.sin(p["W"]).sum(), params, grads, rng)


@pytest.mark.parametrize("slope", [np.cos(0.3), 1e-9, -np.cos(0.3)])
@pytest.mark.parametrize("size, offset", [(1, 1e12), (1e-14, 1), (1e150, 1e300)])
def test_a_gradient_that_rounding_hides_is_refused_right_or_wrong(size, offset, slope, rng):
    """The fault: any gradient that was not larger than the rounding passed. A constant has none."""
    mg.check_gradient(lambda p: 1.0, {"W": np.array([0.3])}, {"W": np.zeros(1)}, rng)
    with pytest.raises(ValueError, match="too small beside the rounding of f"):
        sine(size, offset, slope, rng)


def test_a_small_step_whose_rounding_hides_the_error_is_no_excuse(rng):
    """1 % of 1e-8 is above the rounding of a step of 1e-3, and below that of 1e-5."""
    sine(1e-8, 1, np.cos(0.3), rng)
    with pytest.raises(AssertionError, match="relative error 0.0099 "):
        sine(1e-8, 1, 1.01 * np.cos(0.3), rng)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(value, point, rng):
    params, grads = point
    with pytest.raises(AssertionError, match="not finite"):
        mg.check_gradient(lambda p: quartic(p) * value, params, grads, rng)
    grads["W"][1, 2] = value
    with pytest.raises(AssertionError, match="not finite"):
        mg.check_gradient(quartic, params, grads, rng)


def test_arguments_that_do_not_fit_are_refused(point, rng):
    params, grads = point
    for words, f, its_params, its_grads in (
        ("keys", quartic, params, {"W": grads["W"]}),
        ("float64", quartic, params | {"W": params["W"].astype("float32")}, grads),
        ("shape", quartic, params, grads | {"W": grads["W"].T}),
    ):
        with pytest.raises(ValueError, match=words):
            mg.check_gradient(f, its_params, its_grads, rng)
