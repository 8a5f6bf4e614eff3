"""The norms in the tree of an nnx model, and their variables by name."""

from typing import Any

from flax import nnx

from jaxnorm._views import Path
from jaxnorm.surgery._kinds import kind_of
from jaxnorm.typing import PyTree


def nnx_norms(model: nnx.Module) -> list[tuple[Path, Any]]:
    """Returns the norms in the tree of an nnx model, each once, by the first of their paths.

    Args:
        model: an nnx module.

    Returns:
        Path and norm, sorted as Flax sorts attributes.

    Examples:
        >>> model = nnx.Sequential(nnx.relu, nnx.LayerNorm(2, rngs=nnx.Rngs(0)))
        >>> [path for path, norm in nnx_norms(model)]
        [('layers', '1')]
    """
    return [
        (tuple(map(str, path)), node)
        for path, node in nnx.iter_graph(model)
        if kind_of(type(node)) is not None
    ]


def own_variables(norm: nnx.Module) -> dict[str, PyTree]:
    """Returns the variables of an nnx norm, without those of a layer that it wraps.

    Args:
        norm: an nnx norm.

    Returns:
        `params` and `batch_stats`, where it has any: arrays by name.

    Examples:
        >>> list(own_variables(nnx.BatchNorm(2, rngs=nnx.Rngs(0)))["batch_stats"])
        ['mean', 'var']
    """
    found: dict[str, PyTree] = {}
    for path, variable in nnx.to_flat_state(nnx.state(norm)):
        if path[0] == "layer_instance":
            continue
        # Flax's weight norm keeps its scales as plain arrays.
        collection = "batch_stats" if isinstance(variable, nnx.BatchStat) else "params"
        value = variable[...] if isinstance(variable, nnx.Variable) else variable
        found.setdefault(collection, {})[variable_name(path)] = value
    return found


def variable_name(path: tuple[Any, ...]) -> str:
    """Returns the name of a variable of an nnx module.

    Args:
        path: its keys, some of which may be paths by themselves.

    Returns:
        The keys, with slashes between them.

    Examples:
        >>> variable_name(("scales", ("Dense_0", "kernel")))
        'scales/Dense_0/kernel'
    """
    return "/".join(variable_name(key) if isinstance(key, tuple) else str(key) for key in path)
