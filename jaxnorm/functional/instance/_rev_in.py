"""Reversible instance normalization: a series normalized over time, and its forecast put back.

Kim et al.: Reversible Instance Normalization for Accurate Time-Series Forecasting, ICLR, 2022.
"""

import jax.numpy as jnp

from jaxnorm.functional._parameters import place
from jaxnorm.functional.instance._instance import instance_stats_shape
from jaxnorm.numerics import as_array, canonical_axes, check_epsilon, require_inexact
from jaxnorm.ops import Implementation, standardize
from jaxnorm.stats import Moments, Variance
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def rev_in(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Moments]:
    """Returns `x` with mean 0 and variance 1 over time, scaled and shifted, and its statistics.

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias`; statistics shape `(N, 1, C)` for
    `x [N, T, C]`, float32 or wider (Kim et al., ICLR, 2022, equations 1 and 2). The statistics go
    to `rev_in_inverse` with what the model makes of `y`.

    Args:
        x: [N, T, *features] (or features at `feature_axes`), floating or complex.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        feature_axes: the axes that are kept besides the first, which is the batch.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        `y` of the shape of `x` and of `dtype`, and `Moments` of [N, 1, *features].

    Raises:
        ValueError: the batch axis is among the features, a shape does not fit, or `axis_name` is
            not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> y, moments = rev_in(jnp.array([[[1.0], [5.0]]]))
        >>> y.round(2).ravel(), rev_in_inverse(jnp.array([[[2.0]]]), moments).round(2).ravel()
        (Array([-1.,  1.], dtype=float32), Array([7.], dtype=float32))

    Notes:
        The authors' code holds the statistics constant in the backward pass. Here the gradient
        passes through them; `jax.lax.stop_gradient` on the moments stops it in the inverse.
    """
    x = as_array(x)
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    return standardize(
        x,
        instance_stats_shape(x.shape, feature_axes),
        scale=place(scale, x.shape, features, "scale"),
        bias=place(bias, x.shape, features, "bias"),
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
        implementation=implementation,
    )


def rev_in_inverse(
    y: ArrayLike,
    moments: Moments,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    epsilon: float = 1e-5,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `y` with the mean and the variance that `rev_in` took away.

    `x = (y - bias) / scale * sqrt(var + epsilon) + mean`, in float32 or wider (Kim et al., ICLR,
    2022, equation 3).

    Args:
        y: [N, H, *features], of any length H in time.
        moments: of [N, 1, *features], from `rev_in`.
        scale: [*features], or of the rank of `y` and broadcastable to it; the one that `rev_in`
            got, not zero.
        bias: like `scale`.
        feature_axes: as in `rev_in`.
        epsilon: as in `rev_in`.
        dtype: the output's dtype; that of `y` if None.

    Returns:
        The shape of `y`, of `dtype`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `y` is not floating or complex.

    Examples:
        >>> x = jnp.array([[[1.0], [5.0]]])
        >>> rev_in_inverse(*rev_in(x, jnp.array([3.0])), jnp.array([3.0])).ravel()
        Array([1., 5.], dtype=float32)

    Notes:
        The authors' code divides by `scale + epsilon**2`, which is no inverse, but has no pole at
        zero.
    """
    y = as_array(y)
    require_inexact(y)
    check_epsilon(epsilon)
    features = canonical_axes(feature_axes, y.ndim, "feature_axes")
    mean = jnp.asarray(moments.mean)
    fits = all(m in (1, n) for m, n in zip(mean.shape, y.shape, strict=False))
    if mean.ndim != y.ndim or not fits:
        raise ValueError(
            f"moments {list(mean.shape)} do not broadcast to y {list(y.shape)}; pass those that "
            "rev_in returned for the same examples and features"
        )
    wide = jnp.promote_types(y.dtype, mean.dtype)
    value = y.astype(wide)
    bias = place(bias, y.shape, features, "bias")
    value = value if bias is None else value - bias
    scale = place(scale, y.shape, features, "scale")
    value = value if scale is None else value / scale
    value = value * jnp.sqrt(moments.var + epsilon)
    # The tail first: the mean may have no digits left for it.
    value = value if moments.tail is None else value + moments.tail
    return (value + mean).astype(dtype or y.dtype)
