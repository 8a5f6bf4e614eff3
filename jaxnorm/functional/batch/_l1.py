"""L1 batch normalization: the mean absolute deviation in the place of the standard deviation.

Wu, Li, Deng, Liu, Xie, Shi: L1-Norm Batch Normalization for Efficient Training of Deep Neural
Networks, arXiv:1802.09769, 2018.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, scaled_and_shifted
from jaxnorm.functional.batch._running import squeezed
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes, quotient
from jaxnorm.ops import normalize
from jaxnorm.stats import BatchStats, Moments, Variance, ema, moments, whole_mean
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


class L1State(NamedTuple):
    """The running statistics of L1 batch normalization.

    Examples:
        >>> L1State(jnp.zeros(2), jnp.ones(2)).deviation
        Array([1., 1.], dtype=float32)
    """

    mean: Array  # [*features], float32 or wider
    deviation: Array  # [*features], float32 or wider, times sqrt(pi / 2)


def l1_batch_norm(
    x: ArrayLike,
    state: L1State,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    decay: float = 0.99,
    axis: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> tuple[Array, L1State]:
    """Returns `x` over its mean absolute deviation per feature, and the running statistics.

    `y = (x - mean) / (deviation + epsilon) * scale + bias` with
    `deviation = sqrt(pi / 2) mean(|x - mean|)`, which is the standard deviation of a Gaussian;
    statistics shape `(1, 1, 1, C)` for `x [N, H, W, C]`, float32 or wider (Wu et al.,
    arXiv:1802.09769, 2018). Nothing is squared, so that every size of `x` is within range.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating, of any rank.
        state: running statistics of [*features].
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        use_running_average: whether the running statistics normalize instead of the batch's own.
        update_stats: whether the batch enters them; if None, just where it normalizes.
        decay: the weight of the old running statistics, from 0 to 1.
        axis: the feature axes; all others are reduced.
        epsilon: added to the deviation, not negative.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: a shape that does not fit, or an unbound `axis_name`.
        TypeError: `x` is not floating, or complex: the constant is that of real Gaussians.

    Examples:
        >>> x, state = jnp.array([[1.0], [5.0]]), L1State(jnp.zeros(1), jnp.ones(1))
        >>> y, state = l1_batch_norm(x, state, use_running_average=False, decay=0.9)
        >>> y.ravel().round(1), state.deviation.round(1)
        (Array([-0.8,  0.8], dtype=float32), Array([1.2], dtype=float32))

    Notes:
        The constant gives `y` the size that batch normalization gives it. The deviation itself is
        averaged over batches, not its square. One value per feature gives the bias.
    """
    x = as_array(x)
    if jnp.iscomplexobj(x):
        raise TypeError(f"l1_batch_norm needs a real x, got {x.dtype}; use batch_norm")
    features = canonical_axes(axis, x.ndim, "axis")
    stats_shape = kept_shape(x.shape, features)
    how = {"mask": mask, "weights": weights, "variance": variance, "axis_name": axis_name}
    how["axis_index_groups"] = axis_index_groups
    update = (not use_running_average) if update_stats is None else update_stats
    result, wide = jnp.dtype(dtype or x.dtype), accumulation_dtype(dtype or x.dtype)
    x = usable(x, mask, weights)

    def centred(mean: Moments) -> Array:
        one = jnp.ones_like(mean.mean)
        return normalize(x, mean._replace(var=one, count=one), epsilon=0.0, dtype=wide)

    own, new = None, state
    if update or not use_running_average:
        batch = moments(x, stats_shape, **how)
        y = centred(batch)
        deviation = math.sqrt(math.pi / 2) * whole_mean(moments(jnp.abs(y), stats_shape, **how))
        own = quotient(y, jnp.where(batch.count > 0, deviation + epsilon, 1))
        if update:
            # The estimator takes any second statistic as it is.
            both = squeezed(batch._replace(var=deviation), features)
            new = L1State(*ema(decay).update(BatchStats(*state), both))
    if own is None or use_running_average:
        mean, deviation = (jnp.asarray(part).reshape(stats_shape) for part in state)
        own = quotient(centred(Moments(mean, deviation, deviation)), deviation + epsilon)
    return scaled_and_shifted(own, scale, bias, features).astype(result), new
