"""The derivative in closed form, around sums that each platform takes in its own way."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnorm.numerics import accumulation_dtype
from jaxnorm.ops._formulas import Problem
from jaxnorm.ops._operands import filled
from jaxnorm.stats import sample_size
from jaxnorm.stats.sums import block_sum, hold, spread
from jaxnorm.typing import Shape


def joint_shape(stats_shape: Shape, affine_shapes: list[Shape]) -> Shape:
    """Returns the statistics shape of what is constant in each statistic, scale and bias.

    Examples:
        >>> joint_shape((1, 1, 4), [(1, 1, 8)])
        (1, 1, 8)
    """
    return tuple(map(max, *(stats_shape, stats_shape, *affine_shapes)))


def cotangent(take_sums: Callable[..., Any], *operands, problem: Problem, has, shapes) -> list:
    """Returns what `_primitives.plain_cotangent` does, to rounding, in closed form.

    With n entries in a sample, sums over each sample:
    `d_mean = ct_mean - rstd sum(scale ct)`, `d_half = ct_half - rstd sum(scale ct xhat)` and
    `d_x = scale rstd ct + (d_mean + xhat d_half) / n`; sums over what shares a scale and a bias:
    `d_scale = sum(ct xhat)`, `d_bias = sum(ct)` (Ioffe and Szegedy, arXiv:1502.03167, 2015,
    section 3, with cotangents of the statistics).

    Args:
        take_sums: `(x, mean, tail, rstd, ct)` -> what has `pair(shape, weight)`, the sums of
            `weight ct` and of `weight ct xhat` within samples; `across(shape)`, those of `ct` and
            of `ct xhat` over whatever shares an affine; and `held_standardized()`, xhat.
        *operands: as `_primitives.plain_cotangent` takes them.
        problem: describes the standardization.
        has: which operands are there.
        shapes: of x, no residual, scale and bias, None where a cotangent is not wanted.
    """
    ct, _, ct_mean, ct_half, x, _, scale, _, mean, tail, rstd = filled(has, operands)
    stats_shape = problem.stats_shape
    sums = take_sums(x, mean, tail, rstd, ct)
    affine_shapes = [v for v in (None if scale is None else scale.shape, *shapes[2:]) if v]
    affine_shape = np.broadcast_shapes(*affine_shapes) if affine_shapes else stats_shape
    joint = joint_shape(stats_shape, [affine_shape])
    if joint != x.shape:  # one pair of sums serves all
        of_ct, of_product = sums.pair(joint)
        d_scale, d_bias = of_product, of_ct
        of_ct, of_product = (
            block_sum(v if scale is None else v * scale, stats_shape) for v in (of_ct, of_product)
        )
    else:
        of_ct, of_product = sums.pair(stats_shape, scale)
        d_bias, d_scale = sums.across(affine_shape)
    # `vmap` may map one of scale and bias only.
    d_scale, d_bias = (
        v if shape is None else block_sum(v, shape)
        for v, shape in zip((d_scale, d_bias), shapes[2:], strict=True)
    )
    d_x = None
    if shapes[0] is not None:
        n = sample_size(x.shape, stats_shape)
        slope = ((0.0 if ct_half is None else ct_half) - rstd * of_product) / n
        gain = spread(rstd, x.shape)
        if joint != x.shape and scale is not None:
            gain, scale = gain * scale, None
        d_x = ct.astype(accumulation_dtype(ct.dtype)) * hold(gain)
        d_x = d_x if scale is None else d_x * scale
        d_x = d_x + sums.held_standardized() * hold(spread(slope, x.shape))
        if problem.center:
            d_mean = ((0.0 if ct_mean is None else ct_mean) - rstd * of_ct) / n
            d_x = d_x + hold(spread(d_mean, x.shape))
        d_x = d_x.astype(x.dtype)
    results = zip((d_x, None, d_scale, d_bias), shapes, strict=True)
    return [result for result, wanted in results if wanted is not None]
