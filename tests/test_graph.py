"""The networks of Section 4.1 as graphs, the rules of a graph, and both passes on it."""

import numpy as np
import pytest
from problems import mixed_graph, setting

import minigrad as mg
from minigrad import Edge, Layer

IN, RELU, OUT = Layer(4, "identity"), Layer(5), Layer(3, "identity")


def test_an_mlp_has_depth_hidden_layers_and_one_matrix_more():
    graph = mg.mlp(7, 4, 6, 3)
    assert graph.L == 6
    assert graph.E_T == ((2, 1), (3, 2), (4, 3), (5, 4), (6, 5))
    activations = [layer.activation for layer in graph.layers[1:]]
    assert activations == ["relu", "relu", "relu", "relu", "identity"]


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
    assert len(graph.E_T) == 6


@pytest.mark.parametrize(
    "name, graph",
    [
        ("MLP-5-20", mg.mlp(7, 5, 20, 3)),
        ("MLP-BN-10-6", mg.mlp(7, 10, 6, 3, batchnorm=True)),
        ("RES-5-8", mg.resnet(7, 5, 8, 3)),
        ("RES-BN-1-8", mg.resnet(7, 1, 8, 3, batchnorm=True)),
    ],
)
def test_the_memo_s_names_are_networks(name, graph):
    assert mg.parse(name, n=7, k=3) == graph


@pytest.mark.parametrize("name", ["MLP-BN-2-8", "RES-BN-2-8"])
@pytest.mark.parametrize("value", [True, False])
def test_the_two_switches_of_batch_norm_reach_every_normalized_layer(name, value):
    graph = mg.parse(name, n=7, k=3, detached=value, scalar=value)
    normalized = [p for p, layer in enumerate(graph.layers, start=1) if layer.batchnorm]
    assert len(normalized) >= 2
    for p in normalized:
        assert graph.layers[p - 1].detached == graph.layers[p - 1].scalar == value
        assert graph.shapes()["gamma", p] == graph.shapes()["beta", p] == (1, 1 if value else 8)


NAMES = ["", "MLP-5", "mlp-5-20", "MLP-0-20", "MLP-5-0", "MLP-5-20-1", "CNN-5-20", "MLP-5-20\n"]


@pytest.mark.parametrize("name", NAMES)
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match="must look like"):
        mg.parse(name, n=7, k=3)


@pytest.mark.parametrize(
    "layers, edges, words",
    [
        ([OUT], [], "L=1"),
        ([IN, Layer(0), OUT], [Edge(2, 1), Edge(3, 2)], "layer 2: width.*got 0"),
        ([IN, Layer(2.0), OUT], [Edge(2, 1), Edge(3, 2)], "layer 2: width.*got 2.0"),
        ([IN, Layer(True), OUT], [Edge(2, 1), Edge(3, 2)], "layer 2: width.*got True"),
        ([IN, Layer(5, "tanh"), OUT], [Edge(2, 1), Edge(3, 2)], "layer 2: activation.*'tanh'"),
        ([IN, Layer(5, "relu", 1), OUT], [Edge(2, 1)], "layer 2: batchnorm.*got 1"),
        ([IN, Layer(5, detached=0), OUT], [Edge(2, 1)], "layer 2: detached.*got 0"),
        ([IN, Layer(5, scalar="no"), OUT], [Edge(2, 1)], "layer 2: scalar.*'no'"),
        ([IN, OUT], [Edge(2, 1, trainable="no")], r"\(2, 1\): trainable.*'no'"),
        ([Layer(4, "identity", True), OUT], [Edge(2, 1)], "layer 1, the input"),
        ([IN, RELU], [Edge(2, 1)], "layer L=2"),
        ([IN, Layer(3, "identity", True)], [Edge(2, 1)], "layer L=2"),
        ([IN, RELU, OUT], [Edge(2, 1), Edge(3, 3)], r"q < p.*\(3, 3\)"),
        ([IN, RELU, OUT], [Edge(2, 1), Edge(2, 3)], r"q < p.*\(2, 3\)"),
        ([IN, RELU, OUT], [Edge(2, 1), Edge(3, 0)], r"1 <= q.*\(3, 0\)"),
        ([IN, RELU, OUT], [Edge(2, 1), Edge(4, 2)], r"p <= L=3.*\(4, 2\)"),
        ([IN, RELU, OUT], [Edge(2, 1), Edge(3, 2), Edge(3, 2, False)], r"once.*\(3, 2\)"),
        ([IN, RELU, OUT], [Edge(2, 1), Edge(3, 2, False)], r"\(3, 2\).*widths.*\(3, 5\)"),
        ([IN, RELU, OUT], [Edge(3, 1)], "layer 2 must have an edge"),
    ],
)
def test_every_rule_of_a_graph_is_checked(layers, edges, words):
    with pytest.raises(ValueError, match=words):
        mg.Graph(layers, edges)


def test_a_layer_without_a_path_to_the_output_has_gradient_zero(rng):
    graph = mixed_graph()
    params, x = setting(graph, rng)
    cache = mg.forward(graph, params, x)
    U, dscale = mg.backward(graph, params, cache, rng.normal(size=(7, 3)))
    grads = mg.gradients(graph, cache, U, dscale)
    assert not grads[4, 2].any()
    assert all(g.any() for key, g in grads.items() if key != (4, 2))


@pytest.mark.parametrize("graph", [mg.resnet(5, 2, 6, 3, batchnorm=True), mixed_graph()])
def test_neither_pass_changes_its_arguments_and_one_cache_serves_many_cotangents(graph, rng):
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
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=str(name))
