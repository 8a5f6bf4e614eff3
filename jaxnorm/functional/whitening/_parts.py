"""What the norms that whiten share: their state, the batch's covariance and the linear map.

Huang, Yang, Lang, Deng: Decorrelated Batch Normalization, arXiv:1804.08450, 2018.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm import _explicit
from jaxnorm.functional._parameters import kept_shape, scaled_and_shifted
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes, check_epsilon
from jaxnorm.ops import normalize
from jaxnorm.stats import BatchStats, Covariance, Moments, covariance, ema, in_groups, units
from jaxnorm.stats.sampling import usable
from jaxnorm.stats.sums import spread
from jaxnorm.typing import Array, ArrayLike, DTypeLike, Shape


class WhiteningState(NamedTuple):
    """The running statistics of a norm that whitens.

    Examples:
        >>> WhiteningState(jnp.zeros(4), jnp.tile(jnp.eye(2), (2, 1, 1))).covariance.shape
        (2, 2, 2)
    """

    mean: Array  # [C], float32 or wider; [C, 2] for the parts of complex numbers
    covariance: Array  # [G, C/G, C/G]; [C, 2, 2] for the parts of complex numbers


def blended(state: WhiteningState, taken: Covariance, decay: float) -> WhiteningState:
    """Returns the running statistics after a batch; an empty batch leaves them as they are."""
    average = ema(decay)
    seen = jnp.broadcast_to(taken.count[:, None], (len(taken.count), taken.cov.shape[-1]))
    shape = jnp.shape(state.mean)
    one = jnp.ones(shape, taken.count.dtype)
    means = Moments(taken.mean.reshape(shape), one, seen.reshape(shape), taken.tail.reshape(shape))
    mean = average.update(BatchStats(jnp.asarray(state.mean), one), means).mean
    old, count = jnp.asarray(state.covariance), taken.count[:, None, None]
    squares = Moments(jnp.zeros_like(old), taken.cov, jnp.broadcast_to(count, old.shape))
    cov = average.update(BatchStats(jnp.zeros_like(old), old), squares).var
    return WhiteningState(mean, cov)


def whiten(
    root: Callable[[Array, Array], Array],
    x: ArrayLike,
    state: WhiteningState,
    scale: ArrayLike | None,
    bias: ArrayLike | None,
    *,
    num_groups: int,
    axis: int,
    use_running_average: bool,
    update_stats: bool | None,
    decay: float,
    epsilon: float,
    dtype: DTypeLike | None,
    **sample: Any,
) -> tuple[Array, WhiteningState]:
    """Returns `root(cov) (x - mean)` per group, scaled and shifted, and the running statistics."""
    x = as_array(x)
    check_epsilon(epsilon)
    (axis,) = canonical_axes(axis, x.ndim, "axis")
    result, wide = jnp.dtype(dtype or x.dtype), accumulation_dtype(dtype or x.dtype)
    update = (not use_running_average) if update_stats is None else update_stats
    x = usable(x, sample["mask"], sample["weights"])
    sides = (num_groups, *(x.shape[axis] // num_groups,) * 2)
    new, y = state, None
    if update or not use_running_average:
        unit = group_units(x, num_groups, axis, epsilon, sample)
        scaled = x.astype(wide) / spread(unit, x.shape)
        taken = covariance(scaled, num_groups, axis, **sample)
        require_fit(state, (x.shape[axis],), sides)
        size = unit.reshape(-1, 1, 1)
        if update:
            new = blended(state, in_full(taken, spread(unit, taken.mean.shape), size), decay)
        # The power 3/2 of its inverse, which the derivative holds, is within range.
        least = float(jnp.finfo(size.dtype).tiny) ** 0.625
        floor = jnp.maximum(epsilon / size / size, least)
        y = mapped(root(taken.cov, floor), centred(scaled, taken, wide), axis)
    if y is None or use_running_average:
        require_fit(state, (x.shape[axis],), sides)
        mean = jnp.asarray(state.mean).reshape(kept_shape(x.shape, (axis,)))
        ridge = jnp.full((num_groups, 1, 1), epsilon, mean.dtype)
        cov = jnp.asarray(state.covariance)
        fixed = Covariance(mean, jnp.zeros_like(mean), cov, jnp.ones(num_groups, mean.dtype))
        y = mapped(root(cov, ridge), centred(x, fixed, wide), axis)
    return scaled_and_shifted(y, scale, bias, (axis,)).astype(result), new


def group_units(
    x: Array, num_groups: int, axis: int, epsilon: float, sample: dict[str, Any]
) -> Array:
    """Returns a power of two of the size of each group, the same on all shards.

    In such units covariances of entries of any size are within the range of floats.
    """
    stats_shape = tuple(num_groups if a == axis else 1 for a in range(x.ndim))
    chosen = {name: value for name, value in sample.items() if name != "variance"}
    return units(x, stats_shape, at_least=epsilon**0.5, **chosen)


def in_full(taken: Covariance, unit: Array, size: Array) -> Covariance:
    """Returns the covariance of a sample that was taken in units."""
    return Covariance(taken.mean * unit, taken.tail * unit, taken.cov * size * size, taken.count)


def centred(x: Array, taken: Covariance, dtype: DTypeLike) -> Array:
    """Returns `x` less its mean, in `dtype`."""
    one = jnp.ones_like(taken.mean)
    return normalize(x, Moments(taken.mean, one, one, taken.tail), epsilon=0.0, dtype=dtype)


def mapped(matrices: Array, x: Array, axis: int) -> Array:
    """Returns the channels of each group multiplied by the matrix of the group, [G, C/G, C/G]."""
    grouped = in_groups(x, len(matrices), axis)
    y = jnp.einsum("gij,...gj->...gi", matrices, grouped, precision=jax.lax.Precision.HIGHEST)
    return _explicit.like(jnp.moveaxis(y.reshape(*y.shape[:-2], -1), -1, axis), x)


def require_fit(state: WhiteningState, channels: Shape, sides: Shape) -> None:
    """Raises where running statistics are of another shape than those of the batch."""
    mean, cov = jnp.shape(state.mean), jnp.shape(state.covariance)
    if mean != channels or cov != sides:
        raise ValueError(
            f"the state has a mean {list(mean)} and a covariance {list(cov)}, but x and num_groups "
            f"need {list(channels)} and {list(sides)}; start from zeros and identities of these "
            "shapes"
        )
