"""x -> y and its own moments: statistics and normalization in one step."""

import functools
import numbers

import jax
import jax.numpy as jnp

from jaxnorm import _internals
from jaxnorm.numerics import (
    accumulation_dtype,
    as_array,
    check_epsilon,
    real_dtype,
    require_inexact,
)
from jaxnorm.ops import _formulas, _primitives
from jaxnorm.ops._formulas import Linear, Problem, Residuals
from jaxnorm.ops._implementations import Implementation, require, wished
from jaxnorm.stats import Moments, Variance, reported, sample_size
from jaxnorm.stats.sampling import Sampling, check_sampling, sample_weights
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike, Shape


def standardize(
    x: ArrayLike,
    stats_shape: Shape,
    *,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    epsilon: ArrayLike,
    center: bool = True,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Moments]:
    """Returns `x` normalized by its own moments, and those moments.

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias`, the moments being those of
    `jaxnorm.stats.moments(x, stats_shape, ...)`. The mean is subtracted without ever being rounded
    to the grid of `x`, so output and gradient hold at any mean / std up to 1e6 in float32. They
    hold for every size of `x` up to 1e36, and down to the smallest normal numbers: squares that
    would overflow or vanish are summed in units of a power of two. The backward pass keeps `x` and
    three float32 numbers per statistic.

    Args:
        x: [*shape], floating or complex.
        stats_shape: one entry per axis: 1 reduces it, its size keeps it, a divisor groups it.
        scale: broadcasts to `x`, or None.
        bias: broadcasts to `x`, or None.
        epsilon: real, broadcasts to the statistics; added to the variance.
        center: whether the mean is subtracted; without it `var` is the mean square.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla" is plain JAX, "native" compiled kernels on CPU, "pallas" kernels for
            GPU and TPU (interpreted on CPU), None the faster one of those that were measured; the
            same to rounding, with the same derivatives.

    Returns:
        `y` [*shape] of `dtype`, and `Moments` of `stats_shape` in float32 or wider. Where a sample
        is empty its moments are zero and `x` is passed with a factor of one.

    Raises:
        ValueError: a shape does not fit, `axis_name` is not bound, or `implementation` is unknown
            or cannot serve.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> x = jnp.array([[1.0, 3.0], [1e6, 1e6]])
        >>> y, moments = standardize(x, (2, 1), bias=jnp.array([0.0, 5.0]), epsilon=3.0)
        >>> y, moments.var.ravel()
        (Array([[-0.5,  5.5],
               [ 0. ,  5. ]], dtype=float32), Array([1., 0.], dtype=float32))

    Notes:
        Entries outside the mask are normalized too; those that are not finite count as zero.
    """
    x = as_array(x)
    require_inexact(x)
    check_epsilon(epsilon)
    sampling = check_sampling(
        x.shape, Sampling(stats_shape, center, variance, axis_name, axis_index_groups)
    )
    scale = None if scale is None else broadcasting(scale, x.shape, "scale")
    bias = None if bias is None else broadcasting(bias, x.shape, "bias")
    w = sample_weights(x, mask, weights)
    number = float(epsilon) if isinstance(epsilon, numbers.Real) else None
    problem = Problem(sampling, number, jnp.dtype(dtype or x.dtype), wished(implementation))
    parameters = tuple(v for v in (scale, bias) if v is not None)
    reason = _no_primitive(problem, x, w, parameters)
    require(implementation, problem, x, parameters, reason)
    if reason is None:
        y, *location, var, _ = _primitives.standardize(problem, x, scale, bias)
        mean, tail = location or (jnp.zeros_like(var), jnp.zeros_like(var))
        count = jnp.asarray(sample_size(x.shape, sampling.stats_shape), var.dtype)
        return y, Moments(mean, var, count, tail)
    array = None
    if number is None:
        array = jnp.asarray(epsilon, real_dtype(accumulation_dtype(x.dtype)))
    return _internals.call(_standardize, problem, x, w, scale, bias, array)


def _no_primitive(problem: Problem, x: Array, w: Array | None, parameters: tuple) -> str | None:
    """Returns why the primitives, and so the kernels, do not take a problem, or None."""
    if w is not None:
        return "the kernels take no mask and no weights"
    if problem.sampling.axis_name is not None:
        return "the kernels take no axis_name"
    if problem.epsilon is None:
        return "the kernels take no array as epsilon"
    return _primitives.why_not(x, parameters)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _standardize(problem, x, w, scale, bias, epsilon):
    y, measured, _ = _formulas.standardize(problem, x, scale, bias, w, epsilon)
    return y, reported(measured)


@functools.partial(_standardize.defjvp, symbolic_zeros=True)
def _standardize_jvp(problem, primals, tangents):
    x, w, scale, bias, epsilon = primals
    y, measured, rstd = _formulas.standardize(problem, x, scale, bias, w, epsilon)
    moments = reported(measured)
    d_x, d_w, d_scale, d_bias, d_epsilon = _internals.moving(tangents)
    var = None if d_w is None else moments.var
    location = (moments.mean, moments.tail) if problem.center else (None, None)
    residuals = Residuals(x, scale, *location, rstd, w, var, moments.count)

    @jax.checkpoint
    def tangent(residuals, linear):
        return _formulas.tangent(problem, residuals, linear)

    d_y, d_mean, half, d_count = tangent(residuals, Linear(d_x, d_scale, d_bias, d_w, d_epsilon))
    d_moments = jax.tree.map(jnp.zeros_like, moments)
    if half is not None:
        d_mean = d_moments.mean + d_mean
        d_moments = d_moments._replace(mean=d_mean, var=2 * half / rstd, count=d_count)
    return (y, moments), (d_y, d_moments)
