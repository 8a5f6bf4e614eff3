"""The norms of activations in float64 NumPy, for the modules of both rooms."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SHAPE = (4, 3, 5, 6)


class Norm(NamedTuple):
    """One of the five norms of activations."""

    stats_shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    center: bool
    epsilon: float
    fields: dict[str, Any]


NORMS = {
    "BatchNorm": Norm(lambda s: (1,) * (len(s) - 1) + s[-1:], True, 1e-5, {}),
    "LayerNorm": Norm(lambda s: (*s[:-1], 1), True, 1e-6, {}),
    "RMSNorm": Norm(lambda s: (*s[:-1], 1), False, 1e-6, {}),
    "GroupNorm": Norm(lambda s: (s[0], *(1,) * (len(s) - 2), 2), True, 1e-6, {"num_groups": 2}),
    "InstanceNorm": Norm(lambda s: (s[0], *(1,) * (len(s) - 2), s[-1]), True, 1e-6, {}),
}


class Reference(NamedTuple):
    """What a norm makes of an array, in float64."""

    y: np.ndarray
    mean: np.ndarray  # [*stats_shape]
    var: np.ndarray  # [*stats_shape]


def reference(norm: Norm, x, weights=1.0) -> Reference:
    """Returns `x` normalized by its weighted moments."""
    stats_shape = norm.stats_shape(x.shape)
    xs, ws, axes = _blocks(x, weights, stats_shape)
    total = np.maximum(ws.sum(axes, keepdims=True), 1e-9)
    mean = (ws * xs).sum(axes, keepdims=True) / total * norm.center
    var = (ws * (xs - mean) ** 2).sum(axes, keepdims=True) / total
    y = (xs - mean) / np.sqrt(var + norm.epsilon)
    return Reference(y.reshape(x.shape), mean.reshape(stats_shape), var.reshape(stats_shape))


def reference_gradient(norm: Norm, x, cotangent, weights=1.0) -> np.ndarray:
    """Returns the gradient of `sum(cotangent * y)` with respect to `x`, in closed form."""
    stats_shape = norm.stats_shape(x.shape)
    xs, ws, axes = _blocks(x, weights, stats_shape)
    total = ws.sum(axes, keepdims=True)
    mean = (ws * xs).sum(axes, keepdims=True) / total * norm.center
    rstd = 1 / np.sqrt((ws * (xs - mean) ** 2).sum(axes, keepdims=True) / total + norm.epsilon)
    g = np.asarray(cotangent, np.float64).reshape(xs.shape)
    xhat = (xs - mean) * rstd
    pull = xhat * (g * xhat).sum(axes, keepdims=True) / total
    push = g.sum(axes, keepdims=True) / total * norm.center
    return (rstd * (g - ws * (push + pull))).reshape(x.shape)


def _blocks(x, weights, stats_shape):
    weights = np.broadcast_to(np.asarray(weights, np.float64), x.shape)
    x = np.where(weights > 0, np.asarray(x, np.float64), 0.0)
    split = [k for n, s in zip(x.shape, stats_shape, strict=True) for k in (s, n // s)]
    return x.reshape(split), weights.reshape(split), tuple(range(1, len(split), 2))


def sample(ratio: float = 0.0, shape=SHAPE, seed: int = 0) -> np.ndarray:
    """Returns a standard normal sample plus an offset, in float32."""
    return (np.random.default_rng(seed).normal(size=shape) + ratio).astype(np.float32)


def relative_error(actual, expected) -> float:
    """Returns the largest difference in units of the largest expected entry."""
    expected = np.asarray(expected)
    difference = np.abs(np.asarray(actual, expected.dtype) - expected)
    return float(difference.max() / np.abs(expected).max())
