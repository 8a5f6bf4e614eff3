"""The name and the variables of a linen norm."""

from typing import Any

import flax.linen as nn
import jax

from jaxnorm.typing import Array, Shape


def layer_name(module: nn.Module) -> str:
    """Returns what an error calls a module: its class and its path in the model.

    Args:
        module: bound, as inside of a call.

    Returns:
        For example "BatchNorm encoder/norm".

    Examples:
        >>> layer_name(nn.Dense(1).bind({}))
        'Dense'
    """
    return " ".join([type(module).__name__, *(["/".join(module.path)] if module.path else [])])


def affine(module: Any, shape: Shape) -> tuple[Array | None, Array | None]:
    """Returns the scale and the bias of a norm, made on the first call.

    Args:
        module: has the fields `use_scale`, `scale_init`, `use_bias`, `bias_init`, `param_dtype`.
        shape: [*features].

    Returns:
        Two arrays [*features] of `param_dtype`; None for one that is not used.
    """
    scale = bias = None
    if module.use_scale:
        scale = module.param("scale", module.scale_init, shape, module.param_dtype)
    if module.use_bias:
        bias = module.param("bias", module.bias_init, shape, module.param_dtype)
    return scale, bias


def leaf_name(layer: nn.Module, path: tuple[Any, ...]) -> str:
    """Returns what Flax calls a parameter of a wrapped layer, the layer's name before its path.

    Args:
        layer: the wrapped layer.
        path: of the parameter, as `jax.tree_util` gives it, a collection's name first.

    Returns:
        For example "Dense_0/kernel".

    Examples:
        >>> (path, _), *_ = jax.tree_util.tree_leaves_with_path({"params": {"kernel": 0}})
        >>> leaf_name(nn.Dense(1, name="hidden"), path)
        'hidden/kernel'
    """
    return f"{layer.name}/{jax.tree_util.keystr(path[1:], simple=True, separator='/')}"
