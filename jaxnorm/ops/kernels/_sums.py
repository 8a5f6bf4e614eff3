"""Sums over whole arrays, written for XLA on one CPU.

XLA makes a library call of each, and writes out as an array whatever several of them read, such as
a widened `x` or a cotangent times a scale. What is in a branch of a condition that it cannot decide
is compiled by itself: there, each sum reads its inputs and nothing is written.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from jaxnorm.stats import _shapes
from jaxnorm.typing import Array, Shape

MANY = 16  # entries of an axis that are worth a stage of their own


def sum_alone(function: Callable[..., Array], shape: Shape, *arrays: Array) -> Array:
    """Returns the sums of `function(*arrays)`, compiled by themselves.

    Args:
        function: elementwise, its result float32.
        shape: the statistics shape: what is summed for each entry.
        *arrays: of one shape, floating, not empty.

    Returns:
        [*shape], float32.

    Examples:
        >>> sum_alone(jnp.square, (1, 2), jnp.array([[1.0, 2.0], [3.0, 4.0]]))
        Array([[10., 20.]], dtype=float32)
    """
    x = arrays[0]
    entry = lax.slice(x, (0,) * x.ndim, (1,) * x.ndim).astype(jnp.float32).reshape(())
    # XLA does not know that no number of 32 bits has more of them set.
    always = lax.population_count(lax.bitcast_convert_type(entry, jnp.int32)) <= 32
    stage = _first_stage(x.shape, shape)
    # Never computed, but like the sums it varies over the mesh axes that `x` varies over.
    never = jnp.broadcast_to(entry, stage)
    partial = lax.cond(always, _block_sum(function, stage), lambda *_: never, *arrays)
    return _shapes.block_sum(partial, shape)


def sum_of_either(
    condition: Array,
    function: Callable[..., Array],
    other: Callable[..., Array],
    shape: Shape,
    *arrays: Array,
) -> Array:
    """Returns the sums of `function(*arrays)` if the condition holds, else of `other(*arrays)`.

    Args:
        condition: [], boolean.
        function: elementwise, its result float32.
        other: the same.
        shape: the statistics shape: what is summed for each entry.
        *arrays: of one shape.

    Returns:
        [*shape], float32.

    Examples:
        >>> sum_of_either(True, jnp.negative, jnp.square, (1,), jnp.array([1.0, 2.0]))
        Array([-3.], dtype=float32)
    """
    stage = _first_stage(arrays[0].shape, shape)
    partial = lax.cond(condition, _block_sum(function, stage), _block_sum(other, stage), *arrays)
    return _shapes.block_sum(partial, shape)


def _block_sum(function: Callable[..., Array], shape: Shape) -> Callable[..., Array]:
    return lambda *arrays: _shapes.block_sum(function(*arrays), shape)


def _first_stage(shape: Shape, stats_shape: Shape) -> Shape:
    """Returns the statistics shape of the sums that are taken first.

    Between a kept axis in front and channels behind, one reduced axis is summed at up to twice the
    speed of several. What remains to be summed is small.

    Examples:
        >>> _first_stage((8, 56, 56, 64), (8, 1, 1, 32)), _first_stage((8, 56, 64), (1, 1, 64))
        ((8, 56, 1, 64), (1, 1, 64))
    """
    reduced = [i for i, (n, s) in enumerate(zip(shape, stats_shape, strict=True)) if s == 1 < n]
    between = len(reduced) > 1 and reduced[0] > 0 and reduced[-1] < len(shape) - 1
    if not between or shape[reduced[-1]] < MANY:
        return stats_shape
    return tuple(1 if axis == reduced[-1] else n for axis, n in enumerate(shape))
