"""The moments of blocks become statistics, by a kernel of its own on GPU.

The numbers are few, but each step from them to `1 / std` waits for a sum: as plain JAX they are a
dozen programs, whose starts alone take a GPU as long as it needs to read fifty megabytes.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxnorm.numerics import power_of_two, sum_of_two
from jaxnorm.ops._formulas import reciprocal_std
from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas._column_grid import Grid, options
from jaxnorm.stats import reported
from jaxnorm.stats.measuring import Measured, pool_measured
from jaxnorm.typing import Array

ENTRIES = 4096  # of a tile, of which four arrays stay in registers


def pool(view: View, parts: Array, grid: Grid, epsilon: float, center: bool) -> Array:
    """Returns the statistics of the samples.

    Args:
        view: of the array.
        parts: [n, slots, 4, c]: for each channel of a block, pivot, mean - pivot, variance in
            squared units, and unit.
        grid: the blocks.
        epsilon: added to the variance before its root is divided by.
        center: whether the mean is subtracted.

    Returns:
        [n, 4, c]: mean, tail, variance and `1 / std`, the same for all channels of a group.

    Examples:
        >>> grid = Grid(1, 2, 1, 1, 1, 1, "interpret")
        >>> parts = jnp.array([[1.0, 0.0, 0.0, 1.0], [3.0, 0.0, 0.0, 1.0]]).reshape(1, 2, 4, 1)
        >>> pool(View(1, 2, 1, 1, 1, 0, 0), parts, grid, 3.0, True).ravel()
        Array([2. , 0. , 1. , 0.5], dtype=float32)
    """
    members = view.c // view.g
    slots = parts.shape[1]
    lanes = pl.next_power_of_2(members) if members > 1 else _lanes(view.c, slots)
    if grid.target == "tpu" or slots * lanes > ENTRIES:
        return _plainly(view, parts, grid, epsilon)
    kernel = functools.partial(_pool, grid, members, lanes, epsilon, center)
    whole = pl.BlockSpec((None, slots, 4, view.c), lambda n, j: (n, 0, 0, 0))
    return pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((view.n, 4, view.c), jnp.float32),
        grid=(view.n, view.g if members > 1 else pl.cdiv(view.c, lanes)),
        in_specs=[whole],
        out_specs=pl.BlockSpec((None, 4, view.c), lambda n, j: (n, 0, 0)),
        **options(grid.target, 2),
    )(parts)


def _lanes(channels: int, slots: int) -> int:
    return min(pl.next_power_of_2(channels), 32, max(1, ENTRIES // slots))


def _plainly(view: View, parts: Array, grid: Grid, epsilon: float) -> Array:
    split = (view.n, grid.blocks, view.g, view.c // view.g)
    rows = jnp.arange(grid.blocks, dtype=jnp.int32) * grid.rows
    count = jnp.minimum(view.r - rows, grid.rows).astype(jnp.float32).reshape(1, -1, 1, 1)
    blocks = (parts[:, : grid.blocks, k].reshape(split) for k in range(4))
    measured = pool_measured(Measured(*blocks, count), (view.n, 1, view.g, 1))
    # In a unit far below the root of epsilon, epsilon would be infinite.
    unit = jnp.maximum(measured.unit, _least_unit(epsilon))
    ratio = measured.unit / unit
    measured = measured._replace(var=measured.var * ratio * ratio, unit=unit)
    rstd = reciprocal_std(measured, epsilon, empty=False)
    moments = reported(measured)
    lines = jnp.stack([moments.mean, moments.tail, moments.var, rstd], axis=1)
    lines = jnp.broadcast_to(lines.reshape(view.n, 4, view.g, 1), (view.n, 4, *split[2:]))
    return lines.reshape(view.n, 4, view.c)


def _least_unit(epsilon: float) -> float:
    """Returns the power of two of the root of epsilon, at most one."""
    return min(1.0, 2.0 ** math.floor(math.log2(epsilon) / 2)) if epsilon else 0.0


def _pool(grid: Grid, members: int, lanes: int, epsilon: float, center: bool, parts_ref, out_ref):
    """Stores the statistics of one group, or of `lanes` channels without groups."""
    start = pl.program_id(1) * (members if members > 1 else lanes)
    shape = (parts_ref.shape[0], lanes)
    row, lane = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (0, 1))
    limit = members if members > 1 else grid.c - start
    valid = (row < grid.blocks) & (lane < limit)
    axes = (0, 1) if members > 1 else (0,)

    def line(k):
        values = triton.load(parts_ref.at[:, jnp.int32(k), pl.ds(start, lanes)], mask=valid)
        return jnp.where(valid, values, 0)

    def total(values):
        return jnp.sum(values, axis=axes, keepdims=True)

    pivot, mean, var, unit = (line(k) for k in range(4))
    share = jnp.minimum(grid.r - row * grid.rows, grid.rows).astype(jnp.float32)
    share = jnp.where(valid, share * (1 / (grid.r * members)), 0)
    first = (row == 0) & (lane == 0) if members > 1 else row == 0
    base = total(jnp.where(first, pivot, 0))
    distance = jnp.where(valid, (pivot - base) + mean, 0)
    largest = jnp.maximum(jnp.sqrt(var) * unit, jnp.abs(distance))
    largest = jnp.max(largest, axis=axes, keepdims=True)
    common = power_of_two(jnp.maximum(largest, jnp.float32(epsilon**0.5)))
    offset = total(share * distance)
    between = (distance - offset) * (1 / common)
    ratio = unit * (1 / common)
    var = total(share * (var * ratio * ratio + between * between))
    mean, tail = sum_of_two(base, offset)
    measured = Measured(mean, tail, var, common, jnp.float32(1))
    rstd = reciprocal_std(measured, epsilon, empty=False)
    lane = lax.broadcasted_iota(jnp.int32, (1, lanes), 1)
    for k, value in enumerate((mean, tail, var * common * common, rstd)):
        place = out_ref.at[pl.ds(k, 1), pl.ds(start, lanes)]
        triton.store(place, jnp.broadcast_to(value, (1, lanes)), mask=lane < limit)
