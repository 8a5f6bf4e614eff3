"""The dtype in which sums accumulate, and canonical axes."""

import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from jaxnorm.typing import Axes, DTypeLike


def accumulation_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Returns the dtype in which sums over values of `dtype` are taken.

    float32 for every narrower float, and the dtype itself (float32, float64, complex64, complex128)
    otherwise: sums in bfloat16 stop growing after 256 equal terms.

    Args:
        dtype: the dtype of the values that are summed, floating or complex.

    Returns:
        A dtype of at least float32 precision.

    Examples:
        >>> import jax.numpy as jnp
        >>> accumulation_dtype(jnp.bfloat16), accumulation_dtype(jnp.complex64)
        (dtype('float32'), dtype('complex64'))
    """
    return jnp.promote_types(dtype, jnp.float32)


def real_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Returns the dtype of the real part of `dtype`.

    Args:
        dtype: a floating or complex dtype.

    Returns:
        `dtype` itself where it is real, the dtype of its components where it is complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> real_dtype(jnp.complex64), real_dtype(jnp.float32)
        (dtype('float32'), dtype('float32'))
    """
    return jnp.finfo(dtype).dtype


def canonical_axes(axes: Axes, ndim: int, name: str = "axes") -> tuple[int, ...]:
    """Returns `axes` as sorted, distinct, non-negative integers.

    Args:
        axes: one axis or several; negative ones count from the end.
        ndim: the rank of the array that the axes belong to.
        name: the argument's name, for the error.

    Returns:
        The axes in ascending order, each in `range(ndim)`.

    Raises:
        ValueError: an axis is out of range or named twice.

    Examples:
        >>> canonical_axes((-1, 1), ndim=9)
        (1, 8)
    """
    named = tuple(axes) if isinstance(axes, Iterable) else (axes,)
    canonical = []
    for axis in map(operator.index, named):
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"{name}={axes} names axis {axis}, but the array has {ndim} axes; "
                f"use axes from {-ndim} to {ndim - 1}"
            )
        canonical.append(axis % ndim)
    if len(set(canonical)) != len(canonical):
        raise ValueError(
            f"{name}={axes} names an axis of the rank-{ndim} array twice; name each once"
        )
    return tuple(sorted(canonical))


def require_inexact(x: jax.Array, name: str = "x") -> None:
    """Raises unless `x` is floating or complex.

    Args:
        x: the array that is checked.
        name: the argument's name, for the error.

    Returns:
        Nothing.

    Raises:
        TypeError: `x` has an integer or boolean dtype.

    Examples:
        >>> import jax.numpy as jnp
        >>> require_inexact(jnp.ones(3))
    """
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(
            f"{name} must be floating or complex, got {x.dtype} {list(x.shape)}; "
            f"convert it first, for example with {name}.astype(jnp.float32)"
        )
