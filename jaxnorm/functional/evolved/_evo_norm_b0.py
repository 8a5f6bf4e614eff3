"""EvoNorm B0: the input over a deviation of the batch or of the example.

Liu, Brock, Simonyan, Le: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020.
"""

from typing import Any

import jax.numpy as jnp

from jaxnorm.functional._parameters import place
from jaxnorm.functional.evolved._batch_family import evo_norm_b
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.stats import Estimator, Moments, Variance, ema
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def evo_norm_b0(
    x: ArrayLike,
    stats: Any,
    gate: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    estimator: Estimator = ema(0.99),
    axis: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    single_value: str = "allow",
    dtype: DTypeLike | None = None,
) -> tuple[Array, Any]:
    """Returns `x` over the larger of two deviations, and the running statistics.

    `y = x / max(std_batch, v x + std_instance) * scale + bias`,
    where the first deviation is that of the batch (in evaluation the running one) and the second
    that of each channel of each example; epsilon is added to both variances. Float32 or wider
    (Liu et al., arXiv:2004.02967, 2020, table 2). It takes the place of a norm and its activation.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), real.
        stats: the state of `estimator`, statistics of [*features]; only the variance is used.
        gate: like `scale`, the factor v of the input; None for one.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        use_running_average: whether the running variance takes the place of the batch's own.
        update_stats: whether the batch enters them; if None, just where it normalizes.
        estimator: how it does; "decay" of `ema` weighs the old value.
        axis: the feature axes, not the first.
        epsilon: added to the variances.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics of the batch are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: without effect: one value for each feature is divided by its own size.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: axis 0 is a feature axis, a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not real and floating.

    Examples:
        >>> x = jnp.array([[[1.0], [3.0]], [[-1.0], [5.0]]])
        >>> y, _ = evo_norm_b0(x, ema().init((1,)), None, use_running_average=False)
        >>> y.ravel().round(1)
        Array([ 0.4,  0.7, -0.4,  0.6], dtype=float32)

    Notes:
        timm takes the running variance with Bessel's correction, and epsilon 1e-3.
    """
    x = as_array(x)
    placed = place(gate, x.shape, canonical_axes(axis, x.ndim, "axis"), "gate")
    v = 1 if placed is None else placed

    def rival(x: Array, in_units: Array, own: Moments) -> Array:
        return in_units * v + jnp.sqrt(own.var)

    return evo_norm_b(
        rival,
        x,
        stats,
        scale,
        bias,
        use_running_average=use_running_average,
        update_stats=update_stats,
        estimator=estimator,
        axis=axis,
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
    )
