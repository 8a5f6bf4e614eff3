"""The formulas without a branch on the data: for GPU, for TPU, and for small arrays on CPU.

A branch on the data costs an accelerator a wait for the host, and where XLA takes both sides it
costs a pass over memory. On CPU it costs microseconds. In place of one, squares are summed in two
or three units at a time, and the sums that neither overflow nor vanish are chosen at the end (Blue,
A portable Fortran program to find the Euclidean norm of a vector, ACM TOMS 4(1), 1978). What XLA
makes of each form was counted with its compilers for H100 and TPU, by tests/aot/test_counts.py and
`experiments bench --aot`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxnorm.numerics import accumulation_dtype, sum_of_two
from jaxnorm.ops import _formulas
from jaxnorm.ops._blocks import in_blocks
from jaxnorm.ops._formulas import Problem
from jaxnorm.ops._operands import filled
from jaxnorm.ops._primitives import outputs
from jaxnorm.ops.kernels import _closed_form
from jaxnorm.stats import sample_size
from jaxnorm.stats.measuring import Measured, centered
from jaxnorm.stats.sampling import Sampling
from jaxnorm.stats.shapes import median_member
from jaxnorm.stats.sums import block_max, block_sum, spread
from jaxnorm.typing import Array, Shape

SMALL = 1 << 11  # entries up to which one pass, taken entry by entry, is faster on CPU
MANY_COLUMNS = 1 << 13
ENOUGH = 16  # terms of a first stage
PARTS = 16  # at most, a power of two as the number of devices that share an axis mostly is
LANES = 128  # of a TPU: it reads at least so many neighbours


class Form(NamedTuple):
    """What XLA for one platform is better told."""

    pivots: Callable[[Array, Shape], Array]  # a member of each sample that no outlier is
    together: int  # how many sums one reduction takes
    in_stages: bool  # whether sums of few columns go in two stages
    looped: int  # terms up to which a sum of columns is no program of its own
    tail_in_bias: bool  # whether in groups y has the tail of the mean from its bias


def _median_member(x: Array, stats_shape: Shape) -> Array:
    return median_member(x, stats_shape, accumulation_dtype(x.dtype))


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
        >>> serves(Problem(Sampling((1,), variance="fast"), 0.0, jnp.float32), jnp.ones(3), (), ())
        'they take one pass over x, about a member of the sample'
    """
    if problem.sampling.variance != "one_pass":
        return "they take one pass over x, about a member of the sample"
    return None


def standardize(*operands, problem: Problem, has, form: Form, blocks: int = 1) -> list:
    """Returns what `_primitives.plain_standardize` does, to rounding.

    Args:
        *operands: those of a bare problem.
        problem: describes the standardization.
        has: which operands are there.
        form: that of the platform.
        blocks: how many of the first axis have moments of their own, which are pooled.
    """
    x, _, scale, bias, _ = filled(has, operands)
    measured = _measured(problem, x, form, blocks)
    rstd = _formulas.reciprocal_std(measured, problem.epsilon, empty=False)
    gain, shift = spread(rstd, x.shape), bias
    gain = gain if scale is None else gain * scale
    location = (measured.mean, measured.tail) if problem.center else (None, None)
    if problem.center and form.tail_in_bias and has_groups(x.shape, problem.stats_shape):
        location = measured.mean, None
        shift = -spread(measured.tail, x.shape) * gain
        shift = shift if bias is None else bias + shift
    y = _formulas.affine(centered(x, None, *location), gain, None, shift)
    return outputs(problem, y.astype(problem.dtype), measured, rstd)


def _measured(problem: Problem, x: Array, form: Form, blocks: int) -> Measured:
    def measure(sampling: Sampling, x: Array, _) -> Measured:
        return measure_once(problem._replace(sampling=sampling), x, form)

    return in_blocks(measure, problem.sampling, x, None, blocks)


def cotangent(*operands, problem: Problem, has, shapes, form: Form) -> list:
    """Returns what `_primitives.plain_cotangent` does, to rounding."""
    sums = functools.partial(_Sums, form)
    return _closed_form.cotangent(sums, *operands, problem=problem, has=has, shapes=shapes)


def measure_once(problem: Problem, x: Array, form: Form) -> Measured:
    """Returns the moments of `x` from one pass over it.

    Args:
        problem: describes the standardization.
        x: [*shape].
        form: that of the platform.

    Returns:
        `Measured` of the statistics shape.

    Examples:
        >>> from jaxnorm.stats.sampling import Sampling
        >>> problem = Problem(Sampling((1,)), 0.0, jnp.dtype(jnp.float32))
        >>> measured = measure_once(problem, jnp.array([-1e30, 1e30, -1e30, 1e30]), TPU)
        >>> jnp.sqrt(measured.var) * measured.unit
        Array([1.e+30], dtype=float32)
    """
    stats_shape, count = problem.stats_shape, sample_size(x.shape, problem.stats_shape)
    deviation = x.astype(accumulation_dtype(x.dtype))
    pivot = jnp.zeros(stats_shape, deviation.dtype)
    if problem.center:
        pivot = form.pivots(x, stats_shape)
        deviation = deviation - spread(pivot, x.shape)
    units = _units(problem, x.dtype)
    terms = [_square(deviation, unit) for unit in units]
    terms += [deviation * (1 / count)] * problem.center
    sums = _sums_together(terms, stats_shape, form)
    squares = [total * (1 / count) for total in sums[: len(units)]]
    mean, tail, variances = pivot, pivot, squares
    if problem.center:
        offset = sums[-1]
        mean, tail = sum_of_two(pivot, offset)
        variances = [jnp.maximum(s - _square(offset, u), 0) for s, u in zip(squares, units)]
    var, unit = _in_range(squares[0], variances, units)
    return Measured(mean, tail, var, unit, jnp.asarray(count, var.dtype))


def mean_square(problem: Problem, deviation: Array, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Returns the mean square behind each statistic, each sum by itself.

    Args:
        problem: describes the standardization.
        deviation: [*shape], float32 or wider.
        dtype: of x, whose deviation it is.

    Returns:
        The mean square in squared units, and the unit, a power of two, both of [*stats_shape].

    Examples:
        >>> from jaxnorm.stats.sampling import Sampling
        >>> problem = Problem(Sampling((1,)), 0.0, jnp.dtype(jnp.float32))
        >>> square, unit = mean_square(problem, jnp.array([-1e30, 1e30]), jnp.float32)
        >>> jnp.sqrt(square) * unit
        Array([1.e+30], dtype=float32)
    """
    units, count = _units(problem, dtype), sample_size(deviation.shape, problem.stats_shape)
    squares = [block_sum(_square(deviation, u), problem.stats_shape) * (1 / count) for u in units]
    return _in_range(squares[0], squares, units)


def serves_small(problem: Problem, x: Any, parameters: tuple, cotangents: tuple) -> str | None:
    """Returns why `x` is not small enough for one pass on CPU, or None.

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
        >>> serves_small(problem, jnp.ones((8, 1024)), (), ())
        'x has more than 2048 entries'
    """
    if math.prod(x.shape) > SMALL:
        return f"x has more than {SMALL} entries"
    return serves(problem, x, parameters, cotangents)


def has_groups(shape: Shape, stats_shape: Shape) -> bool:
    """Returns whether an axis is cut into groups.

    Examples:
        >>> has_groups((2, 6), (2, 3)), has_groups((2, 6), (2, 1))
        (True, False)
    """
    return any(s not in (1, n) for n, s in zip(shape, stats_shape, strict=True))


def _units(problem: Problem, dtype: jnp.dtype) -> list[float]:
    """Returns the powers of two in whose squares sums are taken, one first.

    Squares of float16 neither overflow nor vanish in float32. Beside an epsilon that is a normal
    number it does not matter which squares vanish.
    """
    if jnp.finfo(dtype).bits <= 16 and jnp.finfo(dtype).maxexp <= 16:
        return [1.0]
    info = jnp.finfo(accumulation_dtype(dtype))
    large = 2.0 ** (info.maxexp * 5 // 8)
    assert problem.epsilon is not None  # the primitives take numbers
    smaller = [1 / large] if problem.epsilon < _smallest(info.dtype) else []
    return [1.0, large, *smaller]


def _smallest(dtype: jnp.dtype) -> float:
    """Returns the mean of squares below which too many of them may have vanished."""
    return float(jnp.finfo(dtype).tiny) / float(jnp.finfo(dtype).eps)


def _square(values: Array, unit: float) -> Array:
    scaled = values if unit == 1 else values * (1 / unit)
    return scaled * scaled


def _in_range(ordinary: Array, variances: list[Array], units: list[float]) -> tuple[Array, Array]:
    """Returns the variance that neither overflowed nor vanished, and its unit.

    Args:
        ordinary: [*stats_shape], the mean square in the unit one.
        variances: [*stats_shape] for each of `units`.
        units: as `_units` returns them.
    """
    var, unit = variances[0], jnp.ones_like(ordinary)
    if len(units) > 1:
        overflowed = ~(ordinary <= float(jnp.finfo(ordinary.dtype).max))
        var, unit = jnp.where(overflowed, variances[1], var), jnp.where(overflowed, units[1], unit)
    if len(units) > 2:
        vanished = ordinary < _smallest(ordinary.dtype)
        var, unit = jnp.where(vanished, variances[2], var), jnp.where(vanished, units[2], unit)
    return var, unit


def _largest_of_parts(x: Array, stats_shape: Shape) -> Array:
    """Returns a member of each sample that a single outlier cannot be.

    The median of the largest entries of three parts. For single entries XLA for TPU would lay out
    the whole array anew.
    """
    parts = _parts(x.shape, stats_shape)
    if parts is None:
        return _median_member(x, stats_shape)
    low, middle, high = (
        block_max(lax.slice(x, *part).astype(accumulation_dtype(x.dtype)), stats_shape)
        for part in parts
    )
    return jnp.maximum(jnp.minimum(low, middle), jnp.minimum(jnp.maximum(low, middle), high))


def _parts(shape: Shape, stats_shape: Shape) -> list[tuple] | None:
    """Returns the slices of three disjoint parts of each sample, or None where there are none.

    Along the last axis all three are within the first lanes, which are read at once.
    """
    reduced = [s == 1 < n for n, s in zip(shape, stats_shape, strict=True)]
    lanes = len(shape) - 1
    widest = [axis for axis in range(lanes) if reduced[axis]][-1:]
    spans, sizes = list(shape), list(shape)
    for axis in (axis for axis, cut in enumerate(reduced) if cut):
        spans[axis] = min(LANES, shape[axis]) if axis == lanes else shape[axis]
        sizes[axis] = 1
        if axis in (lanes, *widest):
            sizes[axis] = min(LANES, max(spans[axis] // 3, 1))
    if all(3 * size > span for size, span, cut in zip(sizes, spans, reduced) if cut):
        return None
    starts = [
        [(span - size) * third // 2 for span, size in zip(spans, sizes, strict=True)]
        for third in range(3)
    ]
    return [(start, [a + b for a, b in zip(start, sizes, strict=True)]) for start in starts]


def _sums_together(terms: list[Array], stats_shape: Shape, form: Form) -> list[Array]:
    """Returns the sums of each of `terms`; XLA is told which ones to take in one pass."""
    shape = terms[0].shape
    axes = [axis for axis, (n, s) in enumerate(zip(shape, stats_shape)) if s == 1 < n]
    in_stages = form.in_stages and _has_few_columns(shape, axes)
    parts = _parts_of_first_axis(shape, axes) if in_stages else 1
    if parts > 1:
        return _sums_of_parts(terms, stats_shape, axes, parts, form)
    first = _first_axes(shape, axes) if in_stages else axes
    sums = _sums_over(terms, first, form)
    if first != axes and not has_groups(shape, stats_shape):
        sums = lax.optimization_barrier(sums)  # XLA would make one sum of two
        rest = [axis for axis in axes if axis not in first]
        sums = _sums_over(sums, rest, form._replace(together=len(sums)))
    return _folded(sums, stats_shape)


def _folded(sums: list[Array], stats_shape: Shape) -> list[Array]:
    """Returns sums of whole axes, of which members of groups are added up."""
    if sums[0].shape == tuple(stats_shape):
        return sums
    return list(block_sum(jnp.stack(sums), (len(sums), *stats_shape)))


def _sums_of_parts(
    terms: list[Array], stats_shape: Shape, axes: list[int], parts: int, form: Form
) -> list[Array]:
    """Returns the sums of each of `terms`, whose first summed axis is cut into parts."""
    shape, axis = terms[0].shape, axes[0]
    cut = (*shape[:axis], parts, shape[axis] // parts, *shape[axis + 1 :])
    sums = _sums_over([v.reshape(cut) for v in terms], [a + 1 for a in axes], form)
    sums = [jnp.squeeze(v, axis + 1) for v in sums]
    sums = lax.optimization_barrier(sums)  # XLA would make one sum of two
    if has_groups(shape, stats_shape):
        return _folded(sums, stats_shape)
    return _sums_over(sums, [axis], form)


def _has_few_columns(shape: Shape, axes: list[int]) -> bool:
    """Returns whether sums over axes are sums of columns, so few that they go in stages.

    Sums of columns keep as many processors of a GPU busy as there are columns. Where these are few
    XLA writes the terms to memory first.
    """
    return bool(axes) and len(shape) - 1 not in axes and _columns(shape, axes) < MANY_COLUMNS


def _columns(shape: Shape, axes: list[int]) -> int:
    return math.prod(n for axis, n in enumerate(shape) if axis not in axes)


def _parts_of_first_axis(shape: Shape, axes: list[int]) -> int:
    """Returns into how many parts the first summed axis is cut, one where it is not.

    So few parts remain that they are added up where the statistics are computed.
    """
    terms = math.prod(shape[axis] for axis in axes)
    parts = math.gcd(shape[axes[0]], PARTS)
    enough = _columns(shape, axes) * parts >= MANY_COLUMNS and terms // parts >= ENOUGH
    return parts if enough else 1


def _first_axes(shape: Shape, axes: list[int]) -> list[int]:
    """Returns the axes that are summed first: the last that are enough."""
    for i in range(len(axes) - 1, 0, -1):
        if math.prod(shape[axis] for axis in axes[i:]) >= ENOUGH:
            return axes[i:]
    return axes


def _sums_over(terms: list[Array], axes: list[int], form: Form) -> list[Array]:
    """Returns the sums of each of `terms` over whole axes, several in one reduction."""
    together = form.together
    if together == 1 or math.prod(terms[0].shape[axis] for axis in axes) <= form.looped:
        return [jnp.sum(term, axis=axes, keepdims=True) for term in terms]

    def add(a: tuple, b: tuple) -> tuple:
        return tuple(u + v for u, v in zip(a, b, strict=True))

    totals: list[Array] = []
    for i in range(0, len(terms), together):
        some = tuple(terms[i : i + together])
        zeros = (jnp.zeros((), some[0].dtype),) * len(some)
        totals += lax.reduce(some, zeros, add, axes)
    return [jnp.expand_dims(total, axes) for total in totals]


# A program for GPU has shared memory for two sums of columns. XLA for TPU takes all in one pass.
GPU = Form(_median_member, together=2, in_stages=True, looped=31, tail_in_bias=True)
TPU = Form(_largest_of_parts, together=1, in_stages=False, looped=0, tail_in_bias=False)
CPU = Form(_median_member, together=4, in_stages=False, looped=0, tail_in_bias=False)


class _Sums:
    """Sums over a cotangent, those over the same samples in one pass."""

    def __init__(self, form: Form, x, mean, tail, rstd, ct):
        self.form, self.x, self.mean, self.tail, self.rstd = form, x, mean, tail, rstd
        self.ct = ct.astype(accumulation_dtype(ct.dtype))

    def pair(self, shape: Shape, weight: Array | None = None) -> list[Array]:
        """Returns the sums of `weight ct` and of `weight ct xhat`, of [*shape]."""
        ct = self.ct if weight is None else self.ct * weight
        # Most are summed further, over what shares a scale: XLA would make one sum of both.
        form = self.form._replace(looped=0)
        return _sums_together([ct, ct * self.held_standardized()], shape, form)

    def across(self, shape: Shape) -> list[Array]:
        """Returns the sums of `ct` and of `ct xhat`, of [*shape], over several samples."""
        return self.pair(shape)

    def held_standardized(self) -> Array:
        """Returns xhat of the whole array."""
        deviation = centered(self.x, None, self.mean, self.tail)
        return deviation * spread(self.rstd, self.x.shape)
