"""Units for inputs whose squares would overflow; all others stay as they are, to the last bit."""

from typing import Any

import jax.numpy as jnp

from jaxnorm.stats import units
from jaxnorm.typing import Array, Shape

LARGE = 2.0**40  # the square of a hundred thousand such entries is a float32


def large_units(x: Array, stats_shape: Shape, **sample: Any) -> Array:
    """Returns a power of two of the size of the sample of each statistic, one unless it is large.

    Args:
        x: [*shape], floating or complex.
        stats_shape: the statistics shape.
        **sample: further arguments of `jaxnorm.stats.units`.

    Returns:
        [*stats_shape], float32 or wider, a constant for derivatives.

    Examples:
        >>> large_units(jnp.array([[1e18], [8.0]]), (2, 1)).ravel() > 1
        Array([ True, False], dtype=bool)
    """
    unit = units(x, stats_shape, **sample)
    return jnp.where(unit > LARGE, unit, 1)


def unitless(epsilon: float, unit: Array) -> Array:
    """Returns `epsilon / unit^2`, not so small that its root has no derivative.

    Args:
        epsilon: added to a variance.
        unit: [*stats_shape], powers of two.

    Returns:
        The shape of `unit`.

    Examples:
        >>> unitless(1.0, jnp.array([1.0, 4.0]))
        Array([1.    , 0.0625], dtype=float32)
    """
    floor = float(jnp.finfo(unit.dtype).tiny) ** 0.75 if epsilon else 0.0
    return jnp.maximum(epsilon / unit / unit, floor)
