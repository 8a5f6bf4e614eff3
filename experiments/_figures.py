"""The look of the figures, and the drawing that experiments share.

Figures are made from files only, so that they can be made again without training. The colours are
those of Okabe and Ito, Color Universal Design (2008), which colour-blind readers tell apart. Lines
differ in dash, too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ._tables import ordered, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    *("#E69F00", "#56B4E9", "#000000", "#8C8C8C"),
)
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))

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
    seed: str = "seed",
) -> None:
    """Draw a line per value of `by`: the mean over seeds, in a band from least to greatest.

    Args:
        axes: where to draw.
        table: columns `x`, `y`, `by` and `seed` as `read_table` returns them.
        y: the column that is drawn.
        by: the column that tells the lines apart; its values are the legend.
        x: the column along the horizontal axis.
        seed: the column that is averaged over.
    """
    for position, label in enumerate(ordered(table[by])):
        rows = select(dict(table), **{by: label})
        at = np.unique(rows[x])
        runs = [select(rows, **{seed: each}) for each in np.unique(rows[seed])]
        values = np.stack([run[y][np.argsort(run[x])] for run in runs])
        line = style(label, position)
        axes.plot(at, values.mean(0), label=label, **line)
        if len(runs) > 1:
            axes.fill_between(
                at, values.min(0), values.max(0), color=line["color"], alpha=0.2, lw=0
            )
