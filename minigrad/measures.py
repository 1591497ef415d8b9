"""The measures of a weight matrix: spectrum, rank, distances, and the bound of Theorem 1.

W is (..., d_p, d_q) in float32 or float64, a measure (...,) in float64: NaN for a matrix that is
not finite, whose neighbours in a stack are unaffected. Squares of entries must be finite in
float64. All but `distance` raise ValueError for another dtype or shape, and for a rank, tolerance
or lambda that is negative or NaN.
"""

from . import checks
from .backend import namespace, swap


def singular_values(W):
    """(..., min(d_p, d_q)), descending, float64.

    float32 goes through the Gram matrix in float64, which is 2 to 5 times faster and whose floor,
    1.5e-8 ||W||, is far below float32's own. float64 takes the SVD.
    """
    checks.matrices("W", W)
    xp = namespace(W)
    finite = xp.isfinite(W).all(axis=-1).all(axis=-1)[..., None]
    # LAPACK refuses a whole stack for one NaN, so a matrix that is not finite is replaced by zeros.
    M = xp.where(finite[..., None], W, 0).astype("float64")
    if W.dtype == "float64":
        s = xp.linalg.svd(M, compute_uv=False)
    else:
        M = M if M.shape[-2] <= M.shape[-1] else swap(M)
        s = xp.maximum(xp.linalg.eigvalsh(M @ swap(M))[..., ::-1], 0) ** 0.5
    return xp.where(finite, s, float("nan"))


def rank_of_spectrum(s, tol=1e-4, norm="frobenius"):
    """The number of singular values s (..., r) above tol ||W|| (Section 4.1): (...,).

    norm=None counts those above tol itself. NaN where a singular value is not finite.
    """
    xp = namespace(s)
    scale = 1.0 if norm is None else norm_of_spectrum(s, norm)[..., None]
    count = (s > tol * scale).sum(axis=-1).astype("float64")
    return xp.where(xp.isfinite(s).all(axis=-1), count, float("nan"))


def norm_of_spectrum(s, norm):
    """||W|| from its singular values s (..., r): "frobenius" or "spectral"."""
    known = norm in ("frobenius", "spectral")
    checks.require(known, "norm must be 'frobenius' or 'spectral'", repr(norm))
    return s.max(axis=-1) if norm == "spectral" else (s * s).sum(axis=-1) ** 0.5


def rank(W, tol=1e-4, norm="frobenius"):
    """The number of singular values of W / ||W|| above tol (Section 4.1); 0 for a zero matrix."""
    checks.number("tol", tol)
    return rank_of_spectrum(singular_values(W), tol, norm)


def distance(after, before, edges):
    """d(W_{t+1}, W_t) of Section 4.2: the mean over edges of ||W_{t+1} - W_t||_F, from params."""
    moves = (after[edge].astype("float64") - before[edge] for edge in edges)
    return sum((D * D).sum(axis=-1).sum(axis=-1) ** 0.5 for D in moves) / len(edges)


def distance_to_rank(W, r, norm="spectral"):
    """The least ||W - Z|| over rank(Z) <= r, the left side of Eq. 10: the norm of s[r:]."""
    checks.require(r >= 0, "r must be >= 0", r)
    s = singular_values(W)
    s[..., :r] *= 0  # NaN stays NaN
    return norm_of_spectrum(s, norm)


def theorem1_bound(grad, lam, norm="spectral"):
    """||grad|| / (2 lam), the right side of Eq. 10, for the gradient of a regularized batch loss.

    Infinite at lam = 0, where the theorem says nothing.
    """
    checks.number("lam", lam)
    size = norm_of_spectrum(singular_values(grad), norm)
    return size / (2 * lam) if lam > 0 else size + float("inf")


def stable_rank(W):
    """||W||_F^2 / ||W||_2^2, between 1 and the rank; 0 for a zero matrix."""
    return (_relative(singular_values(W)) ** 2).sum(axis=-1)


def effective_rank(W):
    """exp of the entropy of s / sum(s) (Roy and Vetterli, 2007); 0 for a zero matrix."""
    s = _relative(singular_values(W))
    xp = namespace(s)
    share = s / xp.maximum(s.sum(axis=-1, keepdims=True), 1)  # the sum is 0 or at least 1
    entropy = -(share * xp.log(xp.where(share > 0, share, 1))).sum(axis=-1)
    return xp.exp(entropy) * (s.max(axis=-1) > 0)


def _relative(s):
    """s over its largest, and 0 for a zero matrix."""
    largest = s[..., :1]
    return s / namespace(s).where(largest == 0, 1, largest)
