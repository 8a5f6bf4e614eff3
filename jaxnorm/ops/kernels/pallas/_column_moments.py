"""Moments of columns: those of each block by a kernel, which reads the array once; then pooled.

Every lane goes down its rows by Welford's update (Note on a method for calculating corrected sums
of squares and products, Technometrics, 1962) of the distance from a pivot. Lanes, and then blocks,
meet by Chan's formula (see `stats.measuring`). Where a block's squares overflow or vanish, the
block is gone through again in a unit of its own.
"""

import functools

import jax.numpy as jnp
from jax import lax

from jaxnorm.numerics import power_of_two
from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas._column_blocks import ColumnBlocks, moments_grid
from jaxnorm.ops.kernels.pallas._column_pool import pool
from jaxnorm.ops.kernels.pallas._column_run import Block, run
from jaxnorm.ops.kernels.pallas._targets import Target
from jaxnorm.stats.measuring import beyond
from jaxnorm.typing import Array


def statistics(
    view: View,
    x: Array,
    epsilon: float,
    center: bool,
    target: Target,
    blocks: ColumnBlocks | None = None,
) -> list[Array]:
    """Returns the statistics of the samples of `x`.

    Args:
        view: of `x`; each sample takes whole columns.
        x: [n, r, c].
        epsilon: added to the variance before its root is divided by.
        center: whether the mean is subtracted; without it the variance is the mean square.
        target: what the kernels are compiled for.
        blocks: of a GPU; those of `column_blocks` if None.

    Returns:
        Mean, tail, variance and `1 / std`, each [n, 1, g]; and [n, 3, c]: mean, tail and
        `1 / std`, the same for all channels of a group.

    Examples:
        >>> view = View(n=1, r=4, c=2, g=2, a=1, row=2, member=0)
        >>> x = jnp.arange(8.0).reshape(1, 4, 2)
        >>> statistics(view, x, 1e-6, True, "gpu_interpreted")[2]
        Array([[[5., 5.]]], dtype=float32)
    """
    grid = moments_grid(view.n, view.r, view.c, x.dtype, target, blocks=blocks)
    kernel = functools.partial(_moments, epsilon=epsilon, center=center)
    (parts,) = run("jaxnorm_column_moments", kernel, grid, [x], [], [(4, 1)])
    return pool(view, parts, grid, epsilon)


def _moments(block: Block, x_ref, out_ref, *, epsilon: float, center: bool) -> None:
    """Stores the moments of each channel of a block."""
    for k, value in enumerate(block_moments(block, x_ref, epsilon, center)):
        block.store_line(out_ref, k, value)


def block_moments(block: Block, x_ref, epsilon: float, center: bool) -> tuple[Array, ...]:
    """Returns for each channel of a block its moments.

    Args:
        block: of a kernel that runs.
        x_ref: the block of the array.
        epsilon: see `statistics`.
        center: see `statistics`.

    Returns:
        Pivot, mean - pivot, variance in squared units and unit, each [1, channels], float32.
    """
    pivot = _pivot(block, x_ref) if center else jnp.zeros((1, block.grid.channels), jnp.float32)

    def distance(i):
        return block.within(i, block.load(x_ref, i) - pivot)

    def measured(inverse):
        def step(i, carry):
            mean, squares = carry
            d = distance(i) * inverse
            if not center:
                return mean, squares + d * d
            before = block.within(i, d - mean)
            mean = mean + before * (1 / (i + 1).astype(jnp.float32))
            return mean, squares + before * (d - mean)

        return _meet(block, *lax.fori_loop(0, block.grid.tiles, step, (block.zeros(),) * 2))

    def again():
        largest = lax.fori_loop(
            0,
            block.grid.tiles,
            lambda i, most: jnp.maximum(most, jnp.abs(distance(i))),
            block.zeros(),
        )
        largest = jnp.max(largest, axis=0, keepdims=True)
        unit = power_of_two(largest)
        mean, var = measured(1 / unit)
        return mean * unit, var, unit

    mean, var = measured(jnp.float32(1))
    # A variance far below epsilon is reported still, if it is a float.
    lost = (beyond(var, epsilon) | beyond(var, None)) & block.valid_channels()
    lost = jnp.max(jnp.where(lost, jnp.float32(1), jnp.float32(0))) > 0
    mean, var, unit = lax.cond(lost, again, lambda: (mean, var, jnp.ones_like(var)))
    return pivot, mean, var, unit


def _meet(block: Block, mean: Array, squares: Array) -> tuple[Array, Array]:
    """Returns mean and variance of all lanes of each channel, both [1, channels]."""
    tile = block.grid.tile
    lane = lax.broadcasted_iota(jnp.int32, mean.shape, 0)
    count = lax.div(block.rows - lane + (tile - 1), jnp.int32(tile)).astype(jnp.float32)
    each = 1 / block.rows.astype(jnp.float32)
    share = count * each
    total = jnp.sum(share * mean, axis=0, keepdims=True)
    between = mean - total
    squares = squares * each + share * (between * between)
    return total, jnp.sum(squares, axis=0, keepdims=True)


def _pivot(block: Block, x_ref) -> Array:
    """Returns the median of the first, middle and last row of a block's first tile."""
    x = block.load(x_ref, 0)
    row = lax.broadcasted_iota(jnp.int32, x.shape, 0)
    rows = jnp.minimum(block.rows, block.grid.tile)
    first, middle, last = (
        jnp.sum(jnp.where(row == k, x, 0), axis=0, keepdims=True)
        for k in (0, lax.div(rows, jnp.int32(2)), rows - 1)
    )
    low, high = jnp.minimum(first, middle), jnp.maximum(first, middle)
    return jnp.maximum(low, jnp.minimum(high, last))
