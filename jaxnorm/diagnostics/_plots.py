"""Pictures of diagnostics. Matplotlib is imported on first use."""

import math
from typing import TYPE_CHECKING

import numpy as np

from jaxnorm.diagnostics._report import Report
from jaxnorm.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue and vermilion of Okabe and Ito, Color Universal Design, 2008.
_BLUE, _VERMILION = "#0072B2", "#D55E00"

_PANELS = {
    "saturated": "saturated outputs\n(share)",
    "dead": "dead units\n(share)",
    "gradient": "gradient of the outputs\n(root mean square)",
    "param_gradient": "gradient of the parameters\n(norm)",
    "shift": "running from population mean\n(standard deviations)",
    "log_ratio": "running over population\nvariance (|ln ratio|)",
    "gap": "train from eval mode\n(standard deviations)",
}
_SHARES = ("dead", "saturated")
_LOGARITHMIC = ("gradient", "param_gradient")  # they differ by orders of magnitude


def draw_report(report: Report) -> "Figure":
    """Returns a figure of a report: the layers from top to bottom, a panel per measure.

    Measures that apply to no layer are left out.

    Args:
        report: of `diagnose`.

    Returns:
        A matplotlib figure; `figure.savefig(path)` writes it.

    Examples:
        >>> from jaxnorm.diagnostics import LayerRow
        >>> nan = float("nan")
        >>> row = LayerRow("norm", -1.0, 0.0, 1.0, 0.25, nan, 0.1, 0.2, nan, nan, 0.0)
        >>> len(draw_report(Report((row,), 0.5, 0.5)).axes)
        5
    """
    from matplotlib.figure import Figure

    names = [row.layer or "the model" for row in report.rows]
    shown = {
        field: label
        for field, label in _PANELS.items()
        if not all(math.isnan(getattr(row, field)) for row in report.rows)
    }
    size = (2.4 * (len(shown) + 1) + 1.2, 0.32 * len(names) + 1.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(shown) + 1, sharey=True, squeeze=False)[0]
    _draw_ranges(axes[0], report)
    for panel, (field, label) in zip(axes[1:], shown.items(), strict=True):
        values = [getattr(row, field) for row in report.rows]
        _draw_measure(panel, field, values)
        panel.set_xlabel(label, fontsize=8)
    for panel in axes:
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.suptitle(
        f"loss {report.train_loss:.3g} in train mode, {report.eval_loss:.3g} in eval mode",
        fontsize=9,
    )
    return figure


def draw_percentiles(axes: "Axes", steps: ArrayLike, history: ArrayLike) -> None:
    """Draws the percentiles of one unit over training, as figure 1 of arXiv:1502.03167 does.

    Args:
        axes: matplotlib axes to draw on.
        steps: [T], training steps of the evaluations.
        history: [T, Q], percentiles of one unit in rising order, such as the 15th, 50th and 85th.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().subplots()
        >>> draw_percentiles(axes, [0, 10], [[-1.0, 0.0, 1.0], [-1.0, 0.1, 1.2]])
        >>> len(axes.lines)
        3
    """
    values = np.asarray(history)
    at = np.asarray(steps)
    axes.fill_between(at, values[:, 0], values[:, -1], color=_BLUE, alpha=0.15, lw=0)
    middle = values.shape[1] // 2
    for place in range(values.shape[1]):
        central = place == middle
        colour, dash = (_VERMILION, "-") if central else (_BLUE, "--")
        axes.plot(at, values[:, place], color=colour, linestyle=dash, linewidth=1.4)


def _draw_measure(axes: "Axes", field: str, values: list[float]) -> None:
    from matplotlib.ticker import LogLocator

    places = range(len(values))
    if field in _LOGARITHMIC and any(value > 0 for value in values):
        # A bar on a logarithmic axis has no foot to start from.
        axes.plot(values, places, color=_BLUE, marker="o", markersize=5, linestyle="none")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=4))
        axes.xaxis.set_major_formatter("{x:.0e}")
        axes.minorticks_off()
        axes.grid(axis="x", alpha=0.25)
        return
    axes.barh(places, values, color=_BLUE, height=0.7)
    axes.set_xlim(0, 1 if field in _SHARES else None)


def _draw_ranges(axes: "Axes", report: Report) -> None:
    for place, row in enumerate(report.rows):
        axes.plot([row.low, row.high], [place, place], color=_BLUE, linewidth=3)
        axes.plot([row.middle], [place], color=_VERMILION, marker="o", markersize=5)
    axes.set_xlabel("outputs: 15th, 50th, 85th\npercentile (median unit)", fontsize=8)
