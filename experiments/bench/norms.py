"""Norms of all per-sample gradients: minigrad's, from factors, and what others take for them."""

import warnings

import numpy

import minigrad as mg

from .measurements import in_turns
from .problem import start


def per_sample_norms(x, y, rounds):
    """{way: [seconds]} on MLP-5-500, B = 128; AssertionError where another way finds other norms."""
    graph, params = start("MLP-5-500")
    x, y = x[:128], y[:128]
    passes, norms = minigrads(graph, params, x, y)
    matrices = [params[edge] for edge in graph.E_T]
    norms["vmap(grad)"] = by_vmap(matrices, x, y)
    others = [norms["einsum"], norms["vmap(grad)"]]
    if backpack := by_backpack(matrices, x, y):
        passes["the same by BackPACK"] = backpack
        others.append(backpack)
    for other in others:
        for ours, theirs in zip(norms["norms from factors"](), other(), strict=True):
            numpy.testing.assert_allclose(ours, numpy.asarray(theirs), rtol=1e-3)
    return in_turns(passes, 10 * rounds) | in_turns(norms, 3)


def minigrads(graph, params, x, y):
    """minigrad's ways: of a backward pass with gradients, without and with norms; and of norms alone."""
    cache = mg.forward(graph, params, x)
    _, df = mg.cross_entropy(cache.v[graph.L], y)

    def backward():
        U, _ = mg.backward(graph, params, cache, df)
        return mg.gradients(graph, cache, U, {})

    def factors():
        U, _ = mg.backward(graph, params, cache, df)
        return mg.factors(graph, cache, U).values()

    def with_norms():
        found = factors()
        return [factor.matrix() for factor in found], [factor.norms() for factor in found]

    def norms():
        return [factor.norms() for factor in factors()]

    def einsum():
        found = []
        for factor in factors():
            g = numpy.einsum("bp,bq->bpq", factor.U, factor.V)
            found.append((g**2).sum(axis=(1, 2)) ** 0.5)
        return found

    passes = {"backward and gradients": backward, "the same, and norms": with_norms}
    return passes, {"norms from factors": norms, "einsum": einsum}


def tensors(matrices, x, y):
    """The same for PyTorch: weights, inputs, labels."""
    import torch

    return [torch.tensor(W) for W in matrices], torch.from_numpy(x), torch.from_numpy(y.argmax(axis=1))


def by_vmap(matrices, x, y):
    """PyTorch's per-sample gradients, and their norms."""
    import torch
    from torch.nn import functional as F

    weights, x, y = tensors(matrices, x, y)

    def loss(weights, x, y):
        for W in weights[:-1]:
            x = torch.relu(F.linear(x, W))
        return F.cross_entropy(F.linear(x, weights[-1]), y) / 128

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

    def norms():
        return [g.flatten(1).norm(dim=1) for g in per_sample(weights, x, y)]

    return norms


def by_backpack(matrices, x, y):
    """BackPACK's backward pass with gradients and norms, or None where it isn't installed."""
    import torch

    try:
        from backpack import backpack, extend
        from backpack.extensions import BatchL2Grad
    except ImportError:
        return None
    weights, x, y = tensors(matrices, x, y)
    linear = [torch.nn.Linear(*reversed(W.shape), bias=False) for W in weights]
    parts = []
    for layer, W in zip(linear, weights, strict=True):
        layer.weight.data = W
        parts += [layer, torch.nn.ReLU()]
    model = extend(torch.nn.Sequential(*parts[:-1]))  # the last layer has no ReLU
    loss = extend(torch.nn.CrossEntropyLoss())(model(x), y)

    def backward():
        model.zero_grad(set_to_none=True)
        with warnings.catch_warnings(), backpack(BatchL2Grad(), retain_graph=True):
            warnings.simplefilter("ignore")  # that x needs no gradient
            loss.backward(retain_graph=True)
        return [layer.weight.batch_l2**0.5 for layer in linear]

    return backward
