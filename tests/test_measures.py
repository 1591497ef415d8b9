"""Spectra, ranks, distances: known matrices, the ends of the range, matrices that aren't finite."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.measures import norm_of_spectrum, rank_of_spectrum


def test_the_rank_counts_singular_values_relative_to_a_norm(rng):
    u, v = (np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(2))
    W = u * [1, 1, 1e-3, 1e-3, 1e-5, 0] @ v
    for M in (W, W.astype("float32")):
        assert mg.rank(M) == 4
        assert mg.rank(M, tol=2e-3) == 2
        # ||W||_F is sqrt(2) times ||W||_2.
        assert mg.rank(M, tol=0.8) == 0
        assert mg.rank(M, tol=0.8, norm="spectral") == 2
        assert mg.rank(np.float32(1e-3) * M, norm=None) == 2


def test_the_other_measures_of_known_matrices():
    before = {(2, 1): np.zeros((2, 2)), (3, 2): np.ones((1, 4))}
    after = {(2, 1): np.diag([3.0, 4.0]), (3, 2): np.ones((1, 4)) * 2}
    assert mg.distance(after, before, [(2, 1), (3, 2)]) == (5 + 2) / 2
    assert mg.stable_rank(np.diag([2.0, 1.0, 1.0])) == 1.5
    np.testing.assert_allclose(mg.effective_rank(np.diag([5.0, 5.0, 5.0, 0.0])), 3, rtol=1e-12)
    assert mg.theorem1_bound(np.eye(2), 0.0) == np.inf


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_matrix_that_is_not_finite_measures_nan_and_spares_its_neighbours(dtype, rng):
    W = rng.normal(size=(4, 5, 3)).astype(dtype)
    W[1, 2, 2], W[2], W[3] = np.nan, np.inf, 0
    np.testing.assert_array_equal(mg.rank(W), [3, np.nan, np.nan, 0])
    s = mg.singular_values(W)
    assert s.dtype == "float64"
    np.testing.assert_array_equal(s[0], mg.singular_values(W[0]))
    for measure in (mg.stable_rank, mg.effective_rank, lambda W: mg.distance_to_rank(W, 9)):
        np.testing.assert_array_equal(np.isnan(measure(W)), [False, True, True, False])
        assert measure(W)[3] == 0
    spectra = np.array([[np.inf, 1], [2, 1], [np.nan, 1]])
    np.testing.assert_array_equal(rank_of_spectrum(spectra), [np.nan, 2, np.nan])


@pytest.mark.parametrize("size", [1e-36, 1e36])
def test_no_measure_feels_that_squares_leave_the_range_of_float32(size):
    """Rank one stays rank one."""
    one = np.outer([3.0, 0, 4], [0, 0.6, 0.8, 0]).astype("float32")  # of norm 5
    W = np.float32(size) * one
    for norm in ("frobenius", "spectral"):
        assert mg.rank(W, norm=norm) == 1
        np.testing.assert_allclose(mg.distance_to_rank(W, 0, norm) / size, 5, rtol=1e-6)
        np.testing.assert_allclose(mg.theorem1_bound(W, 0.5, norm) / size, 5, rtol=1e-6)
    np.testing.assert_allclose([mg.stable_rank(W), mg.effective_rank(W)], 1, rtol=1e-6)
    assert norm_of_spectrum(mg.singular_values(W)[3:], "frobenius") == 0
    stack = np.stack([0 * W, W, one])
    moved = mg.distance({(2, 1): stack}, {(2, 1): 0 * stack}, [(2, 1)])
    np.testing.assert_allclose(moved, [0, 5 * size, 5], rtol=1e-6)


LOW = np.outer(np.arange(1, 6.0), np.arange(1, 5.0))  # of rank one
REFUSED = {
    "complex numbers": lambda: mg.singular_values(LOW * 1j),
    "a vector": lambda: mg.rank(LOW[0]),
    "a masked array": lambda: mg.effective_rank(np.ma.array(LOW)),
    "r = -1": lambda: mg.distance_to_rank(LOW, -1),
    "lam NaN": lambda: mg.theorem1_bound(LOW, np.nan),
    "tol an array": lambda: mg.rank(LOW, np.array(1e-4)),
    "tol = -1": lambda: mg.rank(LOW, -1.0),
    "another norm": lambda: mg.rank(LOW, norm="nuclear"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_measure_refuses_arguments_that_it_has_no_number_for(case):
    with pytest.raises((ValueError, TypeError), match="must"):
        REFUSED[case]()
