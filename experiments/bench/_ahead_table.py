"""What XLA makes of each normalizer for a chip that is not there, beside its accuracy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from ._ahead import TARGETS, Counts, count, devices, shaped
from ._cases import EPSILON, GHOST_BATCH_SIZE, NUM_GROUPS, Case, Pass, reduced_axes, reference
from ._measure import as_program, inputs
from ._rivals import Function, jax_rivals

LIBRARIES = ("jaxnorm", "flax.linen", "two passes")
CHIPS = 4  # over which the batch is sharded where collectives are counted


def functions(case: Case) -> dict[str, Function]:
    """Return the functions that are compared, by name; Flax has no ghost batch norm."""
    rivals = jax_rivals(case) | {"two passes": _two_passes(case)}
    return {name: rivals[name] for name in LIBRARIES if name in rivals}


def _two_passes(case: Case) -> Function:
    """Return a normalization as one writes it down first, mean and variance in float32."""

    def apply(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        view, axes = x.astype(jnp.float32), reduced_axes(case)
        if case.member == "group":
            view, axes = view.reshape(*x.shape[:-1], NUM_GROUPS, -1), (*axes, x.ndim)
        elif case.member == "ghost":
            view = view.reshape(-1, GHOST_BATCH_SIZE, *x.shape[1:])
            axes = tuple(range(1, view.ndim - 1))
        if case.member != "rms":
            view = view - view.mean(axes, keepdims=True)
        rstd = jax.lax.rsqrt(jnp.square(view).mean(axes, keepdims=True) + EPSILON)
        y = (view * rstd).reshape(x.shape) * scale
        return (y if case.member == "rms" else y + bias).astype(x.dtype)

    return apply


def counted(target: str, case: Case, dtype: str, direction: Pass, name: str) -> Counts:
    """Return what the program of a library is made of, in a process of `compiler(target)`."""
    (chip,) = devices(target)
    one = SingleDeviceSharding(chip)
    return _compiled(functions(case)[name], direction, case, dtype, one, one)


def collectives(target: str, case: Case, dtype: str, direction: Pass, name: str) -> int:
    """Return how often four chips meet that share a batch, in a process of `compiler(target)`."""
    mesh = Mesh(devices(target, CHIPS), ("data",))
    batch, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    return _compiled(functions(case)[name], direction, case, dtype, batch, whole).collectives


def _compiled(function: Function, direction: Pass, case: Case, dtype: str, *where: Any) -> Counts:
    x = shaped(case.shape, dtype, where[0])
    parameters = [shaped(case.shape[-1:], "float32", where[1])] * 2
    given = (x, *parameters) if direction == "forward" else (x, *parameters, x)
    return count(as_program(function, direction).lower(*given).compile())


def errors(target: str, case: Case, name: str) -> dict[str, float]:
    """Return the largest errors of a forward pass in float32, relative to the largest entry.

    They are against float64. Narrower dtypes show only how y is rounded. The program is lowered
    for the target, and computed by a CPU. Like every exported program it does not know that it will
    have one device, so rows on GPU are those of several devices.
    """
    found = {}
    for mean in (0.0, 1000.0):
        host, arguments = inputs(case, "float32", mean)
        want = reference(case, host)
        y = lowered_for(TARGETS[target].platform, functions(case)[name], arguments[:3])
        y = y[0] if isinstance(y, tuple) else y
        error = np.abs(np.asarray(y, np.float64) - want).max() / np.abs(want).max()
        found["error" if mean == 0 else "error_at_mean_1000"] = float(error)
    return found


def lowered_for(platform: str, function: Callable[..., Any], arguments: tuple) -> Any:
    """Return `function(*arguments)` as it is lowered for a platform, computed on this one."""
    anywhere = [jax.export.DisabledSafetyCheck.platform()]
    export = jax.export.export(jax.jit(function), platforms=[platform], disabled_checks=anywhere)
    return export(*arguments).call(*arguments)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the documentation's table: a row per case and direction, jaxnorm against the others.

    Args:
        rows: those of one target, all libraries of a case one after the other.
    """
    lines = [
        "| case | dtype | pass | programs | temporary, MB | accessed, MB | collectives | "
        "error | error at mean 1000 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = ("case", "dtype", "direction")
    for key in dict.fromkeys(tuple(row[k] for k in keys) for row in rows):
        mine = [row for row in rows if tuple(row[k] for k in keys) == key]
        cells = [
            _joined(mine, "programs", "{:.0f}"),
            _joined(mine, "temporaries", "{:.1f}", 1e6),
            _joined(mine, "accessed", "{:.0f}", 1e6),
            _joined(mine, "collectives", "{:.0f}"),
            _joined(mine, "error", "{:.0e}"),
            _joined(mine, "error_at_mean_1000", "{:.0e}"),
        ]
        passes = "forward" if key[2] == "forward" else "forward and backward"
        lines.append(" | ".join([f"| {key[0]} | {key[1]} | {passes}", *cells]) + " |")
    return "\n".join(lines) + "\n"


def _joined(rows: list[dict[str, Any]], column: str, form: str, unit: float = 1.0) -> str:
    by_library = {row["library"]: row[column] / unit for row in rows}
    values = [by_library.get(name, float("nan")) for name in LIBRARIES]
    return ", ".join("-" if np.isnan(v) else form.format(v) for v in values)
