"""How large the blocks of the Pallas kernels are: measured where a chip was, else by rule.

`blocks.json` maps a chip, as `jax.Device.device_kind` names it, to rows that were measured on it:
`{"kernel": "rows forward", "length": 4096, "bytes": 2, "rows": 2, "warps": 8}`. A measured row
serves its own kernel, size of the entries, and length up to the next power of two. The length of
kernels over columns is the number of channels.
"""

import functools
import json
from pathlib import Path
from typing import NamedTuple

import jax

from jaxnorm.ops.kernels.pallas._targets import Target, is_gpu

TABLE = Path(__file__).parent / "blocks.json"

# A streaming multiprocessor of NVIDIA's has 65536 registers, and a thread at most 255 of them.
LONGEST_IN_REGISTERS = 1 << 14  # entries of a row that one program of a GPU holds
LONGEST_WITH_SUMS = 1 << 13  # the backward pass holds x, the cotangent and two sums
STEP = 1 << 12  # entries of a longer row that a program takes at a time
PROGRAMS = 1 << 9  # of the backward pass: about four for each multiprocessor
# Of 128 MiB on v5e and v6e and 64 MiB on the smallest; Mosaic grants 16 MiB unless asked.
VMEM = 32 << 20


class Blocks(NamedTuple):
    """The size of what one program computes at a time."""

    rows: int
    length: int  # entries of each row: a power of two on a GPU, the whole row on a TPU
    warps: int  # of 32 threads, on a GPU


def power_above(n: int) -> int:
    """Returns the smallest power of two that is not below `n`.

    Args:
        n: positive.

    Returns:
        A power of two.

    Examples:
        >>> power_above(1), power_above(768)
        (1, 1024)
    """
    return 1 << (n - 1).bit_length()


def row_blocks(
    kernel: str,
    target: Target,
    rows: int,
    length: int,
    itemsize: int,
    arrays: int = 0,
    narrowest: int = 0,
) -> Blocks:
    """Returns the blocks of a kernel over rows.

    Args:
        kernel: "rows forward" or "rows backward".
        target: what it is compiled for.
        rows: how many there are.
        length: entries of a row.
        itemsize: bytes of an entry of the input; on a TPU of the widest array.
        arrays: how many a TPU's program reads and writes; those of the bare normalization if 0.
        narrowest: bytes of an entry of the narrowest of them; `itemsize` if 0.

    Returns:
        `Blocks`; on a GPU `length` is less than a row where a row is taken in several steps.

    Examples:
        >>> row_blocks("rows forward", "gpu", 8192, 4096, 2)
        Blocks(rows=1, length=4096, warps=8)
        >>> row_blocks("rows forward", "gpu", 8192, 64, 2)
        Blocks(rows=32, length=64, warps=4)
    """
    if not is_gpu(target):
        arrays = arrays or (3 if kernel == "rows backward" else 2)
        tall = _rows_of_vmem(rows, length, arrays, itemsize, narrowest or itemsize)
        return Blocks(tall, length, 1)
    backward = kernel == "rows backward"
    width = power_above(length)
    if width > (LONGEST_WITH_SUMS if backward else LONGEST_IN_REGISTERS):
        return Blocks(1, STEP, 8)
    if target == "gpu" and (measured := measured_row(kernel, width, itemsize)) is not None:
        return Blocks(measured["rows"], width, measured["warps"])
    together = max(1, min((1 << 11) // width, power_above(rows)))
    return Blocks(together, width, max(4, min(16, together * width // (1 << 9))))


def _rows_of_vmem(rows: int, length: int, arrays: int, itemsize: int, narrowest: int) -> int:
    """Returns how many rows a TPU takes at a time; 0 where not even the fewest fit.

    Blocks of inputs and outputs are there twice, one being copied, and what is computed about five
    times in float32.
    """
    lanes = -(-length // 128) * 128
    each = lanes * (2 * arrays * max(itemsize, 2) + 5 * 4)
    fitting = VMEM * 3 // 4 // each
    # Narrow dtypes pack two or four rows into one of float32.
    fewest = 8 * (4 // narrowest)
    if fitting < fewest:
        return 0
    return min(256, fitting // fewest * fewest, -(-rows // fewest) * fewest)


def measured_row(kernel: str, length: int, itemsize: int) -> dict | None:
    """Returns what was measured on the chip at hand, or None.

    Args:
        kernel: its name in the table.
        length: of a row, or the number of channels.
        itemsize: bytes of an entry of the input.

    Returns:
        A row of the table.

    Examples:
        >>> measured_row("no such kernel", 64, 2) is None
        True
    """
    wanted = (kernel, power_above(length), itemsize)
    found = (
        row
        for row in table().get(_chip(), ())
        if (row["kernel"], power_above(row["length"]), row["bytes"]) == wanted
    )
    return next(found, None)


@functools.cache
def table() -> dict:
    """Returns the measured blocks of each chip.

    Returns:
        For each chip a list of rows.

    Examples:
        >>> isinstance(table(), dict)
        True
    """
    return json.loads(TABLE.read_text())


@functools.cache
def _chip() -> str:
    return jax.devices()[0].device_kind
