"""Positional normalization, whose moments are given back to a later layer.

Li, Wu, Weinberger, Belongie: Positional Normalization, arXiv:1907.04312, 2019.
"""

import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype, as_array, check_epsilon, require_inexact
from jaxnorm.ops import Implementation, standardize
from jaxnorm.stats import Moments, Variance, reduced_stats_shape
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def positional_norm(
    x: ArrayLike,
    *,
    reduction_axes: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Moments]:
    """Returns `x` with mean 0 and variance 1 over the features of each position, and the moments.

    `y = (x - mean) / sqrt(var + epsilon)`; statistics shape `(N, H, W, 1)` for `x [N, H, W, C]`,
    float32 or wider (Li et al., arXiv:1907.04312, 2019). The moments are the structure
    of the image: `moment_shortcut` puts them back behind the layers in between.

    Args:
        x: [*batch, C], floating or complex, of any rank from 1.
        reduction_axes: the axes that the statistics are taken over.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        [*batch, C], of `dtype`, and `Moments` of [*batch, 1] in float32 or wider.

    Raises:
        ValueError: an axis or a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> y, moments = positional_norm(jnp.array([[1.0, 3.0]]), epsilon=0.0)
        >>> y, moments.mean
        (Array([[-1.,  1.]], dtype=float32), Array([[2.]], dtype=float32))
        >>> moment_shortcut(y, moments, epsilon=0.0)
        Array([[1., 3.]], dtype=float32)

    Notes:
        The authors' code for PyTorch divides the variance by one less than the number of features.
    """
    x = as_array(x)
    return standardize(
        x,
        reduced_stats_shape(x.shape, reduction_axes),
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
        implementation=implementation,
    )


def moment_shortcut(
    x: ArrayLike, moments: Moments, *, epsilon: float = 1e-5, dtype: DTypeLike | None = None
) -> Array:
    """Returns `x` with the mean and the standard deviation that were taken out before.

    `y = x sqrt(var + epsilon) + mean`, in float32 or wider and rounded once (Li et al.,
    arXiv:1907.04312, 2019): the inverse of `positional_norm` where no layer stands in
    between.

    Args:
        x: [*batch, D], floating or complex, with any number of features.
        moments: of [*batch, 1], or broadcastable to `x`.
        epsilon: that of `positional_norm`.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*batch, D], of `dtype`.

    Raises:
        ValueError: the moments do not broadcast to `x`, for example after a layer with a stride.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> moments = Moments(jnp.array([[2.0]]), jnp.array([[9.0]]), jnp.array(8.0))
        >>> moment_shortcut(jnp.array([[0.0, 1.0]]), moments).round(3)
        Array([[2., 5.]], dtype=float32)
    """
    x = as_array(x)
    require_inexact(x)
    check_epsilon(epsilon)
    mean = broadcasting(moments.mean, x.shape, "moments")
    shifted = broadcasting(moments.var, x.shape, "moments") + epsilon
    std = jnp.where(shifted > 0, jnp.sqrt(jnp.where(shifted > 0, shifted, 1)), 0)
    y = x.astype(accumulation_dtype(x.dtype)) * std
    y = y if moments.tail is None else y + moments.tail
    return (y + mean).astype(dtype or x.dtype)
