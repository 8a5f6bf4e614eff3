"""Entries counted in steps: an int8, or a float8, and a step for each sample or for all.

Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference, arXiv:1712.05877, 2017. Micikevicius et al.: FP8 Formats for Deep Learning,
arXiv:2209.05433, 2022.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm.stats.sums import block_max, spread
from jaxnorm.typing import Array, DTypeLike, Shape

NO_DERIVATIVE = (
    "the quantized output has no derivative; give its inputs to jax.lax.stop_gradient, or "
    "differentiate the norm that does not quantize"
)


def check_quantized(dtype: DTypeLike) -> jnp.dtype:
    """Returns the dtype in which entries are counted.

    Args:
        dtype: int8 or float8_e4m3fn.

    Returns:
        The same as a dtype.

    Raises:
        TypeError: it is neither.

    Examples:
        >>> check_quantized("int8")
        dtype('int8')
    """
    if jnp.dtype(dtype) not in (jnp.int8, jnp.float8_e4m3fn):
        raise TypeError(
            f"dtype={jnp.dtype(dtype)} must be int8 or float8_e4m3fn, in which entries are counted "
            "in steps; for any other dtype use the norm that does not quantize"
        )
    return jnp.dtype(dtype)


def largest_count(dtype: DTypeLike) -> float:
    """Returns the largest number of steps.

    Args:
        dtype: int8 or float8_e4m3fn.

    Returns:
        127, so that both signs have as many numbers, or 448.

    Examples:
        >>> largest_count(jnp.int8), largest_count(jnp.float8_e4m3fn)
        (127.0, 448.0)
    """
    return 127.0 if jnp.dtype(dtype) == jnp.int8 else float(jnp.finfo(dtype).max)


def step_of(largest: Array, dtype: DTypeLike) -> Array:
    """Returns the step in which the largest entry is the largest count.

    Args:
        largest: [*stats_shape], the size of the largest entry of each sample.
        dtype: int8 or float8_e4m3fn.

    Returns:
        [*stats_shape], a normal number also where all entries are zero.

    Examples:
        >>> step_of(jnp.array([254.0]), jnp.int8)
        Array([2.], dtype=float32)
    """
    # Where nothing is larger than the smallest normal number its reciprocal is still finite.
    tiny = float(np.finfo(largest.dtype).tiny)
    return jnp.maximum(largest * (1 / largest_count(dtype)), tiny)


def counted(y: Array, step: Array, dtype: DTypeLike) -> Array:
    """Returns the number of steps nearest to each entry, of those that the dtype has.

    Args:
        y: [*shape], float32 or wider.
        step: positive, broadcasts to `y`.
        dtype: int8 or float8_e4m3fn.

    Returns:
        [*shape], of `dtype`; beyond the largest count it is the largest count.

    Examples:
        >>> counted(jnp.array([1.2, -900.0]), jnp.array(2.0), jnp.int8)
        Array([   1, -127], dtype=int8)
    """
    most = largest_count(dtype)
    counts = jnp.clip(y * (1 / step), -most, most)
    if jnp.dtype(dtype) == jnp.int8:
        counts = jnp.floor(counts + 0.5).astype(jnp.int32)  # Triton has no rounding
    return counts.astype(dtype)


def quantized(y: Array, stats_shape: Shape, step: Array | None, dtype: DTypeLike) -> list[Array]:
    """Returns the counts, and the step of each sample where none is given.

    Args:
        y: [*shape], float32 or wider.
        stats_shape: one entry per axis; each sample has a step.
        step: [*stats_shape], or None for that in which the largest entry is the largest count.
        dtype: int8 or float8_e4m3fn.

    Returns:
        [*shape] of `dtype`; and [*stats_shape], float32 or wider, where `step` is None.

    Examples:
        >>> values, step = quantized(jnp.array([[0.5, -254.0]]), (1, 1), None, jnp.int8)
        >>> values, step.ravel()
        (Array([[   0, -127]], dtype=int8), Array([2.], dtype=float32))
    """
    own = step is None
    if step is None:
        step = step_of(block_max(jnp.abs(y), stats_shape), dtype)
    counts = counted(y, spread(step, y.shape), dtype)
    return [counts, step] if own else [counts]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def quantized_alone(stats_shape: Shape, dtype: DTypeLike, y: Array, step: Array | None):
    """Returns what `quantized` does, and refuses to be differentiated.

    Args:
        stats_shape: one entry per axis; each sample has a step.
        dtype: int8 or float8_e4m3fn.
        y: [*shape], float32 or wider.
        step: [*stats_shape], or None.

    Returns:
        The same as `quantized`.

    Raises:
        TypeError: `y` or `step` has a tangent.

    Examples:
        >>> quantized_alone((1,), jnp.int8, jnp.array([1.0, -2.0]), jnp.ones(1))
        [Array([ 1, -2], dtype=int8)]
    """
    return quantized(y, stats_shape, step, dtype)


@quantized_alone.defjvp
def _quantized_jvp(stats_shape, dtype, primals, tangents):
    raise TypeError(NO_DERIVATIVE)
