"""Runs trained side by side: which of them can be, how many fit, and their parameters in common arrays."""

import math
from dataclasses import replace

import numpy

from minigrad.backend import free_memory, load_backend, namespace

from .runs import Run

LARGEST = float(numpy.finfo("float32").max)
USABLE = 0.8  # of the free memory; the rest is for the libraries, and for gaps


def stacked(runs, backend, most=None, jobs=1):
    """`runs` in lists of those that are trained side by side: at most `most`, and on CuPy as many as fit.

    Without `most` NumPy takes one at a time: a stack is no faster there.
    """
    groups = {}
    for run in runs:
        groups.setdefault(_in_common(run), []).append(run)
    if most is None:
        most = 1 if backend == "numpy" else len(runs)
    room = free_memory(load_backend(backend)) / jobs
    stacks = []
    for group in groups.values():
        together, each = memory(group[0])
        fitting = max(1, (USABLE * room - together) / each)  # one is tried in any case
        count = math.ceil(len(group) / int(min(most, fitting)))
        stacks += [group[start::count] for start in range(count)]  # of about the same size
    return stacks


def _in_common(run):
    """What is the same for all runs of a stack: all but eta, lambda, momentum and seed."""
    if max(run.eta, run.lam) > LARGEST:
        return run  # alone it is infinity in float32, which an array of them must not have
    return replace(run, eta=Run.eta, lam=Run.lam, momentum=Run.momentum, seed=Run.seed)


def memory(run):
    """About how many bytes of a device runs like this one take together, however many, and how many each.

    Together: the data, and the measurement of one at a time, its evaluation in seven arrays as wide as the
    widest layer, and its largest matrix in float64 a few times. Each: parameters and velocities, twice while
    a stack is cut down, the matrices of an epoch ago, and eight numbers for every unit and sample of a batch.
    """
    graph = run.graph()
    parameters = [math.prod(shape) for shape in graph.shapes().values()]
    n, *widths = [layer.width for layer in graph.layers]
    m, m_test = run.samples(), run.m_test or 10_000
    together = (m + m_test) * (n + widths[-1]) + 7 * m * max(widths) + 8 * max(parameters)
    B = max(run.B, run.sizes(m, run.epochs)[1])
    each = 5 * sum(parameters) + 8 * B * (n + sum(widths))
    return 4 * together, 4 * each


class Stack:
    """States of runs side by side, each of which sees its part of the common arrays.

    `params` and `velocity` are what train_epoch takes: with the runs in front, or, of a single run, its own.
    """

    def __init__(self, states):
        self.states = states
        self.runs = [state.run for state in states]
        self.graph = states[0].graph
        self.lam = self.numbers(run.lam for run in self.runs)
        self.momentum = self.numbers(run.momentum for run in self.runs)
        self.params = _merged([state.params for state in states])
        self.velocity = _merged([state.velocity for state in states])

    def numbers(self, of_each):
        """What train_epoch takes for a number of each run: (R, 1, 1) in float32, or a single run's own."""
        numbers = list(of_each)
        if len(numbers) == 1:
            return numbers[0]
        return self.states[0].xp.asarray(numpy.array(numbers, "float32").reshape(-1, 1, 1))

    def rows(self, of_each):
        """Batches (S, R, B) of each run's (S, B), or a single run's own."""
        rows = list(of_each)
        together = rows[0] if len(rows) == 1 else numpy.stack(rows, axis=1)
        return self.states[0].xp.asarray(together)


def _merged(dicts):
    """{key: array (R, ...)} of dicts with the same keys, whose arrays become parts of it."""
    if len(dicts) == 1:
        return dicts[0]
    common = {}
    for key, W in dicts[0].items():
        # NumPy's stack keeps the order in memory of each matrix, and on CuPy all are in C order.
        common[key] = namespace(W).stack([arrays[key] for arrays in dicts])
        for place, arrays in enumerate(dicts):
            arrays[key] = common[key][place]
    return common
