"""Moments of the prefixes of an array: of all steps up to each one.

Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician, 1983.
"""

import jax
import jax.numpy as jnp

from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.stats._moments import Moments, gathered_moments, merge, moments, with_tail
from jaxnorm.stats.sampling import Variance
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike, Shape


def prefix_moments(
    x: ArrayLike,
    stats_shape: Shape,
    axis: int,
    *,
    before: Moments | None = None,
    center: bool = True,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> Moments:
    """Returns the moments of the first step, of the first two steps, and so on.

    The moments of each step are pooled with those of all earlier ones by one associative scan of
    `merge`, of logarithmic depth in the number of steps (Chan, Golub, LeVeque 1983, equation 2.1).
    They are float32 or wider, and those of the whole at the last step.

    Args:
        x: [*shape], floating or complex, with the steps on `axis`.
        stats_shape: that of the whole, as in `jaxnorm.stats.moments`, with a 1 at `axis`.
        axis: the axis of the steps.
        before: moments of steps before the first, broadcastable to `stats_shape`; None for none.
        center: whether the mean is subtracted; if not it is zero, and `var` is the mean square.
        mask: boolean, broadcastable to `x`; true where an entry is part of the sample.
        weights: real, broadcastable to `x`, not negative; multiplies each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the samples of all shards are one.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the dtype of the sums if it shall be wider than the default.

    Returns:
        `Moments` of `stats_shape` with the number of steps at `axis`, all parts of that shape. Its
        last step is `before` for the steps that follow.

    Raises:
        ValueError: `stats_shape` does not divide the shape or keeps `axis`, `x` has no step, a mask
            or `before` does not broadcast, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> taken = prefix_moments(jnp.array([1.0, 3.0, 8.0]), (1,), 0)
        >>> taken.mean, taken.count
        (Array([1., 2., 4.], dtype=float32), Array([1., 2., 3.], dtype=float32))
    """
    x = as_array(x)
    (axis,) = canonical_axes(axis, x.ndim, "axis")
    whole = tuple(stats_shape)
    if len(whole) != x.ndim or whole[axis] != 1 or not x.shape[axis]:
        raise ValueError(
            f"stats_shape {list(whole)} of x {list(x.shape)} must have a 1 at the axis {axis} of "
            "the steps, and x at least one step; give one entry per axis of x"
        )
    steps = tuple(x.shape[axis] if a == axis else n for a, n in enumerate(whole))
    taken = moments(
        x,
        steps,
        center=center,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
    )
    prefixes = jax.lax.associative_scan(merge, gathered_moments(taken, [axis]), axis=axis)
    if before is None:
        return prefixes
    return merge(jax.tree.map(lambda part: _fitting(part, whole), with_tail(before)), prefixes)


def _fitting(part: ArrayLike, whole: Shape) -> Array:
    """Returns a part of given moments in the shape of the statistics of one step."""
    part = jnp.asarray(part)
    try:
        return jnp.broadcast_to(part, whole)
    except ValueError:
        raise ValueError(
            f"before {list(part.shape)} must broadcast to the statistics {list(whole)} of one step;"
            " pass the last step of the moments of the earlier ones"
        ) from None
