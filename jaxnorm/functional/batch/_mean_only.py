"""Mean-only batch normalization: each feature centred over the batch, for weight-normalized layers.

Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016.
"""

from typing import Any

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, place
from jaxnorm.functional.batch._running import shaped, squeezed
from jaxnorm.functional.batch._single_value import SingleValue, switches
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import Estimator, Variance, ema, moments
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def mean_only_batch_norm(
    x: ArrayLike,
    stats: Any,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    estimator: Estimator = ema(0.99),
    axis: Axes = -1,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    single_value: SingleValue = "raise",
    dtype: DTypeLike | None = None,
) -> tuple[Array, Any]:
    """Returns `x` without its mean per feature, shifted, and the running statistics.

    `y = x - mean + bias`; statistics shape `(1, 1, 1, C)` for `x [N, H, W, C]`, float32 or wider
    (Salimans, Kingma, arXiv:1602.07868, 2016, section 4). The scale is left to the kernels, which
    weight normalization is meant for.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating or complex, of any rank.
        stats: the state of `estimator`, statistics of [*features]; its variance is kept, but
            normalizes nothing.
        bias: [*features], or of the rank of `x` and broadcastable to it; None for zero.
        use_running_average: whether the running mean is subtracted instead of the batch's own.
        update_stats: whether the batch enters the running statistics; if None, just where its own
            mean is subtracted.
        estimator: how it does; "decay" of `ema` weighs the old value.
        axis: the feature axes; all others are reduced.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: where one value stands behind a statistic; see `jaxnorm.batch_norm`.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: one value per statistic, a shape that does not fit, or an unbound `axis_name`.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> x, stats = jnp.array([[1.0], [5.0]]), ema(0.9).init((1,))
        >>> mean_only_batch_norm(x, stats, use_running_average=False)[0].ravel()
        Array([-2.,  2.], dtype=float32)
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    stats_shape = kept_shape(x.shape, features)
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sample = {"mask": mask, "weights": weights, "variance": variance, **mapped}
    asked = (use_running_average, update_stats, single_value)
    average, update = switches("mean_only_batch_norm", x.shape, stats_shape, *asked, **mapped)
    batch = moments(x, stats_shape, **sample) if update or not average else None
    subtracted = shaped(estimator.read(stats), stats_shape) if batch is None or average else batch
    one = jnp.ones_like(subtracted.var)
    y = normalize(
        usable(x, mask, weights),
        subtracted._replace(var=one, count=one),
        bias=place(bias, x.shape, features, "bias"),
        epsilon=0.0,
        dtype=dtype,
    )
    if update and batch is not None:
        stats = estimator.update(stats, squeezed(batch, features))
    return y, stats
