"""Normalization in float64: NumPy's closed forms, and plain JAX for automatic differentiation."""

import jax.numpy as jnp
import numpy as np

from tests.stats.reference import reference_moments, sample_sum, spread, wide


def reference_standardize(
    x, stats_shape, epsilon, *, weights=None, center=True, scale=1.0, bias=0.0
):
    """Returns `(x - mean) / sqrt(var + epsilon) * scale + bias` in float64."""
    x = wide(x)
    mean, var, _ = reference_moments(x, stats_shape, weights, center)
    rstd = 1 / np.sqrt(spread(var, x.shape) + epsilon)
    return (x - spread(mean, x.shape)) * rstd * wide(scale) + wide(bias)


def reference_gradient(x, cotangent, stats_shape, epsilon, *, weights=None, center=True, scale=1.0):
    """Returns the gradient of `sum(cotangent * y)` with respect to `x`, in float64.

    `dx = rstd (c - w / W (sum(c) + xhat sum(c xhat)))` with `c = cotangent * scale`.
    """
    x, c = wide(x), wide(cotangent) * wide(scale)
    w = np.broadcast_to(wide(1.0 if weights is None else weights), x.shape)
    mean, var, count = reference_moments(x, stats_shape, weights, center)
    rstd = 1 / np.sqrt(spread(var, x.shape) + epsilon)
    xhat = (x - spread(mean, x.shape)) * rstd
    pull = xhat * spread(sample_sum(c * xhat, stats_shape), x.shape)
    push = spread(sample_sum(c, stats_shape), x.shape) if center else 0
    return rstd * (c - w / spread(count, x.shape) * (push + pull))


def naive_moments(x, stats_shape, weights=None, center=True):
    """Returns mean, variance and count in plain JAX, for float64 and automatic differentiation."""
    w = jnp.ones_like(x.real) if weights is None else jnp.broadcast_to(weights, x.shape)
    count = naive_sum(w, stats_shape)
    mean = naive_sum(w * x, stats_shape) / count if center else jnp.zeros(stats_shape, x.dtype)
    deviation = x - naive_spread(mean, x.shape)
    square = (deviation * jnp.conj(deviation)).real
    return mean, naive_sum(w * square, stats_shape) / count, count


def naive_standardize(x, stats_shape, epsilon, *, weights=None, center=True, scale=1.0, bias=0.0):
    """Returns the normalized array and its moments in plain JAX."""
    mean, var, count = naive_moments(x, stats_shape, weights, center)
    deviation = x - naive_spread(mean, x.shape)
    y = deviation / jnp.sqrt(naive_spread(var + epsilon, x.shape)) * scale + bias
    return y, (mean, var, count)


def naive_sum(x, stats_shape):
    """Returns the sum of `x` over the sample of each statistic."""
    sizes = [size for n, s in zip(x.shape, stats_shape, strict=True) for size in (s, n // s)]
    return x.reshape(sizes).sum(axis=tuple(range(1, 2 * x.ndim, 2)))


def naive_spread(statistic, shape):
    """Returns `statistic` repeated to `shape`."""
    for axis, n in enumerate(shape):
        statistic = jnp.repeat(statistic, n // statistic.shape[axis], axis=axis)
    return statistic
