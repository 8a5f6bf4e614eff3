"""Nested collections of variables as one dictionary by path."""

from collections.abc import Mapping
from typing import Any, cast

import jax
from flax.traverse_util import flatten_dict

from jaxnorm._views import Path
from jaxnorm.typing import PyTree


def by_path(tree: Mapping[str, Any], *, keep_empty: bool = False) -> dict[Path, Any]:
    """Returns the leaves of nested dictionaries by their paths.

    Args:
        tree: nested dictionaries; everything else in them is a leaf.
        keep_empty: whether empty dictionaries appear, so that `unflatten_dict` gives them back.

    Returns:
        One entry per leaf, in the order of the dictionaries.

    Examples:
        >>> by_path({"dense": {"kernel": 1.0}})
        {('dense', 'kernel'): 1.0}
    """
    return cast(dict[Path, Any], flatten_dict(dict(tree), keep_empty_nodes=keep_empty))


def path_name(path: Path) -> str:
    """Returns what a module is called in reports: its path, or "the model" for the outermost.

    Args:
        path: of a module.

    Returns:
        For example "block_0/norm_1".

    Examples:
        >>> path_name(("block_0", "norm_1")), path_name(())
        ('block_0/norm_1', 'the model')
    """
    return "/".join(path) or "the model"


def in_dtypes_of(old: PyTree, new: PyTree) -> PyTree:
    """Returns new values of variables, each in the dtype of the old one.

    Args:
        old: arrays.
        new: the same tree of arrays.

    Returns:
        The tree of `new`.

    Examples:
        >>> import jax.numpy as jnp
        >>> in_dtypes_of({"mean": jnp.zeros(1, jnp.bfloat16)}, {"mean": jnp.ones(1)})["mean"].dtype
        dtype(bfloat16)
    """
    return jax.tree.map(lambda before, value: value.astype(before.dtype), old, new)
