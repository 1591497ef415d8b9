"""make bench: minigrad, PyTorch, JAX and the machine's limit side by side, in turns, one thread each; a table of medians.

All contestants take the step of Eq. 2 with momentum on CIFAR-10's shape, and agree on it before anything is timed.
"""

import argparse
import functools
import importlib.util
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from pathlib import Path

CORE = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
CORES = os.sched_getaffinity(0) if CORE is not None else None
if __name__ == "__main__":  # before the libraries read it; the workers of `processes` want more than one core
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if CORE is not None:
        os.sched_setaffinity(0, {CORE})

import numpy
from threadpoolctl import threadpool_info, threadpool_limits
from tqdm import tqdm

import minigrad as mg
from minigrad import kernels, loops_numpy
from minigrad.layers import EPS

CELLS = [("MLP-BN-10-100", B) for B in (4, 8, 16, 32, 64, 128)] + [("RES-BN-5-500", B) for B in (4, 16, 128)]
CELLS += [("MLP-5-500", 4), ("MLP-5-500", 128), ("MLP-5-2000", 128)]
QUICK = [("MLP-BN-10-100", 4), ("MLP-BN-10-100", 128), ("RES-BN-5-500", 4), ("MLP-5-500", 128)]
ETA, LAM, MOMENTUM = 1e-3, 5e-4, 0.9
SAMPLES, INPUTS, CLASSES = 50_000, 3072, 10
SHARE = 0.4  # seconds that one turn of one contestant takes at least


# The contestants: each makes (advance, weights) from the same start; advance(rows) trains on them, and waits for the end.


def minigrad(graph, params, x, y, train_epoch=mg.train_epoch):
    params = {key: numpy.array(W, order="F") for key, W in params.items()}
    velocity = {key: numpy.zeros_like(W) for key, W in params.items()}

    def advance(rows):
        train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", ETA, LAM, MOMENTUM)

    return advance, lambda: params


def numpy_alone(graph, params, x, y):
    """minigrad as it is where Numba isn't installed."""
    return minigrad(graph, params, x, y, functools.partial(kernels.train_epoch, loops=loops_numpy))


def readable(graph, params, x, y):
    """minigrad's own rules without kernels.py."""
    params = {key: W.copy() for key, W in params.items()}
    velocity = {key: numpy.zeros_like(W) for key, W in params.items()}

    def advance(rows):
        for batch in rows:
            mg.train_step(graph, params, velocity, x[batch], y[batch], "cross_entropy", ETA, LAM, MOMENTUM)

    return advance, lambda: params


def pytorch(graph, params, x, y):
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(1)
    weights = {key: torch.tensor(W, requires_grad=True) for key, W in params.items()}
    matrices = [weights[edge] for edge in graph.E_T]
    scales = [weights[key] for key in weights if key not in graph.E_T]
    groups = [{"params": matrices, "weight_decay": 2 * LAM}] + [{"params": scales}] * bool(scales)
    optimizer = torch.optim.SGD(groups, lr=ETA, momentum=MOMENTUM, fused=True)
    x, y = torch.from_numpy(x), torch.from_numpy(y.argmax(axis=1))

    def forward(v):
        v = {1: v}
        for p in range(2, graph.L + 1):
            z = None
            for q in graph.pred[p]:
                from_q = F.linear(v[q], weights[p, q]) if (p, q) in weights else v[q]
                z = from_q if z is None else z + from_q
            if graph.layers[p - 1].batchnorm:
                centred = z - z.mean(0, keepdim=True)
                with torch.no_grad():
                    A = torch.rsqrt((centred * centred).mean(0, keepdim=True) + EPS)
                z = torch.addcmul(weights["beta", p], weights["gamma", p], A * centred)
            v[p] = torch.relu(z) if graph.layers[p - 1].activation == "relu" else z
        return v[graph.L]

    def advance(rows):
        for batch in torch.from_numpy(rows):
            loss = F.cross_entropy(forward(x[batch]), y[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return advance, lambda: {key: W.detach().numpy() for key, W in weights.items()}


def jax_scan(graph, params, x, y):
    import jax
    from jax import numpy as jnp

    name = "{}-{}".format  # JAX sorts the keys of a dict
    edges = {name(*edge) for edge in graph.E_T}

    def loss(params, x, y):
        v = {1: x}
        for p in range(2, graph.L + 1):
            z = sum(v[q] @ params[name(p, q)].T if name(p, q) in edges else v[q] for q in graph.pred[p])
            if graph.layers[p - 1].batchnorm:
                centred = z - z.mean(axis=0, keepdims=True)
                A = jax.lax.stop_gradient(((centred * centred).mean(axis=0, keepdims=True) + EPS) ** -0.5)
                z = params[name("gamma", p)] * (A * centred) + params[name("beta", p)]
            v[p] = jax.nn.relu(z) if graph.layers[p - 1].activation == "relu" else z
        return -(y * jax.nn.log_softmax(v[graph.L])).sum(axis=-1).mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(state, x, y, rows):
        def step(state, batch):
            params, velocity = state
            g = jax.grad(loss)(params, x[batch], y[batch])
            velocity = {k: MOMENTUM * velocity[k] + g[k] + (2 * LAM * W if k in edges else 0) for k, W in params.items()}
            return ({k: W - ETA * velocity[k] for k, W in params.items()}, velocity), None

        return jax.lax.scan(step, state, rows)[0]

    start = {name(*key): jnp.asarray(W) for key, W in params.items()}
    state = [(start, {key: jnp.zeros_like(W) for key, W in start.items()})]
    x, y = jnp.asarray(x), jnp.asarray(y)

    def advance(rows):
        state[0] = jax.block_until_ready(epoch(state[0], x, y, jnp.asarray(rows)))

    return advance, lambda: {edge: numpy.asarray(state[0][0][name(*edge)]) for edge in graph.E_T}


def products(graph, params, x, y):
    """The floor: the step's matrix products alone, each in the layout and order that measured fastest."""
    params = {edge: numpy.asfortranarray(params[edge]) for edge in graph.E_T}
    gradient = {edge: numpy.empty_like(W) for edge, W in params.items()}

    def advance(rows):
        B = rows.shape[1]
        v, U, z = ({p: numpy.ones((B, graph.width(p)), "float32") for p in range(1, graph.L + 1)} for _ in range(3))
        turned = {p: numpy.empty((graph.width(p), B), "float32") for p in v}
        for _ in rows:
            for p, q in graph.E_T:
                numpy.matmul(v[q], params[p, q].T, out=z[p])
            for p, q in reversed(graph.E_T):
                W = params[p, q]
                if q > 1 and W.size <= kernels.SMALL:
                    numpy.matmul(U[p], W, out=z[q])
                elif q > 1:
                    numpy.matmul(W.T, U[p].T, out=turned[q])
                numpy.matmul(v[q].T, U[p], out=gradient[p, q].T)

    return advance, None


CONTESTANTS = {
    "minigrad": minigrad, "NumPy alone": numpy_alone, "rules alone": readable, "PyTorch": pytorch, "JAX scan": jax_scan,
    "products": products,
}
RATIOS = {  # those that the table gives
    "to JAX": ("minigrad", "JAX scan"), "to products": ("minigrad", "products"),
    "NumPy alone to PyTorch": ("NumPy alone", "PyTorch"), "NumPy alone to products": ("NumPy alone", "products"),
}


# The measurements.


def data():
    rng = numpy.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, INPUTS), dtype="float32")
    return x, numpy.eye(CLASSES, dtype="float32")[rng.integers(0, CLASSES, SAMPLES)]


def start(name):
    graph = mg.parse(name, n=INPUTS, k=CLASSES)
    return graph, mg.init_params(graph, numpy.random.default_rng(1))


def seconds(function, *args):
    begun = time.perf_counter()
    function(*args)
    return time.perf_counter() - begun


def in_turns(functions, rounds):
    """{name: [seconds]}: A, B, A, B, ..., so that what else the machine does falls on all of them alike."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return times


def agree(name, x, y):
    """The largest difference from minigrad after 4 steps at B = 8, relative to the largest entry of its W.

    The median of 5 orders of the data: where a ReLU's input is zero up to rounding, single steps may differ by much more.
    """
    graph, params = start(name)
    worst = []
    for order in range(5):
        rows, ends = mg.batches(len(x), 8, seed=order, epoch=1)[:4], []
        for make in (minigrad, numpy_alone, readable, pytorch, jax_scan):
            advance, weights = make(graph, params, x, y)
            advance(rows)
            ends.append({edge: weights()[edge].copy() for edge in graph.E_T})
        worst.append(max(abs(end[edge] - W).max() / abs(W).max() for end in ends for edge, W in ends[0].items()))
    return statistics.median(worst)


def steps(name, B, x, y, rounds):
    """{contestant: microseconds a step, one per turn}."""
    graph, params = start(name)
    rows = mg.batches(len(x), B, seed=0, epoch=1)
    runs = {contestant: make(graph, params, x, y)[0] for contestant, make in CONTESTANTS.items()}
    seconds(runs["minigrad"], rows[:2])
    n = min(len(rows), max(3, round(SHARE / (seconds(runs["minigrad"], rows[:8]) / 8))))
    for advance in runs.values():
        advance(rows[:n])
    times = in_turns({contestant: functools.partial(advance, rows[:n]) for contestant, advance in runs.items()}, rounds)
    return {contestant: [1e6 * t / n for t in values] for contestant, values in times.items()}


def epochs(name, B, x, y):
    """{contestant: seconds of one whole epoch}."""
    graph, params = start(name)
    rows = mg.batches(len(x), B, seed=0, epoch=1)
    runs = {contestant: make(graph, params, x, y)[0] for contestant, make in CONTESTANTS.items() if contestant != "products"}
    runs["JAX scan"](rows)  # compiles for this length
    return {contestant: [seconds(advance, rows)] for contestant, advance in runs.items()}


def measuring(x, y, rounds):
    """What the measures of an epoch cost beside its steps: MLP-BN-10-100, B = 128."""
    graph, params = start("MLP-BN-10-100")
    params = {key: numpy.array(W, order="F") for key, W in params.items()}
    velocity = {key: numpy.zeros_like(W) for key, W in params.items()}
    rows = mg.batches(len(x), 128, seed=0, epoch=1)

    def train():
        mg.train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", ETA, LAM, MOMENTUM)

    def evaluate():
        stats = mg.evaluate(graph, params, x, y, "cross_entropy")[2]
        mg.evaluate(graph, params, x[:10_000], y[:10_000], "cross_entropy", stats)

    def ranks():
        for edge in graph.E_T:
            mg.rank(params[edge])

    train()
    return in_turns({"steps of an epoch": train, "evaluation": evaluate, "ranks": ranks}, rounds)


def per_sample_norms(x, y, rounds):
    """Norms of all per-sample gradients, MLP-5-500, B = 128."""
    import torch
    from torch.nn import functional as F

    graph, params = start("MLP-5-500")
    x, y = x[:128], y[:128]
    cache = mg.forward(graph, params, x)
    _, df = mg.cross_entropy(cache.v[graph.L], y)
    weights, tx, ty = [torch.tensor(params[e]) for e in graph.E_T], torch.from_numpy(x), torch.from_numpy(y.argmax(axis=1))

    def loss(weights, x, y):
        for W in weights[:-1]:
            x = torch.relu(F.linear(x, W))
        return F.cross_entropy(F.linear(x, weights[-1]), y) / 128

    def backward():
        U, _ = mg.backward(graph, params, cache, df)
        return mg.gradients(graph, cache, U, {})

    def ours():
        U, _ = mg.backward(graph, params, cache, df)
        found = mg.factors(graph, cache, U)
        return [found[e].matrix() for e in graph.E_T], [found[e].norms() for e in graph.E_T]

    def norms():
        return [found.norms() for found in mg.factors(graph, cache, mg.backward(graph, params, cache, df)[0]).values()]

    def einsum():
        found = mg.factors(graph, cache, mg.backward(graph, params, cache, df)[0])
        return [(numpy.einsum("bp,bq->bpq", f.U, f.V) ** 2).sum(axis=(1, 2)) ** 0.5 for f in found.values()]

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

    def vmap():
        return [g.flatten(1).norm(dim=1) for g in per_sample(weights, tx, ty)]

    functions = {"backward and gradients": backward, "the same, and norms": ours}
    if by_backpack := _backpack(weights, tx, ty):
        functions["the same by BackPACK"] = by_backpack
    for other in (einsum, vmap, *([by_backpack] if by_backpack else [])):
        for a, b in zip(norms(), other()):
            numpy.testing.assert_allclose(a, numpy.asarray(b), rtol=1e-3)
    few = {"norms from factors": norms, "einsum": einsum, "vmap(grad)": vmap}
    return in_turns(functions, 10 * rounds) | in_turns(few, 3)


def _backpack(weights, x, y):
    """BackPACK's backward pass with gradients and norms, or None where it isn't installed."""
    import torch

    try:
        from backpack import backpack, extend
        from backpack.extensions import BatchL2Grad
    except ImportError:
        return None
    linear = [torch.nn.Linear(*reversed(W.shape), bias=False) for W in weights]
    for layer, W in zip(linear, weights):
        layer.weight.data = W
    model = torch.nn.Sequential(*(part for layer in linear for part in (layer, torch.nn.ReLU())))[:-1]
    model = extend(model)
    loss = extend(torch.nn.CrossEntropyLoss())(model(x), y)

    def backward():
        model.zero_grad(set_to_none=True)
        with warnings.catch_warnings(), backpack(BatchL2Grad(), retain_graph=True):
            warnings.simplefilter("ignore")  # that x needs no gradient
            loss.backward(retain_graph=True)
        return [layer.weight.batch_l2**0.5 for layer in linear]

    return backward


def ranks(sizes, rounds):
    """Counting ranks of float32 matrices that have a rank to be found, against NumPy's SVD of float32."""
    rng, found = numpy.random.default_rng(2), {}
    for shape in sizes:
        small = min(shape)
        W = rng.normal(size=(shape[0], small // 2)) @ rng.normal(size=(small // 2, shape[1])) + 1e-3 * rng.normal(size=shape)
        W = W.astype("float32")

        def svd():
            s = numpy.linalg.svd(W, compute_uv=False)
            return (s > 1e-4 * numpy.linalg.norm(s)).sum()

        s = numpy.linalg.svd(W.astype("float64"), compute_uv=False)
        exact = (s > 1e-4 * numpy.linalg.norm(s)).sum()
        assert mg.rank(W) == exact, (shape, mg.rank(W), exact)
        times = in_turns({"minigrad": lambda: mg.rank(W), "numpy svd": svd}, rounds)
        found["x".join(map(str, shape))] = times
    return found


def _worker(threads, barrier, answers):
    rng = numpy.random.default_rng(0)
    x, y = rng.standard_normal((2560, INPUTS), dtype="float32"), numpy.eye(CLASSES, dtype="float32")[rng.integers(0, CLASSES, 2560)]
    graph, params = start("MLP-5-500")
    advance, _ = minigrad(graph, params, x, y)
    rows = mg.batches(2560, 128, seed=0, epoch=1)
    with threadpool_limits(threads):
        advance(rows)
        barrier.wait()
        answers.put(4 * len(rows) / seconds(lambda: [advance(rows) for _ in range(4)]))


def processes(rounds):
    """Steps a second of MLP-5-500, B = 128, of both processes together: two with a thread each, and one with two."""
    context, found = multiprocessing.get_context("spawn"), {"two processes": [], "two threads": []}
    if CORES:
        os.sched_setaffinity(0, CORES)  # the workers, and the threads that BLAS starts in them, inherit it
    for _ in range(rounds):
        for name, number, threads in (("two processes", 2, 1), ("two threads", 1, 2)):
            barrier, answers = context.Barrier(number), context.SimpleQueue()
            workers = [context.Process(target=_worker, args=(threads, barrier, answers)) for _ in range(number)]
            for worker in workers:
                worker.start()
            found[name].append(sum(answers.get() for _ in workers))
            for worker in workers:
                worker.join()
    if CORES:
        os.sched_setaffinity(0, {CORE})
    return found


def denormals(x, y, rounds):
    """Microseconds a step of MLP-5-100, B = 128, of usual weights, and of weights decayed until they are denormal."""
    graph, params = start("MLP-5-100")
    rows, runs = mg.batches(len(x), 128, seed=0, epoch=1)[:40], {}
    for name, lam in (("lambda = 5e-4", LAM), ("lambda = 20, denormal weights", 20)):
        W, velocity = ({key: numpy.array(a, order="F") for key, a in d.items()} for d in (params, {k: 0 * v for k, v in params.items()}))
        runs[name] = functools.partial(mg.train_epoch, graph, W, velocity, x, y, rows, "cross_entropy", ETA, lam, MOMENTUM)
    while max(abs(a).max() for a in W.values()) >= numpy.finfo("float32").smallest_normal:
        runs[name]()
    times = in_turns(runs, rounds)
    assert all(a.any() for a in W.values()), "the weights have decayed to zero itself, which says nothing about denormals"
    return {name: [1e6 * t / len(rows) for t in values] for name, values in times.items()}


# The table.


def machine():
    """CPU, cores, BLAS and its core type, versions: what a timing means nothing without."""
    import jax
    import torch

    model = "unknown CPU"
    if Path("/proc/cpuinfo").exists():
        model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), model)
    blas = next(lib for lib in threadpool_info() if lib["user_api"] == "blas")
    return (
        f"{time.strftime('%Y-%m-%d')}, {model}, {len(CORES) if CORES else os.cpu_count()} cores, {blas['internal_api']} {blas['version']} "
        f"{blas.get('architecture', '')}, Python {sys.version.split()[0]}, NumPy {numpy.__version__}, kernels: {kernels.PATH}, "
        f"PyTorch {torch.__version__}, JAX {jax.__version__}"
    )


def number(value):
    """Three significant digits, never as a power of ten."""
    return f"{float(f'{value:.3g}'):.12g}"


def middle(values):
    """Median, and the range where there are several."""
    return number(statistics.median(values)) + (f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else "")


def ratio(times, name, other):
    return f"{statistics.median(times[name]) / statistics.median(times[other]):.2f}"


def table(head, rows):
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def report(quick):
    """The sections of the table, one by one."""
    rounds, cells = (3, QUICK) if quick else (7, CELLS)
    x, y = data()
    yield f"{machine()}. One thread each, in turns, {rounds} rounds; median (range).\n"
    names = dict.fromkeys(name for name, _ in cells)
    worst = {name: agree(name, x[:2000], y[:2000]) for name in names}
    assert max(worst.values()) < 1e-5, f"the contestants disagree: {worst}"
    yield f"All agree after 4 steps at B = 8 to {max(worst.values()):.1g} of the largest weight.\n"
    rows = []
    for name, B in tqdm(cells, desc="steps"):
        t = steps(name, B, x, y, rounds)
        rows.append([name, str(B), *(middle(t[c]) for c in CONTESTANTS), *(ratio(t, *pair) for pair in RATIOS.values())])
    yield "Microseconds a training step (gather, forward, backward, update with momentum).\n\n" + table(
        ["network", "B", *CONTESTANTS, *RATIOS], rows
    )
    rows = []
    for name, B in tqdm([("MLP-BN-10-100", B) for B in ((128,) if quick else (4, 8, 16, 32, 64, 128))], desc="epochs"):
        t = epochs(name, B, x, y)
        rows.append([name, str(B), *(middle(values) for values in t.values())])
    yield "Seconds of a whole epoch of 50,000 samples, measured once.\n\n" + table(["network", "B", *t], rows)
    t = measuring(x, y, rounds=2)
    total = sum(statistics.median(values) for values in t.values()) / statistics.median(t["steps of an epoch"])
    yield "Seconds of an epoch with its measures, MLP-BN-10-100, B = 128.\n\n" + table(
        [*t, "all, to the steps alone"], [[*(middle(values) for values in t.values()), f"{total:.2f}"]]
    )
    t = per_sample_norms(x, y, rounds)
    yield "Milliseconds for the norms of all per-sample gradients, MLP-5-500, B = 128.\n\n" + table(
        [*t, "norms added, to backward", "vmap(grad), to norms from factors"],
        [[*(middle([1e3 * v for v in values]) for values in t.values()),
          ratio(t, "the same, and norms", "backward and gradients"), ratio(t, "vmap(grad)", "norms from factors")]],
    )
    found = ranks([(100, 100), (500, 500)] + ([] if quick else [(2000, 3072), (2000, 2000), (10, 2000)]), 2 if quick else 3)
    rows = [
        [shape, *(middle([1e3 * v for v in values]) for values in t.values()), ratio(t, "numpy svd", "minigrad")]
        for shape, t in found.items()
    ]
    if not quick:
        whole = {c: sum(n * statistics.median(found[s][c]) for s, n in (("2000x3072", 1), ("2000x2000", 4), ("10x2000", 1))) for c in ("minigrad", "numpy svd")}
        rows.append(["MLP-5-2000, all of these", *(middle([1e3 * v]) for v in whole.values()), number(whole["numpy svd"] / whole["minigrad"])])
    yield "Milliseconds to count a rank, float32, the count checked.\n\n" + table(["matrix", "minigrad", "numpy svd", "times faster"], rows)
    t = processes(rounds=2)
    yield "Steps a second of MLP-5-500, B = 128, on two cores.\n\n" + table(
        [*t, "ratio"], [[*(middle(values) for values in t.values()), ratio(t, "two processes", "two threads")]]
    )
    t = denormals(x, y, rounds)
    yield "Microseconds a step of MLP-5-100, B = 128.\n\n" + table(
        [*t, "ratio"], [[*(middle(values) for values in t.values()), ratio(t, *reversed(t))]]
    )


def main():
    parser = argparse.ArgumentParser(prog="python -m experiments.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four cells and three rounds")
    parser.add_argument("--out", metavar="FILE", default="figures/bench.md")
    args = parser.parse_args()
    if missing := [name for name in ("torch", "jax") if not importlib.util.find_spec(name)]:
        parser.error(f"{' and '.join(missing)} not installed: call make bench, or pip install '.[bench]'")
    begun, sections = time.monotonic(), []
    with threadpool_limits(1):
        for section in report(args.quick):
            print(section, flush=True)
            sections.append(section)
    print(f"{time.monotonic() - begun:.0f} s")
    path = Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text("\n".join(sections), encoding="utf-8")
    os.replace(partial, path)
    print(path)


if __name__ == "__main__":
    main()
