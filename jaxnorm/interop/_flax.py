"""Variables of linen and of nnx as leaves by layer and role, and back."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxnorm.interop._record import STATE

_WRAPPED = "layer_instance"
_KERNEL_ROLES = {"scale": "length", "u": "u", "sigma": "sigma"}


class Place(NamedTuple):
    """Where a leaf is: its layer and what it is there.

    Examples:
        >>> Place("block/norm", "scale").layer
        'block/norm'
    """

    layer: str
    role: str

    def __str__(self) -> str:
        return f"{self.layer}/{self.role}" if self.layer else self.role


class Variables(NamedTuple):
    """A tree of variables, its leaves and how to make one of other leaves."""

    leaves: dict[Place, Any]
    rebuild: Callable[[Mapping[Place, Any]], Any]


def variables_of(tree: Any) -> Variables:
    """Returns the leaves of a linen or nnx tree by their places.

    Args:
        tree: a dictionary of collections, an `nnx.State` or an `nnx.Module`.

    Returns:
        The leaves, and a function that makes a tree of the same kind of others.

    Raises:
        TypeError: something else.
        ValueError: two collections hold a leaf of the same layer and name.

    Examples:
        >>> list(variables_of({"params": {"norm": {"scale": 1.0}}}).leaves)
        [Place(layer='norm', role='scale')]
    """
    if isinstance(tree, nnx.Module):
        graph, state = nnx.split(tree)
        inner = variables_of(state)
        return inner._replace(rebuild=lambda values: nnx.merge(graph, inner.rebuild(values)))
    if isinstance(tree, nnx.State):
        return _of_state(tree)
    if not isinstance(tree, Mapping):
        raise TypeError(
            "like= and variables are a dictionary of collections such as {'params': ...}, an "
            f"nnx.State or an nnx.Module, got {type(tree).__name__}"
        )
    found, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = [tuple(_part(key) for key in path) for path, _ in found]
    places = _places([path[1:] for path in paths])
    leaves = dict(zip(places, (leaf for _, leaf in found), strict=True))
    return Variables(leaves, lambda values: structure.unflatten(values[p] for p in places))


def _of_state(state: nnx.State) -> Variables:
    flat = [(path, v) for path, v in nnx.to_flat_state(state)]
    arrays = [(path, v) for path, v in flat if not isinstance(v, nnx.RngState)]
    places = _places([path for path, _ in arrays])

    def rebuild(values: Mapping[Place, Any]) -> nnx.State:
        new = {path: v.replace(values[p]) for p, (path, v) in zip(places, arrays, strict=True)}
        return nnx.from_flat_state([(path, new.get(path, v)) for path, v in flat])

    leaves = [v[...] if isinstance(v, nnx.Variable) else v for _, v in arrays]
    return Variables(dict(zip(places, leaves, strict=True)), rebuild)


def _places(paths: list[tuple[Any, ...]]) -> list[Place]:
    layers = {path[:-1] for path in paths}
    places = [_place(path, layers) for path in paths]
    twice = {str(place) for place in places if places.count(place) > 1}
    if twice:
        raise ValueError(f"two collections have the leaves {', '.join(sorted(twice))}; pass one")
    return places


def _place(path: tuple[Any, ...], layers: set[tuple[Any, ...]]) -> Place:
    """Returns the place of a leaf; one of a kernel's norm belongs to the layer of the kernel."""
    if STATE in path:
        at = path.index(STATE)
        return Place(_joined(path[:at]), _joined(path[at:]))
    *layer, name = path
    # linen: "Dense_0/kernel/scale" in the wrapper; nnx: ("kernel",) in `scales` of the wrapper.
    inner = tuple(name.split("/")) if isinstance(name, str) and "/" in name else ()
    if isinstance(name, tuple):
        collection = layer.pop()
        last = () if collection == "batch_stats" else ("scale",)
        inner = (_WRAPPED, *name, *last)
    if not inner:
        return Place(_joined(layer), str(name))
    *child, parameter, kind = inner
    within = (*layer, *child)
    owner = within if within in layers else (*layer[:-1], *child)
    role = _KERNEL_ROLES.get(kind, kind)
    return Place(_joined(owner), role if parameter == "kernel" else f"{parameter}/{role}")


def _joined(path: Any) -> str:
    return "/".join(str(part) for part in path if part != _WRAPPED)


def _part(key: Any) -> Any:
    for name in ("key", "name", "idx"):
        if hasattr(key, name):
            return getattr(key, name)
    return str(key)
