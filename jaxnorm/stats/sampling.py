"""What a sample is: its statistics shape, its weights and its shards, checked before any work."""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype, real_dtype
from jaxnorm.stats import _collectives, shapes
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, Floats, Numbers, Shape

Variance = Literal["two_pass", "one_pass", "fast"]
"""How squares are summed: see `jaxnorm.stats.moments`."""


class Sampling(NamedTuple):
    """What a sample is and how its moments are taken: all that is known at trace time.

    Examples:
        >>> Sampling((1, 6)).center
        True
    """

    stats_shape: Shape  # one entry per axis: 1 reduced, the axis's size kept, a divisor grouped
    center: bool = True  # whether the mean is subtracted
    variance: Variance = "one_pass"  # how squares are summed
    axis_name: AxisName | None = None  # mapped axes whose shards hold one sample together
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


def check_sampling(shape: Shape, sampling: Sampling) -> Sampling:
    """Returns `sampling` in hashable form after checking it against the shape of the array.

    Args:
        shape: the array's shape.
        sampling: what was asked for.

    Returns:
        The same with tuples for sequences.

    Raises:
        ValueError: an entry does not fit.

    Examples:
        >>> check_sampling((8, 6), Sampling([1, 6])).stats_shape
        (1, 6)
    """
    stats_shape = shapes.check_stats_shape(shape, sampling.stats_shape)
    if sampling.variance not in ("two_pass", "one_pass", "fast"):
        raise ValueError(
            f"variance={sampling.variance!r} is unknown; use 'two_pass', 'one_pass' or 'fast'"
        )
    groups = sampling.axis_index_groups
    if groups is not None:
        groups = tuple(map(tuple, groups))
    name = sampling.axis_name
    if name is not None:
        name = name if isinstance(name, str) else tuple(name)
        _collectives.shard_count(name, groups)
    return sampling._replace(stats_shape=stats_shape, axis_name=name, axis_index_groups=groups)


def sample_weights(x: Numbers, mask: ArrayLike | None, weights: ArrayLike | None) -> Floats | None:
    """Returns one weight for each entry of `x`: zero outside the sample.

    Args:
        x: [*shape].
        mask: boolean, broadcastable to `x`; true where an entry is valid.
        weights: real, broadcastable to `x`, not negative; zero leaves an entry out.

    Returns:
        The weights with the rank of `x`, float32 or wider; None where all weigh the same.

    Raises:
        ValueError: a shape does not broadcast to that of `x`.
        TypeError: the mask is not boolean or the weights are not real.

    Examples:
        >>> import jax.numpy as jnp
        >>> sample_weights(jnp.array([1.0, jnp.nan]), jnp.array([True, False]), None)
        Array([1., 0.], dtype=float32)
    """
    if mask is None and weights is None:
        return None
    dtype = real_dtype(accumulation_dtype(x.dtype))
    total = jnp.ones((1,) * x.ndim, dtype)
    if mask is not None:
        mask = shapes.broadcasting(mask, x.shape, "mask")
        if mask.dtype != jnp.bool_:
            raise TypeError(
                f"mask must be boolean, got {mask.dtype}; pass real weights as weights="
            )
        total = total * mask.astype(dtype)
    if weights is not None:
        weights = shapes.broadcasting(weights, x.shape, "weights")
        if jnp.issubdtype(weights.dtype, jnp.complexfloating):
            raise TypeError(f"weights must be real, got {weights.dtype}")
        total = total * weights.astype(dtype)
    return total


def settled(values: Numbers, x: Numbers, w: Floats | None) -> Array:
    """Returns `values` with zero where `x` is outside the sample and not a usable number.

    Entries of weight zero that are not finite (or past a quarter of the largest float) count as
    zero: `0 * nan` would carry them into the gradient of every valid entry.

    Args:
        values: [*shape], `x` itself or a tangent of it.
        x: [*shape].
        w: weights of the rank of `x`, or None.

    Returns:
        [*shape], of the dtype of `values`.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([1.0, jnp.nan])
        >>> settled(x, x, jnp.array([1.0, 0.0]))
        Array([1., 0.], dtype=float32)
    """
    if w is None:
        return values
    # Comparisons are false for NaN and give no NaN themselves, which `jax_debug_nans` would stop.
    largest = float(jnp.finfo(w.dtype).max) / 4
    usable = w > 0
    if jnp.iscomplexobj(x):
        usable |= _within(x.real, largest) & _within(x.imag, largest)
    else:
        usable |= _within(x, largest)
    return jnp.where(usable, values, jnp.zeros((), values.dtype))


def usable(x: Numbers, mask: ArrayLike | None, weights: ArrayLike | None) -> Array:
    """Returns `x` with zeros where an entry is masked and not finite.

    Args:
        x: [*shape].
        mask: None, or boolean and broadcastable to `x`.
        weights: None, or real and broadcastable to `x`.

    Returns:
        [*shape], of the dtype of `x`; what moments are applied to that were taken before.

    Examples:
        >>> import jax.numpy as jnp
        >>> usable(jnp.array([1.0, jnp.nan]), jnp.array([True, False]), None)
        Array([1., 0.], dtype=float32)
    """
    return settled(x, x, sample_weights(x, mask, weights))


def _within(values: Array, largest: float) -> Array:
    largest = min(largest, float(jnp.finfo(values.dtype).max))
    return (values >= -largest) & (values <= largest)
