"""Normalization and its derivative, once: every implementation computes this, to rounding.

With `xhat = (x - mean) rstd` and `rstd = 1 / sqrt(var + epsilon)` the output is
`y = xhat scale + bias`, and its tangent

    dy = scale (rstd dx - shift - xhat slope) + xhat dscale + dbias,
    shift = rstd dmean,    slope = rstd^2 / 2 d(var + epsilon).

An activation behind it multiplies `dy` by its slope at y, which is computed again from the same.
What is normalized may be a sum of two arrays, which `summed` takes before.

Forward mode is this formula. Reverse mode is its transpose, which JAX derives. Callers wrap the
tangent in `jax.checkpoint`: the backward pass then keeps its inputs, which are `x`, the scale, and
three numbers per statistic (mean, tail, rstd). `shift` and `slope` have no unit: nothing that is
squared or cubed can overflow, whatever the size of `x`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxnorm.numerics import accumulation_dtype
from jaxnorm.ops import _activations
from jaxnorm.stats.measuring import Measured, centered, measure, moments_tangent
from jaxnorm.stats.sampling import Sampling, settled
from jaxnorm.stats.sums import spread
from jaxnorm.stats.whole import measure_whole
from jaxnorm.typing import Array, Shape


class Sum(NamedTuple):
    """The dtypes of two arrays whose sum is normalized, and of the sum as it is returned."""

    x: jnp.dtype
    residual: jnp.dtype
    total: jnp.dtype

    @property
    def wide(self) -> jnp.dtype:
        """The dtype in which the sum is taken and normalized."""
        return jnp.promote_types(accumulation_dtype(self.x), accumulation_dtype(self.residual))


class Problem(NamedTuple):
    """A standardization, as far as it is known at trace time."""

    sampling: Sampling
    epsilon: float | None  # None where an operand holds it
    dtype: jnp.dtype  # of y
    implementation: str | None = None  # as asked for
    activation: str | None = None  # behind scale and bias
    sum: Sum | None = None  # of x and a residual, where that is normalized
    quantized: bool = False  # whether y is counted in steps

    @property
    def stats_shape(self) -> Shape:
        return self.sampling.stats_shape

    @property
    def center(self) -> bool:
        return self.sampling.center

    @property
    def bare(self) -> "Problem":
        """The problem without what stands before and behind the normalization."""
        return self._replace(activation=None, sum=None, quantized=False)


class Residuals(NamedTuple):
    """What a derivative needs."""

    x: Array  # [*shape]
    scale: Array | None  # of the rank of x, broadcasts to it
    mean: Array | None  # [*stats_shape]; None where nothing is centred
    tail: Array | None  # [*stats_shape]
    rstd: Array  # [*stats_shape]
    w: Array | None = None  # weights, of the rank of x
    var: Array | None = None  # [*stats_shape], where weights move
    count: Array | float = 1.0  # [] or [*stats_shape]
    bias: Array | None = None  # like scale, where an activation has a slope to be taken


class Linear(NamedTuple):
    """Tangents, or cotangents; None where there is none."""

    x: Any = None
    scale: Any = None
    bias: Any = None
    w: Any = None
    epsilon: Any = None


def summed(x: Array, residual: Array | None) -> Array:
    """Returns the sum in float32 or wider; `x` as it is where nothing is added.

    Args:
        x: [*shape].
        residual: [*shape], or None.

    Returns:
        [*shape].

    Examples:
        >>> summed(jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.bfloat16))
        Array([2., 2.], dtype=float32)
    """
    if residual is None:
        return x
    return x.astype(accumulation_dtype(x.dtype)) + residual.astype(
        accumulation_dtype(residual.dtype)
    )


def standardize(problem: Problem, x, scale, bias, w=None, epsilon=None):
    """Returns `(y, measured, rstd)`, y not quantized.

    Args:
        problem: what is standardized how.
        x: [*shape].
        scale: of the rank of `x`, or None.
        bias: of the rank of `x`, or None.
        w: weights of the rank of `x`, or None.
        epsilon: [] or [*stats_shape] where `problem` has none.
    """
    epsilon = problem.epsilon if epsilon is None else epsilon
    # Of what enters without weights the primitives say how it is partitioned.
    one = w is not None and problem.implementation != "xla"
    measured = (measure_whole if one else measure)(problem.sampling, x, w, epsilon)
    rstd = reciprocal_std(measured, epsilon, empty=w is not None or x.size == 0)
    location = (measured.mean, measured.tail) if problem.center else (None, None)
    deviation = centered(x, w, *location)
    y = affine(deviation, spread(rstd, x.shape), scale, bias)
    return _activations.activated(problem.activation, y).astype(problem.dtype), measured, rstd


def reciprocal_std(measured: Measured, epsilon, empty: bool = True) -> Array:
    """Returns `1 / sqrt(var + epsilon)`, and one where no sample stands behind the variance.

    Args:
        measured: of [*stats_shape].
        epsilon: real, broadcasts to the statistics.
        empty: whether a sample may be empty.

    Returns:
        [*stats_shape], of the dtype of the variance.

    Examples:
        >>> numbers = (jnp.zeros(2), jnp.zeros(2), jnp.array([3.0, 0.0]), jnp.ones(2))
        >>> reciprocal_std(Measured(*numbers, jnp.array([2.0, 0.0])), 1.0)
        Array([0.5, 1. ], dtype=float32)
    """
    inverse = 1 / measured.unit
    epsilon = jnp.asarray(epsilon, measured.var.dtype)
    rstd = lax.rsqrt(measured.var + (epsilon * inverse) * inverse) * inverse
    return jnp.where(measured.count > 0, rstd, 1) if empty else rstd


def affine(deviation: Array, rstd: Array | float, scale: Array | None, bias: Array | None) -> Array:
    """Returns `deviation * (rstd * scale) + bias`.

    Args:
        deviation: [*shape], `x` minus its mean.
        rstd: broadcasts to `deviation`.
        scale: broadcasts to `deviation`, or None for one.
        bias: broadcasts to `deviation`, or None for zero.

    Returns:
        [*shape], of the dtype of `deviation`.

    Examples:
        >>> affine(jnp.array([1.0, 2.0]), jnp.array(2.0), jnp.array(3.0), jnp.array(1.0))
        Array([ 7., 13.], dtype=float32)
    """
    gain = rstd if scale is None else rstd * scale.astype(_affine_dtype(scale, deviation))
    y = deviation * gain
    return y if bias is None else y + bias.astype(_affine_dtype(bias, deviation))


def tangent(problem: Problem, residuals: Residuals, linear: Linear):
    """Returns the tangents `(dy, dmean, rstd / 2 dvar, dcount)` of `standardize`.

    The last three are None where neither `x` nor the weights move.
    """
    x, scale, mean, tail, rstd, w, var, count, bias = residuals
    wide = accumulation_dtype(x.dtype)
    xhat = centered(x, w, mean, tail) * spread(rstd, x.shape)
    d_x = d_mean = half = d_count = shift = slope = None
    if linear.x is not None or linear.w is not None:
        # Widened once: the transpose then adds the parts of the gradient before it rounds them.
        d_x = None if linear.x is None else settled(linear.x, x, w).astype(wide)
        unitless = None if var is None else (var * rstd) * rstd
        d_mean, half, d_count = moments_tangent(
            problem.sampling, xhat, w, unitless, jnp.asarray(count), (d_x, linear.w), rstd
        )
        shift = rstd * d_mean if problem.center else None
        slope = rstd * half
    if linear.epsilon is not None:
        of_epsilon = rstd * rstd * linear.epsilon / 2
        slope = of_epsilon if slope is None else slope + of_epsilon
    if slope is not None and w is not None:
        slope = jnp.where(jnp.asarray(count) > 0, slope, 0)
    dy = _affine_tangent(xhat, rstd, scale, d_x, shift, slope, linear.scale, linear.bias)
    if problem.activation is not None:
        dy = dy * _activations.slope(problem.activation, affine(xhat, 1.0, scale, bias))
    return dy.astype(problem.dtype), d_mean, half, d_count


def normalize_tangent(x, mean, tail, rstd, scale, tangents, dtype):
    """Returns the tangent of `(x - mean - tail) rstd scale + bias`.

    `tangents` are those of x, mean, tail, `var + epsilon`, scale and bias; None stands for zero.
    """
    d_x, d_mean, d_tail, d_var, d_scale, d_bias = tangents
    wide = accumulation_dtype(x.dtype)
    xhat = centered(x, None, mean, tail) * spread(rstd, x.shape)
    moved = [v for v in (d_mean, d_tail) if v is not None]
    shift = rstd * sum(moved[1:], moved[0]) if moved else None
    slope = None if d_var is None else (rstd * d_var) * rstd / 2
    d_x = None if d_x is None else d_x.astype(wide)
    dy = _affine_tangent(xhat, rstd, scale, d_x, shift, slope, d_scale, d_bias)
    return dy.astype(dtype)


def _affine_tangent(xhat, rstd, scale, d_x, shift, slope, d_scale, d_bias):
    """Returns the formula at the top of this file; None stands for zero.

    What is constant along an axis is combined before it meets the whole array: the transpose then
    sums the cotangent, and the cotangent times xhat, once each. Where the scale varies within a
    statistic nothing is smaller than the array, and the scale comes last.
    """
    shape = xhat.shape
    shift, slope = (None if v is None else spread(v, shape) for v in (shift, slope))
    rstd = spread(rstd, shape)
    whole = scale is None or jnp.broadcast_shapes(rstd.shape, scale.shape) == shape
    scale = None if scale is None else scale.astype(_affine_dtype(scale, xhat))
    small = None if whole else scale

    def scaled(v):
        return v if small is None else small * v

    terms = [] if d_x is None else [scaled(rstd) * d_x]
    offsets = [] if shift is None else [-scaled(shift)]
    slopes = [] if slope is None else [-scaled(slope)]
    if whole and scale is not None:
        inner = [*terms, *offsets, *(xhat * s for s in slopes)]
        terms, offsets, slopes = [scale * sum(inner[1:], inner[0])] if inner else [], [], []
    if d_bias is not None:
        offsets.append(d_bias.astype(_affine_dtype(d_bias, xhat)))
    if d_scale is not None:
        slopes.append(d_scale.astype(_affine_dtype(d_scale, xhat)))
    if slopes:
        terms.append(xhat * sum(slopes[1:], slopes[0]))
    if offsets:
        terms.append(sum(offsets[1:], offsets[0]))
    dy = sum(terms[1:], terms[0]) if terms else jnp.zeros((), xhat.dtype)
    return jnp.broadcast_to(dy, shape)


def _affine_dtype(parameter: Array, deviation: Array) -> jnp.dtype:
    """Returns the dtype of the arithmetic: that of the statistics, complex if the parameter is."""
    wide = accumulation_dtype(parameter.dtype)
    return jnp.promote_types(wide, deviation.real.dtype)
