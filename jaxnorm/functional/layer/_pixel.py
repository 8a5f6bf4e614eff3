"""Pixelwise feature vector normalization: each position to mean square 1, nothing learned.

Karras, Aila, Laine, Lehtinen: Progressive Growing of GANs, arXiv:1710.10196, 2017.
"""

from jaxnorm.numerics import as_array
from jaxnorm.ops import Implementation, standardize
from jaxnorm.stats import reduced_stats_shape
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def pixel_norm(
    x: ArrayLike,
    *,
    reduction_axes: Axes = -1,
    epsilon: float = 1e-8,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Array:
    """Returns `x` with mean square 1 over the features of each position.

    `y = x / sqrt(mean(x^2) + epsilon)`; statistics shape `(N, H, W, 1)` for `x [N, H, W, C]`,
    float32 or wider (Karras et al., arXiv:1710.10196, 2017, section 4.2).

    Args:
        x: [*batch, C], floating or complex, of any rank from 1.
        reduction_axes: the axes that the mean square is taken over.
        epsilon: added to the mean square, inside the root.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        [*batch, C], of `dtype`.

    Raises:
        ValueError: an axis or a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> pixel_norm(jnp.array([[4.0, 0.0, 0.0, 0.0]])).round(3)
        Array([[2., 0., 0., 0.]], dtype=float32)
    """
    x = as_array(x)
    y, _ = standardize(
        x,
        reduced_stats_shape(x.shape, reduction_axes),
        center=False,
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
        implementation=implementation,
    )
    return y
