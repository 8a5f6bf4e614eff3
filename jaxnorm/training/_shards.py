"""A step inside `shard_map` or a named `vmap`; without an axis name everything stays as it is."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm.typing import Array, AxisName, PyTree


def shard_key(key: Array, axis_name: AxisName | None) -> Array:
    """Returns a key of this shard's own.

    Args:
        key: [], the same on every shard.
        axis_name: the mapped axes; None for no sharding.

    Returns:
        [], a key that differs between shards.

    Examples:
        >>> keys = jax.vmap(lambda _: shard_key(jax.random.key(0), "data"), axis_name="data")
        >>> bool(jnp.all(keys(jnp.arange(2)) == jax.random.key(0)))
        False
    """
    if axis_name is None:
        return key
    return jax.random.fold_in(key, lax.axis_index(axis_name))


def per_shard(tree: PyTree, axis_name: AxisName | None) -> PyTree:
    """Returns `tree` marked as differing between shards, so that its gradient is each shard's own.

    Inside a `shard_map` that tracks what varies, the gradient of a replicated parameter comes out
    summed over the shards already, and a mean of it would be too large by their number. Elsewhere
    the mark means nothing.

    Args:
        tree: arrays.
        axis_name: the mapped axes; None for no sharding.

    Returns:
        The same arrays.

    Examples:
        >>> per_shard({"w": 1.0}, None)
        {'w': 1.0}
    """
    if axis_name is None:
        return tree
    # A choice that depends on the shard varies between shards, also where both sides are equal;
    # the compiler drops it. What JAX calls this mark itself differs from release to release.
    always = lax.axis_index(axis_name) >= 0
    return jax.tree.map(lambda a: jnp.where(always, a, a), tree)


def mean_over(tree: PyTree, axis_name: AxisName | None) -> PyTree:
    """Returns the mean of `tree` over the shards.

    Args:
        tree: arrays.
        axis_name: the mapped axes; None for no sharding.

    Returns:
        Arrays of the same shapes, the same on every shard.

    Examples:
        >>> jax.vmap(lambda x: mean_over(x, "data"), axis_name="data")(jnp.array([1.0, 3.0]))
        Array([2., 2.], dtype=float32)
    """
    return tree if axis_name is None else lax.pmean(tree, axis_name)


def holds_on_all(condition: Array, axis_name: AxisName | None) -> Array:
    """Returns whether `condition` holds on every shard.

    Args:
        condition: [], bool.
        axis_name: the mapped axes; None for no sharding.

    Returns:
        [], bool, the same on every shard.

    Examples:
        >>> jax.vmap(lambda c: holds_on_all(c, "data"), axis_name="data")(jnp.array([True, False]))
        Array([False, False], dtype=bool)
    """
    if axis_name is None:
        return condition
    return lax.pmin(condition.astype(jnp.int32), axis_name) == 1
