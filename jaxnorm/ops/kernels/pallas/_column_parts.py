"""Samples larger than a block: their parts meet between two kernels, forward and backward."""

import functools

import jax.numpy as jnp

from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas import _column_moments
from jaxnorm.ops.kernels.pallas._column_blocks import (
    ColumnBlocks,
    affine_grid,
    moments_grid,
    widest,
)
from jaxnorm.ops.kernels.pallas._column_passes import block_sums, normalized, pulled
from jaxnorm.ops.kernels.pallas._column_run import Block, run
from jaxnorm.ops.kernels.pallas._targets import Target
from jaxnorm.typing import Array, DTypeLike


def forward(
    view: View,
    x: Array,
    affine: tuple[Array | None, Array | None],
    *,
    epsilon: float,
    center: bool,
    dtype: DTypeLike,
    target: Target,
    blocks: ColumnBlocks | None = None,
) -> list[Array]:
    """Returns the normalized array and the statistics: see `_column_whole.forward`."""
    *statistics, location = _column_moments.statistics(view, x, epsilon, center, target, blocks)
    kernel = functools.partial(_affine, tuple(v is not None for v in affine))
    lines = [location, *(v for v in affine if v is not None)]
    grid = affine_grid(view.n, view.r, view.c, widest(x.dtype, dtype), target, blocks=blocks)
    (y,) = run("jaxnorm_column_affine", kernel, grid, [x], lines, [jnp.dtype(dtype)])
    return [y, *(v.reshape(view.n, view.g) for v in statistics)]


def sums(
    view: View,
    x: Array,
    ct: Array,
    location: Array,
    target: Target,
    blocks: ColumnBlocks | None = None,
) -> Array:
    """Returns the sums of `ct` and of `ct xhat` over each sample's rows.

    Args:
        view: of `x`.
        x: [n, r, c].
        ct: [n, r, c].
        location: [n, 3, c], mean, tail and `1 / std`.
        target: what the kernel is compiled for.
        blocks: of a GPU; those of `column_blocks` if None.

    Returns:
        [n, 2, c], float32.

    Examples:
        >>> view, x = View(1, 2, 1, 1, 1, 0, 0), jnp.array([[[-1.0], [1.0]]])
        >>> location = jnp.array([[[0.0], [0.0], [1.0]]])
        >>> sums(view, x, x, location, "gpu_interpreted").ravel()
        Array([0., 2.], dtype=float32)
    """
    about = (widest(x.dtype, ct.dtype), target, "columns backward", blocks)
    grid = moments_grid(view.n, view.r, view.c, *about)
    (parts,) = run("jaxnorm_column_sums", _sums, grid, [x, ct], [location], [(2, 1)])
    return jnp.sum(parts[:, : grid.blocks], axis=1)


def backward(
    view: View,
    x: Array,
    ct: Array,
    location: Array,
    scale: Array | None,
    given: Array | None,
    center: bool,
    target: Target,
    blocks: ColumnBlocks | None = None,
) -> list[Array]:
    """Returns the cotangent of `x` and the `sums`: see `_column_whole.backward`."""
    total = sums(view, x, ct, location, target, blocks)
    pull = _shared(view, total, scale, location[:, 2:], given)
    lines = [location, pull, *(() if scale is None else (scale,))]
    about = (widest(x.dtype, ct.dtype), target, "columns backward", blocks)
    grid = affine_grid(view.n, view.r, view.c, *about)
    kernel = functools.partial(_pull, center)
    (d_x,) = run("jaxnorm_column_pull", kernel, grid, [x, ct], lines, [x.dtype])
    return [d_x, total]


def _shared(view: View, sums: Array, scale: Array | None, rstd: Array, given: Array | None):
    """Returns what the cotangents of the statistics give each entry of a sample, [n, 2, c].

    That is `given - rstd sum(scale ct)` and `given - rstd sum(scale ct xhat)`, divided among the
    entries.
    """
    n, _, c, g, a, *_ = view
    if scale is not None:
        sums = (sums.reshape(a, n // a, 2, c) * scale.reshape(a, 1, 1, c)).reshape(n, 2, c)
    total = jnp.sum(sums.reshape(n, 2, g, c // g), axis=3)
    total = -rstd * jnp.repeat(total, c // g, axis=2)
    return (total if given is None else given + total) * (1 / (view.r * (c // g)))


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
