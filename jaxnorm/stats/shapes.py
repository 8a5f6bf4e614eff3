"""Statistics shapes: what happens to each axis of an array when its statistics are taken.

For `x` of shape `[n_0, n_1, ...]` an entry of `stats_shape` is `1` where the axis is reduced, `n_i`
where it is kept, and any other divisor `g` of `n_i` where it is cut into `g` contiguous groups that
are reduced one by one.
"""

import math

import jax.numpy as jnp
from jax import lax

from jaxnorm import _explicit
from jaxnorm.numerics import canonical_axes
from jaxnorm.typing import AnyArray, Array, ArrayLike, Axes, DTypeLike, Numbers, Shape


def check_stats_shape(shape: Shape, stats_shape: Shape) -> Shape:
    """Returns `stats_shape` as a tuple after checking it against the shape of the array.

    Args:
        shape: the array's shape.
        stats_shape: one entry per axis: `1` reduced, the axis's size kept, a divisor grouped.

    Returns:
        The statistics shape, a tuple of Python integers.

    Raises:
        ValueError: the ranks differ, or an entry does not divide its axis.

    Examples:
        >>> check_stats_shape((8, 4, 4, 6), (8, 1, 1, 2))
        (8, 1, 1, 2)
    """
    stats_shape = tuple(stats_shape)
    if len(stats_shape) != len(shape):
        raise ValueError(
            f"stats_shape {stats_shape} has {len(stats_shape)} entries, but x {list(shape)} has "
            f"{len(shape)} axes; give one entry per axis"
        )
    for axis, (n, s) in enumerate(zip(shape, stats_shape, strict=True)):
        if s != n and (s < 1 or n % s):
            raise ValueError(
                f"stats_shape {stats_shape} asks for {s} groups along axis {axis} of x "
                f"{list(shape)}; use 1 (reduce), {n} (keep) or a divisor of {n}"
            )
    return stats_shape


def reduced_stats_shape(shape: Shape, reduction_axes: Axes) -> Shape:
    """Returns the statistics shape that reduces `reduction_axes` and keeps the others.

    Args:
        shape: the array's shape.
        reduction_axes: the axes that the statistics are taken over.

    Returns:
        `shape` with ones at the reduced axes.

    Raises:
        ValueError: an axis is out of range or named twice.

    Examples:
        >>> reduced_stats_shape((8, 4, 4, 6), (0, 1, 2))
        (1, 1, 1, 6)
    """
    reduced = canonical_axes(reduction_axes, len(shape), "reduction_axes")
    return tuple(1 if axis in reduced else n for axis, n in enumerate(shape))


def broadcasting(entries: ArrayLike, shape: Shape, name: str) -> Array:
    """Returns `entries` as an array of the rank of `shape` that broadcasts to it.

    Args:
        entries: a scale, a mask, or whatever else stands against `x`.
        shape: the shape of `x`.
        name: the argument's name, for the error.

    Returns:
        The array with leading axes of size 1 added.

    Raises:
        ValueError: the shapes do not broadcast.

    Examples:
        >>> broadcasting(jnp.ones(3), (2, 3), "scale").shape
        (1, 3)
    """
    entries = jnp.asarray(entries)
    expanded = (1,) * (len(shape) - entries.ndim) + entries.shape
    if len(expanded) != len(shape) or any(
        m not in (1, n) for m, n in zip(expanded, shape, strict=True)
    ):
        raise ValueError(
            f"{name} {list(entries.shape)} does not broadcast to x {list(shape)}; give each axis "
            "size 1 or the size that x has there"
        )
    return entries if expanded == entries.shape else entries.reshape(expanded)


def sample_size(shape: Shape, stats_shape: Shape) -> int:
    """Returns the number of entries of `shape` behind each statistic.

    Args:
        shape: the array's shape.
        stats_shape: the statistics shape.

    Returns:
        The product of the group sizes; zero where the array is empty along a reduced axis.

    Examples:
        >>> sample_size((8, 4, 4, 6), (8, 1, 1, 2))
        48
    """
    return math.prod(n // s for n, s in zip(shape, stats_shape, strict=True) if n != s)


def median_member(values: Numbers, stats_shape: Shape, dtype: DTypeLike) -> Array:
    """Returns the median of the first, middle and last entry behind each statistic.

    A member of the sample (for complex values each part is one) that a single outlier cannot be.

    Args:
        values: [*shape], not empty.
        stats_shape: the statistics shape.
        dtype: of the result, as wide as that of `values` or wider.

    Returns:
        [*stats_shape], of `dtype`.

    Examples:
        >>> import jax.numpy as jnp
        >>> median_member(jnp.array([1e6, 2.0, 3.0, 4.0, 5.0]), (1,), jnp.float32)
        Array([5.], dtype=float32)
    """
    values = _member_of_each_shard(values, stats_shape)
    sizes = [n // s for n, s in zip(values.shape, stats_shape, strict=True)]
    members = [
        _every_member(values, stats_shape, [place(size) for size in sizes]).astype(dtype)
        for place in (lambda size: 0, lambda size: size // 2, lambda size: size - 1)
    ]
    if jnp.iscomplexobj(values):
        return lax.complex(_median([m.real for m in members]), _median([m.imag for m in members]))
    return _median(members)


def first_member(values: AnyArray, stats_shape: Shape, valid: AnyArray) -> Array:
    """Returns the first valid entry behind each statistic.

    Args:
        values: [*shape].
        stats_shape: the statistics shape.
        valid: boolean, of the rank of `values` and broadcastable to it; true where an entry may be
            taken.

    Returns:
        [*stats_shape], of the dtype of `values`: a member of the sample, zero where it is empty.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.arange(6.0).reshape(2, 3)
        >>> first_member(x, (2, 1), jnp.array([[False, True, True], [False, False, False]]))
        Array([[1.],
               [0.]], dtype=float32)
    """
    if values.size == 0:
        return jnp.zeros(stats_shape, values.dtype)
    # One axis at a time, so that nothing is transposed: split it into (groups, members), find the
    # first valid member of each group, and let the rest of the axes see what was picked.
    for axis, s in enumerate(stats_shape):
        n = values.shape[axis]
        if s == n:
            continue
        values = values.reshape(*values.shape[:axis], s, n // s, *values.shape[axis + 1 :])
        if valid.shape[axis] == 1:
            values = lax.index_in_dim(values, 0, axis + 1, keepdims=False)
            continue
        valid = valid.reshape(*valid.shape[:axis], s, n // s, *valid.shape[axis + 1 :])
        first = jnp.argmax(valid, axis=axis + 1, keepdims=True)
        values = jnp.take_along_axis(values, first, axis=axis + 1).squeeze(axis + 1)
        valid = jnp.any(valid, axis=axis + 1)
    return jnp.where(valid, values, jnp.zeros((), values.dtype))


def _member_of_each_shard(values: Array, stats_shape: Shape) -> Array:
    """Returns one entry of each explicit shard of each sample, and `values` where there is none.

    A slice that leaves one entry of a sharded axis is an error in JAX. Shards cut a reduced axis
    into blocks: one entry of each block, gathered, is the same on every device.
    """
    counts = _explicit.shard_counts(values)
    cut = [s != n and shards > 1 for n, s, shards in zip(values.shape, stats_shape, counts)]
    if not any(cut):
        return values
    spec = _explicit.explicit_axes(values)
    shape, split_spec, index = [], [], []
    for axis, (n, s) in enumerate(zip(values.shape, stats_shape, strict=True)):
        blocks = math.lcm(s, counts[axis]) if cut[axis] else n
        shape += [blocks, n // blocks]
        split_spec += [spec[axis], None]
        index += [slice(None), 0]
    members = _explicit.reshaped(values, shape, split_spec)[tuple(index)]
    return _explicit.replicated(members, [axis for axis, is_cut in enumerate(cut) if is_cut])


def _every_member(values: Array, stats_shape: Shape, places: list[int]) -> Array:
    """Returns the entry at `places` of each sample."""
    # A stride over a whole axis would leave a size that is one only if the axis's size is known,
    # which it is not where a program is exported with a symbolic batch.
    axes = list(zip(values.shape, stats_shape, places, strict=True))
    limits = [place + 1 if s == 1 else n for n, s, place in axes]
    strides = [1 if s == 1 else n // s for n, s, _ in axes]
    return lax.slice(values, places, limits, strides)


def _median(three: list[Array]) -> Array:
    low, high = jnp.minimum(three[0], three[1]), jnp.maximum(three[0], three[1])
    return jnp.maximum(low, jnp.minimum(high, three[2]))
