"""x -> y and its own moments: statistics and normalization in one step."""

import functools
import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm import _explicit, _internals
from jaxnorm.numerics import (
    accumulation_dtype,
    as_array,
    check_epsilon,
    real_dtype,
    require_inexact,
)
from jaxnorm.ops import _formulas, _primitives
from jaxnorm.ops._activations import Activation, check_activation
from jaxnorm.ops._formulas import Linear, Problem, Residuals, Sum, summed
from jaxnorm.ops._implementations import Implementation, require, wished
from jaxnorm.ops._operands import parameter
from jaxnorm.ops._quantization import check_quantized, quantized_alone
from jaxnorm.stats import Moments, Variance, reported, sample_size
from jaxnorm.stats.sampling import Sampling, check_sampling, sample_weights
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike, Shape


class Fused(NamedTuple):
    """What `fused_standardize` returns.

    Examples:
        >>> fused_standardize(jnp.array([1.0, 3.0]), (1,), epsilon=0.0).y
        Array([-1.,  1.], dtype=float32)
    """

    y: Array  # [*shape], normalized
    moments: Moments  # of [*stats_shape]
    total: Array | None = None  # [*shape], x + residual where there is a residual
    step: Array | None = None  # [*stats_shape], what y counts where it is quantized


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
    activation: Activation | None = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Moments]:
    """Returns `x` normalized by its own moments, and those moments.

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias`, the moments being those of
    `jaxnorm.stats.moments(x, stats_shape, ...)`. The mean is subtracted without ever being rounded
    to the grid of `x`, so output and gradient hold at any mean / std up to 1e6 in float32. They
    hold for every size of `x` up to 1e36, and down to the smallest normal numbers: squares that
    would overflow or vanish are summed in units of a power of two. The backward pass keeps `x` and
    three float32 numbers per statistic, with an activation also the bias.

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
        activation: "relu", "silu" or "gelu", applied after scale and bias; None for none.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla" is plain JAX, "native" compiled kernels on CPU, "pallas" kernels for
            GPU and TPU (interpreted on CPU), None the faster one of those that were measured; the
            same to rounding, with the same derivatives.

    Returns:
        `y` [*shape] of `dtype`, and `Moments` of `stats_shape` in float32 or wider. Where a sample
        is empty its moments are zero and `x` is passed with a factor of one.

    Raises:
        ValueError: a shape does not fit, `axis_name` is not bound, or `activation` or
            `implementation` is unknown, or the latter cannot serve.
        TypeError: `x` is not floating or complex, or complex beside an activation.

    Examples:
        >>> x = jnp.array([[1.0, 3.0], [1e6, 1e6]])
        >>> y, moments = standardize(x, (2, 1), bias=jnp.array([0.0, 5.0]), epsilon=3.0)
        >>> y, moments.var.ravel()
        (Array([[-0.5,  5.5],
               [ 0. ,  5. ]], dtype=float32), Array([1., 0.], dtype=float32))

    Notes:
        Entries outside the mask are normalized too; those that are not finite count as zero.
    """
    y, moments, *_ = fused_standardize(
        x,
        stats_shape,
        scale=scale,
        bias=bias,
        epsilon=epsilon,
        center=center,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        activation=activation,
        dtype=dtype,
        implementation=implementation,
    )
    return y, moments


def fused_standardize(
    x: ArrayLike,
    stats_shape: Shape,
    *,
    residual: ArrayLike | None = None,
    residual_dtype: DTypeLike | None = None,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    epsilon: ArrayLike,
    center: bool = True,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    activation: Activation | None = None,
    quantize: DTypeLike | None = None,
    step: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Fused:
    """Returns `standardize` of `x + residual`, and the sum; its output may be counted in steps.

    The sum is taken in float32 or wider and normalized before it is rounded. Kernels take it,
    the activation and the quantization into their own passes over the array.

    Where `quantize` is a dtype, `y` holds the number of steps nearest to each entry, and
    `y * step` is off by half a step of that dtype at most, beyond the rounding of float32. The
    quantized output has no derivative. The backward pass of the others keeps the sum where it
    was returned as it was normalized, else `x` and `residual`, beside what `standardize` keeps.

    Args:
        x: [*shape], floating or complex.
        stats_shape: one entry per axis: 1 reduces it, its size keeps it, a divisor groups it.
        residual: [*shape], likewise, added to `x`; or None.
        residual_dtype: the dtype of the sum; what `x` and `residual` promote to if None.
        scale: broadcasts to `x`, or None.
        bias: broadcasts to `x`, or None.
        epsilon: real, broadcasts to the statistics; added to the variance.
        center: whether the mean is subtracted; without it `var` is the mean square.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        activation: "relu", "silu" or "gelu", applied after scale and bias; None for none.
        quantize: int8 or float8_e4m3fn, whose counts of a step `y` is; None for `y` itself.
        step: positive, broadcasts to the statistics; None for one of each sample, in which its
            largest entry is the largest count, 127 or 448. Entries beyond that become that.
        dtype: the output's dtype where it is not quantized; that of `x` if None.
        implementation: as `standardize` takes it.

    Returns:
        `Fused`: y [*shape], `Moments` of `stats_shape`, the sum [*shape] and the step
        [*stats_shape]; None for a sum or a step where there is none.

    Raises:
        ValueError: as `standardize` does, or the shapes of `x` and `residual` differ, or `dtype`
            or `step` do not go with `quantize`.
        TypeError: as `standardize` does, or `quantize` is another dtype, or a quantized output is
            differentiated.

    Examples:
        >>> x = jnp.array([[1.0, 3.0]])
        >>> fused = fused_standardize(x, (1, 1), residual=x, epsilon=0.0, quantize=jnp.int8)
        >>> fused.y, fused.total
        (Array([[-127,  127]], dtype=int8), Array([[2., 6.]], dtype=float32))
    """
    x = as_array(x)
    require_inexact(x)
    check_epsilon(epsilon)
    sampling = check_sampling(
        x.shape, Sampling(stats_shape, center, variance, axis_name, axis_index_groups)
    )
    scale, bias = parameter(scale, x, "scale"), parameter(bias, x, "bias")
    w = sample_weights(x, mask, weights)
    residual, added = _added(x, residual, residual_dtype)
    given_step = _step(step, sampling.stats_shape, quantize, dtype)
    parameters = tuple(v for v in (scale, bias) if v is not None)
    check_activation(activation, x, residual, *parameters)
    if quantize is not None and any(map(jnp.iscomplexobj, (x, residual, *parameters))):
        raise TypeError(
            "quantize takes real numbers, but x, the residual, scale or bias is complex"
        )
    problem = Problem(
        sampling,
        float(epsilon) if isinstance(epsilon, numbers.Real) else None,
        jnp.dtype(dtype or x.dtype) if quantize is None else check_quantized(quantize),
        wished(implementation),
        activation,
        added,
        quantize is not None,
    )
    reason = _no_primitive(problem, x, residual, w, parameters)
    require(implementation, problem, x, parameters, reason)
    if reason is not None:
        return _plainly(problem, x, residual, w, scale, bias, epsilon, given_step)
    y, *rest = _primitives.standardize(problem, x, scale, bias, residual, given_step)
    total = None if added is None else rest.pop(0)
    own_step = rest.pop(0) if problem.quantized and given_step is None else given_step
    *location, var, _ = rest
    mean, tail = location or (jnp.zeros_like(var), jnp.zeros_like(var))
    count = jnp.asarray(sample_size(x.shape, sampling.stats_shape), var.dtype)
    return Fused(y, Moments(mean, var, count, tail), total, own_step)


def _added(x: Array, residual, residual_dtype) -> tuple[Array | None, Sum | None]:
    """Returns what is added to x, and the dtypes of the sum."""
    if residual is None:
        if residual_dtype is not None:
            raise ValueError(
                f"residual_dtype={residual_dtype} is the dtype of x + residual, and there is no "
                "residual; give one, or leave it out"
            )
        return None, None
    residual = as_array(residual)
    require_inexact(residual, "residual")
    if x.shape != residual.shape:
        raise ValueError(
            f"residual {list(residual.shape)} must have the shape of x {list(x.shape)}, to which "
            "it is added"
        )
    total = jnp.dtype(residual_dtype or jnp.promote_types(x.dtype, residual.dtype))
    return _explicit.beside(x, residual), Sum(x.dtype, residual.dtype, total)


def _step(step, stats_shape: Shape, quantize, dtype) -> Array | None:
    """Returns the step of each sample, None where none is given."""
    if quantize is not None and dtype is not None:
        raise ValueError(f"quantize={quantize} is the output's dtype; leave out dtype={dtype}")
    if step is None:
        return None
    if quantize is None:
        raise ValueError("step is what a quantized output counts; give quantize=jnp.int8 with it")
    step = broadcasting(step, stats_shape, "step")
    return jnp.broadcast_to(step.astype(accumulation_dtype(step.dtype)), stats_shape)


def _no_primitive(problem: Problem, x, residual, w, parameters: tuple) -> str | None:
    """Returns why the primitives, and so the kernels, do not take a problem, or None."""
    if w is not None:
        return "the kernels take no mask and no weights"
    if problem.sampling.axis_name is not None:
        return "the kernels take no axis_name"
    if problem.epsilon is None:
        return "the kernels take no array as epsilon"
    inputs = (x,) if residual is None else (x, residual)
    return _primitives.why_not(problem, inputs, parameters)


def _plainly(problem: Problem, x, residual, w, scale, bias, epsilon, step) -> Fused:
    """Returns the result by the formulas, around which the sum and the quantization are."""
    total = summed(x, residual)
    wide = real_dtype(accumulation_dtype(total.dtype))
    array = jnp.asarray(epsilon, wide) if problem.epsilon is None else None
    inner = problem._replace(sum=None, quantized=False)
    if problem.quantized:
        inner = inner._replace(dtype=wide)
    y, moments = _internals.call(_standardize, inner, total, w, scale, bias, array)
    if problem.quantized:
        y, *own = quantized_alone(problem.stats_shape, problem.dtype, y, step)
        step = own[0] if own else step
    return Fused(y, moments, None if problem.sum is None else total.astype(problem.sum.total), step)


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
    kept = bias if problem.activation else None
    residuals = Residuals(x, scale, *location, rstd, w, var, moments.count, kept)

    @jax.checkpoint
    def tangent(residuals, linear):
        return _formulas.tangent(problem, residuals, linear)

    d_y, d_mean, half, d_count = tangent(residuals, Linear(d_x, d_scale, d_bias, d_w, d_epsilon))
    d_moments = jax.tree.map(jnp.zeros_like, moments)
    if half is not None:
        d_mean = d_moments.mean + d_mean
        d_moments = d_moments._replace(mean=d_mean, var=2 * half / rstd, count=d_count)
    return (y, moments), (d_y, d_moments)
