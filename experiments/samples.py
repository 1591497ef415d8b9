"""A data set as a run takes it: the first samples of every class; processes can share one copy."""

import functools
import multiprocessing

import numpy

import minigrad

_ADOPTED = {}  # what this process was given: arguments of load, and what it returns for them


def load(name, root, m, m_test):
    """x (m, n), y (m, k), x_test, y_test: the first m / 10 samples of a class, in file order; m = 0: all."""
    return _ADOPTED.get((name, root, m, m_test)) or _read(name, root, m, m_test)


def shared(asked):
    """{arguments of load: its arrays, in memory that processes started after this have in common}."""
    found = {}
    for arguments in asked:
        arrays = list(_read(*arguments))
        _read.cache_clear()
        found[arguments] = []
        while arrays:  # each is let go as soon as it is copied
            found[arguments].append(_in_common_memory(arrays.pop(0)))
    return found


def _in_common_memory(array):
    """(memory, shape): a file without a name, which ends with the last process that has it."""
    memory = multiprocessing.RawArray("f", array.size)
    numpy.frombuffer(memory, "float32")[:] = array.ravel()
    return memory, array.shape


def adopt(found):
    """Let load return what `shared` has found, read-only."""
    for arguments, arrays in found.items():
        views = [numpy.frombuffer(memory, "float32").reshape(shape) for memory, shape in arrays]
        for view in views:
            view.flags.writeable = False
        _ADOPTED[arguments] = tuple(views)


@functools.lru_cache(maxsize=1)
def _read(name, root, m, m_test):
    data = minigrad.load_dataset(name, root)
    rows = [_balanced(data.y_train, m, "m"), _balanced(data.y_test, m_test, "m_test")]
    return data.x_train[rows[0]], data.y_train[rows[0]], data.x_test[rows[1]], data.y_test[rows[1]]


def _balanced(y, m, field):
    if m == 0:
        return slice(None)
    k = y.shape[1]
    rows = [numpy.flatnonzero(y[:, c])[: m // k] for c in range(k)]
    if any(len(r) < m // k for r in rows):
        raise minigrad.DataError(
            f"{field}={m} asks for {m // k} samples of every class, more than the data set has"
        )
    return numpy.sort(numpy.concatenate(rows))
