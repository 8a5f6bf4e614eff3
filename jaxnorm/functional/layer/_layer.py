"""Layer normalization: each position over its features.

Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016.
"""

from typing import Literal

from jaxnorm.functional._parameters import about_one, place
from jaxnorm.functional.batch._single_value import refuse_single_values
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Activation, Implementation, standardize
from jaxnorm.stats import Variance, reduced_stats_shape
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def layer_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    reduction_axes: Axes = -1,
    feature_axes: Axes = -1,
    epsilon: float = 1e-6,
    zero_centered: bool = False,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    single_value: Literal["raise", "allow"] = "raise",
    activation: Activation | None = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Array:
    """Returns `x` with mean 0 and variance 1 over `reduction_axes`, then scaled and shifted.

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias`; statistics shape: 1 on the reduced axes,
    float32 or wider (Ba, Kiros, Hinton, arXiv:1607.06450, 2016, equation 3).

    Args:
        x: [*batch, C], floating or complex, of any rank from 1.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        reduction_axes: the axes that the statistics are taken over.
        feature_axes: the axes that a [*features] scale and bias belong to.
        epsilon: added to the variance.
        zero_centered: whether `1 + scale` multiplies, the sum taken in float32 or wider; a scale
            of zeros is then that of the identity.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: where a statistic stands on one value: "raise", or "allow" the bias that
            follows.
        activation: "relu", "silu" or "gelu", applied after scale and bias; None for none.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU), "pallas" (GPU, TPU) or None for the faster one.

    Returns:
        [*batch, C], of `dtype`.

    Raises:
        ValueError: a statistic stands on one value, an axis or a shape does not fit, or `axis_name`
            is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer_norm(jnp.array([[1.0, 3.0], [5.0, 5.0]]), bias=jnp.ones(2)).round(3)
        Array([[0., 2.],
               [1., 1.]], dtype=float32)

    Notes:
        Flax's default variance is that of "fast"; here it is exact at any mean.
    """
    x = as_array(x)
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    stats_shape = reduced_stats_shape(x.shape, reduction_axes)
    refuse_single_values(
        f"layer_norm got one value per statistic, x {list(x.shape)} with "
        f"reduction_axes={reduction_axes}",
        "give x two features or more",
        x.shape,
        stats_shape,
        single_value,
        axis_name,
        axis_index_groups,
    )
    y, _ = standardize(
        x,
        stats_shape,
        scale=place(about_one(scale, zero_centered), x.shape, features, "scale"),
        bias=place(bias, x.shape, features, "bias"),
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        activation=activation,
        dtype=dtype,
        implementation=implementation,
    )
    return y
