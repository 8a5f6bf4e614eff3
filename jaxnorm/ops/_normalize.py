"""x and given moments -> y."""

import jax
import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype, require_inexact
from jaxnorm.ops import _tangent, kernels
from jaxnorm.ops._implementation import choose
from jaxnorm.stats import Moments, _shapes
from jaxnorm.stats._sampling import Sampling
from jaxnorm.stats._shifted import present
from jaxnorm.typing import Array, ArrayLike, DTypeLike, Shape


def normalize(
    x: ArrayLike,
    moments: Moments,
    *,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    epsilon: ArrayLike,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `(x - mean) / sqrt(var + epsilon) * scale + bias` with given moments.

    Arithmetic is in float32 or wider. The backward pass keeps `x`, the moments and the scale only.

    Args:
        x: [*shape], floating or complex.
        moments: of [*stats_shape]: each entry 1, the axis's size, or a divisor of it (groups).
        scale: broadcasts to `x`, or None.
        bias: broadcasts to `x`, or None.
        epsilon: real, broadcasts to the statistics; added to the variance, not negative.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        ValueError: the statistics do not divide the shape of `x`, or a parameter does not
            broadcast.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> x = jnp.array([[1.0, 3.0]])
        >>> normalize(x, Moments(jnp.array([[2.0]]), jnp.array([[4.0]]), 2), epsilon=0.0)
        Array([[-0.5,  0.5]], dtype=float32)

    Notes:
        Where mean / std exceeds about 1e5 the mean itself is rounded too coarsely for float32;
        `standardize` takes the statistics and normalizes in one step and keeps those digits.
    """
    x = jnp.asarray(x)
    require_inexact(x)
    mean, var = jnp.asarray(moments.mean), jnp.asarray(moments.var)
    stats_shape = jnp.broadcast_shapes(mean.shape, var.shape)
    if len(stats_shape) != x.ndim:
        raise ValueError(
            f"moments {list(stats_shape)} must have one entry per axis of x {list(x.shape)}; keep "
            "reduced axes with size 1"
        )
    _shapes.check_stats_shape(x.shape, stats_shape)
    scale, bias = (broadcasting(v, x.shape, n) for v, n in ((scale, "scale"), (bias, "bias")))
    shifted_var = var + jnp.asarray(epsilon, var.dtype)
    return _normalize(jnp.dtype(dtype or x.dtype), x, mean, shifted_var, scale, bias)


def broadcasting(parameter: ArrayLike | None, shape: Shape, name: str) -> Array | None:
    """Returns `parameter` as an array of the rank of `shape` that broadcasts to it.

    Args:
        parameter: scale or bias, or None.
        shape: the shape of `x`.
        name: the argument's name, for the error.

    Returns:
        The array with leading axes of size 1 added, or None.

    Raises:
        ValueError: it does not broadcast.

    Examples:
        >>> broadcasting(jnp.ones(3), (2, 3), "scale").shape
        (1, 3)
    """
    if parameter is None:
        return None
    parameter = jnp.asarray(parameter)
    expanded = (1,) * (len(shape) - parameter.ndim) + parameter.shape
    if len(expanded) != len(shape) or any(
        m not in (1, n) for m, n in zip(expanded, shape, strict=True)
    ):
        raise ValueError(
            f"{name} {list(parameter.shape)} does not broadcast to x {list(shape)}; give each axis "
            "size 1 or the size that x has there"
        )
    return parameter.reshape(expanded)


def _forward(dtype, x, mean, var, scale, bias):
    deviation = x.astype(accumulation_dtype(x.dtype)) - _shapes.spread(mean, x.shape)
    rstd = _shapes.spread(_tangent.reciprocal_std(var, jnp.zeros((), var.dtype)), x.shape)
    return _tangent.affine(deviation, rstd, scale, bias).astype(dtype)


_normalize = jax.custom_jvp(_forward, nondiff_argnums=(0,))


def _normalize_jvp(dtype, primals, tangents):
    x, mean, var, scale, bias = primals
    moved, parts = present(tangents), []
    if moved[3:] != (None, None) and _simple(primals, dtype):
        # Apart, because the transpose is two sums over the array that the kernels know.
        native = choose(None, x, Sampling(var.shape), False, scale, bias, 0.0, dtype) == "native"
        parts = [
            kernels.affine_tangent(x, mean, var, scale, *moved[3:], dtype=dtype, native=native)
        ]
        moved = (*moved[:3], None, None)

    @jax.checkpoint
    def tangent(x, mean, var, scale, d_x, d_mean, d_var, d_scale, d_bias):
        mean, var = _shapes.spread(mean, x.shape), _shapes.spread(var, x.shape)
        d_mean, d_var = (_tangent.spread_or_none(v, x.shape) for v in (d_mean, d_var))
        wide = accumulation_dtype(x.dtype)
        d_x = None if d_x is None else d_x.astype(wide)
        rstd = _tangent.reciprocal_std(var, jnp.zeros((), var.dtype))
        return _tangent.normalize_tangent(
            x.astype(wide) - mean, rstd, scale, d_x, d_mean, d_var, d_scale, d_bias
        )

    if not parts or any(v is not None for v in moved):
        parts = [tangent(x, mean, var, scale, *moved), *parts]
    return _normalize(dtype, *primals), sum(parts[1:], parts[0]).astype(dtype)


def _simple(primals: tuple, dtype: jnp.dtype) -> bool:
    """Returns whether the kernels take `primals`: the usual case of float32 running statistics."""
    x, mean, var, scale, bias = primals
    return (
        mean.shape == var.shape
        and mean.dtype == var.dtype == jnp.float32
        and (scale is None or bias is None or scale.shape == bias.shape)
        and kernels.takes(x, scale, bias, epsilon=0.0, dtype=dtype)
    )


_normalize.defjvp(_normalize_jvp, symbolic_zeros=True)
