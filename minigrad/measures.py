"""What the paper measures of a weight matrix: spectrum, rank, distances, and the bound of Theorem 1.

W is (..., d_p, d_q) and every measure (...,) in float64. A matrix that is not finite measures NaN and spares
its neighbours in the stack; nothing here turns NaN into 0. ValueError, or TypeError, for what is no matrix in
float32 or float64, and for a rank r, tolerance or lambda that is negative or NaN.
"""

from . import checks
from .backend import namespace, swap


def singular_values(W):
    """(..., min(d_p, d_q)), descending, float64.

    float32 goes through the Gram matrix in float64, which holds its squares, and whose floor is 1.5e-8 ||W||;
    float64, where tiny singular values are the point, takes the SVD.
    """
    checks.matrices("W", W)
    xp = namespace(W)
    finite = xp.isfinite(W).all(axis=-1).all(axis=-1)[..., None]
    # LAPACK refuses a whole stack for one NaN, so a matrix that is not finite is replaced by zeros first.
    M = xp.where(finite[..., None], W, xp.zeros_like(W)).astype("float64")
    if W.dtype == "float64":
        s = xp.linalg.svd(M, compute_uv=False)
    else:
        M = M if M.shape[-2] <= M.shape[-1] else swap(M)
        s = xp.maximum(xp.linalg.eigvalsh(M @ swap(M))[..., ::-1], 0) ** 0.5
    return xp.where(finite, s, xp.full_like(s, float("nan")))


def rank_of_spectrum(s, tol=1e-4, norm="frobenius"):
    """How many of the singular values s (..., r) lie above tol times the matrix's norm (Section 4.1): (...,).

    norm: "frobenius", "spectral", or None for an absolute tolerance. Zero for the zero matrix, NaN where a
    singular value is not finite.
    """
    if norm not in ("frobenius", "spectral", None):
        raise ValueError(f"norm must be 'frobenius', 'spectral' or None, got {norm!r}")
    xp = namespace(s)
    scale = 1.0 if norm is None else norm_of_spectrum(s, norm)[..., None]
    count = (s > tol * scale).sum(axis=-1).astype("float64")
    return xp.where(xp.isfinite(s).all(axis=-1), count, xp.full_like(count, float("nan")))


def norm_of_spectrum(s, norm):
    """||W|| from its singular values s (..., r): "frobenius" or "spectral"."""
    if norm == "spectral":
        return s.max(axis=-1)
    if norm == "frobenius":
        scale = _scale(s[..., :1].sum(axis=-1))  # sigma_1, and 0 of no singular values
        s = s / scale[..., None]
        return scale * (s * s).sum(axis=-1) ** 0.5
    raise ValueError(f"norm must be 'frobenius' or 'spectral', got {norm!r}")


def rank(W, tol=1e-4, norm="frobenius"):
    """The number of singular values of W / ||W|| above tol (Section 4.1); the rank of a zero matrix is 0."""
    checks.number("tol", tol)
    return rank_of_spectrum(singular_values(W), tol, norm)


def distance(after, before, edges):
    """d(W_{t+1}, W_t) of Section 4.2, the mean over `edges` of ||W_{t+1} - W_t||_F; both are as params."""
    checks.same_matrices(after, before, edges)
    return sum(_frobenius_distance(after[edge], before[edge]) for edge in edges) / len(edges)


def distance_to_rank(W, r, norm="spectral"):
    """The least ||W - Z|| over rank(Z) <= r, left in Eq. 10, by Eckart and Young: from sigma_{r+1} on."""
    checks.whole("r", r)
    s = singular_values(W)
    if r >= s.shape[-1]:
        return 0 * s[..., 0]  # NaN stays NaN
    return norm_of_spectrum(s[..., r:], norm)


def theorem1_bound(grad, lam, norm="spectral"):
    """The right side of Eq. 10 for one batch: ||grad|| / (2 lam), grad that of the regularized loss.

    Infinite at lam = 0, where the theorem says nothing.
    """
    checks.number("lam", lam)
    size = norm_of_spectrum(singular_values(grad), norm)
    return size / (2 * lam) if lam > 0 else size + float("inf")


def stable_rank(W):
    """||W||_F^2 / ||W||_2^2, between 1 and the rank; 0 for a zero matrix."""
    return stable_rank_of_spectrum(singular_values(W))


def stable_rank_of_spectrum(s):
    """The same from the singular values s (..., r)."""
    return (_relative(s) ** 2).sum(axis=-1)


def effective_rank(W):
    """exp of the entropy of sigma / sum(sigma) (Roy and Vetterli, 2007); 0 for a zero matrix."""
    return effective_rank_of_spectrum(singular_values(W))


def effective_rank_of_spectrum(s):
    """The same from the singular values s (..., r)."""
    xp = namespace(s)
    s = _relative(s)
    share = s / xp.maximum(s.sum(axis=-1, keepdims=True), 1)  # the sum is at least 1, or 0 for a zero matrix
    entropy = -(share * xp.log(xp.where(share > 0, share, xp.ones_like(share)))).sum(axis=-1)
    return xp.exp(entropy) * (s.max(axis=-1) > 0)


def _relative(s):
    """s / sigma_1, and 0 for a zero matrix."""
    xp = namespace(s)
    largest = s[..., :1]
    return s / xp.where(largest == 0, xp.ones_like(largest), largest)


def _frobenius_distance(after, before):
    D = after.astype("float64") - before
    if after.dtype == before.dtype == "float32":
        return _frobenius(D)  # float64 holds its squares
    scale = _scale(abs(D).max(axis=-1).max(axis=-1))
    return scale * _frobenius(D / scale[..., None, None])


def _frobenius(D):
    return (D * D).sum(axis=-1).sum(axis=-1) ** 0.5


def _scale(largest):
    """What to divide numbers up to `largest` by to hold their squares in float64: 1 where that holds them."""
    xp = namespace(largest)
    too_small = (largest > 0) & (largest < 1e-100)
    too_large = (largest > 1e100) & xp.isfinite(largest)
    return xp.where(too_small | too_large, largest, xp.ones_like(largest))
