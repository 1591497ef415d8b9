"""minigrad: Galanti and Poggio, "SGD Noise and Implicit Low-Rank Bias in Deep Neural Networks".

CBMM Memo 134, 2022. A network is a graph of layers (Eq. 3 and 4), its parameters are a flat dict of
arrays, and everything else is a function. The last two axes of an array have meaning. Every axis in
front is free: stacked runs, and cotangents in front of them.

THE LEGEND: the paper's symbols and a few of ours.

    p, q        layers 1..L, 1 the input and L the output; an edge (p, q) joins q to p, and q < p
    E_T         the trainable edges (p, q); pred[p] is every q with an edge (p, q)
    x           inputs, one row per sample                              (..., B, n)
    v[q]        the output of layer q; v[1] is x                        (..., B, d_q)
    W           params[p, q], the weight W^{pq} of a trainable edge     (..., d_p, d_q)
    gamma, beta params["gamma", p] and params["beta", p] of Eq. 5       (..., 1, 1) or (..., 1, d_p)
    z           sum over pred(p) of W^{pq} v_q, before normalization    (..., B, d_p)
    A, b        the diagonal of A_l and the batch mean b_l of Eq. 5     (..., 1, d_p)
    a           n_p(z), before the activation sigma                     (..., B, d_p)
    f           v[L], the output of the network                         (..., B, k)
    df          cotangent of the output, d loss / d f                   (..., B, k)
    dscale      cotangents of gamma and beta, keyed as params           as their parameter
    U[p]        cotangent at z_p: d loss / d W^{pq} = sum_j U_p[j] v_q[j]^T   (..., B, d_p)
    V           v[q] as a factor of that gradient                       (..., B, d_q)
    y           target: one-hot rows, real values, or -1/+1 for k = 1   (..., B, k)
    g           a gradient of Eq. 2                                     as its parameter
    s           singular values, descending                             (..., r)
    eta, lam    learning rate; lambda of Eq. 2, whose gradient is 2 lam W
    B, m, n, k  batch size, training samples, inputs (in batch norm: A (z - b)), outputs
    H, L, d     width, depth, the width of a layer
    R, r        the shape of the runs' axes; a rank
    D, M        a direction or difference; a matrix                     as W
    e, h, i, j  an edge, the step of a difference, indices

A cotangent is `d` and the name of its value: dz, dv, df. Reading order: graph, layers, network,
tests/test_mathematics.py, then losses, optim, measures, train. Where they lead you, backend (NumPy
or CuPy), checks (of arguments), gradcheck, datasets, fingerprint and fast (compiled steps).
"""

from .backend import BackendError, load_backend
from .datasets import DataError, Dataset, load_dataset
from .gradcheck import check_gradient
from .graph import Edge, Graph, Layer, mlp, parse, resnet
from .losses import cross_entropy, exponential, logistic, mean_squared_error
from .measures import distance, distance_to_rank, effective_rank, rank
from .measures import singular_values, stable_rank, theorem1_bound
from .network import Cache, GradFactors, Stats, backward, factors, forward
from .network import gradients, init_params, per_sample, predict
from .optim import sgd_step, step_decay
from .train import batches, evaluate, train_epoch, train_step
