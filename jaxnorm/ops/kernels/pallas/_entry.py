"""The Pallas kernels: where they serve, and how they are called.

`_rows` has the kernels of samples that lie within a row (layer, RMS and per-head norms) and
`_columns` those of samples that span rows (batch, instance, group and ghost norms). Both have

    serves(view, dtypes, *, target) -> why not, or None
    standardize(view, x, scale, bias, *, epsilon, center, dtype, target, around)
        -> y, the sum, the step, mean, tail, var, rstd
    cotangent(view, ct, x, scale, mean, tail, rstd, ct_mean, ct_half, *, wanted, target, around)
        -> d_x, d_scale, d_bias

with x, y, ct and d_x of [n, r, c], scale and bias and their cotangents float32 of [a, c] or None,
and statistics float32 of [n, g]. `dtypes` are those of x and y; ct has that of y, d_x that of x.
Where nothing is centred mean, tail and ct_mean are None. `ct_half` is the cotangent of
`rstd / 2 dvar`, so `d_x` has the terms `(ct_mean + xhat ct_half) / count`; either may be None.
`wanted` says which of the three cotangents are computed; the others are None.

`around` is what else a kernel does, `_around.Forward` or `_around.Backward`. The sum and the step
are there only where they are asked for. `d_x` is a list: one array for each dtype in which the
cotangent of what is normalized is wanted.
"""

import functools
import math
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnorm.ops._formulas import Problem
from jaxnorm.ops._operands import filled, present, which
from jaxnorm.ops.kernels._layout import View, native_view
from jaxnorm.ops.kernels.pallas._targets import Target, is_gpu
from jaxnorm.typing import Shape

STORAGE = (jnp.float32, jnp.bfloat16, jnp.float16)
LARGEST = 1 << 31  # entries that Triton's offsets of 32 bits do not reach


@functools.cache
def why_not() -> str | None:
    """Returns why the Pallas kernels cannot be traced on this machine, or None where they can.

    Returns:
        A reason for people to read.

    Examples:
        >>> isinstance(why_not(), str | None)
        True
    """
    try:
        # Pallas takes as long to import as the rest of jaxnorm: only where a kernel is asked for.
        from jaxnorm.ops.kernels.pallas import _rows  # noqa: F401
    except ImportError as error:
        return f"Pallas cannot be imported: {error}"
    return None


def fuses(
    target: Target, problem: Problem, x: Any, parameters: tuple, cotangents: tuple
) -> str | None:
    """Returns why the kernels leave sum, activation and quantization to plain JAX, or None.

    Args:
        target: what they are compiled for.
        problem: describes the standardization.
        x: [*shape], or its aval.
        parameters: scale and bias, or their avals, those that are there.
        cotangents: the shapes in which cotangents of scale and bias are wanted.

    Returns:
        A reason for people to read.

    Examples:
        >>> from jaxnorm.stats.sampling import Sampling
        >>> problem = Problem(Sampling((1, 64)), 1e-6, jnp.dtype(jnp.int8), quantized=True)
        >>> fuses("gpu", problem, jnp.ones((8, 64)), (), ())
        'the kernels add a residual to rows only, and quantize rows only'
    """
    if problem.sum is None and not problem.quantized:
        return None
    affine = _affine_shape([v.shape for v in parameters] + list(cotangents))
    view = _view(x.shape, problem.stats_shape, affine)
    if view is None or view.r != 1:
        return "the kernels add a residual to rows only, and quantize rows only"
    if not is_gpu(target) and problem.quantized and problem.dtype != jnp.int8:
        return f"the TPU kernels write no {problem.dtype}"
    return None


def serves(
    target: Target, problem: Problem, x: Any, parameters: tuple, cotangents: tuple
) -> str | None:
    """Returns why the kernels do not serve, or None where they do.

    Args:
        target: what they are compiled for.
        problem: describes the standardization, in which `fuses` finds no fault.
        x: [*shape], or its aval.
        parameters: scale and bias, or their avals, those that are there.
        cotangents: the shapes in which cotangents of scale and bias are wanted.

    Returns:
        A reason for people to read.

    Examples:
        >>> from jaxnorm.stats.sampling import Sampling
        >>> problem = Problem(Sampling((8, 64)), 1e-6, jnp.dtype(jnp.float32))
        >>> serves("gpu", problem, jnp.ones((8, 64)), (), ())
        'the kernels have no layout for these axes: nothing is reduced, or kept and reduced ...'
    """
    counts = [problem.dtype] if problem.quantized else []
    dtypes = [jnp.dtype(x.dtype), *([] if counts else [problem.dtype]), *(problem.sum or ())]
    if any(d not in STORAGE for d in dtypes):
        names = sorted({str(d) for d in dtypes})
        return f"the kernels take float32, bfloat16 and float16, not {names}"
    if not is_gpu(target) and jnp.float16 in dtypes:
        return "the TPU kernels take no float16, which Mosaic does not load"
    if is_gpu(target) and math.prod(x.shape) >= LARGEST:
        return f"the GPU kernels take fewer than 2^31 entries, not {math.prod(x.shape)}"
    if problem.sampling.variance == "fast":
        return "the kernels have no variance='fast'"
    affine = _affine_shape([v.shape for v in parameters] + list(cotangents))
    if any(shape != affine for shape in cotangents):
        return "the kernels want scale and bias of one shape"
    view = _view(x.shape, problem.stats_shape, affine)
    if view is None:
        return (
            "the kernels have no layout for these axes: nothing is reduced, or kept and reduced "
            "axes alternate too often, or scale and bias vary along too many"
        )
    arrays = 0 if problem.sum is None else 6
    return _kernels(view).serves(view, (*dtypes, *counts), target=target, arrays=arrays)


def standardize(target: Target, *operands, problem: Problem, has) -> list:
    """Returns what `_primitives.plain_standardize` does, to rounding."""
    from jaxnorm.ops.kernels.pallas._around import Forward

    x, residual, scale, bias, step = filled(has, operands)
    affine = _affine_shape([v.shape for v in (scale, bias) if v is not None])
    view = _view(x.shape, problem.stats_shape, affine)
    assert view is not None  # `serves` has seen it
    around = Forward(
        _viewed(residual, view),
        None if problem.sum is None else problem.sum.total,
        problem.activation,
        problem.quantized,
        None if step is None else step.reshape(view.n, view.g),
    )
    out = _kernels(view).standardize(
        view,
        _viewed(x, view),
        _of_channels(scale, view),
        _of_channels(bias, view),
        epsilon=problem.epsilon,
        center=problem.center,
        dtype=problem.dtype,
        target=target,
        around=around,
    )
    ys = 1 + (problem.sum is not None)
    shaped = [v.reshape(problem.stats_shape) for v in out[ys:] if v is not None]
    return [*(v.reshape(x.shape) for v in out[:ys]), *shaped]


def cotangent(target: Target, *operands, problem: Problem, has, shapes) -> list:
    """Returns what `_primitives.plain_cotangent` does, to rounding."""
    from jaxnorm.ops.kernels.pallas._around import Backward

    ct, ct_total, ct_mean, ct_half, *kept = filled(has, operands)
    x, residual, scale, bias, mean, tail, rstd = kept
    affine = [v.shape for v in (scale, bias) if v is not None] + list(present(shapes[2:]))
    view = _view(x.shape, problem.stats_shape, _affine_shape(affine))
    assert view is not None  # `serves` has seen it
    if problem.center and tail is None:
        tail = jnp.zeros_like(mean)
    statistics = (mean, tail, rstd, ct_mean if problem.center else None, ct_half)
    small = [None if v is None else v.reshape(view.n, view.g) for v in statistics]
    inputs = (x.dtype, x.dtype) if problem.sum is None else problem.sum[:2]
    # x and the residual have one cotangent, which is written once for each dtype.
    wanted = [None if s is None else jnp.dtype(d) for s, d in zip(shapes, inputs)]
    dtypes = tuple(dict.fromkeys(present(wanted)))
    around = Backward(
        _viewed(residual, view),
        _viewed(ct_total, view),
        _of_channels(bias, view),
        problem.activation,
        dtypes,
    )
    out = _kernels(view).cotangent(
        view,
        *(_viewed(v, view) for v in (ct, x)),
        _of_channels(scale, view),
        *small,
        wanted=(bool(dtypes), *which(shapes[2:])),
        target=target,
        around=around,
    )
    found = dict(zip(dtypes, out[0] or (), strict=True))
    d_inputs = [None if d is None else found[d].reshape(x.shape) for d in wanted]
    sums = [v if shape is None else _summed(v, shape) for v, shape in zip(out[1:], shapes[2:])]
    d_affine = [v.reshape(s) for v, s in zip(sums, shapes[2:]) if s is not None]
    return [*present(d_inputs), *d_affine]


def _viewed(value, view: View):
    return None if value is None else value.reshape(view.n, view.r, view.c)


def _summed(cotangent, shape: Shape):
    """Returns the cotangent of a single scale or bias for all channels."""
    return cotangent.sum() if math.prod(shape) == 1 else cotangent


def _kernels(view: View) -> ModuleType:
    """Returns the file of kernels for a view."""
    if view.r == 1:
        from jaxnorm.ops.kernels.pallas import _rows

        return _rows
    from jaxnorm.ops.kernels.pallas import _columns

    return _columns


def _view(shape: Shape, stats_shape: Shape, affine_shape: Shape | None) -> View | None:
    if affine_shape is not None and math.prod(affine_shape) == 1:
        affine_shape = None  # one scale for all says nothing about channels
    view = native_view(shape, stats_shape, affine_shape)
    if view is None or affine_shape is not None or view.g != 1:
        return view
    # Without scale and bias a whole sample is a row: the view cuts long ones for threads of a CPU.
    return View(view.n, 1, view.r * view.c, 1, 1, 0, view.row * view.c + view.member)


def _affine_shape(shapes: list[Shape]) -> Shape | None:
    """Returns the shape that scale and bias, or their cotangents, have together."""
    return np.broadcast_shapes(*shapes) if shapes else None


def _of_channels(parameter, view: View):
    """Returns scale or bias repeated for each affine, [a, c] in float32."""
    if parameter is None:
        return None
    wide = parameter.astype(jnp.float32)
    wide = wide.reshape(-1, view.c) if wide.size % view.c == 0 else wide.reshape(-1, 1)
    return jnp.broadcast_to(wide, (view.a, view.c))
