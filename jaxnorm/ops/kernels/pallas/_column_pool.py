"""The moments of blocks become statistics, by a kernel of its own on GPU.

The numbers are few, but each step from them to `1 / std` waits for a sum: as plain JAX they are a
dozen programs, whose starts alone take a GPU as long as it needs to read fifty megabytes.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxnorm.numerics import power_of_two, sum_of_two
from jaxnorm.ops._formulas import reciprocal_std
from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas._call import call
from jaxnorm.ops.kernels.pallas._column_blocks import Grid
from jaxnorm.ops.kernels.pallas._targets import is_gpu
from jaxnorm.stats import reported
from jaxnorm.stats.measuring import Measured, pool_measured
from jaxnorm.typing import Array

ENTRIES = 4096  # of a tile, of which four arrays stay in registers


def pool(view: View, parts: Array, grid: Grid, epsilon: float) -> list[Array]:
    """Returns the statistics of the samples.

    Args:
        view: of the array.
        parts: [n, slots, 4, c]: for each channel of a block, pivot, mean - pivot, variance in
            squared units, and unit.
        grid: the blocks.
        epsilon: added to the variance before its root is divided by.

    Returns:
        Mean, tail, variance and `1 / std`, each [n, 1, g]; and [n, 3, c]: mean, tail and
        `1 / std`, the same for all channels of a group.

    Examples:
        >>> grid = Grid(1, 2, 1, 1, 1, 1, "gpu_interpreted")
        >>> parts = jnp.array([[1.0, 0.0, 0.0, 1.0], [3.0, 0.0, 0.0, 1.0]]).reshape(1, 2, 4, 1)
        >>> pool(View(1, 2, 1, 1, 1, 0, 0), parts, grid, 3.0)[4].ravel()
        Array([2. , 0. , 0.5], dtype=float32)
    """
    members, slots = view.c // view.g, parts.shape[1]
    if members > 1:
        groups, lanes = 1, pl.next_power_of_2(members)
    else:
        groups = lanes = min(pl.next_power_of_2(view.c), 32, max(1, ENTRIES // slots))
    if not is_gpu(grid.target) or slots * lanes > ENTRIES:
        return _plainly(view, parts, grid, epsilon)
    shapes = [(view.n, 1, view.g)] * 4 + [(view.n, 3, view.c)]
    compute = call(
        functools.partial(_pool, grid, members, groups, lanes, epsilon),
        grid.target,
        grid=(view.n, pl.cdiv(view.g, groups)),
        in_specs=[pl.BlockSpec((None, slots, 4, view.c), lambda n, j: (n, 0, 0, 0))],
        out_specs=[pl.BlockSpec((None, *shape[1:]), lambda n, j: (n, 0, 0)) for shape in shapes],
        out_shape=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        name="jaxnorm_column_pool",
    )
    return list(compute(parts))


def united(
    moments: tuple, share, first: Callable, total: Callable, largest: Callable, epsilon: float
) -> tuple:
    """Returns mean, tail, variance and `1 / std` of united samples (see `pool_measured`).

    Args:
        moments: pivot, mean - pivot, variance in squared units and unit of each.
        share: of each in the whole.
        first: gives the value of one sample to all that it is united with.
        total: gives the sum over them.
        largest: gives the largest of them.
        epsilon: added to the variance.

    Returns:
        Of the shape that `total` returns.

    Examples:
        >>> two = (jnp.array([1.0, 3.0]), jnp.zeros(2), jnp.zeros(2), jnp.ones(2))
        >>> united(two, 0.5, lambda v: v[0], jnp.sum, jnp.max, 3.0)[3]
        Array(0.5, dtype=float32)
    """
    pivot, mean, var, unit = moments
    base = first(pivot)
    distance = (pivot - base) + mean
    size = largest(jnp.maximum(jnp.sqrt(var) * unit, jnp.abs(distance)))
    # In a unit far below the root of epsilon, epsilon would be infinite.
    common = power_of_two(jnp.maximum(size, jnp.float32(math.sqrt(epsilon))))
    offset = total(share * distance)
    between = (distance - offset) * (1 / common)
    ratio = unit * (1 / common)
    var = total(share * (var * ratio * ratio + between * between))
    mean, tail = sum_of_two(base, offset)
    measured = Measured(mean, tail, var, common, jnp.ones_like(var))
    rstd = reciprocal_std(measured, epsilon, empty=False)
    return mean, tail, var * common * common, rstd


def _pool(grid: Grid, members: int, groups: int, lanes: int, epsilon: float, parts_ref, *out_refs):
    """Stores the statistics of one group, or of `groups` channels that have one each."""
    group = pl.program_id(1) * groups
    start, there = group * members, members if members > 1 else grid.c - group
    shape = (parts_ref.shape[0], lanes)
    row, lane = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (0, 1))
    valid = (row < grid.blocks) & (lane < there)
    axes = (0, 1) if members > 1 else (0,)

    def line(k):
        place = parts_ref.at[:, jnp.int32(k), pl.ds(start, lanes)]
        return jnp.where(valid, triton.load(place, mask=valid), 0)

    def total(values):
        return jnp.sum(jnp.where(valid, values, 0), axis=axes, keepdims=True)

    def first(values):
        return total(jnp.where((row == 0) & ((lane == 0) | (members == 1)), values, 0))

    def largest(values):
        return jnp.max(jnp.where(valid, values, 0), axis=axes, keepdims=True)

    share = jnp.minimum(grid.r - row * grid.rows, grid.rows).astype(jnp.float32)
    share = share * (1 / (grid.r * members))
    moments = tuple(line(k) for k in range(4))
    statistics = united(moments, share, first, total, largest, epsilon)
    lane = lax.broadcasted_iota(jnp.int32, (1, lanes), 1)
    for ref, value in zip(out_refs, statistics, strict=False):
        inside = group + lax.broadcasted_iota(jnp.int32, value.shape, 1) < ref.shape[1]
        triton.store(ref.at[:, pl.ds(group, value.shape[1])], value, mask=inside)
    mean, tail, _, rstd = statistics
    for k, value in enumerate((mean, tail, rstd)):
        place = out_refs[4].at[pl.ds(k, 1), pl.ds(start, lanes)]
        triton.store(place, jnp.broadcast_to(value, (1, lanes)), mask=lane < there)


def _plainly(view: View, parts: Array, grid: Grid, epsilon: float) -> list[Array]:
    split = (view.n, grid.blocks, view.g, view.c // view.g)
    rows = jnp.arange(grid.blocks, dtype=jnp.int32) * grid.rows
    count = jnp.minimum(view.r - rows, grid.rows).astype(jnp.float32).reshape(1, -1, 1, 1)
    pivot, mean, var, unit = (parts[:, : grid.blocks, k].reshape(split) for k in range(4))
    measured = pool_measured(Measured(pivot, mean, var, unit, count), (view.n, 1, view.g, 1))
    least = min(1.0, 2.0 ** math.floor(math.log2(epsilon) / 2)) if epsilon else 0.0
    unit = jnp.maximum(measured.unit, least)
    ratio = measured.unit / unit
    measured = measured._replace(var=measured.var * ratio * ratio, unit=unit)
    rstd = reciprocal_std(measured, epsilon, empty=False)
    var = reported(measured).var
    statistics = [v.reshape(view.n, 1, view.g) for v in (*measured[:2], var, rstd)]
    lines = jnp.concatenate([statistics[k] for k in (0, 1, 3)], axis=1)
    return [*statistics, jnp.repeat(lines, split[3], axis=2)]
