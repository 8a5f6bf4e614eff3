"""Statistics of shards: gathering small arrays and summing tangents over named axes."""

import jax.numpy as jnp
from jax import lax

from jaxnorm.typing import Array, AxisIndexGroups, AxisName


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
    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
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
    rows: list[Array], axis_name: AxisName, axis_index_groups: AxisIndexGroups
) -> list[Array]:
    """Returns arrays of every shard, stacked along a new first axis, with one collective.

    The collective is a sum of one-hot slots rather than an all-gather: its result is the same on
    every shard as far as `shard_map` can tell, so that statistics made from it may leave through an
    unsharded output.

    Args:
        rows: arrays of one shape, this shard's.
        axis_name: the mapped axes.
        axis_index_groups: groups of shards, or None for all.

    Returns:
        [shards, *shape] each, of its own dtype.

    Examples:
        >>> import jax
        >>> two = lambda x: gather_rows([x, 2 * x], "batch", None)[1]
        >>> jax.vmap(two, axis_name="batch")(jax.numpy.arange(2.0))
        Array([[0., 2.],
               [0., 2.]], dtype=float32)
    """
    packed = jnp.stack([row.astype(jnp.result_type(*rows)) for row in rows], axis=-1)
    shards = shard_count(axis_name, axis_index_groups)
    index = lax.axis_index(axis_name)
    if axis_index_groups is not None:
        rank = {shard: i for group in axis_index_groups for i, shard in enumerate(group)}
        index = jnp.array([rank[shard] for shard in sorted(rank)])[index]
    mine = jnp.arange(shards).reshape(-1, *(1,) * packed.ndim) == index
    slots = jnp.where(mine, packed, jnp.zeros((), packed.dtype))
    everyone = lax.psum(slots, axis_name, axis_index_groups=axis_index_groups)
    return [
        (v if jnp.iscomplexobj(row) else v.real).astype(row.dtype)
        for v, row in zip(jnp.moveaxis(everyone, -1, 0), rows)
    ]
