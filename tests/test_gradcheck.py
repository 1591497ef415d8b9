"""The gradient check takes right gradients, refuses wrong ones, and says so where it can't tell."""

import re

import numpy as np
import pytest

import minigrad as mg


def quartic(params):
    return (params["W"] ** 4).sum() + params["b", 1].sum() * 3


def setting(rng):
    """params, and the gradients of quartic there."""
    params = {"W": rng.normal(size=(3, 4)), ("b", 1): rng.normal(size=(2,))}
    return params, {"W": 4 * params["W"] ** 3, ("b", 1): np.full(2, 3.0)}


def test_a_right_gradient_passes_and_params_stay_as_they_are(rng):
    params, grads = setting(rng)
    copies = {name: W.copy() for name, W in params.items()}
    assert mg.check_gradient(quartic, params, grads, rng) is None
    for name, W in params.items():
        np.testing.assert_array_equal(W, copies[name])


MESSAGE = r"gradient of \('b', 1\): slope (\S+) by .*, (\S+) by grads, .* error (\S+) > .*no kink.*"


@pytest.mark.parametrize("factor", [1 + 1e-4, 1 - 1e-5, 2, 0.5, -1, 0])
def test_a_wrong_gradient_is_refused_with_its_name_slopes_and_error(factor, rng):
    params, grads = setting(rng)
    grads["b", 1] = factor * grads["b", 1]
    with pytest.raises(AssertionError) as error:
        mg.check_gradient(quartic, params, grads, rng)
    slope, given, relative = map(float, re.fullmatch(MESSAGE, str(error.value)).groups())
    np.testing.assert_allclose(given, factor * slope, rtol=1e-6, atol=1e-12)
    size = np.linalg.norm(grads["b", 1])
    assert relative == pytest.approx(abs(slope - given) / size if size else np.inf, rel=0.05)


@pytest.mark.parametrize("number", range(10))
def test_one_wrong_entry_of_a_thousand_is_refused(number, rng):
    W = rng.normal(size=1000)
    grads = np.cos(W)
    grads[rng.integers(1000)] += 0.1
    with pytest.raises(AssertionError, match="no kink"):
        mg.check_gradient(lambda p: np.sin(p["W"]).sum(), {"W": W}, {"W": grads}, rng)


def test_a_kink_is_named(rng):
    params, grads = {"W": np.zeros((3, 4))}, {"W": np.ones((3, 4))}
    with pytest.raises(AssertionError, match="a kink was hit"):
        mg.check_gradient(lambda p: abs(p["W"]).sum(), params, grads, rng)


SMOOTH = {
    "a large constant": (lambda u: 1e8 + np.sin(u), np.sin),
    "strong curvature": (lambda u: np.sin(1e4 * u), np.cos),
    "terms that cancel": (lambda u: 3e9 + np.sin(u) - 3e9, np.sin),
}


@pytest.mark.parametrize("case", SMOOTH)
def test_rounding_and_curvature_are_no_kinks(case, rng):
    f, wrong = SMOOTH[case]
    params = {"W": np.array([0.3, 0.5, 0.7])}
    with pytest.raises((AssertionError, ValueError), match="no kink was hit|beside the rounding"):
        mg.check_gradient(lambda p: f(p["W"]).sum(), params, {"W": wrong(params["W"])}, rng)


@pytest.mark.parametrize("kind", [(True, True), (False, False)], ids=["memo", "standard"])
@pytest.mark.parametrize("scale", [1e-3, 1, 1e6])
@pytest.mark.parametrize("seed", range(5))
def test_right_gradients_that_cancel_to_zero_pass(kind, scale, seed):
    """The sum of normalized values is 0: beta has the gradient 6, W and gamma 1e-16, and f is 0."""
    rng = np.random.default_rng(seed)
    layers = [mg.Layer(4, "identity"), mg.Layer(6, "identity", True, *kind)]
    graph = mg.Graph([*layers, mg.Layer(6, "identity")], [mg.Edge(2, 1), mg.Edge(3, 2, False)])
    params = mg.init_params(graph, rng, dtype="float64")
    params[2, 1] *= scale
    x = rng.normal(size=(8, 4))
    cache = mg.forward(graph, params, x)
    grads = mg.gradients(graph, cache, *mg.backward(graph, params, cache, np.ones((8, 6))))

    def f(params):
        A = cache.A if kind[0] else None
        return mg.forward(graph, params, x, A=A).v[3].sum()

    mg.check_gradient(f, params, grads, rng)
    for name in params:
        wrong = grads | {name: grads[name] + 0.01}
        with pytest.raises(AssertionError, match=rf"{re.escape(str(name))}.*no kink"):
            mg.check_gradient(f, params, wrong, rng)


def sine(size, offset, slope, rng):
    """Check size * slope as the gradient of offset + size sin(u) at u = 0.3."""
    params, grads = {"W": np.array([0.3])}, {"W": np.array([size * slope])}
    mg.check_gradient(lambda p: offset + size * np.sin(p["W"]).sum(), params, grads, rng)


@pytest.mark.parametrize("slope", [np.cos(0.3), 0.1, 1e-9, -np.cos(0.3)])
@pytest.mark.parametrize("size, offset", [(1, 1e12), (1e-14, 1), (1e150, 1e300)])
def test_a_gradient_that_rounding_hides_is_refused_right_or_wrong(size, offset, slope, rng):
    """The fault: any gradient that was not larger than the rounding passed."""
    with pytest.raises(ValueError, match="too small beside the rounding of f"):
        sine(size, offset, slope, rng)


def test_a_small_step_whose_rounding_hides_the_error_is_no_excuse(rng):
    """1 % of 1e-8 is above the rounding of a step of 1e-3, and below that of 1e-5."""
    sine(1e-8, 1, np.cos(0.3), rng)
    with pytest.raises(AssertionError, match="relative error 0.0099 "):
        sine(1e-8, 1, 1.01 * np.cos(0.3), rng)


def test_a_constant_f_has_the_gradient_zero(rng):
    mg.check_gradient(lambda p: 1.0, {"W": np.array([0.3])}, {"W": np.zeros(1)}, rng)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(value, rng):
    params, grads = setting(rng)
    with pytest.raises(AssertionError, match="not finite"):
        mg.check_gradient(lambda p: quartic(p) * value, params, grads, rng)
    grads["W"][1, 2] = value
    with pytest.raises(AssertionError, match="not finite"):
        mg.check_gradient(quartic, params, grads, rng)


def test_arguments_that_do_not_fit_are_refused(rng):
    params, grads = setting(rng)
    single = params["W"].astype("float32")
    for f, its_params, its_grads in (
        (quartic, params, {"W": grads["W"]}),
        (quartic, params | {"W": single}, grads),
        (quartic, params, grads | {"W": grads["W"].T}),
        (lambda p: p["W"], params, grads),
    ):
        with pytest.raises(ValueError, match="keys|float64|shape|number"):
            mg.check_gradient(f, its_params, its_grads, rng)
