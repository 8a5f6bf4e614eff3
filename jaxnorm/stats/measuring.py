"""Means and variances that keep their digits, at any offset and for every size of the data.

Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician, 1983.

Every sum runs over `d = x - pivot`, where the pivot is a member of the sample. With a mean far from
zero `E[x^2] - E[x]^2` loses all digits. A mean rounded to float32 is itself off by half a unit in
its last place, however exact the variance: the mean is kept as the unevaluated sum `mean + tail`.

Where squares overflow or vanish, the sums are taken again over `d / unit`, the unit being a power
of two of the size of the largest `d`, so that the division is exact.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive

from jaxnorm import _explicit, _internals
from jaxnorm.numerics import accumulation_dtype, finite, power_of_two, real_dtype, sum_of_two
from jaxnorm.stats import _collectives, shapes
from jaxnorm.stats.sampling import Sampling, settled
from jaxnorm.stats.sums import block_max, block_sum, spread
from jaxnorm.typing import Array, Shape

rescue_p = Primitive("jaxnorm_rescue")


class Measured(NamedTuple):
    """The moments of a sample, the variance in squared units.

    Examples:
        >>> measured = measure(Sampling((1,)), jnp.array([-(2.0**100), 2.0**100]), None)
        >>> (measured.var * (measured.unit / 2.0**100) ** 2).tolist()
        [1.0]
    """

    mean: Array  # [*stats_shape], the mean is mean + tail
    tail: Array  # [*stats_shape]
    var: Array  # [*stats_shape], in squared units
    unit: Array  # [*stats_shape], a power of two, 1 unless the data are very large or very small
    count: Array  # [] or [*stats_shape]


def measure(
    sampling: Sampling, x: Array, w: Array | None, epsilon: float | Array | None = None
) -> Measured:
    """Returns the moments of `x`; `moments_tangent` is their derivative.

    Args:
        sampling: checked by `check_sampling`.
        x: [*shape].
        w: weights of the rank of `x`, or None.
        epsilon: added to the variance before its root is divided by, so that smaller variances do
            not matter; None where nothing is divided by it.

    Returns:
        `Measured`, float32 or wider.

    Examples:
        >>> measured = measure(Sampling((1,)), jnp.array([2.0**24, 2.0**24 + 2]), None)
        >>> measured.mean - 2.0**24, measured.tail
        (Array([0.], dtype=float32), Array([1.], dtype=float32))
    """
    return pool_shards(_measure_block(sampling, x, w, epsilon), sampling)


def pool_shards(block: Measured, sampling: Sampling) -> Measured:
    """Returns the union of the samples of all shards, with one collective.

    Args:
        block: this shard's, of [*stats_shape].
        sampling: names the mapped axes; without any, `block` is all there is.

    Returns:
        `Measured` of [*stats_shape], the same on every shard.

    Examples:
        >>> import jax
        >>> sampling = Sampling((1,), axis_name="a")
        >>> run = lambda x: pool_shards(measure(Sampling((1,)), x, None), sampling).mean
        >>> jax.vmap(run, axis_name="a")(jnp.array([[1.0], [3.0]])).ravel()
        Array([2., 2.], dtype=float32)
    """
    if sampling.axis_name is None:
        return block
    gather = functools.partial(
        _collectives.gather_rows,
        axis_name=sampling.axis_name,
        axis_index_groups=sampling.axis_index_groups,
    )
    return pool_gathered(block, sampling.center, sampling.stats_shape, gather)


def pool_gathered(
    block: Measured, center: bool, stats_shape: Shape, gather: Callable[[list[Array]], list[Array]]
) -> Measured:
    """Returns the union of samples whose parts lie on several shards, which one call brings here.

    Args:
        block: this shard's, of [*shape]. A count of lower rank is the same on all shards.
        center: whether the mean is subtracted; if not, means are zero and stay where they are.
        stats_shape: the statistics shape of what is returned.
        gather: takes arrays [*shape] and returns those of all shards, as `pool_measured` has them.

    Returns:
        `Measured` of `stats_shape`, the same on every shard.

    Examples:
        >>> block = Measured(*jnp.zeros((2, 1)), *jnp.ones((2, 1)), jnp.array(4.0))
        >>> pool_gathered(block, True, (1,), lambda rows: [jnp.stack([v, v]) for v in rows]).count
        Array([8.], dtype=float32)
    """
    names = ["mean", "tail"] * center + ["var", "unit"]
    names += ["count"] * (block.count.ndim == block.var.ndim)
    everyone = dict(zip(names, gather([getattr(block, name) for name in names]), strict=True))
    zeros = jnp.zeros_like(everyone["var"])
    return pool_measured(block._replace(**{"mean": zeros, "tail": zeros, **everyone}), stats_shape)


def pool_measured(parts: Measured, stats_shape: Shape) -> Measured:
    """Returns the union of the samples in `parts` (Chan, Golub, LeVeque 1983, equation 2.1).

    Args:
        parts: of [*shape], or of [shards, *shape], whose first axis is pooled then.
        stats_shape: the statistics shape of what is returned.

    Returns:
        `Measured` of `stats_shape`.

    Examples:
        >>> two = Measured(jnp.array([1.0, 3.0]), *jnp.zeros((2, 2)), *jnp.ones((2, 2)))
        >>> pool_measured(two, (1,)).var
        Array([1.], dtype=float32)
    """
    stacked = parts.mean.ndim > len(stats_shape)
    to = (1, *stats_shape) if stacked else stats_shape
    shape = parts.mean.shape
    n = jnp.broadcast_to(parts.count, shape)
    # A count for all asks for no search.
    valid = n > 0 if parts.count.ndim else jnp.reshape(parts.count > 0, (1,) * len(shape))
    pivot = lax.stop_gradient(shapes.first_member(parts.mean, to, valid))
    # Nearby floats subtract without rounding.
    distance = (parts.mean - spread(pivot, shape)) + parts.tail
    distance = jnp.where(n > 0, distance, 0)
    total = block_sum(n, to)
    share = n / spread(jnp.where(total > 0, total, 1), shape)
    std = jnp.where(n > 0, jnp.sqrt(lax.stop_gradient(parts.var)) * parts.unit, 0)
    unit = power_of_two(block_max(lax.stop_gradient(jnp.maximum(std, _magnitude(distance))), to))
    scaled = distance / spread(unit, shape)
    mean, tail = sum_of_two(pivot, block_sum(share * distance, to))
    offset = block_sum(share * scaled, to)
    between = scaled - spread(offset, shape)
    ratio = parts.unit / spread(unit, shape)
    within = jnp.where(n > 0, parts.var * ratio * ratio, 0)
    var = block_sum(share * (within + real_product(between, between)), to)
    # Where all lies within the ordinary range the unit stays 1, and var the variance itself.
    ordinary = (parts.unit == 1) | (n == 0)
    plain = block_max(jnp.where(ordinary, 0.0, 1.0), to) == 0
    plain &= finite(var * unit * unit)
    var, unit = jnp.where(plain, var * unit * unit, var), jnp.where(plain, 1, unit)
    pooled = Measured(mean, tail, var, unit, total)
    return Measured(*(v[0] for v in pooled)) if stacked else pooled


def centered(x: Array, w: Array | None, mean: Array | None, tail: Array | None) -> Array:
    """Returns `x` minus its mean, without rounding the mean to the grid of `x`.

    Args:
        x: [*shape].
        w: weights of the rank of `x`, or None.
        mean: [*stats_shape]; None where nothing is centred.
        tail: [*stats_shape], or None for zero.

    Returns:
        [*shape], float32 or wider; `x` itself where nothing is centred. Entries outside the sample
        that are not finite count as zero.

    Examples:
        >>> x = jnp.array([1e8, 1e8 + 8])
        >>> centered(x, None, jnp.array([1e8]), jnp.array([4.0]))
        Array([-4.,  4.], dtype=float32)
    """
    wide = settled(x, x, w).astype(accumulation_dtype(x.dtype))
    if mean is None:
        return wide
    deviation = wide - spread(mean, x.shape)
    return deviation if tail is None else deviation - spread(tail, x.shape)


def moments_tangent(sampling, deviation, w, var, count, tangents, gain):
    """Returns the tangents of mean, variance (`gain / 2` of it) and count, linear in (dx, dw).

    `d mean = sum(w dx + dw (x - mean)) / sum(w)` and
    `d var = sum(2 w Re(conj(x - mean) dx) + dw (|x - mean|^2 - var)) / sum(w)`; a tangent that is
    None is zero. Nothing is squared that may overflow: deviation and variance come without a unit.

    Args:
        sampling: how the moments were taken.
        deviation: [*shape], `gain (x - mean)`.
        w: weights of the rank of `x`, or None.
        var: [*stats_shape], `gain^2 var`; not looked at where weights stand still.
        count: [] or [*stats_shape].
        tangents: of `x` and of the weights, each [*shape] or None.
        gain: [*stats_shape], positive.

    Returns:
        `d mean`, `gain / 2 d var` and `d count`.

    Examples:
        >>> one, x = jnp.ones(1), jnp.array([-1.0, 1.0])
        >>> tangent = moments_tangent(Sampling((1,)), x, None, one, 2.0, (x, None), one)
        >>> tangent[0], tangent[1]
        (Array([0.], dtype=float32), Array([1.], dtype=float32))
    """
    d_x, d_w = tangents
    shape = deviation.shape
    pull = push = jnp.zeros((), deviation.dtype)
    if d_x is not None:
        push = d_x.astype(deviation.dtype)
        pull = real_product(deviation, push)
        if w is not None:
            push, pull = w * push, w * pull
    if d_w is not None:
        inverse = spread(1 / gain, shape)
        push = push + d_w * deviation * inverse
        excess = real_product(deviation, deviation) - spread(var, shape)
        pull = pull + d_w * excess * inverse / 2
    sums = [pull, push] if sampling.center else [pull]
    if d_w is not None:
        sums.append(d_w)
    sums = [block_sum(jnp.broadcast_to(v, shape), sampling.stats_shape) for v in sums]
    if sampling.axis_name is not None:
        sums = _collectives.sum_of_shards(sums, sampling.axis_name, sampling.axis_index_groups)
    share = 1 / jnp.where(count > 0, count, 1)
    d_mean = sums[1] * share if sampling.center else jnp.zeros(sums[0].shape, deviation.dtype)
    d_count = sums[-1] if d_w is not None else jnp.zeros_like(count)
    return d_mean, sums[0] * share, d_count


def real_product(a: Array, b: Array) -> Array:
    """Returns `Re(conj(a) b)`.

    Args:
        a: [*shape], floating or complex.
        b: [*shape].

    Returns:
        [*shape], real.

    Examples:
        >>> real_product(jnp.array(3.0), jnp.array(4.0))
        Array(12., dtype=float32, weak_type=True)
    """
    if jnp.iscomplexobj(a):
        return a.real * b.real + a.imag * b.imag
    return a * b


def _magnitude(values: Array) -> Array:
    """Returns the largest part of each value, real or imaginary, without its sign."""
    if jnp.iscomplexobj(values):
        return jnp.maximum(jnp.abs(values.real), jnp.abs(values.imag))
    return jnp.abs(values)


def _pivots(x: Array, w: Array | None, stats_shape: Shape) -> Array:
    """Returns a value close to each sample, which is a constant for derivatives.

    The value is a member of positive weight, and zero where a sample is empty.
    """
    x, dtype = lax.stop_gradient(x), accumulation_dtype(x.dtype)
    if w is None and x.size:
        return shapes.median_member(x, stats_shape, dtype)
    valid = jnp.ones((1,) * x.ndim, bool) if w is None else lax.stop_gradient(w) > 0
    counts = zip(x.shape, stats_shape, _explicit.shard_counts(x), strict=True)
    if any(s != n and shards > 1 for n, s, shards in counts):
        # To search through shards for a member would gather them.
        members = block_sum(jnp.broadcast_to(valid, x.shape).astype(real_dtype(dtype)), stats_shape)
        share = spread(1 / jnp.maximum(members, 1), x.shape)
        return block_sum(jnp.where(valid, x.astype(dtype) * share, 0), stats_shape)
    return shapes.first_member(x, stats_shape, valid).astype(dtype)


def _sums(sampling: Sampling, x: Array, w: Array | None) -> tuple[Array, Array, Array, Callable]:
    """Returns the pivots, `x - pivot`, the counts, and how averages over samples are taken."""
    stats_shape, dtype = sampling.stats_shape, accumulation_dtype(x.dtype)
    if w is None:
        count = jnp.asarray(shapes.sample_size(x.shape, stats_shape), real_dtype(dtype))
    else:
        count = block_sum(jnp.broadcast_to(w, x.shape), stats_shape)
    share = 1 / jnp.where(count > 0, count, 1)

    def average(values):
        return block_sum(values if w is None else w * values, stats_shape) * share

    pivot = jnp.zeros(stats_shape, dtype)
    # Padding that is not finite goes before anything at which `jax_debug_nans` would stop.
    x = settled(x, x, w)
    deviation = x.astype(dtype)
    if sampling.center and sampling.variance != "fast":
        pivot = _pivots(x, w, stats_shape)
        deviation = deviation - spread(pivot, x.shape)
    return pivot, deviation, count, average


def _measure_block(sampling, x, w, epsilon) -> Measured:
    pivot, deviation, count, average = _sums(sampling, x, w)
    offset = average(deviation) if sampling.center else jnp.zeros_like(pivot)
    # The first valid entry may be an outlier. The median of three, the pivot without weights, is
    # never the only one.
    outlying = w is not None and sampling.variance == "one_pass"
    if sampling.center and (sampling.variance == "two_pass" or outlying):
        mean, tail, var = _about_mean(sampling, pivot, offset, deviation, average)
    else:
        var = average(real_product(deviation, deviation)) - real_product(offset, offset)
        var = _not_negative(var)
        mean, tail = sum_of_two(pivot, offset)
    measured = [mean, tail, var, jnp.ones_like(var)]
    if sampling.variance != "fast" and x.size:
        lost = beyond(var, epsilon)
        floor = jnp.asarray(0 if epsilon is None else epsilon, var.dtype)
        operands = (lost, floor, *measured, x, *(() if w is None else (w,)))
        vanishing = not _is_normal(epsilon, var.dtype)
        operands = _internals.varying_alike(*operands)
        measured = rescue_p.bind(*operands, sampling=sampling, vanishing=vanishing)
    mean, tail, var, unit = measured
    return Measured(mean, tail, var, unit, count)


def _about_mean(
    sampling: Sampling, pivot, offset, deviation, average: Callable, unit: Array | float = 1.0
):
    """Returns mean, tail and variance by a second pass, about the mean `pivot + offset * unit`.

    The first sum was rounded as far as the pivot is from the mean. The second has what it lost.
    """
    deviation = deviation - spread(offset, deviation.shape)
    rest = average(deviation) if sampling.center else jnp.zeros_like(pivot)
    var = average(real_product(deviation, deviation)) - real_product(rest, rest)
    mean, tail = sum_of_two(pivot, offset * unit)
    return *sum_of_two(mean, tail + rest * unit), _not_negative(var)


def _not_negative(var: Array) -> Array:
    """Returns zero where rounding made a variance negative; its derivative is that of `var`.

    `jnp.maximum` would halve the derivative of a variance of zero, such as that of one entry.
    """
    return var - lax.stop_gradient(jnp.where(var < 0, var, 0))


def beyond(var: Array, epsilon: float | Array | None) -> Array:
    """Returns where squares have overflowed, or may have vanished in what a root is taken of.

    Args:
        var: [*stats_shape].
        epsilon: added to `var` under the root; None where no root is taken.

    Returns:
        [*stats_shape], boolean.

    Examples:
        >>> beyond(jnp.array([1.0, 1e-35, jnp.inf]), 0.0)
        Array([False,  True,  True], dtype=bool)
    """
    info = jnp.finfo(var.dtype)
    smallest = float(info.tiny) / float(info.eps)
    overflowed = ~finite(var)
    if epsilon is None:
        # A variance whose every square has vanished is zero, and not representable.
        return overflowed | ((var < smallest) & (var > 0))
    if _is_normal(epsilon, var.dtype):
        return overflowed
    return overflowed | (var + epsilon < smallest)


def _is_normal(epsilon: float | Array | None, dtype: jnp.dtype) -> bool:
    """Returns whether `epsilon` is known to be so large that no smaller variance matters."""
    smallest = float(jnp.finfo(dtype).tiny) / float(jnp.finfo(dtype).eps)
    return isinstance(epsilon, float) and epsilon >= smallest


def _rescued(lost, epsilon, mean, tail, var, unit, x, w=None, *, sampling: Sampling, vanishing):
    """Returns mean, tail, variance and unit, taken again if any statistic is lost."""

    def again():
        pivot, deviation, _, average = _sums(sampling, x, w)
        inside = deviation if w is None else jnp.where(w > 0, deviation, 0)
        largest = block_max(_magnitude(inside), sampling.stats_shape)
        unit = power_of_two(jnp.maximum(largest, jnp.sqrt(epsilon)))
        scaled = inside / spread(unit, x.shape)
        offset = average(scaled) if sampling.center else jnp.zeros_like(pivot)
        return *_about_mean(sampling, pivot, offset, scaled, average, unit), unit

    return list(lax.cond(jnp.any(lost), again, lambda: (mean, tail, var, unit)))


def _rescued_by_choice(
    lost, epsilon, mean, tail, var, unit, x, w=None, *, sampling: Sampling, vanishing: bool
):
    """Returns what `_rescued` does, of sums that are always taken, in fixed units.

    On GPU and TPU they go into the passes that are there; XLA for GPU takes both sides of a branch.
    """
    pivot, deviation, _, average = _sums(sampling, x, w)
    inside = deviation if w is None else jnp.where(w > 0, deviation, 0)
    large = 2.0 ** (jnp.finfo(var.dtype).maxexp * 5 // 8)
    overflowed = ~finite(var)
    found = mean, tail, var, unit
    choices = [(overflowed, large), (lost & ~overflowed, 1 / large)]
    for wanted, power in choices[: 1 + vanishing]:
        scaled = inside * (1 / power)
        offset = average(scaled) if sampling.center else jnp.zeros_like(pivot)
        if w is None and sampling.variance == "one_pass":
            squares = average(real_product(scaled, scaled)) - real_product(offset, offset)
        else:
            scaled = scaled - spread(offset, x.shape)
            squares = average(real_product(scaled, scaled))
        taken = *sum_of_two(pivot, offset * power), jnp.maximum(squares, 0), power
        found = tuple(jnp.where(wanted, new, old) for new, old in zip(taken, found, strict=True))
    return list(found)


def _rescue_mapped(operands, dims, *, sampling: Sampling, vanishing: bool):
    # What is taken again is right for every statistic: one condition serves all that are mapped.
    whole = range(2, len(operands))
    size, (lost, epsilon, *front) = _internals.with_front_axis(operands, dims, whole)
    between = (1,) * (front[0].ndim - epsilon.ndim)
    epsilon = epsilon.reshape(epsilon.shape[0], *between, *epsilon.shape[1:])
    sampling = sampling._replace(stats_shape=(size, *sampling.stats_shape))
    out = rescue_p.bind(lost, epsilon, *front, sampling=sampling, vanishing=vanishing)
    return out, [0] * len(out)


_internals.define(
    rescue_p,
    shapes=lambda lost, epsilon, *rest, **_: list(rest[:4]),
    plain=_rescued,
    batch=_rescue_mapped,
    # A Taylor series is that of the ordinary sums.
    smooth=lambda lost, epsilon, mean, tail, var, unit, *rest, **_: [mean, tail, var, unit],
)
for _platform in ("cuda", "tpu"):
    _internals.lower(rescue_p, _platform, _internals.traced(_rescued_by_choice))
