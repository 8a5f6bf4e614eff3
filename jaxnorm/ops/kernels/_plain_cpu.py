"""What the native kernels compute, in plain JAX written for XLA on one CPU.

Two things make it faster than `_plain`, whose results it has to rounding. Each sum over the whole
array is compiled by itself: XLA would write out what several of them read, such as a widened `x`.
And where the data lie near zero, as they mostly do, sums run over `x` in place of `x - pivot`, for
which XLA's library needs nearly twice the time.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm.ops import _tangent
from jaxnorm.ops.kernels import _plain
from jaxnorm.ops.kernels._plain import Linear, Residuals, Standard
from jaxnorm.stats import _shapes
from jaxnorm.stats._sampling import Sampling
from jaxnorm.stats._shifted import ShiftedMoments, centered, pivots, shifted_moments
from jaxnorm.typing import Array, Shape

NEAR = 8.0  # largest mean^2 / var: a sum of squares then loses log2(1 + NEAR) bits, three of 24
SMALL = 1 << 15  # entries below which the branches cost more than they save


def standardize(standard: Standard, x: Array, scale: Array | None, bias: Array | None):
    """Returns what `_plain.standardize` does, to rounding."""
    branches = standard.center and math.prod(x.shape) >= SMALL
    moments = _moments if branches else shifted_moments
    return _plain.standardize(standard, x, scale, bias, moments)


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
    x, scale, _, var = residuals
    ct, *ct_statistics = cotangents
    stats_shape = standard.stats_shape
    rstd = _tangent.reciprocal_std(var, jnp.asarray(standard.epsilon, var.dtype))
    sums = _Sums(standard, residuals, ct)
    affine_shape = next((p.shape for p in (scale, *shapes[1:]) if p is not None), stats_shape)
    joint = tuple(map(max, stats_shape, affine_shape))
    of_ct = of_product = d_scale = d_bias = None
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
        d_x = ct.astype(jnp.float32) * (gain if scale is None else gain * scale)
        d_x = d_x + sums.deviation(x) * slope
        if standard.center:
            d_x = d_x + _shapes.spread((ct_statistics[0] - rstd * of_ct) / n, x.shape)
        d_x = d_x.astype(x.dtype)
    results = zip((d_x, d_scale, d_bias), shapes, strict=True)
    return tuple(result for result, wanted in results if wanted is not None)


class _Sums:
    """Sums over a cotangent, each compiled by itself."""

    def __init__(self, standard: Standard, residuals: Residuals, ct: Array):
        self.ct = ct
        self.x, _, self.offset, self.var = residuals
        self.sampling = Sampling(standard.stats_shape, standard.center)

    def deviation(self, x: Array) -> Array:
        """Returns `x - mean`, which is `x` where nothing is centred."""
        if self.offset is None:
            return x.astype(jnp.float32)
        return centered(self.sampling, x, None, self.offset)

    def of_ct(self, shape: Shape, weight: Array | None = None) -> Array:
        """Returns the sums of `weight ct`, of [*shape]."""
        return _alone(lambda ct: _shapes.block_sum(_weighted(ct, weight), shape), self.ct)

    def pair(self, shape: Shape, weight: Array | None = None) -> tuple[Array, Array]:
        """Returns the sums of `weight ct` and of `weight ct dev`, of [*shape], within samples."""

        def product(ct, x):
            return _shapes.block_sum(_weighted(ct, weight) * x.astype(jnp.float32), shape)

        total = self.of_ct(shape, weight)
        if self.offset is None:
            return total, _alone(product, self.ct, self.x)
        mean = pivots(self.x, None, self.sampling.stats_shape) + self.offset
        of_product = lax.cond(
            _all_near(mean, self.var),
            lambda ct, x: product(ct, x) - _shapes.spread(mean, shape) * total,
            lambda ct, x: product(ct, self.deviation(x)),
            self.ct,
            self.x,
        )
        return total, of_product

    def of_standardized(self, rstd: Array, shape: Shape) -> Array:
        """Returns the sums of `ct dev rstd`, of [*shape]."""

        def function(ct, x):
            standardized = self.deviation(x) * _shapes.spread(rstd, x.shape)
            return _shapes.block_sum(ct.astype(jnp.float32) * standardized, shape)

        return _alone(function, self.ct, self.x)


def _weighted(ct: Array, weight: Array | None) -> Array:
    ct = ct.astype(jnp.float32)
    return ct if weight is None else ct * weight


def _moments(sampling: Sampling, x: Array, w: None) -> ShiftedMoments:
    """Returns what `shifted_moments` does, from sums about zero where that loses no digits."""
    stats_shape = sampling.stats_shape
    count = _shapes.sample_size(x.shape, stats_shape)

    def average(function):
        def mean(x):
            return _shapes.block_sum(function(x.astype(jnp.float32)), stats_shape) / count

        return _alone(mean, x)

    def about_pivots(x):
        taken = shifted_moments(sampling, x, None)
        return taken.offset, taken.var

    pivot, mean = pivots(x, None, stats_shape), average(lambda x: x)
    var = average(jnp.square) - jnp.square(mean)
    offset, var = lax.cond(_all_near(mean, var), lambda x: (mean - pivot, var), about_pivots, x)
    return ShiftedMoments(pivot, offset, pivot + offset, var, jnp.asarray(count, var.dtype))


def _all_near(mean: Array, var: Array) -> Array:
    return jnp.all(jnp.square(mean) <= NEAR * var)


def _alone(function: Callable[..., Array], *arrays: Array) -> Array:
    """Returns `function(*arrays)`, compiled by itself: it shares nothing with other code.

    That is how XLA treats the branches of a condition which it cannot decide, as it cannot know
    that no number has more than 64 bits set.
    """
    first = lax.slice(arrays[0], (0,) * arrays[0].ndim, (1,) * arrays[0].ndim)
    bits = lax.bitcast_convert_type(first, f"uint{8 * first.dtype.itemsize}")
    result = jax.eval_shape(function, *arrays)
    return lax.cond(
        lax.population_count(bits).reshape(()) <= 64,
        function,
        lambda *arrays: jnp.broadcast_to(first.ravel(), result.shape).astype(result.dtype),
        *arrays,
    )
