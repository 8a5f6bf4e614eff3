"""Where a scale and a bias that follow from a condition stand against an array."""

from typing import Any

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape
from jaxnorm.numerics import accumulation_dtype, canonical_axes
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.typing import Array, ArrayLike, Axes, Shape


def conditioned(
    scale: ArrayLike | None,
    bias: ArrayLike | None,
    shape: Shape,
    feature_axes: Axes,
    scale_offset: float,
) -> dict[str, Any]:
    """Returns scale and bias with the rank of `x`, the scale with its offset.

    Args:
        scale: [N, *features], [*features], [], or of the rank of `x`; None for a factor of one.
        bias: like `scale`; None for zero.
        shape: the shape of `x`.
        feature_axes: the axes that both belong to.
        scale_offset: added to the scale, in float32 or wider.

    Returns:
        The arguments `scale` and `bias` of a norm.

    Raises:
        ValueError: a shape does not fit.

    Examples:
        >>> placed = conditioned(jnp.zeros((2, 3)), None, (2, 4, 3), -1, 1.0)
        >>> placed["scale"].shape, float(placed["scale"].sum()), placed["bias"]
        ((2, 1, 3), 6.0, None)
    """
    if scale is not None:
        scale = jnp.asarray(scale)
        scale = scale.astype(accumulation_dtype(scale.dtype)) + scale_offset
    return {
        "scale": of_examples(scale, shape, feature_axes, "scale"),
        "bias": of_examples(bias, shape, feature_axes, "bias"),
    }


def of_examples(
    parameter: ArrayLike | None, shape: Shape, feature_axes: Axes, name: str
) -> Array | None:
    """Returns a parameter that may differ per example, with the rank of `x`.

    Args:
        parameter: [N, *features], [*features], [], or of the rank of `x`; None stays None.
        shape: the shape of `x`.
        feature_axes: the axes that it belongs to.
        name: the argument's name, for the error.

    Returns:
        An array that broadcasts to `x`, or None.

    Raises:
        ValueError: the shape is none of these.

    Examples:
        >>> of_examples(jnp.ones((2, 3)), (2, 4, 5, 3), -1, "scale").shape
        (2, 1, 1, 3)
    """
    if parameter is None:
        return None
    parameter = jnp.asarray(parameter)
    features = canonical_axes(feature_axes, len(shape), "feature_axes")
    for axes in (features, tuple(sorted({0, *features}))):
        if parameter.shape == tuple(shape[axis] for axis in axes):
            return parameter.reshape(kept_shape(shape, axes))
    if parameter.ndim in (0, len(shape)):
        return broadcasting(parameter, shape, name)
    sizes = [shape[axis] for axis in features]
    raise ValueError(
        f"{name} {list(parameter.shape)} does not fit x {list(shape)}, whose feature axes are "
        f"{list(features)}; give it shape {[shape[0], *sizes]}, one row per example, or "
        f"{sizes}, or rank {len(shape)} and sizes that broadcast"
    )
