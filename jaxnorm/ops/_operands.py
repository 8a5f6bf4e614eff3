"""Operands that may be missing: passed without gaps, beside which ones are there."""

from jaxnorm import _explicit
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.typing import Array, ArrayLike


def parameter(value: ArrayLike | None, x: Array, name: str) -> Array | None:
    """Returns a scale or a bias of the rank of `x`, lying on devices as `x` does.

    Args:
        value: broadcasts to `x`, or None.
        x: [*shape].
        name: the argument's name, for the error.

    Raises:
        ValueError: `value` does not broadcast to `x`.
    """
    return None if value is None else _explicit.beside(x, broadcasting(value, x.shape, name))


def present(values) -> tuple:
    """Returns the values that are not None."""
    return tuple(v for v in values if v is not None)


def which(values) -> tuple[bool, ...]:
    """Returns for each value whether it is not None."""
    return tuple(v is not None for v in values)


def filled(has: tuple[bool, ...], values) -> list:
    """Returns the values in their places, None in the places of those that are not there."""
    rest = iter(values)
    return [next(rest) if there else None for there in has]
