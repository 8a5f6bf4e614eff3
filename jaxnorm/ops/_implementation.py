"""Which code computes `standardize`: as asked for, as the environment says, or as measured."""

import csv
import functools
import math
import os
from importlib import resources
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.ops import kernels
from jaxnorm.stats._sampling import Sampling
from jaxnorm.typing import Array, DTypeLike, Shape

Implementation = Literal["xla", "native"]
"""Which code computes it: "xla" is plain JAX, "native" compiled kernels on CPU."""

VARIABLE = "JAXNORM_IMPLEMENTATION"
MEASUREMENTS = "choice.csv"  # made by `python -m experiments.bench.choice`


class Measured(NamedTuple):
    """One row of `choice.csv`: microseconds of forward plus those of forward and backward."""

    size: int  # entries of `x`
    xla_us: float
    native_us: float


def choose(
    implementation: Implementation | None,
    x: Array,
    sampling: Sampling,
    weighted: bool,
    scale: Array | None,
    bias: Array | None,
    epsilon: object,
    dtype: DTypeLike,
) -> Implementation:
    """Returns what computes `standardize` for these arguments.

    Args:
        implementation: what the caller asked for; None for the environment variable
            JAXNORM_IMPLEMENTATION, and where that is not set for the faster one.
        x: [*shape].
        sampling: how the moments are taken.
        weighted: whether there is a mask or weights.
        scale: of the rank of `x`, or None.
        bias: of the rank of `x`, or None.
        epsilon: as the caller gave it.
        dtype: the output's dtype.

    Returns:
        "xla" or "native".

    Raises:
        ValueError: the name is unknown, or "native" was asked for and cannot serve.

    Examples:
        >>> choose(None, jnp.ones((2, 3)), Sampling((2, 1)), True, None, None, 1e-6, jnp.float32)
        'xla'
    """
    wanted = implementation or os.environ.get(VARIABLE) or None
    if wanted not in (None, "xla", "native"):
        raise ValueError(f"implementation={wanted!r} is unknown; use 'xla', 'native' or None")
    if wanted == "xla":
        return "xla"
    serves = (
        not weighted
        and sampling.axis_name is None
        and sampling.variance != "fast"
        and kernels.suits(x, sampling.stats_shape, scale, bias, epsilon=epsilon, dtype=dtype)
    )
    if serves and (wanted or _worth_it(x, sampling.stats_shape)):
        return "native"
    # The environment variable is a wish for all calls, of which some have no kernel.
    if implementation == "native":
        raise ValueError(
            f"implementation='native' does not serve x {x.dtype} {list(x.shape)} with stats_shape "
            f"{sampling.stats_shape}: {_reason(weighted, sampling)}; use implementation=None"
        )
    return "xla"


def show_config() -> str:
    """Returns which implementations are in use on this machine, and why.

    Returns:
        One line each for the platform, the native kernels and the choice between them.

    Examples:
        >>> print(show_config().splitlines()[0].split(":")[0])
        platform
    """
    why_not = kernels.why_not()
    native = f"no: {why_not}" if why_not else f"yes, compiled for {kernels.instruction_set()}"
    forced = os.environ.get(VARIABLE)
    choice = f"{VARIABLE}={forced}" if forced else f"by measurements, {MEASUREMENTS}"
    return (
        f"platform: {jax.default_backend()}\nnative CPU kernels: {native}\nimplementation: {choice}"
    )


def _worth_it(x: Array, stats_shape: Shape) -> bool:
    """Returns whether the kernels were the faster ones in the measurement next in size."""
    key = ("cpu", jnp.dtype(x.dtype).name, _layout(x.shape, stats_shape))
    nearest = min(_measurements()[key], key=lambda row: abs(math.log(x.size / row.size)))
    return nearest.native_us < nearest.xla_us


def _layout(shape: Shape, stats_shape: Shape) -> str:
    """Returns which axes are kept (k) and reduced (r), in the order of memory.

    Examples:
        >>> _layout((8, 4, 4, 6), (8, 1, 1, 2)), _layout((8, 6), (1, 6)), _layout((8, 6), (8, 1))
        ('krkr', 'rk', 'kr')
    """
    *samples, channels = stats_shape
    if channels < shape[-1]:
        return "kr" if channels == 1 else "krkr"
    return "krk" if any(s > 1 for s in samples) else "rk"


@functools.cache
def _measurements() -> dict[tuple[str, str, str], list[Measured]]:
    """Returns the rows of `choice.csv` by platform, dtype and layout."""
    text = resources.files("jaxnorm.ops").joinpath(MEASUREMENTS).read_text()
    table: dict[tuple[str, str, str], list[Measured]] = {}
    for row in csv.DictReader(text.splitlines()):
        measured = Measured(int(row["size"]), float(row["xla_us"]), float(row["native_us"]))
        table.setdefault((row["platform"], row["dtype"], row["layout"]), []).append(measured)
    return table


def _reason(weighted: bool, sampling: Sampling) -> str:
    if kernels.why_not() is not None:
        return kernels.why_not() or ""
    if weighted:
        return "the kernels take no mask and no weights"
    if sampling.axis_name is not None:
        return "the kernels take no axis_name"
    if sampling.variance == "fast":
        return "the kernels have no variance='fast'"
    return "the kernels know no such layout, dtype, sharding or epsilon"
