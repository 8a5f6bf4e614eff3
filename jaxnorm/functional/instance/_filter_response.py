"""Filter response normalization: each channel of each example by its mean square, and a threshold.

Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019.
"""

import jax.numpy as jnp

from jaxnorm.functional._parameters import place, placed
from jaxnorm.functional.instance._instance import instance_stats_shape
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes
from jaxnorm.ops import Implementation, standardize
from jaxnorm.stats import Variance
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def filter_response_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    threshold: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    epsilon: float = 1e-6,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Array:
    """Returns `x` with mean square 1 over positions, scaled, shifted and cut off from below.

    `y = max(x / sqrt(mean(x^2) + epsilon) * scale + bias, threshold)`; statistics shape
    `(N, 1, 1, C)` for `x [N, H, W, C]`, float32 or wider (Singh, Krishnan, arXiv:1911.09737, 2019,
    equations 1 to 4). The threshold, which is learned, takes the place of a ReLU.

    Args:
        x: [N, *spatial, *features] (or features at `feature_axes`), floating; complex without a
            threshold.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        threshold: like `scale`; None for an output that is not cut off.
        feature_axes: the axes that are kept besides the first, which is the batch.
        epsilon: added to the mean square.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        [N, *spatial, *features], of `dtype`.

    Raises:
        ValueError: the batch axis is among the features, a shape does not fit, or `axis_name` is
            not bound.
        TypeError: `x` is not floating or complex, or is complex and there is a threshold.

    Examples:
        >>> x = jnp.array([[[3.0], [-3.0]]])
        >>> filter_response_norm(x, threshold=jnp.zeros(1)).round(2).ravel()
        Array([1., 0.], dtype=float32)

    Notes:
        With one position per channel the output is the sign of `x`; there the authors learn
        epsilon.
    """
    x = as_array(x)
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    result = jnp.dtype(dtype or x.dtype)
    if threshold is not None and jnp.iscomplexobj(x):
        raise TypeError(
            f"threshold needs a real x, got {x.dtype} {list(x.shape)}: complex numbers have no "
            "order; use threshold=None"
        )
    # Compared before the one rounding, so that the threshold's gradient is summed in float32.
    wide = result if threshold is None else accumulation_dtype(result)
    y, _ = standardize(
        x,
        instance_stats_shape(x.shape, feature_axes),
        center=False,
        **placed(scale, bias, x.shape, features),
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=wide,
        implementation=implementation,
    )
    floor = place(threshold, x.shape, features, "threshold")
    return y if floor is None else jnp.maximum(y, floor.astype(wide)).astype(result)
