"""The dtype in which sums accumulate, and canonical axes."""

import math
import numbers
import operator
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp

from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def accumulation_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Returns the dtype in which sums over values of `dtype` are taken.

    float32 for every narrower float, and the dtype itself (float32, float64, complex64, complex128)
    otherwise: sums in bfloat16 stop growing after 256 equal terms.

    Args:
        dtype: the dtype of the values that are summed, floating or complex.

    Returns:
        A dtype of at least float32 precision.

    Examples:
        >>> import jax.numpy as jnp
        >>> accumulation_dtype(jnp.bfloat16), accumulation_dtype(jnp.complex64)
        (dtype('float32'), dtype('complex64'))
    """
    if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
        return jnp.dtype(jnp.float32)  # JAX promotes no 8-bit float by itself
    return jnp.promote_types(dtype, jnp.float32)


def real_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Returns the dtype of the real part of `dtype`.

    Args:
        dtype: a floating or complex dtype.

    Returns:
        `dtype` itself where it is real, the dtype of its components where it is complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> real_dtype(jnp.complex64), real_dtype(jnp.float32)
        (dtype('float32'), dtype('float32'))
    """
    return jnp.finfo(dtype).dtype


def as_array(x: ArrayLike) -> Array:
    """Returns `x` as an array of JAX, and an array of JAX as it is.

    `jnp.asarray` converts such an array to its own dtype, an operation at which `jax_debug_nans`
    stops where padding holds NaN.

    Args:
        x: [*shape].

    Returns:
        [*shape].

    Examples:
        >>> as_array([1.0, 2.0])
        Array([1., 2.], dtype=float32)
    """
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


def canonical_axes(axes: Axes, ndim: int, name: str = "axes") -> tuple[int, ...]:
    """Returns `axes` as sorted, distinct, non-negative integers.

    Args:
        axes: one axis or several; negative ones count from the end.
        ndim: the rank of the array that the axes belong to.
        name: the argument's name, for the error.

    Returns:
        The axes in ascending order, each in `range(ndim)`.

    Raises:
        ValueError: an axis is out of range or named twice.

    Examples:
        >>> canonical_axes((-1, 1), ndim=9)
        (1, 8)
    """
    named = tuple(axes) if isinstance(axes, Iterable) else (axes,)
    canonical = []
    for axis in map(operator.index, named):
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"{name}={axes} names axis {axis}, but the array has {ndim} axes; "
                f"use axes from {-ndim} to {ndim - 1}"
            )
        canonical.append(axis % ndim)
    if len(set(canonical)) != len(canonical):
        raise ValueError(
            f"{name}={axes} names an axis of the rank-{ndim} array twice; name each once"
        )
    return tuple(sorted(canonical))


def require_inexact(x: jax.Array, name: str = "x") -> None:
    """Raises unless `x` is floating or complex.

    Args:
        x: the array that is checked.
        name: the argument's name, for the error.

    Returns:
        Nothing.

    Raises:
        TypeError: `x` has an integer or boolean dtype.

    Examples:
        >>> import jax.numpy as jnp
        >>> require_inexact(jnp.ones(3))
    """
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(
            f"{name} must be floating or complex, got {x.dtype} {list(x.shape)}; "
            f"convert it first, for example with {name}.astype(jnp.float32)"
        )


def check_epsilon(epsilon: object) -> None:
    """Raises where `epsilon` is a number that no variance can be shifted by.

    Args:
        epsilon: added to the variance; an array is not looked into.

    Returns:
        Nothing.

    Raises:
        ValueError: `epsilon` is negative, infinite or NaN.

    Examples:
        >>> check_epsilon(1e-6)
    """
    number = isinstance(epsilon, numbers.Real)
    if number and not (math.isfinite(epsilon) and epsilon >= 0):  # type: ignore[reportArgumentType]
        raise ValueError(
            f"epsilon={epsilon} is added to a variance: it must be finite and not negative, "
            "for example 1e-6"
        )


def finite(values: Array) -> Array:
    """Returns where a number is neither infinite nor NaN, by a comparison.

    Pallas for GPU lowers no `jnp.isfinite` before jax 0.9.

    Args:
        values: [*shape], floating or complex.

    Returns:
        [*shape], boolean.

    Examples:
        >>> import jax.numpy as jnp
        >>> finite(jnp.array([1.0, jnp.inf, jnp.nan]))
        Array([ True, False, False], dtype=bool)
    """
    if jnp.iscomplexobj(values):
        return finite(values.real) & finite(values.imag)
    return jnp.abs(values) < jnp.inf


def sum_of_two(a: Array, b: Array) -> tuple[Array, Array]:
    """Returns `a + b` rounded, and what rounding took away: together they are the exact sum.

    Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B.

    Args:
        a: [*shape], floating or complex.
        b: [*shape].

    Returns:
        Two arrays [*shape].

    Examples:
        >>> import jax.numpy as jnp
        >>> total, rest = sum_of_two(jnp.array(1e8), jnp.array(1.0))
        >>> float(total), float(rest)
        (100000000.0, 1.0)
    """
    total = a + b
    of_b = total - a
    of_a = total - of_b
    rest = (a - of_a) + (b - of_b)
    # An infinite sum has no rest. A derivative is that of the sum.
    rest = jnp.where(finite(total), rest, jnp.zeros((), rest.dtype))
    return total, jax.lax.stop_gradient(rest)


def product_of_two(a: Array, b: Array) -> tuple[Array, Array]:
    """Returns `a b` rounded, and what rounding took away: together they are the exact product.

    Dekker, A floating-point technique for extending the available precision, 1971, section 5.

    Args:
        a: [*shape], floating or complex, not within 2^13 of the largest float.
        b: [*shape], real.

    Returns:
        Two arrays [*shape].

    Examples:
        >>> import jax.numpy as jnp
        >>> product_of_two(jnp.float32(1 + 2**-12), jnp.float32(1 + 2**-12))[1] * 2**24
        Array(1., dtype=float32)
    """
    if jnp.iscomplexobj(a):
        (real, real_lost), (imag, imag_lost) = (product_of_two(v, b) for v in (a.real, a.imag))
        return jax.lax.complex(real, imag), jax.lax.complex(real_lost, imag_lost)
    product = a * b
    (a_high, a_low), (b_high, b_low) = map(_halves, (a, b))
    lost = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, jax.lax.stop_gradient(jnp.where(finite(lost), lost, 0))


def _halves(value: Array) -> tuple[Array, Array]:
    """Returns two floats of half the digits whose sum is `value` (Veltkamp's splitting)."""
    value = jnp.asarray(value)
    dtype = jnp.promote_types(value.dtype, jnp.float32)
    wide = value.astype(dtype) * ((1 << (jnp.finfo(dtype).nmant // 2 + 1)) + 1)
    high = wide - (wide - value)
    return high, value - high


def power_of_two(values: Array) -> Array:
    """Returns the largest power of two that is not above each value, exactly.

    Args:
        values: [*shape], float32 or float64, positive.

    Returns:
        [*shape], a normal number whose reciprocal is one too; 1 for zero, infinity and NaN.

    Examples:
        >>> import jax.numpy as jnp
        >>> power_of_two(jnp.array([0.3, 1.0, 5.0, 0.0]))
        Array([0.25, 1.  , 4.  , 1.  ], dtype=float32)
    """
    info = jnp.finfo(values.dtype)
    integers = jnp.uint32 if info.bits == 32 else jnp.uint64
    exponent = ((1 << info.nexp) - 1) << info.nmant
    bits = jax.lax.bitcast_convert_type(values, integers) & jnp.asarray(exponent, integers)
    power = jax.lax.bitcast_convert_type(bits, values.dtype)
    power = jnp.clip(power, float(info.tiny), 1 / float(info.tiny))
    return jnp.where((values > 0) & finite(values), power, 1)


def quotient(dividend: Array, divisor: Array) -> Array:
    """Returns `dividend / divisor`, in units in which the divisor's square stays within range.

    The derivative of a quotient divides by that square.

    Args:
        dividend: [*shape], floating.
        divisor: broadcastable to `dividend`, real, not zero.

    Returns:
        [*shape].

    Examples:
        >>> import jax.numpy as jnp
        >>> jax.grad(quotient, 1)(jnp.float32(3e-30), jnp.float32(1e-30)) * 1e-30
        Array(-3., dtype=float32)
    """
    # Products and not quotients: XLA makes `(a / u) / (b / u)` into `(a u) / (b u)`, out of range.
    inverse = 1 / power_of_two(jnp.abs(jax.lax.stop_gradient(divisor)))
    return (dividend * inverse) / (divisor * inverse)


def together(function: Callable[[Array], Array], arrays: Sequence[Array]) -> list[Array]:
    """Returns arrays after one call of a function with all of them, for example one exchange.

    Args:
        function: of [number, *shape], returns as many rows.
        arrays: of one shape, floating or complex.

    Returns:
        The rows, each of the dtype of its array.

    Examples:
        >>> import jax.numpy as jnp
        >>> together(lambda rows: 2 * rows, [jnp.ones(1), jnp.zeros(1, jnp.complex64)])
        [Array([2.], dtype=float32), Array([0.+0.j], dtype=complex64)]
    """
    # Under `vmap` over explicit mesh axes JAX refuses to stack what is mapped and what is not.
    packed = jnp.concatenate([v.astype(jnp.result_type(*arrays))[None] for v in arrays])
    rows = zip(arrays, function(packed), strict=True)
    return [(row if jnp.iscomplexobj(v) else row.real).astype(v.dtype) for v, row in rows]
