"""Native CPU kernels of `standardize`, where they were built and the layout is one they know."""

import numbers

import jax
import jax.numpy as jnp

from jaxnorm.ops.kernels import _layout, _library, _lowering, _primitives
from jaxnorm.ops.kernels._plain import Linear, Residuals, Standard
from jaxnorm.typing import Array, DTypeLike, Shape

STORAGE = (jnp.float32, jnp.bfloat16, jnp.float16)

_lowering.register()


def available() -> bool:
    """Returns whether the native kernels can be used.

    Returns:
        True where they were built, XLA accepts them, and JAXNORM_DISABLE_NATIVE is not set.

    Examples:
        >>> available() == (why_not() is None)
        True
    """
    return why_not() is None


def why_not() -> str | None:
    """Returns why the native kernels are not used, or None where they are.

    Returns:
        A reason for people to read.

    Examples:
        >>> isinstance(why_not(), str) or available()
        True
    """
    if _library.disabled():
        return "the environment variable JAXNORM_DISABLE_NATIVE is set"
    return _library.why_not_registered()


def instruction_set() -> str | None:
    """Returns what the kernels were compiled for: "avx512", "avx2" or "portable".

    Returns:
        The best that the processor has, chosen when the library was loaded; None without library.

    Examples:
        >>> instruction_set() in ("avx512", "avx2", "portable", None)
        True
    """
    handle = _library.load().handle
    return None if handle is None else handle.jaxnorm_instruction_set().decode()


def suits(
    x: Array,
    stats_shape: Shape,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: object,
    dtype: DTypeLike | None = None,
) -> bool:
    """Returns whether `standardize` runs natively on CPU for these arguments.

    Args:
        x: [*shape].
        stats_shape: one entry per axis: 1 reduced, its size kept, a divisor grouped.
        scale: of the rank of `x`, broadcasts to it, or None.
        bias: of the rank of `x`, broadcasts to it, or None.
        epsilon: added to the variance; a Python or NumPy number.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        False where the kernels are not there or know no such layout, or where not even `takes`.

    Examples:
        >>> x = jnp.ones((8, 64))
        >>> suits(x, (8, 64), epsilon=1e-6), suits(x, (8, 1), epsilon=jnp.array(1e-6))
        (False, False)
    """
    return (
        not _library.disabled()
        and _library.load().handle is not None
        and takes(x, scale, bias, epsilon=epsilon, dtype=dtype)
        and _layout.native_view(x.shape, stats_shape, _layout.affine_shape_of(scale, bias))
        is not None
    )


def takes(
    x: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: object,
    dtype: DTypeLike | None = None,
) -> bool:
    """Returns whether `standardize` takes these arguments, natively or in plain JAX.

    Args:
        x: [*shape].
        scale: of the rank of `x`, broadcasts to it, or None.
        bias: of the rank of `x`, broadcasts to it, or None.
        epsilon: added to the variance; a Python or NumPy number.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        False where a dtype is not one of the kernels', where `epsilon` is an array, or where `x` is
        empty or has a symbolic shape or an explicit sharding.

    Examples:
        >>> takes(jnp.ones((8, 64)), epsilon=1e-6), takes(jnp.ones((0, 64)), epsilon=1e-6)
        (True, False)
    """
    storage = {jnp.dtype(x.dtype), jnp.dtype(dtype or x.dtype)}
    wide = {jnp.dtype(jnp.float32)}
    parameters = [v for v in (scale, bias) if v is not None]
    return (
        isinstance(epsilon, numbers.Real)
        and all(isinstance(n, int) and n > 0 for n in x.shape)
        and all(d in STORAGE for d in storage)
        and len(storage - wide) <= 1
        and all(v.dtype in STORAGE for v in parameters)
        and not any(map(_explicitly_sharded, (x, *parameters)))
    )


def standardize(
    x: Array,
    stats_shape: Shape,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: float,
    center: bool = True,
    dtype: DTypeLike | None = None,
    native: bool = True,
) -> tuple[Array, Array, Array]:
    """Returns `x` normalized by its own moments, and those moments.

    The same as `jaxnorm.ops.standardize`, to rounding, with the same derivatives of every order.
    Where the code runs on one CPU it may be native, elsewhere and where it is exported it is plain
    JAX.

    Args:
        x: [*shape], float32, bfloat16 or float16.
        stats_shape: one entry per axis: 1 reduced, its size kept, a divisor grouped.
        scale: of the rank of `x`, broadcasts to it, or None.
        bias: of the rank of `x`, broadcasts to it, or None.
        epsilon: added to the variance.
        center: whether the mean is subtracted; without it `var` is the mean square.
        dtype: the output's dtype; that of `x` if None.
        native: whether native kernels may compute it, where they serve.

    Returns:
        `y` [*shape] of `dtype`, `mean` and `var` [*stats_shape] float32; `mean` is zero where
        nothing is centred.

    Examples:
        >>> x = jnp.array([[1.0, 3.0], [1e6, 1e6]])
        >>> standardize(x, (2, 1), bias=jnp.array([[0.0, 5.0]]), epsilon=3.0)[0]
        Array([[-0.5,  5.5],
               [ 0. ,  5. ]], dtype=float32)
    """
    dtype = jnp.dtype(dtype or x.dtype)
    standard = Standard(tuple(stats_shape), center, float(epsilon), dtype, native)
    y, *statistics = _primitives.standardize(standard, *_varying_alike(x, *_alike(scale, bias)))
    if not center:
        return y, jnp.zeros_like(statistics[0]), statistics[0]
    mean, _, var, _ = statistics
    return y, mean, var


def affine_tangent(
    x: Array,
    mean: Array,
    var: Array,
    scale: Array | None,
    d_scale: Array | None,
    d_bias: Array | None,
    *,
    dtype: DTypeLike,
    native: bool = True,
) -> Array:
    """Returns how `(x - mean) / sqrt(var) * scale + bias` moves with scale and bias.

    A linear map, whose transpose is the kernels' sums over the cotangent.

    Args:
        x: [*shape], as `takes` says.
        mean: [*stats_shape], float32.
        var: [*stats_shape], float32, with whatever is added to it.
        scale: of the rank of `x`, broadcasts to it, or None.
        d_scale: the tangent of `scale`, or None for zero.
        d_bias: the tangent of the bias, of the rank of `x`, or None for zero.
        dtype: the dtype of the result.
        native: whether native kernels may compute the transpose, where they serve.

    Returns:
        [*shape] of `dtype`.

    Examples:
        >>> mean, var, d_bias = jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.ones((1, 2))
        >>> affine_tangent(
        ...     jnp.ones((1, 2)), mean, var, None, None, d_bias, dtype=jnp.float32
        ... )
        Array([[1., 1.]], dtype=float32)
    """
    standard = Standard(var.shape, True, 0.0, jnp.dtype(dtype), native)
    parameters = _alike(d_scale, d_bias, scale)
    statistics = (mean, jnp.zeros_like(mean), jax.lax.rsqrt(var))
    d_scale, d_bias, scale, x, *statistics = _varying_alike(*parameters, x, *statistics)
    return _primitives.tangent(
        standard, Linear(None, d_scale, d_bias), Residuals(x, scale, *statistics)
    )[0]


def _alike(*parameters: Array | None) -> list:
    """Returns the parameters in float32 and of the shape that they have together."""
    shape = _layout.affine_shape_of(*parameters)
    return [v if v is None else jnp.broadcast_to(v.astype(jnp.float32), shape) for v in parameters]


def _explicitly_sharded(value: Array) -> bool:
    sharding = getattr(jax.typeof(value), "sharding", None)
    return any(axis is not None for axis in getattr(sharding, "spec", ()))


def _varying_alike(*values: Array | None) -> list:
    """Returns the values varying over the same manual axes, as within `shard_map` they must.

    Its transpose sums the cotangent of a replicated scale over the shards.
    """
    axes = [frozenset() if v is None else _varying_axes(v) for v in values]
    everywhere = frozenset().union(*axes)
    return [
        v if v is None or own == everywhere else _vary(v, tuple(sorted(everywhere - own)))
        for v, own in zip(values, axes, strict=True)
    ]


def _varying_axes(value: Array) -> frozenset:
    aval = jax.typeof(value)
    manual = getattr(aval, "manual_axis_type", None)
    return aval.vma if manual is None else manual.varying


def _vary(value: Array, axes: tuple[str, ...]) -> Array:
    if hasattr(jax.lax, "pcast"):  # since jax 0.8.2
        return jax.lax.pcast(value, axes, to="varying")
    return getattr(jax.lax, "pvary")(value, axes)  # noqa: B009 - jax of today has it no more
