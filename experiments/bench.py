"""minigrad beside PyTorch, JAX and the matrix products of a step alone: speed, and training.

    python -m experiments.bench
"""

import inspect
import os
import platform
import re
import sys
from functools import partial
from itertools import product
from pathlib import Path
from time import process_time
from timeit import Timer

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import minigrad as mg
from minigrad import fast

from . import report
from .provenance import provenance

# XLA reads it when JAX is imported.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
MISSING = ""
try:
    import torch
    import jax
except (ImportError, OSError) as error:  # OSError: of a broken one
    MISSING = f"{error}: call make bench, or pip install '.[bench]'"

ETA, LAM, MOMENTUM = 0.01, 5e-4, 0.9
EPS = 1e-5  # what minigrad adds to the variance
SAMPLES = 10_000  # more than caches hold
ROUNDS = 7
BATCH_SIZES, WIDTHS = (4, 16, 128), (100, 500, 2000)
NETWORKS = ("MLP-BN-10-100", "MLP-5-500", "RES-BN-5-500")
VARIANTS = ((True, True), (False, True), (False, False))  # of batch norm: detached, scalar


def problem(name, detached=False, scalar=False, m=SAMPLES, n=3072, dtype="float32"):
    """A network, its initial parameters as in training, random x (m, n) and one-hot y (m, 10)."""
    graph = mg.parse(name, n, 10, detached=detached, scalar=scalar)
    rng = np.random.default_rng(0)
    params = mg.init_params(graph, rng, dtype=dtype)
    params = {key: np.asfortranarray(W) for key, W in params.items()}
    x = rng.standard_normal((m, n), dtype=dtype)
    return graph, params, x, np.eye(10, dtype=dtype)[rng.integers(10, size=m)]


def output(graph, params, x, relu, detach, standard=None):
    """f (B, k) by Eq. 3 to 5 in PyTorch or JAX; `standard` is the library's own batch norm."""
    v = {1: x}
    for p, layer in enumerate(graph.layers[1:], start=2):
        terms = [v[q] @ params[p, q].T if (p, q) in params else v[q] for q in graph.pred[p]]
        z = sum(terms[1:], terms[0])
        if layer.batchnorm and standard and not (layer.detached or layer.scalar):
            z = standard(z, weight=params["gamma", p][0], bias=params["beta", p][0])
        elif layer.batchnorm:
            centred = z - z.mean(0)
            A = ((centred * centred).mean(0) + EPS) ** -0.5
            A = detach(A) if layer.detached else A
            z = params["gamma", p] * (A * centred) + params["beta", p]
        v[p] = relu(z) if layer.activation == "relu" else z
    return v[graph.L]


def torch_loss(graph, params, x, labels):
    """Cross-entropy by PyTorch."""
    F = torch.nn.functional
    standard = partial(F.batch_norm, running_mean=None, running_var=None, training=True, eps=EPS)
    return F.cross_entropy(output(graph, params, x, F.relu, torch.Tensor.detach, standard), labels)


# Trainers. Each returns a function that takes a step of Eq. 2 with momentum on every row of sample
# numbers and returns the parameters; minigrad's and PyTorch's go on from there in the next call.


def by_minigrad(graph, params, x, y):
    """Training as users of minigrad call it."""
    params = {key: W.copy(order="F") for key, W in params.items()}
    velocity = {key: np.zeros_like(W) for key, W in params.items()}

    def train(rows):
        mg.train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", ETA, LAM, MOMENTUM)
        return params

    return train


def by_torch(graph, params, x, y, decay=2 * LAM):
    """PyTorch, eager, with its fused SGD, whose weight decay is 2 lambda, on W only."""
    tensors = {key: torch.tensor(W, requires_grad=True) for key, W in params.items()}
    weights = {"params": [tensors[edge] for edge in graph.E_T], "weight_decay": decay}
    scales = {"params": [tensor for key, tensor in tensors.items() if key not in graph.E_T]}
    optimizer = torch.optim.SGD([weights, scales], lr=ETA, momentum=MOMENTUM, fused=True)
    x, labels = torch.from_numpy(x), torch.from_numpy(y.argmax(1))

    def train(rows):
        for batch in torch.from_numpy(rows):
            optimizer.zero_grad()
            torch_loss(graph, tensors, x[batch], labels[batch]).backward()
            optimizer.step()
        return {key: tensor.detach().numpy() for key, tensor in tensors.items()}

    return train


def by_jax(graph, params, x, y):
    """JAX, with all steps of a call in one compiled scan."""
    x, y = jax.numpy.asarray(x), jax.numpy.asarray(y)
    decay = [2 * LAM if key in graph.E_T else 0.0 for key in params]

    # Of a list, because JAX sorts the keys of a dict, and ours can't be sorted.
    def loss(values, x, y):
        f = output(graph, dict(zip(params, values)), x, jax.nn.relu, jax.lax.stop_gradient)
        return -(y * jax.nn.log_softmax(f)).sum(-1).mean()

    def step(state, batch):
        values, velocity = state
        g = jax.grad(loss)(values, x[batch], y[batch])
        velocity = [MOMENTUM * u + dW + d * W for u, dW, d, W in zip(velocity, g, decay, values)]
        return ([W - ETA * u for W, u in zip(values, velocity)], velocity), None

    scan = jax.jit(partial(jax.lax.scan, step))
    values = [jax.numpy.asarray(W) for W in params.values()]
    start = values, [0 * W for W in values]

    def train(rows):
        (values, _), _ = jax.block_until_ready(scan(start, rows))
        return dict(zip(params, values))

    return train


def by_products(graph, params, x, y):
    """No trainer: the matrix products alone, W v, U W and U^T v on every trainable edge."""

    def multiply(rows):
        v = {p: np.ones((rows.shape[1], graph.width(p)), x.dtype) for p in range(1, graph.L + 1)}
        forward = [(v[q], params[p, q].T) for p, q in graph.E_T]
        gradients = [(v[q].T, v[p]) for p, q in graph.E_T]
        cotangents = [(v[p], params[p, q]) for p, q in graph.E_T if q > 1]  # none of the input
        for _ in rows:
            for pair in forward + gradients + cotangents:
                np.matmul(*pair)

    return multiply


TRAINERS = [by_minigrad, by_torch, by_jax]


def disagreement(graph, params, x, y):
    """How far the movements of all parameters in three steps differ, to the largest of them."""
    rows = mg.batches(len(x), 16, seed=0, epoch=1)[:3]
    ends = [trainer(graph, params, x, y)(rows) for trainer in TRAINERS]
    moved = [np.concatenate([np.ravel(end[key] - params[key]) for key in params]) for end in ends]
    return np.ptp(moved, axis=0).max() / np.abs(moved[0]).max()


def gradient_norms(graph, params, x, y):
    """Functions that return ||gradient|| of each sample for each W, without batch norm."""
    per_sample = torch.func.vmap(torch.func.grad(partial(torch_loss, graph)), in_dims=(None, 0, 0))
    tensors = {key: torch.tensor(W) for key, W in params.items()}
    task = tensors, torch.from_numpy(x), torch.from_numpy(y.argmax(1))

    def by_factors():
        cache = mg.forward(graph, params, x)
        _, df = mg.cross_entropy(cache.v[graph.L], y)
        U, _ = mg.backward(graph, params, cache, df)
        return [len(x) * factor.norms() for factor in mg.factors(graph, cache, U).values()]

    def by_vmap():
        return [g.flatten(1).norm(dim=1) for g in per_sample(*task).values()]

    return by_factors, by_vmap


def ranks(n):
    """Functions that return the rank of a float32 matrix (n, n) of half the full rank."""
    normal = partial(np.random.default_rng(0).standard_normal, dtype="float32")
    W = normal((n, n // 2)) @ normal((n // 2, n))
    return partial(mg.rank, W), partial(np.linalg.matrix_rank, W, 1e-4 * np.linalg.norm(W))


def compare(functions, steps=1):
    """Cells: milliseconds a step of the first function, and its ratio to each of the others."""
    timers = [Timer(function, timer=process_time) for function in functions]
    turns = [[timer.timeit(1) for timer in timers] for _ in range(ROUNDS + 1)]
    ours, *others = np.transpose(turns[1:])  # in the first turn JAX compiles
    cells = 1e3 * ours / steps, *(ours / other for other in others)
    return [median_and_range(cell, ".3g") for cell in cells]


def quantities(graph, start, trained, x, y):
    """{quantity: entries} of one training."""
    _, accuracy, _ = mg.evaluate(graph, trained, x, y, "cross_entropy")
    return {
        "train accuracy, %": [100 * accuracy],
        "norm of W": [np.linalg.norm(trained[e]) for e in graph.E_T],
        "norm of W minus its start": [np.linalg.norm(trained[e] - start[e]) for e in graph.E_T],
        "singular values": np.concatenate([mg.singular_values(trained[e]) for e in graph.E_T]),
    }


def train_both(graph, x, y, B, epochs, seeds, decay):
    """[(quantity, minigrad's, PyTorch's)], the numbers (seeds, entries); `decay` is PyTorch's."""
    sides = [], []
    for seed in seeds:
        start = mg.init_params(graph, np.random.default_rng(seed))
        ours, theirs = by_minigrad(graph, start, x, y), by_torch(graph, start, x, y, decay)
        rng = np.random.default_rng(1000 + seed)
        for epoch in range(1, epochs + 1):
            params = ours(mg.batches(len(x), B, seed, epoch))
            tensors = theirs(rng.permutation(len(x))[: len(x) // B * B].reshape(-1, B))
        for side, trained in zip(sides, (params, tensors)):
            side.append(quantities(graph, start, trained, x, y))
    names = sides[0][0]
    return [(name, *(np.array([one[name] for one in side]) for side in sides)) for name in names]


def standard_errors(a, b):
    """How far a and b (seeds, entries) are apart: about 1 where only chance divides them."""
    difference = b - a
    scatter = difference.var(0, ddof=1) / len(difference)
    return ((difference.mean(0) ** 2).sum() / scatter.sum()) ** 0.5


def median_and_range(values, digits):
    """Median and range, as text."""
    return f"{np.median(values):{digits}} ({min(values):{digits}} to {max(values):{digits}})"


def machine():
    """What times and last bits depend on, as text."""
    cpuinfo = Path("/proc/cpuinfo")
    cpu = re.search("model name.*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    found = {"CPU": cpu[1] if cpu else platform.processor(), "cores": os.cpu_count()}
    found |= provenance("numpy", fast.unavailable() or fast.version())
    found |= {"PyTorch": torch.__version__, "JAX": jax.__version__}
    return ", ".join(f"{name}: {value}" for name, value in found.items()) + "\n"


def speed():
    """How fast minigrad is beside PyTorch, JAX and the matrix products of a step alone.

    A step gathers a batch of CIFAR-10's shape, goes forward and backward, and updates, in float32
    with standard batch norm. Norms are those of all per-sample gradients, by Lemma 1 and by
    PyTorch's vmap(grad); ranks are counted by minigrad and by NumPy's SVD. All run on one thread,
    in turns; CPU time. A ratio is minigrad's time to another's in the same turn, so below 1
    minigrad is faster. Median (range) of the turns.
    """
    with jax.enable_x64(True):
        cases = [problem(name, *v, 64, dtype="float64") for name, v in product(NETWORKS, VARIANTS)]
        apart = max(disagreement(*case) for case in cases)
    if not apart <= 1e-12:
        sys.exit(f"PyTorch or JAX trains otherwise than minigrad, by {apart:.0e} in float64")

    steps = []
    for name, B in tqdm([*product(NETWORKS, BATCH_SIZES)]):
        case = problem(name)
        rows = mg.batches(SAMPLES, B, seed=0, epoch=1)[: max(20, 800 // B)]
        functions = [partial(make(*case), rows) for make in (*TRAINERS, by_products)]
        steps.append((name, B, *compare(functions, len(rows))))
    case = problem("MLP-5-500", m=128)
    others = [("norms, MLP-5-500, B = 128", *compare(gradient_norms(*case)))]
    others += [(f"rank, {n} x {n}", *compare(ranks(n))) for n in WIDTHS]

    agreed = f"In float64 three steps agree to {apart:.0e} of the way, for every batch norm.\n"
    header = ("step", "B", "minigrad, ms", "to PyTorch", "to JAX", "to products")
    steps = report.markdown(header, steps)
    others = report.markdown(("measure", "minigrad, ms", "to PyTorch or NumPy"), others)
    return [agreed, steps, others]


def training():
    """The same training by minigrad and by PyTorch's autograd.

    MLP-BN-10-100 on CIFAR-10 after two epochs. A seed has the same initial W in both, and another
    order of the samples. Means over layers or entries: median (range) of ten seeds. Standard
    errors: how far the two are apart seed by seed, over all layers or entries, in standard errors
    of the mean; about 1 where nothing but chance divides them. The last four rows are a planted
    fault, half the decay in PyTorch, which shows how a different training looks.
    """
    x, y, *_ = mg.load_dataset("cifar10")
    cases = [(scalar, B, 2 * LAM) for scalar in (True, False) for B in (128, 16)]
    rows = []
    for scalar, B, decay in tqdm([*cases, (False, 128, LAM)]):
        graph = mg.parse("MLP-BN-10-100", 3072, 10, detached=False, scalar=scalar)
        variant = "true gradient" if scalar else "standard"
        for quantity, *sides in train_both(graph, x, y, B, 2, range(10), decay):
            means = [median_and_range(side.mean(1), ".4g") for side in sides]
            rows.append((variant, B, quantity, *means, f"{standard_errors(*sides):.1f}"))
    header = ("batch norm", "B", "quantity", "minigrad", "PyTorch", "standard errors")
    return [report.markdown(header, rows)]


def write(page):
    """Write page() into figures/, on one thread; SystemExit with a sentence for what is missing."""
    if MISSING:
        sys.exit(MISSING)
    try:
        with threadpool_limits(1):  # of the libraries that are imported by now
            parts = [f"# {page.__name__.title()}\n", machine(), inspect.getdoc(page), "", *page()]
        print(report.write_text(f"figures/{page.__name__}.md", "\n".join(parts)))
    except (mg.DataError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    write(speed)
    write(training)
