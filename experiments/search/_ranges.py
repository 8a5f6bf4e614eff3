"""The range of good learning rates, measured by the scan of a grid."""

import itertools
from typing import Any

import numpy as np

from .._seeds import last_rows, per_seed
from .._sweep import NORMS
from .._tables import Row, select
from ._trials import RANGES, Range


def good_range(rates: np.ndarray, accuracy: np.ndarray, least: float) -> Range:
    """Return the range of learning rates around the best in which accuracy is at least `least`.

    Rates are ascending [T]. An end lies where the line between two neighbours on the log grid
    crosses `least`, or at the end of the grid. If the best rate is not good, it is both ends.

    Examples:
        >>> low, high = good_range(np.array([1e-3, 1e-2, 1e-1]), np.array([0.5, 0.9, 0.7]), 0.8)
        >>> round(low, 5), round(high, 5)
        (0.00562, 0.03162)
    """
    places, best = np.log10(rates), int(np.argmax(accuracy))

    def end(steps: range) -> float:
        inside = best
        for outside in steps:
            if accuracy[outside] < least:
                share = (accuracy[inside] - least) / (accuracy[inside] - accuracy[outside])
                return float(10 ** (places[inside] + share * (places[outside] - places[inside])))
            inside = outside
        return float(rates[inside])

    if accuracy[best] < least:
        return float(rates[best]), float(rates[best])
    return end(range(best - 1, -1, -1)), end(range(best + 1, len(rates)))


def ranges(trials: dict[str, np.ndarray], config: Any) -> list[Row]:
    """Return which rates are good, measured by the norm's own best and by the best of both."""
    scan = last_rows(trials, part="scan")
    rows: list[Row] = []
    for seed, norm in itertools.product(config.seeds, NORMS):
        both = select(scan, seed=seed)
        own = select(both, norm=norm)
        for standard, judged in (("own", own), ("common", both)):
            least = judged["validation_accuracy"].max() - config.good_within
            low, high = good_range(own["learning_rate"], own["validation_accuracy"], least)
            inside = np.clip(np.log10([low, high]), *RANGES["learning_rate"])
            rows.append(
                {
                    "norm": norm,
                    "seed": seed,
                    "standard": standard,
                    "least_accuracy": least,
                    "low": low,
                    "high": high,
                    "decades": np.log10(high / low),
                    "decades_searched": inside[1] - inside[0],
                }
            )
    return rows


def widths(ranges: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the columns [S] of the table `ranges`, by standard and norm."""
    return {
        standard: {
            norm: {
                name: select(ranges, norm=norm, standard=standard)[name].tolist()
                for name in ("low", "high", "decades", "decades_searched")
            }
            for norm in NORMS
        }
        for standard in ("own", "common")
    }


def best_of_scan(trials: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return by norm each seed's best learning rate of the scan, and its validation accuracy."""
    scan = last_rows(trials, part="scan")
    found: dict[str, Any] = {}
    for norm in NORMS:
        names = ("learning_rate", "validation_accuracy")
        rates, accuracies = (per_seed(scan, name, norm=norm) for name in names)
        found[norm] = {
            "learning_rate": [float(r[a.argmax()]) for r, a in zip(rates, accuracies, strict=True)],
            "validation_accuracy": [float(a.max()) for a in accuracies],
        }
    return found
