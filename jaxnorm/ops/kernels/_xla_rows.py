"""The formulas for rows on one GPU: a row stays in registers along a chain of reductions.

XLA for GPU makes one program of a chain of reductions, each met by the row that it was taken of,
and takes further reductions of that row into it. A chain starts with a sum that is subtracted, or
with a largest entry; a slice would end it. So does a statistic that another program reads: one
ends the chain and is written once, and each further one would be a chain of its own.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnorm.numerics import accumulation_dtype
from jaxnorm.ops import _formulas
from jaxnorm.ops._formulas import Problem
from jaxnorm.ops._operands import filled
from jaxnorm.ops._primitives import outputs
from jaxnorm.ops.kernels import _xla_branchless
from jaxnorm.ops.kernels._closed_form import joint_shape
from jaxnorm.ops.kernels._xla_branchless import GPU, has_groups, mean_square, measure_once
from jaxnorm.stats import sample_size
from jaxnorm.stats.measuring import Measured, centered
from jaxnorm.stats.sums import block_max, block_sum
from jaxnorm.typing import Array, Shape

LONGEST_ROW = 1 << 14  # entries: XLA for GPU keeps no longer row in registers


def serves(problem: Problem, x: Any, parameters: tuple, cotangents: tuple) -> str | None:
    """Returns why each sample is not a row that XLA for GPU keeps in registers, or None.

    Args:
        problem: describes the standardization.
        x: [*shape], or its aval.
        parameters: scale and bias, or their avals, those that are there.
        cotangents: the shapes in which cotangents of scale and bias are wanted.

    Returns:
        A reason for people to read.

    Examples:
        >>> from jaxnorm.stats.sampling import Sampling
        >>> problem = Problem(Sampling((1, 3)), 0.0, jnp.dtype(jnp.float32))
        >>> serves(problem, jnp.ones((2, 3)), (), ())
        'a sample is not one row of 2 to 16384 entries'
    """
    if not _is_row(x.shape, problem.stats_shape):
        return f"a sample is not one row of 2 to {LONGEST_ROW} entries"
    return _xla_branchless.serves(problem, x, parameters, cotangents)


def standardize(*operands, problem: Problem, has) -> list:
    """Returns what `_primitives.plain_standardize` does, to rounding.

    XLA drops the statistics where nobody asks for them.
    """
    x, _, scale, bias, _ = filled(has, operands)
    reciprocal_std = functools.partial(_formulas.reciprocal_std, epsilon=problem.epsilon)
    row = x.astype(accumulation_dtype(x.dtype))
    deviation = _centered_row(problem, row) if problem.center else _linked(problem, row)
    var, unit = mean_square(problem, deviation, x.dtype)
    nothing = jnp.zeros_like(var)
    count = jnp.asarray(sample_size(x.shape, problem.stats_shape), var.dtype)
    measured = Measured(nothing, nothing, var, unit, count)
    rstd = reciprocal_std(measured, empty=False)
    y = _formulas.affine(deviation, rstd, scale, bias)
    if problem.center:
        # Mean, tail and rstd would be three chains. One more read of x gives them all.
        measured = measure_once(problem, x, GPU)
        rstd = reciprocal_std(measured, empty=False)
    return outputs(problem, y.astype(problem.dtype), measured, rstd)


def cotangent(*operands, problem: Problem, has, shapes) -> list:
    """Returns what `_primitives.plain_cotangent` does, to rounding.

    The cotangent of x is one chain: what `_closed_form` writes as two sums over a row is a mean
    that is subtracted, and a product with xhat that is subtracted after it.
    """
    by_sums = functools.partial(_xla_branchless.cotangent, *operands, problem=problem, has=has)
    ct, _, ct_mean, ct_half, x, _, scale, _, mean, tail, rstd = filled(has, operands)
    wanted = [shape for shape in shapes[2:] if shape is not None]
    joint = joint_shape(problem.stats_shape, [np.broadcast_shapes(*wanted)] if wanted else [])
    if shapes[0] is None or (wanted and joint != x.shape):
        return by_sums(shapes=shapes, form=GPU)  # sums over rows give scale and bias theirs, too
    n = sample_size(x.shape, problem.stats_shape)
    deviation = centered(x, None, mean, tail)
    row = ct.astype(deviation.dtype)
    row = row if scale is None else row * scale
    row = row - _average(problem, row) if problem.center else _linked(problem, row)
    # XLA would write xhat to memory for this chain and for the cotangent of the scale.
    row = row * rstd
    slope = rstd * _average(problem, row * deviation)
    slope = slope if ct_half is None else slope - ct_half / n
    d_x = row - (deviation * slope) * rstd
    if ct_mean is not None and problem.center:
        d_x = d_x + ct_mean / n
    affine = by_sums(shapes=(None, None, *shapes[2:]), form=GPU) if wanted else []
    return [d_x.astype(x.dtype), *affine]


def _centered_row(problem: Problem, row: Array) -> Array:
    """Returns a row minus its mean: that of its distances to the largest, and of what remains."""
    largest = block_max(row, problem.stats_shape)
    deviation = row - (largest + _average(problem, row - largest))
    return deviation - _average(problem, deviation)


def _linked(problem: Problem, row: Array) -> Array:
    """Returns a row from which nothing is subtracted, behind the first link of a chain.

    Nothing is larger than the largest.
    """
    return jnp.minimum(row, block_max(row, problem.stats_shape))


def _average(problem: Problem, values: Array) -> Array:
    count = sample_size(values.shape, problem.stats_shape)
    return block_sum(values * (1 / count), problem.stats_shape)


def _is_row(shape: Shape, stats_shape: Shape) -> bool:
    """Returns whether each sample is a row: the last axes whole, few enough entries."""
    reduced = [s == 1 < n for n, s in zip(shape, stats_shape, strict=True)]
    rows = len(reduced) - sum(reduced)
    short = 1 < sample_size(shape, stats_shape) <= LONGEST_ROW
    return not has_groups(shape, stats_shape) and short and all(reduced[rows:])
