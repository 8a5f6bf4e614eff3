"""Means and variances as values that can be merged.

Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician, 1983.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm import _explicit, _internals
from jaxnorm.numerics import as_array, product_of_two, require_inexact, sum_of_two
from jaxnorm.stats.measuring import (
    Measured,
    centered,
    moments_tangent,
    pool_measured,
    pool_shards,
)
from jaxnorm.stats.sampling import Sampling, Variance, check_sampling, sample_weights, settled
from jaxnorm.stats.sums import spread
from jaxnorm.stats.whole import measure_whole
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike, Shape


class Moments(NamedTuple):
    """The mean and the variance of a sample, and its size.

    Two `Moments` can be merged as if their samples had been one: see `merge`, `pool` and `mix`. The
    mean is the unevaluated sum `mean + tail`, exact to about twice the digits of its dtype, so that
    `x - mean` keeps its digits far from zero in whatever is composed of moments.

    `count` is a float. In float32 it is exact up to 2^24 entries. Beyond, it is right to one part
    in 2^24, which is all that a weight needs; but a batch smaller than that part of the total no
    longer moves a total that grows batch by batch.

    Examples:
        >>> Moments(jnp.zeros(1), jnp.ones(1), jnp.array(8.0)).var
        Array([1.], dtype=float32)
    """

    mean: Array  # [*stats_shape], float32 or wider, complex for a complex sample
    var: Array  # [*stats_shape], biased (divides by count), real, not negative
    count: Array  # number or total weight of the entries, real, broadcasts to stats_shape
    tail: Array | None = None  # [*stats_shape], what rounding took from the mean; None for nothing


def moments(
    x: ArrayLike,
    stats_shape: Shape,
    *,
    center: bool = True,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> Moments:
    """Returns the mean, the biased variance and the count of `x` for each statistic.

    `mean = sum(w x) / sum(w)`, `var = sum(w |x - mean|^2) / sum(w)` over the sample that
    `stats_shape` describes; sums are float32 or wider. Every sum is taken over `x - pivot`, the
    pivot being a member of the sample (Chan, Golub, LeVeque 1983, section 3: shifted data).

    Args:
        x: [*shape], floating or complex.
        stats_shape: one entry per axis of `x`: 1 reduces it, its size keeps it, a divisor of its
            size cuts it into that many contiguous groups.
        center: whether the mean is subtracted; if not it is zero, and `var` is the mean square.
        mask: boolean, broadcastable to `x`; true where an entry is part of the sample.
        weights: real, broadcastable to `x`, not negative; multiplies each entry's share.
        variance: "one_pass" squares `x - pivot`: the relative error grows with the square of the
            pivot's distance from the mean in standard deviations, which the median of three members
            keeps small (at most about `count * eps`, were the pivot the only outlier); "two_pass"
            squares `x - mean`, exact whatever the pivot, for one more pass over `x`, which a mask
            or weights take in any case, their pivot being the first valid entry; "fast" is
            `E[x^2] - E[x]^2` about zero, wrong without a warning where |mean| / std exceeds about
            1e3 in float32.
        axis_name: mapped axes over which the samples of all shards are one; shards may hold
            different counts. One collective forward, one backward.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the dtype of the sums if it shall be wider than the default.

    Returns:
        `Moments` with `mean`, `var` and `tail` of `stats_shape`. Where a sample is empty all are
        zero. Every finite `x` up to a quarter of its dtype's largest number is taken. `var` is
        infinite, or zero, only where the variance itself is not representable.

    Raises:
        ValueError: `stats_shape` does not divide the shape, a mask does not broadcast, or
            `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> moments(jnp.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]), (2, 1)).mean
        Array([[3.],
               [1.]], dtype=float32)
    """
    x = as_array(x)
    require_inexact(x)
    sampling = check_sampling(
        x.shape,
        Sampling(stats_shape, center, variance, axis_name, axis_index_groups),
    )
    w = sample_weights(x, mask, weights)
    if dtype is not None:
        x = x.astype(jnp.promote_types(x.dtype, dtype))
    return _internals.call(_moments, sampling, x, w)


def reported(measured: Measured) -> Moments:
    """Returns the `Moments` of what was measured, the variance no longer in units.

    Args:
        measured: of [*stats_shape].

    Returns:
        `Moments` of [*stats_shape].

    Examples:
        >>> reported(measure_whole(Sampling((1,)), jnp.array([1.0, 3.0]), None)).var
        Array([1.], dtype=float32)
    """
    var = (measured.var * measured.unit) * measured.unit
    return Moments(measured.mean, var, measured.count, measured.tail)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _moments(sampling: Sampling, x: Array, w: Array | None) -> Moments:
    return reported(measure_whole(sampling, x, w))


@functools.partial(_moments.defjvp, symbolic_zeros=True)
def _moments_jvp(sampling, primals, tangents):
    x, w = primals
    taken = _moments(sampling, x, w)

    @jax.checkpoint
    def tangent(x, w, mean, tail, var, count, d_x, d_w):
        d_x = None if d_x is None else settled(d_x, x, w)
        gain = jnp.where((var > 0) & jnp.isfinite(var), jax.lax.rsqrt(var), 1)
        location = (mean, tail) if sampling.center else (None, None)
        deviation = centered(x, w, *location) * spread(gain, x.shape)
        moved = (d_x, d_w)
        unitless = (var * gain) * gain
        d_mean, half, d_count = moments_tangent(
            sampling, deviation, w, unitless, count, moved, gain
        )
        return d_mean, 2 * half / gain, d_count

    d_mean, d_var, d_count = tangent(
        x, w, taken.mean, taken.tail, taken.var, taken.count, *_internals.moving(tangents)
    )
    still = jnp.zeros_like(taken.mean)  # the tail moves with the mean
    return taken, Moments(still + d_mean, d_var, d_count, still)


def merge(first: Moments, second: Moments) -> Moments:
    """Returns the moments of the union of two samples (Chan, Golub, LeVeque 1983, equation 2.1).

    Args:
        first: moments of [*stats_shape].
        second: moments of the same shape, of another sample.

    Returns:
        `Moments` of the same shape, lying on devices as `first`. An empty sample changes nothing.

    Examples:
        >>> import jax.numpy as jnp
        >>> a = moments(jnp.array([1.0, 2.0]), (1,))
        >>> merge(a, moments(jnp.array([6.0]), (1,))).mean
        Array([3.], dtype=float32)
    """
    pair = with_tail(first), with_tail(second)
    shape = jnp.broadcast_shapes(*(jnp.shape(v) for v in jax.tree.leaves(pair)))

    def stacked(*pair):
        one, other = (jnp.broadcast_to(v, shape) for v in pair)
        return jnp.stack([one, _explicit.like(other, one)])

    both = jax.tree.map(stacked, *pair)
    return jax.tree.map(lambda v: v[0], pool(both, (1, *shape)))


def pool(
    moments: Moments,
    stats_shape: Shape,
    *,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
) -> Moments:
    """Returns the moments of the union of the samples behind finer moments, weighted by count.

    `mean = sum(n_i mean_i) / n`, `var = sum(n_i (var_i + |mean_i - mean|^2)) / n` (Chan's formula):
    an average of variances would drop what lies between the samples.

    Args:
        moments: of [*shape]; `count` broadcasts to it.
        stats_shape: as in `moments`, now of the statistics themselves: which axes are pooled.
        axis_name: mapped axes whose shards are pooled as well.
        axis_index_groups: disjoint, equally large groups of shards to stay within.

    Returns:
        `Moments` of `stats_shape`. Empty samples do not take part.

    Raises:
        ValueError: `stats_shape` does not divide the shape, or `axis_name` is not bound.

    Examples:
        >>> import jax.numpy as jnp
        >>> fine = Moments(jnp.array([1.0, 4.0]), jnp.array([0.0, 0.0]), jnp.array([2.0, 1.0]))
        >>> pooled = pool(fine, (1,))
        >>> pooled.mean, pooled.var, pooled.count
        (Array([2.], dtype=float32), Array([2.], dtype=float32), Array([3.], dtype=float32))
    """
    mean, var, count, tail = map(jnp.asarray, with_tail(moments))
    sampling = check_sampling(
        mean.shape,
        Sampling(stats_shape, axis_name=axis_name, axis_index_groups=axis_index_groups),
    )
    fine = Measured(mean, tail, var, jnp.ones_like(var), jnp.broadcast_to(count, mean.shape))
    pooled = [axis for axis, s in enumerate(sampling.stats_shape) if s != mean.shape[axis]]
    fine = Measured(*_explicit.gathered(fine, pooled))
    return reported(pool_shards(pool_measured(fine, sampling.stats_shape), sampling))


def gathered_moments(moments: Moments, axes: Sequence[int]) -> Moments:
    """Returns moments of which every device has some axes whole, with one exchange.

    Args:
        moments: of [*stats_shape].
        axes: no longer explicitly sharded in the result.

    Returns:
        `Moments` of the same numbers, count and tail of [*stats_shape].

    Examples:
        >>> gathered_moments(Moments(jnp.ones(2), jnp.ones(2), jnp.float32(8)), [0]).count
        Array([8., 8.], dtype=float32)
    """
    parts = jax.tree.leaves(with_tail(moments))
    parts = [jnp.broadcast_to(part, jnp.shape(moments.mean)) for part in parts]
    return Moments(*_explicit.gathered(parts, axes))


def with_tail(moments: Moments) -> Moments:
    """Returns `moments` with a tail of zeros where there is none.

    Args:
        moments: of [*stats_shape].

    Returns:
        `Moments` of the same numbers.

    Examples:
        >>> with_tail(Moments(jnp.ones(1), jnp.ones(1), jnp.array(8.0))).tail
        Array([0.], dtype=float32)
    """
    if moments.tail is not None:
        return moments
    return moments._replace(tail=jnp.zeros_like(moments.mean))


def mix(
    weights: ArrayLike, moments: Sequence[Moments], var_weights: ArrayLike | None = None
) -> Moments:
    """Returns weighted averages of several moments of the same entries, as switchable norms use.

    `mean = sum_k w_k mean_k`, `var = sum_k v_k var_k` (Luo et al., Differentiable
    Learning-to-Normalize via Switchable Normalization, arXiv:1806.10779, 2018).

    Args:
        weights: [K, ...], one weight per candidate, usually a softmax; further axes broadcast
            against the statistics.
        moments: K moments whose shapes broadcast against each other.
        var_weights: [K, ...], weights of the variances; the same as `weights` if None.

    Returns:
        `Moments` of the broadcast shape; `count` is the smallest of the counts.

    Raises:
        ValueError: the number of weights is not the number of moments.

    Examples:
        >>> import jax.numpy as jnp
        >>> a = Moments(jnp.array([0.0]), jnp.array([1.0]), jnp.array(2.0))
        >>> mix(jnp.array([0.5, 0.5]), [a, a._replace(mean=jnp.array([2.0]))]).mean
        Array([1.], dtype=float32)
    """
    weights = jnp.asarray(weights)
    shares = weights if var_weights is None else jnp.asarray(var_weights)
    for name, given in (("weights", weights), ("var_weights", shares)):
        if given.shape[:1] != (len(moments),):
            raise ValueError(
                f"{name} {list(given.shape)} must have one entry for each of the {len(moments)} "
                "moments along its first axis"
            )
    whole = list(map(with_tail, moments))
    mean = tail = jnp.zeros((), jnp.result_type(weights, *(m.mean for m in whole)))
    for w, m in zip(weights, whole, strict=True):
        product, lost = product_of_two(m.mean, w)
        mean, rest = sum_of_two(mean, product)
        tail = tail + (rest + lost + w * m.tail)
    mean, tail = sum_of_two(mean, tail)
    var = sum(w * m.var for w, m in zip(shares, whole, strict=True))
    count = functools.reduce(jnp.minimum, [jnp.asarray(m.count) for m in whole])
    return Moments(mean, jnp.asarray(var), count, tail)


def unbiased_var(moments: Moments) -> Array:
    """Returns the variance with Bessel's correction, `var * n / (n - 1)`.

    Args:
        moments: biased moments of [*stats_shape].

    Returns:
        [*stats_shape]; the biased variance where the sample has at most one entry.

    Examples:
        >>> import jax.numpy as jnp
        >>> unbiased_var(Moments(jnp.zeros(1), jnp.ones(1), jnp.array(5.0)))
        Array([1.25], dtype=float32)
    """
    n = moments.count
    return moments.var * jnp.where(n > 1, n / jnp.where(n > 1, n - 1, 1), 1)
