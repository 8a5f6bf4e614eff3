"""How column kernels are called, and how they reach their tiles."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxnorm.ops.kernels.pallas._call import call
from jaxnorm.ops.kernels.pallas._column_blocks import Grid
from jaxnorm.ops.kernels.pallas._targets import is_gpu
from jaxnorm.typing import Array


class Block(NamedTuple):
    """What one program sees: a block's tiles, and how much of them there is."""

    grid: Grid
    rows: Array  # [], int32: how many rows of the block there are
    channels: Array  # [], int32

    def valid(self, i) -> Array | None:
        """Returns which entries of tile `i` there are, [tile, channels]; None for all."""
        grid = self.grid
        if not grid.masked:
            return None
        row = lax.broadcasted_iota(jnp.int32, (grid.tile, grid.channels), 0)
        return (row + i * grid.tile < self.rows) & self.valid_channels(grid.tile)

    def valid_channels(self, rows: int = 1) -> Array:
        """Returns which channels there are, [rows, channels]."""
        shape = (rows, self.grid.channels)
        return lax.broadcasted_iota(jnp.int32, shape, 1) < self.channels

    def within(self, i, values: Array) -> Array:
        """Returns the values of tile `i`, zero beyond the array."""
        valid = self.valid(i)
        return values if valid is None else jnp.where(valid, values, 0)

    def zeros(self) -> Array:
        """Returns a zero for each lane, [tile, channels]."""
        return jnp.zeros((self.grid.tile, self.grid.channels), jnp.float32)

    def load(self, ref, i) -> Array:
        """Returns tile `i` in float32; what is beyond the array is anything."""
        tile = self.grid.tile
        return self._load(ref.at[pl.ds(i * tile, tile), :], self.valid(i))

    def line(self, ref, k: int) -> Array:
        """Returns line `k` of what there is one of for each channel, [1, channels]."""
        return self._load(ref.at[pl.ds(k, 1), :], self.valid_channels())

    def store(self, ref, i, value: Array) -> None:
        """Stores tile `i`, in the dtype of `ref`."""
        tile = self.grid.tile
        self._store(ref.at[pl.ds(i * tile, tile), :], value, self.valid(i))

    def store_line(self, ref, k: int, value: Array, members: int = 1) -> None:
        """Stores line `k` of what there is one of for `members` adjacent channels."""
        valid = lax.broadcasted_iota(jnp.int32, value.shape, 1) * members < self.channels
        self._store(ref.at[pl.ds(k, 1), :], value, valid)

    def _load(self, ref, valid: Array | None) -> Array:
        if is_gpu(self.grid.target):
            return triton.load(ref, mask=valid).astype(jnp.float32)
        return ref[...].astype(jnp.float32)

    def _store(self, ref, value: Array, valid: Array | None) -> None:
        if is_gpu(self.grid.target):
            triton.store(ref, value.astype(ref.dtype), mask=valid)
        else:
            ref[...] = value.astype(ref.dtype)  # what is beyond the array is not written back


def run(
    name: str, kernel: Callable, grid: Grid, arrays: Sequence, lines: Sequence, out: Sequence
) -> list:
    """Returns what `kernel(block, *refs)` stores.

    Args:
        name: by which profilers know the kernel.
        kernel: is given references to its block of each array and to its channels of each line.
        grid: how the arrays are cut.
        arrays: each [n, r, c].
        lines: each [n, k, c], or [a, k, c] where n / a adjacent samples share them.
        out: for each result its dtype, for one [n, r, c]; or `(k, m)` for the float32 lines that
            each block leaves, one entry for `m` channels: [n, slots, k, c / m].

    Returns:
        The results.
    """
    whole = pl.BlockSpec((None, grid.rows, grid.channels), lambda n, i, j: (n, i, j))
    shapes = [_shape(grid, what) for what in out]
    compute = call(
        functools.partial(_program, kernel, grid),
        grid.target,
        grid=(grid.n, grid.blocks, pl.cdiv(grid.c, grid.channels)),
        in_specs=[whole] * len(arrays) + [_line_spec(grid, v) for v in lines],
        out_specs=[whole if v.ndim == 3 else _part_spec(grid, v) for v in shapes],
        out_shape=shapes,
        warps=grid.warps,
        name=name,
    )
    return list(compute(*arrays, *lines))


def _shape(grid: Grid, what) -> jax.ShapeDtypeStruct:
    if not isinstance(what, tuple):
        return jax.ShapeDtypeStruct((grid.n, grid.r, grid.c), what)
    lines, members = what
    return jax.ShapeDtypeStruct((grid.n, grid.slots, lines, grid.c // members), jnp.float32)


def _part_spec(grid: Grid, part: jax.ShapeDtypeStruct) -> pl.BlockSpec:
    lines, width = part.shape[2], grid.channels * part.shape[3] // grid.c
    return pl.BlockSpec((None, None, lines, width), lambda n, i, j: (n, i, 0, j))


def _line_spec(grid: Grid, line: Array) -> pl.BlockSpec:
    shared, lines, _ = line.shape
    each = grid.n // shared
    return pl.BlockSpec((None, lines, grid.channels), lambda n, i, j: (lax.div(n, each), 0, j))


def _program(kernel: Callable, grid: Grid, *refs) -> None:
    rows = jnp.minimum(grid.r - pl.program_id(1) * grid.rows, grid.rows)
    kernel(Block(grid, rows, grid.c - pl.program_id(2) * grid.channels), *refs)
