"""Checks at the library's boundary, of arguments that would silently give wrong numbers.

They raise ValueError or TypeError, one sentence with rule and value, and never run inside a step.
Values of arrays are looked at on the host alone: on a device that means waiting for it.
"""

import itertools
import numbers

import numpy

from .backend import namespace, on_host


def require(holds, rule, got):
    """ValueError with the rule and the value that breaks it, of an array its dtype and shape."""
    if not holds:
        got = f"{got.dtype} {tuple(got.shape)}" if hasattr(got, "dtype") else got
        raise ValueError(f"{rule}, got {got}")


def array(name, a, like=None):
    """An array, in the library and dtype of `like`; no subclass, whose operators differ."""
    if not hasattr(a, "dtype") or (on_host(a) and type(a) is not numpy.ndarray):
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
    if on_host(value):
        require(((value >= 0) & (value < below)).all(), rule, value.ravel().tolist())
    return value


def targets(y, shape):
    """y with the last axes of f (..., B, k), whose shape is given: others would broadcast."""
    array("y", y)
    rule = f"y must have f's last axes {tuple(shape[-2:])}: one-hot rows, or a column of -1 and +1"
    require(y.shape[-2:] == tuple(shape[-2:]), rule, y)


def prediction(graph, params, x, stats, y=None, B=None):
    """The arguments of predict and, with y, of evaluate; B is the batch size, if not all of x."""
    matrices("x", x)
    n = graph.width(1)
    require(x.shape[-1] == n, f"x must have n={n} columns, the width of layer 1", x)
    if y is not None:
        targets(y, (x.shape[-2], graph.width(graph.L)))
        array("y", y, x)
    _parameters("params", graph, params, x)
    shapes = {p: (1, layer.width) for p, layer in enumerate(graph.layers, 1) if layer.batchnorm}
    if stats is None:
        B = x.shape[-2] if B is None else B
        least = 2 if shapes else 1
        require(B >= least, f"a batch must have {least} samples or more (batch norm: 2)", B)
    for by_layer in stats or ():
        found = {p: tuple(a.shape[-2:]) for p, a in by_layer.items()}
        require(found == shapes, f"stats must have the last axes {shapes}", found)


def epoch(graph, params, velocity, x, y, rows):
    """The arrays of train_epoch; see losses.check_values for values of y."""
    array("rows", rows)
    require(rows.ndim >= 2, "rows must be integers (S, *R, B)", rows)
    prediction(graph, params, x, None, y, B=rows.shape[-1])
    require(x.ndim == y.ndim == 2, "x and y must be (m, n) and (m, k)", f"{x.shape}, {y.shape}")
    weights = list(params.values())
    R = weights[0].shape[:-2]
    if velocity is not None:
        _parameters("velocity", graph, velocity, x, R)
        weights += velocity.values()
    fits = rows.dtype.kind in "iu" and rows.shape[1:-1] == R
    require(fits, f"rows must be integers (S, *R, B), R={R} as in params", rows)
    if on_host(rows):
        outside = rows[(rows < 0) | (rows >= len(x))]
        require(outside.size == 0, f"rows must be >= 0 and < m={len(x)}", outside[:3].tolist())
    if on_host(x):
        tied = any(numpy.shares_memory(*pair) for pair in itertools.combinations(weights, 2))
        require(not tied, "params and velocity must each have memory of their own", "tied weights")
        writable = all(W.flags.writeable for W in weights)
        require(writable, "params and velocity must be writable", "a read-only array")


def _parameters(name, graph, params, x, R=None):
    """A dict as init_params makes it, in x's library and dtype, with equal axes R in front."""
    shapes = graph.shapes()
    odd = sorted(map(str, params.keys() ^ shapes.keys()))
    require(not odd, f"{name} must have the keys of graph.shapes()", f"in one only: {odd}")
    for key, W in params.items():
        array(f"{name}[{key}]", W, x)
        R = W.shape[:-2] if R is None else R
        shape = (*R, *shapes[key])
        require(W.shape == shape, f"{name}[{key}] must have the shape {shape}", W)
