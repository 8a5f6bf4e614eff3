"""Units whose nonlinearity lets no gradient through."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.typing import Array, ArrayLike

_STEEPEST_WITHIN = 10.0  # where the steepest slope of a nonlinearity is looked for, both signs


class Saturation(NamedTuple):
    """What a nonlinearity does to the gradient of each unit.

    Examples:
        >>> Saturation(jnp.array([False]), jnp.array([0.25]), jnp.array([0.1])).saturated
        Array([0.25], dtype=float32)
    """

    dead: Array  # [C], bool: saturated for every example
    saturated: Array  # [C], share of examples and positions, from 0 to 1
    passed: Array  # [C], mean derivative: the part of a gradient that comes through


def saturation(
    preactivations: ArrayLike,
    activation: Callable[[Array], Array],
    *,
    threshold: float = 0.05,
) -> Saturation:
    """Returns which units are dead, how often each is saturated, and the gradient it passes.

    A value is saturated where the nonlinearity's slope is at most `threshold` times its steepest
    one: for a ReLU everything up to zero, for a sigmoid what is beyond 4.4 from zero.

    Args:
        preactivations: [N, ..., C], the inputs of the nonlinearity, the units along the last axis.
        activation: a pointwise nonlinearity.
        threshold: share of the steepest slope between -10 and 10.

    Returns:
        A `Saturation`, with `passed` of the dtype of the inputs.

    Examples:
        >>> z = jnp.array([[-1.0, 2.0], [-3.0, -2.0]])
        >>> found = saturation(z, jax.nn.relu)
        >>> found.dead.tolist(), found.passed.tolist()
        ([True, False], [0.0, 0.5])
    """
    z = jnp.asarray(preactivations)
    slopes = jnp.abs(_slope(activation, z.reshape(-1, z.shape[-1])))
    grid = jnp.linspace(-_STEEPEST_WITHIN, _STEEPEST_WITHIN, 2001, dtype=z.dtype)
    limit = threshold * jnp.max(jnp.abs(_slope(activation, grid)))
    flat = slopes <= limit
    return Saturation(jnp.all(flat, axis=0), jnp.mean(flat, axis=0), jnp.mean(slopes, axis=0))


def _slope(activation: Callable[[Array], Array], z: Array) -> Array:
    return jax.jvp(activation, (z,), (jnp.ones_like(z),))[1]
