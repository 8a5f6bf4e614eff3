"""Samples larger than a block: their parts meet between two kernels, forward and backward."""

import functools

import jax.numpy as jnp

from jaxnorm.ops._operands import present, which
from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas import _column_moments
from jaxnorm.ops.kernels.pallas._column_blocks import (
    ColumnBlocks,
    affine_grid,
    moments_grid,
    widest,
)
from jaxnorm.ops.kernels.pallas._column_passes import (
    affine_lines,
    block_sums,
    normalized,
    pulled,
)
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
    activation: str | None = None,
    blocks: ColumnBlocks | None = None,
) -> list[Array]:
    """Returns the normalized array and the statistics: see `_column_whole.forward`."""
    *statistics, location = _column_moments.statistics(view, x, epsilon, center, target, blocks)
    kernel = functools.partial(_affine, which(affine), activation)
    lines = [location, *present(affine)]
    grid = affine_grid(view.n, view.r, view.c, widest(x.dtype, dtype), target, blocks=blocks)
    (y,) = run("jaxnorm_column_affine", kernel, grid, [x], lines, [jnp.dtype(dtype)])
    return [y, *(v.reshape(view.n, view.g) for v in statistics)]


def sums(
    view: View,
    x: Array,
    ct: Array,
    location: Array,
    target: Target,
    affine: tuple[Array | None, Array | None] = (None, None),
    activation: str | None = None,
    blocks: ColumnBlocks | None = None,
) -> Array:
    """Returns the sums of `ct` and of `ct xhat` over each sample's rows.

    Args:
        view: of `x`.
        x: [n, r, c].
        ct: [n, r, c].
        location: [n, 3, c], mean, tail and `1 / std`.
        target: what the kernel is compiled for.
        affine: scale and bias, each [a, 1, c] or None; without activation they do not matter.
        activation: behind scale and bias, or None.
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
    affine = affine if activation else (None, None)
    kernel = functools.partial(_sums, which(affine), activation)
    lines = [location, *present(affine)]
    (parts,) = run("jaxnorm_column_sums", kernel, grid, [x, ct], lines, [(2, 1)])
    return jnp.sum(parts[:, : grid.blocks], axis=1)


def backward(
    view: View,
    x: Array,
    ct: Array,
    location: Array,
    affine: tuple[Array | None, Array | None],
    given: Array | None,
    center: bool,
    target: Target,
    activation: str | None = None,
    blocks: ColumnBlocks | None = None,
) -> list[Array]:
    """Returns the cotangent of `x` and the `sums`: see `_column_whole.backward`."""
    total = sums(view, x, ct, location, target, affine, activation, blocks)
    pull = _shared(view, total, affine[0], location[:, 2:], given)
    lines = [location, pull, *present(affine)]
    about = (widest(x.dtype, ct.dtype), target, "columns backward", blocks)
    grid = affine_grid(view.n, view.r, view.c, *about)
    kernel = functools.partial(_pull, which(affine), center, activation)
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


def _affine(has, activation, block: Block, x_ref, location_ref, *refs) -> None:
    *affine_refs, y_ref = refs
    location = [block.line(location_ref, k) for k in range(3)]
    affine = affine_lines(block, has, affine_refs)
    normalized(block, x_ref, y_ref, location, affine, activation)


def _sums(has, activation, block: Block, x_ref, ct_ref, location_ref, *refs) -> None:
    *affine_refs, out_ref = refs
    location = [block.line(location_ref, k) for k in range(3)]
    affine = affine_lines(block, has, affine_refs)
    for k, value in enumerate(block_sums(block, x_ref, ct_ref, location, affine, activation)):
        block.store_line(out_ref, k, value)


def _pull(
    has, center: bool, activation, block: Block, x_ref, ct_ref, location_ref, pull_ref, *refs
) -> None:
    *affine_refs, out_ref = refs
    location = [block.line(location_ref, k) for k in range(3)]
    affine = affine_lines(block, has, affine_refs)
    start, slope = (block.line(pull_ref, k) for k in range(2))
    start = start if center else jnp.zeros_like(start)
    pulled(block, x_ref, ct_ref, out_ref, location, affine, (start, slope), activation)
