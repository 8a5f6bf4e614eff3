"""Recurrent batch normalization: running statistics of each time step.

Cooijmans et al.: Recurrent Batch Normalization, arXiv:1603.09025, 2016.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, placed
from jaxnorm.functional.batch._running import squeezed, whole_count
from jaxnorm.functional.batch._single_value import SingleValue, switches
from jaxnorm.functional.batch._table import require_batch_axis, rows
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Implementation, normalize, standardize
from jaxnorm.stats import Estimator, Moments, Variance, ema, moments
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def recurrent_batch_norm(
    x: ArrayLike,
    stats: Any,
    step: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    max_steps: int,
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
    """Returns `x` of one time step normalized over the batch, and the running statistics of all.

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias` per feature, float32 or wider. Scale and
    bias serve all steps; running statistics are of each step, those of the last serve whatever
    comes later (Cooijmans et al., arXiv:1603.09025, 2016, section 3).

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating or complex.
        stats: the state of `estimator`, statistics of [max_steps, *features].
        step: [], integer, counted from zero; may be traced, as in `jax.lax.scan`.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one. The paper
            starts it at 0.1, lest a tanh behind it saturates.
        bias: like `scale`; None for zero.
        max_steps: how many steps have running statistics of their own.
        use_running_average: whether the running statistics normalize instead of the batch's own.
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
        ValueError: one value per feature, `max_steps < 1`, or what `jaxnorm.batch_norm` refuses.
        TypeError: `x` is not floating or complex, or the step is no integer.

    Examples:
        >>> x, stats = jnp.array([[1.0], [3.0]]), ema(0.9).init((4, 1))
        >>> how = {"max_steps": 4, "use_running_average": False, "estimator": ema(0.9)}
        >>> y, stats = recurrent_batch_norm(x, stats, 7, **how)
        >>> y.ravel().round(2), stats.mean.ravel()
        (Array([-1.,  1.], dtype=float32), Array([0. , 0. , 0. , 0.2], dtype=float32))
    """
    x, step = as_array(x), jnp.asarray(step)
    features = canonical_axes(axis, x.ndim, "axis")
    require_batch_axis(features, x.shape)
    if max_steps < 1 or step.ndim:
        raise ValueError(
            f"max_steps={max_steps} must be at least 1, and step {list(step.shape)} one number"
        )
    if not jnp.issubdtype(step.dtype, jnp.integer):
        raise TypeError(f"step must be an integer, got {step.dtype}")
    stats_shape, row = kept_shape(x.shape, features), jnp.clip(step, 0, max_steps - 1)
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sample = {"mask": mask, "weights": weights, "variance": variance, **mapped}
    asked = (use_running_average, update_stats, single_value)
    average, update = switches("recurrent_batch_norm", x.shape, stats_shape, *asked, **mapped)
    affine = {**placed(scale, bias, x.shape, features), "epsilon": epsilon, "dtype": dtype}
    if average:
        running = whole_count(estimator.read(stats))
        y = normalize(x, rows(running, row, x, features, "stats", max_steps), **affine)
        batch = moments(x, stats_shape, **sample) if update else None
    else:
        y, batch = standardize(x, stats_shape, implementation=implementation, **affine, **sample)
    if update and batch is not None:
        stats = estimator.update(stats, _at(squeezed(batch, features), row, max_steps))
    return y, stats


def _at(batch: Moments, row: Array, count: int) -> Moments:
    """Returns moments of `count` rows of which one has a sample, so that the others stay."""
    here = (jnp.arange(count) == row).reshape(-1, *(1,) * batch.mean.ndim)
    every = jax.tree.map(lambda part: jnp.broadcast_to(part, (count, *batch.mean.shape)), batch)
    return every._replace(count=jnp.where(here, every.count, 0))
