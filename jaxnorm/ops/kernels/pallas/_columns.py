"""Columns: batch, ghost batch, instance and group normalization of [n, r, c].

A sample is one group of adjacent channels, or one channel, in all rows of an image. The forward
pass reads `x` twice and writes `y`; the backward pass reads `x` and the cotangent twice.
"""

import functools

import jax.numpy as jnp

from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas import _column_moments, _column_whole
from jaxnorm.ops.kernels.pallas._column_blocks import affine_grid, moments_grid, whole_grid
from jaxnorm.ops.kernels.pallas._column_passes import block_sums, normalized, pulled
from jaxnorm.ops.kernels.pallas._column_run import Block, run
from jaxnorm.ops.kernels.pallas._targets import Target
from jaxnorm.typing import Array, DTypeLike


def serves(view: View, dtypes: tuple, *, target: Target) -> str | None:
    """Returns why the kernels do not serve, or None where they do.

    Args:
        view: of the array.
        dtypes: of x and y.
        target: what the kernels are compiled for.

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
    widest = _widest(x.dtype, jnp.dtype(dtype))
    grid = whole_grid(view, widest, target)
    if grid is not None:
        y, *statistics = _column_whole.forward(
            view, grid, x, affine, epsilon=epsilon, center=center, dtype=dtype
        )
    else:
        *statistics, location = _column_moments.statistics(view, x, epsilon, center, target)
        kernel = functools.partial(_affine, tuple(v is not None for v in affine))
        lines = [location, *(v for v in affine if v is not None)]
        grid = affine_grid(view.n, view.r, view.c, widest, target)
        (y,) = run("jaxnorm_column_affine", kernel, grid, [x], lines, [jnp.dtype(dtype)])
    mean, tail, var, rstd = (v.reshape(view.n, view.g) for v in statistics)
    return y, *((mean, tail) if center else (None, None)), var, rstd


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

    Returns:
        `d_x` [n, r, c] of the dtype of `x`; `d_scale` and `d_bias` [a, c], float32.

    Examples:
        >>> view = View(n=1, r=2, c=1, g=1, a=1, row=1, member=0)
        >>> x, one = jnp.array([[[-1.0], [1.0]]]), jnp.ones((1, 1))
        >>> given = (x, x, None, 0 * one, None, one, None, None)
        >>> cotangent(view, *given, wanted=(True, True, True), target="gpu_interpreted")[1:]
        (Array([[2.]], dtype=float32), Array([[0.]], dtype=float32))
    """
    widest = _widest(x.dtype, ct.dtype)
    location = _lines(view, mean, tail, rstd)
    scale = _by_lines(view, scale)
    center = mean is not None
    grid = whole_grid(view, widest, target)
    if grid is not None and wanted[0]:
        given = None
        if ct_mean is not None or ct_half is not None:
            given = _lines(view, ct_mean, ct_half)
        d_x, sums = _column_whole.backward(view, grid, x, ct, location, scale, given, center)
        sums = sums[:, 0]
    else:
        grid = moments_grid(view.n, view.r, view.c, widest, target)
        (parts,) = run("jaxnorm_column_sums", _sums, grid, [x, ct], [location], [(2, 1)])
        sums = jnp.sum(parts[:, : grid.blocks], axis=1)
        d_x = None
        if wanted[0]:
            pull = _shared(view, sums, scale, rstd, ct_mean, ct_half)
            grid = affine_grid(view.n, view.r, view.c, widest, target)
            lines = [location, pull, *(() if scale is None else (scale,))]
            kernel = functools.partial(_pull, center)
            (d_x,) = run("jaxnorm_column_pull", kernel, grid, [x, ct], lines, [x.dtype])
    of_ct, of_product = (jnp.sum(sums[:, k].reshape(view.a, -1, view.c), axis=1) for k in range(2))
    return d_x, of_product if wanted[1] else None, of_ct if wanted[2] else None


def _shared(view: View, sums: Array, scale: Array | None, rstd: Array, *given: Array | None):
    """Returns what the cotangents of the statistics give each entry of a sample, [n, 2, c].

    That is `given - rstd sum(scale ct)` and `given - rstd sum(scale ct xhat)`, divided among the
    entries.
    """
    n, _, c, g, a, *_ = view
    if scale is not None:
        sums = (sums.reshape(a, n // a, 2, c) * scale.reshape(-1, 1, 1, c)).reshape(n, 2, c)
    total = -rstd.reshape(n, 1, g) * jnp.sum(sums.reshape(n, 2, g, c // g), axis=3)
    share = 1 / (view.r * (c // g))
    held = [0 if v is None else v.reshape(n, g) for v in given]
    return _lines(view, *((held[k] + total[:, k]) * share for k in range(2)))


def _lines(view: View, *statistics: Array | None) -> Array:
    """Returns statistics of `n * g` entries for each channel, [n, k, c]; zero where None."""
    nothing = jnp.zeros((view.n, view.g), jnp.float32)
    values = [nothing if v is None else v.reshape(view.n, view.g) for v in statistics]
    return jnp.repeat(jnp.stack(values, axis=1), view.c // view.g, axis=2)


def _by_lines(view: View, parameter: Array | None) -> Array | None:
    """Returns a scale or bias as lines for kernels, [a, 1, c]."""
    return None if parameter is None else parameter.reshape(-1, 1, view.c)


def _widest(*dtypes: jnp.dtype) -> jnp.dtype:
    return max(dtypes, key=lambda dtype: dtype.itemsize)


def _affine(has: tuple[bool, ...], block: Block, x_ref, location_ref, *refs) -> None:
    *affine_refs, y_ref = refs
    mean, tail, rstd = (block.line(location_ref, k) for k in range(3))
    normalized(block, x_ref, y_ref, mean, tail, rstd, has, affine_refs)


def _sums(block: Block, x_ref, ct_ref, location_ref, out_ref) -> None:
    location = (block.line(location_ref, k) for k in range(3))
    for k, value in enumerate(block_sums(block, x_ref, ct_ref, *location)):
        block.store_line(out_ref, k, value)


def _pull(center: bool, block: Block, x_ref, ct_ref, location_ref, pull_ref, *refs) -> None:
    *scale_refs, out_ref = refs
    mean, tail, rstd = (block.line(location_ref, k) for k in range(3))
    gain = rstd * block.line(scale_refs[0], 0) if scale_refs else rstd
    start, slope = (block.line(pull_ref, k) for k in range(2))
    start = start if center else jnp.zeros_like(start)
    pulled(block, x_ref, ct_ref, out_ref, (mean, tail, rstd, gain, slope, start))
