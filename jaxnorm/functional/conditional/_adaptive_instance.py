"""Adaptive instance normalization: each channel gets the mean and the deviation of a style's.

Huang, Belongie: Arbitrary Style Transfer in Real-time, arXiv:1703.06868, 2017.
"""

import jax
import jax.numpy as jnp

from jaxnorm.functional.conditional._placing import conditioned
from jaxnorm.functional.instance._instance import instance_norm, instance_stats_shape
from jaxnorm.numerics import as_array
from jaxnorm.ops import Implementation
from jaxnorm.stats import Moments, Variance, moments
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def adaptive_instance_norm(
    x: ArrayLike,
    style: ArrayLike | Moments | None = None,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    scale_offset: float = 0.0,
    feature_axes: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Array:
    """Returns the content `x` with the mean and the deviation of the style, per channel.

    `y = (x - mean(x)) / sqrt(var(x) + epsilon) * sqrt(var(style) + epsilon) + mean(style)`;
    statistics shape `(N, 1, 1, C)` for `x [N, H, W, C]`, float32 or wider (Huang, Belongie,
    arXiv:1703.06868, 2017, equation 8). With `scale` and `bias` in the place of a style it is the
    layer of StyleGAN (Karras, Laine, Aila, arXiv:1812.04948, 2018, equation 1).

    Args:
        x: [N, *spatial, *features] (or features at `feature_axes`), floating or complex.
        style: the style's features [N, *spatial, *features], of another size if need be, or their
            `Moments` of [N, 1, .., *features], or of anything that broadcasts to `x`.
        scale: where there is no style, [N, *features], [*features], or of the rank of `x` and
            broadcastable to it; None for a factor of one.
        bias: like `scale`; None for zero.
        scale_offset: added to `scale`; 1 for a scale that is stored around zero.
        feature_axes: the axes that are kept besides the first, which is the batch.
        epsilon: added to both variances.
        mask: boolean, broadcastable to `x`; true where an entry takes part in its statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics of `x` are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        [N, *spatial, *features], of `dtype`.

    Raises:
        ValueError: a style as well as a scale or a bias, or a shape that does not fit.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> content, style = jnp.array([[[1.0], [3.0]]]), jnp.array([[[10.0], [20.0], [30.0]]])
        >>> adaptive_instance_norm(content, style).ravel().round(2)
        Array([11.84, 28.16], dtype=float32)

    Notes:
        A channel of one value becomes the style's mean. A mask or weights of the style enter
        through its moments: `moments(style, (N, 1, 1, C), mask=...)`.
    """
    x = as_array(x)
    if style is not None:
        if scale is not None or bias is not None:
            raise ValueError(
                "style gives the scale and the bias, but scale or bias came as well; pass one of "
                "style and (scale, bias)"
            )
        wanted = style if isinstance(style, Moments) else _taken(as_array(style), feature_axes)
        scale = jnp.sqrt(wanted.var + jnp.asarray(epsilon, wanted.var.dtype))
        bias, scale_offset = wanted.mean, 0.0
    return instance_norm(
        x,
        **conditioned(scale, bias, x.shape, feature_axes, scale_offset),
        feature_axes=feature_axes,
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        single_value="allow",
        dtype=dtype,
        implementation=implementation,
    )


def _taken(style: jax.Array, feature_axes: Axes) -> Moments:
    return moments(style, instance_stats_shape(style.shape, feature_axes))
