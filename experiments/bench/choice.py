"""Measures which implementation is faster in which case, for `jaxnorm/ops/choice.csv`.

Command: `python -m experiments.bench.choice > choice.csv`, on a quiet machine. It takes three
minutes on two cores. The library reads the file `choice.csv` in `jaxnorm/ops`.
"""

import csv
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm.ops import standardize

from ._measure import compiled, interleaved

COLUMNS: tuple[str, ...] = ("platform", "dtype", "layout", "size", "xla_us", "native_us")
DTYPES = ("float32", "bfloat16", "float16")
SIZES = tuple(1 << power for power in (6, 9, 12, 15, 18, 21))
ROUNDS = 15


def example(layout: str, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a shape of `size` entries and a statistics shape of a layout.

    Args:
        layout: "kr" (layer, RMS), "rk" (batch), "krk" (instance) or "krkr" (group).
        size: a power of two, 64 or more.
    """
    root = 1 << (int(math.log2(size)) // 2)
    if layout == "kr":
        return (size // root, root), (size // root, 1)
    if layout == "rk":
        channels = min(root, 256)
        return (size // channels, channels), (1, channels)
    samples = 2
    channels = min(16 if size < 1 << 12 else 64, size // samples)
    groups = channels if layout == "krk" else channels // 4
    return (samples, size // samples // channels, channels), (samples, 1, groups)


def measure(dtype: str, layout: str, size: int) -> dict[str, float]:
    """Return the microseconds of a forward pass and of forward and backward, summed.

    The result is a number for each implementation.
    """
    shape, stats_shape = example(layout, size)
    rng = np.random.default_rng(0)
    x, cotangent = (jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
    arguments = (x, jnp.ones(shape[-1]), jnp.zeros(shape[-1]))
    calls = {}
    for implementation in ("xla", "native"):

        def normalized(x, scale, bias, implementation=implementation):
            return standardize(
                x,
                stats_shape,
                scale=scale,
                bias=bias,
                epsilon=1e-5,
                implementation=implementation,  # type: ignore[arg-type]  # one of the two
            )

        forward = compiled(normalized, "forward", arguments)[0]
        both = compiled(normalized, "both", (*arguments, cotangent))[0]
        calls[implementation] = lambda f=forward, b=both: (f(*arguments), b(*arguments, cotangent))
    return {name: 1e6 * seconds for name, seconds in interleaved(calls, ROUNDS).items()}


def main() -> None:
    """Write the table to standard output."""
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for dtype in DTYPES:
        for layout in ("kr", "rk", "krk", "krkr"):
            for size in SIZES:
                times = measure(dtype, layout, size)
                writer.writerow(
                    {
                        "platform": jax.default_backend(),
                        "dtype": dtype,
                        "layout": layout,
                        "size": size,
                        **{f"{name}_us": f"{time:.1f}" for name, time in times.items()},
                    }
                )


if __name__ == "__main__":
    main()
