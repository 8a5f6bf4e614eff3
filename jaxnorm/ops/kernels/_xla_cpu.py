"""The formulas, written for XLA on one CPU.

Two things make them faster there: sums over the whole array are compiled by themselves; and where
the data lie near zero, as they mostly do, sums run over `x` in place of `x - mean`, for which XLA's
library needs nearly twice the time.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxnorm.numerics import sum_of_two
from jaxnorm.ops import _formulas
from jaxnorm.ops._formulas import Problem
from jaxnorm.ops._operands import filled
from jaxnorm.ops._primitives import outputs
from jaxnorm.ops.kernels import _closed_form
from jaxnorm.stats import sample_size
from jaxnorm.stats.measuring import Measured, beyond, centered, measure
from jaxnorm.stats.shapes import median_member
from jaxnorm.stats.sums import hold, spread, sum_alone, sum_of_either
from jaxnorm.typing import Array, Shape

NEAR = 8.0  # largest mean^2 / var: a sum of squares then loses log2(1 + NEAR) bits, three of 24
SMALL = 1 << 15  # entries below which the branches cost more than they save


def serves(problem: Problem, x: Any, parameters: tuple, cotangents: tuple) -> str | None:
    """Returns why these formulas do not serve, or None where they do.

    Args:
        problem: describes the standardization.
        x: [*shape], or its aval.
        parameters: scale and bias, or their avals, those that are there.
        cotangents: the shapes in which cotangents of scale and bias are wanted.

    Returns:
        A reason for people to read.

    Examples:
        >>> from jaxnorm.stats.sampling import Sampling
        >>> problem = Problem(Sampling((8, 1)), 1e-6, jnp.dtype(jnp.float32))
        >>> serves(problem, jnp.ones((8, 64)), (), ())
        'x has fewer than 32768 entries'
    """
    if math.prod(x.shape) < SMALL:
        return f"x has fewer than {SMALL} entries"
    if problem.sampling.variance != "one_pass":
        return "they take one pass over x"
    if any(jnp.dtype(v.dtype).itemsize > 4 for v in (x, *parameters)):
        return "they sum in float32"
    return None


def standardize(*operands, problem: Problem, has) -> list:
    """Returns what `_primitives.plain_standardize` does, to rounding."""
    x, _, scale, bias, _ = filled(has, operands)
    measured = _measure(problem, x)
    rstd = _formulas.reciprocal_std(measured, problem.epsilon, empty=False)
    # XLA takes no branch's result into the loop over the array, as it would a pivot.
    location = (measured.mean, measured.tail) if problem.center else (None, None)
    deviation = centered(x, None, *location)
    gain = spread(rstd, x.shape)
    if (
        _closed_form.joint_shape(rstd.shape, [v.shape for v in (scale, bias) if v is not None])
        != x.shape
    ):
        gain, scale = hold(gain if scale is None else gain * scale), None
    y = _formulas.affine(deviation, gain, scale, bias).astype(problem.dtype)
    return outputs(problem, y, measured, rstd)


def _measure(problem: Problem, x: Array) -> Measured:
    """Returns the moments: from sums over `x` where that loses no digits, else about pivots."""
    stats_shape, epsilon = problem.stats_shape, problem.epsilon
    assert epsilon is not None  # the primitives take numbers
    count = sample_size(x.shape, stats_shape)

    def averages(shift: Array | None):
        """Returns the average of `x - shift`, and its variance (the mean square if not centred)."""

        def deviation(x):
            return centered(x, None, shift, None)

        square = sum_alone(lambda x: jnp.square(deviation(x)), stats_shape, x) / count
        if not problem.center:
            return jnp.zeros_like(square), square
        mean = sum_alone(deviation, stats_shape, x) / count
        return mean, jnp.maximum(square - jnp.square(mean), 0)

    def far():
        if not problem.center:
            return rescued()
        pivot = median_member(x, stats_shape, jnp.float32)
        offset, var = averages(pivot)
        usual = (*sum_of_two(pivot, offset), var, jnp.ones_like(var))
        return lax.cond(jnp.any(beyond(var, epsilon)), rescued, lambda: usual)

    def rescued():
        return tuple(measure(problem.sampling, x, None, epsilon)[:4])

    mean, var = averages(None)
    near = ~beyond(var, epsilon) & ((jnp.square(mean) <= NEAR * var) if problem.center else True)
    usual = (mean, jnp.zeros_like(var), var, jnp.ones_like(var))
    mean, tail, var, unit = lax.cond(jnp.all(near), lambda: usual, far)
    return Measured(mean, tail, var, unit, jnp.asarray(count, jnp.float32))


def cotangent(*operands, problem: Problem, has, shapes) -> list:
    """Returns what `_primitives.plain_cotangent` does, to rounding."""
    return _closed_form.cotangent(_Sums, *operands, problem=problem, has=has, shapes=shapes)


class _Sums:
    """Sums over a cotangent, each compiled by itself."""

    def __init__(self, x: Array, mean: Array | None, tail: Array | None, rstd: Array, ct: Array):
        self.x, self.mean, self.tail, self.rstd, self.ct = x, mean, tail, rstd, ct

    def of_ct(self, shape: Shape, weight: Array | None = None) -> Array:
        """Returns the sums of `weight ct`, of [*shape]."""
        return sum_alone(lambda ct: _weighted(ct, weight), shape, self.ct)

    def pair(self, shape: Shape, weight: Array | None = None) -> tuple[Array, Array]:
        """Returns the sums of `weight ct` and of `weight ct xhat`, of [*shape], within samples."""

        def about_zero(ct, x):
            return _weighted(ct, weight) * x.astype(jnp.float32)

        def about_mean(ct, x):
            return _weighted(ct, weight) * self.deviation(x)

        of_ct, arrays = self.of_ct(shape, weight), (self.ct, self.x)
        rstd = spread(self.rstd, shape)
        if self.mean is None:
            return of_ct, rstd * sum_alone(about_zero, shape, *arrays)
        near = jnp.all(jnp.square(self.mean * self.rstd) <= NEAR)
        of_product = sum_of_either(near, about_zero, about_mean, shape, *arrays)
        shifted = jnp.where(near, spread(self.mean, shape) * of_ct, 0)
        return of_ct, rstd * (of_product - shifted)

    def across(self, shape: Shape) -> tuple[Array, Array]:
        """Returns the sums of `ct` and of `ct xhat`, of [*shape], over several samples."""

        def product(ct, x):
            return ct.astype(jnp.float32) * (self.deviation(x) * spread(self.rstd, x.shape))

        return self.of_ct(shape), sum_alone(product, shape, self.ct, self.x)

    def deviation(self, x: Array) -> Array:
        """Returns `x - mean`, which is `x` where nothing is centred."""
        return centered(x, None, self.mean, self.tail)

    def held_standardized(self) -> Array:
        """Returns xhat of the whole array, the statistics kept out of the loop over it."""
        x = self.x.astype(jnp.float32)
        if self.mean is not None:
            x = x - hold(spread(self.mean, x.shape))
            x = x if self.tail is None else x - hold(spread(self.tail, x.shape))
        return x * hold(spread(self.rstd, x.shape))


def _weighted(ct: Array, weight: Array | None) -> Array:
    ct = ct.astype(jnp.float32)
    return ct if weight is None else ct * weight
