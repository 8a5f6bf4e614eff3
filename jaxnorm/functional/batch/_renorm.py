"""Batch renormalization: batch statistics, corrected towards the running ones.

Ioffe: Batch Renormalization, arXiv:1702.03275, 2017.
"""

from numbers import Real
from typing import Any

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, placed, scaled_and_shifted
from jaxnorm.functional.batch._renorm_corrections import corrections
from jaxnorm.functional.batch._running import keep_dims, squeezed
from jaxnorm.functional.batch._single_value import SingleValue, switches
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes
from jaxnorm.ops import Implementation, normalize, standardize
from jaxnorm.stats import Estimator, Variance, ema, moments
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def batch_renorm(
    x: ArrayLike,
    stats: Any,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    r_max: ArrayLike = 3.0,
    d_max: ArrayLike = 5.0,
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
    """Returns `x` normalized as the running statistics would, and these after this batch.

    `y = ((x - mean_B) / sd_B * r + d) * scale + bias` with `sd = sqrt(var + epsilon)` and, as
    constants for the gradient, `r = clip(sd_B / sd, 1 / r_max, r_max)` and
    `d = clip((mean_B - mean) / sd, -d_max, d_max)`, the running statistics being those before this
    batch; float32 or wider (Ioffe, arXiv:1702.03275, 2017, algorithm 1). With `r_max = 1` and
    `d_max = 0` this is batch normalization; unclipped, the forward pass is that of evaluation.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating, of any rank.
        stats: the state of `estimator`, statistics of [*features]; see `Estimator.init`.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        r_max: [], at least 1, the largest r; may be traced, see `batch_renorm_schedule`.
        d_max: [], not negative, the largest |d|; may be traced.
        use_running_average: whether the running statistics normalize instead of the batch's own.
        update_stats: whether the batch enters them; if None, just where it normalizes.
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
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: one value per feature, a shape that does not fit, or an unbound `axis_name`.
        TypeError: `x` is not floating, or is complex: the bounds compare the corrections.

    Examples:
        >>> x, stats = jnp.array([[1.0], [5.0]]), ema().init((1,))
        >>> y, _ = batch_renorm(x, stats, use_running_average=False, d_max=2.5)
        >>> y.ravel().round(2)
        Array([0.5, 4.5], dtype=float32)
    """
    x = as_array(x)
    if jnp.iscomplexobj(x):
        raise TypeError(
            f"batch_renorm needs a real x, got {x.dtype} {list(x.shape)}: the bounds of complex "
            "corrections are not defined; use batch_norm"
        )
    if (isinstance(r_max, Real) and r_max < 1) or (isinstance(d_max, Real) and d_max < 0):
        raise ValueError(
            f"r_max={r_max} must be at least 1 and d_max={d_max} not negative; use 1 and 0 for no "
            "correction"
        )
    features = canonical_axes(axis, x.ndim, "axis")
    stats_shape = kept_shape(x.shape, features)
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sample = {"mask": mask, "weights": weights, "variance": variance, **mapped}
    asked = (use_running_average, update_stats, single_value)
    average, update = switches("batch_renorm", x.shape, stats_shape, *asked, **mapped)
    result, wide = jnp.dtype(dtype or x.dtype), accumulation_dtype(dtype or x.dtype)
    affine = placed(scale, bias, x.shape, features)
    running = keep_dims(estimator.read(stats), stats_shape)
    if average:
        y = normalize(x, running, **affine, epsilon=epsilon, dtype=result)
        batch = moments(x, stats_shape, **sample) if update else None
    else:
        how = {"epsilon": epsilon, "dtype": wide, "implementation": implementation}
        y, batch = standardize(x, stats_shape, **how, **sample)
        r, d = corrections(batch, running, r_max, d_max, epsilon)
        y = scaled_and_shifted(y * r + d, **affine, features=features)
    if update and batch is not None:
        stats = estimator.update(stats, squeezed(batch, features))
    return y.astype(result), stats
