"""How many operations a GPU is told to do in a step, by the stand-in: small networks wait for that."""

import unittest.mock

import numpy
import pytest
import standin

import minigrad as mg
from minigrad import backend, layers
from minigrad.backend import fused, swap, times_transpose
from minigrad.layers import relu_backward

TRUE = (("detached", False),)
STANDARD = (("detached", False), ("scalar", False))
# For each network of the figures, the launches of a step of one run, of the same before anything was fused,
# and of 18 runs side by side. They don't depend on the width, which is small here.
LAUNCHES = {
    ("MLP-BN-10-20", ()): (238, 423, 261),
    ("MLP-BN-10-20", TRUE): (258, 453, 281),
    ("MLP-BN-10-20", STANDARD): (238, 433, 261),
    ("RES-BN-5-20", ()): (252, 442, 277),
    ("RES-BN-5-20", TRUE): (272, 472, 297),
    ("RES-BN-5-20", STANDARD): (252, 452, 277),
    ("MLP-5-20", ()): (48, 83, 61),
    ("RES-5-20", ()): (92, 162, 117),
}
B, n = 4, 12
networks = pytest.mark.parametrize("network, kind", LAUNCHES)


def setting(network, kind, R):
    """A step's arguments on the stand-in; of R runs side by side, or of one without that axis."""
    graph = mg.parse(network, n, k=10, **dict(kind))
    lead = (R,) if R > 1 else ()
    rng = numpy.random.default_rng(0)

    def stacked(a):
        return standin.asarray(numpy.ascontiguousarray(numpy.broadcast_to(a, (*lead, *a.shape))))

    params = {key: stacked(W) for key, W in mg.init_params(graph, rng).items()}
    velocity = {key: standin.zeros_like(W) for key, W in params.items()}
    x = standin.asarray(rng.normal(size=(3 * B, n)).astype("float32"))
    y = standin.asarray(numpy.eye(10, dtype="float32")[rng.integers(10, size=3 * B)])
    rows = standin.asarray(numpy.broadcast_to(numpy.arange(B), (*lead, B)).copy())
    scalars = [stacked(numpy.full((1, 1), value, "float32")) for value in (0.1, 1e-3, 0.9)]
    return graph, params, velocity, x, y, rows, scalars if R > 1 else [0.1, 1e-3, 0.9]


def step(network, kind, R):
    """(launches, copied entries) of one step, with its batch."""
    graph, params, velocity, x, y, rows, scalars = setting(network, kind, R)
    standin.reset()
    mg.train_step(graph, params, velocity, x[rows], y[rows], "cross_entropy", *scalars)
    return standin.launches, standin.copied


@networks
def test_a_step_takes_no_more_launches_than_this(network, kind):
    """Alone at most 0.6 of what it was; of 18 a run's part is below 40, and a tenth of that alone."""
    alone, before, of_18 = LAUNCHES[network, kind]
    assert step(network, kind, R=1)[0] <= alone <= 0.6 * before
    assert step(network, kind, R=18)[0] <= of_18
    assert of_18 / 18 < min(40, alone / 10)
    with unittest.mock.patch.object(backend, "_fuse", lambda xp, rule: rule):
        assert step(network, kind, R=1)[0] > 0.9 * before


@networks
def test_a_step_copies_no_matrix_for_a_product(network, kind):
    """Alone nothing; of a stack, for every matrix, v on the way forward and U for the gradient.

    With `linear` as v @ swap(W), which copies W, it fails.
    """
    graph = setting(network, kind, R=1)[0]
    batches = sum(B * (graph.width(p) + graph.width(q)) for p, q in graph.E_T)
    assert step(network, kind, R=1)[1] == 0
    assert step(network, kind, R=3)[1] == 3 * batches
    with unittest.mock.patch.object(layers, "times_transpose", lambda v, W: v @ swap(W)):
        assert step(network, kind, R=3)[1] > 3 * batches


@pytest.mark.parametrize("B", [2, 9])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_a_product_with_a_transpose_copies_the_smaller_operand(B, lead, rng):
    v, W = (standin.asarray(rng.normal(size=(*lead, *shape))) for shape in ((B, 5), (4, 5)))
    product = times_transpose(v, W)
    assert standin.copied == (min(v.size, W.size) if lead else 0)
    numpy.testing.assert_allclose(product.get(), v.get() @ swap(W.get()), rtol=1e-12, atol=1e-14)


@pytest.fixture(autouse=True)
def nothing_counted_before_the_test():
    standin.reset()


# What the stand-in counts.

OPERATIONS = {
    "operator": (lambda a: a + 1, 1),
    "reflected": (lambda a: 1 - a, 1),
    "in place": (lambda a: a.__iadd__(a), 1),
    "method": (lambda a: a.sum(axis=-1), 1),
    "function": (lambda a: standin.maximum(a, 0), 1),
    "zeros": (lambda a: standin.zeros_like(a), 1),
    "rows by number": (lambda a: a[standin.asarray([1, 0])], 1),
    "assignment": (lambda a: a.__setitem__(0, 1.0), 1),
    "fill": (lambda a: a.fill(1), 1),
    "two of them": (lambda a: a * a + 1, 2),
    "copy": (lambda a: swap(a).copy(), 1),
    "reshape that copies": (lambda a: swap(a).reshape(-1), 1),
    "reshape": (lambda a: a.reshape(-1), 0),
    "view": (lambda a: swap(a[0]), 0),
    "broadcast": (lambda a: standin.broadcast_to(a, (5, *a.shape)), 0),
    "shape": (lambda a: a.shape, 0),
    "from the host": (lambda a: standin.asarray(numpy.ones(3)), 0),
    "product": (lambda a: a @ swap(a), 2),
    "product of matrices": (lambda a: a[0] @ swap(a[0]), 1),
    "product of stacks as they lie": (lambda a: a @ a[..., :2, :2].copy(), 2),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_stand_in_counts_the_launches_of(operation):
    a = standin.asarray(numpy.ones((3, 2, 2)))
    compute, launches = OPERATIONS[operation]
    compute(a)
    assert standin.launches == launches


def test_what_the_stand_in_computes_lies_in_c_order_as_in_cupy():
    a = swap(standin.ones((3, 2, 4)))
    for result in (a * 2, 2 * a, a + a, -a, standin.exp(a), standin.where(a > 0, a, 0), relu_backward(a, a)):
        assert result.flags.c_contiguous
    assert not a.flags.c_contiguous


# Fused rules.


@fused
def descend(W, g, eta, decay=None):
    g = g if decay is None else g + decay * W
    W -= eta * g
    return W * W, W > 0


@pytest.mark.parametrize("lead", [(), (3,)])
def test_a_fused_rule_is_one_launch_and_the_same_rule(lead, rng):
    W, g = (rng.normal(size=(*lead, 4, 5)).astype("float32") for _ in range(2))
    eta = numpy.full((*lead, 1, 1), 0.1, "float32") if lead else 0.1
    for more in ((), (0.01,)):
        on_device = [standin.asarray(a) if hasattr(a, "dtype") else a for a in (W, g, eta)]
        standin.reset()
        found = descend(*on_device, *more)
        assert standin.launches == 1
        expected = descend(W, g, eta, *more)
        for one, other in zip((*found, on_device[0]), (*expected, W)):
            numpy.testing.assert_array_equal(one.get(), other, strict=True)


UNFIT = {
    "a method": (lambda a, lam: a.sum(axis=-1), AttributeError),
    "a product of matrices": (lambda a, lam: a @ a, TypeError),
    "a function of the library": (lambda a, lam: backend.namespace(a).maximum(a, 0), KeyError),
    "a decision": (lambda a, lam: a if a > 0 else lam * a, TypeError),
    "an operation on numbers alone": (lambda a, lam: 2 * lam * a, TypeError),
}


@pytest.mark.parametrize("rule", UNFIT)
def test_the_stand_in_fuses_no_more_than_cupy_does_well(rule):
    unfit, error = UNFIT[rule]
    with pytest.raises(error):
        standin.fuse(unfit)(standin.ones((2, 2)), 0.5)
    fit = standin.fuse(lambda a, lam: lam * a)
    assert fit(standin.ones((2, 2), "float32"), 0.5).dtype == "float32"


@pytest.mark.gpu
def test_cupy_fuses_as_the_stand_in_says():
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("CuPy finds no CUDA GPU on this machine")
    a = cupy.ones((2, 2), "float32")
    assert cupy.fuse(lambda a, lam: lam * a)(a, 0.5).dtype == "float32"
    rng = numpy.random.default_rng(0)
    W, g = (rng.normal(size=(3, 4, 5)).astype("float32") for _ in range(2))
    eta = numpy.full((3, 1, 1), 0.1, "float32")
    on_device = [cupy.asarray(array) for array in (W, g, eta)]
    found = descend(*on_device, 0.01)
    expected = descend(W, g, eta, 0.01)
    for one, other in zip((*found, on_device[0]), (*expected, W)):
        assert one.dtype == other.dtype
        numpy.testing.assert_allclose(one.get(), other, rtol=1e-5, atol=1e-6)
