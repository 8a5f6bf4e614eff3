"""The native CPU kernels: where they serve, and how they are called."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm.ops._formulas import Problem
from jaxnorm.ops._operands import filled
from jaxnorm.ops.kernels import _library
from jaxnorm.ops.kernels._layout import View, native_view
from jaxnorm.typing import Array, Shape

STORAGE = (jnp.float32, jnp.bfloat16, jnp.float16)
IN_CACHE = 1 << 20  # bytes of a sample that stay in a core's cache; `kSampleBytes` in columns.h


def why_not() -> str | None:
    """Returns why the native kernels cannot be used on this machine, or None where they can.

    Returns:
        A reason for people to read.

    Examples:
        >>> isinstance(why_not(), str | None)
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


def serves(problem: Problem, x: Any, parameters: tuple, cotangents: tuple) -> str | None:
    """Returns why the kernels do not serve, or None where they do.

    Args:
        problem: describes the standardization.
        x: [*shape], or its aval.
        parameters: scale and bias, or their avals, those that are there.
        cotangents: the shapes in which cotangents of scale and bias are wanted.

    Returns:
        A reason for people to read.

    Examples:
        >>> from jaxnorm.stats.sampling import Sampling
        >>> problem = Problem(Sampling((8, 64)), 1e-6, jnp.dtype(jnp.float32))
        >>> serves(problem, jnp.ones((8, 64)), (), ())
        'the kernels have no layout for these axes: nothing is reduced, or kept and reduced ...'
    """
    storage = {jnp.dtype(x.dtype), problem.dtype}
    if any(d not in STORAGE for d in storage):
        return f"the kernels take float32, bfloat16 and float16, not {sorted(map(str, storage))}"
    if len(storage - {jnp.dtype(jnp.float32)}) > 1:
        return "the kernels do not turn one narrow dtype into another"
    if problem.sampling.variance == "fast":
        return "the kernels have no variance='fast'"
    affine = _affine_shape([v.shape for v in parameters] + list(cotangents))
    if any(shape != affine for shape in cotangents):
        return "the kernels want scale and bias of one shape"
    if native_view(x.shape, problem.stats_shape, affine) is None:
        return (
            "the kernels have no layout for these axes: nothing is reduced, or kept and reduced "
            "axes alternate too often, or scale and bias vary along too many"
        )
    return None


def standardize(*operands, problem: Problem, has) -> list:
    """Returns what `_primitives.plain_standardize` does, to rounding."""
    x, _, scale, bias, _ = filled(has, operands)
    view = _view(x, problem, [v.shape for v in (scale, bias) if v is not None])
    size = view.n * view.g
    centered = size if problem.center else 0
    # A sample past a core's cache is read a second time in any case. XLA can do that together with
    # what follows, such as a ReLU, and then neither stores y nor keeps it for the backward pass.
    whole = view.r == 1 or view.r * view.c * x.dtype.itemsize <= IN_CACHE
    line = 0 if whole else view.n * view.c
    results = [
        jax.ShapeDtypeStruct(x.shape if whole else (0,), problem.dtype),
        *_floats([centered, centered, size, size, line, line, line]),
    ]
    given = [_flat(scale, view), _flat(bias, view)]
    call = jax.ffi.ffi_call("jaxnorm_forward", results)
    attributes = {**_attributes(problem, view), "epsilon": np.float32(problem.epsilon)}
    y, *rest = call(x, *map(_operand, given), **attributes)
    statistics = [v.reshape(problem.stats_shape) for v in rest[:4] if v.size]
    if not whole:
        shift, slope, start = (v.reshape(view.n, 1, view.c) for v in rest[4:])
        wide = x.reshape(view.n, view.r, view.c).astype(jnp.float32)
        y = ((wide - shift) * slope + start).astype(problem.dtype).reshape(x.shape)
    return [y, *statistics]


def cotangent(*operands, problem: Problem, has, shapes) -> list:
    """Returns what `_primitives.plain_cotangent` does, to rounding."""
    ct_y, _, ct_mean, ct_half, x, _, scale, _, mean, tail, rstd = filled(has, operands)
    wanted = [shape for shape in shapes[2:] if shape is not None]
    view = _view(x, problem, wanted + ([] if scale is None else [scale.shape]))
    if problem.center and tail is None:
        tail = jnp.zeros_like(mean)
    ct_var = None if ct_half is None else ct_half * rstd / 2
    results = [jax.ShapeDtypeStruct((0,) if shapes[0] is None else x.shape, x.dtype)]
    results += _floats([0 if shape is None else view.a * view.c for shape in shapes[2:]])
    given = [_flat(scale, view), mean, tail, rstd, ct_mean, ct_var]
    call = jax.ffi.ffi_call("jaxnorm_backward", results)
    out = call(x, ct_y, *map(_operand, given), **_attributes(problem, view))
    pairs = zip(out, (shapes[0], *shapes[2:]), strict=True)
    return [v.reshape(shape) for v, shape in pairs if shape is not None]


def _view(x: Array, problem: Problem, shapes: list[Shape]) -> View:
    view = native_view(x.shape, problem.stats_shape, _affine_shape(shapes))
    assert view is not None  # `serves` has seen it
    return view


def _affine_shape(shapes: list[Shape]) -> Shape | None:
    """Returns the shape that scale and bias, or their cotangents, have together."""
    return np.broadcast_shapes(*shapes) if shapes else None


def _attributes(problem: Problem, view: View) -> dict:
    return {"view": np.array(view, np.int64), "center": problem.center}


def _floats(sizes: list[int]) -> list:
    return [jax.ShapeDtypeStruct((size,), jnp.float32) for size in sizes]


def _operand(value):
    """Returns an operand as the kernels take it: flat, and empty where it is missing."""
    return jnp.zeros((0,), jnp.float32) if value is None else value.reshape(-1)


def _flat(parameter, view: View):
    """Returns scale or bias repeated for each affine, [a * c]."""
    if parameter is None or parameter.size == view.a * view.c:
        return parameter
    return jnp.broadcast_to(parameter.reshape(-1, view.c), (view.a, view.c))
