"""Where scale and bias stand against an array: on its feature axes, or on any that broadcast."""

from typing import Any

import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype
from jaxnorm.typing import Array, ArrayLike, Shape


def kept_shape(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """Returns `shape` with ones at all axes but some.

    Args:
        shape: the shape of `x`.
        axes: the axes that keep their size, canonical.

    Returns:
        The rank of `x`.

    Examples:
        >>> kept_shape((8, 4, 4, 6), (0, 3))
        (8, 1, 1, 6)
    """
    return tuple(n if axis in axes else 1 for axis, n in enumerate(shape))


def place(
    parameter: ArrayLike | None, shape: Shape, features: tuple[int, ...], name: str
) -> Array | None:
    """Returns `parameter` with the rank of `x`, its entries on the feature axes.

    An array of the rank of `x` is left as it is, so that a scale may differ per example or per
    position (conditional and adaptive normalizers).

    Args:
        parameter: [*features] in the order of the sorted feature axes, [] or anything of the rank
            of `x` that broadcasts to it; None stays None.
        shape: the shape of `x`.
        features: the axes that the parameter belongs to, canonical.
        name: the argument's name, for the error.

    Returns:
        An array of the rank of `x`, or None.

    Raises:
        ValueError: the shape is none of these.

    Examples:
        >>> place(jnp.ones(3), (2, 3, 5), (1,), "scale").shape
        (1, 3, 1)
    """
    if parameter is None:
        return None
    parameter = jnp.asarray(parameter)
    sizes = tuple(shape[axis] for axis in features)
    if parameter.shape == sizes:
        return parameter.reshape(kept_shape(shape, features))
    if parameter.ndim in (0, len(shape)):
        return parameter
    raise ValueError(
        f"{name} {list(parameter.shape)} fits neither the features {list(sizes)} on axes "
        f"{list(features)} of x {list(shape)} nor x itself; give it shape {list(sizes)}, or rank "
        f"{len(shape)} and sizes that broadcast"
    )


def placed(
    scale: ArrayLike | None, bias: ArrayLike | None, shape: Shape, features: tuple[int, ...]
) -> dict[str, Any]:
    """Returns the arguments `scale` and `bias` of an operation; see `place`.

    Args:
        scale: [*features], or of the rank of `x`; None stays None.
        bias: like `scale`.
        shape: the shape of `x`.
        features: the axes that both belong to, canonical.

    Returns:
        Both, of the rank of `x`.

    Examples:
        >>> placed(jnp.ones(3), None, (2, 3, 5), (1,))["bias"]
    """
    names = {"scale": scale, "bias": bias}
    return {name: place(part, shape, features, name) for name, part in names.items()}


def about_one(scale: ArrayLike | None, zero_centered: bool) -> ArrayLike | None:
    """Returns `1 + scale` where a scale is kept around zero, else `scale` itself.

    Args:
        scale: of any shape, or None for one.
        zero_centered: whether one is added, in float32 or wider: in bfloat16 the sum would lose
            digits.

    Returns:
        The shape of `scale`, or None.

    Examples:
        >>> about_one(jnp.array([0.25]), True), about_one(None, True)
        (Array([1.25], dtype=float32), None)
    """
    if scale is None or not zero_centered:
        return scale
    scale = jnp.asarray(scale)
    return 1 + scale.astype(accumulation_dtype(scale.dtype))


def all_but_last(shape: Shape) -> Shape:
    """Returns the statistics shape of one statistic for each feature on the last axis.

    Args:
        shape: the shape of `x`.

    Returns:
        The rank of `x`.

    Examples:
        >>> all_but_last((8, 4, 4, 6))
        (1, 1, 1, 6)
    """
    return kept_shape(shape, (len(shape) - 1,))


def scaled_and_shifted(
    y: Array, scale: ArrayLike | None, bias: ArrayLike | None, features: tuple[int, ...]
) -> Array:
    """Returns `y * scale + bias`.

    Args:
        y: [*shape], float32 or wider.
        scale: [*features], or of the rank of `y` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        features: the axes that scale and bias belong to, canonical.

    Returns:
        [*shape].

    Raises:
        ValueError: a shape does not fit.

    Examples:
        >>> scaled_and_shifted(jnp.ones((1, 2)), jnp.array([3.0, 4.0]), None, (1,))
        Array([[3., 4.]], dtype=float32)
    """
    factor, shift = placed(scale, bias, y.shape, features).values()
    y = y if factor is None else y * factor
    return y if shift is None else y + shift
