"""Gradient descent on a stretched and on a round bowl: why inputs of one scale are easier."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._figures import legend, new_figure, save, style, subplots
from ._run import Run
from ._tables import Row, ordered, read_table, select

# The bowls are sums of half a curvature times a square: x^2/20 + y^2 and x^2 + y^2.
BOWLS = {"stretched": (0.1, 2.0), "round": (2.0, 2.0)}
LABELS = {"stretched": "$x^2/20 + y^2$", "round": "$x^2 + y^2$"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Plain gradient descent on x^2/20 + y^2 and on x^2 + y^2 until both coordinates are small.

    Command: `python -m experiments loss_surface`. It needs no data.

    Expected: 70 steps on the stretched bowl and 30 on the round one. Each step multiplies a
    coordinate by one minus the learning rate times the curvature. The factor is 0.91 along the
    stretched bowl and -0.8 on the round one. So the steps are as ln 0.8 to ln 0.91, or 2.37 to 1,
    for every start far out along x. The blog post that the experiment is taken from says about a
    third, from 27 s and 9 s of animation.

    Attributes:
        learning_rate: Learning rate of plain gradient descent.
        start: Where the paths that are drawn begin.
        tolerance: Descent ends when both coordinates are smaller than this.
        grid: Starts per axis, from -10 to 10, of the comparison over many starts.
        max_steps: Steps after which descent is given up.
    """

    learning_rate: float = 0.9
    start: tuple[float, float] = (-7.0, 2.0)
    tolerance: float = 0.01
    grid: int = 40
    max_steps: int = 200


PRESETS = {"smoke": Config(grid=10), "default": Config(), "paper": Config(grid=200)}


def descend(
    curvature: tuple[float, float], start: jax.Array, learning_rate: float, steps: int
) -> jax.Array:
    """Return the path of gradient descent on half the curvatures times the squares.

    Args:
        curvature: second derivatives along x and y.
        start: [2].
        learning_rate: of plain gradient descent.
        steps: number of steps.

    Returns:
        The path [steps + 1, 2], the start first.

    Examples:
        >>> descend((1.0, 2.0), jnp.array([4.0, 4.0]), 0.5, 1).tolist()
        [[4.0, 4.0], [2.0, 0.0]]
    """

    def height(point: jax.Array) -> jax.Array:
        return jnp.sum(jnp.asarray(curvature) * point**2) / 2

    def step(point: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return point - learning_rate * jax.grad(height)(point), point

    last, path = lax.scan(step, start, None, length=steps)
    return jnp.concatenate([path, last[None]])


def steps_needed(path: jax.Array, tolerance: float) -> jax.Array:
    """Return the steps until both coordinates are smaller than `tolerance`, or -1 for never.

    Examples:
        >>> int(steps_needed(jnp.array([[4.0, 0.0], [0.5, 0.5], [0.1, 0.0]]), 0.2))
        2
    """
    small = jnp.all(jnp.abs(path) < tolerance, axis=1)
    return jnp.where(jnp.any(small), jnp.argmax(small), -1)


def run(config: Config, run: Run) -> dict[str, Any]:
    """Descend from one start and from a grid of starts, all at once, on both bowls."""
    sides = jnp.linspace(-10, 10, config.grid)
    starts = jnp.stack(jnp.meshgrid(sides, sides), axis=-1).reshape(-1, 2)
    starts = jnp.concatenate([jnp.asarray([config.start]), starts])
    rows: list[Row] = []
    results: dict[str, Any] = {"starts": len(starts) - 1, "steps": {}, "formula": {}, "all": {}}
    for name, curvature in BOWLS.items():

        def one(start: jax.Array, curvature: tuple[float, float] = curvature) -> Any:
            path = descend(curvature, start, config.learning_rate, config.max_steps)
            return path, steps_needed(path, config.tolerance)

        paths, steps = jax.jit(jax.vmap(one))(starts)
        drawn = np.asarray(paths[0, : int(steps[0]) + 1])
        rows += _path_rows(name, curvature, drawn)
        results["steps"][name] = int(steps[0])
        results["formula"][name] = _formula(curvature, config)
        results["all"][name] = np.asarray(steps[1:]).tolist()
    run.replace("paths", rows)  # a resumed run starts again, since it takes seconds
    ratios = np.array(results["all"]["round"]) / np.array(results.pop("all")["stretched"])
    results["limit"] = _limit(config)
    results["ratio"] = results["steps"]["round"] / results["steps"]["stretched"]
    results["ratios"] = dict(
        zip(("least", "median", "greatest"), np.percentile(ratios, [0, 50, 100]), strict=True)
    )
    return results


def _path_rows(name: str, curvature: tuple[float, float], path: np.ndarray) -> list[Row]:
    heights = (np.asarray(curvature) * path**2).sum(1) / 2
    return [
        {"bowl": name, "step": step, "x": x, "y": y, "height": height}
        for step, ((x, y), height) in enumerate(zip(path, heights, strict=True))
    ]


def _formula(curvature: tuple[float, float], config: Config) -> int:
    """Return the least n with |start| |1 - rate * curvature|^n < tolerance on both axes."""
    return max(
        math.floor(
            math.log(config.tolerance / abs(start))
            / math.log(abs(1 - config.learning_rate * second))
        )
        + 1
        for start, second in zip(config.start, curvature, strict=True)
    )


def _limit(config: Config) -> float:
    """Return the ratio of the steps for a start far out along x, where one factor decides."""
    factors = [abs(1 - config.learning_rate * BOWLS[name][0]) for name in ("stretched", "round")]
    return math.log(factors[0]) / math.log(factors[1])


def figures(folder: Path) -> list[Path]:
    """Draw both paths over the contours, and the height against steps."""
    table = read_table(folder / "paths.csv")
    figure = new_figure(11.0, 3.0)
    grid = subplots(figure, 1, 3)[0]
    for position, name in enumerate(ordered(table["bowl"])):
        rows = select(table, bowl=name)
        steps = int(rows["step"].max())
        _draw_path(grid[position], name, rows, style(name, position))
        grid[position].set_title(f"{LABELS[name]}: {steps} steps", fontsize=10)
        grid[2].plot(rows["step"], rows["height"], label=LABELS[name], **style(name, position))
    grid[2].set(xlabel="step", ylabel="height above the minimum", yscale="log")
    legend(grid[2])
    return [save(figure, folder / "paths.png")]


def _draw_path(axes: Any, name: str, rows: dict[str, np.ndarray], line: dict[str, Any]) -> None:
    x, y = np.meshgrid(np.linspace(-8, 8, 161), np.linspace(-4, 4, 81))
    along, across = BOWLS[name]
    levels = np.geomspace(0.05, 60, 12)
    axes.contour(x, y, (along * x**2 + across * y**2) / 2, levels, colors="0.7", linewidths=0.7)
    axes.plot(rows["x"], rows["y"], marker="o", ms=3, color=line["color"], lw=1.0)
    axes.plot(0, 0, marker="+", ms=10, color="black")
    axes.set(xlim=(-8, 8), ylim=(-4, 4), xlabel="x", ylabel="y", aspect="equal")
    axes.grid(False)


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which claims the numbers show."""
    return {
        "the round bowl needs fewer steps": results["ratio"] < 1,
        "the round bowl needs about a third of the steps": abs(results["ratio"] - 1 / 3) < 0.05,
        "the steps on both are those of the closed form": results["steps"] == results["formula"],
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say the steps on both bowls, the closed form, and the ratio over many starts."""
    steps, formula, ratios = results["steps"], results["formula"], results["ratios"]
    return [
        f"{steps['stretched']} steps on the stretched bowl, {steps['round']} on the round one: "
        f"{results['ratio']:.2f} of them (the blog post: about a third, by the clock).",
        f"The closed form gives {formula['stretched']} and {formula['round']}.",
        f"From {results['starts']} starts the round bowl needs {ratios['least']:.2f} to "
        f"{ratios['greatest']:.2f} of the steps, in the median {ratios['median']:.2f}; the limit "
        f"far out along x is {results['limit']:.3f}.",
    ]
