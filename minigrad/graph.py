"""The directed acyclic graph G = (V, E) of Section 2.1: which layers there are and which edges join them."""

import re
from dataclasses import dataclass, field

ACTIVATIONS = ("relu", "leaky_relu", "sigmoid", "identity")


@dataclass(frozen=True)
class Layer:
    """One v_p of Eq. 3: its width d_p, its sigma, whether n_p is batch normalization (Eq. 5) or the identity.

    `detached` and `scalar` say how the memo's text departs from standard batch norm (Ioffe and Szegedy),
    which is False in both; without batch norm they have no meaning.
    """

    width: int
    activation: str = "relu"
    batchnorm: bool = False
    detached: bool = True  # A_p counts as a constant in the backward pass; False: the true gradient
    scalar: bool = True  # one gamma and one beta for the layer; False: one for each of its units


@dataclass(frozen=True)
class Edge:
    """(p, q) carries W^{pq} from layer q to layer p; with trainable=False, that is the constant identity."""

    p: int
    q: int
    trainable: bool = True


@dataclass(frozen=True)
class Graph:
    """Layers 1..L (1 the input, L the output) and edges, checked when built: ValueError names rule and value.

    A layer without a path to L is allowed: its gradients are zero. The activation of layer 1 has no meaning.
    """

    layers: tuple[Layer, ...]
    edges: tuple[Edge, ...]
    pred: dict = field(init=False, repr=False, compare=False)  # [p]: every q with an edge (p, q), ascending
    E_T: tuple = field(init=False, repr=False, compare=False)  # the trainable (p, q), ascending

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "edges", tuple(self.edges))
        self._check()
        pred = {p: tuple(sorted(e.q for e in self.edges if e.p == p)) for p in range(1, self.L + 1)}
        object.__setattr__(self, "pred", pred)
        object.__setattr__(self, "E_T", tuple(sorted((e.p, e.q) for e in self.edges if e.trainable)))

    @property
    def L(self):
        """The number of layers, which is the number of the output layer."""
        return len(self.layers)

    def shapes(self):
        """{key: shape} of the parameters: (d_p, d_q) on E_T, one or d_p entries for gamma and beta."""
        shapes = {(p, q): (self.width(p), self.width(q)) for p, q in self.E_T}
        for p, layer in enumerate(self.layers, start=1):
            if layer.batchnorm:
                shapes["gamma", p] = shapes["beta", p] = (1, 1 if layer.scalar else layer.width)
        return shapes

    def width(self, p):
        """d_p."""
        return self.layers[p - 1].width

    def _check(self):
        if self.L < 2:
            raise ValueError(f"a graph needs an input and an output layer, so L >= 2, got L={self.L}")
        for p, layer in enumerate(self.layers, start=1):
            if isinstance(layer.width, bool) or not isinstance(layer.width, int) or layer.width < 1:
                raise ValueError(f"layer {p}: width must be a positive integer, got {layer.width!r}")
            if layer.activation not in ACTIVATIONS:
                known = ", ".join(ACTIVATIONS)
                raise ValueError(f"layer {p}: activation must be one of {known}, got {layer.activation!r}")
            for name in ("batchnorm", "detached", "scalar"):
                if not isinstance(getattr(layer, name), bool):
                    raise ValueError(f"layer {p}: {name} must be True or False, got {getattr(layer, name)!r}")
        if self.layers[0].batchnorm:
            raise ValueError("layer 1 is the data and can't have batchnorm=True")
        if self.layers[-1].activation != "identity" or self.layers[-1].batchnorm:
            raise ValueError(
                f"layer L={self.L} is linear (Eq. 4): activation 'identity', no batchnorm; "
                f"got {self.layers[-1]}"
            )
        seen = set()
        for e in self.edges:
            if not 1 <= e.q < e.p <= self.L:
                raise ValueError(f"edge ({e.p}, {e.q}) must satisfy 1 <= q < p <= L={self.L}")
            if (e.p, e.q) in seen:
                raise ValueError(f"edge ({e.p}, {e.q}) may stand in the graph only once")
            if not e.trainable and self.width(e.p) != self.width(e.q):
                raise ValueError(
                    f"constant edge ({e.p}, {e.q}) is the identity and needs equal widths, "
                    f"got d_{e.p}={self.width(e.p)} and d_{e.q}={self.width(e.q)}"
                )
            seen.add((e.p, e.q))
        for p in range(2, self.L + 1):
            if not any(e.p == p for e in self.edges):
                raise ValueError(f"layer {p} must have an edge into it, got none")


def mlp(n, depth, width, k, batchnorm=False, detached=True, scalar=True):
    """MLP-[BN-]L-H: `depth` layers relu(n_p(W v)) of `width` units, a linear output; depth + 1 matrices."""
    hidden = (Layer(width, "relu", batchnorm, detached, scalar),) * depth
    layers = (Layer(n, "identity"), *hidden, Layer(k, "identity"))
    return Graph(layers, tuple(Edge(p, p - 1) for p in range(2, depth + 3)))


def resnet(n, blocks, width, k, batchnorm=False, detached=True, scalar=True):
    """RES-[BN-]L-H of Section 4.1: a linear layer, blocks z + relu(n2(W2 relu(n1(W1 z)))), a linear output.

    The sum of a block is a layer of its own, with two constant edges into it; 2 blocks + 2 matrices.
    """
    layers, edges = [Layer(n, "identity"), Layer(width, "identity")], [Edge(2, 1)]
    for _ in range(blocks):
        z = len(layers)
        layers += [Layer(width, "relu", batchnorm, detached, scalar)] * 2 + [Layer(width, "identity")]
        edges += [Edge(z + 1, z), Edge(z + 2, z + 1)]
        edges += [Edge(z + 3, z + 2, trainable=False), Edge(z + 3, z, trainable=False)]
    layers.append(Layer(k, "identity"))
    edges.append(Edge(len(layers), len(layers) - 1))
    return Graph(tuple(layers), tuple(edges))


def parse(name, n, k, detached=True, scalar=True):
    """The graph that the paper calls MLP-L-H, MLP-BN-L-H, RES-L-H or RES-BN-L-H; n inputs, k outputs."""
    match = re.fullmatch(r"(MLP|RES)(-BN)?-([1-9]\d*)-([1-9]\d*)", name)
    if not match:
        raise ValueError(
            f"a network's name must look like MLP-5-2000, MLP-BN-10-100 or RES-BN-5-500, got {name!r}"
        )
    family, batchnorm, depth, width = match.groups()
    build = {"MLP": mlp, "RES": resnet}[family]
    return build(n, int(depth), int(width), k, batchnorm is not None, detached, scalar)
