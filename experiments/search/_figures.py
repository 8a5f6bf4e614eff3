"""The pictures of a search: every trial, and accuracy against the learning rate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .._figures import COLOURS, band, legend, new_figure, save, style, subplots
from .._seeds import last_rows, per_seed
from .._sweep import NORM_LABELS, NORMS
from .._tables import read_table, select
from ._trials import RANGES

_PLACE = ("learning_rate", "weight_decay", "validation_accuracy")


def figures(folder: Path) -> list[Path]:
    """Draw the trials, and accuracy against the learning rate."""
    return [_draw_trials(folder), _draw_scan(folder)]


def _draw_trials(folder: Path) -> Path:
    table = read_table(folder / "trials.csv")
    figure = new_figure(9.0, 7.0)
    grid = subplots(figure, 2, len(NORMS), sharex="row", sharey="row")
    points: Any = None
    for column, norm in enumerate(NORMS):
        rows = select(table, norm=norm)
        rows = {name: values[rows["part"] != "scan"] for name, values in rows.items()}
        _draw_curves(grid[0, column], rows)
        grid[0, column].set(title=NORM_LABELS[norm], xlabel="training step", ylim=(0, 1))
        points = _draw_places(grid[1, column], rows)
        grid[1, column].set(xscale="log", yscale="log", xlabel="learning rate")
        grid[1, column].set(
            xlim=10.0 ** np.array(RANGES["learning_rate"]),
            ylim=10.0 ** np.array(RANGES["weight_decay"]),
        )
    grid[0, 0].set_ylabel("validation accuracy")
    grid[1, 0].set_ylabel("weight decay")
    legend(figure, *grid[:, 0])
    figure.colorbar(points, ax=list(grid[1]), label="validation accuracy when it ended")
    return save(figure, folder / "trials.png")


def _runs(rows: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the rows of each trial of one norm, with ascending steps."""
    keys = list(zip(rows["seed"], rows["part"], rows["trial"], strict=True))
    for key in dict.fromkeys(keys):
        own = np.array([each == key for each in keys])
        order = np.argsort(rows["step"][own])
        yield {name: values[own][order] for name, values in rows.items()}


def _draw_curves(axes: Any, rows: dict[str, np.ndarray]) -> None:
    """Draw a line per trial: each seed's best trial thick, abandoned trials grey."""
    end = rows["step"].max()
    runs = list(_runs(rows))
    finals = [each for each in runs if each["step"][-1] == end]
    best = {
        seed: max(
            (each["validation_accuracy"][-1] for each in finals if each["seed"][0] == seed),
        )
        for seed in np.unique(rows["seed"])
    }
    for each in runs:
        accuracy = each["validation_accuracy"]
        if each["step"][-1] < end:
            line: dict[str, Any] = {"color": "#B0B0B0", "lw": 0.6, "label": "abandoned"}
        elif accuracy[-1] == best[each["seed"][0]]:
            line = {"color": COLOURS[1], "lw": 1.8, "zorder": 4, "label": "best of a seed"}
        else:
            line = {"color": COLOURS[0], "lw": 0.8, "zorder": 3, "label": "trained to the end"}
        if line["label"] in axes.get_legend_handles_labels()[1]:
            line["label"] = None
        axes.plot(each["step"], accuracy, **line)


def _draw_places(axes: Any, rows: dict[str, np.ndarray]) -> Any:
    """Draw a point per trial, and return the points that the colour bar belongs to."""
    runs = list(_runs(rows))
    points = None
    for part, marker in (("1", "o"), ("2", "^")):
        last = [[each[name][-1] for name in _PLACE] for each in runs if each["part"][0] == part]
        x, y, accuracy = np.array(last).T
        points = axes.scatter(
            *(x, y), c=accuracy, marker=marker, s=26, vmin=0, vmax=1, label=f"round {part}"
        )
    return points


def _draw_scan(folder: Path) -> Path:
    scan = last_rows(read_table(folder / "trials.csv"), part="scan")
    ranges = read_table(folder / "ranges.csv")
    figure = new_figure(7.5, 4.5)
    axes = subplots(figure, 1, 1)[0, 0]
    searched = 10.0 ** np.array(RANGES["learning_rate"])
    axes.axvspan(*searched, color="#000000", alpha=0.05, lw=0, label="searched range")
    for position, norm in enumerate(NORMS):
        rows = select(scan, norm=norm)
        values = np.stack(per_seed(rows, "validation_accuracy"), axis=1)
        rates, line = np.unique(rows["learning_rate"]), style(norm, position)
        band(axes, rates, values, label=NORM_LABELS[norm], **line)
        good = select(ranges, norm=norm, standard="own")
        ends = [10 ** np.log10(good[name]).mean() for name in ("low", "high")]
        height = 1.06 - 0.04 * position
        axes.plot(ends, [height] * 2, color=line["color"], lw=5, solid_capstyle="butt")
        axes.annotate(
            f"good: {good['decades'].mean():.1f} decades",
            (ends[0], height),
            xytext=(-6, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9,
        )
    axes.set(xscale="log", ylim=(0, 1.1), xlim=(rates[0], rates[-1]))
    axes.set(xlabel="learning rate", ylabel="validation accuracy after the last step")
    legend(figure, axes)
    return save(figure, folder / "scan.png")
