"""The picture of the five models: accuracy against steps, beside the paper's."""

from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from .._figures import draw_curves, legend, new_figure, save, style, subplots
from .._tables import ordered, read_table, select

# Figure 3 of the paper: millions of steps to 72.2%, and the best accuracy in percent. The network
# of sigmoids without batch norm stayed at chance (section 4.2.2).
PAPER = {
    "Inception": (31.0, 72.2),
    "BN-Baseline": (13.3, 72.7),
    "BN-x5": (2.1, 73.0),
    "BN-x30": (2.7, 74.8),
    "BN-x5-Sigmoid": (None, 69.8),
    "Sigmoid": (None, 0.1),
}


def figures(folder: Path) -> list[Path]:
    """Draw accuracy against steps, and both relative to the baseline's."""
    curves, models = read_table(folder / "curves.csv"), read_table(folder / "models.csv")
    names = ordered(models["network"])
    figure = new_figure(11, 4.6)
    axes = subplots(figure, 1, 3, width_ratios=(1.5, 1, 1))[0]
    draw_curves(axes[0], curves, y="validation_accuracy", by="network")
    axes[0].set(
        title="validation accuracy, one crop",
        xlabel="training step",
        ylabel="accuracy",
    )
    legend(figure, axes[0], loc="outside lower left", ncols=3)
    baseline = select(models, network=names[0])
    for row, name in enumerate(names):
        of_model = select(models, network=name)
        shares = of_model["steps_to_baseline"] / baseline["steps_to_baseline"]
        measured = (shares, 100 * (of_model["best"] - baseline["best"]))
        for panel, values, paper in zip(axes[1:], measured, papers(name, names[0]), strict=True):
            panel.plot(values, np.full(len(values), row), "o", color=style(name, row)["color"])
            panel.plot(paper, row, "D", color="black", mfc="none", ms=8)
        if np.isnan(shares).any():
            never = f"not reached: {np.isnan(shares).sum()} of {len(shares)} seeds"
            axes[1].annotate(never, (0.03, row + 0.3), xycoords=("axes fraction", "data"), size=8)
    for panel in axes[1:]:
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
    axes[2].set_yticklabels([])
    axes[1].set(title=f"steps to {names[0]}'s best", xlabel=f"steps / {names[0]}'s steps")
    axes[1].set_xscale("log")
    axes[1].xaxis.set_major_formatter("{x:g}")
    axes[2].set(title="best accuracy", xlabel=f"points above {names[0]}")
    key = [
        Line2D([], [], marker="o", ls="", color="grey", label="here, one seed each"),
        Line2D([], [], marker="D", ls="", color="black", mfc="none", label="the paper, ImageNet"),
    ]
    figure.legend(handles=key, loc="outside lower right", ncols=2, frameon=False)
    return [save(figure, folder / "inception.png")]


def papers(name: str, baseline: str) -> tuple[float, float]:
    """Return the paper's steps as a share of its baseline's, and its gain in points."""
    (steps, best), (of_baseline, best_of_baseline) = PAPER[name], PAPER[baseline]
    return (steps or np.nan) / (of_baseline or np.nan), best - best_of_baseline
