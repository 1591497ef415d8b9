"""The constant of Proposition 1: how much of W lies off the directions of the samples.

At the input matrix, g_i = l'_i E_{p,i} x_i^T + 2 lambda W (Eq. 9 and 14). The first term has no part off
e_i = x_i / ||x_i||, so ||g_i|| >= 2 lambda ||W (I - e_i e_i^T)||, whatever the loss and the other layers are.
"""

import numpy

from .sizes import TOLERANCE

STEPS = 2000


def unit_rows(x):
    return x / numpy.linalg.norm(x, axis=1, keepdims=True)


def off(W, x):
    """max_i ||W (I - e_i e_i^T)|| / ||W||."""
    e = unit_rows(x)
    along = (e @ W.T)[:, :, None] * e[:, None]
    return numpy.linalg.norm(W - along, axis=(1, 2)).max() / numpy.linalg.norm(W)


def least_off(x):
    """c, so that off(W, x) >= c at every W that is not 0, and a W at which it is hardly more.

    For any weights w_i >= 0 of sum 1, the largest ||W (I - e_i e_i^T)||^2 is at least their weighted mean,
    and so at least (1 - top) ||W||^2, where top is the largest eigenvalue of sum_i w_i e_i e_i^T. The w with
    the least top are sought by multiplicative weights: each step takes weight from the samples near the top
    eigenvector v. The W has W^T W = the mean of the v v^T of the second half.
    """
    basis, coordinates = numpy.linalg.qr(unit_rows(x).T)
    e = coordinates.T
    w = numpy.full(len(e), 1 / len(e))
    least_top, mean = 1.0, 0.0
    for step in range(1, STEPS + 1):
        eigenvalues, eigenvectors = numpy.linalg.eigh((w * e.T) @ e)
        least_top = min(least_top, eigenvalues[-1])
        v = eigenvectors[:, -1]
        rate = 5 / step**0.5
        if step > STEPS / 2:
            mean = mean + rate * numpy.outer(v, v)
        w = w * numpy.exp(-rate * (e @ v) ** 2)
        w = w / w.sum()
    squares, rows = numpy.linalg.eigh(mean)
    W = numpy.maximum(squares, 0)[:, None] ** 0.5 * (basis @ rows).T
    return (1 - least_top) ** 0.5, W


def prop_1(history, x):
    """Prop. 1 at every W: max_i ||g_i|| >= c 2 lambda ||W^{21}||, and c > 0 unless samples are collinear.

    `least` is that of the history, and `reached` is off(W, x) at some W. W^{21} = 0 makes f = 0.
    """
    c, W = least_off(x)
    least = numpy.nanmin(history["residual"])
    holds = least >= c and c**2 > TOLERANCE
    return {"least": least, "c": c, "reached": off(W, x), "holds": bool(holds)}
