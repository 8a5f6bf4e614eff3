"""Adaptive layer normalization: scale and shift of each example follow from a condition.

Peebles, Xie: Scalable Diffusion Models with Transformers, arXiv:2212.09748, 2022.
"""

from jaxnorm.functional.conditional._placing import conditioned
from jaxnorm.functional.layer._layer import layer_norm
from jaxnorm.numerics import as_array
from jaxnorm.ops import Implementation
from jaxnorm.stats import Variance
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def ada_layer_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    scale_offset: float = 1.0,
    reduction_axes: Axes = -1,
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
    """Returns `x` with mean 0 and variance 1 per position, scaled and shifted per example.

    `y = (x - mean) / sqrt(var + epsilon) * (scale_offset + scale) + bias`; statistics shape: 1 on
    the reduced axes, float32 or wider (Peebles, Xie, arXiv:2212.09748, 2022, section 3.2, adaLN).

    Args:
        x: [N, *positions, C], floating or complex.
        scale: [N, *features], [*features], or of the rank of `x` and broadcastable to it; None for
            a factor of one.
        bias: the shift, like `scale`; None for zero.
        scale_offset: added to the scale, which is stored around zero.
        reduction_axes: the axes that the statistics are taken over.
        feature_axes: the axes that scale and bias belong to.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        [N, *positions, C], of `dtype`.

    Raises:
        ValueError: an axis or a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> x, scale = jnp.array([[[1.0, 3.0], [5.0, 9.0]]]), jnp.array([[0.0, 4.0]])
        >>> ada_layer_norm(x, scale).round(2)
        Array([[[-1.,  5.],
                [-1.,  5.]]], dtype=float32)
    """
    x = as_array(x)
    return layer_norm(
        x,
        **conditioned(scale, bias, x.shape, feature_axes, scale_offset),
        reduction_axes=reduction_axes,
        feature_axes=feature_axes,
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
        implementation=implementation,
    )
