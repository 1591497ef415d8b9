"""The directed acyclic graph G = (V, E) of Section 2.1: layers and the edges that join them."""

import re
from dataclasses import dataclass

from .checks import require
from .layers import ACTIVATION


@dataclass(frozen=True)
class Layer:
    """Layer p of Eq. 3: v_p = sigma(n_p(z_p)). Its number p is its place in Graph.layers, from 1.

    `width` is d_p; `activation`, sigma, is "relu", "leaky_relu", "sigmoid" or "identity"; n_p is
    batch normalization (Eq. 5) or the identity. `detached` and `scalar` matter only with batch
    norm: both True is the memo's text, both False standard batch norm (Ioffe and Szegedy).
    """

    width: int
    activation: str = "relu"
    batchnorm: bool = False
    detached: bool = True  # A_p is a constant in the backward pass; False: the true gradient
    scalar: bool = True  # one gamma and one beta per layer; False: one per unit


@dataclass(frozen=True)
class Edge:
    """An edge from layer q to layer p > q: W^{pq}, or the identity where it is not trainable."""

    p: int
    q: int
    trainable: bool = True


@dataclass(frozen=True)
class Graph:
    """Layers 1..L, 1 the input and L the linear output, and edges. ValueError names a broken rule.

    `L`, `pred` and `E_T` are those of the legend, in ascending order; `width(p)` is d_p. A layer
    without a path to L has gradient zero. The activation of layer 1 has no meaning.
    """

    layers: tuple[Layer, ...]
    edges: tuple[Edge, ...]

    def __post_init__(self):
        layers, edges = tuple(self.layers), tuple(self.edges)
        L = len(layers)
        pred = {p: tuple(sorted(e.q for e in edges if e.p == p)) for p in range(1, L + 1)}
        E_T = tuple(sorted((e.p, e.q) for e in edges if e.trainable))
        # A frozen dataclass refuses assignments. L, pred and E_T follow from its two fields.
        vars(self).update(layers=layers, edges=edges, L=L, pred=pred, E_T=E_T)
        require(L >= 2, "a graph must have an input and an output layer", f"L={L}")
        for p, layer in enumerate(layers, start=1):
            is_width = type(layer.width) is int and layer.width >= 1
            require(is_width, f"layer {p}: width must be an integer >= 1", repr(layer.width))
            known = f"layer {p}: activation must be one of {', '.join(ACTIVATION)}"
            require(layer.activation in ACTIVATION, known, repr(layer.activation))
            switches = layer.batchnorm, layer.detached, layer.scalar
            rule = f"layer {p}: batchnorm, detached and scalar must be True or False"
            require(all(type(value) is bool for value in switches), rule, switches)
        require(not layers[0].batchnorm, "layer 1, the input, must have batchnorm=False", True)
        last = layers[-1]
        linear = last.activation == "identity" and not last.batchnorm
        require(linear, f"layer L={L} must be linear (Eq. 4): 'identity', no batch norm", last)
        for e in edges:
            edge = (e.p, e.q)
            require(type(e.trainable) is bool, f"edge {edge}: trainable must be True or False", e)
            require(1 <= e.q < e.p <= L, f"an edge (p, q) must satisfy 1 <= q < p <= L={L}", edge)
            require(pred[e.p].count(e.q) == 1, "an edge may stand in a graph only once", edge)
            widths = (self.width(e.p), self.width(e.q))
            rule = f"constant edge {edge} is the identity and must join equal widths"
            require(e.trainable or widths[0] == widths[1], rule, widths)
        for p in range(2, L + 1):
            require(pred[p], f"layer {p} must have an edge into it", "none")

    def width(self, p):
        """d_p."""
        return self.layers[p - 1].width

    def shapes(self):
        """{key: shape} of params: (d_p, d_q) on E_T; (1, 1) or (1, d_p) for gamma and beta."""
        shapes = {(p, q): (self.width(p), self.width(q)) for p, q in self.E_T}
        for p, layer in enumerate(self.layers, start=1):
            if layer.batchnorm:
                shapes["gamma", p] = shapes["beta", p] = (1, 1 if layer.scalar else layer.width)
        return shapes


def mlp(n, depth, width, k, batchnorm=False, detached=True, scalar=True):
    """MLP-[BN-]L-H: `depth` layers relu(n_p(W v)) of `width` units and a linear output layer."""
    hidden = (Layer(width, "relu", batchnorm, detached, scalar),) * depth
    layers = (Layer(n, "identity"), *hidden, Layer(k, "identity"))
    return Graph(layers, tuple(Edge(p, p - 1) for p in range(2, depth + 3)))


def resnet(n, blocks, width, k, batchnorm=False, detached=True, scalar=True):
    """RES-[BN-]L-H of Section 4.1: linear, `blocks` of z + relu(n2(W2 relu(n1(W1 z)))), linear.

    The sum of a block is a layer of its own, with two constant edges into it.
    """
    branch = Layer(width, "relu", batchnorm, detached, scalar)
    layers = [Layer(n, "identity"), Layer(width, "identity")]
    edges = [Edge(2, 1)]
    for _ in range(blocks):
        z = len(layers)
        layers += [branch, branch, Layer(width, "identity")]
        edges += [Edge(z + 1, z), Edge(z + 2, z + 1)]
        edges += [Edge(z + 3, z + 2, trainable=False), Edge(z + 3, z, trainable=False)]
    output = len(layers) + 1
    return Graph([*layers, Layer(k, "identity")], [*edges, Edge(output, output - 1)])


def parse(name, n, k, detached=True, scalar=True):
    """The graph called MLP-L-H, MLP-BN-L-H, RES-L-H or RES-BN-L-H, with n inputs and k outputs."""
    match = re.fullmatch(r"(MLP|RES)(-BN)?-([1-9]\d*)-([1-9]\d*)", name)
    require(match, "a network's name must look like MLP-5-2000 or RES-BN-5-500", repr(name))
    family, batchnorm, depth, width = match.groups()
    build = mlp if family == "MLP" else resnet
    return build(n, int(depth), int(width), k, batchnorm is not None, detached, scalar)
