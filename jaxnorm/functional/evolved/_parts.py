"""What the EvoNorms share: deviations in units of the input's size, and the scale and bias."""

from typing import Any

import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype
from jaxnorm.stats import moments, units
from jaxnorm.stats.sums import spread
from jaxnorm.typing import Array, Shape


def in_units(x: Array, stats_shape: Shape, epsilon: float, sample: dict[str, Any]) -> tuple:
    """Returns `x` in units of its size, the units, and epsilon in their squares.

    The members are quotients of `x` and a deviation, so the unit leaves them as they are. Squares
    of entries of any size stay within range. All shards have the same unit.
    """
    chosen = {name: value for name, value in sample.items() if name != "variance"}
    unit = units(x, stats_shape, at_least=epsilon**0.5, **chosen)
    wide = accumulation_dtype(x.dtype)
    floor = jnp.maximum(epsilon / unit / unit, float(jnp.finfo(unit.dtype).tiny))
    whole = spread(unit, x.shape)
    return x.astype(wide) / whole, whole, floor


def root(x: Array, stats_shape: Shape, floor: Array, sample: dict[str, Any]) -> tuple:
    """Returns the moments of `x`, and the root of their variance on the shape of `x`."""
    taken = moments(x, stats_shape, **sample)
    return taken, spread(jnp.sqrt(taken.var + floor), x.shape)
