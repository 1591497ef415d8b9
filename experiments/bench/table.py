"""The table: a section for every measurement, medians with their ranges."""

import statistics
import sys
import time
from pathlib import Path

import numpy
from threadpoolctl import threadpool_info
from tqdm import tqdm

from minigrad import kernels

from .. import files
from . import cores, measurements
from .contestants import CONTESTANTS, TRAINING
from .norms import per_sample_norms
from .problem import MEASURE_EVERY, MLP_5_2000, SAMPLES, data
from .processes import processes

RATIOS = {
    "to JAX": ("minigrad", "JAX scan"),
    "to products": ("minigrad", "products"),
    "NumPy alone to PyTorch": ("NumPy alone", "PyTorch"),
    "NumPy alone to products": ("NumPy alone", "products"),
}


def sections(size):
    """The texts of the table, one by one as they are measured."""
    x, y = data(SAMPLES)
    yield f"{machine()}. One thread each, in turns, {size.rounds} rounds; median (range).\n"
    yield agreement(size, x[:2000], y[:2000])
    yield steps(size, x, y)
    yield epochs(size, x, y)
    yield measuring(size, x, y)
    yield gradients_of_norm(size, x, y)
    yield norms(size, x, y)
    yield ranks(size)
    yield two_cores()
    yield denormals(size, x, y)


def number(value):
    """Three significant digits, never as a power of ten."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:.12g}"


def middle(values):
    """Median, and the range where there are several."""
    median = number(statistics.median(values))
    if len(values) == 1:
        return median
    return f"{median} ({number(min(values))} to {number(max(values))})"


def middles(times):
    """A cell for each of {name: values}."""
    return [middle(values) for values in times.values()]


def ratio(times, name, other):
    """How many times the median of `other` that of `name` is."""
    return f"{statistics.median(times[name]) / statistics.median(times[other]):.2f}"


def section(title, header, rows):
    """A title over a table."""
    return f"{title}\n\n{files.markdown(header, rows)}"


def machine():
    """CPU, cores, BLAS and its core type, versions: what a timing means nothing without."""
    import jax
    import torch

    blas = next(library for library in threadpool_info() if library["user_api"] == "blas")
    return (
        f"{time.strftime('%Y-%m-%d')}, {cpu()}, {cores.count()} cores, "
        f"{blas['internal_api']} {blas['version']} {blas.get('architecture', '')}, "
        f"Python {sys.version.split()[0]}, NumPy {numpy.__version__}, kernels: {kernels.PATH}, "
        f"PyTorch {torch.__version__}, JAX {jax.__version__}"
    )


def cpu():
    """The CPU's name, where Linux says it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return "unknown CPU"


def agreement(size, x, y):
    """How well all agree; AssertionError where one takes other steps."""
    names = dict.fromkeys(name for name, _ in size.cells)
    differences = {name: measurements.agree(name, x, y) for name in names}
    largest = max(differences.values())
    assert largest < 1e-5, f"the contestants disagree: {differences}"
    return f"All agree after 4 steps at B = 8 to {largest:.1g} of the largest weight.\n"


def steps(size, x, y):
    """The training step of all contestants."""
    rows = []
    for name, B in tqdm(size.cells, desc="steps"):
        times = measurements.steps(name, B, x, y, size.rounds)
        ratios = [ratio(times, *pair) for pair in RATIOS.values()]
        rows.append([name, str(B), *middles(times), *ratios])
    title = "Microseconds a training step (gather, forward, backward, update with momentum)."
    return section(title, ["network", "B", *CONTESTANTS, *RATIOS], rows)


def epochs(size, x, y):
    """Whole epochs of those that train."""
    rows = []
    for name, B in tqdm(size.epochs, desc="epochs"):
        rows.append([name, str(B), *middles(measurements.epochs(name, B, x, y))])
    title = "Seconds of a whole epoch of 50,000 samples, measured once."
    return section(title, ["network", "B", *TRAINING], rows)


def measuring(size, x, y):
    """Epochs and their measures."""
    rows = []
    for name, B in tqdm(size.measured, desc="measured epochs"):
        times = measurements.measured_epoch(name, B, x, y)
        (steps,), (evaluation,), (ranks,) = times.values()
        to_steps = 1 + (evaluation + ranks) / MEASURE_EVERY / steps
        rows.append([name, str(B), *middles(times), f"{to_steps:.2f}"])
    return section(
        f"Seconds of an epoch of minigrad, and of its measures, which come every {MEASURE_EVERY} epochs.",
        ["network", "B", "steps", "evaluation", "ranks", "all, to the steps alone"],
        rows,
    )


def gradients_of_norm(size, x, y):
    """Batch norm with A detached, and with the true gradient."""
    rows = []
    for B in dict.fromkeys(B for _, B in size.measured):
        times = measurements.gradients_of_norm(B, x, y, size.rounds)
        rows.append([str(B), *middles(times), ratio(times, "true", "detached")])
    return section(
        "Microseconds a training step of MLP-BN-10-100, by the gradient of its batch norm.",
        ["B", "A detached", "true gradient", "ratio"],
        rows,
    )


def norms(size, x, y):
    """Norms of per-sample gradients."""
    times = per_sample_norms(x, y, size.rounds)
    added = ratio(times, "the same, and norms", "backward and gradients")
    vmap = ratio(times, "vmap(grad)", "norms from factors")
    return section(
        "Milliseconds for the norms of all per-sample gradients, MLP-5-500, B = 128.",
        [*times, "norms added, to backward", "vmap(grad), to norms from factors"],
        [[*middles(measurements.scaled(times, 1e3)), added, vmap]],
    )


def ranks(size):
    """Ranks by shape, and of a whole network where all its shapes are measured."""
    rows = []
    found = measurements.ranks(size.shapes, size.rank_rounds)
    for shape, times in found.items():
        cells = middles(measurements.scaled(times, 1e3))
        rows.append(["x".join(map(str, shape)), *cells, ratio(times, "numpy svd", "minigrad")])
    if MLP_5_2000.keys() <= found.keys():
        whole = whole_network(found)
        faster = number(whole["numpy svd"] / whole["minigrad"])
        cells = [number(1e3 * seconds) for seconds in whole.values()]
        rows.append(["MLP-5-2000, all of these", *cells, faster])
    return section(
        "Milliseconds to count a rank, float32, the count checked.",
        ["matrix", "minigrad", "numpy svd", "times faster"],
        rows,
    )


def whole_network(found):
    """{way: seconds} for the ranks of all matrices of MLP-5-2000, from the medians by shape."""
    whole = {"minigrad": 0, "numpy svd": 0}
    for shape, many in MLP_5_2000.items():
        for way in whole:
            whole[way] += many * statistics.median(found[shape][way])
    return whole


def two_cores():
    """Two processes, or two threads."""
    speeds = processes(rounds=2)
    return section(
        "Steps a second of MLP-5-500, B = 128, on two cores.",
        [*speeds, "ratio"],
        [[*middles(speeds), ratio(speeds, "two processes", "two threads")]],
    )


def denormals(size, x, y):
    """Usual weights, and denormal ones."""
    times = measurements.denormals(x, y, size.rounds)
    usual, decayed = times
    return section(
        "Microseconds a step of MLP-5-100, B = 128.",
        [*times, "ratio"],
        [[*middles(times), ratio(times, decayed, usual)]],
    )
