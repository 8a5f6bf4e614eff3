"""x and given moments -> y."""

import functools

import jax
import jax.numpy as jnp

from jaxnorm import _internals
from jaxnorm.numerics import accumulation_dtype, as_array, check_epsilon, require_inexact
from jaxnorm.ops import _formulas, _primitives
from jaxnorm.ops._formulas import Problem, Residuals
from jaxnorm.ops._implementations import wished
from jaxnorm.ops._operands import parameter
from jaxnorm.stats import Moments
from jaxnorm.stats.measuring import centered
from jaxnorm.stats.sampling import Sampling
from jaxnorm.stats.shapes import check_stats_shape
from jaxnorm.stats.sums import spread
from jaxnorm.typing import Array, ArrayLike, DTypeLike


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
        [*shape], of `dtype`. Where a sample is empty (its count and variance zero) `x` is passed
        with a factor of one.

    Raises:
        ValueError: the statistics do not divide the shape of `x`, or a parameter does not
            broadcast.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> x = jnp.array([[1.0, 3.0]])
        >>> normalize(x, Moments(jnp.array([[2.0]]), jnp.array([[4.0]]), 2), epsilon=0.0)
        Array([[-0.5,  0.5]], dtype=float32)

    Notes:
        `normalize(x, moments(x, s))` is `standardize(x, s)`: the moments hold their mean with twice
        its digits. Where their variance is not representable (above 3e38 or below 1e-38 in float32)
        only `standardize` is right, in which the variance never leaves its units.
    """
    x = as_array(x)
    require_inexact(x)
    check_epsilon(epsilon)
    mean, var = jnp.asarray(moments.mean), jnp.asarray(moments.var)
    stats_shape = jnp.broadcast_shapes(mean.shape, var.shape)
    if len(stats_shape) != x.ndim:
        raise ValueError(
            f"moments {list(stats_shape)} must have one entry per axis of x {list(x.shape)}; keep "
            "reduced axes with size 1"
        )
    check_stats_shape(x.shape, stats_shape)
    scale, bias = parameter(scale, x, "scale"), parameter(bias, x, "bias")
    shifted_var = var + jnp.asarray(epsilon, var.dtype)
    empty = (jnp.asarray(moments.count) <= 0) & (var == 0)
    shifted_var = jnp.where(empty, jnp.ones((), var.dtype), shifted_var)
    given = (x, mean, moments.tail, shifted_var, scale, bias)
    return _internals.call(_normalize, jnp.dtype(dtype or x.dtype), *given)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _normalize(dtype, x, mean, tail, var, scale, bias):
    rstd = spread(jax.lax.rsqrt(var), x.shape)
    return _formulas.affine(centered(x, None, mean, tail), rstd, scale, bias).astype(dtype)


@functools.partial(_normalize.defjvp, symbolic_zeros=True)
def _normalize_jvp(dtype, primals, tangents):
    x, mean, tail, var, scale, _ = primals
    d_x, d_mean, d_tail, d_var, *moved = _internals.moving(tangents)
    parts = []
    problem = Problem(Sampling(var.shape), 0.0, jnp.dtype(dtype), wished(None))
    if moved != [None, None] and _has_primitive(problem, primals):
        # Apart, because the transpose is two sums over the array that the kernels know.
        residuals = Residuals(x, scale, mean, tail, jax.lax.rsqrt(var))
        parts = [_primitives.affine_tangent(problem, residuals, *moved)]
        moved = [None, None]

    @jax.checkpoint
    def tangent(x, mean, tail, var, scale, moving):
        rstd = jax.lax.rsqrt(var)
        return _formulas.normalize_tangent(x, mean, tail, rstd, scale, moving, dtype)

    moving = (d_x, d_mean, d_tail, d_var, *moved)
    if not parts or any(v is not None for v in moving):
        parts = [tangent(x, mean, tail, var, scale, moving), *parts]
    return _normalize(dtype, *primals), sum(parts[1:], parts[0])


def _has_primitive(problem: Problem, primals: tuple) -> bool:
    """Returns whether scale and bias move as the primitives know: the usual running statistics."""
    x, mean, tail, var, scale, bias = primals
    wide = accumulation_dtype(x.dtype)
    statistics = [v for v in (mean, var, tail) if v is not None]
    parameters = [v for v in (scale, bias) if v is not None]
    return (
        all(v.shape == mean.shape and v.dtype == wide for v in statistics)
        and len({v.shape for v in parameters}) == 1
        and _primitives.why_not(problem, (x,), tuple(parameters)) is None
    )
