"""Which blocks of the row kernels are the fastest on a chip: candidates, calls to time, a table."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm.ops.kernels.pallas import _rows_gpu
from jaxnorm.ops.kernels.pallas._blocks import (
    LONGEST_IN_REGISTERS,
    LONGEST_WITH_SUMS,
    TABLE,
    Blocks,
    power_above,
)
from jaxnorm.ops.kernels.pallas._rows import Rows
from jaxnorm.ops.kernels.pallas._targets import Target
from jaxnorm.typing import DTypeLike

KERNELS = ("rows forward", "rows backward")
MOST_OF_A_THREAD = 64  # entries: a thread has 255 registers, and the backward pass four arrays


class Size(NamedTuple):
    """An array that kernels are timed with."""

    rows: int
    length: int
    dtype: DTypeLike


def candidates(kernel: str, size: Size) -> Iterator[Blocks]:
    """Yields the blocks that are worth a measurement.

    Args:
        kernel: one of `KERNELS`.
        size: of the array.

    Yields:
        Blocks that fit the registers; none where rows are taken in steps.

    Examples:
        >>> len(list(candidates("rows forward", Size(8192, 4096, "bfloat16"))))
        9
    """
    width = power_above(size.length)
    most = LONGEST_WITH_SUMS if kernel == "rows backward" else LONGEST_IN_REGISTERS
    for together in (1, 2, 4, 8, 16, 32, 64):
        for warps in (1, 2, 4, 8, 16):
            of_a_thread = together * width // (32 * warps)
            if together * width <= most and 1 <= of_a_thread <= MOST_OF_A_THREAD:
                yield Blocks(together, width, warps)


def timed_call(kernel: str, size: Size, blocks: Blocks, target: Target) -> Callable:
    """Returns a call of a kernel of layer norm, compiled, for a stopwatch.

    Args:
        kernel: one of `KERNELS`.
        size: of the array.
        blocks: one of `candidates`.
        target: what the kernel is compiled for.

    Returns:
        A function without arguments that returns arrays.

    Examples:
        >>> call = timed_call(
        ...     "rows forward", Size(4, 8, "float32"), Blocks(2, 8, 1), "gpu_interpreted"
        ... )
        >>> call()[0].shape
        (1, 4, 8)
    """
    rows = Rows(1, size.rows, 1, size.length, size.length // 2)
    rng = np.random.default_rng(0)
    x, ct = (jnp.asarray(rng.normal(size=(1, size.rows, size.length)), size.dtype) for _ in "ab")
    affine = jnp.ones((1, size.length), jnp.float32)
    one = jnp.ones((1, size.rows, 1), jnp.float32)
    if kernel == "rows forward":
        options = {"epsilon": 1e-6, "center": True, "dtype": x.dtype}
        run = functools.partial(_rows_gpu.forward, rows, **options)
        given = (x, affine, affine)
    else:
        run = functools.partial(_rows_gpu.backward, rows, wanted=(True, True, True))
        given = (ct, x, affine, 0 * one, 0 * one, one, None, None)
    compiled = jax.jit(functools.partial(run, target=target, blocks=blocks))
    return functools.partial(compiled, *given)


def measured(kernel: str, size: Size, seconds: Mapping[Blocks, float]) -> dict:
    """Returns the row of the table for the fastest blocks.

    Args:
        kernel: one of `KERNELS`.
        size: of the array.
        seconds: how long a call takes with each of the candidates.

    Examples:
        >>> seconds = {Blocks(1, 64, 1): 2.0, Blocks(4, 64, 2): 1.0}
        >>> measured("rows forward", Size(8, 64, "bfloat16"), seconds)["rows"]
        4
    """
    best = min(seconds, key=lambda blocks: seconds[blocks])
    itemsize = jnp.dtype(size.dtype).itemsize
    arrays = 3 if kernel == "rows backward" else 2
    moved = arrays * size.rows * size.length * itemsize
    return {
        "kernel": kernel,
        "length": size.length,
        "bytes": itemsize,
        "rows": best.rows,
        "warps": best.warps,
        "GB/s": round(moved / seconds[best] / 1e9),
    }


def write_rows(chip: str, rows: list[dict], path: Path = TABLE) -> None:
    """Puts measured rows into the table; those of the same kernel and size give way.

    Args:
        chip: as `jax.Device.device_kind` names it.
        rows: made by `measured`.
        path: of the table.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "blocks.json"
        >>> _ = path.write_text("{}")
        >>> row = {"kernel": "rows forward", "length": 64, "bytes": 2, "rows": 4, "warps": 2}
        >>> write_rows("chip", [row], path)
        >>> json.loads(path.read_text())["chip"][0]["warps"]
        2
    """
    table = json.loads(path.read_text())

    def key(row: dict) -> tuple:
        return row["kernel"], power_above(row["length"]), row["bytes"]

    found = {key(row): row for row in (*table.get(chip, ()), *rows)}
    table[chip] = [found[k] for k in sorted(found)]
    path.write_text(json.dumps(table, indent=1) + "\n")
