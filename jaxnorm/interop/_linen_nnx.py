"""Between the two rooms of Flax: the same names of layers, other trees."""

from typing import Any

from jaxnorm.interop._files import as_kind
from jaxnorm.interop._flax import variables_of
from jaxnorm.interop._framework import Framework, Leaf, Names, Rules
from jaxnorm.interop._from_flax import from_flax
from jaxnorm.interop._layout import KEEPDIMS, SAME
from jaxnorm.interop._report import Conversion

FLAX = Framework(
    title="Flax",
    roles={},
    layouts={"dense": SAME, "conv": SAME},
    path=lambda layer: layer,
    vectors=KEEPDIMS,
)


def to_nnx(variables: Any, like: Any, *, names: Names | None = None) -> Conversion:
    """Returns variables of linen as those of an nnx model.

    Args:
        variables: a dictionary of collections.
        like: the `nnx.Module`, which stays as it is, or its `nnx.State`.
        names: nnx's layer, such as "blocks/0/norm", -> linen's, or a function; see `from_torch`.
            A name that is not listed stays.

    Returns:
        A `Conversion`; its `variables` are a new module or a new state.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.

    Examples:
        >>> import numpy as np
        >>> from flax import nnx
        >>> like = nnx.LayerNorm(2, rngs=nnx.Rngs(0))
        >>> variables = {"params": {"scale": np.full(2, 3.0), "bias": np.zeros(2)}}
        >>> to_nnx(variables, like).variables.scale[...]
        Array([3., 3.], dtype=float32)
    """
    return _between(variables, like, names)


def to_linen(state: Any, like: Any, *, names: Names | None = None) -> Conversion:
    """Returns the variables of an nnx model as those of linen.

    Args:
        state: an `nnx.Module` or an `nnx.State`.
        like: the dictionary of collections of the linen model.
        names: linen's layer, such as "Dense_0", -> nnx's, or a function; see `from_torch`. A
            name that is not listed stays.

    Returns:
        A `Conversion`; its `variables` are a dictionary of collections.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.

    Examples:
        >>> import numpy as np
        >>> from flax import nnx
        >>> norm = nnx.LayerNorm(2, rngs=nnx.Rngs(0))
        >>> like = {"params": {"LayerNorm_0": {"scale": np.zeros(2), "bias": np.zeros(2)}}}
        >>> to_linen(norm, like, names={"LayerNorm_0": ""}).variables["params"]["LayerNorm_0"]
        {'bias': array([0., 0.]), 'scale': array([1., 1.])}
    """
    return _between(state, like, names)


def _between(variables: Any, like: Any, names: Names | None) -> Conversion:
    target = variables_of(like)
    places = {str(place): place for place in target.leaves}
    leaves = [Leaf(str(p), p.layer, p.role, value) for p, value in target.leaves.items()]
    done = from_flax(FLAX, variables, leaves, Rules(names))
    values = {
        places[key]: as_kind(array, target.leaves[places[key]])
        for key, array in done.variables.items()
    }
    return done._replace(variables=target.rebuild(values))
