"""Statistics over the batch in the shapes of the running ones, and the running ones in theirs."""

import math

import jax
import jax.numpy as jnp

from jaxnorm.stats import Moments
from jaxnorm.typing import Shape


def squeezed(moments: Moments, features: tuple[int, ...]) -> Moments:
    """Returns `moments` without their reduced axes.

    Args:
        moments: of [*stats_shape].
        features: the axes that stay.

    Returns:
        `Moments` of [*features]; a scalar count stays one.

    Examples:
        >>> squeezed(Moments(jnp.ones((1, 3)), jnp.ones((1, 3)), jnp.array(2.0)), (1,)).mean.shape
        (3,)
    """
    shape = tuple(moments.mean.shape[a] for a in features)
    return jax.tree.map(lambda part: part.reshape(shape) if part.ndim else part, moments)


def shaped(moments: Moments, shape: Shape) -> Moments:
    """Returns moments whose parts have another shape of the same size; scalars stay.

    Args:
        moments: of any shape.
        shape: of as many entries.

    Returns:
        `Moments` of `shape`.

    Examples:
        >>> shaped(Moments(jnp.ones(3), jnp.ones(3), jnp.array(2.0)), (1, 3)).mean.shape
        (1, 3)
    """
    return jax.tree.map(lambda part: part.reshape(shape) if part.ndim else part, moments)


def whole_count(running: Moments) -> Moments:
    """Returns running statistics that count as a sample wherever nothing was seen yet.

    Args:
        running: the reading of an estimator.

    Returns:
        The same mean and variance, a count of one.

    Examples:
        >>> whole_count(Moments(jnp.zeros(1), jnp.ones(1), jnp.zeros(1))).count
        Array([1.], dtype=float32)
    """
    return running._replace(count=jnp.ones_like(running.var))


def keep_dims(running: Moments, stats_shape: Shape) -> Moments:
    """Returns running statistics as they stand against `x`; see `whole_count`.

    Args:
        running: the reading of an estimator, of [*features].
        stats_shape: the statistics shape, of as many entries.

    Returns:
        `Moments` of [*stats_shape].

    Raises:
        ValueError: there are not as many running statistics.

    Examples:
        >>> keep_dims(Moments(jnp.zeros(3), jnp.ones(3), jnp.array(0.0)), (1, 3)).count.shape
        (1, 3)
    """
    if running.mean.size != math.prod(stats_shape):
        raise ValueError(
            f"running statistics of shape {list(running.mean.shape)} do not fit x, whose "
            f"statistics have the shape {list(stats_shape)}; make the state for the features of x"
        )
    return jax.tree.map(lambda part: part.reshape(stats_shape), whole_count(running))
