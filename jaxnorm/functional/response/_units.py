"""What the members of this room share: the units of each example, and its axes."""

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape
from jaxnorm.numerics import as_array, canonical_axes, power_of_two
from jaxnorm.stats import units
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, Axes


def in_units(
    x: ArrayLike, mask: ArrayLike | None, at_least: float = 0.0, headroom: float = 1.0
) -> tuple[Array, Array]:
    """Returns `x` divided by a power of two of the size of its example, and that power.

    Squares of what is returned neither overflow nor vanish beside the largest of the example.

    Args:
        x: [N, *shape], real and floating.
        mask: boolean, broadcastable to `x`, or None; what it excludes has no size.
        at_least: a number that shall not be large in these units either.
        headroom: how large the largest may be in these units, a power of two.

    Returns:
        [N, *shape] and [N, 1, ...], float32 or wider. Masked entries that are not finite are zero.

    Raises:
        TypeError: `x` is not real and floating.

    Examples:
        >>> in_units(jnp.array([[12.0, 1.0]]), None)[0]
        Array([[1.5  , 0.125]], dtype=float32)
    """
    x = as_array(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x must be real and floating, got {x.dtype} {list(x.shape)}")
    unit = units(x, kept_shape(x.shape, (0,)) if x.ndim > 1 else (1,), mask=mask) / headroom
    if at_least:
        unit = jnp.maximum(unit, power_of_two(jnp.asarray(at_least, unit.dtype)))
    return usable(x, mask, None).astype(unit.dtype) / unit, unit


def positions(ndim: int, axes: Axes | None, axis: int = -1) -> tuple[int, ...]:
    """Returns the axes of windows: those that are named, or all but the batch and the channels.

    Args:
        ndim: the rank of `x`.
        axes: the axes, or None.
        axis: the channel axis.

    Returns:
        Canonical axes.

    Raises:
        ValueError: there are none.

    Examples:
        >>> positions(4, None)
        (1, 2)
    """
    if axes is not None:
        named = (axes,) if isinstance(axes, int) else tuple(axes)
        canonical_axes(named, ndim, "axes")
        return tuple(a % ndim for a in named)
    others = {0, *canonical_axes(axis, ndim, "axis")}
    found = tuple(a for a in range(ndim) if a not in others)
    if not found:
        raise ValueError(
            f"x of rank {ndim} has no axis between batch and channels to slide windows along; name "
            "one by axes="
        )
    return found
