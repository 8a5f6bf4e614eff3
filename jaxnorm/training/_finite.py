"""Refusing a step that is not finite."""

import jax
import jax.numpy as jnp

from jaxnorm.typing import Array, PyTree


def all_finite(tree: PyTree) -> Array:
    """Returns whether every number of `tree` is finite.

    Args:
        tree: arrays of any dtypes; integers and keys count as finite.

    Returns:
        [], bool.

    Examples:
        >>> all_finite({"a": jnp.array([1.0, jnp.inf]), "b": jnp.array(3)})
        Array(False, dtype=bool)
    """
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if _is_inexact(leaf)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.array(True)


def stays_finite(new: PyTree, old: PyTree) -> Array:
    """Returns whether every number that was finite in `old` is finite in `new`.

    Optimizer states may hold an infinity on purpose (the best loss so far, before the first), which
    is no reason to refuse a step.

    Args:
        new: arrays.
        old: arrays of the same structure and shapes.

    Returns:
        [], bool.

    Examples:
        >>> stays_finite(jnp.array([jnp.inf, 1.0]), jnp.array([jnp.inf, 2.0]))
        Array(True, dtype=bool)
    """
    return all_finite(jax.tree.map(_restrict, new, old))


def select(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    """Returns `new` where the condition holds, else `old`, bit for bit.

    Args:
        condition: [], bool.
        new: arrays.
        old: arrays of the same structure, shapes and dtypes.

    Returns:
        Arrays of the same structure.

    Examples:
        >>> select(jnp.array(False), {"a": jnp.full(2, jnp.nan)}, {"a": jnp.ones(2)})
        {'a': Array([1., 1.], dtype=float32)}
    """
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _is_inexact(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _restrict(new: Array, old: Array) -> Array:
    return jnp.where(jnp.isfinite(old), new, 0) if _is_inexact(new) else new
