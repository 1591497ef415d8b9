"""The networks of Section 4.1 as graphs, and the rules that a graph must satisfy."""

import numpy as np
import pytest

import minigrad as mg

IN, RELU, OUT = mg.Layer(4, "identity"), mg.Layer(5), mg.Layer(3, "identity")


def test_an_mlp_has_depth_hidden_layers_and_one_matrix_more():
    graph = mg.mlp(7, 4, 6, 3)
    assert graph.L == 6
    assert graph.E_T == ((2, 1), (3, 2), (4, 3), (5, 4), (6, 5))
    activations = [layer.activation for layer in graph.layers[1:]]
    assert activations == ["relu", "relu", "relu", "relu", "identity"]


@pytest.mark.parametrize("batchnorm", [False, True])
def test_a_residual_block_is_z_plus_relu_of_n2_w2_relu_of_n1_w1_z(batchnorm):
    """Section 4.1, written out: a linear layer, two blocks, a linear output."""
    rng = np.random.default_rng(0)
    graph = mg.resnet(7, 2, 6, 3, batchnorm)
    params = mg.init_params(graph, rng, dtype="float64")
    x = rng.normal(size=(9, 7))
    z = x @ params[2, 1].T
    for first in (3, 6):
        h = z
        for p, q in ((first, first - 1), (first + 1, first)):
            h = h @ params[p, q].T
            if batchnorm:
                params["gamma", p] += 0.5
                params["beta", p] -= 0.2
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
def test_the_paper_s_names_are_networks(name, graph):
    assert mg.parse(name, n=7, k=3) == graph


@pytest.mark.parametrize("name", ["MLP-BN-2-8", "RES-BN-2-8"])
def test_the_two_switches_of_batch_norm_reach_every_normalized_layer(name):
    graph = mg.parse(name, n=7, k=3, detached=False, scalar=False)
    params = mg.init_params(graph, np.random.default_rng(0))
    normalized = [p for p, layer in enumerate(graph.layers, start=1) if layer.batchnorm]
    assert len(normalized) >= 2
    for p in normalized:
        layer = graph.layers[p - 1]
        assert not layer.detached
        assert not layer.scalar
        assert params["gamma", p].shape == (1, 8)
        assert params["beta", p].shape == (1, 8)
    of_the_memo = mg.parse(name, n=7, k=3)
    for layer in of_the_memo.layers:
        assert layer.detached
        assert layer.scalar


@pytest.mark.parametrize(
    "name",
    [
        "",
        "MLP",
        "MLP-5",
        "mlp-5-20",
        "MLP-0-20",
        "MLP-5-0",
        "MLP-5-20-1",
        "CNN-5-20",
        "MLP-BN5-20",
        "MLP-5-2e3",
        "MLP-5-20\n",
    ],
)
def test_another_name_is_refused_with_examples(name):
    with pytest.raises(ValueError, match="must look like MLP-5-2000.*got"):
        mg.parse(name, n=7, k=3)


@pytest.mark.parametrize(
    "layers, edges, words",
    [
        ([OUT], [], "L >= 2"),
        ([IN, mg.Layer(0), OUT], [mg.Edge(2, 1), mg.Edge(3, 2)], "layer 2: width.*got 0"),
        ([IN, mg.Layer(2.0), OUT], [mg.Edge(2, 1), mg.Edge(3, 2)], "layer 2: width.*got 2.0"),
        ([IN, mg.Layer(True), OUT], [mg.Edge(2, 1), mg.Edge(3, 2)], "layer 2: width.*got True"),
        ([IN, mg.Layer(5, "tanh"), OUT], [mg.Edge(2, 1), mg.Edge(3, 2)], "layer 2: activation.*got 'tanh'"),
        ([IN, mg.Layer(5, "relu", 1), OUT], [mg.Edge(2, 1)], "layer 2: batchnorm must be True.*got 1"),
        ([IN, mg.Layer(5, detached=0), OUT], [mg.Edge(2, 1)], "layer 2: detached must be True or False.*0"),
        ([IN, mg.Layer(5, scalar="no"), OUT], [mg.Edge(2, 1)], "layer 2: scalar must be True.*got 'no'"),
        ([mg.Layer(4, "identity", True), OUT], [mg.Edge(2, 1)], "layer 1 is the data"),
        ([IN, RELU], [mg.Edge(2, 1)], "layer L=2 is linear"),
        ([IN, mg.Layer(3, "identity", True)], [mg.Edge(2, 1)], "layer L=2 is linear"),
        ([IN, RELU, OUT], [mg.Edge(2, 1), mg.Edge(3, 3)], r"edge \(3, 3\) must satisfy"),
        ([IN, RELU, OUT], [mg.Edge(2, 1), mg.Edge(2, 3)], r"edge \(2, 3\) must satisfy"),
        ([IN, RELU, OUT], [mg.Edge(2, 1), mg.Edge(3, 0)], r"edge \(3, 0\) must satisfy"),
        ([IN, RELU, OUT], [mg.Edge(2, 1), mg.Edge(4, 2)], r"edge \(4, 2\) must satisfy"),
        ([IN, RELU, OUT], [mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(3, 2, False)], r"edge \(3, 2\) may stand"),
        ([IN, RELU, OUT], [mg.Edge(2, 1), mg.Edge(3, 2, False)], r"constant edge \(3, 2\).*d_3=3 and d_2=5"),
        ([IN, RELU, OUT], [mg.Edge(3, 1)], "layer 2 must have an edge into it"),
    ],
)
def test_every_rule_of_a_graph_is_checked(layers, edges, words):
    with pytest.raises(ValueError, match=words):
        mg.Graph(layers, edges)


def test_a_layer_without_a_path_to_the_output_has_gradient_zero():
    unread = mg.Layer(5, batchnorm=True)
    graph = mg.Graph([IN, RELU, unread, OUT], [mg.Edge(2, 1), mg.Edge(3, 2), mg.Edge(4, 2)])
    rng = np.random.default_rng(1)
    params = mg.init_params(graph, rng)
    cache = mg.forward(graph, params, rng.normal(size=(6, 4)).astype("float32"))
    U, dscale = mg.backward(graph, params, cache, np.ones((6, 3), "float32"))
    grads = mg.gradients(graph, cache, U, dscale)
    assert not grads[3, 2].any()
    assert not grads["gamma", 3].any()
    assert grads[2, 1].any()


def test_neither_pass_changes_what_it_is_given():
    rng = np.random.default_rng(2)
    graph = mg.resnet(4, 2, 5, 3, batchnorm=True)
    params, x = mg.init_params(graph, rng), rng.normal(size=(6, 4)).astype("float32")
    df = rng.normal(size=(6, 3)).astype("float32")
    given = {"x": x, "df": df, **params}
    copies = {name: a.copy() for name, a in given.items()}
    cache = mg.forward(graph, params, x)
    kept = {p: v.copy() for p, v in cache.v.items()}
    first = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    # One cache serves many cotangents.
    second = mg.gradients(graph, cache, *mg.backward(graph, params, cache, df))
    mg.predict(graph, params, x)
    for name in given:
        np.testing.assert_array_equal(given[name], copies[name], err_msg=str(name))
    for p in kept:
        np.testing.assert_array_equal(cache.v[p], kept[p], err_msg=f"v[{p}]")
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=str(name))
