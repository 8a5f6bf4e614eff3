"""Which code computes `standardize`: as asked for, as the environment says, or as measured."""

import os
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.ops import kernels
from jaxnorm.stats._sampling import Sampling
from jaxnorm.typing import Array, DTypeLike, Shape

Implementation = Literal["xla", "native"]
"""Which code computes it: "xla" is plain JAX, "native" compiled kernels on CPU."""

VARIABLE = "JAXNORM_IMPLEMENTATION"


class Threshold(NamedTuple):
    """From how many entries of `x` on the native kernels are faster than plain JAX."""

    rows: int  # statistics over the last axes: layer, RMS
    columns: int  # statistics that leave the last axis whole or grouped: batch, instance, group


# Measured by `python -m experiments bench` forward and backward; see docs/performance.md.
_FASTER_FROM = {
    "float32": Threshold(rows=1 << 12, columns=1 << 12),
    "bfloat16": Threshold(rows=1 << 12, columns=1 << 12),
    "float16": Threshold(rows=1 << 12, columns=1 << 12),
}


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
    choice = f"{VARIABLE}={forced}" if forced else "by size, from measurements"
    return (
        f"platform: {jax.default_backend()}\nnative CPU kernels: {native}\nimplementation: {choice}"
    )


def _worth_it(x: Array, stats_shape: Shape) -> bool:
    threshold = _FASTER_FROM[jnp.dtype(x.dtype).name]
    rows = stats_shape[-1] == 1 and x.shape[-1] != 1
    return x.size >= (threshold.rows if rows else threshold.columns)


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
