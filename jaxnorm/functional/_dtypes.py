"""The dtypes of a module's output, of its input and of its state."""

from typing import Any

import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype, real_dtype
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def result_dtype(*arrays: ArrayLike | None, dtype: DTypeLike | None = None) -> jnp.dtype:
    """Returns the dtype of a module's output: what the user asked for, or Flax's promotion.

    Args:
        *arrays: input and parameters; None where there is no such parameter.
        dtype: what the user asked for, or None.

    Returns:
        `dtype`, or the dtype that all arrays promote to, at least a float32 for integers: a
        bfloat16 input with float32 parameters gives float32.

    Raises:
        TypeError: `dtype` is neither floating nor complex.

    Examples:
        >>> result_dtype(jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.float32))
        dtype('float32')
    """
    if dtype is None:
        promoted = jnp.result_type(*(array for array in arrays if array is not None))
        inexact = jnp.issubdtype(promoted, jnp.inexact)
        return jnp.dtype(promoted if inexact else jnp.promote_types(promoted, jnp.float32))
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(
            f"dtype={jnp.dtype(dtype)} must be floating or complex, for example jnp.float32"
        )
    return jnp.dtype(dtype)


def normalizable(x: Array, dtype: DTypeLike) -> Array:
    """Returns `x` in a dtype that its statistics can be taken in, never a narrower one.

    Args:
        x: [*shape], of any real or complex dtype.
        dtype: how precise the output is.

    Returns:
        [*shape]: `x` itself if it is floating or complex, float32 or wider if it holds integers,
        and of the precision of `dtype` where that exceeds the precision of sums over `x`.

    Examples:
        >>> normalizable(jnp.ones(2, jnp.bfloat16), jnp.float32).dtype
        dtype(bfloat16)
        >>> normalizable(jnp.ones(2, jnp.float32), jnp.complex64).dtype
        dtype('complex64')
    """
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    sums = accumulation_dtype(x.dtype)
    if jnp.promote_types(sums, dtype) != sums:
        x = x.astype(jnp.promote_types(x.dtype, dtype))
    return x


def mean_dtype(like: DTypeLike | None, stats_dtype: DTypeLike) -> jnp.dtype:
    """Returns the dtype in which the running mean is kept.

    Args:
        like: of the array that is normalized, None where it is not known.
        stats_dtype: the dtype of the running variance, real.

    Returns:
        `stats_dtype`, or the complex dtype of its precision where `like` is complex.

    Examples:
        >>> mean_dtype(jnp.complex64, jnp.float32), mean_dtype(jnp.float64, jnp.float32)
        (dtype('complex64'), dtype('float32'))
    """
    if like is not None and jnp.issubdtype(like, jnp.complexfloating):
        return jnp.promote_types(stats_dtype, jnp.complex64)
    return jnp.dtype(stats_dtype)


def stats_dtype(layer: Any) -> jnp.dtype:
    """Returns the dtype in which a module keeps its running variance.

    Args:
        layer: has the field `param_dtype`; one with `force_float32_reductions=False` asks for
            running statistics of that dtype, however narrow it is.

    Returns:
        The real dtype of `param_dtype`, at least float32 unless a narrower one is asked for.

    Examples:
        >>> from types import SimpleNamespace
        >>> stats_dtype(SimpleNamespace(param_dtype=jnp.bfloat16))
        dtype('float32')
    """
    kept = real_dtype(layer.param_dtype)
    wide = getattr(layer, "force_float32_reductions", True)
    return accumulation_dtype(kept) if wide else kept
