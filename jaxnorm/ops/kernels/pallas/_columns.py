"""Columns: batch, ghost batch, instance and group normalization of [n, r, c].

A sample is one group of adjacent channels, or one channel, in all rows of an image. The forward
pass reads `x` twice and writes `y`; the backward pass reads `x` and the cotangent twice.
"""

import jax.numpy as jnp

from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas import _column_parts, _column_whole
from jaxnorm.ops.kernels.pallas._around import Backward, Forward
from jaxnorm.ops.kernels.pallas._column_blocks import whole_grid, widest
from jaxnorm.ops.kernels.pallas._targets import Target
from jaxnorm.typing import Array, DTypeLike


def serves(view: View, dtypes: tuple, *, target: Target, arrays: int = 0) -> str | None:
    """Returns why the kernels do not serve, or None where they do.

    Args:
        view: of the array.
        dtypes: of x and y.
        target: what the kernels are compiled for.
        arrays: how many the backward pass reads and writes.

    Returns:
        None: they take every size.

    Examples:
        >>> serves(View(1, 2, 1, 1, 1, 0, 0), (), target="gpu") is None
        True
    """
    return None


def standardize(
    view: View,
    x: Array,
    scale: Array | None,
    bias: Array | None,
    *,
    epsilon: float,
    center: bool,
    dtype: DTypeLike,
    target: Target,
    around: Forward = Forward(),
) -> tuple:
    """Returns the normalized array and the statistics.

    Args:
        view: of `x`.
        x: [n, r, c], float32, bfloat16 or float16.
        scale: [a, c], float32, or None.
        bias: likewise.
        epsilon: added to the variance.
        center: whether the mean is subtracted.
        dtype: of `y`.
        target: what the kernels are compiled for.
        around: of which the activation behind scale and bias is taken.

    Returns:
        `y` [n, r, c], and mean, tail (None where nothing is centred), var and rstd, each [n, g].

    Examples:
        >>> view = View(n=1, r=2, c=2, g=2, a=1, row=1, member=0)
        >>> x = jnp.array([[[1.0, 5.0], [3.0, 5.0]]])
        >>> options = {"epsilon": 3.0, "center": True, "dtype": x.dtype}
        >>> options["target"] = "gpu_interpreted"
        >>> standardize(view, x, None, jnp.array([[0.0, 7.0]]), **options)[0]
        Array([[[-0.5,  7. ],
                [ 0.5,  7. ]]], dtype=float32)
    """
    affine = _by_lines(view, scale), _by_lines(view, bias)
    options: dict = {"epsilon": epsilon, "center": center, "dtype": dtype}
    options["activation"] = around.activation
    grid = whole_grid(view, widest(x.dtype, dtype), target)
    if grid is None:
        y, mean, tail, *rest = _column_parts.forward(view, x, affine, target=target, **options)
    else:
        y, mean, tail, *rest = _column_whole.forward(view, grid, x, affine, **options)
    return y, *((mean, tail) if center else (None, None)), *rest


def cotangent(
    view: View,
    ct: Array,
    x: Array,
    scale: Array | None,
    mean: Array | None,
    tail: Array | None,
    rstd: Array,
    ct_mean: Array | None,
    ct_half: Array | None,
    *,
    wanted: tuple[bool, bool, bool],
    target: Target,
    around: Backward = Backward(),
) -> tuple:
    """Returns the cotangents of x, scale and bias, None where one is not wanted.

    With N entries in a sample and sums over each sample: `d_mean = ct_mean - rstd sum(scale ct)`,
    `d_half = ct_half - rstd sum(scale ct xhat)` and
    `d_x = scale rstd ct + (d_mean + xhat d_half) / N`; sums over what shares a scale and a bias:
    `d_scale = sum(ct xhat)`, `d_bias = sum(ct)` (Ioffe and Szegedy, arXiv:1502.03167, 2015,
    section 3, with cotangents of the statistics).

    Args:
        view: of `x`.
        ct: [n, r, c], the cotangent of `y`.
        x: [n, r, c].
        scale: [a, c], float32, or None.
        mean: [n, g], or None where nothing is centred.
        tail: likewise.
        rstd: [n, g].
        ct_mean: the cotangent of the mean, likewise, or None for zero.
        ct_half: that of `rstd / 2 dvar`, or None for zero.
        wanted: which of the cotangents of x, scale and bias.
        target: what the kernels are compiled for.
        around: of which activation and bias are taken.

    Returns:
        `d_x`, a list of one [n, r, c] of the dtype of `x`; `d_scale` and `d_bias` [a, c], float32.

    Examples:
        >>> view = View(n=1, r=2, c=1, g=1, a=1, row=1, member=0)
        >>> x, one = jnp.array([[[-1.0], [1.0]]]), jnp.ones((1, 1))
        >>> given = (x, x, None, 0 * one, None, one, None, None)
        >>> cotangent(view, *given, wanted=(True, True, True), target="gpu_interpreted")[1:]
        (Array([[2.]], dtype=float32), Array([[0.]], dtype=float32))
    """
    location = _lines(view, mean, tail, rstd)
    given = None if ct_mean is ct_half is None else _lines(view, ct_mean, ct_half)
    affine = _by_lines(view, scale), _by_lines(view, around.bias)
    inputs = (x, ct, location, affine, given, mean is not None)
    grid = whole_grid(view, widest(x.dtype, ct.dtype), target)
    if not wanted[0]:
        parts = (location, target, affine, around.activation)
        d_x, sums = [], _column_parts.sums(view, x, ct, *parts)
    elif grid is None:
        *d_x, sums = _column_parts.backward(view, *inputs, target, around.activation)
    else:
        *d_x, sums = _column_whole.backward(view, grid, *inputs, around.activation)
    sums = jnp.sum(sums.reshape(view.a, -1, 2, view.c), axis=1)
    return d_x or None, sums[:, 1] if wanted[1] else None, sums[:, 0] if wanted[2] else None


def _lines(view: View, *statistics: Array | None) -> Array:
    """Returns statistics of [n, g] for each channel, [n, k, c]; zero where None."""
    nothing = jnp.zeros((view.n, view.g), jnp.float32)
    values = [nothing if v is None else v for v in statistics]
    return jnp.repeat(jnp.stack(values, axis=1), view.c // view.g, axis=2)


def _by_lines(view: View, parameter: Array | None) -> Array | None:
    """Returns a scale or bias as lines for kernels, [a, 1, c]."""
    return None if parameter is None else parameter.reshape(-1, 1, view.c)
