"""A fake CuPy for machines without a GPU: `import fake_cupy as xp`. NumPy computes its numbers.

Its arrays refuse NumPy arrays everywhere but in asarray and array, as CuPy's do. `waits` counts
what waits for the device, `dtypes` collects the dtype of every array made, in-between results
included; reset() clears both. It has the names that minigrad uses and CuPy has, and no others, nor
`random`, since minigrad draws on the host. fuse() takes what CuPy fuses well: operators between
arrays and numbers.
"""

import functools
import types

import numpy
from numpy.lib.mixins import NDArrayOperatorsMixin

waits = 0
dtypes = set()

NAMES = (
    "zeros zeros_like ones full_like eye stack concatenate where maximum exp log logaddexp isfinite"
).split()
LINALG = "svd eigvalsh".split()
ATTRIBUTES = "shape ndim dtype size strides flags nbytes itemsize T mT real".split()
METHODS = "sum mean max min all any argmax astype copy reshape ravel swapaxes take".split()


def reset():
    global waits
    waits = 0
    dtypes.clear()


def _wait():
    global waits
    waits += 1


def _wrap(value):
    """A fake array in place of a NumPy array or scalar, 0-d ones included."""
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        array = ndarray()
        array._host = numpy.asarray(value)
        dtypes.add(array._host.dtype)
        return array
    return tuple(map(_wrap, value)) if isinstance(value, (tuple, list)) else value


def _unwrap(value):
    """The NumPy array in a fake array; TypeError for any other array."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, numpy.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return type(value)(map(_unwrap, value)) if isinstance(value, (tuple, list)) else value


def _call(function, *args, **options):
    if function is numpy.where and len(args) == 1:  # its result's shape depends on values
        _wait()
    args = _unwrap(args)
    return _wrap(function(*args, **{name: _unwrap(value) for name, value in options.items()}))


class ndarray(NDArrayOperatorsMixin):
    """Made by asarray, zeros, ones, ..."""

    def __array__(self, *args, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed: use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        for value in inputs:
            if not isinstance(value, (ndarray, numpy.generic, bool, int, float, complex)):
                raise TypeError(f"Unsupported type {type(value)}")
        result = _call(getattr(ufunc, method), *inputs, **options)
        if not out:
            return result
        _unwrap(out[0])[...] = result._host
        return out[0]

    def get(self):
        _wait()
        return self._host.copy()

    def item(self, *args):
        return self.get().item(*args)

    def __bool__(self):
        return bool(self.get())

    def __float__(self):
        return float(self.item())

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        for entry in index if isinstance(index, tuple) else (index,):
            if isinstance(entry, ndarray) and entry.dtype == bool:
                _wait()
        return _wrap(self._host[_unwrap(index)])

    def __setitem__(self, index, value):
        self._host[_unwrap(index)] = _unwrap(value)


def _method(name):
    return lambda self, *args, **options: _call(getattr(self._host, name), *args, **options)


for _name in ATTRIBUTES:
    setattr(ndarray, _name, property(lambda self, name=_name: _wrap(getattr(self._host, name))))
for _name in METHODS:
    setattr(ndarray, _name, _method(_name))


def array(value, dtype=None, order="K"):
    """A copy on the device."""
    host = value._host if isinstance(value, ndarray) else value
    return _wrap(numpy.array(host, dtype=dtype, order=order))


def asarray(value, dtype=None, order="K"):
    """As array, but a fake array of that dtype stays as it is."""
    if isinstance(value, ndarray) and dtype in (None, value.dtype):
        return value
    return array(value, dtype, order)


class _Traced(NDArrayOperatorsMixin):
    """An array or a number inside a fused rule, which has operators and nothing else."""

    def __init__(self, value):
        self.value = value

    def __bool__(self):
        raise TypeError("a fused rule can't decide by a value")

    def __array_ufunc__(self, ufunc, method, *inputs, out=()):
        values = [each.value if isinstance(each, _Traced) else each for each in inputs]
        if ufunc is numpy.matmul or not any(isinstance(value, ndarray) for value in values):
            raise TypeError("fuse takes elementwise operators, and an array in each")
        result = ufunc(*values, **({"out": (out[0].value,)} if out else {}))
        return out[0] if out else _Traced(result)


def fuse(rule):
    @functools.wraps(rule)
    def fused(*args):
        result = rule(*(None if value is None else _Traced(value) for value in args))
        if isinstance(result, tuple):
            return tuple(each.value for each in result)
        return result if result is None else result.value

    return fused


def _functions(module, names):
    return {name: functools.partial(_call, getattr(module, name)) for name in names}


globals().update(_functions(numpy, NAMES))
linalg = types.SimpleNamespace(**_functions(numpy.linalg, LINALG))
