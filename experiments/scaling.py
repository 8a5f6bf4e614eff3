"""Feature scaling of real tables, fitted in a stream and over shards."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets
from sklearn import preprocessing as sklearn

from jaxnorm.preprocessing import MinMaxScaler, StandardScaler

from ._figures import draw_curves, legend, new_figure, save, subplots
from ._run import Run
from ._tables import Row, ordered, read_table, select

_TABLES: dict[str, Callable[..., Any]] = {
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "diabetes": datasets.load_diabetes,
}
_SCALERS = {
    "standard": (StandardScaler(), sklearn.StandardScaler),
    "min_max": (MinMaxScaler(), sklearn.MinMaxScaler),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Scales three tables that ship with scikit-learn, and trains a linear model by descent.

    Command: `python -m experiments scaling`. It needs no data directory.

    Expected: the scalers are equal to scikit-learn to rounding, in one piece, in a stream and over
    shards. Gradient descent on raw features needs orders of magnitude more steps than on scaled
    ones.

    Attributes:
        tables: Names of the tables.
        batch: Rows in a piece of the stream.
        shards: Number of parts that are fitted apart and merged.
        steps: Largest number of steps of gradient descent.
        tolerance: Share of the excess loss of the zero model. Descent has converged at this share.
            The excess is counted from the least squares' loss.
    """

    tables: tuple[str, ...] = tuple(_TABLES)
    batch: int = 32
    shards: int = 4
    steps: int = 100_000
    tolerance: float = 0.01


PRESETS = {
    "smoke": Config(tables=("wine",), steps=20_000),
    "default": Config(),
    "paper": Config(),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Compare with scikit-learn, then count the steps of descent on each scaling."""
    results: dict[str, Any] = {"steps": config.steps}
    descents: list[Row] = []
    with run.progress("scaling", len(config.tables), "tables") as progress:
        for done, name in enumerate(config.tables, 1):
            # Diabetes features as they were measured. scikit-learn scales them by default.
            options = {"scaled": False} if name == "diabetes" else {}
            x, target = _TABLES[name](return_X_y=True, **options)
            errors = {scaler: _errors(config, scaler, x) for scaler in _SCALERS}
            steps = {
                features: _descend(config, descents, (name, features), scaled, target)
                for features, scaled in _scalings(x).items()
            }
            results[name] = {"rows": len(x), "features": x.shape[1], **errors, "to_converge": steps}
            progress(done, name)
    run.replace("descent", descents)
    return results


def _errors(config: Config, name: str, x: np.ndarray) -> dict[str, float]:
    """Return the largest difference to scikit-learn of each way of fitting, in float64."""
    ours, theirs = _SCALERS[name]
    want = theirs().fit_transform(x)
    with jax.enable_x64(True):
        streamed = ours.init(x.shape[1:], jnp.float64)
        for start in range(0, len(x), config.batch):
            streamed = ours.update(streamed, jnp.asarray(x[start : start + config.batch]))
        parts = [ours.fit(jnp.asarray(part)) for part in np.array_split(x, config.shards)]
        merged = parts[0]
        for part in parts[1:]:
            merged = ours.merge(merged, part)
        states = {"whole": ours.fit(jnp.asarray(x)), "stream": streamed, "shards": merged}
        return {
            way: float(np.abs(np.asarray(ours.transform(state, jnp.asarray(x))) - want).max())
            for way, state in states.items()
        }


def _scalings(x: np.ndarray) -> dict[str, np.ndarray]:
    scaled = {"raw": x}
    for name, (ours, _) in _SCALERS.items():
        with jax.enable_x64(True):
            x64 = jnp.asarray(x)
            scaled[name] = np.asarray(ours.transform(ours.fit(x64), x64))
    return scaled


def _descend(
    config: Config, rows: list[Row], name: tuple[str, str], x: np.ndarray, target: np.ndarray
) -> int | None:
    """Return the steps until convergence at the largest stable rate, or None for never.

    The rows of the descent are appended to `rows`.
    """
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y = (target - target.mean()) / target.std()
    least = np.mean((design @ np.linalg.lstsq(design, y, rcond=None)[0] - y) ** 2)
    # This matrix is the curvature of the loss. Descent is stable at one over its largest
    # eigenvalue.
    rate = 1 / np.linalg.eigvalsh(2 * design.T @ design / len(x)).max()
    with jax.enable_x64(True):
        losses = _losses(jnp.asarray(design), jnp.asarray(y), rate, config.steps)
    excess = (np.asarray(losses) - least) / (np.mean(y**2) - least)
    near = np.flatnonzero(excess <= config.tolerance)
    shown = np.unique(np.geomspace(1, config.steps, 120).astype(int)) - 1
    own = {"data": name[0], "features": name[1], "seed": 0}
    rows += [{**own, "step": int(i) + 1, "excess": excess[i]} for i in shown]
    return int(near[0]) + 1 if len(near) else None


def _losses(design: jax.Array, y: jax.Array, rate: float, steps: int) -> jax.Array:
    def step(w: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        residual = design @ w - y
        w = w - rate * 2 * design.T @ residual / len(y)
        return w, jnp.mean((design @ w - y) ** 2)

    return jax.lax.scan(step, jnp.zeros(design.shape[1], design.dtype), None, length=steps)[1]


def figures(folder: Path) -> list[Path]:
    """Draw the loss above its least value against steps, per table and scaling."""
    table = read_table(folder / "descent.csv")
    names = ordered(table["data"])
    figure = new_figure(1 + 3.4 * len(names), 3.4)
    grid = subplots(figure, 1, len(names), sharey=True)[0]
    for axes, name in zip(grid, names, strict=True):
        draw_curves(axes, select(table, data=name), y="excess", by="features")
        axes.set(xscale="log", yscale="log", ylim=(1e-6, 2), xlabel="step", title=name)
    grid[0].set_ylabel("excess loss\n(share of that at the start)")
    legend(figure, grid[0])
    return [save(figure, folder / "scaling.png")]


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which claims the numbers show."""
    never = results["steps"] + 1
    steps = [row["to_converge"] for name, row in results.items() if name != "steps"]
    return {
        "the scalers equal scikit-learn's to rounding": _worst(results) < 1e-12,
        "gradient descent needs fewer steps on scaled features": all(
            (by[scaler] or never) < (by["raw"] or never) for by in steps for scaler in _SCALERS
        ),
    }


def _worst(results: dict[str, Any]) -> float:
    tables = [row for name, row in results.items() if name != "steps"]
    return max(error for row in tables for name in _SCALERS for error in row[name].values())


def summary(results: dict[str, Any]) -> list[str]:
    """Say the difference to scikit-learn, and the steps that each scaling needs."""
    tables = {name: row for name, row in results.items() if name != "steps"}
    worst = _worst(results)
    lines = [
        f"Largest difference to scikit-learn in float64, whole, streamed or in shards: {worst:.0e}."
    ]
    for name, row in tables.items():
        steps = ", ".join(
            f"{scaling} {'more than ' + str(results['steps']) if count is None else count}"
            for scaling, count in row["to_converge"].items()
        )
        lines.append(f"Steps of descent to 1% of the excess loss on {name}: {steps}.")
    return lines
