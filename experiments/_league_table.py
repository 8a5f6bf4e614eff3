"""What the league measures: rows of one member and task each, as a table and as dots."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.ticker import NullFormatter
from rich.table import Table

from ._figures import COLOURS, legend, new_figure, save, subplots
from ._run import Run
from ._tables import append_rows

MEASUREMENTS = "measurements.jsonl"
NONE = "none"
TEXT = "text"
Measurement = dict[str, Any]


def read_measurements(path: Path) -> list[Measurement]:
    """Return the finished trainings of a file. A line that an interruption cut is dropped."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n")]
    if len(complete) < len(lines):
        path.write_text("".join(complete))
    return [json.loads(line) for line in complete]


def key_of(row: Measurement) -> tuple[str, str, int, int]:
    return row["task"], row["member"], row["batch_size"], row["seed"]


def table_of(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Return a row per member: means over seeds, of each task and batch size, None where absent."""
    groups: dict[tuple[str, str, int], list[Measurement]] = {}
    for row in measurements:
        groups.setdefault((row["member"], row["task"], row["batch_size"]), []).append(row)
    contests = dict.fromkeys((task, size) for _, task, size in groups)
    rows = []
    for name in dict.fromkeys(member for member, _, _ in groups):
        row: dict[str, Any] = {"member": name}
        for task, size in contests:
            found = groups.get((name, task, size), [])
            score = "loss" if task == TEXT else "accuracy"
            columns = {
                score: _mean([each[score] for each in found]),
                "us_per_step": _median_us([each["seconds_per_step"] for each in found]),
                "kept_bytes": found[0]["kept_bytes"] if found else None,
                "diverged": _mean([float(each["diverged"]) for each in found]),
            }
            row.update({f"{task}_{size}_{column}": value for column, value in columns.items()})
        rows.append(row)
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None]
    return round(float(np.mean(finite)), 4) if finite and len(finite) == len(values) else None


def _median_us(values: Sequence[float]) -> float | None:
    return round(1e6 * float(np.median(values)), 1) if values else None


def write_table(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "league.json").write_text(json.dumps(rows, indent=1) + "\n")
    (folder / "league.csv").unlink(missing_ok=True)
    append_rows(
        folder / "league.csv",
        [{name: "" if value is None else value for name, value in row.items()} for row in rows],
    )


def show_table(run: Run, rows: list[dict[str, Any]]) -> None:
    shown = ("accuracy", "loss", "us_per_step")
    columns = [name for name in rows[0] if name.split("_", 2)[-1] in shown]
    table = Table(title="league: means over seeds")
    table.add_column("member", no_wrap=True)
    for column in columns:
        task, size, what = column.split("_", 2)
        unit = {"loss": "nats", "us_per_step": "us/step"}.get(what, what)
        table.add_column(f"{task} {size}\n{unit}", justify="right")
    table.add_column("diverged", justify="right")
    for row in rows:
        diverged = _mean(
            [row[name] for name in row if name.endswith("_diverged") and row[name] is not None]
        )
        cells = [row["member"], *(row[name] for name in columns), diverged]
        table.add_row(*("-" if cell is None else str(cell) for cell in cells))
    run.console.print(table)


def figures(folder: Path) -> list[Path]:
    """Draw every member's seeds and mean in each task, its time and its memory."""
    rows = read_measurements(folder / MEASUREMENTS)
    table = table_of(rows)
    score = next(name for name in table[0] if name.endswith("_accuracy"))
    worst_first = sorted(table, key=lambda row: -1.0 if row[score] is None else row[score])
    place = {row["member"]: y for y, row in enumerate(worst_first)}
    sizes = list(dict.fromkeys(row["batch_size"] for row in rows if row["task"] != TEXT))
    figure = new_figure(12.5, 1.6 + 0.22 * len(place))
    accuracy, loss, duration, memory = subplots(figure, 1, 4, sharey=True)[0]
    contests = [("images", size) for size in sizes] + [
        (TEXT, size) for size in dict.fromkeys(r["batch_size"] for r in rows if r["task"] == TEXT)
    ]
    for (task, size), colour, marker in zip(contests, COLOURS, "osD^v<>p", strict=False):
        label = f"{task}, batch size {size}"
        look = {"color": colour, "marker": marker, "linestyle": "none"}
        axes, column = (loss, "loss") if task == TEXT else (accuracy, "accuracy")
        seeds = [
            (row[column], place[row["member"]])
            for row in rows
            if (row["task"], row["batch_size"]) == (task, size) and row[column] is not None
        ]
        axes.plot(*zip(*seeds, strict=True), **look, ms=3, alpha=0.4)
        _dots(axes, table, place, f"{task}_{size}_{column}", look, label)
        _dots(duration, table, place, f"{task}_{size}_us_per_step", look, label)
        _dots(memory, table, place, f"{task}_{size}_kept_bytes", look, label)
    accuracy.set_yticks(list(place.values()), [name.replace("_", " ") for name in place])
    accuracy.set_ylim(-0.7, len(place) - 0.3)
    accuracy.set(title="images: seeds and mean", xlabel="test accuracy")
    loss.set(title="text: seeds and mean", xlabel="test loss (nats per character)")
    _show_by_number(loss, table, place)
    duration.set(title="time", xlabel="microseconds per step", xscale="log")
    memory.set(title="memory", xlabel="bytes kept for the backward pass", xscale="log")
    for axes in (duration, memory):
        axes.xaxis.set_minor_formatter(NullFormatter())
    legend(figure, memory, ncols=4)
    return [save(figure, folder / "league.png")]


def _show_by_number(axes: Any, table: Any, place: dict[str, int]) -> None:
    """End the axis of losses where no training diverged; write the losses beyond as numbers."""
    losses = {
        name: [(row["member"], row[name], row[name.replace("loss", "diverged")]) for row in table]
        for name in table[0]
        if name.endswith("_loss")
    }
    found = [row for rows in losses.values() for row in rows if row[1] is not None]
    held = [loss for _, loss, diverged in found if not diverged]
    if not held:
        return
    low, high = min(held), max(held)
    axes.set_xlim(low - 0.08 * (high - low), high + 0.08 * (high - low) + 1e-3)
    for name, loss, _ in found:
        if loss > axes.get_xlim()[1]:
            text = {"ha": "right", "va": "center", "fontsize": "small"}
            axes.text(
                0.97, place[name], f"{loss:.2f} →", **text, transform=axes.get_yaxis_transform()
            )


def _dots(
    axes: Any,
    table: Sequence[Mapping[str, Any]],
    place: Mapping[str, int],
    column: str,
    look: Mapping[str, Any],
    label: str,
) -> None:
    present = [(row[column], place[row["member"]]) for row in table if row[column] is not None]
    axes.plot(*zip(*present, strict=True), **look, ms=6, label=label)


def kept_bytes(loss: Callable[..., Any], params: Any, *rest: Any) -> int:
    """Return the size of the arrays that the derivative of a loss by its parameters keeps.

    Args:
        loss: (params, *rest) -> (value, further outputs).
        params: the parameters, which may be among the kept arrays.
        *rest: further arguments.

    Examples:
        >>> import jax.numpy as jnp
        >>> kept_bytes(lambda w, x: (jnp.sum(w * x), None), jnp.ones(3), jnp.ones(3))
        12
    """
    closure = jax.eval_shape(
        lambda params, *rest: jax.vjp(lambda p: loss(p, *rest), params, has_aux=True)[1],
        params,
        *rest,
    )
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(closure))
