"""The public gradient check: directional central differences, one random direction per parameter."""

import math
from typing import NamedTuple

from . import checks
from .backend import namespace

STEPS = (1e-3, 1e-4, 1e-5)  # a right gradient's error has its minimum at one of these, a wrong one's at none
HIDDEN = 0.01  # of a slope: how much of it the rounding of f may hide


class Difference(NamedTuple):
    """What one step says of one parameter's gradient."""

    slope: float  # of f along the direction, by a central difference
    error: float  # its distance from what grads says
    rounding: float  # how much of that the rounding of f explains
    jump: float  # between the one-sided slopes

    @property
    def excess(self):
        return self.error - self.rounding


def check_gradient(f, params, grads, rng, tol=1e-6):
    """Compare grads with slopes of f(params) -> scalar, in float64, along a random direction per parameter.

    The error is relative to |gradient| |direction|, beyond the rounding of f: one wrong entry of n shows as
    about 1 / n. AssertionError says which parameter, how far, and whether f has a kink there; ValueError for
    parameters that are not float64, keys and shapes that don't match, and a gradient that the rounding of f
    would hide, unless it is below tol of the whole.
    """
    checks.generator(rng)
    if params.keys() != grads.keys():
        odd = sorted(map(str, params.keys() ^ grads.keys()))
        raise ValueError(f"params and grads must have the same keys, got {odd} in one only")
    for name, W in params.items():
        checks.is_array(f"params[{name!r}]", W)
        checks.is_array(f"grads[{name!r}]", grads[name])
        shape = grads[name].shape
        if W.dtype != "float64" or W.shape != shape:
            raise ValueError(
                f"{name}: needs float64 and equal shapes, got {W.dtype} {W.shape} and gradient {shape}"
            )
    sizes = {name: float((g * g).sum()) ** 0.5 for name, g in grads.items()}
    whole = math.hypot(*sizes.values())
    for name, W in params.items():
        D = rng.normal(size=W.shape)
        D = namespace(W).asarray(D / (D * D).sum() ** 0.5)
        expected = float((grads[name] * D).sum())
        size = sizes[name]
        here = _number(f(params))
        found = []
        for h in STEPS:
            after, before = (_number(f({**params, name: W + step * D})) for step in (h, -h))
            slope = (after - before) / (2 * h)
            rounding = 1e-15 * (abs(after) + abs(before)) / h
            jump = abs(after - 2 * here + before) / h
            found.append(Difference(slope, abs(slope - expected), rounding, jump))
        # A gradient of this size has a slope of about size / W.size**0.5 along a random direction.
        least = max(HIDDEN * size / W.size**0.5, tol * whole)
        seen = [difference for difference in found if not least < difference.rounding < math.inf]
        if not seen and any(difference.error for difference in found):
            raise ValueError(
                f"gradient of {name}: its size {size:.2g} is too small beside the rounding of f, "
                f"{found[0].rounding:.2g} in a slope: leave out of f what is constant, or check a smaller f"
            )
        best = min(seen or found, key=lambda difference: difference.excess)
        right = best.excess <= tol * size and math.isfinite(size)  # not right when a value is NaN
        if right:
            continue
        # One-sided slopes of a smooth f differ by O(h), across a kink by as much for any h.
        earlier, last = found[-2:]
        smooth = max(earlier.jump / 2, 1e-3 * max(size, abs(last.slope)) + 2 * last.rounding)
        kink = "a kink was hit: move the point" if last.jump > smooth else "no kink was hit"
        cause = kink if math.isfinite(best.error + size) else "f or grads is not finite there"
        raise AssertionError(
            f"gradient of {name}: slope {best.slope:.9g} by differences, {expected:.9g} by grads, "
            f"relative error {best.error / size if size else math.inf:.2g} > {tol:g}; {cause}"
        )


def _number(value):
    """What f returned, as a float."""
    if getattr(value, "shape", ()) != ():
        raise ValueError(f"f must return one number, got an array of shape {value.shape}")
    return float(value)
