"""The results of the benchmark, as ratios and as tables."""

import numpy as np
from rich.table import Table

from .._tables import ordered, select
from ._cases import PASSES


def ratios(table: dict[str, np.ndarray], rival: str) -> dict[str, float]:
    """Return the fastest time of a rival's variants over jaxnorm's, by case."""
    ours = select(table, library="jaxnorm")
    seconds: dict[str, float] = {}
    for i, library in enumerate(table["library"]):
        if str(library).startswith(rival):
            key = _key(table, i)
            seconds[key] = min(seconds.get(key, np.inf), table["milliseconds"][i])
    return {
        _key(ours, i): round(float(seconds[_key(ours, i)] / t), 3)
        for i, t in enumerate(ours["milliseconds"])
        if _key(ours, i) in seconds
    }


def steps_ratios(steps: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return jaxnorm's time, memory and compile time over flax.linen's, by model."""
    found = {}
    for model in ordered(steps["model"]):
        ours = select(steps, model=model, library="jaxnorm")
        theirs = select(steps, model=model, library="flax.linen")
        columns = ("milliseconds", "peak_bytes", "residual_bytes", "compile_seconds")
        found[model] = {c: round(float(ours[c][0] / theirs[c][0]), 3) for c in columns}
    return found


def steps_table(steps: dict[str, np.ndarray]) -> str:
    """Return the documentation's table of whole train steps."""
    lines = [
        "",
        "| train step | library | ms | peak, MiB | kept for backward, MiB | compiled in, s |",
        "|---|---|---|---|---|---|",
    ]
    for i, model in enumerate(steps["model"]):
        peak, kept = (steps[c][i] / 2**20 for c in ("peak_bytes", "residual_bytes"))
        lines.append(
            f"| {model} | {steps['library'][i]} | {time(steps['milliseconds'][i])} | {peak:.1f} | "
            f"{kept:.1f} | {steps['compile_seconds'][i]:.2f} |"
        )
    return "\n".join(lines) + "\n"


def time(milliseconds: float) -> str:
    """Return a time with three digits, as no measurement here has more; '-' where there is none.

    Examples:
        >>> time(1059.8), time(0.00865), time(float("nan"))
        ('1060', '0.00865', '-')
    """
    return "-" if np.isnan(milliseconds) else f"{float(f'{milliseconds:.3g}'):g}"


def _key(table: dict[str, np.ndarray], i: int) -> str:
    return " ".join(str(table[column][i]) for column in ("member", "shape", "dtype", "direction"))


def printed(table: dict[str, np.ndarray]) -> Table:
    shown = Table(title="milliseconds (times the best rival, times the floor), memory in MiB")
    for column in ("case", "library", "ms", "best", "floor", "kept", "peak", "error"):
        left = column in ("case", "library")
        shown.add_column(column, justify="left" if left else "right", no_wrap=not left)
    for i in range(len(table["member"])):
        new = i == 0 or _key(table, i) != _key(table, i - 1)
        if new and i:
            shown.add_section()
        shown.add_row(
            _key(table, i) if new else "",
            str(table["library"][i]),
            time(table["milliseconds"][i]),
            f"{table['times_best_rival'][i]:.2f}",
            f"{table['times_floor'][i]:.1f}",
            f"{table['residual_bytes'][i] / 2**20:.2f}",
            f"{table['peak_bytes'][i] / 2**20:.1f}",
            f"{table['error'][i]:.0e}",
        )
    return shown


def against_flax(table: dict[str, np.ndarray]) -> str:
    """Return the documentation's table of milliseconds and residual MiB, with those of rivals."""
    order = "flax / torch / xla / native"
    lines = [
        f"| input | dtype | forward, ms: {order} | forward and backward, ms: {order} | kept for "
        "backward, MiB: flax / jaxnorm |",
        "|---|---|---|---|---|",
    ]
    cases = dict.fromkeys(zip(table["member"], table["shape"], table["dtype"], strict=True))
    for member, shape, dtype in cases:
        rows = select(table, member=member, shape=shape, dtype=dtype)
        cells = [_times(select(rows, direction=each)) for each in PASSES]
        kept = [
            select(rows, library=name, direction="both")["residual_bytes"] / 2**20
            for name in ("flax.linen", "jaxnorm")
        ]
        memory = " / ".join(f"{value[0]:.2f}" if len(value) else "-" for value in kept)
        lines.append(f"| {member} {shape} | {dtype} | {cells[0]} | {cells[1]} | {memory} |")
    return "\n".join(lines) + "\n"


def fastest(rows: dict[str, np.ndarray], library: str) -> float:
    """Return the milliseconds of a library's fastest variant in one case, or NaN."""
    own = np.array([str(name).startswith(library) for name in rows["library"]], bool)
    if library == "jaxnorm":
        own = rows["library"] == library
    return float(min(rows["milliseconds"][own], default=np.nan))


def _times(rows: dict[str, np.ndarray]) -> str:
    names = ("flax.linen", "torch", "jaxnorm (xla)", "jaxnorm")
    return " / ".join(time(fastest(rows, name)) for name in names)
