"""A stand-in for CuPy on a machine without a GPU: NumPy's numbers behind arrays that refuse what CuPy's refuse.

`import standin as xp` gives the module. Its arrays mix with Python and NumPy scalars and with one another; a NumPy array,
0-d ones included, is a TypeError anywhere but in asarray and array. It is stricter than CuPy in three points: NumPy
functions don't dispatch to it, a NumPy array is no index (CuPy copies it to the device), and `random` is refused.

`synchronizations` counts what waits for a device and `dtypes` collects the dtype of every array made; reset() clears both.
"""

import functools
import types

import numpy

synchronizations = 0
dtypes = set()

# Public names of NumPy 2 that CuPy 14 lacks, frozen here because CuPy need not be installed; tests/test_backend.py compares.
LACKING = frozenset(
    """False_ ScalarType True_ asmatrix block bmat busday_count busday_offset busdaycalendar bytes_ char character
    clongdouble complex256 core ctypeslib datetime64 datetime_as_string datetime_data dtypes einsum_path emath errstate f2py
    flexible float128 frompyfunc fromregex geomspace get_include getbufsize geterr geterrcall histogram_bin_edges info insert
    is_busday isnat little_endian longdouble ma matrix matvec memmap nanpercentile nanquantile ndenumerate nditer
    nested_iters object_ polyder polydiv polyint rec recarray record sctypeDict setbufsize seterr seterrcall show_runtime
    spacing str_ strings test timedelta64 typecodes unstack vecdot vecmat void""".split()
)
LACKING_LINALG = frozenset("diagonal matrix_norm multi_dot outer svdvals tensordot test trace vecdot vector_norm".split())
# The shape or the type of what these return depends on the values, so the host must wait for them.
WAITING = frozenset("nonzero flatnonzero argwhere unique extract compress bincount".split())


def reset():
    """Forget what was counted."""
    global synchronizations
    synchronizations = 0
    dtypes.clear()


def _synchronize():
    global synchronizations
    synchronizations += 1


def _wrap(value):
    """Device arrays for whatever NumPy returned; a reduction to one number is a 0-d array, as it is in CuPy."""
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        array = object.__new__(ndarray)
        array._host = numpy.asarray(value)
        dtypes.add(array._host.dtype)
        return array
    if isinstance(value, (tuple, list)):
        return tuple(_wrap(item) for item in value)
    return value


def _unwrap(value):
    """The NumPy array of a stand-in array, scalars as they are; TypeError for a NumPy array, however deep it lies."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, numpy.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(item) for item in value)
    return value


def _index(index, shape):
    """`index` unwrapped, its integer arrays taken modulo the axis: CuPy wraps around where NumPy raises IndexError."""
    items = index if isinstance(index, tuple) else (index,)
    axis, result = 0, []
    width = sum(0 if i is None or i is Ellipsis else _axes(i) for i in items)
    for item in items:
        raw = _unwrap(item)
        if isinstance(item, ndarray) and raw.dtype != bool:
            raw = raw % shape[axis]
        result.append(raw)
        axis += len(shape) - width if item is Ellipsis else 0 if item is None else _axes(item)
    return tuple(result) if isinstance(index, tuple) else result[0]


def _axes(item):
    """How many axes one entry of an index consumes."""
    return item.ndim if isinstance(item, ndarray) and item.dtype == bool else 1


def _method(name, *allowed):
    """NumPy's method of that name, with the keywords that CuPy's has."""

    def method(self, *args, **kwargs):
        if unknown := kwargs.keys() - set(allowed):
            raise TypeError(f"{name}() got an unexpected keyword argument {sorted(unknown)[0]!r}")
        if name in WAITING:
            _synchronize()
        return _wrap(getattr(self._host, name)(*map(_unwrap, args), **{k: _unwrap(v) for k, v in kwargs.items()}))

    method.__name__ = name
    return method


def _operator(name):
    def operator(self, *others):
        if not all(isinstance(other, (ndarray, numpy.generic, bool, int, float, complex)) for other in others):
            raise TypeError(f"Unsupported type {', '.join(str(type(other)) for other in others)}")
        return _wrap(getattr(self._host, name)(*map(_unwrap, others)))

    operator.__name__ = name
    return operator


def _in_place(name):
    operate = _operator(name)

    def in_place(self, other):
        operate(self, other)
        return self

    return in_place


class ndarray:
    """A NumPy array in a glass case. Not made by calling: see asarray."""

    __array_ufunc__ = None  # NumPy's operators and ufuncs then give way, and the reflected operator below refuses
    __hash__ = None

    def __init__(self, *args, **kwargs):
        raise TypeError("make stand-in arrays with asarray, zeros, ones, ...")

    def __array__(self, *args, **kwargs):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} does not take device arrays")

    def get(self):
        """A NumPy copy, which waits for the device."""
        _synchronize()
        return self._host.copy()

    def item(self, *args):
        _synchronize()
        return self._host.item(*args)

    def tolist(self):
        _synchronize()
        return self._host.tolist()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __complex__(self):
        return complex(self.item())

    def __bool__(self):
        _synchronize()
        return bool(self._host)

    def __repr__(self):
        return f"standin.{self._host!r}"

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        index = _index(index, self.shape)
        if any(isinstance(i, numpy.ndarray) and i.dtype == bool for i in (index if isinstance(index, tuple) else (index,))):
            _synchronize()  # the size of the result is the number of True
        return _wrap(self._host[index])

    def __setitem__(self, index, value):
        self._host[_index(index, self.shape)] = _unwrap(value)

    shape, ndim, dtype, size = (property(lambda self, n=n: getattr(self._host, n)) for n in ("shape", "ndim", "dtype", "size"))
    strides, flags, nbytes, itemsize = (
        property(lambda self, n=n: getattr(self._host, n)) for n in ("strides", "flags", "nbytes", "itemsize")
    )
    T, mT, real = (property(lambda self, n=n: _wrap(getattr(self._host, n))) for n in ("T", "mT", "real"))

    sum, mean, prod = (_method(n, "axis", "dtype", "out", "keepdims") for n in ("sum", "mean", "prod"))
    max, min, all, any = (_method(n, "axis", "out", "keepdims") for n in ("max", "min", "all", "any"))
    argmax, argmin = (_method(n, "axis", "out", "dtype", "keepdims") for n in ("argmax", "argmin"))
    std, var = (_method(n, "axis", "dtype", "out", "ddof", "keepdims") for n in ("std", "var"))
    cumsum, cumprod = (_method(n, "axis", "dtype", "out") for n in ("cumsum", "cumprod"))
    astype, copy = _method("astype", "dtype", "order", "casting", "copy"), _method("copy", "order")
    reshape, ravel, flatten = (_method(n, "order") for n in ("reshape", "ravel", "flatten"))
    transpose, swapaxes, squeeze = _method("transpose"), _method("swapaxes"), _method("squeeze", "axis")
    fill, nonzero = _method("fill"), _method("nonzero")
    dot, clip, take = _method("dot"), _method("clip", "out"), _method("take", "axis", "out")


for _name in "add sub mul truediv floordiv mod pow matmul and or xor".split():
    for _prefix in ("", "r"):
        setattr(ndarray, f"__{_prefix}{_name}__", _operator(f"__{_prefix}{_name}__"))
    if _name != "matmul":  # CuPy has no __imatmul__ either: a @= b makes a new array
        setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in "lt le gt ge eq ne neg pos abs invert".split():
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))


def asarray(value, dtype=None, order="K"):
    """The explicit way onto the device, a copy of a NumPy array; a stand-in array of that dtype is returned as it is."""
    if isinstance(value, ndarray):
        return value if dtype in (None, value.dtype) else value.astype(dtype)
    return array(value, dtype, order)


def array(value, dtype=None, order="K"):
    """As asarray, and always a copy."""
    if isinstance(value, (list, tuple)) and any(isinstance(item, ndarray) for item in value):
        value = _unwrap(value)
    return _wrap(numpy.array(value._host if isinstance(value, ndarray) else value, dtype=dtype, order=order))


def asnumpy(value):
    """The explicit way back."""
    return value.get() if isinstance(value, ndarray) else numpy.asarray(value)


def _delegate(module, name, lacking):
    """`name` of a NumPy module as CuPy would have it: a type or constant as it is, a function on stand-in arrays."""
    if name.startswith("_") or name in lacking:
        raise AttributeError(f"CuPy has no {module.__name__.replace('numpy', 'cupy', 1)}.{name}")
    function = getattr(module, name)
    if not callable(function) or isinstance(function, type):
        return function

    @functools.wraps(function)
    def on_device(*args, **kwargs):
        if name in WAITING or (name == "where" and len(args) == 1):
            _synchronize()
        result = function(*map(_unwrap, args), **{k: _unwrap(v) for k, v in kwargs.items()})
        return _wrap(numpy.bool_(result) if name in ("allclose", "array_equal") else result)

    return on_device


def __getattr__(name):
    return _delegate(numpy, name, LACKING)


def _refuse_random(name):
    raise AttributeError(f"random.{name}: draw on the host with NumPy, so that both backends train on the same numbers")


linalg = types.ModuleType("standin.linalg")
linalg.__getattr__ = lambda name: _delegate(numpy.linalg, name, LACKING_LINALG)
random = types.ModuleType("standin.random")
random.__getattr__ = _refuse_random
