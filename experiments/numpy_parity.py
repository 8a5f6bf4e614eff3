"""Thirty generated images normalized per pixel over the batch, against NumPy."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxnorm

from ._figures import COLOURS, new_figure, save, subplots
from ._run import Run
from ._tables import read_table

_EPSILON = 1e-8


@dataclasses.dataclass(frozen=True)
class Config:
    """Repeats the batch of a note that compares batch normalization with standardization.

    Command: `python -m experiments numpy_parity`. It needs no data.

    With `numpy.random.seed(678)`, 30 images of 32 x 32 x 1 are drawn as `randn(32, 32) * randint(5)
    + randint(60)`. The first ten are normalized per pixel over the batch, with epsilon 1e-8 and
    `stats_shape (1, 32, 32, 1)`.

    Expected: equal to float64 NumPy within a few units of float32's last place.

    Attributes:
        batch: How many of the 30 images are normalized.
    """

    batch: int = 10


PRESETS = {name: Config() for name in ("smoke", "default", "paper")}


def images() -> np.ndarray:
    """Return the note's images [30, 32, 32, 1], float64, drawn by NumPy's legacy generator.

    Examples:
        >>> images().shape
        (30, 32, 32, 1)
    """
    generator = np.random.RandomState(678)
    drawn = [
        generator.randn(32, 32) * generator.randint(5) + generator.randint(60) for _ in range(30)
    ]
    return np.stack(drawn)[..., None]


def run(config: Config, run: Run) -> dict[str, Any]:
    """Normalize by the library, by NumPy and by the textbook's formula."""
    batch = images()[: config.batch].astype(np.float32)
    y, moments = jax.jit(lambda x: jaxnorm.standardize(x, (1, 32, 32, 1), epsilon=_EPSILON))(batch)
    exact = batch.astype(np.float64)
    mean = exact.sum(0) / config.batch
    var = ((exact - mean) ** 2).sum(0) / config.batch
    textbook = (exact - mean) / np.sqrt(var + _EPSILON)
    by_numpy = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + _EPSILON)
    in_float32 = (batch - batch.mean(0)) / np.sqrt(batch.var(0) + np.float32(_EPSILON))
    rows = [
        {"image": i, "pixel": p, "before": v, "after": w}
        for i in range(config.batch)
        for p, (v, w) in enumerate(zip(batch[i, 0, :, 0], np.asarray(y)[i, 0, :, 0], strict=True))
    ]
    run.replace("first_row", rows)
    scale = np.abs(by_numpy).max()
    return {
        "images": config.batch,
        "error": float(np.abs(y - by_numpy).max() / scale),
        "error_of_the_textbook_formula": float(np.abs(textbook - by_numpy).max() / scale),
        "error_of_numpy_in_float32": float(np.abs(in_float32 - by_numpy).max() / scale),
        "error_of_the_variance": float(np.abs(np.asarray(moments.var)[0] / var - 1).max()),
        "epsilon_of_float32": float(np.finfo(np.float32).eps),
    }


def figures(folder: Path) -> list[Path]:
    """Draw the first row of pixels of each image before and after."""
    table = read_table(folder / "first_row.csv")
    figure = new_figure(9, 3.2)
    before, after = subplots(figure, 1, 2)[0]
    for image in np.unique(table["image"]):
        rows = table["image"] == image
        colour = COLOURS[int(image) % len(COLOURS)]
        before.plot(table["pixel"][rows], table["before"][rows], color=colour, lw=1)
        after.plot(table["pixel"][rows], table["after"][rows], color=colour, lw=1)
    before.set(xlabel="pixel of the first row", ylabel="value", title="before, one line per image")
    after.set(xlabel="pixel of the first row", ylabel="value (standard deviations)", title="after")
    return [save(figure, folder / "numpy_parity.png")]


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which claims the numbers show."""
    return {
        "the library equals NumPy to rounding": (
            results["error"] < 4 * results["epsilon_of_float32"]
        ),
        "the textbook formula equals NumPy, too": results["error_of_the_textbook_formula"] < 1e-12,
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say how far the library's result is from NumPy's."""
    return [
        f"Largest difference to float64 NumPy {results['error']:.1e} of the largest value "
        f"(float32's epsilon is {results['epsilon_of_float32']:.1e}; NumPy in float32 is off by "
        f"{results['error_of_numpy_in_float32']:.1e}).",
        f"The textbook formula differs from NumPy by {results['error_of_the_textbook_formula']:.0e}"
        f" in float64; the variances are right to {results['error_of_the_variance']:.1e}.",
    ]
