"""Time and memory of every normalizer against every rival and against the machine's limit."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._figures import COLOURS, legend, new_figure, save, subplots
from .._run import Run
from .._tables import ordered, read_table, select
from ._ahead_run import ahead, ahead_summary
from ._cases import CORE, MODELS, PASSES, TINY, Case, Pass, passes_over_memory, reference
from ._measure import compiled, copy_bandwidth, inputs, interleaved, residual_bytes
from ._registers import registers_summary
from ._report import against_flax, fastest, printed, ratios, steps_ratios, steps_table
from ._rivals import jax_rivals
from ._scale_run import scale_summary
from ._steps import MODELS as MODELS_TRAINED
from ._steps import measure_steps
from ._torch import TorchQuestion, measure_torch, torch_process

_MARKERS = {
    "jaxnorm": "o",
    "jaxnorm (xla)": "s",
    "flax.nnx": "x",
    "haiku": "+",
    "equinox": "1",
    "jax.nn": "2",
    "tokamax": "3",
    "torch": "D",
}
_CASE = ("member", "shape", "dtype", "direction")  # columns that tell what was timed
_MALLOC = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")


@dataclasses.dataclass(frozen=True)
class Config:
    """Times jaxnorm against Flax, Haiku, Equinox, tokamax, jax.nn and PyTorch, where installed.

    Command: `python -m experiments bench`. On CPU set `MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0
    MALLOC_TRIM_THRESHOLD_=100000000000` first. Without these settings page faults take most of the
    time. The report says whether they were set.

    Expected: forward and backward, jaxnorm is faster than Flax at every size, and as fast as
    PyTorch or faster but for group norm. Forward alone, PyTorch is faster in some cases. The
    backward pass keeps the input and two numbers per statistic.

    `python -m experiments bench --aot h100` (or v5e, v6e) times nothing. It compiles for this chip,
    which need not be there, and counts programs, temporary memory, bytes and collectives, with
    Flax and with a norm of two passes as one writes it down first. CONTRIBUTING.md says how the
    compilers are installed. Expected: for rows and for batch norm with its backward pass at most
    one program more than Flax on a GPU and two on a TPU, and no branch on the data.

    `--count scale` compiles train steps of ResNet-50 and ViT-L/16 with few layers for slices of
    many chips, and extrapolates what a step of the whole models exchanges. `--count registers`
    compiles the Pallas kernels for an H100, and says what each takes of its registers.

    Attributes:
        aot: Chip to compile for; nothing for times of this machine.
        count: What is counted there: "programs" of each normalizer, "registers" of the kernels, or
            the exchanges at "scale".
        chips: Of the slices that "scale" compiles for.
        models: That "scale" compiles.
        sizes: Sizes of the inputs: "tiny", "core" (five normalizers at one size) or "models" (all).
        dtypes: Dtypes of the input; parameters are float32.
        rounds: How often each call is timed. The median counts.
        steps: Also measure whole train steps: a ResNet-18, a small ViT and an LSTM.
        torch: Also measure PyTorch, where it is installed. PyTorch gets a process of its own, in
            turns with this one, since its threads and those of XLA would slow each other down.
        torch_compile: Also measure torch.compile. Its compilation takes a while.
    """

    aot: str = ""
    count: str = "programs"
    chips: tuple[int, ...] = (8, 64, 1024)
    models: tuple[str, ...] = ("ResNet-50", "ViT-L/16")
    sizes: str = "core"
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    rounds: int = 15
    steps: bool = True
    torch: bool = True
    torch_compile: bool = False


PRESETS = {
    "smoke": Config(sizes="tiny", dtypes=("float32",), rounds=5, steps=False),
    "default": Config(),
    "paper": Config(sizes="models", rounds=25, torch_compile=True),
}
_SIZES = {"tiny": TINY, "core": (*TINY, *CORE), "models": (*TINY, *CORE, *MODELS)}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Measure every case. The table `bench` has a row per case, dtype, direction and library."""
    if config.sizes not in _SIZES:
        raise ValueError(f"sizes={config.sizes!r} is unknown; use one of {sorted(_SIZES)}")
    cases = _SIZES[config.sizes]
    if config.aot:
        return ahead(config, cases, run)
    total = len(cases) * len(config.dtypes) * len(PASSES) + config.steps * len(MODELS_TRAINED)
    done = 0
    timed, stepped = run.recorded("bench", _CASE), run.recorded("steps", ("model",))
    bandwidth = copy_bandwidth(2**26, config.rounds)
    with (
        run.progress("bench", total, "measurements") as progress,
        torch_process(config.torch) as torch,
    ):
        for case in cases:
            for dtype in config.dtypes:
                for direction in PASSES:
                    if (case.member, case.size, dtype, direction) not in timed:
                        rows = _rows(config, case, dtype, direction, bandwidth, torch)
                        run.record("bench", rows)
                    done += 1
                    progress(done, case.label)
        for model in MODELS_TRAINED if config.steps else ():
            if (model.name,) not in stepped:
                run.record("steps", measure_steps(model, config.rounds))
            done += 1
            progress(done, model.name)
    table = read_table(run.table("bench"))
    steps = read_table(run.table("steps")) if config.steps else None
    run.console.print(printed(table))
    (run.folder / "table.md").write_text(
        against_flax(table) + (steps_table(steps) if steps else "")
    )
    return {
        "copy_gigabytes_per_second": bandwidth / 1e9,
        "malloc_settings": all(name in os.environ for name in _MALLOC),
        "devices": [device.device_kind for device in jax.devices()],
        "times_faster_than_flax": ratios(table, "flax.linen"),
        "times_faster_than_torch": ratios(table, "torch"),
        "steps_against_flax": steps_ratios(steps) if steps else {},
    }


def _rows(
    config: Config, case: Case, dtype: str, direction: Pass, bandwidth: float, torch: Any
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
    times = interleaved(calls, config.rounds)
    if torch is not None:
        cotangent = np.asarray(inputs(case, dtype, 0.0)[1][3], np.float32)
        asked = TorchQuestion(case, dtype, direction, config.torch_compile, config.rounds)
        times |= torch.submit(measure_torch, asked, host, cotangent).result()
    rivals = [time for name, time in times.items() if not name.startswith("jaxnorm")]
    best = min(rivals, default=float("nan"))
    itemsize = jnp.dtype(dtype).itemsize
    floor = passes_over_memory(case, direction) * host.size * itemsize / bandwidth
    unknown = dict.fromkeys(next(iter(facts.values())), float("nan"))
    return [
        {
            "member": case.member,
            "shape": case.size,
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


def figures(folder: Path) -> list[Path]:
    """Draw each library's speed over flax.linen's by case, a panel per dtype and direction."""
    if not (folder / "bench.csv").exists():
        return []  # nothing was timed
    table = read_table(folder / "bench.csv")
    dtypes = ordered(table["dtype"])
    known = select(table, library="flax.linen")
    cases = list(dict.fromkeys(zip(known["member"], known["shape"], strict=True)))
    figure = new_figure(11, (1.4 + 0.3 * len(cases)) * len(dtypes) + 0.6)
    grid = subplots(figure, len(dtypes), 2, sharex=True, sharey=True)
    for row, dtype in enumerate(dtypes):
        for column, direction in enumerate(PASSES):
            axes = grid[row, column]
            _draw(axes, select(table, dtype=dtype, direction=direction), cases)
            name = "forward" if direction == "forward" else "forward and backward"
            axes.set_title(f"{dtype}, {name}")
        grid[row, 0].set_yticks(range(len(cases)), [" ".join(case) for case in cases], fontsize=8)
    grid[0, 0].invert_yaxis()
    for axes in grid[-1]:
        axes.set_xlabel("speed, times flax.linen")
    legend(figure, grid[0, 0])
    return [save(figure, folder / "bench.png")]


def _draw(axes: Any, table: dict[str, np.ndarray], cases: list[tuple[str, str]]) -> None:
    rows = [select(table, member=member, shape=shape) for member, shape in cases]
    flax = np.array([fastest(each, "flax.linen") for each in rows])
    for position, (library, marker) in enumerate(_MARKERS.items()):
        speed = flax / np.array([fastest(each, library) for each in rows])
        colour = COLOURS[position % len(COLOURS)]
        label = "torch, its faster variant" if library == "torch" else library
        if not np.isnan(speed).all():
            axes.plot(speed, np.arange(len(cases)), marker, color=colour, label=label, ms=6)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")


def summary(results: dict[str, Any]) -> list[str]:
    """Say how many times faster than flax.linen each normalizer was, over its sizes."""
    if "bytes_spilled" in results:
        return registers_summary(results)
    if "plans" in results:
        return scale_summary(results)
    if "aot" in results:
        return ahead_summary(results)
    speed = results["copy_gigabytes_per_second"]
    lines = [f"A copy moves {speed:.1f} GB/s, where bytes read and bytes written both count."]
    torch = _over_sizes(results["times_faster_than_torch"])
    for key, ratio in _over_sizes(results["times_faster_than_flax"]).items():
        against_torch = f", {torch[key]} times as fast as PyTorch" if key in torch else ""
        lines.append(f"{key}: {ratio} times as fast as flax.linen{against_torch}.")
    for model, ratio in results["steps_against_flax"].items():
        lines.append(
            f"Train step of {model}: {ratio['milliseconds']:.2f} of flax.linen's time, "
            f"{ratio['peak_bytes']:.2f} of its peak memory, {ratio['residual_bytes']:.2f} of the "
            f"bytes that it keeps, {ratio['compile_seconds']:.2f} of its compile time."
        )
    return lines


def _over_sizes(ratios: dict[str, float]) -> dict[str, str]:
    """Return the least and the greatest ratio over all sizes, by member, dtype and direction."""
    found: dict[str, list[float]] = {}
    for case, ratio in ratios.items():
        member, _, dtype, direction = case.split()
        passes = "forward and backward" if direction == "both" else direction
        found.setdefault(f"{member}, {dtype}, {passes}", []).append(ratio)
    return {
        key: f"{values[0]:.2f}" if len(values) == 1 else f"{min(values):.2f} to {max(values):.2f}"
        for key, values in found.items()
    }
