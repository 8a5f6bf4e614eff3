"""The catalogue: the rows of every theme, which the laws, the docs and the modules read."""

from collections.abc import Mapping
from types import MappingProxyType

from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.batch import _rows as batch
from jaxnorm.functional.conditional import _rows as conditional
from jaxnorm.functional.evolved import _rows as evolved
from jaxnorm.functional.graph import _rows as graph
from jaxnorm.functional.instance import _rows as instance
from jaxnorm.functional.kernels import _rows as kernels
from jaxnorm.functional.layer import _rows as layer
from jaxnorm.functional.pointwise import _rows as pointwise
from jaxnorm.functional.response import _rows as response
from jaxnorm.functional.streaming import _rows as streaming
from jaxnorm.functional.whitening import _rows as whitening

_THEMES = (
    batch,
    streaming,
    whitening,
    layer,
    instance,
    response,
    evolved,
    graph,
    conditional,
    kernels,
    pointwise,
)

CATALOGUE: tuple[Member, ...] = tuple(row for theme in _THEMES for row in theme.MEMBERS)
"""Every member of the library."""

SPECS: Mapping[str, Spec] = MappingProxyType(
    {name: spec for theme in _THEMES for name, spec in theme.SPECS.items()}
)
"""One specification for each member of the catalogue, by its name."""
