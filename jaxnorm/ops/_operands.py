"""Operands that may be missing: passed without gaps, beside which ones are there."""


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
