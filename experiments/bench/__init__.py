"""Time and memory of every normalizer against every rival and against the machine's limit."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from .._figures import COLOURS, new_figure, save, subplots
from .._run import Run
from .._tables import ordered, read_table, select
from ._cases import CORE, MODELS, TINY, Case, Pass, passes_over_memory, reference
from ._measure import compiled, copy_bandwidth, inputs, interleaved, residual_bytes
from ._rivals import jax_rivals
from ._torch import torch_rivals

_MALLOC = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")
_DIRECTIONS: tuple[Pass, Pass] = ("forward", "both")


@dataclasses.dataclass(frozen=True)
class Config:
    """Times jaxnorm against Flax, Haiku, Equinox, tokamax, jax.nn and PyTorch, where installed.

    Command: `python -m experiments bench`. On CPU set `MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0
    MALLOC_TRIM_THRESHOLD_=100000000000` first, or page faults drown everything; the report says
    whether they were set. Hardware: any; time: about six minutes on two cores.

    Expected: ratios to the best rival above one, residual bytes of the input and two numbers per
    statistic.

    Attributes:
        sizes: Which inputs: "tiny", "core" (five normalizers at one size) or "models" (all).
        dtypes: Dtypes of the input; parameters are float32.
        rounds: How often each call is timed; medians count.
        torch_compile: Also measure torch.compile, which compiles for a while.
    """

    sizes: str = "core"
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    rounds: int = 15
    torch_compile: bool = False


PRESETS = {
    "smoke": Config(sizes="tiny", dtypes=("float32",), rounds=5),
    "default": Config(),
    "paper": Config(sizes="models", rounds=25, torch_compile=True),
}
_SIZES = {"tiny": TINY, "core": (*TINY, *CORE), "models": (*TINY, *CORE, *MODELS)}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Measure every case; the table `bench` has a row per case, dtype, direction and library."""
    if config.sizes not in _SIZES:
        raise ValueError(f"sizes={config.sizes!r} is unknown; use one of {sorted(_SIZES)}")
    cases = _SIZES[config.sizes]
    total = len(cases) * len(config.dtypes) * len(_DIRECTIONS)
    done = 0
    bandwidth = copy_bandwidth(2**26, config.rounds)
    with run.progress("bench", total, "measurements") as progress:
        for case in cases:
            for dtype in config.dtypes:
                for direction in _DIRECTIONS:
                    run.record("bench", _rows(config, case, dtype, direction, bandwidth))
                    done += 1
                    progress(done, case.label)
    table = read_table(run.table("bench"))
    run.console.print(_printed(table))
    (run.folder / "table.md").write_text(_against_flax(table))
    return {
        "copy_gigabytes_per_second": bandwidth / 1e9,
        "malloc_settings": all(name in os.environ for name in _MALLOC),
        "devices": [device.device_kind for device in jax.devices()],
        "times_faster_than_flax": _ratios(table),
    }


def _rows(
    config: Config, case: Case, dtype: str, direction: Pass, bandwidth: float
) -> list[dict[str, Any]]:
    host, arguments = inputs(case, dtype, mean=0.0)
    if direction == "forward":
        arguments = arguments[:3]
    facts: dict[str, dict[str, Any]] = {}
    calls = {}
    for name, function in jax_rivals(case).items():
        jitted, executable, seconds = compiled(function, direction, arguments)
        calls[name] = lambda jitted=jitted: jitted(*arguments)
        memory = executable.memory_analysis()
        facts[name] = {
            "peak_bytes": memory.temp_size_in_bytes + memory.output_size_in_bytes,
            "residual_bytes": residual_bytes(function, arguments[:3]),
            "compile_seconds": seconds,
            "error": _error(case, calls[name]()[0], host),
            "error_at_mean_1000": _error_far_from_zero(function, case, dtype),
        }
    cotangent = np.asarray(inputs(case, dtype, 0.0)[1][3], np.float32)
    calls |= torch_rivals(case, host, cotangent, dtype, direction, config.torch_compile)
    times = interleaved(calls, config.rounds)
    best = min(time for name, time in times.items() if not name.startswith("jaxnorm"))
    itemsize = jnp.dtype(dtype).itemsize
    floor = passes_over_memory(case, direction) * host.size * itemsize / bandwidth
    unknown = dict.fromkeys(next(iter(facts.values())), float("nan"))
    return [
        {
            "member": case.member,
            "shape": "x".join(map(str, case.shape)),
            "origin": case.origin,
            "dtype": dtype,
            "direction": direction,
            "library": name,
            "milliseconds": 1e3 * seconds,
            "times_best_rival": seconds / best,
            "times_floor": seconds / floor,
            **facts.get(name, unknown),
        }
        for name, seconds in times.items()
    ]


def _error(case: Case, y: jax.Array, host: np.ndarray) -> float:
    """Return the largest error against float64, relative to the largest entry."""
    want = reference(case, host)
    return float(np.abs(np.asarray(y, np.float64) - want).max() / np.abs(want).max())


def _error_far_from_zero(function: Any, case: Case, dtype: str) -> float:
    host, arguments = inputs(case, dtype, mean=1000.0)
    y = jax.jit(function)(*arguments[:3])
    return _error(case, y[0] if isinstance(y, tuple) else y, host)


def _ratios(table: dict[str, np.ndarray]) -> dict[str, float]:
    """Return flax.linen's time over jaxnorm's by member, shape, dtype and direction."""
    ours, theirs = select(table, library="jaxnorm"), select(table, library="flax.linen")
    seconds = {_key(theirs, i): t for i, t in enumerate(theirs["milliseconds"])}
    return {
        _key(ours, i): round(seconds[_key(ours, i)] / t, 3)
        for i, t in enumerate(ours["milliseconds"])
        if _key(ours, i) in seconds
    }


def _key(table: dict[str, np.ndarray], i: int) -> str:
    return " ".join(str(table[column][i]) for column in ("member", "shape", "dtype", "direction"))


def _printed(table: dict[str, np.ndarray]) -> Table:
    printed = Table(title="milliseconds (times the best rival, times the floor), memory in MiB")
    for column in ("case", "library", "ms", "best", "floor", "kept", "peak", "error"):
        left = column in ("case", "library")
        printed.add_column(column, justify="left" if left else "right", no_wrap=not left)
    for i in range(len(table["member"])):
        new = i == 0 or _key(table, i) != _key(table, i - 1)
        if new and i:
            printed.add_section()
        printed.add_row(
            _key(table, i) if new else "",
            str(table["library"][i]),
            f"{table['milliseconds'][i]:.3g}",
            f"{table['times_best_rival'][i]:.2f}",
            f"{table['times_floor'][i]:.1f}",
            f"{table['residual_bytes'][i] / 2**20:.2f}",
            f"{table['peak_bytes'][i] / 2**20:.1f}",
            f"{table['error'][i]:.0e}",
        )
    return printed


def _against_flax(table: dict[str, np.ndarray]) -> str:
    """Return the table of the documentation: milliseconds and residual MiB against flax.linen."""
    lines = [
        "| input | dtype | forward, ms: flax / xla / native | forward and backward, ms: "
        "flax / xla / native | kept for the backward pass, MiB: flax / jaxnorm |",
        "|---|---|---|---|---|",
    ]
    cases = dict.fromkeys(zip(table["member"], table["shape"], table["dtype"], strict=True))
    for member, shape, dtype in cases:
        rows = select(table, member=member, shape=shape, dtype=dtype)
        cells = [_three_times(select(rows, direction=each)) for each in _DIRECTIONS]
        kept = [
            select(rows, library=name, direction="both")["residual_bytes"] / 2**20
            for name in ("flax.linen", "jaxnorm")
        ]
        memory = " / ".join(f"{value[0]:.2f}" if len(value) else "-" for value in kept)
        lines.append(f"| {member} {shape} | {dtype} | {cells[0]} | {cells[1]} | {memory} |")
    return "\n".join(lines) + "\n"


def _three_times(rows: dict[str, np.ndarray]) -> str:
    times = []
    for name in ("flax.linen", "jaxnorm (xla)", "jaxnorm"):
        own = select(rows, library=name)["milliseconds"]
        times.append(f"{own[0]:.3g}" if len(own) else "-")
    return " / ".join(times)


def figures(folder: Path) -> list[Path]:
    """Draw, per dtype and direction, each library's time over flax.linen's for each case."""
    table = read_table(folder / "bench.csv")
    dtypes = ordered(table["dtype"])
    figure = new_figure(11, 4.2 * len(dtypes))
    grid = subplots(figure, len(dtypes), 2)
    for row, dtype in enumerate(dtypes):
        for column, direction in enumerate(_DIRECTIONS):
            _draw(grid[row, column], select(table, dtype=dtype, direction=direction))
            name = "forward" if direction == "forward" else "forward and backward"
            grid[row, column].set_title(f"{dtype}, {name}")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return [save(figure, folder / "bench.png")]


def _draw(axes: Any, table: dict[str, np.ndarray]) -> None:
    libraries = [name for name in ordered(table["library"]) if "torch" not in name]
    cases = list(dict.fromkeys(zip(table["member"], table["shape"], strict=True)))
    width = 0.8 / len(libraries)
    for position, library in enumerate(libraries):
        heights = []
        for member, shape in cases:
            rows = select(table, member=member, shape=shape)
            flax = select(rows, library="flax.linen")["milliseconds"]
            own = select(rows, library=library)["milliseconds"]
            heights.append(flax[0] / own[0] if len(own) and len(flax) else np.nan)
        at = np.arange(len(cases)) + (position - (len(libraries) - 1) / 2) * width
        axes.bar(at, heights, width, label=library, color=COLOURS[position % len(COLOURS)])
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_ylabel("speed, times flax.linen")
    labels = [f"{member}\n{shape}" for member, shape in cases]
    axes.set_xticks(np.arange(len(cases)), labels, fontsize=7, rotation=30)


def summary(results: dict[str, Any]) -> list[str]:
    """Say how many times faster than flax.linen each case was."""
    ratios = results["times_faster_than_flax"]
    lines = [f"{case}: {ratio:.2f} times as fast as flax.linen" for case, ratio in ratios.items()]
    speed = results["copy_gigabytes_per_second"]
    return [f"copying moves {speed:.1f} GB/s, reading and writing counted", *lines]
