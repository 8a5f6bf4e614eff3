"""Which blocks of the GPU's kernels are the fastest: candidates, calls to time, a table."""

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm.ops.kernels import _layout
from jaxnorm.ops.kernels.pallas import _blocks, _column_blocks, _column_parts, _rows, _rows_gpu
from jaxnorm.ops.kernels.pallas._targets import Target
from jaxnorm.typing import DTypeLike

# How often each reads or writes an array of the size of x.
KERNELS = {"rows forward": 2, "rows backward": 3, "columns forward": 3, "columns backward": 5}
MOST_OF_A_THREAD = 64  # entries: a thread has 255 registers, and the backward pass four arrays

Blocks = _blocks.Blocks | _column_blocks.ColumnBlocks


class Size(NamedTuple):
    """An array that kernels are timed with.

    Args:
        rows: how many there are.
        length: entries of each; the channels, for kernels over columns.
        dtype: of the entries.

    Examples:
        >>> Size(8, 64, "bfloat16").length
        64
    """

    rows: int
    length: int
    dtype: DTypeLike


def candidates(kernel: str, size: Size) -> Iterator[Blocks]:
    """Returns the blocks that are worth a measurement.

    Args:
        kernel: one of `KERNELS`.
        size: of the array.

    Returns:
        Blocks that fit the registers; none where rows are taken in steps.

    Examples:
        >>> len(list(candidates("rows forward", Size(8192, 4096, "bfloat16"))))
        9
        >>> len(list(candidates("columns forward", Size(8192, 256, "bfloat16"))))
        36
    """
    return _of_columns(size) if kernel.startswith("columns") else _of_rows(kernel, size)


def _of_rows(kernel: str, size: Size) -> Iterator[_blocks.Blocks]:
    width = _blocks.power_above(size.length)
    most = _blocks.LONGEST_WITH_SUMS if kernel == "rows backward" else _blocks.LONGEST_IN_REGISTERS
    for together in (1, 2, 4, 8, 16, 32, 64):
        for warps in (1, 2, 4, 8, 16):
            of_a_thread = together * width // (32 * warps)
            if together * width <= most and 1 <= of_a_thread <= MOST_OF_A_THREAD:
                yield _blocks.Blocks(together, width, warps)


def _of_columns(size: Size) -> Iterator[_column_blocks.ColumnBlocks]:
    """Returns blocks of lines of 64 to 256 bytes; more programs have shorter blocks."""
    every = _blocks.power_above(size.length)
    lines = {min(every, line // jnp.dtype(size.dtype).itemsize) for line in (64, 128, 256)}
    for entries, channels, warps in itertools.product((2048, 4096), sorted(lines), (4, 8)):
        for programs, tiles in ((528, 8), (1056, 4), (2112, 2)):
            yield _column_blocks.ColumnBlocks(entries, channels, programs, tiles, warps)


def timed_call(kernel: str, size: Size, blocks: Blocks, target: Target) -> Callable:
    """Returns a call of the kernels of layer norm or batch norm, compiled, for a stopwatch.

    Args:
        kernel: one of `KERNELS`.
        size: of the array.
        blocks: one of `candidates`.
        target: what the kernels are compiled for.

    Returns:
        A function without arguments that returns arrays.

    Examples:
        >>> call = timed_call(
        ...     "rows forward", Size(4, 8, "float32"), _blocks.Blocks(2, 8, 1), "gpu_interpreted"
        ... )
        >>> call()[0].shape
        (1, 4, 8)
    """
    columns = kernel.startswith("columns")
    rng = np.random.default_rng(0)
    x, ct = (jnp.asarray(rng.normal(size=(1, *size[:2])), size.dtype) for _ in "ab")
    affine = jnp.ones((1, 1, size.length) if columns else (1, size.length), jnp.float32)
    options = {"epsilon": 1e-6, "center": True, "dtype": x.dtype}
    view = _layout.View(1, size.rows, size.length, size.length, 1, 0, 0)
    rows = _rows.Rows(1, size.rows, 1, size.length, size.length // 2)
    if kernel == "columns forward":
        given = (x, (affine, affine))
        run = functools.partial(_column_parts.forward, view, **options)
    elif kernel == "columns backward":
        location = jnp.zeros((1, 3, size.length)).at[:, 2].set(1)
        given = (x, ct, location, (affine, affine))
        run = functools.partial(_column_parts.backward, view, given=None, center=True)
    elif kernel == "rows forward":
        given = (x, affine, affine)
        run = functools.partial(_rows_gpu.forward, rows, **options)
    else:
        one = jnp.ones((1, size.rows, 1), jnp.float32)
        given = (ct, x, affine, 0 * one, 0 * one, one, None, None)
        run = functools.partial(_rows_gpu.backward, rows, wanted=(True, True, True))
    compiled = jax.jit(functools.partial(run, target=target, blocks=blocks))
    return functools.partial(compiled, *given)


def measured(kernel: str, size: Size, seconds: Mapping[Blocks, float]) -> dict:
    """Returns the row of the table for the fastest blocks.

    Args:
        kernel: one of `KERNELS`.
        size: of the array.
        seconds: how long a call takes with each of the candidates.

    Returns:
        What `write_rows` takes, with the bytes per second that the fastest blocks move.

    Examples:
        >>> seconds = {_blocks.Blocks(1, 64, 1): 2.0, _blocks.Blocks(4, 64, 2): 1.0}
        >>> measured("rows forward", Size(8, 64, "bfloat16"), seconds)["rows"]
        4
    """
    best = min(seconds, key=lambda blocks: seconds[blocks])
    itemsize = jnp.dtype(size.dtype).itemsize
    moved = KERNELS[kernel] * size.rows * size.length * itemsize
    # The width of a block of rows follows from the length.
    chosen = {name: value for name, value in best._asdict().items() if name != "length"}
    return {
        "kernel": kernel,
        "length": size.length,
        "bytes": itemsize,
        **chosen,
        "GB/s": round(moved / seconds[best] / 1e9),
    }


def write_rows(chip: str, rows: list[dict], path: Path | None = None) -> None:
    """Puts measured rows into the table; those of the same kernel and size give way.

    Args:
        chip: as `jax.Device.device_kind` names it.
        rows: made by `measured`.
        path: of the table; the one that the kernels read if None.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "blocks.json"
        >>> _ = path.write_text("{}")
        >>> row = {"kernel": "rows forward", "length": 64, "bytes": 2, "rows": 4, "warps": 2}
        >>> write_rows("chip", [row], path)
        >>> json.loads(path.read_text())["chip"][0]["warps"]
        2
    """
    path = _blocks.TABLE if path is None else path
    table = json.loads(path.read_text())

    def key(row: dict) -> tuple:
        return row["kernel"], _blocks.power_above(row["length"]), row["bytes"]

    found = {key(row): row for row in (*table.get(chip, ()), *rows)}
    table[chip] = [found[k] for k in sorted(found)]
    path.write_text(json.dumps(table, indent=1) + "\n")
