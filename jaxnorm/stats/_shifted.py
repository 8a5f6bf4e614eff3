"""Means and variances that keep their digits, with their derivative.

Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician, 1983.

Every sum runs over `d = x - pivot`, where the pivot is a member of the sample: with a mean far from
zero `E[x^2] - E[x]^2` loses all digits, and a mean rounded to float32 is itself off by half a unit
in its last place, however exact the variance. A mean is therefore kept as the unevaluated sum
`pivot + offset`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm.numerics import accumulation_dtype, real_dtype
from jaxnorm.stats import _collectives, _shapes
from jaxnorm.stats._sampling import Sampling, settled
from jaxnorm.typing import Array, AxisIndexGroups, AxisName, Shape


class ShiftedMoments(NamedTuple):
    """Moments of a sample about a pivot, `mean = pivot + offset`.

    Shards of one sample have each a pivot and an offset of their own.
    """

    pivot: Array  # [*stats_shape], a member of the sample
    offset: Array  # [*stats_shape], the sample's mean minus the pivot
    mean: Array  # [*stats_shape]
    var: Array  # [*stats_shape]
    count: Array  # [] or [*stats_shape]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def shifted_moments(sampling: Sampling, x: Array, w: Array | None) -> ShiftedMoments:
    """Returns the moments of `x` about a pivot; the rule below is their derivative.

    Args:
        sampling: checked by `check_sampling`.
        x: [*shape].
        w: weights of the rank of `x`, or None.

    Returns:
        `ShiftedMoments`, float32 or wider.

    Examples:
        >>> import jax.numpy as jnp
        >>> shifted_moments(Sampling((1,)), jnp.array([1e6, 1e6 + 1]), None).offset
        Array([-0.5], dtype=float32)
    """
    block = _block_moments(sampling, x, w)
    if sampling.axis_name is None:
        return block
    parts = gather_shards(block, sampling.axis_name, sampling.axis_index_groups)
    whole = jax.tree.map(lambda v: v[0], pool_shifted(parts, (1, *sampling.stats_shape)))
    # The common mean seen from each shard's own pivot: nearby floats subtract without rounding.
    offset = (whole.pivot - block.pivot) + whole.offset
    return whole._replace(pivot=block.pivot, offset=offset)


@functools.partial(shifted_moments.defjvp, symbolic_zeros=True)
def _shifted_moments_jvp(sampling, primals, tangents):
    x, w = primals
    taken = shifted_moments(sampling, x, w)
    tangents = present(tangents)

    @jax.checkpoint
    def tangent(x, w, offset, var, count, tangents):
        d_x, d_w = tangents
        d_x = None if d_x is None else settled(d_x, x, w)
        deviation = centered(sampling, x, w, offset)
        return moments_tangent(sampling, deviation, w, var, count, (d_x, d_w))

    d_mean, d_var, d_count = tangent(x, w, taken.offset, taken.var, taken.count, tangents)
    # The offset, like its pivot, is this shard's own, although its tangent is that of the mean.
    still = jnp.zeros_like(taken.pivot)
    return taken, ShiftedMoments(still, still + d_mean, d_mean, d_var, d_count)


def pivots(x: Array, w: Array | None, stats_shape: Shape) -> Array:
    """Returns a member of each sample, as a constant for derivatives.

    Args:
        x: [*shape].
        w: weights of the rank of `x`, or None; a pivot has positive weight.
        stats_shape: the statistics shape.

    Returns:
        [*stats_shape], float32 or wider; zero where a sample is empty.

    Examples:
        >>> import jax.numpy as jnp
        >>> pivots(jnp.array([7.0, 8.0]), jnp.array([0.0, 1.0]), (1,))
        Array([8.], dtype=float32)
    """
    x, dtype = lax.stop_gradient(x), accumulation_dtype(x.dtype)
    if w is not None or x.size == 0:
        valid = jnp.ones((1,) * x.ndim, bool) if w is None else w > 0
        return _shapes.first_member(x, stats_shape, valid).astype(dtype)
    return _shapes.median_member(x, stats_shape, dtype)


def centered(sampling: Sampling, x: Array, w: Array | None, offset: Array) -> Array:
    """Returns `x` minus its mean, without rounding the mean to the grid of `x`.

    Args:
        sampling: how `offset` was taken.
        x: [*shape].
        w: weights of the rank of `x`, or None.
        offset: [*stats_shape], the mean minus the pivot.

    Returns:
        [*shape], float32 or wider; `x` itself where the statistics are not centred. Entries outside
        the sample that are not finite count as zero.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([1e6, 1e6 + 1])
        >>> centered(Sampling((1,)), x, None, jnp.array([-0.5]))
        Array([-0.5,  0.5], dtype=float32)
    """
    wide = settled(x, x, w).astype(accumulation_dtype(x.dtype))
    if not sampling.center:
        return wide
    if sampling.variance != "fast":
        wide = wide - _shapes.spread(pivots(x, w, sampling.stats_shape), x.shape)
    return wide - _shapes.spread(offset, x.shape)


def present(tangents: tuple) -> tuple:
    """Returns `tangents` with None for those that are zero whatever the input."""
    zero = jax.custom_derivatives.SymbolicZero
    return tuple(None if isinstance(t, zero) else t for t in tangents)


def moments_tangent(sampling, deviation, w, var, count, tangents):
    """Returns the tangents of mean, variance and count, linear in `tangents = (dx, dw)`.

    `d mean = sum(w dx + dw (x - mean)) / sum(w)` and
    `d var = sum(2 w Re(conj(x - mean) dx) + dw (|x - mean|^2 - var)) / sum(w)`;
    a tangent that is None is zero.
    """
    d_x, d_w = tangents
    shape = deviation.shape
    pull = push = jnp.zeros((), deviation.dtype)
    if d_x is not None:
        push = d_x.astype(deviation.dtype)
        pull = 2 * _real_product(deviation, push)
        if w is not None:
            push, pull = w * push, w * pull
    if d_w is not None:
        push = push + d_w * deviation
        pull = pull + d_w * (_real_product(deviation, deviation) - _shapes.spread(var, shape))
    sums = [pull, push] if sampling.center else [pull]
    if d_w is not None:
        sums.append(d_w)
    sums = [_shapes.block_sum(jnp.broadcast_to(v, shape), sampling.stats_shape) for v in sums]
    if sampling.axis_name is not None:
        sums = lax.psum(sums, sampling.axis_name, axis_index_groups=sampling.axis_index_groups)
    share = 1 / jnp.where(count > 0, count, 1)
    d_var = sums[0] * share
    d_mean = sums[1] * share if sampling.center else jnp.zeros(var.shape, deviation.dtype)
    d_count = sums[-1] if d_w is not None else jnp.zeros_like(count)
    return d_mean, d_var, d_count


def _real_product(a: Array, b: Array) -> Array:
    """Returns `Re(conj(a) b)`."""
    if jnp.iscomplexobj(a):
        return a.real * b.real + a.imag * b.imag
    return a * b


def _block_moments(sampling: Sampling, x: Array, w: Array | None) -> ShiftedMoments:
    stats_shape = sampling.stats_shape
    dtype = accumulation_dtype(x.dtype)
    real = real_dtype(dtype)
    if w is None:
        count = jnp.asarray(_shapes.sample_size(x.shape, stats_shape), real)
    else:
        count = _shapes.block_sum(jnp.broadcast_to(w, x.shape), stats_shape)
    share = 1 / jnp.where(count > 0, count, 1)

    def average(values):
        return _shapes.block_sum(values if w is None else w * values, stats_shape) * share

    zeros = jnp.zeros(stats_shape, dtype)
    pivot = zeros
    deviation = settled(x, x, w).astype(dtype)
    if sampling.center and sampling.variance != "fast":
        pivot = pivots(x, w, stats_shape)
        deviation = deviation - _shapes.spread(pivot, x.shape)
    offset = average(deviation) if sampling.center else zeros
    # The first valid entry may be an outlier, which the median of three without weights cannot.
    outlying = w is not None and sampling.variance == "one_pass"
    if sampling.center and (sampling.variance == "two_pass" or outlying):
        deviation = deviation - _shapes.spread(offset, x.shape)
        var = average(_real_product(deviation, deviation))
    else:
        var = average(_real_product(deviation, deviation)) - _real_product(offset, offset)
        var = jnp.maximum(var, 0)
    return ShiftedMoments(pivot, offset, pivot + offset, var, count)


def pool_shifted(parts: ShiftedMoments, stats_shape: Shape) -> ShiftedMoments:
    """Returns the union of the samples in `parts`, about the pivot of the first non-empty one."""
    shape = parts.pivot.shape
    n = jnp.broadcast_to(parts.count, shape)
    pivot = _shapes.first_member(parts.pivot, stats_shape, n > 0)
    mean = (parts.pivot - _shapes.spread(pivot, shape)) + parts.offset
    total = _shapes.block_sum(n, stats_shape)
    share = 1 / jnp.where(total > 0, total, 1)
    offset = _shapes.block_sum(n * mean, stats_shape) * share
    between = mean - _shapes.spread(offset, shape)
    within = n * (parts.var + _real_product(between, between))
    var = _shapes.block_sum(within, stats_shape) * share
    return ShiftedMoments(pivot, offset, pivot + offset, var, total)


def gather_shards(
    block: ShiftedMoments, axis_name: AxisName, axis_index_groups: AxisIndexGroups
) -> ShiftedMoments:
    """Returns every shard's moments along a new first axis, with one collective."""
    shape = block.pivot.shape
    count = jnp.broadcast_to(block.count, shape)
    var = jnp.broadcast_to(block.var, shape)
    rows = [block.pivot, block.offset, var, count]
    dtype = jnp.result_type(*rows)
    packed = jnp.stack([row.astype(dtype) for row in rows])
    everyone = _collectives.gather(packed, axis_name, axis_index_groups)
    pivot, offset, var, count = jnp.moveaxis(everyone, 1, 0)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        var, count = var.real, count.real
    return ShiftedMoments(pivot, offset, pivot + offset, var, count)
