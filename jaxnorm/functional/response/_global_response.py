"""Global response normalization: each channel by its length beside those of the others.

Woo et al.: ConvNeXt V2: Co-designing and Scaling ConvNets, arXiv:2301.00808, 2023.
"""

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, place
from jaxnorm.functional.instance._instance import instance_stats_shape
from jaxnorm.functional.response._units import in_units
from jaxnorm.numerics import as_array, canonical_axes, check_epsilon
from jaxnorm.stats import moments, whole_mean
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def global_response_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-6,
    mask: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` plus `x` weighed by the length of its channel beside the mean length of all.

    `G = sqrt(sum(x^2))` over positions, `y = x + scale * x * G / (mean(G) + epsilon) + bias`, the
    mean being that over channels; statistics shape `(N, 1, 1, C)` for `x [N, H, W, C]`, float32 or
    wider (Woo et al., arXiv:2301.00808, 2023, section 4, algorithm 1).

    Args:
        x: [N, *spatial, C] (or channels at `axis`), real and floating.
        scale: [C], or of the rank of `x` and broadcastable to it; None for one. The authors start
            scale and bias at zero, where `y` is `x`.
        bias: like `scale`; None for zero.
        axis: the channel axis.
        epsilon: added to the mean length.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the lengths.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        The shape of `x`, of `dtype`.

    Raises:
        ValueError: the batch axis is the channel axis, or a shape does not fit.
        TypeError: `x` is not real and floating.

    Examples:
        >>> x = jnp.array([[[3.0, 1.0]]])
        >>> global_response_norm(x, epsilon=0.0)
        Array([[[7.5, 1.5]]], dtype=float32)
    """
    check_epsilon(epsilon)
    x = as_array(x)
    z, unit = in_units(x, mask)
    taken = moments(z, instance_stats_shape(x.shape, axis), center=False, mask=mask)
    square = taken.var * taken.count
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    usual = whole_mean(moments(length, kept_shape(x.shape, (0,))), z.dtype)
    divisor = usual + epsilon / unit
    features = canonical_axes(axis, x.ndim, "axis")
    gain = length / jnp.where(divisor > 0, divisor, 1)
    placed = place(scale, x.shape, features, "scale")
    gain = gain if placed is None else placed * gain
    y = z * unit * (1 + gain)
    bias = place(bias, x.shape, features, "bias")
    return (y if bias is None else y + bias).astype(dtype or x.dtype)
