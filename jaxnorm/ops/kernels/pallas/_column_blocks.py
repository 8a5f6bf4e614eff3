"""How column kernels cut an array [n, r, c]: blocks of rows and channels, gone through in tiles.

A program sees one block, `rows` by `channels` of one sample, and goes through it tile by tile. What
it adds up on the way stays in as many lanes as a tile has entries: neighbours meet once, at the
end. Nothing is carried from program to program, so their order does not matter.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.experimental import pallas as pl

from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas._targets import Target, is_gpu
from jaxnorm.typing import DTypeLike

TILE = {"gpu": 2048, "tpu": 8192}  # entries, of which 3 arrays stay in registers
PROGRAMS = 1056  # eight for each of an H100's 132 multiprocessors
VMEM = 1 << 19  # bytes of a block, of which a TPU keeps two for each array
WHOLE = {"gpu": 1 << 14, "tpu": 1 << 19}  # entries of a sample in one block
SECTOR = 32  # bytes of a row that a GPU reads at least
LEAST = 16  # rows of a tile on TPU, in the units of bfloat16


class Grid(NamedTuple):
    """The blocks of an array, and where its edges are."""

    n: int
    r: int
    c: int
    tile: int  # rows that are taken at once
    tiles: int  # tiles of a block
    channels: int  # of a block
    target: Target

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


def moments_grid(n: int, r: int, c: int, dtype: DTypeLike, target: Target) -> Grid:
    """Returns a grid with few blocks, each of which leaves some numbers for each channel.

    Args:
        n: samples.
        r: rows of each.
        c: channels.
        dtype: of the widest array.
        target: what the kernels are compiled for.

    Returns:
        The grid.

    Examples:
        >>> moments_grid(1, 100352, 256, jnp.bfloat16, "gpu")[3:6]
        (32, 12, 64)
    """
    tile, channels, most = _tile(r, c, dtype, target)
    if not is_gpu(target):
        return Grid(n, r, c, tile, most, channels, target)
    blocks = max(1, PROGRAMS // (n * pl.cdiv(c, channels)))
    return Grid(n, r, c, tile, max(1, pl.cdiv(r, tile * blocks)), channels, target)


def affine_grid(n: int, r: int, c: int, dtype: DTypeLike, target: Target) -> Grid:
    """Returns a grid of blocks that are computed entry by entry.

    Args:
        n: samples.
        r: rows of each.
        c: channels.
        dtype: of the widest array.
        target: what the kernels are compiled for.

    Returns:
        The grid.

    Examples:
        >>> affine_grid(32, 3136, 256, jnp.bfloat16, "gpu")[3:6]
        (32, 4, 64)
    """
    tile, channels, most = _tile(r, c, dtype, target)
    tiles = most if not is_gpu(target) else min(4, pl.cdiv(r, tile))
    return Grid(n, r, c, tile, tiles, channels, target)


def _tile(r: int, c: int, dtype: DTypeLike, target: Target) -> tuple[int, int, int]:
    """Returns rows and channels of a tile, and the most tiles of a block."""
    size, entries = jnp.dtype(dtype).itemsize, TILE[target[:3]]
    if not is_gpu(target):
        channels = c if c <= 512 else 512
        tile = _rows_on_tpu(entries, channels)
        if r <= tile:
            return r, channels, 1
        bytes_of_tile = tile * pl.cdiv(channels, 128) * 128 * size
        return tile, channels, max(1, min(r // tile, VMEM // bytes_of_tile))
    # 128 bytes of each row, as a warp asks for them.
    channels = min(pl.next_power_of_2(c), 128 // size)
    return min(pl.next_power_of_2(r), entries // channels), channels, r


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
