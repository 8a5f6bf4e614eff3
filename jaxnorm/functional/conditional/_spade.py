"""Spatially adaptive normalization: scale and bias of each position follow from a segmentation.

Park et al.: Semantic Image Synthesis with Spatially-Adaptive Normalization, arXiv:1903.07291, 2019.
"""

from typing import Any

import jax.numpy as jnp

from jaxnorm.functional.batch._single_value import SingleValue
from jaxnorm.functional.conditional._batch import conditional_batch_norm
from jaxnorm.numerics import as_array
from jaxnorm.ops import Implementation
from jaxnorm.stats import Estimator, ema
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def spade(
    x: ArrayLike,
    stats: Any,
    scale: ArrayLike,
    bias: ArrayLike,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    estimator: Estimator = ema(0.99),
    axis: Axes = -1,
    scale_offset: float = 1.0,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    single_value: SingleValue = "raise",
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Any]:
    """Returns `x` normalized per channel, scaled and shifted per position, and new statistics.

    `y = (x - mean) / sqrt(var + epsilon) * (scale_offset + scale) + bias`; statistics shape
    `(1, 1, 1, C)` for `x [N, H, W, C]`, float32 or wider (Park et al., arXiv:1903.07291, 2019,
    equations 1 to 3, where the scale has no offset; the authors' code adds one).

    Args:
        x: [N, *spatial, C], floating or complex.
        stats: the state of `estimator`, statistics of [C]; see `Estimator.init`.
        scale: [N, *spatial, C], computed from the segmentation at the resolution of `x`; see
            `jaxnorm.resize_segmentation`.
        bias: like `scale`.
        use_running_average: whether the running statistics normalize instead of the batch's own.
        update_stats: whether the batch enters them; if None, just where it normalizes.
        estimator: how it does; "decay" of `ema` weighs the old value.
        axis: the feature axes; all others are reduced.
        scale_offset: added to the scale.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: what a batch of one value per feature does; see `jaxnorm.batch_norm`.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state, as `jaxnorm.batch_norm` has them.

    Raises:
        ValueError: a scale or bias that is not of the rank of `x`, one value per feature, a shape
            that does not fit, or an unbound `axis_name`.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> x = jnp.array([[[1.0], [3.0]]])
        >>> stats, delta = ema(0.9).init((1,)), jnp.array([[[0.0], [2.0]]])
        >>> y, _ = spade(x, stats, delta, jnp.zeros((1, 2, 1)), use_running_average=False)
        >>> y.ravel().round(2)
        Array([-1.,  3.], dtype=float32)

    Notes:
        The variant with statistics per example is `jaxnorm.instance_norm(x, 1 + scale, bias)`.
    """
    x = as_array(x)
    for name, given in (("scale", scale), ("bias", bias)):
        if jnp.ndim(given) != x.ndim:
            raise ValueError(
                f"{name} {list(jnp.shape(given))} must have one entry per position, as x "
                f"{list(x.shape)} has; for one per example use conditional_batch_norm"
            )
    return conditional_batch_norm(
        x,
        stats,
        scale,
        bias,
        use_running_average=use_running_average,
        update_stats=update_stats,
        estimator=estimator,
        axis=axis,
        scale_offset=scale_offset,
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        single_value=single_value,
        dtype=dtype,
        implementation=implementation,
    )
