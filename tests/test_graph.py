"""The networks of Section 4.1 as graphs, the rules of a graph, and both passes on it."""

import numpy as np
import pytest
from problems import mixed_graph, setting

import minigrad as mg
from minigrad import Edge, Layer

IN, RELU, OUT = Layer(4), Layer(5), Layer(3, "identity")


@pytest.mark.parametrize("batchnorm", [False, True])
def test_a_residual_block_is_z_plus_relu_of_n2_w2_relu_of_n1_w1_z(batchnorm, rng):
    """Section 4.1, written out: a linear layer, two blocks, a linear output."""
    graph = mg.resnet(7, 2, 6, 3, batchnorm)
    params, x = setting(graph, rng)
    z = x @ params[2, 1].T
    for first in (3, 6):
        h = z
        for p, q in ((first, first - 1), (first + 1, first)):
            h = h @ params[p, q].T
            if batchnorm:
                h = (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + 1e-5)
                h = params["gamma", p] * h + params["beta", p]
            h = np.maximum(h, 0)
        z = z + h
    f = mg.forward(graph, params, x).v[graph.L]
    np.testing.assert_allclose(f, z @ params[9, 8].T, rtol=1e-12)


def test_the_memo_s_names_are_networks():
    hidden = (Layer(20, "relu", True, False, True),) * 2
    edges = [Edge(2, 1), Edge(3, 2), Edge(4, 3)]
    perceptron = mg.Graph([Layer(7, "identity"), *hidden, OUT], edges)
    assert mg.parse("MLP-BN-2-20", 7, 3, detached=False) == perceptron
    assert mg.parse("MLP-5-20", 7, 3) == mg.mlp(7, 5, 20, 3)
    assert mg.parse("RES-5-8", 7, 3) == mg.resnet(7, 5, 8, 3)
    assert mg.parse("RES-BN-1-8", 7, 3, scalar=False) == mg.resnet(7, 1, 8, 3, True, True, False)


@pytest.mark.parametrize("name", ["MLP-5", "mlp-5-20", "MLP-0-20", "CNN-5-20", "MLP-5-20\n"])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match="must look like"):
        mg.parse(name, n=7, k=3)


PATH = [Edge(2, 1), Edge(3, 2)]
BROKEN = {  # words: layers, edges
    "L=1": ([OUT], []),
    "layer 2: width.*got 2.0": ([IN, Layer(2.0), OUT], PATH),
    "layer 2: width.*got 0": ([IN, Layer(0), OUT], PATH),
    "layer 2: activation.*'tanh'": ([IN, Layer(5, "tanh"), OUT], PATH),
    "layer 2: batchnorm.*1": ([IN, Layer(5, "relu", 1), OUT], PATH),
    "layer 2: .*detached.*0": ([IN, Layer(5, detached=0), OUT], PATH),
    "layer 2: .*scalar.*'no'": ([IN, Layer(5, scalar="no"), OUT], PATH),
    "layer 1, the input": ([Layer(4, "identity", True), OUT], PATH[:1]),
    "layer L=2 must be linear.*relu": ([IN, RELU], PATH[:1]),
    "layer L=2 must be linear.*True": ([IN, Layer(3, "identity", True)], PATH[:1]),
    r"\(2, 1\): trainable.*'no'": ([IN, OUT], [Edge(2, 1, trainable="no")]),
    r"q < p.*\(3, 3\)": ([IN, RELU, OUT], [*PATH, Edge(3, 3)]),
    r"1 <= q.*\(3, 0\)": ([IN, RELU, OUT], [*PATH, Edge(3, 0)]),
    r"p <= L=3.*\(4, 2\)": ([IN, RELU, OUT], [*PATH, Edge(4, 2)]),
    r"once.*\(3, 2\)": ([IN, RELU, OUT], [*PATH, Edge(3, 2, False)]),
    r"\(3, 2\).*widths.*\(3, 5\)": ([IN, RELU, OUT], [Edge(2, 1), Edge(3, 2, False)]),
    "layer 2 must have an edge": ([IN, RELU, OUT], [Edge(3, 1)]),
}


@pytest.mark.parametrize("words", BROKEN)
def test_every_rule_of_a_graph_is_checked(words):
    with pytest.raises(ValueError, match=words):
        mg.Graph(*BROKEN[words])


def test_neither_pass_changes_its_arguments_and_one_cache_serves_many_cotangents(rng):
    """A layer without a path to the output has gradient zero."""
    graph = mixed_graph()
    params, x = setting(graph, rng)
    df = rng.normal(size=(7, 3))
    cache = mg.forward(graph, params, x)
    given = {"x": x, "df": df, **params, **cache.v}
    copies = {name: a.copy() for name, a in given.items()}
    first = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    second = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    mg.predict(graph, params, x)
    for name in given:
        np.testing.assert_array_equal(given[name], copies[name], err_msg=str(name))
    for name in params:
        np.testing.assert_array_equal(first[name], second[name], err_msg=str(name))
        assert first[name].any() == (name != (4, 2))
