"""Where scale and bias stand against an array: on its feature axes, or on any that broadcast."""

import jax.numpy as jnp

from jaxnorm.numerics import canonical_axes
from jaxnorm.typing import Array, ArrayLike, Axes, Shape


def place(parameter: ArrayLike | None, shape: Shape, feature_axes: Axes, name: str) -> Array | None:
    """Returns `parameter` with the rank of `x`, its entries on the feature axes.

    An array of the rank of `x` is left as it is, so that a scale may differ per example or per
    position (conditional and adaptive normalizers).

    Args:
        parameter: [*features] in the order of the sorted feature axes, [] or anything of the rank
            of `x` that broadcasts to it; None stays None.
        shape: the shape of `x`.
        feature_axes: the axes that the parameter belongs to.
        name: the argument's name, for the error.

    Returns:
        An array of the rank of `x`, or None.

    Raises:
        ValueError: the shape is none of these.

    Examples:
        >>> place(jnp.ones(3), (2, 3, 5), 1, "scale").shape
        (1, 3, 1)
    """
    if parameter is None:
        return None
    parameter = jnp.asarray(parameter)
    axes = canonical_axes(feature_axes, len(shape), "feature_axes")
    features = tuple(shape[axis] for axis in axes)
    if parameter.shape == features:
        return parameter.reshape(tuple(n if a in axes else 1 for a, n in enumerate(shape)))
    if parameter.ndim in (0, len(shape)):
        return parameter
    raise ValueError(
        f"{name} {list(parameter.shape)} fits neither the features {list(features)} on axes "
        f"{list(axes)} of x {list(shape)} nor x itself; give it shape {list(features)}, or rank "
        f"{len(shape)} and sizes that broadcast"
    )
