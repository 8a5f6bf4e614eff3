"""What a batch norm is: the module classes, and what one call of them is asked to do."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnorm.numerics import canonical_axes
from jaxnorm.surgery._kinds import KINDS

SWITCH = "use_running_average"
"""The argument of a call, and the attribute, that let the running statistics normalize."""


@functools.cache
def keeps_statistics(kind: type) -> bool:
    """Returns whether a class of modules normalizes by running statistics in evaluation.

    Args:
        kind: a class of linen or nnx modules.

    Returns:
        True for Flax's batch norms, for ours, for every other norm of ours that keeps running
        statistics, and for what inherits from one of these.

    Examples:
        >>> import jaxnorm
        >>> keeps_statistics(jaxnorm.linen.BatchNorm), keeps_statistics(jaxnorm.nnx.LayerNorm)
        (True, False)
    """
    norm = next((base for base in kind.__mro__ if base in KINDS), None)
    return norm is not None and SWITCH in inspect.signature(norm.__call__).parameters


def without_switch(kind: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a call of a norm by name, without `use_running_average`.

    Args:
        kind: the class of the norm.
        args: the positional arguments of the call.
        kwargs: its keyword arguments.

    Returns:
        Keyword arguments.

    Examples:
        >>> from jaxnorm.linen import BatchNorm
        >>> without_switch(BatchNorm, (1.0, True), {"mask": None})
        {'x': 1.0, 'mask': None}
    """
    given = inspect.signature(kind.__call__).bind(None, *args, **kwargs).arguments
    return {name: value for name, value in given.items() if name not in ("self", SWITCH)}


def uses_running_average(
    module: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> bool:
    """Returns whether a call of a batch norm normalizes with its running statistics.

    Args:
        module: a batch norm.
        arguments: the positional arguments of the call, x among them.
        keywords: the keyword arguments of the call.

    Returns:
        What the field or the call says; false where neither does.

    Examples:
        >>> from jaxnorm.linen import BatchNorm
        >>> uses_running_average(BatchNorm(use_running_average=True), [0.0], {})
        True
    """
    chosen = keywords.get(SWITCH, arguments[1] if len(arguments) > 1 else None)
    return bool(module.use_running_average if chosen is None else chosen)


def feature_axes(module: Any, ndim: int) -> tuple[int, ...]:
    """Returns the axes of the input that a batch norm keeps.

    Args:
        module: a batch norm.
        ndim: the rank of its input.

    Returns:
        Sorted axes in `range(ndim)`.

    Examples:
        >>> from jaxnorm.linen import BatchNorm
        >>> feature_axes(BatchNorm(axis=-1), 4)
        (3,)
    """
    return canonical_axes(module.axis, ndim, "axis")
