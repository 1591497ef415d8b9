"""NumPy or CuPy. No other file names CuPy: everything else asks an array for its library."""

import functools
import os
import sys

import numpy

BACKENDS = ("numpy", "cupy")


class BackendError(Exception):
    """The array library that was asked for can't be used on this machine."""


def load_backend(name):
    """The module `numpy` or `cupy`; BackendError, and no silent fallback, where there is no GPU."""
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    if name == "numpy":
        return numpy
    try:
        import cupy

        if cupy.cuda.is_available():
            cupy.ones((2, 2)) @ cupy.ones((2, 2))  # needs the compiler and the BLAS of CUDA
            return cupy
        reason = "it finds no CUDA GPU"
    except Exception as error:  # CuPy or a part of CUDA is missing: each raises something else
        reason = f"{error!r:.300}"
    way_out = "run pip install '.[gpu]' where there is a CUDA GPU, or use --backend numpy"
    raise BackendError(f"CuPy can't be used ({reason}): {way_out}")


def namespace(array):
    """The library of an array: the module numpy or cupy."""
    if isinstance(array, (numpy.ndarray, numpy.generic)):
        return numpy
    return sys.modules.get(type(array).__module__.partition(".")[0])


def to_host(array):
    """A NumPy copy or view of `array`. On a GPU this waits for the device."""
    return array.get() if hasattr(array, "get") else numpy.asarray(array)


def device_name(xp):
    """The device's name, and on a GPU what the rounding of products depends on."""
    if xp is numpy:
        return "host"
    name = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)["name"].decode()
    cublas = xp.cuda.cublas.getVersion(xp.cuda.device.get_cublas_handle())
    return f"{name}, cuBLAS {cublas}, CUPY_TF32={os.environ.get('CUPY_TF32', '0')}"


def swap(W):
    """The transpose of the last two axes: (..., a, b) -> (..., b, a), a view."""
    return W.swapaxes(-1, -2)


def fused(rule):
    """`rule` as a single kernel on a GPU; NumPy calls it as it is. Its first argument is an array.

    CuPy's fusion supports operators only, and operates on two scalars in half precision.
    """
    kernel = functools.cache(lambda xp: xp.fuse(rule))

    @functools.wraps(rule)
    def apply(*args):
        xp = namespace(args[0])
        return rule(*args) if xp is numpy else kernel(xp)(*args)

    return apply
