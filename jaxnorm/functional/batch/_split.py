"""Split batch normalization: each part of the batch by itself, the first for evaluation.

Xie, Tan, Gong, Wang, Yuille, Le: Adversarial Examples Improve Image Recognition, arXiv:1911.09665,
2019.
"""

from typing import Any

import numpy as np

from jaxnorm.functional._parameters import kept_shape
from jaxnorm.functional.batch._running import squeezed, whole_count
from jaxnorm.functional.batch._single_value import SingleValue, switches
from jaxnorm.functional.batch._table import placed_rows, require_batch_axis, rows
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Implementation, normalize, standardize
from jaxnorm.stats import Estimator, Variance, ema, moments
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def split_batch_norm(
    x: ArrayLike,
    stats: Any,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    num_splits: int = 2,
    shared_affine: bool = False,
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
    implementation: Implementation | None = None,
) -> tuple[Array, Any]:
    """Returns `x` normalized per feature within each split of the batch, and their statistics.

    `y = (x - mean_s) / sqrt(var_s + epsilon) * scale_s + bias_s` for an example of split s. Axis 0
    is cut into contiguous splits of one size, the clean examples first, those of auxiliary
    distributions (such as adversarial ones) behind them. Evaluation uses the first split's running
    statistics. Statistics shape `(S, 1, 1, C)` for `x [N, H, W, C]`, float32 or wider (Xie et al.,
    arXiv:1911.09665, 2019, section 4).

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating or complex.
        stats: the state of `estimator`, statistics of [num_splits, *features].
        scale: [num_splits, *features]; None for one. See `shared_affine`.
        bias: like `scale`; None for zero.
        num_splits: how many splits, a divisor of N in training.
        shared_affine: whether scale and bias serve all splits: then [*features], or of the rank of
            `x` and broadcastable to it.
        use_running_average: whether the running statistics of the first split normalize all.
        update_stats: whether the batch enters them; if None, just where it normalizes.
        estimator: how it does; "decay" of `ema` weighs the old value.
        axis: the feature axes, not the first.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: where one value stands behind a statistic; see `jaxnorm.batch_norm`.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: the splits do not divide the batch, axis 0 is a feature axis, a split holds one
            value per feature, a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> x, stats = jnp.array([[1.0], [3.0], [10.0], [30.0]]), ema(0.9).init((2, 1))
        >>> y, stats = split_batch_norm(x, stats, use_running_average=False, estimator=ema(0.9))
        >>> y.ravel().round(2), stats.mean.ravel()
        (Array([-1.,  1., -1.,  1.], dtype=float32), Array([0.2, 2. ], dtype=float32))
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    require_batch_axis(features, x.shape)
    # Evaluation asks nothing of the size of the batch, unless the batch enters the statistics.
    if (update_stats or not use_running_average) and (num_splits < 1 or x.shape[0] % num_splits):
        raise ValueError(
            f"num_splits={num_splits} does not divide the {x.shape[0]} examples of x "
            f"{list(x.shape)}; pad the batch, or use a divisor of {x.shape[0]}"
        )
    stats_shape = (num_splits, *kept_shape(x.shape, features)[1:])
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sample = {"mask": mask, "weights": weights, "variance": variance, **mapped}
    asked = (use_running_average, update_stats, single_value)
    average, update = switches("split_batch_norm", x.shape, stats_shape, *asked, **mapped)
    index = np.int32(0) if average else np.repeat(np.arange(num_splits), x.shape[0] // num_splits)
    own = None if shared_affine else (index, num_splits)
    affine = placed_rows(scale, bias, own, x, features)
    affine |= {"epsilon": epsilon, "dtype": dtype}
    if average:
        running = whole_count(estimator.read(stats))
        y = normalize(x, rows(running, 0, x, features, "stats", num_splits), **affine)
        batch = moments(x, stats_shape, **sample) if update else None
    else:
        y, batch = standardize(x, stats_shape, implementation=implementation, **affine, **sample)
    if update and batch is not None:
        stats = estimator.update(stats, squeezed(batch, (0, *features)))
    return y, stats
