"""Activation normalization: an invertible affine map that starts from the first batch.

Kingma, Dhariwal: Glow: Generative Flow with Invertible 1x1 Convolutions, arXiv:1807.03039, 2018.
"""

import math

import jax.numpy as jnp

from jaxnorm.functional._parameters import place
from jaxnorm.functional.batch._table import require_batch_axis
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike, Shape


def act_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    dtype: DTypeLike | None = None,
) -> tuple[Array, Array]:
    """Returns `x` scaled and shifted per feature, and the log-determinant of this map.

    `y = x * scale + bias` and `log|det dy/dx| = positions * sum(log|scale|)` for each example, in
    float32 or wider (Kingma, Dhariwal, arXiv:1807.03039, 2018). No statistics: see `act_norm_init`.

    Args:
        x: [N, *spatial, *features] (or features at `feature_axes`), floating.
        scale: [*features], or of the rank of `x` and broadcastable to it, not zero; None for one.
        bias: like `scale`; None for zero.
        feature_axes: the axes that scale and bias belong to, not the first.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the log-determinants [N], float32 or wider.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `x` is not floating.

    Examples:
        >>> from jaxnorm import act_norm_init
        >>> x = jnp.array([[[1.0], [5.0]]])
        >>> y, log_det = act_norm(x, *act_norm_init(x, epsilon=0.0))
        >>> y.ravel(), log_det.round(3)
        (Array([-1.,  1.], dtype=float32), Array([-1.386], dtype=float32))

    Notes:
        The authors' code learns three times the logarithm of the scale, and adds the bias first.
    """
    x, scale, bias, log_det = _affine(x, scale, bias, feature_axes)
    wide = x.astype(accumulation_dtype(x.dtype))
    y = wide if scale is None else wide * scale
    y = y if bias is None else y + bias
    return y.astype(dtype or x.dtype), log_det


def act_norm_inverse(
    y: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    dtype: DTypeLike | None = None,
) -> tuple[Array, Array]:
    """Returns what `act_norm` makes `y` of, and the log-determinant of this inverse.

    `x = (y - bias) / scale` and `log|det dx/dy| = -positions * sum(log|scale|)` for each example.

    Args:
        y: [N, *spatial, *features] (or features at `feature_axes`), floating.
        scale: as in `act_norm`.
        bias: as in `act_norm`.
        feature_axes: as in `act_norm`.
        dtype: the output's dtype; that of `y` if None.

    Returns:
        `x` of the shape of `y` and of `dtype`, and the log-determinants [N], float32 or wider.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `y` is not floating.

    Examples:
        >>> act_norm_inverse(jnp.array([[7.0]]), jnp.array([2.0]), jnp.array([1.0]))[0]
        Array([[3.]], dtype=float32)
    """
    y, scale, bias, log_det = _affine(y, scale, bias, feature_axes)
    x = y.astype(accumulation_dtype(y.dtype))
    x = x if bias is None else x - bias
    x = x if scale is None else x / scale
    return x.astype(dtype or y.dtype), -log_det


def _affine(
    x: ArrayLike, scale: ArrayLike | None, bias: ArrayLike | None, feature_axes: Axes
) -> tuple[Array, Array | None, Array | None, Array]:
    """Returns the arrays with the rank of `x`, and the log-determinants."""
    x = as_array(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        what = f"{x.dtype} {list(x.shape)}"
        raise TypeError(f"act_norm needs a real floating x, got {what}; convert it first")
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    require_batch_axis(features, x.shape, "feature_axes")
    scale = place(scale, x.shape, features, "scale")
    log_det = _log_det(scale, x.shape, accumulation_dtype(x.dtype))
    return x, scale, place(bias, x.shape, features, "bias"), log_det


def _log_det(scale: Array | None, shape: Shape, dtype: DTypeLike) -> Array:
    if scale is None:
        return jnp.zeros(shape[:1], dtype)
    full = jnp.broadcast_to(scale, (1,) * (len(shape) - scale.ndim) + scale.shape)
    # A scale that is shared by positions counts once for each of them.
    repeats = [n // m for n, m in zip(shape[1:], full.shape[1:], strict=True)]
    logs = jnp.log(jnp.abs(full.astype(dtype)))
    total = jnp.sum(logs, axis=tuple(range(1, len(shape)))) * math.prod(repeats)
    return jnp.broadcast_to(total, shape[:1])
