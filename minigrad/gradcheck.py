"""The public gradient check: directional central differences, one random direction per parameter."""

import math

from .backend import namespace

STEPS = (1e-3, 1e-4, 1e-5)  # the error of a right gradient has its minimum at one; that of a wrong one at none


def check_gradient(f, params, grads, rng, tol=1e-6):
    """Compare grads with the slopes of f(params) -> scalar, in float64, along one random unit direction per parameter.

    The error is relative to |gradient| |direction|, beyond the rounding of f: one wrong entry of n shows as about 1 / n.
    AssertionError says which parameter, how far, and whether f has a kink there; ValueError for parameters that are not
    float64 or keys and shapes that don't match.
    """
    if params.keys() != grads.keys():
        raise ValueError(f"params and grads must have the same keys, got {sorted(map(str, params.keys() ^ grads.keys()))} in one only")
    for name, W in params.items():
        if W.dtype != "float64" or W.shape != grads[name].shape:
            raise ValueError(f"{name}: needs float64 and equal shapes, got {W.dtype} {W.shape} and gradient {grads[name].shape}")
    for name, W in params.items():
        D = rng.normal(size=W.shape)
        D = namespace(W).asarray(D / (D * D).sum() ** 0.5)
        expected = float((grads[name] * D).sum())
        size = float((grads[name] * grads[name]).sum()) ** 0.5
        here = float(f(params))
        best, jump = None, 0.0
        for h in STEPS:
            after, before = (float(f({**params, name: W + step * D})) for step in (h, -h))
            slope, earlier, jump = (after - before) / (2 * h), jump, abs(after - 2 * here + before) / h
            rounding = 1e-15 * (abs(after) + abs(before)) / h
            error = abs(slope - expected)
            if best is None or error - rounding < best[0]:
                best = (error - rounding, error, slope)
        if not best[0] <= tol * size < float("inf"):  # also when a value is NaN
            # One-sided slopes of a smooth f differ by O(h); across a kink they keep their difference however small h is.
            kept = jump > max(earlier / 2, 1e-3 * max(size, abs(slope)) + 2 * rounding)
            kink = "a kink was hit: move the point" if kept else "no kink was hit"
            cause = kink if math.isfinite(best[1] + size) else "f or grads is not finite there"
            raise AssertionError(
                f"gradient of {name}: slope {best[2]:.9g} by differences, {expected:.9g} by grads, "
                f"relative error {best[1] / size if size else math.inf:.2g} > {tol:g}; {cause}"
            )
