"""The one derivative of normalization, written as a tangent.

With `xhat = (x - mean) * rstd`:
`dy = scale * rstd * (dx - dmean) - scale * xhat * rstd^2 / 2 * dvar + xhat * dscale + dbias`.
Forward mode is this formula; reverse mode is its transpose, which JAX derives. Callers wrap it in
`jax.checkpoint`, so that what is kept for the backward pass are its inputs.
"""

import jax.numpy as jnp
from jax import lax

from jaxnorm.stats import _shapes
from jaxnorm.typing import Array, Shape


def reciprocal_std(var: Array, epsilon: Array, count: Array | None = None) -> Array:
    """Returns `1 / sqrt(var + epsilon)`, and one where no sample stands behind the variance.

    Args:
        var: [*stats_shape], real.
        epsilon: real, broadcasts to `var`.
        count: broadcasts to `var`; None where every sample has entries.

    Returns:
        [*stats_shape], of the dtype of `var`.

    Examples:
        >>> reciprocal_std(jnp.array([3.0, 0.0]), 1.0, jnp.array([2.0, 0.0]))
        Array([0.5, 1. ], dtype=float32)
    """
    rstd = lax.rsqrt(var + epsilon)
    return rstd if count is None else jnp.where(count > 0, rstd, 1)


def affine(deviation: Array, rstd: Array, scale: Array | None, bias: Array | None) -> Array:
    """Returns `deviation * (rstd * scale) + bias`.

    Args:
        deviation: [*shape], `x` minus its mean.
        rstd: broadcasts to `deviation`.
        scale: broadcasts to `deviation`, or None for one.
        bias: broadcasts to `deviation`, or None for zero.

    Returns:
        [*shape], of the dtype of `deviation`.

    Examples:
        >>> affine(jnp.array([1.0, 2.0]), jnp.array(2.0), jnp.array(3.0), jnp.array(1.0))
        Array([ 7., 13.], dtype=float32)
    """
    gain = rstd if scale is None else rstd * scale.astype(_affine_dtype(scale, deviation))
    y = deviation * gain
    return y if bias is None else y + bias.astype(_affine_dtype(bias, deviation))


def normalize_tangent(deviation, rstd, scale, d_x, d_mean, d_var, d_scale, d_bias):
    """Returns the tangent of `affine(deviation, rstd, scale, bias)`; None stands for zero.

    `deviation` and `d_x` are [*shape]; the rest broadcasts to it, `d_var` being the tangent of
    `var + epsilon`. What is constant along an axis is combined before it meets the whole array:
    the transpose then sums the cotangent, and the cotangent times the deviation, once each. Where
    the scale varies within a statistic nothing is smaller than the array, and it comes last.
    """
    whole = scale is None or jnp.broadcast_shapes(rstd.shape, scale.shape) == deviation.shape
    scale = None if scale is None else scale.astype(_affine_dtype(scale, deviation))
    gain = rstd if whole or scale is None else rstd * scale
    terms = [] if d_x is None else [gain * d_x]
    offset = [] if d_mean is None else [-gain * d_mean]
    slope = [] if d_var is None else [-gain * (rstd * rstd * d_var / 2)]
    if whole and scale is not None:
        inner = [*terms, *offset, *(deviation * s for s in slope)]
        terms, offset, slope = [scale * sum(inner[1:], inner[0])] if inner else [], [], []
    if d_bias is not None:
        offset.append(d_bias.astype(_affine_dtype(d_bias, deviation)))
    if d_scale is not None:
        slope.append(rstd * d_scale.astype(_affine_dtype(d_scale, deviation)))
    if slope:
        terms.append(deviation * sum(slope[1:], slope[0]))
    if offset:
        terms.append(sum(offset[1:], offset[0]))
    dy = sum(terms[1:], terms[0]) if terms else jnp.zeros((), deviation.dtype)
    return jnp.broadcast_to(dy, deviation.shape)


def spread_or_none(statistic: Array | None, shape: Shape) -> Array | None:
    """Returns `statistic` so that it broadcasts against `shape`, None staying None."""
    return None if statistic is None else _shapes.spread(statistic, shape)


def _affine_dtype(parameter: Array, deviation: Array) -> jnp.dtype:
    """Returns the dtype of the arithmetic: that of the statistics, complex if the parameter is."""
    return jnp.promote_types(parameter.dtype, deviation.real.dtype)
