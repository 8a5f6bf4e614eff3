"""Gated root mean square normalization: a norm and a gate, in either order.

Dao, Gu: Transformers are SSMs, arXiv:2405.21060, 2024.
"""

import jax

from jaxnorm.functional._parameters import place
from jaxnorm.functional.instance._group_shape import group_stats_shape
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes, require_inexact
from jaxnorm.ops import Implementation, standardize
from jaxnorm.stats.sampling import sample_weights, settled
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike


def gated_rms_norm(
    x: ArrayLike,
    z: ArrayLike,
    scale: ArrayLike | None = None,
    *,
    norm_before_gate: bool = False,
    num_groups: int = 1,
    axis: int = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Array:
    """Returns `x` gated by `silu(z)` and with mean square 1 in each group of features.

    `y = N(x silu(z)) * scale`, or `N(x) * scale * silu(z)` where the norm comes first, with
    `N(u) = u / sqrt(mean(u^2) + epsilon)`; statistics shape `(*batch, num_groups)`; gate and
    statistics in float32 or wider, rounded once (Dao, Gu, arXiv:2405.21060, 2024). The
    Mamba-2 block gates first, with one group for each shard of its features; Qwen3-Next gates last.

    Args:
        x: [*batch, C], floating, of any rank from 1.
        z: [*batch, C], floating: what opens the gate.
        scale: [C], or of the rank of `x` and broadcastable to it; None for one.
        norm_before_gate: whether the gate multiplies the normalized value.
        num_groups: the number of groups of contiguous features, each with a statistic of its own.
        axis: the feature axis.
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
        ValueError: the groups do not divide the features, a shape does not fit, or `axis_name` is
            not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> x, z = jnp.array([[1.0, -1.0]]), jnp.array([[20.0, 10.0]])
        >>> gated_rms_norm(x, z).round(2), gated_rms_norm(x, z, norm_before_gate=True).round(2)
        (Array([[ 1.26, -0.63]], dtype=float32), Array([[ 20., -10.]], dtype=float32))
    """
    x = as_array(x)
    require_inexact(x)
    features = canonical_axes(axis, x.ndim, "axis")
    stats_shape = group_stats_shape(x.shape, num_groups, axis=axis, reduction_axes=axis)
    w = sample_weights(x, mask, weights)
    wide = accumulation_dtype(x.dtype)
    # Padding enters a product here: zero times NaN would reach the gradient of the gate.
    gate = settled(jax.nn.silu(broadcasting(z, x.shape, "z").astype(wide)), x, w)
    gated = x if norm_before_gate else settled(x, x, w).astype(wide) * gate
    y, _ = standardize(
        gated,
        stats_shape,
        center=False,
        scale=place(scale, x.shape, features, "scale"),
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=wide if norm_before_gate else dtype or x.dtype,
        implementation=implementation,
    )
    return (y * gate).astype(dtype or x.dtype) if norm_before_gate else y
