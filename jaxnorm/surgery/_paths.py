"""Nested collections of variables as one dictionary by path."""

from collections.abc import Mapping
from typing import Any, cast

from flax.traverse_util import flatten_dict

Path = tuple[str, ...]
"""The names on the way to a module or an array."""


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
