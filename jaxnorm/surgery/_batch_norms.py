"""What a batch norm is: the module classes, and what one call of them is asked to do."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn

from jaxnorm.linen import BatchNorm, GhostBatchNorm
from jaxnorm.numerics import canonical_axes

BATCH_NORMS = (BatchNorm, GhostBatchNorm, nn.BatchNorm)
"""The modules that keep running statistics as `mean` and `var`: ours and Flax's."""


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
        >>> uses_running_average(BatchNorm(use_running_average=True), [0.0], {})
        True
    """
    if module.use_running_average is not None:
        return bool(module.use_running_average)
    chosen = keywords.get("use_running_average", arguments[1] if len(arguments) > 1 else None)
    return bool(chosen)


def feature_axes(module: Any, ndim: int) -> tuple[int, ...]:
    """Returns the axes of the input that a batch norm keeps.

    Args:
        module: a batch norm.
        ndim: the rank of its input.

    Returns:
        Sorted axes in `range(ndim)`.

    Examples:
        >>> feature_axes(BatchNorm(axis=-1), 4)
        (3,)
    """
    return canonical_axes(module.axis, ndim, "axis")
