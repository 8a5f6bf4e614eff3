"""Batch normalization by the running statistics, in training too.

Kidger, Garcia: Equinox: neural networks in JAX via callable PyTrees, arXiv:2111.00254, 2021.
"""

from typing import Any

from jaxnorm.functional._parameters import kept_shape, placed
from jaxnorm.functional.batch._running import keep_dims, squeezed
from jaxnorm.functional.batch._single_value import SingleValue, switches
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import Estimator, Variance, ema, moments
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def ema_batch_norm(
    x: ArrayLike,
    stats: Any,
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
    single_value: SingleValue = "raise",
    dtype: DTypeLike | None = None,
) -> tuple[Array, Any]:
    """Returns `x` normalized by running statistics that hold this batch, and these statistics.

    `new = decay * old + (1 - decay) * batch`, `y = (x - new_mean) / sqrt(new_var + epsilon)
    * scale + bias`: training and evaluation normalize alike. The gradient goes through the new
    statistics, so it sees the batch by the share `1 - decay`. Batch norm in Equinox has this as
    `mode="ema"` (Kidger, Garcia, arXiv:2111.00254, 2021). Float32 or wider.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating or complex, of any rank.
        stats: the state of `estimator`, statistics of [*features]; see `Estimator.init`.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        use_running_average: whether the batch stays out of the statistics that normalize it.
        update_stats: whether the state that is returned holds the batch; if None, just where the
            statistics that normalize do.
        estimator: how it does; "decay" of `ema` weighs the old value.
        axis: the feature axes; all others are reduced.
        epsilon: added to the variance.
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
        >>> import jax.numpy as jnp
        >>> x, stats = jnp.array([[1.0], [3.0]]), ema(0.5).init((1,))
        >>> y, stats = ema_batch_norm(x, stats, use_running_average=False, estimator=ema(0.5))
        >>> y.ravel().round(2), stats.mean
        (Array([0., 2.], dtype=float32), Array([1.], dtype=float32))

    Notes:
        Equinox takes the first batch as it is; `debiased` does so here. With a decay near one the
        gradient hardly sees the normalization, and training can become unstable (equinox issue
        659); batch normalization or a smaller decay is steadier.
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    stats_shape = kept_shape(x.shape, features)
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sample = {"mask": mask, "weights": weights, "variance": variance, **mapped}
    asked = (use_running_average, update_stats, single_value)
    average, update = switches("ema_batch_norm", x.shape, stats_shape, *asked, **mapped)
    new = stats
    if update or not average:
        new = estimator.update(stats, squeezed(moments(x, stats_shape, **sample), features))
    running = keep_dims(estimator.read(stats if average else new), stats_shape)
    y = normalize(
        usable(x, mask, weights),
        running,
        **placed(scale, bias, x.shape, features),
        epsilon=epsilon,
        dtype=dtype,
    )
    return y, new if update else stats
