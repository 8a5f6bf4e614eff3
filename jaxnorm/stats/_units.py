"""The size of the entries of an array, as powers of two."""

import jax.numpy as jnp
from jax import lax

from jaxnorm.numerics import accumulation_dtype, as_array, power_of_two, real_dtype, require_inexact
from jaxnorm.stats._moments import Moments
from jaxnorm.stats.sampling import sample_weights, settled
from jaxnorm.stats.shapes import check_stats_shape
from jaxnorm.stats.sums import block_max
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, Numbers, Shape


def units(
    x: ArrayLike,
    stats_shape: Shape,
    *,
    at_least: float = 0.0,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
) -> Array:
    """Returns a power of two of the size of the largest entries in the sample of each statistic.

    Division by it is exact, and brings squares of entries of any size into the range of floats.

    Args:
        x: [*shape], floating or complex.
        stats_shape: one entry per axis, as in `jaxnorm.stats.moments`.
        at_least: the unit is not below the power of two of this, such as the root of an epsilon.
        mask: boolean, broadcastable to `x`; true where an entry is part of the sample.
        weights: real, broadcastable to `x`, not negative; zero leaves an entry out.
        axis_name: mapped axes whose shards get the largest unit of all of them.
        axis_index_groups: disjoint, equally large groups of shards to stay within.

    Returns:
        [*stats_shape], float32 or wider, real; one where a sample is empty. A constant for
        derivatives.

    Raises:
        ValueError: `stats_shape` does not divide the shape, or a mask does not broadcast.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> units(jnp.array([[3.0, -5.0], [0.3, 0.0]]), (2, 1)).ravel()
        Array([4.  , 0.25], dtype=float32)
    """
    x = as_array(x)
    require_inexact(x)
    stats_shape = check_stats_shape(x.shape, stats_shape)
    size = sizes(x, mask, weights)
    if x.size:
        unit = unit_of(block_max(size, stats_shape), at_least)
    else:
        unit = jnp.ones(stats_shape, size.dtype)
    if axis_name is None:
        return unit
    return lax.pmax(unit, axis_name, axis_index_groups=axis_index_groups)


def sizes(x: Numbers, mask: ArrayLike | None, weights: ArrayLike | None) -> Array:
    """Returns the largest part of each entry without its sign, and -1 outside the sample.

    Args:
        x: [*shape].
        mask: boolean, broadcastable to `x`.
        weights: real, broadcastable to `x`.

    Returns:
        [*shape], float32 or wider, a constant for derivatives.

    Examples:
        >>> sizes(jnp.array([-2.0, jnp.nan]), jnp.array([True, False]), None)
        Array([ 2., -1.], dtype=float32)
    """
    w = sample_weights(x, mask, weights)
    x = lax.stop_gradient(settled(x, x, w))
    size = jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag)) if jnp.iscomplexobj(x) else jnp.abs(x)
    size = size.astype(real_dtype(accumulation_dtype(x.dtype)))
    return size if w is None else jnp.where(lax.stop_gradient(w) > 0, size, -1)


def unit_of(largest: Array, at_least: float) -> Array:
    """Returns the unit for the largest size in each sample, one where that is negative.

    Args:
        largest: [*stats_shape].
        at_least: see `units`.

    Returns:
        [*stats_shape].

    Examples:
        >>> unit_of(jnp.array([5.0, 0.1, -1.0]), 0.5)
        Array([4. , 0.5, 1. ], dtype=float32)
    """
    unit = power_of_two(jnp.maximum(largest, jnp.asarray(at_least, largest.dtype)))
    return jnp.where(largest >= 0, unit, 1)


def rescaled(moments: Moments, unit: Array) -> Moments:
    """Returns the moments of a sample whose entries are all multiplied by `unit`.

    Args:
        moments: of [*stats_shape].
        unit: broadcastable to [*stats_shape], a power of two.

    Returns:
        `Moments` of [*stats_shape]; the count stays.

    Examples:
        >>> rescaled(Moments(jnp.ones(1), jnp.ones(1), jnp.ones(1)), jnp.array(4.0)).var
        Array([16.], dtype=float32)
    """
    tail = None if moments.tail is None else moments.tail * unit
    return moments._replace(mean=moments.mean * unit, var=moments.var * unit * unit, tail=tail)
