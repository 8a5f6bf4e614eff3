"""Batch group normalization: groups of channels and positions, over the batch.

Zhou et al.: Batch Group Normalization, arXiv:2012.02782, 2020.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm import _explicit
from jaxnorm.functional._parameters import placed
from jaxnorm.functional.batch._running import keep_dims, shaped
from jaxnorm.functional.batch._single_value import SingleValue, switches
from jaxnorm.functional.batch._table import require_batch_axis
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Implementation, normalize, standardize
from jaxnorm.stats import Estimator, Moments, Variance, ema, moments, pool
from jaxnorm.stats._moments import gathered_moments, with_tail
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.stats.sums import repeat
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike, Shape


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
    values = math.prod(x.shape[1:])
    if num_groups < 1 or not values or values % num_groups:
        raise ValueError(
            f"num_groups={num_groups} does not divide the {values} values of an example "
            f"of x {list(x.shape)}; use a divisor of {values}"
        )
    groups = _Groups.of(x.shape, features[0], num_groups)
    affine = {**placed(scale, bias, x.shape, features), "epsilon": epsilon, "dtype": dtype}
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sample = {"mask": mask, "weights": weights, "variance": variance, **mapped}
    shapes = (x.shape[0], values), (1, num_groups)
    asked = (use_running_average, update_stats, single_value)
    average, update = switches("batch_group_norm", *shapes, *asked, **mapped)
    if average:
        running = keep_dims(estimator.read(stats), (num_groups,))
        y = normalize(x, groups.at_blocks(running), **affine)
        batch = groups.pooled(moments(x, groups.stats_shape, **sample)) if update else None
    elif groups.blocks == num_groups:
        how = {"implementation": implementation, **affine, **sample}
        y, taken = standardize(x, groups.stats_shape, **how)
        batch = groups.pooled(taken)
    else:
        named = {name: v for name, v in {**affine, **sample}.items() if name in _LIKE_X}
        flat = {k: None if v is None else groups.flat(v, x.shape, k) for k, v in named.items()}
        how = {"implementation": implementation, **affine, **sample, **flat}
        y, taken = standardize(groups.flat(x, x.shape, "x"), shapes[1], **how)
        y = jnp.moveaxis(y.reshape(jnp.moveaxis(x, features[0], 1).shape), 1, features[0])
        y, batch = _explicit.like(y, x), shaped(taken, (num_groups,))
    if update and batch is not None:
        stats = estimator.update(stats, batch)
    return y, stats


_LIKE_X = ("scale", "bias", "mask", "weights")


class _Groups(NamedTuple):
    """Contiguous groups of the values of an example, and the blocks of `x` that they are made of.

    A block is a range of each axis. A group that ends within a channel, or within a row of one,
    has several.
    """

    stats_shape: Shape  # of the blocks
    channel: int  # the axis of the channels
    number: int  # of groups

    @classmethod
    def of(cls, shape: Shape, channel: int, number: int) -> "_Groups":
        """Returns the largest blocks none of which holds values of two groups."""
        sizes = (shape[channel], *shape[1:channel], *shape[channel + 1 :])
        inner = math.prod(sizes)
        run, cuts = inner // number, []
        for n in sizes:
            inner //= n
            cuts.append(n if run % inner else n // math.gcd(n, run // inner))
            run = math.gcd(run, inner)
        return cls((1, *cuts[1:channel], cuts[0], *cuts[channel:]), channel, number)

    @property
    def blocks(self) -> int:
        return math.prod(self.stats_shape)

    def pooled(self, taken: Moments) -> Moments:
        """Returns the moments [G] of the groups from those of the blocks."""
        others = [axis for axis in range(len(self.stats_shape)) if axis != self.channel]

        def in_order(part: Array) -> Array:
            return jnp.moveaxis(part[0], self.channel - 1, 0).reshape(-1)

        fine = jax.tree.map(in_order, gathered_moments(taken, others))
        return fine if self.blocks == self.number else pool(fine, (self.number,))

    def flat(self, part: ArrayLike, shape: Shape, name: str) -> Array:
        """Returns the values of each example channel by channel, all of them on each device."""
        part = broadcasting(part, shape, name)
        part = _explicit.replicated(part, range(1, part.ndim))
        whole = jnp.broadcast_to(part, (part.shape[0], *shape[1:]))
        return jnp.moveaxis(whole, self.channel, 1).reshape(part.shape[0], -1)

    def at_blocks(self, of_groups: Moments) -> Moments:
        """Returns the moments of the groups where their blocks stand."""
        _, *rest = self.stats_shape
        channels = rest.pop(self.channel - 1)

        def placed_part(part: ArrayLike) -> Array:
            every = repeat(jnp.asarray(part), 0, self.blocks // self.number)
            every = _explicit.whole_groups(every, channels, 0)
            spec = (*_explicit.explicit_axes(every), *(None,) * len(rest))
            blocks = _explicit.reshaped(every, (channels, *rest), spec)
            return jnp.moveaxis(blocks, 0, self.channel - 1)[None]

        return jax.tree.map(placed_part, with_tail(of_groups))
