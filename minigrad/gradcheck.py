"""The public gradient check: central differences along one random direction per parameter."""

import math

import numpy

from . import checks
from .backend import namespace

STEPS = numpy.array([1e-3, 1e-4, 1e-5])  # a right gradient agrees best at one of these
NEARBY = 1e-6  # steps so small that fourth differences of a smooth f are nothing but rounding
HIDDEN = 0.01  # the part of a slope that the rounding of f may hide


@numpy.errstate(over="ignore", invalid="ignore")  # f may be infinite
def check_gradient(f, params, grads, rng, tol=1e-6):
    """Compare grads with slopes of f(params) -> scalar in float64, parameter by parameter.

    The error is relative to |gradient| |direction|, or to the gradient of all parameters where the
    slope is below tol of that; one wrong entry of n shows as about 1 / n. AssertionError names the
    parameter, the error, and whether f has a kink there; ValueError where the rounding of f hides a
    gradient, or for params that are not float64 or that grads does not match.
    """
    checks.shapes("grads", grads, {name: W.shape for name, W in params.items()})
    directions = {}
    for name, W in params.items():
        checks.require(W.dtype == "float64", f"params[{name!r}] must be float64", W)
        D = rng.normal(size=W.shape)
        directions[name] = namespace(W).asarray(D / (D * D).sum() ** 0.5)
    sizes = {name: float((g * g).sum()) ** 0.5 for name, g in grads.items()}
    whole = math.hypot(*sizes.values())

    def values(names, steps):
        """f at params + h directions for every h of steps, moved in these names alone."""
        moved = ({name: params[name] + h * directions[name] for name in names} for h in steps)
        return numpy.array([float(f({**params, **some})) for some in moved])

    # The terms of f may be far larger than f itself, and so may be its rounding.
    near = values(params, NEARBY * numpy.arange(9))
    here, noise = near[0], abs(numpy.diff(near, 4)).max()
    for name, W in params.items():
        size, expected = sizes[name], float((grads[name] * directions[name]).sum())
        after, before = values([name], STEPS), values([name], -STEPS)
        slope = (after - before) / (2 * STEPS)
        rounding = (1e-15 * (abs(after) + abs(before)) + noise) / STEPS
        error = abs(slope - expected) - rounding
        # The slope of such a gradient along a random direction is about size / W.size**0.5.
        least = numpy.maximum(HIDDEN * numpy.maximum(size / W.size**0.5, abs(slope)), tol * whole)
        hidden = (least < rounding) & (rounding < math.inf)
        if hidden.all() and (slope != expected).any():
            raise ValueError(
                f"gradient of {name}: its size {size:.2g} is too small beside the rounding of f, "
                f"{rounding.min():.2g} in a slope: leave constant terms out of f"
            )
        best = numpy.where(hidden, math.inf, error).argmin()
        negligible = max(abs(slope[best]), abs(expected)) <= tol * whole
        if error[best] <= tol * (whole if negligible else size) and math.isfinite(size):
            continue
        # One-sided slopes differ by O(h) if f is smooth, O(1 / h) by rounding, and O(1) at a kink.
        _, earlier, last = abs(after - 2 * here + before) / STEPS
        is_constant = earlier / 2 < last < 2 * earlier
        is_large = last > 1e-3 * max(size, abs(slope[-1])) + 4 * rounding[-1]
        cause = "a kink was hit: move the point" if is_constant and is_large else "no kink was hit"
        if not math.isfinite(error[best] + size):
            cause = "f or grads is not finite there"
        relative = abs(slope[best] - expected) / size if size else math.inf
        raise AssertionError(
            f"gradient of {name}: slope {slope[best]:.9g} by differences, {expected:.9g} by grads, "
            f"relative error {relative:.2g} > {tol:g}; {cause}"
        )
