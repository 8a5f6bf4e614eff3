"""Reversible instance normalization: a series normalized over time, and its forecast put back.

Kim et al.: Reversible Instance Normalization for Accurate Time-Series Forecasting, ICLR, 2022.
"""

from jaxnorm.functional._parameters import placed
from jaxnorm.functional.instance._instance import instance_stats_shape
from jaxnorm.numerics import as_array, canonical_axes
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
        >>> import jax.numpy as jnp
        >>> from jaxnorm import rev_in_inverse
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
        **placed(scale, bias, x.shape, features),
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
        implementation=implementation,
    )
