"""The public gradient check: central differences along one random direction per parameter."""

import math
from collections import namedtuple

from . import checks
from .backend import namespace

STEPS = (1e-3, 1e-4, 1e-5)  # the error of a right gradient has its minimum at one of these
NEARBY = 1e-6  # steps so small that the fourth differences of a smooth f are its rounding
HIDDEN = 0.01  # the part of a slope that the rounding of f may hide

# A slope of f, its error beyond rounding, its rounding, and the jump between one-sided slopes.
Difference = namedtuple("Difference", "slope error rounding jump")


def check_gradient(f, params, grads, rng, tol=1e-6):
    """Compare grads with slopes of f(params) -> scalar in float64, parameter by parameter.

    The error is relative to |gradient| |direction|, or to the gradient of all parameters where the
    slope is below tol of that; one wrong entry of n shows as about 1 / n. AssertionError names the
    parameter, the error, and whether f has a kink there; ValueError where the rounding of f hides a
    gradient, or for params that are not float64 or that grads does not match.
    """
    odd = sorted(map(str, params.keys() ^ grads.keys()))
    checks.require(not odd, "params and grads must have the same keys", f"in one only: {odd}")
    directions = {}
    for name, W in params.items():
        checks.require(W.dtype == "float64", f"params[{name!r}] must be float64", W)
        rule = f"grads[{name!r}] must have the shape {W.shape}"
        checks.require(grads[name].shape == W.shape, rule, grads[name])
        D = rng.normal(size=W.shape)
        directions[name] = namespace(W).asarray(D / (D * D).sum() ** 0.5)
    sizes = {name: float((g * g).sum()) ** 0.5 for name, g in grads.items()}
    whole = math.hypot(*sizes.values())
    here, noise = float(f(params)), _noise(f, params, directions)
    for name, W in params.items():
        D, size = directions[name], sizes[name]
        expected = float((grads[name] * D).sum())
        found = []
        for h in STEPS:
            after, before = (float(f({**params, name: W + step * D})) for step in (h, -h))
            slope = (after - before) / (2 * h)
            rounding = (1e-15 * (abs(after) + abs(before)) + noise) / h
            jump = abs(after - 2 * here + before) / h
            found.append(Difference(slope, abs(slope - expected) - rounding, rounding, jump))
        # The slope of such a gradient along a random direction is about size / W.size**0.5.
        least = max(HIDDEN * size / W.size**0.5, tol * whole)
        seen = [difference for difference in found if not least < difference.rounding < math.inf]
        best = min(seen or found, key=lambda difference: difference.error)
        if not seen and any(difference.slope != expected for difference in found):
            raise ValueError(
                f"gradient of {name}: its size {size:.2g} is too small beside the rounding of f, "
                f"{best.rounding:.2g} in a slope: leave constant terms out of f"
            )
        negligible = max(abs(best.slope), abs(expected)) <= tol * whole
        if best.error <= tol * (whole if negligible else size) and math.isfinite(size):
            continue
        # One-sided slopes differ by O(h) if f is smooth, O(1 / h) by rounding, and O(1) at a kink.
        earlier, last = found[-2:]
        is_constant = earlier.jump / 2 < last.jump < 2 * earlier.jump
        is_large = last.jump > 1e-3 * max(size, abs(last.slope)) + 4 * last.rounding
        cause = "a kink was hit: move the point" if is_constant and is_large else "no kink was hit"
        if not math.isfinite(best.error + size):
            cause = "f or grads is not finite there"
        error = abs(best.slope - expected) / size if size else math.inf
        raise AssertionError(
            f"gradient of {name}: slope {best.slope:.9g} by differences, {expected:.9g} by grads, "
            f"relative error {error:.2g} > {tol:g}; {cause}"
        )


def _noise(f, params, directions):
    """The rounding of f by fourth differences, since its terms may be far larger than f itself."""
    values = []
    for i in range(9):
        near = {name: W + i * NEARBY * directions[name] for name, W in params.items()}
        values.append(float(f(near)))
    for _ in range(4):
        values = [after - before for before, after in zip(values, values[1:])]
    return max(map(abs, values))
