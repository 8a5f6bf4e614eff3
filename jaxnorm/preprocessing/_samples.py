"""Samples of features: shapes, dtypes, and which entries are valid."""

import jax
import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype, as_array
from jaxnorm.typing import Array, ArrayLike, DTypeLike, Mask, Numbers, PyTree, Shape


def as_floating(x: ArrayLike) -> Array:
    """Returns `x` as a real floating array.

    Args:
        x: [*batch, *features], real.

    Returns:
        `x` in its own floating dtype; integers and booleans in the default one.

    Raises:
        TypeError: `x` is complex or not a number.

    Examples:
        >>> as_floating(jnp.array([1, 2]))
        Array([1., 2.], dtype=float32)
    """
    x = as_array(x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    if jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == jnp.bool_:
        return x.astype(jnp.result_type(x.dtype, float))
    raise TypeError(f"x must be real, got {x.dtype} {list(x.shape)}; scale the parts one by one")


def state_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Returns the dtype in which the statistics of features of `dtype` are kept.

    Args:
        dtype: a floating dtype.

    Returns:
        float32 or wider.

    Raises:
        TypeError: `dtype` is not real and floating.

    Examples:
        >>> state_dtype(jnp.bfloat16)
        dtype('float32')
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"statistics need a real floating dtype, got {jnp.dtype(dtype)}")
    return accumulation_dtype(dtype)


def flatten_samples(
    x: ArrayLike, mask: ArrayLike | None, features: Shape, dtype: DTypeLike
) -> tuple[Numbers, Mask]:
    """Returns the samples along one axis, and which of their entries are valid.

    Args:
        x: [*batch, *features], real; NaN where a value is missing.
        mask: boolean, broadcastable to `x`, true where an entry is valid; None for all.
        features: the shape of one sample.
        dtype: the dtype of the result.

    Returns:
        The samples [N, *features], and valid [N, *features], false at every NaN as well.

    Raises:
        ValueError: `x` does not end in `features`, or the mask does not broadcast to it.
        TypeError: `x` is not real or the mask not boolean.

    Examples:
        >>> samples, valid = flatten_samples(jnp.array([[1.0, jnp.nan]]), None, (2,), jnp.float32)
        >>> valid
        Array([[ True, False]], dtype=bool)
    """
    x = as_floating(x)
    check_features(x, features)
    valid = ~jnp.isnan(x)
    if mask is not None:
        mask = jnp.asarray(mask)
        if mask.dtype != jnp.bool_:
            raise TypeError(f"mask must be boolean, got {mask.dtype}; use mask != 0")
        if jnp.broadcast_shapes(mask.shape, x.shape) != x.shape:
            raise ValueError(f"mask {list(mask.shape)} does not broadcast to x {list(x.shape)}")
        valid &= mask
    return x.astype(dtype).reshape(-1, *features), valid.reshape(-1, *features)


def check_features(x: Array, features: Shape) -> None:
    """Raises unless the last axes of `x` are `features`.

    Args:
        x: the array that is checked.
        features: the shape of one sample of the fitted data.

    Returns:
        Nothing.

    Raises:
        ValueError: the shapes differ.

    Examples:
        >>> check_features(jnp.ones((8, 3)), (3,))
    """
    if x.ndim < len(features) or x.shape[x.ndim - len(features) :] != features:
        raise ValueError(
            f"the scaler's state is for samples {list(features)}, but x {list(x.shape)} does not "
            "end in these axes; put the samples on the leading axes"
        )


def stack(first: PyTree, second: PyTree) -> PyTree:
    """Returns two states of one structure as one, stacked along a new first axis.

    Args:
        first: a state.
        second: another one of the same structure and shapes.

    Returns:
        The structure with arrays [2, ...].

    Raises:
        ValueError: the states are of different features.

    Examples:
        >>> stack(jnp.zeros(2), jnp.ones(2)).shape
        (2, 2)
    """
    shapes = [[list(a.shape) for a in jax.tree.leaves(state)] for state in (first, second)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"cannot merge states of features {shapes[0][0]} and {shapes[1][0]}; fit both on the "
            "same features"
        )
    return jax.tree.map(lambda a, b: jnp.stack([a, b]), first, second)
