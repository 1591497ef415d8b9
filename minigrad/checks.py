"""What is refused at the library's boundary, in a sentence with rule and value: ValueError, or TypeError.

Nothing here is called within a step: train_epoch calls it once, and so do evaluate, predict, init_params, the
losses, the measures and check_gradient. It looks at shapes, dtypes and Python's numbers. To look at values of
an array is to wait for a device, so that is done on the host alone, where it costs little beside an epoch.
"""

import math
import numbers

import numpy

from .backend import namespace

PRECISIONS = (numpy.dtype("float32"), numpy.dtype("float64"))


def on_host(a):
    """Whether the values of `a` can be looked at without waiting for a device."""
    return isinstance(a, numpy.ndarray)


def whole(name, value, least=0):
    """An integer >= least."""
    if isinstance(value, numbers.Integral) and value >= least:
        return
    error = ValueError if isinstance(value, numbers.Real) else TypeError
    raise error(f"{name} must be an integer >= {least}, got {value!r}")


def number(name, value, below=math.inf, R=None):
    """A number in [0, below), or, for runs stacked as R, an array (*R, 1, 1) of such."""
    rule = f"{name} must be a finite number >= 0" if below == math.inf else f"{name} must be in [0, {below})"
    if isinstance(value, numbers.Real):
        if not 0 <= value < below:  # so is NaN
            raise ValueError(f"{rule}, got {value!r}")
        return
    if R is None or not hasattr(value, "dtype"):
        raise TypeError(f"{rule}, got {value!r}")
    if value.dtype.kind not in "fiu" or value.shape not in ((), (*R, 1, 1)):
        raise ValueError(f"{rule}, or such an array of shape {(*R, 1, 1)}, got {_kind(value)}")
    if on_host(value) and not ((value >= 0) & (value < below)).all():
        raise ValueError(f"{rule}, got {value.ravel().tolist()}")


def generator(rng):
    """A generator of NumPy's."""
    if not isinstance(rng, (numpy.random.Generator, numpy.random.RandomState)):
        raise TypeError(f"rng must be a generator, as numpy.random.default_rng(seed) is, got {rng!r}")


def precision(dtype):
    """float32 or float64."""
    try:
        known = numpy.dtype(dtype) in PRECISIONS
    except TypeError:
        known = False
    if not known:
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")


def is_array(name, a):
    """An array, and no list or number."""
    if not hasattr(a, "dtype"):
        raise TypeError(f"{name} must be an array, got {_kind(a)}")


def matrices(name, a, axes="(..., d_p, d_q)"):
    """An array of float32 or float64, the last two axes not empty; `axes` says what they are."""
    rule = f"{name} must be an array {axes} of float32 or float64"
    if not hasattr(a, "dtype"):
        raise TypeError(f"{rule}, got {_kind(a)}")
    if a.dtype not in PRECISIONS or len(a.shape) < 2:
        raise ValueError(f"{rule}, got {_kind(a)}")
    if 0 in a.shape[-2:]:
        raise ValueError(f"{rule}, and not empty, got {_kind(a)}")


def same_matrices(after, before, edges):
    """Two dicts with matrices of equal shape for each of `edges`, one at least."""
    if len(edges) == 0:
        raise ValueError(f"edges must name one matrix or more, got {edges!r}")
    for edge in edges:
        for name, params in (("after", after), ("before", before)):
            if edge not in params:
                raise ValueError(f"{name} must have every edge of edges, {edge} is missing")
            matrices(f"{name}[{edge}]", params[edge])
        if after[edge].shape[-2:] != before[edge].shape[-2:]:
            raise ValueError(
                f"after[{edge}] and before[{edge}] must have equal (d_p, d_q), "
                f"got {after[edge].shape} and {before[edge].shape}"
            )


def parameters(name, graph, params, x, R=None):
    """A dict as init_params makes it, in x's library and dtype, with the axes R in front. Returns R."""
    shapes = graph.shapes()
    if not isinstance(params, dict):
        raise TypeError(f"{name} must be a dict as init_params makes it, got {_kind(params)}")
    for key in shapes:
        if key not in params:
            raise ValueError(f"{name} must have every parameter of the graph, {key} is missing")
    for key, W in params.items():
        if key not in shapes:
            raise ValueError(f"{name} must have the parameters of the graph alone, got {key}")
        _array(f"{name}[{key}]", W, x)
        R = W.shape[:-2] if R is None else R
        if W.shape != (*R, *shapes[key]):
            raise ValueError(f"{name}[{key}] must have the shape {(*R, *shapes[key])}, got {_kind(W)}")
    return R


def samples(graph, x, y=None):
    """x (..., m, n), rows of the graph's inputs; y (..., m, k), rows of outputs, in x's library and dtype."""
    matrices("x", x, "(..., m, n)")
    if x.shape[-1] != graph.width(1):
        raise ValueError(f"x must have n={graph.width(1)} columns, the width of layer 1, got {_kind(x)}")
    if y is not None:
        targets(y, (x.shape[-2], graph.width(graph.L)))
        _array("y", y, x)


def targets(y, shape):
    """y (..., m, k) for f (..., m, k) of that shape: another one would broadcast."""
    if len(shape) < 2 or 0 in shape[-2:]:
        raise ValueError(f"f must be (..., m, k), m and k at least 1, got {tuple(shape)}")
    rule = f"y must have the last axes {tuple(shape[-2:])}, a row per sample and a column per output"
    if not hasattr(y, "dtype"):
        raise TypeError(f"{rule}, got {_kind(y)}")
    if y.shape[-2:] != tuple(shape[-2:]):
        raise ValueError(f"{rule} (labels as one-hot rows, or as one column of -1 and +1), got {_kind(y)}")


def epoch(graph, params, velocity, x, y, rows, eta, lam, momentum):
    """What train_epoch is given; what a loss needs of y's values stands in losses.py."""
    samples(graph, x, y)
    if len(x.shape) != 2 or len(y.shape) != 2:
        raise ValueError(f"x and y must be (m, n) and (m, k), got {_kind(x)} and {_kind(y)}")
    R = parameters("params", graph, params, x)
    if velocity is not None:
        parameters("velocity", graph, velocity, x, R)
    rule = f"rows must be integers (S, *R, B), B at least 1, with the axes R={R} of params"
    if not hasattr(rows, "dtype"):
        raise TypeError(f"{rule}, got {_kind(rows)}")
    if rows.dtype.kind not in "iu" or len(rows.shape) < 2 or rows.shape[1:-1] != R or rows.shape[-1] < 1:
        raise ValueError(f"{rule}, got {_kind(rows)}")
    _enough(graph, "B", rows.shape[-1])
    number("eta", eta, R=R)
    number("lam", lam, R=R)
    number("momentum", momentum, below=1, R=R)


def prediction(graph, params, x, stats, y=None):
    """What predict is given, and, with y, evaluate."""
    samples(graph, x, y)
    parameters("params", graph, params, x)
    if stats is None:
        _enough(graph, "m", x.shape[-2])


def _enough(graph, name, size):
    """Samples for a variance: that of one is 0, and batch norm turns any into beta."""
    if size < 2 and any(layer.batchnorm for layer in graph.layers):
        raise ValueError(f"batch norm has no variance of one sample and needs {name} >= 2, got {name}={size}")


def _array(name, a, x):
    """An array in x's library and dtype."""
    is_array(name, a)
    if namespace(a) is not namespace(x):
        raise TypeError(f"{name} must be an array of {namespace(x).__name__}, as x is, got {_kind(a)}")
    if a.dtype != x.dtype:
        raise ValueError(f"{name} must be {x.dtype}, as x is, got {_kind(a)}")


def _kind(a):
    """dtype and shape of an array, the type of anything else."""
    return f"{a.dtype} {tuple(a.shape)}" if hasattr(a, "dtype") else type(a).__name__
