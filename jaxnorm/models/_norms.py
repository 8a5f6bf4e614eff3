"""The normalization of a model as an argument: one adapter between a factory and a layer."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from jaxnorm.typing import Array

NormFactory = Callable[..., Any]
"""Makes a normalization layer: a module class, a `functools.partial` of one, or a function."""

Initializer = Callable[..., Array]
"""A kernel or bias initializer: (key, shape, dtype) -> array."""

Activation = Callable[[Array], Array]
"""A pointwise nonlinearity."""


def apply_norm(
    norm: NormFactory | None,
    x: Array,
    *,
    train: bool,
    name: str | None = None,
    **fields: Any,
) -> Array:
    """Returns `x` normalized by the layer that `norm` makes, or `x` itself where `norm` is None.

    To be called inside a module's `@nn.compact` method, whose child the layer becomes. A layer that
    has running averages is told `use_running_average=not train`, unless the factory has fixed that
    already: at construction where the factory takes the argument, else at the call where the layer
    does. The layer gets `name` where the factory takes one.

    Args:
        norm: a factory such as `jaxnorm.linen.LayerNorm`,
            `functools.partial(jaxnorm.linen.BatchNorm, momentum=0.9)` or
            `lambda: jaxnorm.linen.GroupNorm(num_groups=4)`; None for no normalization.
        x: [N, ..., C], the layer's input.
        train: whether batch statistics are used, and running averages updated.
        name: the layer's name among its parent's children.
        **fields: further arguments of the factory, for example `scale_init`.

    Returns:
        [N, ..., C], of the dtype that the layer gives.

    Raises:
        ValueError: a field is given that the factory does not take.

    Examples:
        >>> import jax.numpy as jnp
        >>> apply_norm(None, jnp.array([[3.0, 4.0]]), train=True)
        Array([[3., 4.]], dtype=float32)
    """
    unknown = sorted(field for field in fields if norm is None or not _takes(norm, field))
    if unknown:
        raise ValueError(
            f"{_describe(norm)} takes no {', '.join(unknown)}; "
            "use a norm that has this field, or leave the option that asks for it at its default"
        )
    if norm is None:
        return x
    layer = _layer(norm, train, name, fields)
    if getattr(layer, "use_running_average", not train) is None:
        return layer(x, use_running_average=not train)
    return layer(x)


def has_own_bias(norm: NormFactory | None, use_bias: bool | None) -> bool:
    """Returns whether the dense or convolution layer before `norm` has a bias.

    The bias of the norm takes the place of the layer's bias. Before a norm without a bias, such as
    RMS norm or any norm with `use_bias=False`, the layer has one of its own.

    Args:
        norm: the factory of the normalization that follows, or None.
        use_bias: the user's choice; None for a bias just where the norm has none. A norm has a bias
            if its layer has a true attribute `use_bias`.

    Returns:
        True for a layer with a bias.

    Examples:
        >>> from jaxnorm.linen import BatchNorm, RMSNorm
        >>> [has_own_bias(norm, None) for norm in (None, BatchNorm, RMSNorm)]
        [True, False, True]
    """
    if use_bias is not None:
        return use_bias
    # A parent of its own: the layer must not become a child of the module that asks.
    return norm is None or not _Biased(norm, parent=None).apply({})


class _Biased(nn.Module):
    """Tells whether the layer of a factory has a bias, without calling the layer."""

    norm: NormFactory

    @nn.compact
    def __call__(self) -> bool:
        layer = _layer(self.norm, False, "norm", {})
        # `getattr(layer, "use_bias")` would run the setup of a layer without this attribute.
        return bool(getattr(layer, "__dict__", {}).get("use_bias", False))


def _layer(norm: NormFactory, train: bool, name: str | None, fields: dict[str, Any]) -> Any:
    """Returns the layer that a factory makes of the arguments that the factory takes."""
    if name is not None and _takes(norm, "name"):
        fields = {**fields, "name": name}
    chosen = "use_running_average" in getattr(norm, "keywords", {})
    if not chosen and _names(norm, "use_running_average"):
        fields = {**fields, "use_running_average": not train}
    return norm(**fields)


def _parameters(norm: NormFactory) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(norm).parameters)


def _names(norm: NormFactory, argument: str) -> bool:
    return argument in _parameters(norm)


def _takes(norm: NormFactory, argument: str) -> bool:
    parameters = _parameters(norm)
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return anything or argument in parameters


def _describe(norm: NormFactory | None) -> str:
    while isinstance(norm, functools.partial):
        norm = norm.func
    return f"norm={getattr(norm, '__qualname__', norm)}"
