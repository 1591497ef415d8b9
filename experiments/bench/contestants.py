"""The contestants: each makes (advance, weights) from the same start.

advance(rows) takes a step of Eq. 2 with momentum on every row of sample numbers, and waits for the end;
weights() are {(p, q): W} after it. PyTorch and JAX are imported by their own contestants alone.
"""

import functools

import numpy

import minigrad as mg
from minigrad import kernels, loops_numpy
from minigrad.layers import EPS

from .problem import ETA, LAM, MOMENTUM, at_rest


def minigrad(graph, params, x, y, train_epoch=mg.train_epoch):
    """minigrad as its users call it."""
    params, velocity = at_rest(params, "F")

    def advance(rows):
        train_epoch(graph, params, velocity, x, y, rows, "cross_entropy", ETA, LAM, MOMENTUM)

    return advance, lambda: params


def numpy_alone(graph, params, x, y):
    """minigrad as it is where Numba isn't installed."""
    return minigrad(graph, params, x, y, functools.partial(kernels.train_epoch, loops=loops_numpy))


def rules_alone(graph, params, x, y):
    """minigrad's own rules without kernels.py."""
    params, velocity = at_rest(params, "C")

    def advance(rows):
        for batch in rows:
            mg.train_step(graph, params, velocity, x[batch], y[batch], "cross_entropy", ETA, LAM, MOMENTUM)

    return advance, lambda: params


def pytorch(graph, params, x, y):
    """PyTorch, eager, with its fused SGD."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(1)
    tensors = {key: torch.tensor(W, requires_grad=True) for key, W in params.items()}
    scales = [tensors[key] for key in tensors if key not in graph.E_T]
    groups = [{"params": [tensors[edge] for edge in graph.E_T], "weight_decay": 2 * LAM}]
    if scales:
        groups.append({"params": scales})
    optimizer = torch.optim.SGD(groups, lr=ETA, momentum=MOMENTUM, fused=True)
    x, y = torch.from_numpy(x), torch.from_numpy(y.argmax(axis=1))

    def forward(x):
        v = {1: x}
        for p in range(2, graph.L + 1):
            z = None
            for q in graph.pred[p]:
                from_q = F.linear(v[q], tensors[p, q]) if (p, q) in tensors else v[q]
                z = from_q if z is None else z + from_q
            layer = graph.layers[p - 1]
            if layer.batchnorm:
                centred = z - z.mean(0, keepdim=True)
                with torch.set_grad_enabled(not layer.detached):
                    A = torch.rsqrt((centred * centred).mean(0, keepdim=True) + EPS)
                z = torch.addcmul(tensors["beta", p], tensors["gamma", p], A * centred)
            v[p] = torch.relu(z) if layer.activation == "relu" else z
        return v[graph.L]

    def advance(rows):
        for batch in torch.from_numpy(rows):
            loss = F.cross_entropy(forward(x[batch]), y[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return advance, lambda: {key: W.detach().numpy() for key, W in tensors.items()}


def jax_scan(graph, params, x, y):
    """JAX with all steps of a call in one compiled scan."""
    import jax
    from jax import numpy as jnp

    def name(p, q):
        return f"{p}-{q}"  # JAX sorts the keys of a dict, so they must be of one type

    edges = [name(*edge) for edge in graph.E_T]

    def loss(params, x, y):
        v = {1: x}
        for p in range(2, graph.L + 1):
            z = 0
            for q in graph.pred[p]:
                from_q = v[q] @ params[name(p, q)].T if name(p, q) in edges else v[q]
                z = z + from_q
            layer = graph.layers[p - 1]
            if layer.batchnorm:
                centred = z - z.mean(axis=0, keepdims=True)
                A = ((centred * centred).mean(axis=0, keepdims=True) + EPS) ** -0.5
                A = jax.lax.stop_gradient(A) if layer.detached else A
                z = params[name("gamma", p)] * (A * centred) + params[name("beta", p)]
            v[p] = jax.nn.relu(z) if layer.activation == "relu" else z
        return -(y * jax.nn.log_softmax(v[graph.L])).sum(axis=-1).mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(state, x, y, rows):
        def step(state, batch):
            params, velocity = state
            g = jax.grad(loss)(params, x[batch], y[batch])
            velocity = {key: MOMENTUM * velocity[key] + g[key] for key in params}
            for key in edges:
                velocity[key] += 2 * LAM * params[key]
            params = {key: W - ETA * velocity[key] for key, W in params.items()}
            return (params, velocity), None

        return jax.lax.scan(step, state, rows)[0]

    params = {name(*key): jnp.asarray(W) for key, W in params.items()}
    state = params, {key: jnp.zeros_like(W) for key, W in params.items()}
    x, y = jnp.asarray(x), jnp.asarray(y)

    def advance(rows):
        nonlocal state
        state = jax.block_until_ready(epoch(state, x, y, jnp.asarray(rows)))

    return advance, lambda: {edge: numpy.asarray(state[0][name(*edge)]) for edge in graph.E_T}


def products(graph, params, x, y):
    """The floor: the step's matrix products alone, each in the layout and order that measured fastest."""
    params = {edge: numpy.asfortranarray(params[edge]) for edge in graph.E_T}
    gradient = {edge: numpy.empty_like(W) for edge, W in params.items()}

    def layers(B):
        return {p: numpy.ones((B, graph.width(p)), "float32") for p in range(1, graph.L + 1)}

    def advance(rows):
        B = rows.shape[1]
        v, U, z = layers(B), layers(B), layers(B)
        turned = {p: numpy.empty((graph.width(p), B), "float32") for p in v}
        for _ in rows:
            for p, q in graph.E_T:
                numpy.matmul(v[q], params[p, q].T, out=z[p])
            for p, q in reversed(graph.E_T):
                W = params[p, q]
                if q > 1 and loops_numpy.by_columns(U[p], W):
                    numpy.matmul(W.T, U[p].T, out=turned[q])
                elif q > 1:
                    numpy.matmul(U[p], W, out=z[q])
                numpy.matmul(v[q].T, U[p], out=gradient[p, q].T)

    return advance, None


TRAINING = {
    "minigrad": minigrad,
    "NumPy alone": numpy_alone,
    "rules alone": rules_alone,
    "PyTorch": pytorch,
    "JAX scan": jax_scan,
}
CONTESTANTS = TRAINING | {"products": products}
