"""Checks at the library's boundary, of arguments that would silently give wrong numbers.

They raise ValueError or TypeError, one sentence with rule and value, and never run inside a step.
Values of arrays are looked at on the host alone: on a device that means waiting for it.
"""

import itertools
import numbers

import numpy

from .backend import namespace


def require(holds, rule, got):
    """ValueError with the rule and the value that breaks it, of an array its dtype and shape."""
    if not holds:
        got = f"{got.dtype} {tuple(got.shape)}" if hasattr(got, "dtype") else got
        raise ValueError(f"{rule}, got {got}")


def array(name, a, like=None):
    """An array, in the library and dtype of `like`; no subclass, whose operators differ."""
    if type(a) is not getattr(namespace(a), "ndarray", None):
        raise TypeError(f"{name} must be an array: pass numpy.asarray(...), got {type(a).__name__}")
    if like is not None:
        if type(a) is not type(like):
            raise TypeError(f"{name} must be an array of {namespace(like).__name__}, got {type(a)}")
        require(a.dtype == like.dtype, f"{name} must be {like.dtype}", a)


def matrices(name, a):
    """An array (..., rows, columns); complex numbers would lose their imaginary parts."""
    array(name, a)
    fits = a.dtype in ("float32", "float64") and a.ndim >= 2
    require(fits, f"{name} must be float32 or float64, with two axes or more", a)


def shapes(name, given, expected):
    """A dict of arrays with these shapes by key; the message shows those that differ."""
    found = {key: a.shape for key, a in given.items()}
    lacking, odd = expected.items() - found.items(), found.items() - expected.items()
    rule = f"where the arrays of {name} differ, keys and shapes must be {dict(lacking)}"
    require(found == expected, rule, dict(odd))


def number(name, value, below=float("inf"), W=None):
    """A number in [0, below) as a float or, with runs stacked in W, an array (*R, 1, 1) of them."""
    rule = f"{name} must be >= 0 and < {below}"
    if isinstance(value, numbers.Real):
        require(0 <= value < below, rule, value)  # NaN is not
        return float(value)  # numpy.float64 would raise float32 arrays to float64
    if W is None:
        raise TypeError(f"{rule}, got {value!r}")
    array(name, value, W)
    shape = (*W.shape[:-2], 1, 1)
    require(value.shape in ((), shape), f"{name} must be a number or have shape {shape}", value)
    if namespace(value) is numpy:
        require(((value >= 0) & (value < below)).all(), rule, value.ravel().tolist())
    return value


def prediction(graph, params, x, stats, B=None):
    """The arguments of predict; B is the batch size where stats is None, by default all of x."""
    matrices("x", x)
    n = graph.width(1)
    require(x.shape[-1] == n, f"x must have n={n} columns, the width of layer 1", x)
    for key, W in params.items():
        array(f"params[{key}]", W, x)
    R = next((W.shape[:-2] for W in params.values()), ())
    shapes("params", params, {key: (*R, *shape) for key, shape in graph.shapes().items()})
    normed = {p: (*R, 1, one.width) for p, one in enumerate(graph.layers, 1) if one.batchnorm}
    if stats is None:
        B = x.shape[-2] if B is None else B
        least = 2 if normed else 1
        require(B >= least, f"a batch must have {least} samples or more (batch norm: 2)", B)
    for by_layer in stats or ():
        for p, a in by_layer.items():
            array(f"stats of layer {p}", a, x)
        found = {p: tuple(a.shape[-2 - len(R) :]) for p, a in by_layer.items()}
        require(found == normed, f"stats must have the last axes {normed}", found)


def epoch(graph, params, velocity, x, rows):
    """The arrays of train_epoch, but for y: see losses.check_targets."""
    array("rows", rows)
    require(rows.dtype.kind in "iu" and rows.ndim >= 2, "rows must be integers (S, *R, B)", rows)
    prediction(graph, params, x, None, B=rows.shape[-1])
    require(x.ndim == 2, "x must be (m, n)", x)
    weights = list(params.values())
    R = weights[0].shape[:-2]
    require(rows.shape[1:-1] == R, f"rows must be integers (S, *R, B), R={R} as in params", rows)
    if velocity is not None:
        for key, W in velocity.items():
            array(f"velocity[{key}]", W, x)
        shapes("velocity", velocity, {key: W.shape for key, W in params.items()})
        weights += velocity.values()
    if namespace(rows) is numpy:
        outside = rows[(rows < 0) | (rows >= len(x))]
        require(outside.size == 0, f"rows must be >= 0 and < m={len(x)}", outside[:3].tolist())
    if namespace(x) is numpy:
        tied = any(numpy.shares_memory(*pair) for pair in itertools.combinations(weights, 2))
        require(not tied, "params and velocity must each have memory of their own", "tied weights")
        writable = all(W.flags.writeable for W in weights)
        require(writable, "params and velocity must be writable", "a read-only array")
