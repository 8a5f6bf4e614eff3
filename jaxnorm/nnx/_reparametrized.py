"""Calling a layer with other values for some of its parameters, which keep their own."""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from jaxnorm.typing import Array

Path = tuple[Any, ...]
"""Where a variable is in a module: attribute names, keys and indices."""


def parameters(layer: nnx.Module) -> dict[Path, nnx.Param]:
    """Returns the parameters of a layer by their paths.

    Args:
        layer: any module.

    Returns:
        Each parameter once, also if the layer holds it in two places.

    Examples:
        >>> list(parameters(nnx.Linear(2, 3, rngs=nnx.Rngs(0))))
        [('bias',), ('kernel',)]
    """
    return dict(nnx.to_flat_state(nnx.state(layer, nnx.Param)))


def call_with(layer: nnx.Module, values: Mapping[Path, Array], /, *args: Any, **kwargs: Any) -> Any:
    """Returns the output of a layer whose parameters have other values during the call.

    The layer itself is not written: the call is that of a copy which shares all other variables,
    so that running statistics move, random streams advance and intermediates are kept.

    Args:
        layer: a module that can be called.
        values: path -> the value during the call, of the parameter's shape.
        *args: for the layer.
        **kwargs: for the layer.

    Returns:
        What the layer returns.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> call_with(layer, {("kernel",): jnp.ones((2, 1))}, jnp.array([3.0, 4.0]))
        Array([7.], dtype=float32)
    """
    graphdef, state = nnx.split(layer)
    variables = dict(nnx.to_flat_state(state))
    replaced = {path: variables[path].replace(value) for path, value in values.items()}
    copy = nnx.merge(graphdef, nnx.from_flat_state({**variables, **replaced}))
    output = copy(*args, **kwargs)
    # Shared variables have moved by themselves; those that the call has made are handed over.
    after = nnx.to_flat_state(nnx.state(copy))
    made = [(p, v) for p, v in after if p not in values and v is not variables.get(p)]
    if made:
        nnx.update(layer, nnx.from_flat_state(made))
    return output
