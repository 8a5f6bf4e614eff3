"""What a new norm takes of the old one: the arguments of its call, and its scale."""

import inspect
from typing import Any

import flax.linen as nn

from jaxnorm.surgery._kinds import class_name
from jaxnorm.surgery._paths import path_name
from jaxnorm.typing import Array


def fitting(
    norm: nn.Module, new: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of a norm's call as the new norm takes them.

    Args:
        norm: the linen norm that is called.
        new: the one that runs in its place.
        args: of the call.
        kwargs: of the call.

    Returns:
        Positional and keyword arguments.

    Raises:
        ValueError: the call gives what the new norm does not take, or lacks what it needs.

    Examples:
        >>> fitting(nn.BatchNorm(), nn.LayerNorm(), (1.0, True), {})
        ((1.0,), {})
    """
    old, own = (inspect.signature(type(m).__call__).parameters for m in (norm, new))
    positional = list(old)[1:]
    given = {**dict(zip(positional[1:], args[1:], strict=False)), **kwargs}
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in own.values())
    if takes_all or list(own) == list(old):
        return args, kwargs
    # Without a batch there is no difference between train and eval mode.
    if "use_running_average" not in own:
        given.pop("use_running_average", None)
    given = {name: value for name, value in given.items() if value is not None}
    lost = [name for name in given if name not in own and name != positional[0]]
    if lost:
        raise ValueError(
            f"{path_name(norm.path)} is called with {', '.join(lost)}, which "
            f"{class_name(type(new))} does not take; use a norm that does, or let this one stay"
        )
    required = [
        name
        for name, parameter in list(own.items())[2:]
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if "use_running_average" in own and vars(new).get("use_running_average", True) is None:
        required.append("use_running_average")
    missing = [name for name in required if name not in given]
    if missing:
        raise ValueError(
            f"{path_name(norm.path)} is called without {', '.join(missing)}, which "
            f"{class_name(type(new))} needs; let the rule give it as a field of the new norm"
        )
    x = () if positional[0] in given else args[:1]
    return x, given


def scale_offset(norm: Any) -> float:
    """Returns what a norm adds to its parameter `scale` before it multiplies.

    Args:
        norm: a norm.

    Returns:
        0, or 1 where the scale is zero-centered.

    Examples:
        >>> scale_offset(nn.LayerNorm())
        0.0
    """
    return float(bool(vars(norm).get("zero_centered", False)))


def converted(value: Array, offset: float) -> Array:
    """Returns a scale with another offset, the same array where nothing changes.

    Args:
        value: [*features].
        offset: of the old norm less that of the new.

    Returns:
        The shape and dtype of `value`.

    Examples:
        >>> import jax.numpy as jnp
        >>> converted(jnp.array([1.5]), -1.0)
        Array([0.5], dtype=float32)
    """
    return value if offset == 0 else (value + offset).astype(value.dtype)
