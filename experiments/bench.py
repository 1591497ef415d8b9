"""Speed of minigrad beside PyTorch, JAX and the matrix products alone; and its training by PyTorch.

    python -m experiments.bench [--quick]    gradients agree, then times: figures/bench.md
    python -m experiments.bench --trainer    the same training by autograd: figures/trainer.md

Everything runs on one thread, and in turns, so that what else the machine does slows all alike.
"""

import argparse
import functools
import operator
import os
import platform
import statistics
import time
from itertools import product
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits
from tqdm import tqdm

import minigrad as mg
from minigrad import fast

from . import report

ETA, LAM, MOMENTUM = 0.01, 5e-4, 0.9
EPS = 1e-5  # what minigrad adds to the variance; with another one the gradients disagree
SAMPLES = 20_000
TURN = 0.4  # seconds that a turn of minigrad takes at least
NETWORKS = ("MLP-BN-10-100", "MLP-5-500", "RES-BN-5-500")
VARIANTS = {  # of batch norm
    "the memo's text": {},
    "true gradient": {"detached": False},
    "standard": {"detached": False, "scalar": False},
}


def network(name, variant="standard", n=3072, k=10):
    """The graph of a network on CIFAR-10, with a variant of batch norm."""
    return mg.parse(name, n, k, **VARIANTS[variant])


def start(graph, seed=1, dtype="float32"):
    """Initial parameters, in Fortran order as in training."""
    params = mg.init_params(graph, np.random.default_rng(seed), dtype=dtype)
    return {key: np.asfortranarray(W) for key, W in params.items()}


def random_data(m, n=3072, k=10, dtype="float32"):
    """Inputs (m, n) and one-hot targets (m, k)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((m, n), dtype=dtype)
    return x, np.eye(k, dtype=dtype)[rng.integers(k, size=m)]


# The loss in PyTorch and in JAX, as a function of the parameters as a list in the order of `keys`.


def output(graph, params, x, normalize, relu):
    """f (B, k) by Eq. 3 to 5, for arrays of any library that have @ and .T."""
    v = {1: x}
    for p in range(2, graph.L + 1):
        terms = [v[q] @ params[p, q].T if (p, q) in params else v[q] for q in graph.pred[p]]
        z = functools.reduce(operator.add, terms)
        layer = graph.layers[p - 1]
        if layer.batchnorm:
            z = normalize(z, params["gamma", p], params["beta", p], layer.detached)
        v[p] = relu(z) if layer.activation == "relu" else z
    return v[graph.L]


def torch_loss(graph, keys):
    """(parameters, x, labels) -> cross-entropy."""
    import torch
    from torch.nn import functional as F

    def normalize(z, gamma, beta, detached):
        if not detached:
            # Its backward pass reads gamma as contiguous memory, whatever the strides.
            gamma, beta = (a.expand(1, z.shape[1])[0].contiguous() for a in (gamma, beta))
            return F.batch_norm(z, None, None, gamma, beta, training=True, eps=EPS)
        centred = z - z.mean(0)
        with torch.no_grad():
            A = ((centred * centred).mean(0) + EPS).rsqrt()
        return torch.addcmul(beta, gamma, A * centred)

    def loss(values, x, labels):
        f = output(graph, dict(zip(keys, values)), x, normalize, torch.relu)
        return F.cross_entropy(f, labels)

    return loss


def jax_loss(graph, keys):
    """(parameters, x, one-hot targets) -> cross-entropy."""
    import jax

    def normalize(z, gamma, beta, detached):
        centred = z - z.mean(0)
        A = ((centred * centred).mean(0) + EPS) ** -0.5
        A = jax.lax.stop_gradient(A) if detached else A
        return gamma * (A * centred) + beta

    def loss(values, x, y):
        f = output(graph, dict(zip(keys, values)), x, normalize, jax.nn.relu)
        return -(y * jax.nn.log_softmax(f)).sum(-1).mean()

    return loss


# Contestants. Each returns (advance, end): advance(rows) takes a step of Eq. 2 with momentum on
# every row of sample numbers, end() is {key: parameter} after it.


def by_minigrad(graph, params, x, y):
    """Training as users of minigrad call it."""
    params = {key: W.copy(order="F") for key, W in params.items()}
    velocity = {key: np.zeros_like(W) for key, W in params.items()}

    def advance(rows):
        mg.train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", ETA, LAM, MOMENTUM)

    return advance, lambda: params


def by_torch(graph, params, x, y):
    """PyTorch, eager, with its fused SGD, whose weight decay is 2 lambda, on W only."""
    import torch

    torch.set_num_threads(1)
    tensors = {key: torch.tensor(W, requires_grad=True) for key, W in params.items()}
    weights = {"params": [tensors[edge] for edge in graph.E_T], "weight_decay": 2 * LAM}
    scales = {"params": [tensor for key, tensor in tensors.items() if key not in graph.E_T]}
    optimizer = torch.optim.SGD([weights, scales], lr=ETA, momentum=MOMENTUM, fused=True)
    loss = torch_loss(graph, params.keys())
    values = list(tensors.values())
    x, labels = torch.from_numpy(x), torch.from_numpy(y.argmax(1))

    def advance(rows):
        for batch in torch.from_numpy(rows):
            optimizer.zero_grad(set_to_none=True)
            loss(values, x[batch], labels[batch]).backward()
            optimizer.step()

    return advance, lambda: {key: tensor.detach().numpy() for key, tensor in tensors.items()}


def by_jax(graph, params, x, y):
    """JAX, with all steps of a call in one compiled scan."""
    import jax
    from jax import numpy as jnp

    gradient = jax.grad(jax_loss(graph, params.keys()))
    decay = [2 * LAM if key in graph.E_T else 0.0 for key in params]

    def step(state, batch):
        values, velocity = state
        g = gradient(values, x[batch], y[batch])
        velocity = [MOMENTUM * u + dW + d * W for u, dW, d, W in zip(velocity, g, decay, values)]
        return ([W - ETA * u for W, u in zip(values, velocity)], velocity), None

    @functools.partial(jax.jit, donate_argnums=0)
    def train(state, rows):
        return jax.lax.scan(step, state, rows)[0]

    x, y = jnp.asarray(x), jnp.asarray(y)
    values = [jnp.array(W) for W in params.values()]
    state = values, [jnp.zeros_like(W) for W in values]

    def advance(rows):
        nonlocal state
        state = jax.block_until_ready(train(state, jnp.asarray(rows)))

    return advance, lambda: dict(zip(params, map(np.asarray, state[0])))


def by_products(graph, params, x, y):
    """The matrix products of a step alone, by NumPy: W v, U W and U^T v on every trainable edge."""
    gradient = {edge: np.empty_like(params[edge]) for edge in graph.E_T}

    def advance(rows):
        v = {p: np.ones((rows.shape[1], graph.width(p)), x.dtype) for p in range(1, graph.L + 1)}
        out = {p: np.empty_like(v[p]) for p in v}
        for _ in rows:
            for p, q in graph.E_T:
                np.matmul(v[q], params[p, q].T, out=out[p])
            for p, q in reversed(graph.E_T):
                if q > 1:  # the input needs no cotangent
                    np.matmul(v[p], params[p, q], out=out[q])
                np.matmul(v[q].T, v[p], out=gradient[p, q].T)

    return advance, None


TRAINERS = {"minigrad": by_minigrad, "PyTorch": by_torch, "JAX": by_jax}
CONTESTANTS = TRAINERS | {"matrix products": by_products}


# Agreement.


def apart(found, expected):
    """The largest difference over all keys, relative to the largest entry of all expected arrays.

    Not key by key: a layer's one gamma often has a gradient of zero but for EPS and rounding.
    """
    largest = max(np.abs(values).max() for values in expected.values())
    return max(np.abs(found[key] - expected[key]).max() for key in expected) / largest


def agreement(graph, x, y, B=16):
    """How far the trainers are from minigrad's gradient, and from its way in three steps.

    In the dtype of x. A first step from rest is -eta (gradient + 2 lam W), and tells the gradient.
    """
    params = start(graph, dtype=x.dtype)
    rows = mg.batches(len(x), B, seed=0, epoch=1)[:3]
    cache = mg.forward(graph, params, x[rows[0]])
    _, df = mg.cross_entropy(cache.v[graph.L], y[rows[0]])
    gradient = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    first = {key: -ETA * g for key, g in gradient.items()}
    for edge in graph.E_T:
        first[edge] -= ETA * 2 * LAM * params[edge]
    firsts, ways = [], []
    for make in TRAINERS.values():
        advance, end = make(graph, params, x, y)
        advance(rows[:1])
        firsts.append({key: W - params[key] for key, W in end().items()})
        for row in rows[1:]:
            advance(row[None])
        ways.append({key: W - params[key] for key, W in end().items()})
    return max(apart(step, first) for step in firsts), max(apart(way, ways[0]) for way in ways)


# Times.


def in_turns(functions, rounds):
    """{name: [seconds of each round]}, after a round that isn't counted, in which they compile.

    RuntimeError where one computes on several threads.
    """
    for function in functions.values():
        function()
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if cpu > 1.2 * wall + 0.02:
                raise RuntimeError(f"{name} took {cpu:.2f} s of CPU in {wall:.2f} s: use 1 thread")
            times[name].append(wall)
    return times


def step_times(graph, B, x, y, rounds):
    """{contestant: [seconds a training step]}."""
    rows = mg.batches(len(x), B, seed=0, epoch=1)
    runs = {name: make(graph, start(graph), x, y)[0] for name, make in CONTESTANTS.items()}
    (trial,) = in_turns({"minigrad": lambda: runs["minigrad"](rows[:20])}, 1)["minigrad"]
    rows = rows[: max(20, round(20 * TURN / trial))]
    times = in_turns({name: functools.partial(run, rows) for name, run in runs.items()}, rounds)
    return {name: [seconds / len(rows) for seconds in values] for name, values in times.items()}


def norm_times(graph, x, y, rounds):
    """{library: [seconds]} for the norms of all per-sample gradients of a batch, W by W."""
    import torch

    params = start(graph)
    tensors = [torch.tensor(W) for W in params.values()]
    gradient = torch.func.grad(torch_loss(graph, params.keys()))
    per_sample = torch.func.vmap(gradient, in_dims=(None, 0, 0))
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y.argmax(1))

    def by_factors():
        cache = mg.forward(graph, params, x)
        _, df = mg.cross_entropy(cache.v[graph.L], y)
        U, _ = mg.backward(graph, params, cache, df)
        return [factor.norms() for factor in mg.factors(graph, cache, U).values()]

    def by_vmap():
        gradients = per_sample(tensors, inputs, labels)
        return [g.flatten(1).norm(dim=1).numpy() / len(x) for g in gradients]

    np.testing.assert_allclose(by_factors(), by_vmap(), rtol=1e-3)
    return in_turns({"minigrad": by_factors, "PyTorch": by_vmap}, rounds)


def rank_times(shape, rounds):
    """{library: [seconds]} for the rank of a float32 matrix of about half the full rank."""
    rng = np.random.default_rng(2)
    r = min(shape) // 2
    W = rng.normal(size=(shape[0], r)) @ rng.normal(size=(r, shape[1]))
    W = (W + 1e-3 * rng.normal(size=shape)).astype("float32")

    def by_svd():
        s = np.linalg.svd(W, compute_uv=False)
        return (s > 1e-4 * np.linalg.norm(s)).sum()

    np.testing.assert_equal(mg.rank(W), by_svd())
    return in_turns({"minigrad": lambda: mg.rank(W), "NumPy's SVD": by_svd}, rounds)


# The same training by PyTorch, whose network is written out and whose batches have another order.


def train_by_minigrad(graph, params, data, B, epochs, seed):
    """The trained {edge: W} and the training accuracy."""
    x, y = data.x_train, data.y_train
    advance, end = by_minigrad(graph, params, x, y)
    for epoch in range(1, epochs + 1):
        advance(mg.batches(len(x), B, seed, epoch))
    _, accuracy, _ = mg.evaluate(graph, end(), x, y, "cross_entropy")
    return {edge: end()[edge] for edge in graph.E_T}, accuracy


def train_by_torch(graph, params, data, B, epochs, seed, weight_decay=2 * LAM):
    """The same for an MLP with the true gradient of batch norm, by PyTorch's autograd."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(1)
    W = [torch.tensor(params[edge], requires_grad=True) for edge in graph.E_T]
    scalar = graph.layers[1].scalar
    widths = [1 if scalar else len(hidden) for hidden in W[:-1]]
    gamma = [torch.ones(width, requires_grad=True) for width in widths]
    beta = [torch.zeros(width, requires_grad=True) for width in widths]

    def f(x):
        for i, hidden in enumerate(W[:-1]):
            normalized = F.batch_norm(F.linear(x, hidden), None, None, training=True)
            x = F.relu(gamma[i] * normalized + beta[i])
        return F.linear(x, W[-1])

    groups = [{"params": W, "weight_decay": weight_decay}, {"params": gamma + beta}]
    optimizer = torch.optim.SGD(groups, lr=ETA, momentum=MOMENTUM)
    x, labels = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train.argmax(1))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for batch in order[: len(x) - len(x) % B].view(-1, B):
            optimizer.zero_grad()
            F.cross_entropy(f(x[batch]), labels[batch]).backward()
            optimizer.step()
    with torch.no_grad():  # batch norm with the statistics of the whole training set
        hits = f(x).argmax(1) == labels
    trained = {edge: matrix.detach().numpy() for edge, matrix in zip(graph.E_T, W)}
    return trained, hits.double().mean().item()


def measured(params, trained, accuracy):
    """{quantity: array} of one training that began at params."""
    spectra = [mg.singular_values(W) for W in trained.values()]
    ways = [W - params[edge] for edge, W in trained.items()]
    return {
        "train accuracy, %": np.array([100 * accuracy]),
        "norm of W": np.array([np.linalg.norm(W) for W in trained.values()]),
        "norm of W minus its start": np.array([np.linalg.norm(way) for way in ways]),
        "singular values": np.concatenate(spectra),
    }


def standard_errors(a, b):
    """How far a and b (seeds, entries) are apart seed by seed, in standard errors of all entries.

    It is about 1 where nothing but chance divides them.
    """
    difference = b - a
    scatter = difference.var(0, ddof=1) / len(difference)
    return ((difference.mean(0) ** 2).sum() / scatter.sum()) ** 0.5


def compared_training(graph, data, B, epochs, seeds, **options):
    """Rows (quantity, minigrad, PyTorch, standard errors); options go to train_by_torch."""
    ours, theirs = [], []
    for seed in seeds:
        params = start(graph, seed)
        task = graph, params, data, B, epochs, seed
        ours.append(measured(params, *train_by_minigrad(*task)))
        theirs.append(measured(params, *train_by_torch(*task, **options)))
    rows = []
    for quantity in ours[0]:
        a, b = (np.stack([found[quantity] for found in side]) for side in (ours, theirs))
        apart_by = f"{standard_errors(a, b):.1f}"
        rows.append((quantity, middle(a.mean(1), ".4g"), middle(b.mean(1), ".4g"), apart_by))
    return rows


# Pages.


def machine():
    """What a time means nothing without, in two sentences."""
    import jax
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    blas = next(pool for pool in threadpool_info() if pool["user_api"] == "blas")
    kernel = f"{blas['internal_api']} {blas['version']}, kernels for {blas.get('architecture')}"
    return (
        f"{time.strftime('%Y-%m-%d')}: {cpu}, {os.cpu_count()} cores. "
        f"Python {platform.python_version()}, NumPy {np.__version__} ({kernel}, "
        f"threads: {blas['num_threads']}), minigrad's engine: {fast.version()}, "
        f"PyTorch {torch.__version__}, JAX {jax.__version__}.\n"
    )


def middle(values, digits):
    """Median and range, as text."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):{digits}} ({low:{digits}} to {high:{digits}})"


def compared(times, unit):
    """Cells: minigrad's time in units of so many seconds; its ratio to each other, turn by turn."""
    ours = times.pop("minigrad")
    digits = float(f"{statistics.median(ours) / unit:.3g}")  # three, and no power of ten
    ratios = [[a / b for a, b in zip(ours, other)] for other in times.values()]
    return f"{digits:g}", *(middle(ratio, ".3g") for ratio in ratios)


def speed(quick):
    """The sections of bench.md, one by one as they are measured."""
    import jax

    rounds, sizes = (3, (4, 128)) if quick else (7, (4, 16, 128))
    yield f"# Speed\n\n{machine()}"
    yield (
        "One thread each, in turns. A ratio is the time of minigrad over that of another in the "
        f"same turn, so below 1 minigrad is faster: median of {rounds} turns (range).\n"
    )

    x, y = random_data(64, dtype="float64")
    with jax.enable_x64(True):
        found = [agreement(network(*each), x, y) for each in product(NETWORKS, VARIANTS)]
    gradient, way = np.max(found, axis=0)
    if not max(gradient, way) <= 1e-12:
        raise RuntimeError(f"gradients differ by {gradient:.1g}, steps by {way:.1g}, above 1e-12")
    yield (
        "In float64 minigrad, PyTorch's autograd and JAX agree on these networks under every "
        f"variant of batch norm: in the gradient to {gradient:.0e} of its largest entry, after "
        f"three training steps to {way:.0e} of the way.\n"
    )

    x, y = random_data(SAMPLES)
    rows = []
    for name, B in tqdm([*product(NETWORKS, sizes)], "steps", leave=False):
        times = step_times(network(name), B, x, y, rounds)
        rows.append((name, B, *compared(times, unit=1e-6)))
    yield (
        "A training step (gather, forward, backward, update) on CIFAR-10's shape, float32, "
        "standard batch norm.\n"
    )
    header = ("network", "B", "minigrad, µs", "to PyTorch", "to JAX", "to products")
    yield report.markdown(header, rows)

    times = norm_times(network("MLP-5-500"), x[:128], y[:128], rounds)
    yield "Norms of per-sample gradients: from factors (Lemma 1), and by PyTorch's `vmap(grad)`.\n"
    row = ("MLP-5-500", 128, *compared(times, unit=1e-3))
    yield report.markdown(("network", "B", "minigrad, ms", "to PyTorch"), [row])

    rows = []
    for n in (100, 500) if quick else (100, 500, 2000):
        rows.append((f"{n} x {n}", *compared(rank_times((n, n), rounds=3), unit=1e-3)))
    yield "The rank of a float32 matrix. Both ways find the same.\n"
    yield report.markdown(("matrix", "minigrad, ms", "to NumPy's SVD"), rows)


def trainer(epochs=2, seeds=range(5)):
    """The sections of trainer.md."""
    data = mg.load_dataset("cifar10")
    yield f"# The same training by PyTorch's autograd\n\n{machine()}"
    yield (
        f"MLP-BN-10-100 on CIFAR-10 after {epochs} epochs with eta = {ETA}, lambda = {LAM}, "
        f"momentum = {MOMENTUM}. A seed has the same initial W in both, and another order of the "
        f"samples. Means over layers or entries: median of {len(seeds)} seeds (range). Standard "
        "errors: how far the two are apart seed by seed, over all layers or entries, in standard "
        "errors of the mean; about 1 where nothing but chance divides them. The last four rows are "
        "a planted fault, which shows how a different training looks.\n"
    )
    tasks = [(variant, B, {}) for variant in ("true gradient", "standard") for B in (128, 16)]
    tasks.append(("standard", 128, {"weight_decay": LAM}))
    rows = []
    for variant, B, fault in tqdm(tasks, "trainings", leave=False):
        title = f"{variant}, half the decay in PyTorch" if fault else variant
        graph = network("MLP-BN-10-100", variant)
        found = compared_training(graph, data, B, epochs, seeds, **fault)
        rows += [(title, B, *row) for row in found]
    header = ("batch norm", "B", "quantity", "minigrad", "PyTorch", "standard errors")
    yield report.markdown(header, rows)


def main():
    """Do what the command line says."""
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser("python -m experiments.bench", description=about)
    parser.add_argument("--quick", action="store_true", help="two batch sizes and three rounds")
    parser.add_argument("--trainer", action="store_true", help="train by PyTorch too, time nothing")
    args = parser.parse_args()
    # XLA reads it when JAX is imported.
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    try:
        import jax  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        parser.error(f"{error}; call make bench, or pip install '.[bench]'")
    name, parts = ("trainer", trainer()) if args.trainer else ("bench", speed(args.quick))
    sections = []
    with threadpool_limits(1):  # of the libraries that are imported by now
        for section in parts:
            print(section, flush=True)
            sections.append(section)
    print(report.write_text(f"figures/{name}.md", "\n".join(sections)))


if __name__ == "__main__":
    main()
