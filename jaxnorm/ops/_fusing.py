"""What stands before and behind a normalization: a sum, an activation, a quantization.

An implementation that does not take them into its own passes is called between them, in plain JAX,
with a problem that is `bare`: no operand is a residual, a step, the cotangent of a sum, or a bias
for the slope of an activation.
"""

from collections.abc import Callable

from jaxnorm.ops import _activations
from jaxnorm.ops._formulas import Problem, affine, summed
from jaxnorm.ops._operands import filled, present, which
from jaxnorm.ops._primitives import completed, wide_dtype
from jaxnorm.stats.measuring import centered
from jaxnorm.stats.sums import spread
from jaxnorm.typing import Array


def bare_problem(problem: Problem, x) -> Problem:
    """Returns the problem that is left between what stands before and behind it.

    Args:
        problem: describes the standardization.
        x: an array or its aval.
    """
    # ReLU and rounding may change places; other functions are taken of what is not rounded.
    rounded = problem.activation in (None, "relu") and not problem.quantized
    return problem.bare._replace(dtype=problem.dtype if rounded else wide_dtype(problem, x))


def standardize(bare: Callable, *operands, problem: Problem, has) -> list:
    """Returns the results of `standardize_p`, the normalization itself by another function.

    Args:
        bare: what standardizes where the problem is bare.
        *operands: of the primitive.
        problem: a parameter of the primitive.
        has: the same.
    """
    x, residual, scale, bias, step = filled(has, operands)
    total = summed(x, residual)
    given = (total, None, scale, bias, None)
    inner = bare_problem(problem, x)
    y, *rest = bare(*present(given), problem=inner, has=which(given))
    if problem.activation is not None:
        y = _activations.activated(problem.activation, y)
    return completed(problem, y, step, total, rest)


def cotangent(bare: Callable, *operands, problem: Problem, has, shapes) -> list:
    """Returns the results of `cotangent_p`, those of the normalization itself by another function.

    Args:
        bare: what gives the cotangents where the problem is bare.
        *operands: of the primitive.
        problem: a parameter of the primitive.
        has: the same.
        shapes: the same.
    """
    ct, ct_total, ct_mean, ct_half, *kept = filled(has, operands)
    x, residual, scale, bias, mean, tail, rstd = kept
    total = summed(x, residual)
    if problem.activation is not None:
        xhat = centered(total, None, mean, tail) * spread(rstd, total.shape)
        slope = _activations.slope(problem.activation, affine(xhat, 1.0, scale, bias))
        ct = (ct.astype(wide_dtype(problem, x)) * slope).astype(bare_problem(problem, x).dtype)
    given = (ct, None, ct_mean, ct_half, total, None, scale, None, mean, tail, rstd)
    moves = shapes[0] is not None or shapes[1] is not None
    inner_shapes = (total.shape if moves else None, None, *shapes[2:])
    inner = bare_problem(problem, x)
    out = bare(*present(given), problem=inner, has=which(given), shapes=inner_shapes)
    d_total, _, *d_affine = filled(which(inner_shapes), out)
    d_inputs = of_inputs(problem, d_total, ct_total, shapes)
    return list(present((*d_inputs, *d_affine)))


def of_inputs(problem: Problem, d_total: Array | None, ct_total: Array | None, shapes) -> tuple:
    """Returns the cotangents of x and the residual from that of their sum.

    Args:
        problem: describes the standardization.
        d_total: [*shape], what the normalization gives; None where neither is wanted.
        ct_total: [*shape], the cotangent of the sum that was returned, or None.
        shapes: of x and the residual, and more; None where a cotangent is not wanted.
    """
    if problem.sum is None or d_total is None:
        return d_total, None
    if ct_total is not None:
        d_total = d_total.astype(problem.sum.wide) + ct_total.astype(problem.sum.wide)
    dtypes = (problem.sum.x, problem.sum.residual)
    return tuple(None if s is None else d_total.astype(d) for s, d in zip(shapes, dtypes))
