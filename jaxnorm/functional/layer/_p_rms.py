"""Partial root mean square normalization: the mean square is that of the first features alone.

Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019.
"""

import math

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, placed
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import standardize
from jaxnorm.stats import reduced_stats_shape
from jaxnorm.stats.sampling import sample_weights
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike


def p_rms_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    share: float = 0.0625,
    axis: int = -1,
    epsilon: float = 1e-6,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` divided by the root mean square of its first features, scaled and shifted.

    `y = x / sqrt(mean(x[:k]^2) + epsilon) * scale + bias` with `k = ceil(share C)`; statistics
    shape: 1 on `axis`, float32 or wider (Zhang, Sennrich, arXiv:1910.07467, 2019: pRMSNorm).

    Args:
        x: [*batch, C], floating or complex, of any rank from 1.
        scale: [C], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        share: the share of the features that are measured, above 0 and at most 1; the authors' is
            6.25 percent.
        axis: the feature axis.
        epsilon: added to the mean square, inside the root.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*batch, C], of `dtype`.

    Raises:
        ValueError: `share` is no share, a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> p_rms_norm(jnp.array([[2.0, 2.0, 4.0, -8.0]]), share=0.5).round(3)
        Array([[ 1.,  1.,  2., -4.]], dtype=float32)

    Notes:
        The authors' code rounds `share C` down and adds 1e-8 outside the root.
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    if not 0 < share <= 1:
        raise ValueError(
            f"share={share} of the features must be above 0 and at most 1, for example 0.0625"
        )
    size = x.shape[features[0]]
    measured = jnp.arange(size) < math.ceil(share * size)
    measured = measured.reshape(kept_shape(x.shape, features))
    sampled = measured if mask is None else measured & jnp.asarray(mask)
    y, _ = standardize(
        x,
        reduced_stats_shape(x.shape, axis),
        center=False,
        **placed(scale, bias, x.shape, features),
        epsilon=epsilon,
        mask=sampled,
        weights=weights,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
    )
    w = sample_weights(x, mask, weights)
    # What is not measured is no padding: a number that is lost there stays lost.
    lost = ~measured & ~jnp.isfinite(x) & (True if w is None else w > 0)
    return jnp.where(lost, x.astype(y.dtype), y)
