"""Norms of sums, activated and quantized, in float64 NumPy."""

import numpy as np

from tests.ops.reference import reference_gradient, reference_standardize
from tests.stats.reference import reference_moments, sample_sum, spread, wide

ACTIVATIONS = ("relu", "silu", "gelu")


def reference_activation(name, z):
    """Returns the activation of z, and its derivative, from their definitions."""
    if name is None:
        return z, np.ones_like(z)
    if name == "relu":
        return np.maximum(z, 0), (z > 0).astype(np.float64)
    if name == "silu":
        share = 1 / (1 + np.exp(-z))
        return z * share, share * (1 + z * (1 - share))
    root = np.sqrt(2 / np.pi)
    inside = np.tanh(root * (z + 0.044715 * z**3))
    slope = root * (1 + 3 * 0.044715 * z**2) * (1 - inside**2)
    return z * (1 + inside) / 2, (1 + inside) / 2 + z / 2 * slope


def reference_fused(case, total, scale, bias, activation, cotangents, *, epsilon, center=True):
    """Returns y, and the gradients of the sum, scale and bias.

    Args:
        case: the shapes.
        total: what is normalized.
        scale: of `case.affine_shape`.
        bias: likewise.
        activation: its name, or None.
        cotangents: those of y and of the sum.
        epsilon: added to the variance.
        center: whether the mean is subtracted.
    """
    total, scale, bias = map(wide, (total, scale, bias))
    ct, ct_total = map(wide, cotangents)
    affine = {"center": center, "scale": scale}
    z = reference_standardize(total, case.stats_shape, epsilon, bias=bias, **affine)
    y, slope = reference_activation(activation, z)
    ct = ct * slope
    d_total = ct_total + reference_gradient(total, ct, case.stats_shape, epsilon, **affine)
    mean, var, _ = reference_moments(total, case.stats_shape, center=center)
    rstd = 1 / np.sqrt(spread(var, case.shape) + epsilon)
    xhat = (total - spread(mean, case.shape)) * rstd
    return y, d_total, *(sample_sum(v, case.affine_shape) for v in (ct * xhat, ct))
