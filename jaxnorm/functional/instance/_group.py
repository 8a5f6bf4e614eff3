"""Group normalization: each example over its positions and each group of channels.

Wu, He: Group Normalization, arXiv:1803.08494, 2018.
"""

from typing import Literal

from jaxnorm.functional._parameters import placed
from jaxnorm.functional.batch._single_value import refuse_single_values
from jaxnorm.functional.instance._group_shape import group_stats_shape
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Activation, Implementation, standardize
from jaxnorm.stats import Variance
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def group_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    num_groups: int | None = None,
    group_size: int | None = None,
    axis: int = -1,
    reduction_axes: Axes | None = None,
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
    """Returns `x` with mean 0 and variance 1 in each group of channels of each example.

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias`; statistics shape `(N, 1, 1, G)` for
    `x [N, H, W, C]`, float32 or wider (Wu, He, arXiv:1803.08494, 2018, equations 1, 2, 7).

    Args:
        x: [N, *spatial, C] (or channels at `axis`), floating or complex, of any rank from 1.
        scale: [C], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        num_groups: the number of groups of contiguous channels; the paper's is 32.
        group_size: the number of channels in a group; give this or `num_groups`.
        axis: the channel axis.
        reduction_axes: the axes that the statistics are taken over, the channel axis among them;
            all but the first if None.
        epsilon: added to the variance.
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
        [N, *spatial, C], of `dtype`.

    Raises:
        ValueError: the groups do not divide the channels, the axes leave out the channels, a group
            holds one value, a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> group_norm(jnp.array([[1.0, 3.0, 8.0, 4.0]]), num_groups=2).round(3)
        Array([[-1.,  1.,  1., -1.]], dtype=float32)
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    stats_shape = group_stats_shape(x.shape, num_groups, group_size, axis, reduction_axes)
    refuse_single_values(
        f"group_norm got one value per group, x {list(x.shape)} with "
        f"{stats_shape[features[0]]} groups",
        "use fewer groups",
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
