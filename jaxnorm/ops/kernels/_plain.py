"""What the native kernels compute, in plain JAX, and the linear map that is their derivative.

This is the meaning of the primitives: every platform without kernels, every layout that they do not
know, forward mode and higher derivatives run through here.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.ops import _tangent
from jaxnorm.stats import _shapes
from jaxnorm.stats._sampling import Sampling
from jaxnorm.stats._shifted import moments_tangent, shifted_moments
from jaxnorm.typing import Array, Shape


class Standard(NamedTuple):
    """What is known of a standardization at trace time."""

    stats_shape: Shape
    center: bool
    epsilon: float
    dtype: jnp.dtype  # of y
    native: bool = True  # whether native kernels may compute it


class Residuals(NamedTuple):
    """What a derivative needs: x, scale, and two numbers per statistic."""

    x: Array  # [*shape]
    scale: Array | None  # of the rank of x, broadcasts to it
    mean: Array | None  # [*stats_shape]; None where nothing is centred
    tail: Array | None  # [*stats_shape], what rounding the mean left over; None as the mean is
    rstd: Array  # [*stats_shape]


class Linear(NamedTuple):
    """Tangents of x, scale and bias, or cotangents; None where there is none."""

    x: Array | None
    scale: Array | None
    bias: Array | None


def standardize(standard: Standard, x: Array, scale: Array | None, bias: Array | None):
    """Returns `y`, and `(mean, tail, var, rstd)`, or `(var, rstd)` where not centred."""
    taken = shifted_moments(Sampling(standard.stats_shape, standard.center), x, None)
    rstd = _tangent.reciprocal_std(taken.var, jnp.asarray(standard.epsilon, taken.var.dtype))
    mean = tail = None
    if standard.center:
        mean, tail = two_sum(taken.pivot, taken.offset)
    deviation = deviate(x, mean, tail)
    y = _tangent.affine(deviation, _shapes.spread(rstd, x.shape), scale, bias)
    statistics = (taken.var, rstd) if mean is None else (mean, tail, taken.var, rstd)
    return y.astype(standard.dtype), *statistics


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Returns `a + b` and what rounding it left over."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def deviate(x: Array, mean: Array | None, tail: Array | None) -> Array:
    """Returns `x - mean`, which is `x` where nothing is centred."""
    wide = x.astype(jnp.float32)
    if mean is None or tail is None:
        return wide
    return (wide - _shapes.spread(mean, x.shape)) - _shapes.spread(tail, x.shape)


def tangent(standard: Standard, residuals: Residuals, linear: Linear):
    """Returns the tangents of `y` and, given that of `x`, of `(mean, var)` or `(var,)`."""
    x, scale, mean, tail, rstd = residuals
    sampling = Sampling(standard.stats_shape, standard.center)
    deviation = deviate(x, mean, tail)
    d_x = d_mean = d_var = None
    statistics = ()
    if linear.x is not None:
        # Widened once: the transpose then adds its parts before it rounds them.
        d_x = linear.x.astype(deviation.dtype)
        count = jnp.asarray(_shapes.sample_size(x.shape, standard.stats_shape), rstd.dtype)
        moved = (d_x, None)
        d_mean, d_var, _ = moments_tangent(sampling, deviation, None, rstd, count, moved)
        statistics = (d_mean, d_var) if standard.center else (d_var,)
        d_mean = _shapes.spread(d_mean, x.shape) if standard.center else None
        d_var = _shapes.spread(d_var, x.shape)
    dy = _tangent.normalize_tangent(
        deviation,
        _shapes.spread(rstd, x.shape),
        scale,
        d_x,
        d_mean,
        d_var,
        linear.scale,
        linear.bias,
    )
    return dy.astype(standard.dtype), *statistics


def cotangent(standard: Standard, residuals: Residuals, shapes: Linear, cotangents: tuple):
    """Returns the transpose of `tangent`: the cotangents of what `shapes` has, in its order.

    Args:
        standard: what is standardized how.
        residuals: as for `tangent`.
        shapes: a `ShapeDtypeStruct` for each of x, scale and bias that is wanted, else None.
        cotangents: one for each output of `tangent`.
    """
    names = [name for name, shape in zip(Linear._fields, shapes, strict=True) if shape is not None]
    nothing = Linear(None, None, None)

    def of(*wanted):
        moved = nothing._replace(**dict(zip(names, wanted, strict=True)))
        return tangent(standard, residuals, moved)

    return jax.linear_transpose(of, *(s for s in shapes if s is not None))(cotangents)
