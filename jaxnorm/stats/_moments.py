"""Means and variances as values that can be merged.

Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician, 1983.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.numerics import require_inexact
from jaxnorm.stats import _shifted
from jaxnorm.stats._sampling import Sampling, Variance, check_sampling, sample_weights
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike, Shape


class Moments(NamedTuple):
    """The mean and the variance of a sample, and its size.

    Two `Moments` can be merged as if their samples had been one: see `merge`, `pool` and `mix`.

    Examples:
        >>> Moments(jnp.zeros(1), jnp.ones(1), jnp.array(8.0)).var
        Array([1.], dtype=float32)
    """

    mean: Array  # [*stats_shape], float32 or wider, complex for a complex sample
    var: Array  # [*stats_shape], biased (divides by count), real, not negative
    count: Array  # number or total weight of the entries, real, broadcasts to stats_shape
    tail: Array | None = None  # [*stats_shape], the mean is the unevaluated sum mean + tail


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
        `Moments` with `mean` and `var` of `stats_shape`. Where a sample is empty all are zero.

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
    x = jnp.asarray(x)
    require_inexact(x)
    sampling = check_sampling(
        x.shape,
        Sampling(stats_shape, center, variance, axis_name, axis_index_groups),
    )
    w = sample_weights(x, mask, weights)
    if dtype is not None:
        x = x.astype(jnp.promote_types(x.dtype, dtype))
    taken = _shifted.shifted_moments(sampling, x, w)
    return Moments(taken.mean, taken.var, taken.count, _tail(taken))


def merge(first: Moments, second: Moments) -> Moments:
    """Returns the moments of the union of two samples (Chan, Golub, LeVeque 1983, equation 2.1).

    Args:
        first: moments of [*stats_shape].
        second: moments of the same shape, of another sample.

    Returns:
        `Moments` of the same shape. An empty sample changes nothing.

    Examples:
        >>> import jax.numpy as jnp
        >>> a = moments(jnp.array([1.0, 2.0]), (1,))
        >>> merge(a, moments(jnp.array([6.0]), (1,))).mean
        Array([3.], dtype=float32)
    """
    first, second = _with_tail(first), _with_tail(second)
    shape = jnp.broadcast_shapes(*(v.shape for v in (*first, *second)))
    both = jax.tree.map(
        lambda a, b: jnp.stack([jnp.broadcast_to(a, shape), jnp.broadcast_to(b, shape)]),
        first,
        second,
    )
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
    mean, var, count, tail = map(jnp.asarray, _with_tail(moments))
    sampling = check_sampling(
        mean.shape,
        Sampling(stats_shape, axis_name=axis_name, axis_index_groups=axis_index_groups),
    )
    count = jnp.broadcast_to(count, mean.shape)
    shifted = _shifted.ShiftedMoments(mean, tail, mean, var, count)
    pooled = _shifted.pool_shifted(shifted, sampling.stats_shape)
    if axis_name is not None:
        parts = _shifted.gather_shards(pooled, axis_name, sampling.axis_index_groups)
        pooled = _shifted.pool_shifted(parts, (1, *sampling.stats_shape))
        pooled = jax.tree.map(lambda v: v[0], pooled)
    return Moments(pooled.mean, pooled.var, pooled.count, _tail(pooled))


def _with_tail(moments: Moments) -> Moments:
    if moments.tail is not None:
        return moments
    return moments._replace(tail=jnp.zeros_like(moments.mean))


def _tail(taken: _shifted.ShiftedMoments) -> Array:
    pivot = taken.mean - taken.offset
    return (taken.pivot - pivot) + (taken.offset - (taken.mean - pivot))


def mix(
    weights: ArrayLike, moments: Sequence[Moments], var_weights: ArrayLike | None = None
) -> Moments:
    """Returns weighted averages of several moments of the same entries, as switchable norms use.

    `mean = sum_k w_k mean_k`, `var = sum_k v_k var_k` (Luo et al., Differentiable
    Learning-to-Normalize via Switchable Normalization, arXiv:1806.10779, 2018, equation 3).

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
    mean = sum(w * m.mean for w, m in zip(weights, moments, strict=True))
    var = sum(w * m.var for w, m in zip(shares, moments, strict=True))
    count = functools.reduce(jnp.minimum, [m.count for m in moments])
    return Moments(jnp.asarray(mean), jnp.asarray(var), count)


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
