"""The parameters of an nnx norm: how they are made, read and placed on the feature axes."""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.typing import PromoteDtypeFn
from jax.nn import initializers

from jaxnorm.functional._drop_in import normalizable, result_dtype
from jaxnorm.numerics import canonical_axes
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike, Shape


def feature_shape(num_features: int | Sequence[int]) -> Shape:
    """Returns the shape of a norm's parameters.

    Args:
        num_features: the size of the feature axis, or one for each of several.

    Returns:
        [*features].

    Examples:
        >>> feature_shape(64), feature_shape((8, 8))
        ((64,), (8, 8))
    """
    if isinstance(num_features, Sequence):
        return tuple(map(operator.index, num_features))
    return (num_features,)


def parameter(
    used: bool,
    init: initializers.Initializer,
    shape: Shape,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
    metadata: Mapping[str, Any],
) -> nnx.Param | None:
    """Returns a new parameter, or a place without one.

    Args:
        used: whether there is one; if not, no key is drawn.
        init: its initializer.
        shape: [*features].
        dtype: its dtype.
        rngs: keys; one is drawn from `params`.
        metadata: of the variable.

    Returns:
        A parameter, or None as data, so that a parameter may take its place.

    Examples:
        >>> parameter(True, initializers.ones, (2,), float, nnx.Rngs(0), {})[...]
        Array([1., 1.], dtype=float32)
    """
    if not used:
        return nnx.data(None)
    return nnx.Param(init(rngs.params(), shape, dtype), **metadata)


def feature_sizes(shape: Shape, axes: Axes) -> Shape:
    """Returns the sizes of the feature axes in their order.

    Args:
        shape: of `x`.
        axes: the feature axes.

    Returns:
        [*features].

    Examples:
        >>> feature_sizes((8, 4, 4, 6), (3, 1))
        (4, 6)
    """
    return tuple(shape[axis] for axis in canonical_axes(axes, len(shape), "feature_axes"))


def placed(value: Array, sizes: Shape, name: str) -> Array:
    """Returns a norm's variable with one entry for each feature of `x`.

    Args:
        value: of as many entries as there are features.
        sizes: [*features].
        name: what an error calls it.

    Returns:
        [*features].

    Raises:
        ValueError: the number of entries differs.

    Examples:
        >>> placed(jnp.arange(4.0), (2, 2), "scale").shape
        (2, 2)
    """
    if value.size != math.prod(sizes):
        raise ValueError(
            f"{name} {list(value.shape)} does not fit the features {list(sizes)} of x; give the "
            "constructor the number of features that x has"
        )
    return value.reshape(sizes)


def affine(norm: Any, sizes: Shape) -> tuple[Array | None, Array | None]:
    """Returns the scale and the bias of a norm with one entry for each feature of `x`.

    Args:
        norm: has the variables `scale` and, unless it never shifts, `bias`.
        sizes: [*features].

    Returns:
        Two arrays [*features]; None for one that is not used.

    Raises:
        ValueError: the number of entries differs.
    """
    variables = [(name, getattr(norm, name, None)) for name in ("scale", "bias")]
    scale, bias = (None if v is None else placed(v[...], sizes, name) for name, v in variables)
    return scale, bias


def promoted(
    promote_dtype: PromoteDtypeFn,
    dtype: DTypeLike | None,
    x: ArrayLike,
    *variables: Array | None,
) -> tuple[Array, jnp.dtype, tuple[Array | None, ...]]:
    """Returns what `promote_dtype` decides: the dtypes of the result and of the parameters.

    It does not decide how precise the statistics are: those are taken of `x` itself, which is not
    rounded to `dtype` first.

    Args:
        promote_dtype: Flax's function: a tuple of arrays and `dtype` -> the arrays promoted.
        dtype: the output's dtype that the user asked for, or None.
        x: the input.
        *variables: further arrays, None where there is none.

    Returns:
        `x` as precise as it came or more, the output's dtype, and the variables promoted.

    Examples:
        >>> from flax.nnx.nn.dtypes import promote_dtype
        >>> x, dtype, (scale,) = promoted(promote_dtype, jnp.bfloat16, jnp.ones(2), jnp.ones(2))
        >>> x.dtype, dtype, scale.dtype
        (dtype('float32'), dtype(bfloat16), dtype(bfloat16))
    """
    x = jnp.asarray(x)
    like, *values = promote_dtype((x, *variables), dtype=dtype)
    return normalizable(x, like.dtype), result_dtype(like, *values, dtype=dtype), tuple(values)
