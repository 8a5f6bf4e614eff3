"""What the converter knows of another framework: a table of names and a table of layouts."""

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxnorm.interop._flax import Place
from jaxnorm.interop._layout import KEEPDIMS, SAME, Layout
from jaxnorm.interop._record import Record

Names = Mapping[str, str | None] | Callable[[str], str | None]
"""Their layer (or leaf) -> ours; None leaves it out. A name that is not listed stays."""

Layouts = Mapping[str, str | Layout]
"""Patterns of their layers, such as "up.*" -> a `Layout`, or the name of one of the framework's."""


class Leaf(NamedTuple):
    """An array of another framework.

    Examples:
        >>> Leaf("bn.running_mean", "bn", "running_mean", np.zeros(2)).layer
        'bn'
    """

    key: str  # its whole name
    layer: str  # the part of it that names the layer
    name: str  # the rest
    value: Any


class Framework(NamedTuple):
    """The names and layouts of another framework, as data.

    Attributes:
        title: what errors call it.
        roles: the name of a leaf -> the roles that it may have; the first that our layer has.
        layouts: "dense" and "conv" are taken by a kernel's rank; others are for `layouts=`.
        vectors: the layout of every other leaf.
        path: a layer's name -> its default path in Flax.
        fill: the name of a leaf -> what it is where no role of it is known; takes our record and
            the leaf of `like`, returns None where that is not known either.
    """

    title: str
    roles: Mapping[str, tuple[str, ...]]
    layouts: Mapping[str, Layout]
    path: Callable[[str], str]
    vectors: Layout = SAME
    fill: Mapping[str, Callable[[Record, Any], np.ndarray | None]] = MappingProxyType({})


class Rules(NamedTuple):
    """What the user says of a conversion.

    Attributes:
        names: their layers -> ours.
        layouts: their layers -> layouts.
        keep: patterns of leaves of a Flax template that stay as they are.
        decay: of debiased averages, where the other side does not say.
    """

    names: Names | None = None
    layouts: Layouts | None = None
    keep: tuple[str, ...] = ()
    decay: float | None = None

    def unused(self, leaves: list[Leaf], places: Iterable[Place]) -> Iterator[str]:
        """Yields what an error says of each rule that is about nothing, as one with a slip is."""
        layers, ours = {leaf.layer for leaf in leaves}, [str(place) for place in places]
        keys = layers | {leaf.key for leaf in leaves}
        for name in () if callable(self.names) else self.names or ():
            if name not in keys:
                yield f"unused: names[{name!r}] is no layer there"
        for pattern in self.layouts or ():
            if not fnmatch.filter(layers, pattern):
                yield f"unused: layouts[{pattern!r}] is no layer there"
        for pattern in self.keep:
            if not fnmatch.filter(ours, pattern):
                yield f"unused: keep={pattern!r} is no leaf of like"


def targets(theirs: Framework, leaf: Leaf, names: Names | None) -> list[Place] | None:
    """Returns the places that a leaf may have in Flax, best first; None if it is to be left out.

    Args:
        theirs: the framework of the leaf.
        leaf: one of its arrays.
        names: the user's map.

    Returns:
        At least one place.
    """
    roles = theirs.roles.get(leaf.name, (leaf.name,))
    layer = theirs.path(leaf.layer)
    if callable(names):
        named = names(leaf.layer)
    elif names and leaf.key in names:
        exact = names[leaf.key]
        return exact if exact is None else [Place(*_split(exact))]
    else:
        named = (names or {}).get(leaf.layer, layer)
    return named if named is None else [Place(named, role) for role in roles]


def layout_of(theirs: Framework, leaf: Leaf, role: str, layouts: Layouts | None) -> Layout:
    """Returns the layout of a leaf: the user's for its layer, or that of its role and rank.

    Args:
        theirs: the framework of the leaf.
        leaf: one of its arrays.
        role: what it is in Flax.
        layouts: the user's rules.

    Returns:
        A `Layout`.

    Raises:
        ValueError: a rule has a name that the framework has not.
    """
    for pattern, chosen in (layouts or {}).items():
        if not fnmatch.fnmatchcase(leaf.layer, pattern):
            continue
        if isinstance(chosen, str) and chosen not in theirs.layouts:
            raise ValueError(
                f"layouts[{pattern!r}]={chosen!r} is no layout of {theirs.title}; use one of "
                f"{', '.join(theirs.layouts)}, or a Layout"
            )
        layout = theirs.layouts[chosen] if isinstance(chosen, str) else chosen
        if role in layout.roles:
            return layout
    rank = np.ndim(leaf.value)
    if role in ("length", "u"):
        return KEEPDIMS
    if role != "kernel" or rank < 2:
        return theirs.vectors
    return theirs.layouts["dense" if rank == 2 else "conv"]


def _split(path: str) -> tuple[str, str]:
    layer, _, role = path.rpartition("/")
    return layer, role
