"""Measures which blocks of the Pallas kernels over rows are the fastest, and writes their table.

Command: `python -m experiments.bench.tune`. It needs a GPU, compiles some 200 kernels and takes a
quarter of an hour. The table is `jaxnorm/ops/kernels/pallas/blocks.json`, which has the chip's name
as its key. Without a GPU nothing is measured and nothing is written.
"""

import sys

import jax
from rich.console import Console

from jaxnorm.ops.kernels.pallas.tuning import (
    KERNELS,
    Size,
    Target,
    candidates,
    measured,
    timed_call,
    write_rows,
)

from ._measure import interleaved

LENGTHS = (64, 128, 256, 512, 768, 1024, 2048, 4096, 8192, 16384)
DTYPES = ("bfloat16", "float32")
ENTRIES = 1 << 26  # more than the second cache of an H100, 50 MB, in either dtype
ROUNDS = 5


def main() -> int:
    """Measure all sizes, and return the exit status: 0, or 2 where there is no GPU."""
    say = Console().print
    if (backend := jax.default_backend()) != "gpu":
        say(
            f"There is no GPU at hand: JAX computes on {backend}. Nothing was measured, and the "
            "table of blocks is as it was.",
            highlight=False,
        )
        return 2
    chip = jax.devices()[0].device_kind
    for dtype in DTYPES:
        for length in LENGTHS:
            size = Size(ENTRIES // length, length, dtype)
            for kernel in KERNELS:
                if (row := fastest(kernel, size)) is not None:
                    write_rows(chip, [row])
                    say(row)
    return 0


def fastest(kernel: str, size: Size, target: Target = "gpu") -> dict | None:
    """Return the row of the table for a kernel and a size, or None where it has no blocks."""
    tried = list(candidates(kernel, size))
    calls = {blocks: timed_call(kernel, size, blocks, target) for blocks in tried}
    if not calls:
        return None
    named = {str(i): call for i, call in enumerate(calls.values())}
    seconds = interleaved(named, ROUNDS)
    return measured(kernel, size, dict(zip(calls, seconds.values(), strict=True)))


if __name__ == "__main__":
    sys.exit(main())
