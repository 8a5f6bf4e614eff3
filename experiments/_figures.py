"""The look of the figures, and the drawing that experiments share.

Figures are made from files only, so that they can be made again without training. The colours are
those of Okabe and Ito, Color Universal Design (2008), which colour-blind readers tell apart. Lines
differ in dash, too.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from ._tables import ordered, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    *("#E69F00", "#56B4E9", "#000000", "#8C8C8C"),
)
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))

BAND = "least to greatest of the seeds"
"""What a band is, in a legend."""

# A norm keeps its colour in every figure; without normalization is grey.
_NORMS = ("batch", "layer", "group", "instance", "rms", "ghost", "spectral")
_NORM_COLOURS = {
    **dict(zip(_NORMS, COLOURS, strict=False)),
    "none": "#6E6E6E",
}
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure in the common style; sizes in inches."""
    with mpl.rc_context(_STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def subplots(figure: Figure, rows: int, columns: int, **options: Any) -> np.ndarray:
    """Return a grid [rows, columns] of axes in the common style."""
    with mpl.rc_context(_STYLE):
        return figure.subplots(rows, columns, squeeze=False, **options)


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as a PNG of 150 dots per inch and return its path."""
    with mpl.rc_context(_STYLE):
        figure.savefig(path, dpi=150, metadata={"Software": None})
    return path


def style(label: str, position: int = 0) -> dict[str, Any]:
    """Return the colour and dash of a line: a norm's own colour, else the next of the palette."""
    colour = _NORM_COLOURS.get(label, COLOURS[position % len(COLOURS)])
    return {"color": colour, "linestyle": DASHES[position % len(DASHES)]}


def draw_curves(
    axes: "Axes",
    table: Mapping[str, np.ndarray],
    *,
    y: str,
    by: str,
    x: str = "step",
    labels: Mapping[str, str] | None = None,
) -> None:
    """Draw a line per value of `by`: the mean over seeds, in a band from least to greatest.

    Args:
        axes: where to draw.
        table: columns `x`, `y`, `by` and `seed` as `read_table` returns them.
        y: the column that is drawn.
        by: the column that tells the lines apart.
        x: the column along the horizontal axis.
        labels: what the legend says for a value of `by`; None for the values themselves.
    """
    for position, name in enumerate(ordered(table[by])):
        rows = select(dict(table), **{by: name})
        runs = [select(rows, seed=each) for each in np.unique(rows["seed"])]
        values = np.stack([run[y][np.argsort(run[x])] for run in runs], axis=1)
        label = labels[name] if labels else name
        band(axes, np.unique(rows[x]), values, label=label, **style(name, position))


def band(axes: "Axes", x: Any, values: Any, *, color: Any, **line: Any) -> None:
    """Draw the mean over seeds of values [points, S], in a band from least to greatest.

    Args:
        axes: where to draw.
        x: places [points].
        values: numbers of each place and seed.
        color: of the line and the band.
        **line: further options of the line.
    """
    axes.plot(x, np.mean(values, 1), color=color, **line)
    if np.shape(values)[1] > 1:
        fill(axes, x, np.min(values, 1), np.max(values, 1), color=color)


def fill(axes: "Axes", x: Any, low: Any, high: Any, *, color: Any) -> None:
    """Draw a band that `legend` knows as one."""
    axes.fill_between(x, low, high, color=color, alpha=0.2, lw=0, gid=BAND)


def log_axis(axis: "Axis") -> None:
    """Write the numbers 1, 2 and 5 of each decade along a log axis, without powers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def legend(
    where: "Figure | Axes",
    *sources: "Axes",
    labels: Mapping[str, str] | None = None,
    **options: Any,
) -> None:
    """Write a legend of the lines of some axes. It says what a band is, where there are bands.

    Args:
        where: a figure, which gets the legend below its axes, or axes, which get it inside.
        *sources: the axes whose lines are named; none for `where` itself.
        labels: what the legend says for a line's label; None for the labels themselves.
        **options: of matplotlib's legend.
    """
    named: dict[str, Any] = {}
    drawn = sources or (cast("Axes", where),)
    for axes in drawn:
        handles, names = axes.get_legend_handles_labels()
        named.update(zip(names, handles, strict=True))
    if any(each.get_gid() == BAND for axes in drawn for each in axes.collections):
        named[BAND] = Patch(color="0.5", alpha=0.3, lw=0)
    shown = [labels.get(name, name) if labels else name for name in named]
    if isinstance(where, Figure):
        columns = _columns(shown, where.get_figwidth())
        options = {"loc": "outside lower center", "ncols": columns, **options}
    where.legend(list(named.values()), shown, frameon=False, **options)


def _columns(labels: Sequence[str], inches: float) -> int:
    """Return how many columns of a legend fit side by side. A letter takes 0.08 inches."""
    for columns in range(len(labels), 1, -1):
        rows = math.ceil(len(labels) / columns)
        parts = [labels[i : i + rows] for i in range(0, len(labels), rows)]
        # matplotlib leaves no column empty: it fills as many as there are parts.
        if sum(0.7 + 0.08 * max(map(len, part)) for part in parts) <= inches:
            return len(parts)
    return 1
