"""Moments in float64 NumPy, straight from their definition: what the tests compare with."""

import math
from typing import NamedTuple

import numpy as np


class ReferenceMoments(NamedTuple):
    """The mean, the biased variance and the total weight of each sample."""

    mean: np.ndarray  # [*stats_shape], float64 or complex128
    var: np.ndarray  # [*stats_shape], float64
    count: np.ndarray  # [*stats_shape], float64


def wide(x):
    """Returns `x` in float64 or complex128."""
    x = np.asarray(x)
    if x.dtype.kind == "c":
        return x.astype(np.complex128)
    return x.astype(np.float64)


def blocks(x, stats_shape):
    """Returns a view of `x` with two axes for each of its own, (statistics, members)."""
    pairs = [(s, n // s) for n, s in zip(x.shape, stats_shape, strict=True)]
    return x.reshape([size for pair in pairs for size in pair])


def sample_sum(x, stats_shape):
    """Returns the sum of `x` over the sample of each statistic."""
    members = tuple(range(1, 2 * x.ndim, 2))
    return blocks(x, stats_shape).sum(axis=members)


def spread(statistic, shape):
    """Returns `statistic` repeated to `shape`."""
    for axis, n in enumerate(shape):
        statistic = np.repeat(statistic, n // statistic.shape[axis], axis=axis)
    return statistic


def reference_moments(x, stats_shape, weights=None, center=True):
    """Returns the moments of `x` in float64; entries of weight zero may hold anything."""
    x = wide(x)
    w = np.ones(x.shape) if weights is None else np.broadcast_to(wide(weights), x.shape)
    x = np.where(w > 0, x, 0)
    count = sample_sum(w, stats_shape)
    share = 1 / np.where(count > 0, count, 1)
    mean = sample_sum(w * x, stats_shape) * share if center else np.zeros(stats_shape, x.dtype)
    deviation = x - spread(mean, x.shape)
    var = sample_sum(w * np.abs(deviation) ** 2, stats_shape) * share
    return ReferenceMoments(mean, var, count)


def relative_error(got, want, at_least=0.0):
    """Returns the largest difference, relative to the largest entry of `want` or to `at_least`."""
    got, want = wide(got), wide(want)
    assert got.shape == want.shape, f"got shape {got.shape}, expected {want.shape}"
    largest = max(np.abs(want).max(initial=0), at_least)
    return np.abs(got - want).max(initial=0) / (largest if largest > 0 else 1)


def rounding(dtype, n=1):
    """Returns the relative error that is granted to a result with sums of `n` terms.

    A sum drifts by about `sqrt(n)` roundings of half an eps; eight eps cover the handful of other
    roundings (shift, mean, square, root, product, shift back) and their spread over the entries.
    """
    return 8 * float(np.finfo(dtype).eps) * math.sqrt(n)
