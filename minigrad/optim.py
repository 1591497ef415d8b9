"""The SGD step on the regularized risk of Eq. 2, and the step schedule of Section 4.1."""

from .backend import fused


def sgd_step(params, velocity, factors, dscale, eta, lam, momentum):
    """In place: velocity <- momentum velocity + g, params <- params - eta velocity.

    g, the gradient of Eq. 2, is sum_j U_j V_j^T + 2 lam W for a trainable W, and dscale for gamma
    and beta. `velocity` has the keys and shapes of params and starts at zero; eta, lam, momentum
    are Python floats, or arrays (R, 1, 1) in the weights' dtype.
    """
    decay = 2 * lam
    for edge, factor in factors.items():
        _descend(params[edge], velocity[edge], factor.matrix(), eta, momentum, decay)
    for name, g in dscale.items():
        _descend(params[name], velocity[name], g, eta, momentum)


@fused
def _descend(W, velocity, g, eta, momentum, decay=None):
    velocity *= momentum
    velocity += g if decay is None else g + decay * W
    W -= eta * velocity


def step_decay(eta, epoch, milestones=(60, 100, 200), factor=0.1):
    """eta times `factor` for every milestone that `epoch`, counted from 0, has reached."""
    return eta * factor ** sum(epoch >= milestone for milestone in milestones)
