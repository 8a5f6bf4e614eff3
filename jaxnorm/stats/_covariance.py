"""Covariances between the channels of a group, and their inverse roots.

Huang, Yang, Lang, Deng: Decorrelated Batch Normalization, arXiv:1804.08450, 2018.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm import _explicit
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes, require_inexact
from jaxnorm.stats._collectives import sum_of_shards
from jaxnorm.stats._moments import moments
from jaxnorm.stats.measuring import centered
from jaxnorm.stats.sampling import Variance, sample_weights, settled
from jaxnorm.stats.sums import spread
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, Floats


class Covariance(NamedTuple):
    """The mean of a sample of vectors, their covariance within each group, and their number.

    Examples:
        >>> Covariance(jnp.zeros(2), jnp.zeros(2), jnp.eye(2)[None], jnp.array([8.0])).cov.shape
        (1, 2, 2)
    """

    mean: Array  # [1, ..., C, ..., 1], of the rank of the array, float32 or wider
    tail: Array  # likewise, what rounding took from the mean
    cov: Array  # [G, C/G, C/G], biased (divides by count), symmetric
    count: Array  # [G], number or total weight of the vectors


def covariance(
    x: ArrayLike,
    num_groups: int = 1,
    axis: int = -1,
    *,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
) -> Covariance:
    """Returns the mean of each channel and the biased covariance within each group of channels.

    `cov = sum(w d d^T) / sum(w)` with `d = x - mean`, over all positions of `x`; the mean is that
    of `moments`, with its tail, so that offsets cost no digits. Sums are float32 or wider.

    Args:
        x: [*shape], floating and real.
        num_groups: contiguous groups of channels, G.
        axis: the channel axis, of C entries.
        mask: boolean, broadcastable to `x`; a vector takes part where all entries of its group do.
        weights: real, broadcastable to `x`, not negative; a vector weighs as its lightest entry.
        variance: how the moments are taken; see `moments`.
        axis_name: mapped axes over which the samples of all shards are one.
        axis_index_groups: disjoint, equally large groups of shards to stay within.

    Returns:
        `Covariance`; all is zero where a sample is empty.

    Raises:
        ValueError: the groups do not divide the channels, or what `moments` raises.
        TypeError: `x` is not floating, or complex.

    Examples:
        >>> taken = covariance(jnp.array([[1.0, 2.0], [3.0, 6.0]]))
        >>> taken.mean, taken.cov
        (Array([[2., 4.]], dtype=float32), Array([[[1., 2.],
                [2., 4.]]], dtype=float32))
    """
    x = as_array(x)
    require_inexact(x)
    if jnp.iscomplexobj(x):
        raise TypeError(
            f"covariance needs a real x, got {x.dtype} {list(x.shape)}; stack real and imaginary "
            "parts as channels"
        )
    (axis,) = canonical_axes(axis, x.ndim, "axis")
    channels = x.shape[axis]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(
            f"num_groups={num_groups} does not divide the {channels} channels on axis {axis} of x "
            f"{list(x.shape)}; use a divisor"
        )
    stats_shape = tuple(channels if a == axis else 1 for a in range(x.ndim))
    given = sample_weights(x, mask, weights)
    x = settled(x, x, given)
    w = None if given is None else _of_vectors(given, channels, num_groups, axis)
    taken = moments(
        x,
        stats_shape,
        weights=w,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
    )
    tail = jnp.zeros_like(taken.mean) if taken.tail is None else taken.tail
    d = in_groups(centered(x, None, taken.mean, tail), num_groups, axis)
    weighed = d if w is None else d * in_groups(jnp.broadcast_to(w, x.shape), num_groups, axis)
    total = jnp.einsum(
        "...gi,...gj->gij",
        weighed,
        d,
        precision=lax.Precision.HIGHEST,
        out_sharding=_explicit.out_sharding(d, (_explicit.explicit_axes(d)[-2], None, None)),
    )
    if axis_name is not None:
        total = sum_of_shards(total, axis_name, axis_index_groups)
    counts = in_groups(jnp.broadcast_to(taken.count, stats_shape), num_groups, axis)
    count = counts.reshape(num_groups, -1)[:, 0]
    cov = total / jnp.where(count > 0, count, 1)[:, None, None]
    return Covariance(taken.mean, tail, (cov + cov.mT) / 2, count)


def in_groups(x: Array, num_groups: int, axis: int) -> Array:
    """Returns `x` with its channels last, cut into groups.

    Args:
        x: [*shape].
        num_groups: contiguous groups of channels, G.
        axis: the channel axis.

    Returns:
        [*rest, G, C/G]; on a mesh with explicit axes whole groups lie on each device.

    Examples:
        >>> in_groups(jnp.ones((2, 6, 4)), 3, 1).shape
        (2, 4, 3, 2)
    """
    x = _explicit.whole_groups(jnp.moveaxis(x, axis, -1), num_groups, x.ndim - 1)
    split = (*x.shape[:-1], num_groups, x.shape[-1] // num_groups)
    return _explicit.reshaped(x, split, (*_explicit.explicit_axes(x), None))


def _of_vectors(w: Floats, channels: int, num_groups: int, axis: int) -> Array:
    """Returns the least weight within each group, in the place of each of its members."""
    if w.shape[axis] == 1:
        return w
    least = jnp.moveaxis(in_groups(w, num_groups, axis).min(-1), -1, axis)
    return spread(least, tuple(channels if a == axis else n for a, n in enumerate(w.shape)))


@jax.custom_jvp
def inverse_root(cov: ArrayLike, epsilon: ArrayLike = 0.0) -> Array:
    """Returns the symmetric inverse square root `(cov + epsilon I)^(-1/2)`.

    By the eigenvalues `l` and eigenvectors of `cov`. The derivative is that of the function of a
    matrix, in the basis of its eigenvectors `-1 / (sqrt(l_i) sqrt(l_j) (sqrt(l_i) + sqrt(l_j)))`
    times the entry that moves: nothing in it divides by a difference of eigenvalues.

    Args:
        cov: [..., n, n], floating, symmetric, without negative eigenvalues but for rounding.
        epsilon: added to the eigenvalues, not negative; [] or [..., 1, 1].

    Returns:
        [..., n, n], float32 or wider; zero along directions whose eigenvalue and epsilon are zero.

    Examples:
        >>> inverse_root(jnp.array([[4.0, 0.0], [0.0, 0.25]]))
        Array([[0.5, 0. ],
               [0. , 2. ]], dtype=float32)

    Notes:
        A second derivative is not defined where eigenvalues are equal: it passes through the
        eigenvectors.
    """
    return _root(*_eigen(cov, epsilon))


@inverse_root.defjvp
def _inverse_root_jvp(primals, tangents):
    cov, epsilon = primals
    d_cov, d_epsilon = tangents
    gain, vectors = _eigen(cov, epsilon)
    d_cov = jnp.asarray(d_cov, gain.dtype)
    moved = _product(vectors.mT, (d_cov + d_cov.mT) / 2, vectors)
    identity = jnp.eye(gain.shape[-1], dtype=gain.dtype)
    moved = moved + jnp.asarray(d_epsilon, gain.dtype) * identity
    rows, columns = gain[..., :, None], gain[..., None, :]
    # 1 / (a + b) is g h / (g + h) for the reciprocals g and h.
    both = rows + columns
    share = rows * columns * (rows * columns / jnp.where(both > 0, both, 1))
    return _root(gain, vectors), _product(vectors, -share * moved, vectors.mT)


def _eigen(cov: ArrayLike, epsilon: ArrayLike) -> tuple[Array, Array]:
    """Returns the inverse roots of the eigenvalues, zero for zero, and the eigenvectors."""
    cov = jnp.asarray(cov)
    values, vectors = jnp.linalg.eigh(cov.astype(accumulation_dtype(cov.dtype)))
    epsilon = jnp.asarray(epsilon, values.dtype)
    values = jnp.maximum(values, 0) + (epsilon[..., 0] if epsilon.ndim else epsilon)
    return jnp.where(values > 0, lax.rsqrt(jnp.where(values > 0, values, 1)), 0), vectors


def _root(gain: Array, vectors: Array) -> Array:
    return _product(vectors, gain[..., None] * vectors.mT)


def _product(*matrices: Array) -> Array:
    product = matrices[0]
    for matrix in matrices[1:]:
        product = jnp.matmul(product, matrix, precision=lax.Precision.HIGHEST)
    return product
