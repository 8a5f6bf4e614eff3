"""Moments of the segments of an array: of the graphs in a batch, of the sequences in a packed row.

Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician, 1983.
"""

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm import _explicit
from jaxnorm.numerics import (
    accumulation_dtype,
    as_array,
    real_dtype,
    require_inexact,
    sum_of_two,
)
from jaxnorm.stats._moments import Moments
from jaxnorm.stats._units import sizes, unit_of
from jaxnorm.stats.measuring import real_product
from jaxnorm.stats.sampling import sample_weights, settled
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def segment_moments(
    x: ArrayLike,
    segment_ids: ArrayLike,
    num_segments: int,
    *,
    center: bool = True,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> Moments:
    """Returns the mean, the biased variance and the count of each segment of the rows of `x`.

    `mean = sum(w x) / sum(w)`, `var = sum(w |x - mean|^2) / sum(w)` over the rows of a segment, for
    each feature by itself; sums are float32 or wider, over `x` minus a row of the segment, and the
    squares are those of `x - mean` (Chan, Golub, LeVeque 1983, section 3).

    Args:
        x: [N, *features], floating or complex.
        segment_ids: [N], integers in any order. A row whose id is negative or not below
            `num_segments` is padding: it belongs to no segment, whatever it holds.
        num_segments: how many segments there are, S; known when the program is traced.
        center: whether the mean is subtracted; if not it is zero, and `var` is the mean square.
        mask: boolean, broadcastable to `x`; true where an entry is part of the sample.
        weights: real, broadcastable to `x`, not negative; multiplies each entry's share.
        dtype: the dtype of the sums if it shall be wider than the default.

    Returns:
        `Moments` with `mean`, `var` and `tail` [S, *features] and a count that broadcasts to them;
        all are zero where a segment is empty. `var` is infinite, or zero, only where the variance
        itself is not representable.

    Raises:
        ValueError: there is not one id for each row, or a mask does not broadcast.
        TypeError: `x` is not floating or complex, or the ids are no integers.

    Examples:
        >>> x = jnp.array([[1.0], [5.0], [3.0], [9.0]])
        >>> taken = segment_moments(x, jnp.array([0, 1, 0, -1]), 2)
        >>> taken.mean.ravel(), taken.var.ravel()
        (Array([2., 5.], dtype=float32), Array([1., 0.], dtype=float32))
    """
    x = as_array(x)
    require_inexact(x)
    ids = segments_of(x, segment_ids, num_segments)
    w = _row_weights(x, mask, weights)
    wide = accumulation_dtype(x.dtype if dtype is None else jnp.promote_types(x.dtype, dtype))
    x = without_padding(x, ids, num_segments, mask, weights).astype(wide)
    share = jnp.ones((len(x), *(1,) * (x.ndim - 1)), real_dtype(wide)) if w is None else w
    count = _sum(share, ids, num_segments)
    per_entry = 1 / jnp.where(count > 0, count, 1)

    def average(values: Array) -> Array:
        return _sum(values if w is None else w * values, ids, num_segments) * per_entry

    pivot = mean = tail = jnp.zeros((num_segments, *x.shape[1:]), wide)
    if center:
        pivot = _first_rows(x, ids, share > 0, num_segments)
        x = x - at_rows(pivot, ids)
        offset = average(x)
        x = x - at_rows(offset, ids)
        mean, tail = sum_of_two(pivot, offset)
    return Moments(mean, average(real_product(x, x)), count, tail)


def segment_units(
    x: ArrayLike,
    segment_ids: ArrayLike,
    num_segments: int,
    *,
    at_least: float = 0.0,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Array:
    """Returns a power of two of the size of the largest entries of each segment, for each feature.

    Division by it is exact, and brings squares of entries of any size into the range of floats.

    Args:
        x: [N, *features], floating or complex.
        segment_ids: [N], as in `segment_moments`.
        num_segments: how many segments there are, S.
        at_least: the unit is not below the power of two of this, such as the root of an epsilon.
        mask: boolean, broadcastable to `x`.
        weights: real, broadcastable to `x`, not negative.

    Returns:
        [S, *features], float32 or wider, real; one where a segment is empty. A constant for
        derivatives.

    Raises:
        ValueError: there is not one id for each row, or a mask does not broadcast.
        TypeError: `x` is not floating or complex, or the ids are no integers.

    Examples:
        >>> segment_units(jnp.array([[3.0], [-5.0], [0.3]]), jnp.array([0, 0, 1]), 2).ravel()
        Array([4.  , 0.25], dtype=float32)
    """
    x = as_array(x)
    require_inexact(x)
    ids = segments_of(x, segment_ids, num_segments)
    largest = _of_segments(jax.ops.segment_max, sizes(x, mask, weights), ids, num_segments)
    return unit_of(largest, at_least)


def segments_of(x: Array, segment_ids: ArrayLike, num_segments: int) -> Array:
    """Returns the segment of each row, `num_segments` where it is none.

    Args:
        x: [N, *features].
        segment_ids: [N], integers.
        num_segments: how many segments there are.

    Returns:
        [N], integers; on a mesh with explicit axes they lie as the rows.

    Raises:
        ValueError: there is not one id for each row.
        TypeError: the ids are no integers.

    Examples:
        >>> segments_of(jnp.ones((3, 2)), jnp.array([-1, 1, 7]), 2)
        Array([2, 1, 2], dtype=int32)
    """
    ids = jnp.asarray(segment_ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(
            f"segment_ids must be integers, got {ids.dtype} {list(ids.shape)}; convert them first, "
            "for example with segment_ids.astype(jnp.int32)"
        )
    if ids.shape != x.shape[:1] or not ids.shape:
        raise ValueError(
            f"segment_ids {list(ids.shape)} must have one id for each row of x {list(x.shape)}"
        )
    number = operator.index(num_segments)
    if not jnp.issubdtype(ids.dtype, jnp.signedinteger) or ids.dtype.itemsize < 4:
        ids = ids.astype(jnp.int32)
    ids = jnp.where((ids >= 0) & (ids < number), ids, number)
    return _explicit.as_rows(ids, x)


def at_rows(statistic: Array, ids: Array) -> Array:
    """Returns for each row the statistic of its segment, zero for padding.

    Args:
        statistic: [S, *features].
        ids: [N], see `segments_of`.

    Returns:
        [N, *features].

    Examples:
        >>> at_rows(jnp.array([5.0, 7.0]), jnp.array([1, 0, 2]))
        Array([7., 5., 0.], dtype=float32)
    """

    def get(statistic: Array, ids: Array) -> Array:
        return statistic.at[ids].get(mode="fill", fill_value=0)

    spec = (*_explicit.explicit_axes(ids), *_explicit.explicit_axes(statistic)[1:])
    return _explicit.left_to_xla(get, spec, statistic, ids)


def without_padding(
    x: Array,
    ids: Array,
    num_segments: int,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Array:
    """Returns `x` with zeros in rows of no segment, and for what is masked and not finite.

    Args:
        x: [N, *features].
        ids: [N], see `segments_of`.
        num_segments: how many segments there are.
        mask: boolean, broadcastable to `x`.
        weights: real, broadcastable to `x`.

    Returns:
        [N, *features], of the dtype of `x`.

    Examples:
        >>> x = jnp.array([1.0, jnp.nan, jnp.nan])
        >>> without_padding(x, jnp.array([0, 0, 1]), 1, mask=jnp.array([True, False, True]))
        Array([1., 0., 0.], dtype=float32)
    """
    x = settled(x, x, sample_weights(x, mask, weights))
    inside = (ids < num_segments).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(inside, x, jnp.zeros((), x.dtype))


def _row_weights(x: Array, mask: ArrayLike | None, weights: ArrayLike | None) -> Array | None:
    """Returns weights [N, ...] of the rank of `x`, or None."""
    w = sample_weights(x, mask, weights)
    return None if w is None else jnp.broadcast_to(w, (len(x), *w.shape[1:]))


def _sum(values: Array, ids: Array, num_segments: int) -> Array:
    return _of_segments(jax.ops.segment_sum, values, ids, num_segments)


def _of_segments(
    reduction: Callable[..., Array], values: Array, ids: Array, num_segments: int
) -> Array:
    """Returns a reduction over the rows of each segment, the same on all shards of the rows."""
    spec = (None, *_explicit.explicit_axes(values)[1:])
    reduce = functools.partial(reduction, num_segments=num_segments)
    return _explicit.left_to_xla(reduce, spec, values, ids)


def _first_rows(x: Array, ids: Array, valid: Array, num_segments: int) -> Array:
    """Returns the first valid entry of each segment, a constant for derivatives; zero if none."""
    x, valid = lax.stop_gradient((x, valid))
    n = len(x)
    if not n:
        return jnp.zeros((num_segments, *x.shape[1:]), x.dtype)
    rows = jnp.arange(n, dtype=jnp.int32).reshape(-1, *(1,) * (x.ndim - 1))
    first = _of_segments(jax.ops.segment_min, jnp.where(valid, rows, n), ids, num_segments)
    first = jnp.broadcast_to(first, (num_segments, *x.shape[1:]))
    take = functools.partial(jnp.take_along_axis, axis=0)
    spec = (None, *_explicit.explicit_axes(x)[1:])
    found = _explicit.left_to_xla(take, spec, x, jnp.minimum(first, n - 1))
    return jnp.where(first < n, found, 0)
