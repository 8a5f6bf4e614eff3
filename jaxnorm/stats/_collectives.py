"""Statistics of shards: gathering small arrays and summing tangents over named axes."""

import jax.numpy as jnp
from jax import lax

from jaxnorm.typing import Array, AxisIndexGroups, AxisName, Numbers


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
    """Returns arrays of one shape along a new first axis of shards, with one collective.

    Args:
        rows: arrays of one shape; complex ones only with the others.
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
    dtype = jnp.result_type(*rows)
    packed = jnp.stack([row.astype(dtype) for row in rows])
    everyone = jnp.moveaxis(gather(packed, axis_name, axis_index_groups), 1, 0)
    complex_rows = [jnp.iscomplexobj(row) for row in rows]
    return [
        (v if is_complex or not jnp.iscomplexobj(v) else v.real).astype(row.dtype)
        for v, row, is_complex in zip(everyone, rows, complex_rows)
    ]


def gather(values: Numbers, axis_name: AxisName, axis_index_groups: AxisIndexGroups) -> Array:
    """Returns the `values` of every shard, stacked, with one collective.

    A sum of one-hot slots rather than an all-gather: its result is the same on every shard as far
    as `shard_map` can tell, so that statistics made from it may leave through an unsharded output.

    Args:
        values: [*shape], this shard's.
        axis_name: the mapped axes.
        axis_index_groups: groups of shards, or None for all.

    Returns:
        [shards, *shape], of the dtype of `values`.

    Examples:
        >>> import jax
        >>> jax.vmap(lambda x: gather(x, "batch", None), axis_name="batch")(jax.numpy.arange(2.0))
        Array([[0., 1.],
               [0., 1.]], dtype=float32)
    """
    shards = shard_count(axis_name, axis_index_groups)
    index = lax.axis_index(axis_name)
    if axis_index_groups is not None:
        rank = {shard: i for group in axis_index_groups for i, shard in enumerate(group)}
        index = jnp.array([rank[shard] for shard in sorted(rank)])[index]
    mine = jnp.arange(shards).reshape(-1, *(1,) * values.ndim) == index
    slots = jnp.where(mine, values, jnp.zeros((), values.dtype))
    return lax.psum(slots, axis_name, axis_index_groups=axis_index_groups)
