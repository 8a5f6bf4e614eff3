"""How column kernels cut an array [n, r, c]: blocks of rows and channels, gone through in tiles.

A program sees one block, `rows` by `channels` of one sample, and goes through it tile by tile. What
it adds up on the way stays in as many lanes as a tile has entries: neighbours meet once, at the
end. Nothing is carried from program to program, so their order does not matter.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.experimental import pallas as pl

from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas._blocks import measured_row
from jaxnorm.ops.kernels.pallas._targets import Target, is_gpu
from jaxnorm.typing import DTypeLike

TILE = {"gpu": 2048, "tpu": 8192}  # entries, of which 3 arrays stay in registers
PROGRAMS = 1056  # eight for each of an H100's 132 multiprocessors
VMEM = 1 << 19  # bytes of a block, of which a TPU keeps two for each array
WHOLE = {"gpu": 1 << 14, "tpu": 1 << 19}  # entries of a sample in one block
SECTOR = 32  # bytes of a row that a GPU reads at least
LEAST = 16  # rows of a tile on TPU, in the units of bfloat16


class ColumnBlocks(NamedTuple):
    """What a GPU can have otherwise: the tuner measures it."""

    entries: int = TILE["gpu"]  # of a tile
    channels: int = SECTOR  # of a block: a power of two
    programs: int = PROGRAMS  # that take the sums
    tiles: int = 4  # of a block that is computed entry by entry
    warps: int = 4  # of 32 threads


class Grid(NamedTuple):
    """The blocks of an array, and where its edges are."""

    n: int
    r: int
    c: int
    tile: int  # rows that are taken at once
    tiles: int  # tiles of a block
    channels: int  # of a block
    target: Target
    warps: int = 4  # of 32 threads, on a GPU

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
        return pl.next_power_of_2(self.blocks) if is_gpu(self.target) else self.blocks

    @property
    def masked(self) -> bool:
        return bool(self.r % self.rows or self.c % self.channels)


def column_blocks(kernel: str, c: int, dtype: DTypeLike, target: Target) -> ColumnBlocks:
    """Returns the blocks of a GPU's kernels over columns: measured where a chip was, else by rule.

    Args:
        kernel: "columns forward" or "columns backward".
        c: channels.
        dtype: of the widest array.
        target: what the kernels are compiled for.

    Returns:
        `ColumnBlocks`; of no meaning on a TPU.

    Examples:
        >>> column_blocks("columns forward", 256, jnp.bfloat16, "gpu").channels
        64
    """
    size = jnp.dtype(dtype).itemsize
    row = measured_row(kernel, c, size) if target == "gpu" else None
    if row is not None:
        return ColumnBlocks(*(row[name] for name in ColumnBlocks._fields))
    # 128 bytes of each row, as a warp asks for them.
    return ColumnBlocks(channels=128 // size)


def moments_grid(
    n: int,
    r: int,
    c: int,
    dtype: DTypeLike,
    target: Target,
    kernel: str = "columns forward",
    blocks: ColumnBlocks | None = None,
) -> Grid:
    """Returns a grid with few blocks, each of which leaves some numbers for each channel.

    Args:
        n: samples.
        r: rows of each.
        c: channels.
        dtype: of the widest array.
        target: what the kernels are compiled for.
        kernel: "columns forward" or "columns backward".
        blocks: of a GPU; those of `column_blocks` if None.

    Returns:
        The grid.

    Examples:
        >>> moments_grid(1, 100352, 256, jnp.bfloat16, "gpu")[3:6]
        (32, 12, 64)
    """
    if not is_gpu(target):
        tile, channels, most = _tile_on_tpu(r, c, dtype)
        return Grid(n, r, c, tile, most, channels, target)
    blocks = column_blocks(kernel, c, dtype, target) if blocks is None else blocks
    tile, channels = _tile(r, c, blocks)
    count = max(1, blocks.programs // (n * pl.cdiv(c, channels)))
    tiles = max(1, pl.cdiv(r, tile * count))
    return Grid(n, r, c, tile, tiles, channels, target, blocks.warps)


def affine_grid(
    n: int,
    r: int,
    c: int,
    dtype: DTypeLike,
    target: Target,
    kernel: str = "columns forward",
    blocks: ColumnBlocks | None = None,
) -> Grid:
    """Returns a grid of blocks that are computed entry by entry.

    Args:
        n: samples.
        r: rows of each.
        c: channels.
        dtype: of the widest array.
        target: what the kernels are compiled for.
        kernel: "columns forward" or "columns backward".
        blocks: of a GPU; those of `column_blocks` if None.

    Returns:
        The grid.

    Examples:
        >>> affine_grid(32, 3136, 256, jnp.bfloat16, "gpu")[3:6]
        (32, 4, 64)
    """
    if not is_gpu(target):
        tile, channels, most = _tile_on_tpu(r, c, dtype)
        return Grid(n, r, c, tile, most, channels, target)
    blocks = column_blocks(kernel, c, dtype, target) if blocks is None else blocks
    tile, channels = _tile(r, c, blocks)
    return Grid(n, r, c, tile, min(blocks.tiles, pl.cdiv(r, tile)), channels, target, blocks.warps)


def _tile(r: int, c: int, blocks: ColumnBlocks) -> tuple[int, int]:
    """Returns rows and channels of a GPU's tile."""
    channels = min(pl.next_power_of_2(c), blocks.channels)
    return min(pl.next_power_of_2(r), blocks.entries // channels), channels


def _tile_on_tpu(r: int, c: int, dtype: DTypeLike) -> tuple[int, int, int]:
    """Returns rows and channels of a TPU's tile, and the most tiles of a block."""
    channels = c if c <= 512 else 512
    tile = _rows_on_tpu(TILE["tpu"], channels)
    if r <= tile:
        return r, channels, 1
    bytes_of_tile = tile * pl.cdiv(channels, 128) * 128 * jnp.dtype(dtype).itemsize
    return tile, channels, max(1, min(r // tile, VMEM // bytes_of_tile))


def _rows_on_tpu(entries: int, channels: int) -> int:
    """Returns how many rows of whole lanes a tile of so many entries has."""
    return max(LEAST, entries // pl.cdiv(channels, 128) // 128 // LEAST * LEAST)


def whole_grid(view: View, dtype: DTypeLike, target: Target) -> Grid | None:
    """Returns a grid whose blocks hold all rows of whole groups, or None where they are too large.

    Args:
        view: of the array.
        dtype: of the widest array.
        target: what the kernels are compiled for.

    Returns:
        The grid.

    Examples:
        >>> whole_grid(View(32, 784, 256, 32, 1, 0, 0), jnp.bfloat16, "gpu")[3:6]
        (128, 7, 16)
        >>> whole_grid(View(32, 3136, 256, 32, 1, 0, 0), jnp.bfloat16, "gpu") is None
        True
    """
    (n, r, c), members = view[:3], view.c // view.g
    if not is_gpu(target):
        channels = c if c < 128 else max(128, min(c, 512, WHOLE[target[:3]] // r // 128 * 128))
        if members > 1 or r * pl.cdiv(channels, 128) * 128 > WHOLE[target[:3]]:
            return None
        tile = _rows_on_tpu(TILE[target[:3]], channels)
    else:
        size = jnp.dtype(dtype).itemsize
        most = 1 << (WHOLE[target[:3]] // r).bit_length() >> 1
        channels = min(pl.next_power_of_2(c), max(members, min(most, 128 // size)))
        narrow = channels < min(c, SECTOR // size)
        if members != pl.next_power_of_2(members) or r * channels > WHOLE[target[:3]] or narrow:
            return None
        tile = max(1, TILE[target[:3]] // channels)
    tile = min(tile, r if not is_gpu(target) else pl.next_power_of_2(r))
    return Grid(n, r, c, tile, pl.cdiv(r, tile), channels, target)


def widest(*dtypes: DTypeLike) -> jnp.dtype:
    """Returns the dtype whose entries take most bytes.

    Args:
        *dtypes: one or more.

    Returns:
        One of them.

    Examples:
        >>> widest(jnp.bfloat16, jnp.float32)
        dtype('float32')
    """
    return max([jnp.dtype(dtype) for dtype in dtypes], key=lambda dtype: dtype.itemsize)
