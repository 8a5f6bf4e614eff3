"""Batch group normalization: groups of channels and positions, over the batch.

Zhou et al.: Batch Group Normalization, arXiv:2012.02782, 2020.
"""

from typing import Any

import jax.numpy as jnp

from jaxnorm.functional._parameters import place
from jaxnorm.functional.batch._running import keep_dims, shaped
from jaxnorm.functional.batch._single_value import SingleValue, switches
from jaxnorm.functional.batch._table import require_batch_axis
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Implementation, normalize, standardize
from jaxnorm.stats import Estimator, Variance, ema, moments
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike


def batch_group_norm(
    x: ArrayLike,
    stats: Any,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    num_groups: int,
    use_running_average: bool,
    update_stats: bool | None = None,
    estimator: Estimator = ema(0.99),
    axis: int = -1,
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
    """Returns `x` normalized over the batch in each group of its values, and the statistics.

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias`. Channels and positions are one axis of
    `D = C H W` values, channel by channel, which is cut into G contiguous groups; a statistic is
    over the batch and the D / G values of a group, float32 or wider (Zhou et al.,
    arXiv:2012.02782, 2020, section 3). `G = C` is batch normalization. Fewer groups make larger
    samples for small batches, more groups smaller ones for large batches.

    Args:
        x: [N, *spatial, C] (or channels at `axis`), floating or complex.
        stats: the state of `estimator`, statistics of [num_groups].
        scale: [C], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        num_groups: G, a divisor of D.
        use_running_average: whether the running statistics normalize instead of the batch's own.
        update_stats: whether the batch enters them; if None, just where it normalizes.
        estimator: how it does; "decay" of `ema` weighs the old value.
        axis: the channel axis, not the first.
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
        ValueError: the groups do not divide the values of an example, axis 0 is the channel axis,
            a group holds one value, a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> x, stats = jnp.array([[1.0, 3.0, 8.0, 4.0]]), ema(0.9).init((2,))
        >>> how = {"num_groups": 2, "use_running_average": False, "estimator": ema(0.9)}
        >>> y, stats = batch_group_norm(x, stats, **how)
        >>> y.round(2), stats.mean.round(1)
        (Array([[-1.,  1.,  1., -1.]], dtype=float32), Array([0.2, 0.6], dtype=float32))
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    require_batch_axis(features, x.shape)
    moved = jnp.moveaxis(x, features[0], 1)
    flat = moved.reshape(x.shape[0], -1)
    if num_groups < 1 or flat.shape[1] % num_groups:
        raise ValueError(
            f"num_groups={num_groups} does not divide the {flat.shape[1]} values of an example "
            f"of x {list(x.shape)}; use a divisor of {flat.shape[1]}"
        )

    def flattened(part: ArrayLike | None, name: str) -> Array | None:
        if part is None:
            return None
        part = broadcasting(part, x.shape, name)
        whole = jnp.broadcast_to(part, (part.shape[0], *x.shape[1:]))
        return jnp.moveaxis(whole, features[0], 1).reshape(part.shape[0], -1)

    scale = flattened(place(scale, x.shape, features, "scale"), "scale")
    bias = flattened(place(bias, x.shape, features, "bias"), "bias")
    mask, weights = flattened(mask, "mask"), flattened(weights, "weights")
    affine = {"scale": scale, "bias": bias, "epsilon": epsilon, "dtype": dtype}
    stats_shape = (1, num_groups)
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sample = {"mask": mask, "weights": weights, "variance": variance, **mapped}
    asked = (use_running_average, update_stats, single_value)
    average, update = switches("batch_group_norm", flat.shape, stats_shape, *asked, **mapped)
    if average:
        running = keep_dims(estimator.read(stats), stats_shape)
        y = normalize(flat, running, **affine)
        batch = moments(flat, stats_shape, **sample) if update else None
    else:
        y, batch = standardize(flat, stats_shape, implementation=implementation, **affine, **sample)
    if update and batch is not None:
        stats = estimator.update(stats, shaped(batch, (num_groups,)))
    return jnp.moveaxis(y.reshape(moved.shape), 1, features[0]), stats
