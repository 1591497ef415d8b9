"""A stand-in for CuPy on a machine without a GPU: NumPy's numbers in arrays that refuse what CuPy's refuse.

`import standin as xp` gives the module. Its arrays mix with Python and NumPy scalars and with one another; a
NumPy array, 0-d ones included, is a TypeError anywhere but in asarray and array. It is stricter than CuPy in
three points: NumPy functions don't dispatch to it, a NumPy array is no index (CuPy copies it to the device),
and `random` is refused.

`synchronizations` counts what waits for a device, and `dtypes` collects the dtype of every array made.
`launches` counts array operations: each is one, and so is all that `fuse` has fused; a view is none, nor is
the way from the host. CuPy's product of stacks first copies what doesn't lie in C order: a launch for each
operand, whose entries `copied` adds up. reset() clears all four.
"""

import functools
import operator
import types

import numpy

synchronizations = 0
launches = 0
copied = 0
dtypes = set()

# Public names of NumPy 2 that CuPy 14 lacks, frozen here because CuPy need not be installed; where it is,
# tests/test_backend.py compares.
LACKING = frozenset(
    """
    False_ ScalarType True_ asmatrix block bmat busday_count busday_offset busdaycalendar bytes_ char
    character clongdouble complex256 core ctypeslib datetime64 datetime_as_string datetime_data dtypes
    einsum_path emath errstate f2py flexible float128 frompyfunc fromregex geomspace get_include getbufsize
    geterr geterrcall histogram_bin_edges info insert is_busday isnat little_endian longdouble ma matrix
    matvec memmap nanpercentile nanquantile ndenumerate nditer nested_iters object_ polyder polydiv polyint
    rec recarray record sctypeDict setbufsize seterr seterrcall show_runtime spacing str_ strings test
    timedelta64 typecodes unstack vecdot vecmat void
    """.split()
)
LACKING_LINALG = frozenset(
    "diagonal matrix_norm multi_dot outer svdvals tensordot test trace vecdot vector_norm".split()
)
# The shape or the type of what these return depends on the values, so the host must wait for them.
WAITING = frozenset("nonzero flatnonzero argwhere unique extract compress bincount".split())


def reset():
    """Forget what was counted."""
    global synchronizations, launches, copied
    synchronizations = launches = copied = 0
    dtypes.clear()


def _synchronize():
    global synchronizations
    synchronizations += 1


def _launch():
    global launches
    launches += 1


def _is_view(result, operands):
    """Whether a result is no array, or one that lies in the memory of an operand: nothing was computed."""
    if isinstance(result, tuple):
        return all(_is_view(item, operands) for item in result)
    if not isinstance(result, ndarray):
        return True
    arrays = [operand._host for operand in operands if isinstance(operand, ndarray)]
    return any(numpy.may_share_memory(result._host, array) for array in arrays)


def _wrap(value):
    """Device arrays for whatever NumPy returned; a reduction to one number is a 0-d array, as in CuPy."""
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        array = object.__new__(ndarray)
        array._host = numpy.asarray(value)
        dtypes.add(array._host.dtype)
        return array
    if isinstance(value, (tuple, list)):
        return tuple(_wrap(item) for item in value)
    return value


def _unwrap(value):
    """The NumPy array of a stand-in array, scalars as they are; TypeError for a NumPy array, however deep."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, numpy.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(item) for item in value)
    return value


def _call(function, args, kwargs):
    """What NumPy's function returns for what lies in the stand-in arrays."""
    unwrapped = {name: _unwrap(value) for name, value in kwargs.items()}
    return function(*map(_unwrap, args), **unwrapped)


def _entries(index):
    return index if isinstance(index, tuple) else (index,)


def _is_mask(entry):
    return isinstance(entry, ndarray) and entry.dtype == bool


def _axes(entry):
    """How many axes one entry of an index consumes; an ellipsis takes those that the others leave."""
    if entry is None or entry is Ellipsis:
        return 0
    return entry.ndim if _is_mask(entry) else 1


def _index(index, shape):
    """`index` unwrapped, its integer arrays modulo the axis: CuPy wraps around where NumPy raises."""
    entries = _entries(index)
    left = len(shape) - sum(map(_axes, entries))
    axis = 0
    unwrapped = []
    for entry in entries:
        raw = _unwrap(entry)
        if isinstance(entry, ndarray) and not _is_mask(entry):
            raw = raw % shape[axis]
        unwrapped.append(raw)
        axis += left if entry is Ellipsis else _axes(entry)
    return tuple(unwrapped) if isinstance(index, tuple) else unwrapped[0]


def _attribute(name):
    """NumPy's attribute of that name, which is no array."""
    return property(lambda self: getattr(self._host, name))


def _view(name):
    """NumPy's attribute of that name, which is an array."""
    return property(lambda self: _wrap(getattr(self._host, name)))


def _method(name, allowed):
    """NumPy's method of that name, with the keywords that CuPy's has."""

    def method(self, *args, **kwargs):
        if unknown := kwargs.keys() - set(allowed):
            raise TypeError(f"{name}() got an unexpected keyword argument {sorted(unknown)[0]!r}")
        if name in WAITING:
            _synchronize()
        result = _wrap(_call(getattr(self._host, name), args, kwargs))
        if name == "fill" or not _is_view(result, (self,)):
            _launch()
        return result

    method.__name__ = name
    return method


def _operator(name):
    """NumPy's operator of that name, which takes stand-in arrays and scalars."""

    def operate(self, *others):
        for other in others:
            if not isinstance(other, (ndarray, numpy.generic, bool, int, float, complex)):
                raise TypeError(f"Unsupported type {type(other)}")
        _launch()
        if name == "__matmul__":
            _copy_for_product((self, *others))
        return _in_c_order(_call(getattr(self._host, name), others, {}))

    operate.__name__ = name
    return operate


def _in_c_order(value):
    """What CuPy makes, whatever the layout of the operands is; NumPy keeps that."""
    return _wrap(numpy.asarray(value, order="C") if isinstance(value, numpy.ndarray) else value)


def _copy_for_product(operands):
    """Count what CuPy copies before a product of these."""
    global copied
    if any(operand.ndim > 2 for operand in operands):
        for operand in operands:
            if not operand.flags.c_contiguous:
                _launch()
                copied += operand.size


def _in_place(name):
    operate = _operator(name)

    def in_place(self, other):
        operate(self, other)
        return self

    return in_place


class ndarray:
    """A NumPy array in a glass case. Not made by calling: see asarray."""

    __array_ufunc__ = None  # NumPy's operators and ufuncs then give way, and the reflected operator refuses
    __hash__ = None

    def __init__(self, *args, **kwargs):
        raise TypeError("make stand-in arrays with asarray, zeros, ones, ...")

    def __array__(self, *args, **kwargs):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
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
        unwrapped = _index(index, self.shape)
        if any(map(_is_mask, _entries(index))):
            _synchronize()  # the size of the result is the number of True
        result = _wrap(self._host[unwrapped])
        if not _is_view(result, (self,)):
            _launch()
        return result

    def __setitem__(self, index, value):
        _launch()
        self._host[_index(index, self.shape)] = _unwrap(value)


# The methods, each with the keywords that CuPy's has.
METHODS = {
    "sum": ("axis", "dtype", "out", "keepdims"),
    "mean": ("axis", "dtype", "out", "keepdims"),
    "prod": ("axis", "dtype", "out", "keepdims"),
    "std": ("axis", "dtype", "out", "ddof", "keepdims"),
    "var": ("axis", "dtype", "out", "ddof", "keepdims"),
    "max": ("axis", "out", "keepdims"),
    "min": ("axis", "out", "keepdims"),
    "all": ("axis", "out", "keepdims"),
    "any": ("axis", "out", "keepdims"),
    "argmax": ("axis", "out", "dtype", "keepdims"),
    "argmin": ("axis", "out", "dtype", "keepdims"),
    "cumsum": ("axis", "dtype", "out"),
    "cumprod": ("axis", "dtype", "out"),
    "astype": ("dtype", "order", "casting", "copy"),
    "copy": ("order",),
    "reshape": ("order",),
    "ravel": ("order",),
    "flatten": ("order",),
    "transpose": (),
    "swapaxes": (),
    "squeeze": ("axis",),
    "fill": (),
    "nonzero": (),
    "dot": (),
    "clip": ("out",),
    "take": ("axis", "out"),
}
for _name, _allowed in METHODS.items():
    setattr(ndarray, _name, _method(_name, _allowed))
for _name in "shape ndim dtype size strides flags nbytes itemsize".split():
    setattr(ndarray, _name, _attribute(_name))
for _name in "T mT real".split():
    setattr(ndarray, _name, _view(_name))
for _name in "add sub mul truediv floordiv mod pow matmul and or xor".split():
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(ndarray, f"__r{_name}__", _operator(f"__r{_name}__"))
    if _name != "matmul":  # CuPy has no __imatmul__ either: a @= b makes a new array
        setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in "lt le gt ge eq ne neg pos abs invert".split():
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))


def asarray(value, dtype=None, order="K"):
    """The explicit way onto the device, a copy of a NumPy array; a stand-in array of that dtype as it is."""
    if not isinstance(value, ndarray):
        return array(value, dtype, order)
    if dtype is None or dtype == value.dtype:
        return value
    return value.astype(dtype)


def array(value, dtype=None, order="K"):
    """As asarray, and always a copy."""
    if isinstance(value, ndarray):
        value = value._host
    elif isinstance(value, (list, tuple)) and any(isinstance(item, ndarray) for item in value):
        value = _unwrap(value)
    return _wrap(numpy.array(value, dtype=dtype, order=order))


def asnumpy(value):
    """The explicit way back."""
    return value.get() if isinstance(value, ndarray) else numpy.asarray(value)


class _Traced:
    """What a fused function has in place of an array or a number: operators alone.

    An operation on two numbers is refused: CuPy 14 computes it in half precision.
    """

    __hash__ = None

    def __init__(self, value):
        self.value = value

    def __bool__(self):
        raise TypeError("a fused function can't decide by what it computes")


_Traced.__module__ = "standin.tracing"  # in which namespace() finds no library


def _traced(name):
    operate = getattr(operator, name)

    def operator_of_traced(*operands):
        values = [operand.value if isinstance(operand, _Traced) else operand for operand in operands]
        if not all(isinstance(value, (numpy.ndarray, numpy.generic, int, float)) for value in values):
            raise TypeError("a fused function takes arrays and numbers")
        if not any(isinstance(value, numpy.ndarray) for value in values):
            raise TypeError("an operation on numbers alone has no place in a fused function")
        result = operate(*values)
        dtypes.add(result.dtype)
        return _Traced(result)

    return operator_of_traced


def _reflected(operate):
    return lambda self, other: operate(other, self)


for _name in "add sub mul truediv pow lt le gt ge eq ne neg iadd isub imul itruediv".split():
    setattr(_Traced, f"__{_name}__", _traced(_name))
for _name in "add sub mul truediv pow".split():
    setattr(_Traced, f"__r{_name}__", _reflected(_traced(_name)))


def fuse(rule):
    """As cupy.fuse: `rule` as one launch. What it returns has the shape of all its arrays together."""

    @functools.wraps(rule)
    def fused(*args):
        _launch()
        shape = numpy.broadcast_shapes(*(arg.shape for arg in args if isinstance(arg, ndarray)))
        result = rule(*(None if arg is None else _Traced(_unwrap(arg)) for arg in args))
        if result is None:
            return None
        if isinstance(result, tuple):
            return tuple(_whole(one, shape) for one in result)
        return _whole(result, shape)

    return fused


def _whole(traced, shape):
    return _wrap(numpy.array(numpy.broadcast_to(traced.value, shape), order="C"))


def _delegate(module, name, lacking):
    """`name` of a NumPy module as CuPy has it: a type or constant as it is, a function on stand-in arrays."""
    if name.startswith("_") or name in lacking:
        raise AttributeError(f"CuPy has no {module.__name__.replace('numpy', 'cupy', 1)}.{name}")
    function = getattr(module, name)
    if not callable(function) or isinstance(function, type):
        return function

    @functools.wraps(function)
    def on_device(*args, **kwargs):
        if name in WAITING or (name == "where" and len(args) == 1):
            _synchronize()
        result = _call(function, args, kwargs)
        if name in ("allclose", "array_equal"):  # Python's bool from NumPy, an array from CuPy
            result = numpy.bool_(result)
        is_elementwise = isinstance(function, numpy.ufunc) or name == "where"
        result = _in_c_order(result) if is_elementwise else _wrap(result)
        if name not in ("empty", "empty_like") and not _is_view(result, args):
            _launch()
        return result

    return on_device


def __getattr__(name):
    return _delegate(numpy, name, LACKING)


def _refuse_random(name):
    raise AttributeError(
        f"random.{name}: draw on the host with NumPy, so that both backends train on the same numbers"
    )


linalg = types.ModuleType("standin.linalg")
linalg.__getattr__ = lambda name: _delegate(numpy.linalg, name, LACKING_LINALG)
random = types.ModuleType("standin.random")
random.__getattr__ = _refuse_random
