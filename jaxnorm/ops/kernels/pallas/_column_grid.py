"""How column kernels cut an array [n, r, c]: blocks of rows and channels, gone through in tiles.

A program sees one block, `rows` by `channels` of one sample, and goes through it tile by tile. What
it adds up on the way stays in as many lanes as a tile has entries: neighbours meet once, at the
end. Nothing is carried from program to program, so their order does not matter.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu, triton

from jaxnorm.typing import Array, DTypeLike

TILE = {"gpu": 2048, "interpret": 2048, "tpu": 8192}  # entries, of which 3 arrays stay in registers
PROGRAMS = 1056  # eight for each of an H100's 132 multiprocessors
VMEM = 1 << 19  # bytes of a block, of which a TPU keeps two for each array
LEAST = 16  # rows of a tile on TPU, in the units of bfloat16


class Grid(NamedTuple):
    """The blocks of an array, and where its edges are."""

    n: int
    r: int
    c: int
    tile: int  # rows that are taken at once
    tiles: int  # tiles of a block
    channels: int  # of a block
    target: str  # "gpu", "tpu" or "interpret", which does as "gpu" does

    @property
    def rows(self) -> int:
        return self.tile * self.tiles

    @property
    def blocks(self) -> int:
        """The number of blocks of rows of each sample."""
        return pl.cdiv(self.r, self.rows)

    @property
    def slots(self) -> int:
        """The places for what blocks leave: Triton takes no other number than a power of two."""
        return self.blocks if self.target == "tpu" else pl.next_power_of_2(self.blocks)

    @property
    def masked(self) -> bool:
        return bool(self.r % self.rows or self.c % self.channels)


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

    def store_line(self, ref, k: int, value: Array) -> None:
        """Stores line `k` of what there is one of for each channel."""
        self._store(ref.at[pl.ds(k, 1), :], value, self.valid_channels())

    def _load(self, ref, valid: Array | None) -> Array:
        if self.grid.target == "tpu":
            return ref[...].astype(jnp.float32)
        return triton.load(ref, mask=valid).astype(jnp.float32)

    def _store(self, ref, value: Array, valid: Array | None) -> None:
        if self.grid.target == "tpu":
            ref[...] = value.astype(ref.dtype)  # what is beyond the array is not written back
        else:
            triton.store(ref, value.astype(ref.dtype), mask=valid)


def moments_grid(n: int, r: int, c: int, dtype: DTypeLike, target: str) -> Grid:
    """Returns a grid with few blocks, each of which leaves some numbers for each channel.

    Args:
        n: samples.
        r: rows of each.
        c: channels.
        dtype: of the widest array.
        target: "gpu", "tpu" or "interpret".

    Returns:
        The grid.

    Examples:
        >>> moments_grid(1, 100352, 256, jnp.bfloat16, "gpu")[3:6]
        (32, 12, 64)
    """
    tile, channels, most = _tile(r, c, dtype, target)
    if target == "tpu":
        return Grid(n, r, c, tile, most, channels, target)
    blocks = max(1, PROGRAMS // (n * pl.cdiv(c, channels)))
    return Grid(n, r, c, tile, max(1, pl.cdiv(r, tile * blocks)), channels, target)


def affine_grid(n: int, r: int, c: int, dtype: DTypeLike, target: str) -> Grid:
    """Returns a grid of blocks that are computed entry by entry.

    Args:
        n: samples.
        r: rows of each.
        c: channels.
        dtype: of the widest array.
        target: "gpu", "tpu" or "interpret".

    Returns:
        The grid.

    Examples:
        >>> affine_grid(32, 3136, 256, jnp.bfloat16, "gpu")[3:6]
        (32, 4, 64)
    """
    tile, channels, most = _tile(r, c, dtype, target)
    tiles = most if target == "tpu" else min(4, pl.cdiv(r, tile))
    return Grid(n, r, c, tile, tiles, channels, target)


def _tile(r: int, c: int, dtype: DTypeLike, target: str) -> tuple[int, int, int]:
    """Returns rows and channels of a tile, and the most tiles of a block."""
    size, entries = jnp.dtype(dtype).itemsize, TILE[target]
    if target == "tpu":
        channels = c if c <= 512 else 512
        tile = max(LEAST, entries // pl.cdiv(channels, 128) // 128 // LEAST * LEAST)
        if r <= tile:
            return r, channels, 1
        bytes_of_tile = tile * pl.cdiv(channels, 128) * 128 * size
        return tile, channels, max(1, min(r // tile, VMEM // bytes_of_tile))
    # 128 bytes of each row, as a warp asks for them.
    channels = min(pl.next_power_of_2(c), 128 // size)
    return min(pl.next_power_of_2(r), entries // channels), channels, r


def run(kernel: Callable, grid: Grid, arrays: Sequence, lines: Sequence, out: Sequence) -> list:
    """Returns what `kernel(block, *refs)` stores.

    Args:
        kernel: is given references to its block of each array and to its channels of each line.
        grid: how the arrays are cut.
        arrays: each [n, r, c].
        lines: each [n, k, c], or [a, k, c] where n / a adjacent samples share them.
        out: for each result its dtype, for one [n, r, c]; or the number `k` of float32 lines that
            each block leaves, for one [n, slots, k, c].

    Returns:
        The results.
    """
    whole = pl.BlockSpec((None, grid.rows, grid.channels), lambda n, i, j: (n, i, j))
    shapes, specs = [], []
    for what in out:
        if isinstance(what, int):
            shapes.append(
                jax.ShapeDtypeStruct((grid.n, grid.slots, what, grid.c), jnp.dtype(jnp.float32))
            )
            specs.append(
                pl.BlockSpec((None, None, what, grid.channels), lambda n, i, j: (n, i, 0, j))
            )
        else:
            shapes.append(jax.ShapeDtypeStruct((grid.n, grid.r, grid.c), what))
            specs.append(whole)
    return pl.pallas_call(
        functools.partial(_program, kernel, grid),
        out_shape=shapes,
        grid=(grid.n, grid.blocks, pl.cdiv(grid.c, grid.channels)),
        in_specs=[whole] * len(arrays) + [_line_spec(grid, v) for v in lines],
        out_specs=specs,
        **options(grid.target, 3),
    )(*arrays, *lines)


def _line_spec(grid: Grid, line: Array) -> pl.BlockSpec:
    shared, lines, _ = line.shape
    each = grid.n // shared
    return pl.BlockSpec((None, lines, grid.channels), lambda n, i, j: (lax.div(n, each), 0, j))


def _program(kernel: Callable, grid: Grid, *refs) -> None:
    rows = jnp.minimum(grid.r - pl.program_id(1) * grid.rows, grid.rows)
    kernel(Block(grid, rows, grid.c - pl.program_id(2) * grid.channels), *refs)


def options(target: str, axes: int) -> dict:
    """Returns how `pallas_call` compiles for a target.

    Args:
        target: "gpu", "tpu" or "interpret".
        axes: how many axes the grid has, all independent.

    Returns:
        Keyword arguments.

    Examples:
        >>> options("interpret", 3)
        {'interpret': True}
    """
    if target == "gpu":
        return {"compiler_params": triton.CompilerParams(num_warps=4, num_stages=2)}
    if target == "tpu":
        semantics = ("parallel",) * axes
        return {"compiler_params": tpu.CompilerParams(dimension_semantics=semantics)}
    return {"interpret": True}
