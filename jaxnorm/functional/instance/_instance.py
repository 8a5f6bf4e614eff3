"""Instance normalization: each channel of each example over its positions.

Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv:1607.08022, 2016.
"""

from typing import Literal

from jaxnorm.functional._parameters import kept_shape, placed
from jaxnorm.functional.batch._single_value import refuse_single_values
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Activation, Implementation, standardize
from jaxnorm.stats import Variance
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike, Shape


def instance_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    epsilon: float = 1e-6,
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
    """Returns `x` with mean 0 and variance 1 over the positions of each channel of each example.

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias`; statistics shape `(N, 1, 1, C)` for
    `x [N, H, W, C]`, float32 or wider (Ulyanov et al., arXiv:1607.08022, 2016, equation 3).

    Args:
        x: [N, *spatial, *features] (or features at `feature_axes`), floating or complex.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        feature_axes: the axes that are kept besides the first, which is the batch.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: where a channel of an example holds one value: "raise", or "allow" the bias
            that follows.
        activation: "relu", "silu" or "gelu", applied after scale and bias; None for none.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU), "pallas" (GPU, TPU) or None for the faster one.

    Returns:
        [N, *spatial, *features], of `dtype`.

    Raises:
        ValueError: the batch axis is among the features, a channel of an example holds one value, a
            shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> instance_norm(jnp.array([[[1.0, 8.0], [3.0, 4.0]]])).round(3)
        Array([[[-1.,  1.],
                [ 1., -1.]]], dtype=float32)
    """
    x = as_array(x)
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    stats_shape = instance_stats_shape(x.shape, feature_axes)
    refuse_single_values(
        f"instance_norm got one value per channel of each example, x {list(x.shape)} with "
        f"feature_axes={feature_axes}",
        "give x a spatial axis of two or more",
        x.shape,
        stats_shape,
        single_value,
        axis_name,
        axis_index_groups,
    )
    y, _ = standardize(
        x,
        stats_shape,
        **placed(scale, bias, x.shape, features),
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


def instance_stats_shape(shape: Shape, feature_axes: Axes = -1) -> Shape:
    """Returns the statistics shape of instance normalization.

    Args:
        shape: the shape of `x`.
        feature_axes: the axes that are kept besides the first.

    Returns:
        `shape` with ones at all other axes.

    Raises:
        ValueError: see `instance_norm`.

    Examples:
        >>> instance_stats_shape((8, 4, 4, 6))
        (8, 1, 1, 6)
    """
    axes = canonical_axes(feature_axes, len(shape), "feature_axes")
    if 0 in axes:
        raise ValueError(
            f"feature_axes={feature_axes} of x {list(shape)} names axis 0. The channel axes cannot "
            "include the leading dimension as this is assumed to be the batch axis; name others"
        )
    return kept_shape(shape, (0, *axes))
