"""The arithmetic of one block of samples: every kernel over rows computes this in registers.

The mean of `x - pivot` gives a first mean. Sums over `d = (x - mean) / unit` then give the rest of
the mean, and a variance that loses no digits, since the mean of d is far below its deviation. The
unit is a power of two of the size of the largest deviation: no square overflows or vanishes.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxnorm.numerics import sum_of_two
from jaxnorm.typing import Array

LARGEST_UNIT = 2.0**126  # the reciprocals of it and of the smallest normal number are both normal
EXPONENT = 0x7F800000  # of a float32


class First(NamedTuple):
    """What a first pass knows."""

    mean: Array | None  # of float32; None where nothing is centred
    unit: Array
    inverse: Array  # of the unit, exactly


class Statistics(NamedTuple):
    """The statistics of samples, `shift` and `gain` in units of `First`."""

    mean: Array | None
    tail: Array | None
    var: Array
    rstd: Array
    shift: Array | None  # y = (d - shift) gain
    gain: Array


def share(count: int) -> tuple[float, float]:
    """Returns two factors whose product is `1 / count`: what is added up meets the first.

    Args:
        count: entries of a sample.

    Returns:
        A power of two, so that nothing is rounded and no sum overflows, and the rest.

    Examples:
        >>> share(768)
        (0.0009765625, 1.3333333333333333)
    """
    power = 2.0 ** -(count - 1).bit_length()
    return power, 1 / (count * power)


def first(largest, total, pivot, count: int, epsilon: float) -> First:
    """Returns mean and unit.

    Args:
        largest: of `|x - pivot|`, for each sample.
        total: the sum of `(x - pivot) * share(count)[0]`; None where nothing is centred.
        pivot: a member of each sample; None where nothing is centred.
        count: entries of a sample.
        epsilon: added to the variance.

    Returns:
        `First`, of the shape of `largest`.

    Examples:
        >>> first(jnp.float32(5.0), None, None, 4, 0.0).unit
        Array(4., dtype=float32)
    """
    mean = None if pivot is None else pivot + total * share(count)[1]
    smallest = max(math.sqrt(epsilon), float(jnp.finfo(jnp.float32).tiny))
    size = jnp.clip(largest, smallest, LARGEST_UNIT)
    bits = lax.bitcast_convert_type(size, jnp.int32) & EXPONENT
    inverse = lax.bitcast_convert_type((254 << 23) - bits, jnp.float32)
    return First(mean, lax.bitcast_convert_type(bits, jnp.float32), inverse)


def deviation(x, known: First):
    """Returns `(x - mean) / unit`.

    Args:
        x: [*shape], float32.
        known: broadcasts to `x`.

    Returns:
        [*shape], float32.

    Examples:
        >>> known = First(jnp.float32(1.0), jnp.float32(2.0), jnp.float32(0.5))
        >>> deviation(jnp.array([3.0]), known)
        Array([1.], dtype=float32)
    """
    return (x if known.mean is None else x - known.mean) * known.inverse


def second(total, squares, known: First, count: int, epsilon: float) -> Statistics:
    """Returns the statistics, given sums over `d`, that is `deviation`.

    Args:
        total: the sum of d; not looked at where nothing is centred.
        squares: the sum of d^2.
        known: the result of `first`.
        count: entries of a sample.
        epsilon: added to the variance.

    Returns:
        `Statistics`, of the shape of `squares`.

    Examples:
        >>> known = First(jnp.float32(1.0), jnp.float32(2.0), jnp.float32(0.5))
        >>> second(jnp.float32(0.0), jnp.float32(4.0), known, 4, 0.0).var
        Array(4., dtype=float32)
    """
    var, (mean, tail, shift) = squares / count, (None, None, None)
    if known.mean is not None:
        shift = total / count
        var = jnp.maximum(var - shift * shift, 0)
        mean, tail = sum_of_two(known.mean, shift * known.unit)
    gain = lax.rsqrt(var + (epsilon * known.inverse) * known.inverse)
    unit = known.unit
    return Statistics(mean, tail, (var * unit) * unit, gain * known.inverse, shift, gain)


def placed(d, statistics: Statistics, scale, bias):
    """Returns `(d - shift) gain scale + bias`, which is y.

    Args:
        d: [*shape], `deviation`.
        statistics: broadcast to `d`.
        scale: broadcasts to `d`, or None.
        bias: broadcasts to `d`, or None.

    Returns:
        [*shape], float32.

    Examples:
        >>> one = jnp.ones(())
        >>> placed(jnp.array([3.0]), Statistics(one, one, one, one, one, 2 * one), None, one)
        Array([5.], dtype=float32)
    """
    d = d if statistics.shift is None else d - statistics.shift
    y = d * (statistics.gain if scale is None else statistics.gain * scale)
    return y if bias is None else y + bias


def standardized(x, mean, tail, rstd):
    """Returns xhat of the statistics that the forward pass kept.

    Args:
        x: [*shape], float32.
        mean: broadcasts to `x`; None where nothing is centred.
        tail: broadcasts to `x`; None where nothing is centred.
        rstd: broadcasts to `x`.

    Returns:
        [*shape], float32.

    Examples:
        >>> standardized(jnp.array([3.0]), 1.0, 0.5, 2.0)
        Array([3.], dtype=float32)
    """
    return (x if mean is None else (x - mean) - tail) * rstd


def pulled_back(ct, xhat, sums, rstd, given, count: int):
    """Returns the cotangent of x: `rstd (ct - mean(ct) - xhat mean(ct xhat))` and the given.

    Args:
        ct: [*shape], the cotangent of xhat.
        xhat: [*shape].
        sums: of ct within each sample, None where nothing is centred, and of `ct xhat`.
        rstd: broadcasts to `ct`.
        given: the cotangents of the mean and of half the variance, either may be None.
        count: entries of a sample.

    Returns:
        [*shape], float32.

    Examples:
        >>> ct, xhat, zero = jnp.array([1.0, 1.0]), jnp.array([-1.0, 1.0]), jnp.zeros(())
        >>> pulled_back(ct, xhat, (2.0, zero), 1.0, (None, None), 2)
        Array([0., 0.], dtype=float32)
    """
    of_ct, of_product = sums
    ct_mean, ct_half = given
    dx = ct - xhat * (of_product / count)
    dx = (dx if of_ct is None else dx - of_ct / count) * rstd
    if ct_mean is not None:
        dx = dx + ct_mean / count
    return dx if ct_half is None else dx + xhat * (ct_half / count)
