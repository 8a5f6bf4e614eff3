"""Moments over windows that slide along axes, merged from the moments of single entries.

Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician, 1983.

A window of n entries is merged from two halves, so that it takes about log2(n) merges. Every merge
compares the means of neighbours. A running sum about one pivot would lose the variance of a window
whose own mean is many deviations away from that pivot, as in the smooth part of an image.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm import _explicit, _internals
from jaxnorm.numerics import as_array, canonical_axes, sum_of_two
from jaxnorm.stats._moments import Moments, moments, with_tail
from jaxnorm.stats.measuring import real_product
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike

Window = int | Sequence[float] | None
"""Entries of a window along an axis: how many, the weight of each, or None for the whole axis."""


def windowed_moments(
    x: ArrayLike,
    window: Window | Sequence[Window],
    *,
    axes: Axes,
    center: bool = True,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> Moments:
    """Returns the mean, the biased variance and the count of the window around each entry of `x`.

    The window of entry i holds `i - n // 2` to `i + (n - 1) // 2` along each axis, and beyond the
    edges nothing: there the count is smaller. Windows are merged from the moments of single entries
    (Chan, Golub, LeVeque 1983, equation 2.1), so the variance keeps its digits wherever the window
    lies; float32 or wider.

    Args:
        x: [*shape], floating or complex.
        window: one for all `axes`, or a sequence with one for each: a number of entries, None for
            the whole axis, or a sequence of weights, not negative, one for each entry.
        axes: the axes along which the window slides, in the order of `window`.
        center: whether the mean is subtracted; if not it is zero, and `var` is the mean square.
        mask: boolean, broadcastable to `x`; true where an entry is part of the sample.
        weights: real, broadcastable to `x`, not negative; multiplies each entry's share.
        dtype: the dtype of the sums if it shall be wider than the default.

    Returns:
        `Moments` of the shape of `x`, with 1 at axes that are taken as a whole; `count` is the
        total weight in the window. Where a window holds no entry of the sample all are zero.

    Raises:
        ValueError: a window is empty, their number is not that of the axes, or a shape does not
            fit.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> taken = windowed_moments(jnp.array([1e6, 1e6 + 4, 1e6 + 8, 0.0]), 2, axes=0)
        >>> taken.var[:3], taken.count
        (Array([0., 4., 4.], dtype=float32), Array([1., 2., 2., 2.], dtype=float32))

    Notes:
        An even window reaches one entry further down than up, as in PyTorch. Squares overflow past
        1e19 in float32.
    """
    x = as_array(x)
    sizes = _sizes(x.ndim, window, axes)
    stats_shape = tuple(1 if sizes.get(a, 1) is None else n for a, n in enumerate(x.shape))
    taken = moments(x, stats_shape, center=center, mask=mask, weights=weights, dtype=dtype)

    parts = with_tail(taken)
    slides = {axis: size for axis, size in sizes.items() if size is not None}
    mesh, spec = _explicit.mesh_of(taken.mean), _explicit.spec_of(taken.mean)
    cut = [axis for axis in slides if spec[axis]]
    if mesh is None or not cut or _internals.maps_shards():
        slid = functools.partial(_slid, slides, ())
        return _explicit.left_to_xla(slid, _explicit.explicit_axes(taken.mean), parts)

    def local(*own: Array) -> list:
        given = list(own)
        for axis in cut:
            reach = _reach(slides[axis])
            given = _explicit.with_neighbours(given, axis, spec[axis], mesh, reach)
        return list(_slid(slides, cut, Moments(*given)))

    own: list[Array] = jax.tree.leaves(_whole(parts))
    places = [spec] * len(own)
    return Moments(*_explicit.on_shards(local, mesh, own, places, places, differentiable=True))


def _sizes(ndim: int, window: Window | Sequence[Window], axes: Axes) -> dict[int, Window]:
    """Returns the window of each axis, canonical; each is checked."""
    named = tuple(axes) if isinstance(axes, Sequence) else (axes,)
    several = isinstance(window, Sequence) and not isinstance(axes, int)
    windows = tuple(window) if several and isinstance(window, Sequence) else (window,) * len(named)
    if len(windows) != len(named):
        raise ValueError(
            f"window={window} has {len(windows)} entries for the {len(named)} axes={axes}; give "
            "one for each axis, or one number for all"
        )
    sizes = {}
    for axis, size in zip(named, windows, strict=True):
        length = len(size) if isinstance(size, Sequence) else 1 if size is None else size
        if length < 1:
            raise ValueError(f"window={window} is empty along axis {axis}; use 1 or more entries")
        (canonical,) = canonical_axes(axis, ndim, "axes")
        sizes[canonical] = size
    canonical_axes(named, ndim, "axes")
    return sizes


def _slid(slides: dict[int, Any], padded: Sequence[int], parts: Moments) -> Moments:
    """Returns the moments of the window around each entry.

    Args:
        slides: the window of each axis.
        padded: axes along which `parts` have what the windows reach beyond the result.
        parts: of single entries.
    """

    # The derivative is that of the merges, which are taken again rather than kept.
    @jax.checkpoint
    def slid(parts: Moments) -> Moments:
        parts = _whole(parts)
        for axis, size in slides.items():
            if axis not in padded:
                edges = [(0, 0)] * parts.mean.ndim
                edges[axis] = _reach(size)
                # What lies beyond the edges has a count of zero.
                parts = jax.tree.map(lambda part, e=edges: jnp.pad(part, e), parts)
            parts = _slide(parts, axis, size)
        return parts

    return slid(parts)


def _whole(parts: Moments) -> Moments:
    """Returns moments all of which have the shape of the mean."""
    return jax.tree.map(lambda part: jnp.broadcast_to(part, parts.mean.shape), parts)


def _reach(size: int | Sequence[float]) -> tuple[int, int]:
    """Returns how many entries a window has below and above that in its middle."""
    length = size if isinstance(size, int) else len(size)
    return length // 2, (length - 1) // 2


def _slide(padded: Moments, axis: int, size: int | Sequence[float]) -> Moments:
    """Returns the moments of the window around each entry but those it reaches beyond."""
    if isinstance(size, int):
        return _merged(padded, axis, size)
    n = padded.mean.shape[axis] - len(size) + 1
    shifted = []
    for start, weight in enumerate(size):
        part = _part(padded, axis, start, n)
        shifted.append(part._replace(count=part.count * weight))
    return functools.reduce(_join, shifted)


def _merged(parts: Moments, axis: int, size: int) -> Moments:
    """Returns the moments of each run of `size` entries, of which there are `size - 1` fewer."""
    if size == 1:
        return parts
    half, runs = size // 2, parts.mean.shape[axis] - size + 1
    halves = _merged(parts, axis, half)
    both = _join(_part(halves, axis, 0, runs), _part(halves, axis, half, runs))
    return both if size % 2 == 0 else _join(both, _part(parts, axis, size - 1, runs))


def _part(parts: Moments, axis: int, start: int, size: int) -> Moments:
    return jax.tree.map(lambda v: lax.slice_in_dim(v, start, start + size, axis=axis), parts)


def _join(first: Moments, second: Moments) -> Moments:
    """Returns the moments of two samples together, entry by entry; an empty one changes nothing."""
    first, second = with_tail(first), with_tail(second)
    total = first.count + second.count
    share = second.count / jnp.where(total > 0, total, 1)
    has_first = first.count > 0
    distance = (second.mean - first.mean) + (_tail(second) - _tail(first))
    distance = jnp.where(has_first & (second.count > 0), distance, 0)
    start = jnp.where(has_first, first.mean, second.mean)
    mean, rest = sum_of_two(start, share * distance)
    tail = jnp.where(has_first, _tail(first), _tail(second)) + rest
    between = share * (1 - share) * real_product(distance, distance)
    var = (1 - share) * first.var + share * second.var + between
    return Moments(mean, var, total, tail)


def _tail(moments: Moments) -> Array:
    return jnp.zeros_like(moments.mean) if moments.tail is None else moments.tail
