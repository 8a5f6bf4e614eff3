"""x -> y and its own moments: statistics and normalization in one step."""

import functools

import jax
import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype, real_dtype, require_inexact
from jaxnorm.ops import _tangent, kernels
from jaxnorm.ops._implementation import Implementation, choose
from jaxnorm.ops._normalize import broadcasting
from jaxnorm.stats import Moments, Variance, _shapes
from jaxnorm.stats._sampling import Sampling, check_sampling, sample_weights, settled
from jaxnorm.stats._shifted import centered, moments_tangent, present, shifted_moments
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
    to the grid of `x`, so output and gradient hold at any mean / std up to 1e6 in float32. The
    backward pass keeps `x` and two float32 numbers per statistic.

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
        implementation: "xla" is plain JAX, "native" compiled kernels on CPU, None the faster one;
            the same to rounding, with the same derivatives.

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
    x = jnp.asarray(x)
    require_inexact(x)
    sampling = check_sampling(
        x.shape, Sampling(stats_shape, center, variance, axis_name, axis_index_groups)
    )
    scale, bias = (broadcasting(v, x.shape, n) for v, n in ((scale, "scale"), (bias, "bias")))
    w = sample_weights(x, mask, weights)
    dtype = jnp.dtype(dtype or x.dtype)
    chosen = choose(implementation, x, sampling, w is not None, scale, bias, epsilon, dtype)
    simple = w is None and sampling.axis_name is None and sampling.variance == "one_pass"
    if chosen == "native" or (
        simple and kernels.takes(x, scale, bias, epsilon=epsilon, dtype=dtype)
    ):
        y, mean, var = kernels.standardize(
            x,
            sampling.stats_shape,
            scale,
            bias,
            epsilon=float(epsilon),  # type: ignore[reportArgumentType]  # `takes` saw a number
            center=center,
            dtype=dtype,
            native=chosen == "native",
        )
        count = _shapes.sample_size(x.shape, sampling.stats_shape)
        return y, Moments(mean, var, jnp.asarray(count, var.dtype))
    epsilon = jnp.asarray(epsilon, real_dtype(accumulation_dtype(x.dtype)))
    return _standardize((sampling, dtype), x, w, scale, bias, epsilon)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _standardize(static, x, w, scale, bias, epsilon):
    y, taken = _forward(static, x, w, scale, bias, epsilon)
    return y, Moments(taken.mean, taken.var, taken.count)


def _forward(static, x, w, scale, bias, epsilon):
    sampling, dtype = static
    taken = shifted_moments(sampling, x, w)
    rstd = _tangent.reciprocal_std(taken.var, epsilon, _samples(x, w, taken.count))
    deviation = centered(sampling, x, w, taken.offset)
    y = _tangent.affine(deviation, _shapes.spread(rstd, x.shape), scale, bias)
    return y.astype(dtype), taken


def _standardize_jvp(static, primals, tangents):
    sampling, dtype = static
    x, w, scale, _, epsilon = primals
    y, taken = _forward(static, *primals)

    @jax.checkpoint
    def tangent(x, w, offset, var, count, scale, epsilon, tangents):
        d_x, d_w, d_scale, d_bias, d_epsilon = tangents
        deviation = centered(sampling, x, w, offset)
        # Once: the transpose then adds the parts of the gradient before it rounds them.
        d_x = None if d_x is None else settled(d_x, x, w).astype(deviation.dtype)
        rstd = _tangent.reciprocal_std(var, epsilon, _samples(x, w, count))
        d_mean = d_var = None
        d_taken = tuple(jnp.zeros_like(v) for v in (taken.mean, var, count))
        if d_x is not None or d_w is not None:
            d_taken = moments_tangent(sampling, deviation, w, var, count, (d_x, d_w))
            d_mean = d_taken[0] if sampling.center else None
            d_var = d_taken[1]
        if d_epsilon is not None:
            d_var = d_epsilon if d_var is None else d_var + d_epsilon
            d_var = jnp.broadcast_to(d_var, var.shape)
        if d_var is not None and (empty := _samples(x, w, count)) is not None:
            d_var = jnp.where(empty > 0, d_var, 0)
        rstd = _shapes.spread(rstd, x.shape)
        d_mean, d_var = (_tangent.spread_or_none(v, x.shape) for v in (d_mean, d_var))
        dy = _tangent.normalize_tangent(deviation, rstd, scale, d_x, d_mean, d_var, d_scale, d_bias)
        return dy.astype(dtype), Moments(*d_taken)

    d_out = tangent(x, w, taken.offset, taken.var, taken.count, scale, epsilon, present(tangents))
    return (y, Moments(taken.mean, taken.var, taken.count)), d_out


_standardize.defjvp(_standardize_jvp, symbolic_zeros=True)


def _samples(x: Array, w: Array | None, count: Array) -> Array | None:
    """Returns the counts where a sample may be empty, None where that is impossible."""
    return count if w is not None or x.size == 0 else None
