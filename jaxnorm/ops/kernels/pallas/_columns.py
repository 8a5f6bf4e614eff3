"""Columns: batch, ghost batch, instance and group normalization of [n, r, c].

A sample is one group of adjacent channels, or one channel, in all rows of an image. The forward
pass reads `x` twice and writes `y`; the backward pass reads `x` and the cotangent twice.
"""

import functools

import jax.numpy as jnp
from jax import lax

from jaxnorm.numerics import accumulation_dtype
from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas import _column_moments
from jaxnorm.ops.kernels.pallas._column_grid import Block, affine_grid, moments_grid, run
from jaxnorm.typing import Array, DTypeLike


def standardize(
    view: View,
    x: Array,
    scale: Array | None,
    bias: Array | None,
    *,
    epsilon: float,
    center: bool,
    dtype: DTypeLike,
    target: str,
) -> tuple:
    """Returns the normalized array and the statistics.

    Args:
        view: of `x`.
        x: [n, r, c], float32, bfloat16 or float16.
        scale: of `a * c` entries, or of `c`; or None.
        bias: likewise.
        epsilon: added to the variance.
        center: whether the mean is subtracted.
        dtype: of `y`.
        target: "gpu", "tpu" or "interpret".

    Returns:
        `y` [n, r, c], and mean, tail (None where nothing is centred), var and rstd, each [n, g].

    Examples:
        >>> view = View(n=1, r=2, c=2, g=2, a=1, row=1, member=0)
        >>> x = jnp.array([[[1.0, 5.0], [3.0, 5.0]]])
        >>> options = {"epsilon": 3.0, "center": True, "dtype": x.dtype, "target": "interpret"}
        >>> standardize(view, x, None, jnp.array([0.0, 7.0]), **options)[0]
        Array([[[-0.5,  7. ],
                [ 0.5,  7. ]]], dtype=float32)
    """
    statistics = _column_moments.statistics(view, x, epsilon, center, target)
    affine = [v.reshape(-1, 1, view.c) for v in (scale, bias) if v is not None]
    kernel = functools.partial(_affine, scale is not None, bias is not None)
    grid = affine_grid(view.n, view.r, view.c, _widest(x.dtype, jnp.dtype(dtype)), target)
    (y,) = run(kernel, grid, [x], [statistics, *affine], [jnp.dtype(dtype)])
    mean, tail, var, rstd = (statistics[:, k, :: view.c // view.g] for k in range(4))
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
    target: str,
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
        scale: of `a * c` entries, or of `c`; or None.
        mean: of `n * g` entries; None where nothing is centred.
        tail: likewise, or None for zero.
        rstd: of `n * g` entries.
        ct_mean: the cotangent of the mean, likewise, or None for zero.
        ct_half: that of `rstd / 2 dvar`, or None for zero.
        wanted: which of the cotangents of x, scale and bias.
        target: "gpu", "tpu" or "interpret".

    Returns:
        `d_x` [n, r, c] of the dtype of `x`; `d_scale` and `d_bias` [a, c], float32.

    Examples:
        >>> view = View(n=1, r=2, c=1, g=1, a=1, row=1, member=0)
        >>> x, one = jnp.array([[[-1.0], [1.0]]]), jnp.ones((1, 1))
        >>> given = (x, x, None, 0 * one, None, one, None, None)
        >>> cotangent(view, *given, wanted=(True, True, True), target="interpret")[1:]
        (Array([[2.]], dtype=float32), Array([[0.]], dtype=float32))
    """
    widest = _widest(x.dtype, ct.dtype)
    grid = moments_grid(view.n, view.r, view.c, widest, target)
    location = [_of_channels(v, view) for v in (mean, tail, rstd)]
    (parts,) = run(_sums, grid, [x, ct], [_lines(view, *location)], [2])
    of_ct, of_product = (jnp.sum(parts[:, : grid.blocks, k], axis=1) for k in range(2))
    d_scale, d_bias = (
        jnp.sum(v.reshape(view.a, -1, view.c), axis=1) if wish else None
        for v, wish in zip((of_product, of_ct), wanted[1:], strict=True)
    )
    if not wanted[0]:
        return None, d_scale, d_bias
    gain = jnp.float32(1) if scale is None else _of_samples(scale, view)
    d_mean, d_half = (
        _of_channels(_shared(given, rstd, gain * v, view), view)
        for given, v in ((ct_mean, of_ct), (ct_half, of_product))
    )
    start = None if mean is None else d_mean
    lines = _lines(view, *location, location[2] * gain, d_half, start)
    grid = affine_grid(view.n, view.r, view.c, widest, target)
    (d_x,) = run(_pull, grid, [x, ct], [lines], [x.dtype])
    return d_x, d_scale, d_bias


def _of_channels(statistic: Array | None, view: View) -> Array | None:
    """Returns statistics of [n, g] for each channel, [n, c]."""
    if statistic is None:
        return None
    return jnp.repeat(statistic.reshape(view.n, view.g), view.c // view.g, axis=1)


def _shared(given: Array | None, rstd: Array, values: Array, view: View) -> Array:
    """Returns what the cotangent of a statistic gives each entry of its sample, [n, g].

    That is `given - rstd sum(values)`, shared among the entries; `values` are of [n, c].
    """
    rstd = rstd.reshape(view.n, view.g)
    total = -rstd * jnp.sum(values.reshape(view.n, view.g, -1), axis=2)
    total = total if given is None else total + given.reshape(rstd.shape)
    return total / (view.r * (view.c // view.g))


def _of_samples(parameter: Array, view: View) -> Array:
    """Returns a scale or bias for each sample, [n, c]."""
    wide = parameter.astype(accumulation_dtype(parameter.dtype)).reshape(-1, 1, view.c)
    return jnp.broadcast_to(wide, (view.a, view.n // view.a, view.c)).reshape(view.n, view.c)


def _lines(view: View, *values: Array | None) -> Array:
    """Returns what kernels read for each channel, [n, k, c]; zero where there is none."""
    nothing = jnp.zeros((view.n, view.c), jnp.float32)
    return jnp.stack([nothing if v is None else v for v in values], axis=1)


def _widest(*dtypes: jnp.dtype) -> jnp.dtype:
    return max(dtypes, key=lambda dtype: dtype.itemsize)


def _affine(scaled: bool, biased: bool, block: Block, x_ref, statistics_ref, *refs) -> None:
    """Stores `(x - mean - tail) rstd scale + bias`."""
    *affine_refs, y_ref = refs
    mean, tail, _, gain = (block.line(statistics_ref, k) for k in range(4))
    gain = gain * block.line(affine_refs[0], 0) if scaled else gain
    bias = block.line(affine_refs[-1], 0) if biased else 0

    def step(i, _):
        y = ((block.load(x_ref, i) - mean) - tail) * gain + bias
        block.store(y_ref, i, y)

    lax.fori_loop(0, block.grid.tiles, step, None)


def _sums(block: Block, x_ref, ct_ref, lines_ref, out_ref) -> None:
    """Stores for each channel of a block the sums of `ct` and of `ct xhat`."""
    mean, tail, rstd = (block.line(lines_ref, k) for k in range(3))

    def step(i, carry):
        ct = block.within(i, block.load(ct_ref, i))
        xhat = ((block.load(x_ref, i) - mean) - tail) * rstd
        return carry[0] + ct, carry[1] + block.within(i, ct * xhat)

    for k, lanes in enumerate(lax.fori_loop(0, block.grid.tiles, step, (block.zeros(),) * 2)):
        block.store_line(out_ref, k, jnp.sum(lanes, axis=0, keepdims=True))


def _pull(block: Block, x_ref, ct_ref, lines_ref, out_ref) -> None:
    """Stores `ct gain + xhat slope + start`."""
    mean, tail, rstd, gain, slope, start = (block.line(lines_ref, k) for k in range(6))

    def step(i, _):
        xhat = ((block.load(x_ref, i) - mean) - tail) * rstd
        block.store(out_ref, i, block.load(ct_ref, i) * gain + (xhat * slope + start))

    lax.fori_loop(0, block.grid.tiles, step, None)
