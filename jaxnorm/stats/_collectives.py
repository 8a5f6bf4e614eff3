"""Statistics of shards: how many there are, and what is gathered and summed over named axes."""

from collections.abc import Sequence
from typing import TypeVar

import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxnorm import _internals
from jaxnorm.numerics import together
from jaxnorm.typing import Array, AxisIndexGroups, AxisName

Arrays = TypeVar("Arrays", bound=Array | list[Array])


def shard_count(axis_name: AxisName, axis_index_groups: AxisIndexGroups = None) -> int:
    """Returns how many shards the named axes (or one group of them) hold.

    Args:
        axis_name: one or several names bound by `vmap`, `pmap` or `shard_map`.
        axis_index_groups: disjoint groups of indices along the axis, all of one size.

    Returns:
        The number of shards that are combined, a Python integer.

    Raises:
        ValueError: an axis is not bound, or the groups differ in size.

    Examples:
        >>> import jax
        >>> jax.vmap(lambda x: x * shard_count("batch"), axis_name="batch")(jax.numpy.ones(4))
        Array([4., 4., 4., 4.], dtype=float32)
    """
    names = _names(axis_name)
    for name in names:
        try:
            lax.axis_index(name)
        except NameError:
            raise ValueError(
                f"axis_name={axis_name!r} asks for statistics over the mapped axis {name!r}, but "
                f"no vmap, pmap or shard_map with axis_name={name!r} surrounds the call; map the "
                "function over that axis, or pass axis_name=None (under jit with sharded arrays "
                "the statistics already are those of the whole array)"
            ) from None
    if axis_index_groups is None:
        return int(lax.psum(1, names))
    sizes = {len(group) for group in axis_index_groups}
    if len(sizes) != 1:
        raise ValueError(
            f"axis_index_groups={axis_index_groups} has groups of {sorted(sizes)} shards; make all "
            "groups equally large"
        )
    return sizes.pop()


def gather_rows(
    rows: Sequence[Array], axis_name: AxisName, axis_index_groups: AxisIndexGroups = None
) -> list[Array]:
    """Returns arrays of every shard, stacked along a new first axis, with one collective.

    Statistics made from them may leave a `shard_map` through an unsharded output.

    Args:
        rows: arrays of one shape, this shard's.
        axis_name: the mapped axes.
        axis_index_groups: groups of shards, or None for all.

    Returns:
        [shards, *shape] each, of its own dtype, in the same order on every shard.

    Examples:
        >>> import jax
        >>> two = lambda x: gather_rows([x, 2 * x], "batch")[1]
        >>> jax.vmap(two, axis_name="batch")(jax.numpy.arange(2.0))
        Array([[0., 2.],
               [0., 2.]], dtype=float32)
    """

    def of_everyone(packed: Array) -> Array:
        shards = _internals.all_gather(packed, _names(axis_name), axis_index_groups)
        return jnp.moveaxis(shards, 1, 0)

    return together(of_everyone, rows)


def sum_of_shards(
    values: Arrays, axis_name: AxisName, axis_index_groups: AxisIndexGroups = None
) -> Arrays:
    """Returns the sums over the shards, with one collective.

    JAX sums over groups of shards only where it does not follow which values vary (in `shard_map`
    with `check_vma=False`). Elsewhere the shards of a group gather the values and sum them.

    Args:
        values: an array or a list of them, this shard's.
        axis_name: the mapped axes.
        axis_index_groups: groups of shards, or None for all.

    Returns:
        Arrays of the same shapes, the same on every shard of a group.

    Examples:
        >>> import jax
        >>> run = lambda x: sum_of_shards(x, "batch")
        >>> jax.vmap(run, axis_name="batch")(jax.numpy.arange(3.0))
        Array([3., 3., 3.], dtype=float32)
    """
    names = _names(axis_name)
    if axis_index_groups is None or not _internals.follows_what_varies(names):
        return lax.psum(values, names, axis_index_groups=axis_index_groups)
    flat, shaped = ravel_pytree(values)
    return shaped(jnp.sum(_internals.all_gather(flat, names, axis_index_groups), axis=0))


def _names(axis_name: AxisName) -> tuple[str, ...]:
    return (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
