"""Proposition 1's constant, against what is known of two samples, a search by brute force, and faults."""

import numpy as np
import pytest

import minigrad as mg
from experiments.theory import convergence, directions

from problems import clusters


def test_training_stays_above_prop_1_s_bound_and_one_residual_below_it_is_seen(rng):
    x, y = clusters(rng)
    graph = mg.mlp(6, 1, 4, 1)
    for B in (8, 2):
        history, _ = convergence.descend(graph, x, y, B, 0.5, 0.05, "mean_squared_error", 4000)
        assert directions.prop_1(history, x)["holds"]
    dip = history["residual"].copy()
    dip[len(dip) // 2] = 0.1  # below the bound once, in the middle
    assert not directions.prop_1(history | {"residual": dip}, x)["holds"]


def residual_of(W, a, x):
    """max_i ||g_i|| / 2 lambda ||W|| where g_i / 2 lambda = a_i x_i^T + W."""
    g = a[:, :, None] * x[:, None] + W
    return np.linalg.norm(g, axis=(1, 2)).max() / np.linalg.norm(W)


def best(W, x):
    """The a_i for which ||g_i|| is least."""
    return -(W @ x.T).T / (x**2).sum(axis=1)[:, None]


@pytest.mark.parametrize("angle", [0.1, 0.5, np.pi / 2])
def test_the_bound_of_prop_1_is_reached_between_two_samples_and_never_crossed(angle, rng):
    """Over W and any a_i, the vectors l'_i E_{p,i} / 2 lambda; the worst W looks between the samples."""
    x = np.array([[1.0, 0.0], [2 * np.cos(angle), 2 * np.sin(angle)]])
    c = directions.prop_1({"residual": np.array([1.0])}, x)["c"]
    between = rng.normal(size=(3, 1)) * [[np.cos(angle / 2), np.sin(angle / 2)]]
    reached = residual_of(between, best(between, x), x)
    np.testing.assert_allclose([reached, c], np.sin(angle / 2), rtol=1e-9)
    for _ in range(300):
        W, noise = rng.normal(size=(3, 2)), 10 ** rng.uniform(-4, 1)
        a = best(W, x) + noise * rng.normal(size=(2, 3))
        assert residual_of(W, a, x) >= c * (1 - 1e-12)


@pytest.mark.parametrize("line", [[[1.0, 2.0], [-2.0, -4.0]], [[1.0, 2.0]]])
def test_there_is_no_bound_on_a_line(line):
    assert not directions.prop_1({"residual": np.array([1.0])}, np.array(line))["holds"]


def plane(*angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


KNOWN = [  # samples, and how far off their directions W has to be
    (plane(0, 0.5), np.sin(0.25)),
    (plane(0, 2.5), np.cos(1.25)),  # the lines, not the vectors, are what is near
    (plane(0, 0, np.pi, 0.5) * [[1], [3], [2], [5]], np.sin(0.25)),  # nor repeated or scaled ones
    (plane(0, np.pi / 3, 2 * np.pi / 3, 0, 0), 0.5**0.5),
    (np.diag([1.0, 2.0, 3.0, 4.0]), 0.75**0.5),
]


@pytest.mark.parametrize("x, known", KNOWN)
def test_the_constant_of_known_samples(x, known):
    c, W = directions.least_off(x)
    reached = directions.off(W, x)
    assert c <= known * (1 + 1e-12) and reached >= known * (1 - 1e-12)
    assert c == pytest.approx(known, abs=1e-3) and reached == pytest.approx(known, abs=1e-3)


def test_equal_weights_of_the_samples_give_less(monkeypatch):
    """The fault: only the first step is taken, and a sample that is repeated counts as often."""
    monkeypatch.setattr(directions, "STEPS", 1)
    for x, known in KNOWN[2:4]:
        c, _ = directions.least_off(x)
        assert c < known - 0.02


def test_off_is_the_largest_part_of_W_that_a_projection_leaves(rng):
    x, W = rng.normal(size=(4, 5)), rng.normal(size=(3, 5))
    parts = []
    for sample in x:
        projection = np.outer(sample, sample) / (sample @ sample)
        parts.append(np.linalg.norm(W @ (np.eye(5) - projection)))
    assert directions.off(W, x) == pytest.approx(max(parts) / np.linalg.norm(W), rel=1e-12)


def by_brute_force(x):
    """The best weights of three samples on a grid."""
    terms = [np.outer(sample, sample) / (sample @ sample) for sample in x]
    least_top = 1.0
    for first in range(101):
        for second in range(101 - first):
            weights = (first / 100, second / 100, (100 - first - second) / 100)
            mean = sum(w * term for w, term in zip(weights, terms))
            least_top = min(least_top, np.linalg.eigvalsh(mean)[-1])
    return (1 - least_top) ** 0.5


@pytest.mark.parametrize("seed", range(3))
def test_the_constant_is_that_of_the_best_weights_and_no_matrix_is_below_it(seed):
    rng = np.random.default_rng(seed)
    x = 1 + rng.normal(size=(3, 4))
    c, W = directions.least_off(x)
    assert c == pytest.approx(by_brute_force(x), abs=5e-3)
    assert c <= directions.off(W, x) < c + 1e-3
    for _ in range(1000):
        spread = 10 ** rng.uniform(-4, 0)
        assert directions.off(W + spread * rng.normal(size=W.shape), x) >= c
