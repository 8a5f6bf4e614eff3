"""Sums over samples, and statistics spread over their samples again, written for the compiler.

Everything here that bets against XLA has a test on the compiled program, in
tests/stats/test_sums.py, which fails when the bet is lost. On CPU XLA

- pulls a repetition, which is a broadcast and a reshape, into the loop over the array that it
  meets. There the repetition costs an integer division per entry and all vector instructions. A
  reduction stays outside the loop, and XLA does not take a product, unlike a sum, for the seed of a
  library call: on CPU a repetition is a product with ones (`repeat`, `hold`);
- makes a library call of each sum over a whole array, and writes out as an array whatever several
  of these sums read. The branch of a condition that XLA cannot decide is compiled by itself: each
  sum in such a branch reads its inputs, and nothing is written (`sum_alone`, `sum_of_either`);
- is an order of magnitude slower on a view with one axis more that reduces axes and groups at once:
  whole axes are summed first, and groups are folded over the small result (`block_sum`);
- adds up a whole column in one chain before jax 0.10.1: long sums go in stages there.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive

from jaxnorm import _explicit, _internals
from jaxnorm.typing import AnyArray, Array, Numbers, Shape

LONGEST_SUM = 512  # terms that are added up one after the other
ONE_CHAIN = jax.__version_info__ < (0, 10, 1)  # whether XLA on CPU so adds up a whole column
MANY = 16  # entries of an axis that are worth a stage of their own

repeat_p = Primitive("jaxnorm_repeat")


def spread(statistic: AnyArray, shape: Shape) -> Array:
    """Returns `statistic` so that it broadcasts against an array of `shape`.

    Grouped axes are repeated to their full size. All others stay as they are.

    Args:
        statistic: [*stats_shape], or anything that broadcasts to it.
        shape: the array's shape.

    Returns:
        An array whose axes have size 1 or the size in `shape`, of the dtype of `statistic`.

    Examples:
        >>> spread(jnp.array([[1.0, 2.0]]), (8, 6))
        Array([[1., 1., 1., 2., 2., 2.]], dtype=float32)
    """
    for axis, (n, s) in enumerate(zip(shape, statistic.shape, strict=True)):
        if s not in (1, n):
            statistic = repeat(statistic, axis, n // s)
    return statistic


def repeat(statistic: AnyArray, axis: int, members: int) -> Array:
    """Returns each entry of `statistic` `members` times in a row along `axis`.

    Args:
        statistic: [*stats_shape].
        axis: the axis that grows, not negative.
        members: how often each entry is repeated.

    Returns:
        The same with `members` times the size along `axis`; linear, of any derivative.

    Examples:
        >>> repeat(jnp.array([1.0, jnp.nan]), 0, 2)
        Array([ 1.,  1., nan, nan], dtype=float32)
    """
    return repeat_p.bind(statistic, axis=axis, members=members)[0]


def hold(statistic: AnyArray) -> Array:
    """Returns `statistic`, on CPU as an array of its own wherever it is used.

    Args:
        statistic: [*stats_shape], computed of few numbers for a loop over many.

    Returns:
        The same; linear, of any derivative.

    Examples:
        >>> hold(jnp.array([1.0, jnp.nan]))
        Array([ 1., nan], dtype=float32)
    """
    return repeat_p.bind(statistic, axis=0, members=1)[0]


def block_sum(values: Numbers, stats_shape: Shape) -> Array:
    """Returns the sum of `values` over the sample of each statistic.

    Args:
        values: [*shape].
        stats_shape: the statistics shape.

    Returns:
        [*stats_shape], of the dtype of `values`.

    Examples:
        >>> block_sum(jnp.arange(8.0).reshape(2, 4), (1, 2))
        Array([[10., 18.]], dtype=float32)
    """
    return _fold(values, stats_shape, _axes_sum, jnp.sum)


def block_max(values: Numbers, stats_shape: Shape) -> Array:
    """Returns the largest of `values`, which are real, in the sample of each statistic.

    Args:
        values: [*shape], not empty.
        stats_shape: the statistics shape.

    Returns:
        [*stats_shape], of the dtype of `values`; NaN where the sample holds one.

    Examples:
        >>> block_max(jnp.arange(8.0).reshape(2, 4), (1, 2))
        Array([[5., 7.]], dtype=float32)
    """
    largest = functools.partial(jnp.max, keepdims=True)
    return _fold(values, stats_shape, lambda v, axes: largest(v, axis=axes), jnp.max)


def sum_alone(function: Callable[..., Array], shape: Shape, *arrays: Array) -> Array:
    """Returns the sums of `function(*arrays)`, compiled by themselves.

    Args:
        function: elementwise, its result float32.
        shape: the statistics shape: what is summed for each entry.
        *arrays: of one shape, floating, not empty.

    Returns:
        [*shape], float32.

    Examples:
        >>> sum_alone(jnp.square, (1, 2), jnp.array([[1.0, 2.0], [3.0, 4.0]]))
        Array([[10., 20.]], dtype=float32)
    """
    x = arrays[0]
    entry = lax.slice(x, (0,) * x.ndim, (1,) * x.ndim).astype(jnp.float32).reshape(())
    # XLA does not know that no number of 32 bits has more of them set.
    always = lax.population_count(lax.bitcast_convert_type(entry, jnp.int32)) <= 32
    stage = _first_stage(x.shape, shape)
    # Never computed, but like the sums it varies over the mesh axes that `x` varies over.
    never = jnp.broadcast_to(entry, stage)
    partial = lax.cond(always, _sums_of(function, stage), lambda *_: never, *arrays)
    return block_sum(partial, shape)


def sum_of_either(
    condition: Array,
    function: Callable[..., Array],
    other: Callable[..., Array],
    shape: Shape,
    *arrays: Array,
) -> Array:
    """Returns the sums of `function(*arrays)` if the condition holds, else of `other(*arrays)`.

    Args:
        condition: [], boolean.
        function: elementwise, its result float32.
        other: the same.
        shape: the statistics shape: what is summed for each entry.
        *arrays: of one shape.

    Returns:
        [*shape], float32.

    Examples:
        >>> sum_of_either(True, jnp.negative, jnp.square, (1,), jnp.array([1.0, 2.0]))
        Array([-3.], dtype=float32)
    """
    stage = _first_stage(arrays[0].shape, shape)
    partial = lax.cond(condition, _sums_of(function, stage), _sums_of(other, stage), *arrays)
    return block_sum(partial, shape)


def _fold(values: Numbers, stats_shape: Shape, over_axes: Callable, over_members: Callable):
    pairs = tuple(zip(values.shape, stats_shape, strict=True))
    total = over_axes(values, tuple(a for a, (n, s) in enumerate(pairs) if s == 1 and n != 1))
    for axis, (n, s) in enumerate(pairs):
        if s not in (1, n):
            if s % _explicit.shard_counts(total)[axis]:
                total = _explicit.replicated(total, [axis])  # its shards cut through groups
            split = (*total.shape[:axis], s, n // s, *total.shape[axis + 1 :])
            spec = list(_explicit.explicit_axes(total))
            spec.insert(axis + 1, None)
            total = over_members(_explicit.reshaped(total, split, spec), axis=axis + 1)
    return total


def _axes_sum(values: Numbers, axes: tuple[int, ...]) -> Array:
    """Returns the sum over `axes`, which keep the size 1."""
    sizes = [values.shape[a] for a in axes]
    known = all(isinstance(n, int) for n in sizes)  # not in a program with a symbolic batch
    short = not known or values.ndim - 1 in axes or math.prod(sizes) <= LONGEST_SUM
    if short or not ONE_CHAIN:
        return jnp.sum(values, axis=axes, keepdims=True) if axes else values
    return lax.platform_dependent(
        values,
        cpu=functools.partial(_sum_in_stages, axes=axes),
        default=functools.partial(jnp.sum, axis=axes, keepdims=True),
    )


def _sum_in_stages(values: Array, axes: tuple[int, ...]) -> Array:
    """Returns the sum over `axes`, one by one.

    The error of one chain grows with its length. XLA would also make one sum of two: every other
    stage is therefore a product with ones.
    """
    multiply = False
    for axis in reversed(axes):
        n = values.shape[axis]
        inner = _divisor_near_root(n) if n > LONGEST_SUM else n
        split = (*values.shape[:axis], n // inner, inner, *values.shape[axis + 1 :])
        values = values.reshape(split)
        for part in (axis + 1, axis):
            if values.shape[part] == 1:
                values = jnp.squeeze(values, part)
                continue
            if multiply:
                ones = jnp.ones(values.shape[part], values.dtype)
                values = jnp.tensordot(values, ones, (part, 0), precision=lax.Precision.HIGHEST)
            else:
                values = jnp.sum(values, axis=part)
            multiply = not multiply
        values = jnp.expand_dims(values, axis)
    return values


def _divisor_near_root(n: int) -> int:
    """Returns the largest divisor of `n` that is at most its square root.

    Examples:
        >>> _divisor_near_root(96), _divisor_near_root(97)
        (8, 1)
    """
    return next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)


def _sums_of(function: Callable[..., Array], shape: Shape) -> Callable[..., Array]:
    return lambda *arrays: block_sum(function(*arrays), shape)


def _first_stage(shape: Shape, stats_shape: Shape) -> Shape:
    """Returns the statistics shape of the sums that are taken first.

    Between a kept axis in front and channels behind, one reduced axis is summed at up to twice the
    speed of several. Few entries then remain to be summed.

    Examples:
        >>> _first_stage((8, 56, 56, 64), (8, 1, 1, 32)), _first_stage((8, 56, 64), (1, 1, 64))
        ((8, 56, 1, 64), (1, 1, 64))
    """
    reduced = [i for i, (n, s) in enumerate(zip(shape, stats_shape, strict=True)) if s == 1 < n]
    between = len(reduced) > 1 and reduced[0] > 0 and reduced[-1] < len(shape) - 1
    if not between or shape[reduced[-1]] < MANY:
        return stats_shape
    return tuple(1 if axis == reduced[-1] else n for axis, n in enumerate(shape))


def _plain_repeat(statistic, *, axis: int, members: int):
    before, n, after = statistic.shape[:axis], statistic.shape[axis], statistic.shape[axis + 1 :]
    wide = jnp.broadcast_to(jnp.expand_dims(statistic, axis + 1), (*before, n, members, *after))
    spec = _explicit.explicit_axes(statistic)
    return [_explicit.reshaped(wide, (*before, n * members, *after), spec)]


def _repeat_outside(statistic, *, axis: int, members: int):
    (wide,) = _plain_repeat(statistic, axis=axis, members=members)
    if not jnp.issubdtype(wide.dtype, jnp.inexact):
        return [wide]
    wide = jnp.expand_dims(wide, -1)
    first = lax.broadcasted_iota(jnp.int32, (1,) * (wide.ndim - 1) + (2,), wide.ndim - 1) == 0
    return [jnp.prod(jnp.where(first, wide, jnp.ones((), wide.dtype)), axis=-1)]


def _repeated_shape(statistic, *, axis: int, members: int):
    n = statistic.shape[axis]
    shape = (*statistic.shape[:axis], n * members, *statistic.shape[axis + 1 :])
    return [statistic.update(shape=shape, weak_type=False)]


def _sum_of_repeated(cotangents, statistic, *, axis: int, members: int):
    (cotangent,) = cotangents
    if type(cotangent) is _internals.Zero:
        return [_internals.Zero(statistic.aval)]
    return [block_sum(cotangent, statistic.aval.shape)]


def _repeat_moved(primals, tangents, **params):
    (statistic,), (moved,) = primals, tangents
    out = repeat_p.bind(statistic, **params)
    if type(moved) is _internals.Zero:
        return out, [_internals.Zero(jax.typeof(out[0]))]
    return out, repeat_p.bind(moved, **params)


def _repeat_mapped(operands, dims, *, axis: int, members: int):
    statistic = jnp.moveaxis(operands[0], dims[0], 0)
    return repeat_p.bind(statistic, axis=axis + 1, members=members), [0]


_internals.define(
    repeat_p,
    shapes=_repeated_shape,
    plain=_plain_repeat,
    batch=_repeat_mapped,
    jvp=_repeat_moved,
    transpose=_sum_of_repeated,
)
_internals.lower(repeat_p, "cpu", _internals.traced(_repeat_outside))
