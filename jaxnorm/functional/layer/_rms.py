"""Root mean square normalization: each position over its features, the mean left in.

Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019.
"""

from typing import Literal

import jax.numpy as jnp
from jax import lax

from jaxnorm.functional._parameters import about_one, place
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes
from jaxnorm.ops import Activation, Implementation, activated, check_activation, standardize
from jaxnorm.stats import Variance, reduced_stats_shape
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def rms_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    reduction_axes: Axes = -1,
    feature_axes: Axes = -1,
    epsilon: float = 1e-6,
    zero_centered: bool = False,
    cast: Literal["after", "before"] = "after",
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    activation: Activation | None = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Array:
    """Returns `x` with mean square 1 over `reduction_axes`, then scaled and shifted.

    `y = x / sqrt(mean(x^2) + epsilon) * scale + bias`; statistics shape: 1 on the
    reduced axes, float32 or wider (Zhang, Sennrich, arXiv:1910.07467, 2019, equation 4).

    Args:
        x: [*batch, C], floating or complex, of any rank from 1.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        reduction_axes: the axes that the mean square is taken over.
        feature_axes: the axes that a [*features] scale and bias belong to.
        epsilon: added to the mean square, inside the root.
        zero_centered: whether `1 + scale` multiplies, the sum taken in float32 or wider, as in
            Gemma; a scale of zeros is then that of the identity.
        cast: when the normalized value is rounded to the dtype of `x`: "after" scale and bias, as
            in Gemma, which is one rounding; or "before" them, as in Llama and T5, which is two.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        activation: "relu", "silu" or "gelu", applied after scale and bias; None for none.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU), "pallas" (GPU, TPU) or None for the faster one.

    Returns:
        [*batch, C], of `dtype`.

    Raises:
        ValueError: an axis or a shape does not fit, `cast` is unknown, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> rms_norm(jnp.array([[1.0, -7.0], [5.0, 5.0]]), jnp.array([5.0, 10.0])).round(2)
        Array([[  1., -14.],
               [  5.,  10.]], dtype=float32)

    Notes:
        The authors' code adds 1e-8 outside the root; PyTorch's default epsilon is the dtype's.
    """
    x = as_array(x)
    if cast not in ("after", "before"):
        raise ValueError(f"cast={cast!r} must be 'after' or 'before' the scale")
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    scale = place(about_one(scale, zero_centered), x.shape, features, "scale")
    bias = place(bias, x.shape, features, "bias")
    check_activation(activation, x)
    before = cast == "before" and not (scale is None and bias is None)
    y, _ = standardize(
        x,
        reduced_stats_shape(x.shape, reduction_axes),
        center=False,
        scale=None if before else scale,
        bias=None if before else bias,
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        activation=None if before else activation,
        dtype=x.dtype if before else dtype,
        implementation=implementation,
    )
    if before:
        return activated(activation, _affine(y, scale, bias)).astype(dtype or x.dtype)
    return y


def _affine(y: Array, scale: Array | None, bias: Array | None) -> Array:
    """Returns `y * scale + bias` in float32 or wider, `y` rounded to its dtype before."""
    wide = y.astype(accumulation_dtype(y.dtype))
    if y.dtype == jnp.bfloat16:
        # XLA may drop a rounding to bfloat16 that a conversion to float32 follows.
        wide = lax.reduce_precision(wide, exponent_bits=8, mantissa_bits=7)
    y = wide if scale is None else wide * scale
    return y if bias is None else y + bias
