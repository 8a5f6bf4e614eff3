"""Some of a model's norms, chosen by their paths."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxnorm._views import Path

Where = str | Sequence[str] | Callable[[str], bool]
"""Norms by their paths, such as "block_0/norm_1": paths of norms or of modules that hold them, or
what returns whether a norm is meant."""


class Chosen(NamedTuple):
    """Whether the norm at a path is meant; equal for equal wishes, and pickles where they do.

    Examples:
        >>> head = Chosen.of("head")
        >>> head.means(("head", "norm")), head.means(("header", "norm"))
        (True, False)
    """

    several: tuple[str | Callable[[str], bool], ...] | None  # None for all

    @classmethod
    def of(cls, where: Where | None) -> "Chosen":
        """Returns what is chosen by paths or a predicate; all by None."""
        if where is None:
            return cls(None)
        return cls((where,) if isinstance(where, str) or callable(where) else tuple(where))

    def means(self, path: Path) -> bool:
        """Returns whether the norm at `path` is meant."""
        name = "/".join(path)
        return self.several is None or any(
            each(name) if callable(each) else f"{name}/".startswith(f"{each}/")
            for each in self.several
        )

    def also(self, other: "Chosen") -> "Chosen":
        """Returns what either of two chooses."""
        if self.several is None or other.several is None:
            return Chosen(None)
        return Chosen((*self.several, *other.several))
