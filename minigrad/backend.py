"""NumPy or CuPy. No other file names CuPy; everything else asks an array where it lives."""

import functools
import importlib
import math
import sys

import numpy

BACKENDS = ("numpy", "cupy")


class BackendError(Exception):
    """The array library that was asked for can't be used on this machine."""


def load_backend(name):
    """The module `numpy` or `cupy`; BackendError, never a silent fallback, where there is no GPU to use."""
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    if name == "numpy":
        return numpy
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError:
        raise BackendError(
            "CuPy is not installed: run pip install 'minigrad[gpu]', or use --backend numpy"
        ) from None
    except ImportError as error:
        reason = str(error).strip().splitlines()[0]
        raise BackendError(
            f"CuPy can't be loaded ({reason}): mend its installation, or use --backend numpy"
        ) from None
    if not cupy.cuda.is_available():
        raise BackendError("CuPy finds no CUDA GPU on this machine: check its driver, or use --backend numpy")
    return cupy


def free_memory(xp):
    """Bytes that arrays of the library `xp` can still have on its device; on the host nobody counts them."""
    if xp is numpy:
        return math.inf
    unclaimed, _ = xp.cuda.runtime.memGetInfo()
    return unclaimed + xp.get_default_memory_pool().free_bytes()


def namespace(array):
    """The module whose functions take `array`: numpy for NumPy's arrays, cupy for CuPy's."""
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    return sys.modules[type(array).__module__]


def to_host(array):
    """A NumPy copy or view of `array`. On a GPU this waits for the device: once per measured epoch."""
    return array.get() if hasattr(array, "get") else numpy.asarray(array)


def swap(W):
    """The transpose of the last two axes: (..., a, b) -> (..., b, a), a view."""
    return W.swapaxes(-1, -2)


def times_transpose(v, W):
    """v @ swap(W): (..., B, d_q), (..., d_p, d_q) -> (..., B, d_p)."""
    if copies_operands(W) and v.size < W.size:
        return swap(W @ swap(v))  # the same, with a copy of v in place of one of W
    return v @ swap(W)


def copies_operands(W):
    """Whether a product with W first copies what doesn't lie in C order: CuPy's do, for stacked matrices."""
    return W.ndim > 2 and namespace(W) is not numpy


def fused(rule):
    """`rule`, whose first argument is an array, as a single launch on a GPU; on NumPy it is what it says.

    CuPy traces it, which takes operators alone, and computes those on two numbers in half precision.
    """

    @functools.wraps(rule)
    def apply(*args):
        return _fuse(namespace(args[0]), rule)(*args)

    return apply


@functools.cache
def _fuse(xp, rule):
    """`rule` as the library `xp` runs it; CuPy's compiles once for each kind of arguments."""
    return xp.fuse(rule) if hasattr(xp, "fuse") else rule
