"""Scale normalization: each position by its length, times one learned number.

Nguyen, Salazar: Transformers without Tears, arXiv:1910.05895, 2019.
"""

import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype, as_array, check_epsilon, real_dtype
from jaxnorm.ops import Implementation, standardize
from jaxnorm.stats import reduced_stats_shape
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def scale_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    *,
    reduction_axes: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Array:
    """Returns `x` with length `scale` over `reduction_axes`.

    `y = scale x / max(|x|, epsilon)` with `|x|^2 = sum(x^2)`; statistics shape: 1 on the reduced
    axes, float32 or wider (Nguyen, Salazar, arXiv:1910.05895, 2019).

    Args:
        x: [*batch, C], floating or complex, of any rank from 1.
        scale: [], or broadcastable to `x`; the authors start it at `sqrt(C)`; None for one.
        reduction_axes: the axes that the length is taken over.
        epsilon: the smallest length that is divided by, as in the authors' code; with 0, which is
            the paper's formula, zeros give NaN.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the length.
        weights: real, broadcastable to `x`, not negative; of the squares.
        axis_name: mapped axes over which the length is shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        [*batch, C], of `dtype`.

    Raises:
        ValueError: an axis or a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> scale_norm(jnp.array([[3.0, -4.0], [0.0, 0.0]]), 10.0).round()
        Array([[ 6., -8.],
               [ 0.,  0.]], dtype=float32)
    """
    x = as_array(x)
    check_epsilon(epsilon)
    wide = accumulation_dtype(x.dtype)
    smallest = float(jnp.finfo(wide).tiny)  # keeps the branch finite that is not chosen
    y, moments = standardize(
        x,
        reduced_stats_shape(x.shape, reduction_axes),
        center=False,
        epsilon=smallest if epsilon else 0.0,
        mask=mask,
        weights=weights,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=wide,
        implementation=implementation,
    )
    root = jnp.sqrt(jnp.where(moments.count > 0, moments.count, 1))
    y = y / root
    if epsilon:
        short = moments.var < jnp.square(jnp.asarray(epsilon, real_dtype(wide)) / root)
        y = jnp.where(short, x.astype(wide) / epsilon, y)
    return (y if scale is None else y * jnp.asarray(scale)).astype(dtype or x.dtype)
