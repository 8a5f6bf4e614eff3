"""The entries of a batch by name."""

from typing import Any

from jaxnorm.typing import PyTree


def entry(batch: PyTree, name: str, remedy: str) -> Any:
    """Returns the entry `name` of a batch.

    Args:
        batch: a mapping of names to arrays.
        name: of the entry that is needed.
        remedy: what a caller with other names does, the end of the error's sentence.

    Returns:
        The entry.

    Raises:
        ValueError: the batch is no mapping or has no such entry; the names there are, are listed.

    Examples:
        >>> entry({"labels": 3}, "labels", "rename it")
        3
    """
    try:
        return batch[name]
    except (KeyError, TypeError, IndexError):
        there = sorted(map(str, batch)) if hasattr(batch, "keys") else type(batch).__name__
        raise ValueError(f"the batch needs the entry {name!r}, but is {there}; {remedy}") from None


def entry_inputs(batch: PyTree) -> Any:
    """Returns what a model is given of a batch, its entry `inputs`.

    Args:
        batch: a mapping with `inputs`.

    Returns:
        The entry.

    Raises:
        ValueError: there is none.

    Examples:
        >>> entry_inputs({"inputs": 3, "labels": 4})
        3
    """
    return entry(batch, "inputs", "name it so, or pass inputs=lambda batch: batch[...] to the step")
