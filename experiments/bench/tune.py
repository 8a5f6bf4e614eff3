"""Measures which blocks of the GPU's Pallas kernels are the fastest, and writes their table."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from jaxnorm.ops.kernels.pallas import tuning
from jaxnorm.ops.kernels.pallas.tuning import KERNELS, Size, candidates, timed_call

from .._run import Run, RunError
from .._tables import read_table
from ._measure import interleaved

ENTRIES = 1 << 26  # more than the second cache of an H100, 50 MB, in either dtype
_SIZE = ("kernel", "length", "bytes")  # columns that tell what was measured


@dataclasses.dataclass(frozen=True)
class Config:
    """Times every candidate for the blocks of each kernel and size, on a GPU.

    Command: `python -m experiments bench.tune`. It writes the fastest blocks into
    `jaxnorm/ops/kernels/pallas/blocks.json`, under the chip's name; the kernels then use them on
    this chip. Without a GPU nothing is measured and nothing is written.

    Expected: for rows at least 90% of the bandwidth of a copy forward and 80% backward; for
    columns 85% of a pass that reads the array twice.

    Attributes:
        kernels: Kernels to measure.
        lengths: Entries of a row, for kernels over rows.
        channels: Channels, for kernels over columns.
        dtypes: Dtypes of the entries.
        rounds: How often each candidate is timed. The median counts.
    """

    kernels: tuple[str, ...] = tuple(KERNELS)
    lengths: tuple[int, ...] = (64, 128, 256, 512, 768, 1024, 2048, 4096, 8192, 16384)
    channels: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    rounds: int = 5


PRESETS = {
    "smoke": Config(lengths=(1024,), channels=(256,), dtypes=("bfloat16",)),
    "default": Config(),
    "paper": Config(rounds=25),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Measure all sizes; the table `blocks` has a row per kernel, size and dtype."""
    unknown = sorted({*config.kernels} - {*KERNELS})
    if unknown:
        raise RunError(f"kernels {unknown} are unknown; use some of {list(KERNELS)}")
    if (backend := jax.default_backend()) != "gpu":
        raise RunError(
            f"there is no GPU at hand: JAX computes on {backend}. Nothing was measured, and the "
            "table of blocks is as it was; run this command where a GPU is"
        )
    chip = jax.devices()[0].device_kind
    jobs = [
        (kernel, Size(ENTRIES // length, length, dtype))
        for kernel in config.kernels
        for dtype in config.dtypes
        for length in (config.channels if kernel.startswith("columns") else config.lengths)
    ]
    present = run.recorded("blocks", _SIZE)
    with run.progress("tune", len(jobs), "sizes") as progress:
        for done, (kernel, size) in enumerate(jobs, 1):
            itemsize = jax.numpy.dtype(size.dtype).itemsize
            if (kernel, str(size.length), str(itemsize)) not in present:
                row = fastest(kernel, size, config.rounds)
                if row is not None:
                    tuning.write_rows(chip, [row])
                    # Rows and columns have blocks of other names; the JSON file has them.
                    kept = {name: row[name] for name in (*_SIZE, "GB/s")}
                    run.record("blocks", [{**kept, "candidates": len([*candidates(kernel, size)])}])
            progress(done, f"{kernel} {size.length}")
    table = read_table(run.table("blocks"))
    speeds = {
        f"{kernel} {int(length)} {int(bytes_)}": float(speed)
        for kernel, length, bytes_, speed in zip(
            *(table[name] for name in (*_SIZE, "GB/s")), strict=True
        )
    }
    return {"chip": chip, "gigabytes_per_second": speeds}


def fastest(
    kernel: str, size: Size, rounds: int, target: tuning.Target = "gpu"
) -> dict[str, Any] | None:
    """Return the row of the table for a kernel and a size, or None where it has no blocks."""
    tried = list(candidates(kernel, size))
    calls = {blocks: timed_call(kernel, size, blocks, target) for blocks in tried}
    if not calls:
        return None
    named = {str(i): call for i, call in enumerate(calls.values())}
    seconds = interleaved(named, rounds)
    return tuning.measured(kernel, size, dict(zip(calls, seconds.values(), strict=True)))


def figures(folder: Path) -> list[Path]:
    """Draw nothing: the table is what is wanted."""
    return []


def summary(results: dict[str, Any]) -> list[str]:
    """Say which bandwidth the fastest blocks of each kernel reached, over its sizes."""
    found: dict[str, list[float]] = {}
    for key, speed in results["gigabytes_per_second"].items():
        found.setdefault(key.rsplit(" ", 2)[0], []).append(speed)
    return [
        f"{kernel} on {results['chip']}: {min(speeds):.0f} to {max(speeds):.0f} GB/s."
        for kernel, speeds in found.items()
    ]
