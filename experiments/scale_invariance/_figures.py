"""The pictures of scale invariance: functions apart, norms of weights, angles of steps."""

from pathlib import Path
from typing import Any

import numpy as np

from .._figures import COLOURS, DASHES, band, legend, log_axis, new_figure, save, subplots
from .._seeds import Table, last_rows, per_seed
from .._sweep import NORM_LABELS
from .._tables import ordered, read_table, select

_MARKERS = "osD^v"
_COMPARED = {
    "scaled": "weights times c, rate times c², decay over c²",
    "growing": "growing rate in place of decay",
    "no decay": "no decay",
    "weights only": "weights times c only",
}


def figures(folder: Path) -> list[Path]:
    """Draw how far apart functions are, and what becomes of norms and angles."""
    return [_draw_functions(folder), _draw_weights(folder)]


def _draw_functions(folder: Path) -> Path:
    table = read_table(folder / "curves.csv")
    figure = new_figure(10.0, 3.8)
    grid = subplots(figure, 1, 2, sharey=True)[0]
    for axes, norm in zip(grid, ("batch", "none"), strict=True):
        for position, (trial, label) in enumerate(_COMPARED.items()):
            rows = select(table, group=norm, trial=trial)
            line = {"color": COLOURS[position], "ls": DASHES[position], "label": label}
            band(axes, np.unique(rows["step"]), _by_seed(rows, "distance"), **line)
        axes.set_yscale("symlog", linthresh=1e-7)
        axes.set(title=NORM_LABELS[norm], xlabel="training step", ylim=(-2e-8, 2))
        axes.set_yticks([0, 1e-7, 1e-5, 1e-3, 1e-1], ["0", "1e-7", "1e-5", "1e-3", "0.1"])
    grid[0].set_ylabel("distance from the function of\na constant rate with decay")
    legend(figure, *grid)
    return save(figure, folder / "functions.png")


def _draw_weights(folder: Path) -> Path:
    table = select(read_table(folder / "layers.csv"), layer=0)
    trials = sorted((each for each in ordered(table["trial"]) if " at " in each), key=_numbers)
    products = list(dict.fromkeys(trial.split(" at ")[0] for trial in trials))
    rates = sorted({trial.split(" at ")[1] for trial in trials}, key=float)
    figure = new_figure(11.0, 6.4)
    grid = subplots(figure, 2, 3, sharex="col")
    for row, norm in enumerate(("batch", "none")):
        norms, turns, ends = grid[row]
        for trial in trials:
            product, rate = trial.split(" at ")
            rows = select(table, group=norm, trial=trial)
            line = {"color": COLOURS[products.index(product)], "ls": DASHES[rates.index(rate)]}
            line |= {"marker": _MARKERS[rates.index(rate)], "ms": 4, "markevery": 0.2}
            line["label"] = f"rate x decay {product}, rate {rate}"
            steps = np.unique(rows["step"])
            band(norms, steps, _by_seed(rows, "norm"), **line)
            band(turns, steps, _by_seed(rows, "turn") / np.sqrt(2 * float(product)), **line)
        turns.axhline(1, color="black", lw=0.8, ls=":")
        _draw_ends(ends, select(table, group=norm), products, rates)
        norms.set(title=NORM_LABELS[norm], yscale="log", ylabel="norm of the first layer's weights")
        turns.set(
            title=NORM_LABELS[norm], yscale="log", ylabel="angle of a step\nover sqrt(2 rate decay)"
        )
        ends.set(title=NORM_LABELS[norm], ylabel="angle of a step at the end (rad)")
    for axes in grid[1, :2]:
        axes.set_xlabel("training step")
    grid[1, 2].set_xlabel("rate x decay")
    for axes in grid.flat:
        log_axis(axes.yaxis)
        axes.title.set_fontsize(10)
        axes.yaxis.label.set_fontsize(9)
    legend(figure, grid[0, 0], grid[0, 2])
    return save(figure, folder / "weights.png")


def _draw_ends(axes: Any, table: Table, products: list[str], rates: list[str]) -> None:
    """Draw the angle at the end against rate x decay, and the square root that theory gives."""
    x = np.array([float(product) for product in products])
    axes.plot(x, np.sqrt(2 * x), color="black", lw=0.8, ls=":", label="sqrt(2 rate decay)")
    for product in products:
        for rate, marker in zip(rates, _MARKERS, strict=False):
            ends = last_rows(table, trial=f"{product} at {rate}")["turn"]
            colour = COLOURS[products.index(product)]
            axes.plot([float(product)] * len(ends), ends, ls="", marker=marker, ms=5, color=colour)
    axes.set(xscale="log", yscale="log", xticks=x, xticklabels=products)
    axes.minorticks_off()


def _numbers(trial: str) -> tuple[float, float]:
    product, rate = trial.split(" at ")
    return float(product), float(rate)


def _by_seed(rows: Table, column: str) -> np.ndarray:
    """Return a column as [points, S]."""
    return np.stack(per_seed(rows, column), axis=1)
