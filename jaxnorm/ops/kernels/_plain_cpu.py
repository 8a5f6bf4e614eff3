"""What the native kernels compute, in plain JAX written for XLA on one CPU.

Two things make it faster than `_plain`, whose results it has to rounding: sums over the whole array
are compiled by themselves; and where the data lie near zero, as they mostly do, they run over `x`
in place of `x - pivot`, for which XLA's library needs nearly twice the time.
"""

import math

import jax.numpy as jnp
from jax import lax

from jaxnorm.ops import _tangent
from jaxnorm.ops.kernels import _plain
from jaxnorm.ops.kernels._layout import affine_shape_of
from jaxnorm.ops.kernels._plain import Linear, Residuals, Standard
from jaxnorm.ops.kernels._sums import sum_alone, sum_of_either
from jaxnorm.stats import _shapes
from jaxnorm.stats._repeat import hold
from jaxnorm.stats._shifted import pivots
from jaxnorm.typing import Array, Shape

NEAR = 8.0  # largest mean^2 / var: a sum of squares then loses log2(1 + NEAR) bits, three of 24
SMALL = 1 << 15  # entries below which the branches cost more than they save


def standardize(standard: Standard, x: Array, scale: Array | None, bias: Array | None):
    """Returns what `_plain.standardize` does, to rounding."""
    if math.prod(x.shape) < SMALL or not standard.center:
        return _plain.standardize(standard, x, scale, bias)
    # XLA takes no branch's result into the loop over the array, as it would a pivot.
    first, second, var = _moments(standard.stats_shape, x)
    deviation = x.astype(jnp.float32) - _shapes.spread(first, x.shape)
    deviation = deviation - _shapes.spread(second, x.shape)
    rstd = _tangent.reciprocal_std(var, jnp.asarray(standard.epsilon, var.dtype))
    gain = _shapes.spread(rstd, x.shape)
    if _joint(var.shape, affine_shape_of(scale, bias) or var.shape) != x.shape:
        gain, scale = hold(gain if scale is None else gain * scale), None
    y = _tangent.affine(deviation, gain, scale, bias).astype(standard.dtype)
    return y, *_plain.two_sum(first, second), var, rstd


def _moments(stats_shape: Shape, x: Array) -> tuple[Array, Array, Array]:
    """Returns the mean as the unevaluated sum of two numbers, and the variance.

    The sums run over `x` where that loses no digits: then the mean is the first number.
    """
    count = _shapes.sample_size(x.shape, stats_shape)

    def averages(shift: Array | None):
        """Returns the average of `x - shift`, and its variance."""

        def deviation(x):
            wide = x.astype(jnp.float32)
            return wide if shift is None else wide - _shapes.spread(shift, x.shape)

        mean = sum_alone(deviation, stats_shape, x) / count
        square = sum_alone(lambda x: jnp.square(deviation(x)), stats_shape, x) / count
        return mean, jnp.maximum(square - jnp.square(mean), 0)

    def about_pivots():
        pivot = pivots(x, None, stats_shape)
        return pivot, *averages(pivot)

    mean, var = averages(None)
    near = _all_near(mean, var)
    return lax.cond(near, lambda: (mean, jnp.zeros_like(mean), var), about_pivots)


def _joint(stats_shape: Shape, affine_shape: Shape) -> Shape:
    """Returns the statistics shape of what is constant in each statistic, scale and bias."""
    return tuple(map(max, stats_shape, affine_shape))


def _all_near(mean: Array, var: Array) -> Array:
    return jnp.all(jnp.square(mean) <= NEAR * var)


def cotangent(standard: Standard, residuals: Residuals, shapes: Linear, cotangents: tuple):
    """Returns what `_plain.cotangent` does, to rounding: the closed form of the gradient.

    With `dev = x - mean` and `n` entries in a sample, sums over each sample:
    `d_mean = ct_mean - rstd sum(scale ct)`, `d_var = ct_var - rstd^3 / 2 sum(scale ct dev)` and
    `d_x = scale rstd ct + d_mean / n + 2 dev d_var / n`; sums over what shares a scale and a bias:
    `d_scale = sum(rstd ct dev)`, `d_bias = sum(ct)` (Ioffe and Szegedy, arXiv:1502.03167, 2015,
    section 3, with cotangents of the statistics).
    """
    if math.prod(residuals.x.shape) < SMALL:
        return _plain.cotangent(standard, residuals, shapes, cotangents)
    x, scale, _, _, rstd = residuals
    ct, *ct_statistics = cotangents
    stats_shape = standard.stats_shape
    sums = _Sums(standard, residuals, ct)
    affine_shape = affine_shape_of(scale, *shapes[1:]) or stats_shape
    joint = _joint(stats_shape, affine_shape)
    if joint != x.shape:  # one pair of sums serves all
        of_ct, of_product = sums.pair(joint)
        d_scale = _shapes.block_sum(of_product * _shapes.spread(rstd, joint), affine_shape)
        d_bias = _shapes.block_sum(of_ct, affine_shape)
        of_ct, of_product = (
            _shapes.block_sum(v if scale is None else v * scale, stats_shape)
            for v in (of_ct, of_product)
        )
    else:
        of_ct, of_product = sums.pair(stats_shape, scale)
        d_scale = sums.of_standardized(rstd, affine_shape)
        d_bias = sums.of_ct(affine_shape)
    d_x = None
    if shapes.x is not None:
        n = _shapes.sample_size(x.shape, stats_shape)
        slope = _shapes.spread((2 * ct_statistics[-1] - rstd**3 * of_product) / n, x.shape)
        gain = _shapes.spread(rstd, x.shape)
        if joint != x.shape and scale is not None:
            gain, scale = gain * scale, None
        d_x = ct.astype(jnp.float32) * hold(gain)
        d_x = d_x if scale is None else d_x * scale
        d_x = d_x + sums.held_deviation() * hold(slope)
        if standard.center:
            d_mean = (ct_statistics[0] - rstd * of_ct) / n
            d_x = d_x + hold(_shapes.spread(d_mean, x.shape))
        d_x = d_x.astype(x.dtype)
    results = zip((d_x, d_scale, d_bias), shapes, strict=True)
    return tuple(result for result, wanted in results if wanted is not None)


class _Sums:
    """Sums over a cotangent, each compiled by itself."""

    def __init__(self, standard: Standard, residuals: Residuals, ct: Array):
        self.standard = standard
        self.x, _, self.mean, self.tail, self.rstd = residuals
        self.ct = ct

    def of_ct(self, shape: Shape, weight: Array | None = None) -> Array:
        """Returns the sums of `weight ct`, of [*shape]."""
        return sum_alone(lambda ct: _weighted(ct, weight), shape, self.ct)

    def pair(self, shape: Shape, weight: Array | None = None) -> tuple[Array, Array]:
        """Returns the sums of `weight ct` and of `weight ct dev`, of [*shape], within samples."""

        def about_zero(ct, x):
            return _weighted(ct, weight) * x.astype(jnp.float32)

        def about_mean(ct, x):
            return _weighted(ct, weight) * self.deviation(x)

        of_ct, arrays = self.of_ct(shape, weight), (self.ct, self.x)
        if self.mean is None:
            return of_ct, sum_alone(about_zero, shape, *arrays)
        mean = self.mean
        near = _all_near(mean * self.rstd, jnp.ones_like(mean))
        of_product = sum_of_either(near, about_zero, about_mean, shape, *arrays)
        return of_ct, jnp.where(near, of_product - _shapes.spread(mean, shape) * of_ct, of_product)

    def of_standardized(self, rstd: Array, shape: Shape) -> Array:
        """Returns the sums of `ct dev rstd`, of [*shape]."""

        def product(ct, x):
            return ct.astype(jnp.float32) * (self.deviation(x) * _shapes.spread(rstd, x.shape))

        return sum_alone(product, shape, self.ct, self.x)

    def deviation(self, x: Array) -> Array:
        """Returns `x - mean`, which is `x` where nothing is centred."""
        return _plain.deviate(x, self.mean, self.tail)

    def held_deviation(self) -> Array:
        """Returns the same of the whole array, pivot and offset kept out of the loop over it."""
        x = self.x.astype(jnp.float32)
        if self.mean is None:
            return x
        mean, tail = (hold(_shapes.spread(v, x.shape)) for v in (self.mean, self.tail))
        return (x - mean) - tail


def _weighted(ct: Array, weight: Array | None) -> Array:
    ct = ct.astype(jnp.float32)
    return ct if weight is None else ct * weight
