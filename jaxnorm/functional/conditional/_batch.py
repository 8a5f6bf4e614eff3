"""Conditional batch normalization: scale and bias of each example follow from a condition.

de Vries et al.: Modulating early visual processing by language, arXiv:1707.00683, 2017.
"""

from typing import Any

from jaxnorm.functional.batch._batch import batch_norm
from jaxnorm.functional.batch._single_value import SingleValue
from jaxnorm.functional.conditional._placing import conditioned
from jaxnorm.numerics import as_array
from jaxnorm.ops import Implementation
from jaxnorm.stats import Estimator, Variance, ema
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def conditional_batch_norm(
    x: ArrayLike,
    stats: Any,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    estimator: Estimator = ema(0.99),
    axis: Axes = -1,
    scale_offset: float = 1.0,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    single_value: SingleValue = "raise",
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Any]:
    """Returns `x` normalized per feature, scaled and shifted per example, and new statistics.

    `y = (x - mean) / sqrt(var + epsilon) * (scale_offset + scale) + bias`; statistics shape
    `(1, 1, 1, C)` for `x [N, H, W, C]`, float32 or wider (de Vries et al., arXiv:1707.00683, 2017:
    the condition predicts the change of the scale, and of the bias).

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating or complex, of any rank.
        stats: the state of `estimator`, statistics of [*features]; see `Estimator.init`.
        scale: [N, *features], [*features], or of the rank of `x` and broadcastable to it; None for
            a factor of one.
        bias: like `scale`; None for zero.
        use_running_average: whether the running statistics normalize instead of the batch's own.
        update_stats: whether the batch enters them; if None, just where it normalizes.
        estimator: how it does; "decay" of `ema` weighs the old value.
        axis: the feature axes; all others are reduced.
        scale_offset: added to the scale; zero for a scale that is not stored around zero, such as
            a learned one plus its predicted change.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: what a batch of one value per feature does; see `jaxnorm.batch_norm`.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state, as `jaxnorm.batch_norm` has them.

    Raises:
        ValueError: one value per feature, a shape that does not fit, or an unbound `axis_name`.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> x, delta = jnp.array([[1.0], [3.0]]), jnp.array([[0.0], [1.0]])
        >>> stats = ema(0.9).init((1,))
        >>> conditional_batch_norm(x, stats, delta, use_running_average=False)[0].round(2)
        Array([[-1.],
               [ 2.]], dtype=float32)
    """
    x = as_array(x)
    return batch_norm(
        x,
        stats,
        **conditioned(scale, bias, x.shape, axis, scale_offset),
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
        single_value=single_value,
        dtype=dtype,
        implementation=implementation,
    )
