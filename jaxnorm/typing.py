"""Type aliases of the public signatures.

Arrays are annotated with jaxtyping, so that dtypes are checked in the tests (and only there);
shapes are documented in brackets in each docstring.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import Bool, Float, Inexact, Real, Shaped

Array = jax.Array
ArrayLike = jax.typing.ArrayLike
DTypeLike = jax.typing.DTypeLike

AnyArray = Shaped[Array, "..."]
"""An array of any dtype."""
Numbers = Inexact[Array, "..."]
"""A floating or complex array."""
Floats = Float[Array, "..."]
"""A real floating array."""
Mask = Bool[Array, "..."]
"""A boolean array, true where an entry takes part."""
Weights = Real[Array, "..."] | Mask
"""Real or boolean weights of the entries of an array."""

Shape = tuple[int, ...]
Axes = int | Sequence[int]
AxisName = str | tuple[str, ...]
AxisIndexGroups = Sequence[Sequence[int]] | None
PyTree = Any
