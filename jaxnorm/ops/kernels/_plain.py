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
from jaxnorm.stats._shifted import centered, moments_tangent, shifted_moments
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
    offset: Array | None  # [*stats_shape], mean minus pivot; None where nothing is centred
    var: Array  # [*stats_shape]


class Linear(NamedTuple):
    """Tangents of x, scale and bias, or cotangents; None where there is none."""

    x: Array | None
    scale: Array | None
    bias: Array | None


def standardize(standard: Standard, x: Array, scale: Array | None, bias: Array | None):
    """Returns `y`, and the statistics `(mean, offset, var)`, or `(var,)` where not centred."""
    taken = shifted_moments(Sampling(standard.stats_shape, standard.center), x, None)
    offset = taken.offset if standard.center else None
    statistics = (taken.var,) if offset is None else (taken.mean, offset, taken.var)
    rstd = _tangent.reciprocal_std(taken.var, jnp.asarray(standard.epsilon, taken.var.dtype))
    deviation = deviate(standard, x, offset)
    y = _tangent.affine(deviation, _shapes.spread(rstd, x.shape), scale, bias)
    return y.astype(standard.dtype), *statistics


def deviate(standard: Standard, x: Array, offset: Array | None) -> Array:
    """Returns `x - mean`, which is `x` where nothing is centred."""
    if offset is None:
        return x.astype(jnp.float32)
    return centered(Sampling(standard.stats_shape), x, None, offset)


def tangent(standard: Standard, residuals: Residuals, linear: Linear):
    """Returns the tangents of `y` and, given that of `x`, of `(mean, var)` or `(var,)`."""
    x, scale, offset, var = residuals
    sampling = Sampling(standard.stats_shape, standard.center)
    deviation = deviate(standard, x, offset)
    rstd = _tangent.reciprocal_std(var, jnp.asarray(standard.epsilon, var.dtype))
    d_x = d_mean = d_var = None
    statistics = ()
    if linear.x is not None:
        # Widened once: the transpose then adds its parts before it rounds them.
        d_x = linear.x.astype(deviation.dtype)
        count = jnp.asarray(_shapes.sample_size(x.shape, standard.stats_shape), var.dtype)
        moved = (d_x, None)
        d_mean, d_var, _ = moments_tangent(sampling, deviation, None, var, count, moved)
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
