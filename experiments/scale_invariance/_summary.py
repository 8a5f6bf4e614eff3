"""What the numbers of scale invariance say."""

from typing import Any

import numpy as np

from .._seeds import listed, mean, over_seeds
from .._sweep import NORM_LABELS

# What counts as equal to theory. The angle also carries the noise of the last hundred steps.
_NEAR = 0.1


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which claims of the papers the numbers show."""
    batch, none = (results[norm]["compared"] for norm in ("batch", "none"))
    norms = results["batch"]["norms"]
    apart = np.array(norms["weights only"]) / np.array(norms["reference"]) - 1
    return {
        "with batch norm, weights times c at a rate times c² and a decay over c² are the same "
        "function after every step, bit for bit": batch["scaled"]["greatest"] == 0,
        "without norm they are another function": min(none["scaled"]["distance"]) > 0.01,
        "with batch norm a growing rate is the same function as weight decay, until rounding makes "
        "them part": min(batch["growing"]["together"]) > 0 == max(batch["no decay"]["together"]),
        "the norms of the weights reach an equilibrium that does not depend on where they start": (
            float(np.abs(apart).max()) < _NEAR
        ),
        "in the end each layer turns by sqrt(2 rate decay) at each step": (
            max(abs(turn - 1) for turn in _turns(results, "batch")) < _NEAR
        ),
        "without norm the turn does not follow from rate times decay": (
            max(abs(turn - 1) for turn in _turns(results, "none")) > _NEAR
        ),
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say how far functions are apart, what the weights turn by, and their norms."""
    return [
        "Distance of the classes' distributions on test images (total variation, mean over the "
        f"images, 1 for a network that diverged) from a constant rate with weight decay, after "
        f"{results['steps']} steps.",
        *(_distances(norm, results) for norm in ("batch", "none")),
        *(_turning(norm, results) for norm in ("batch", "none")),
        *(_norms(norm, results) for norm in ("batch", "none")),
        *(_accuracy(norm, results) for norm in ("batch", "none")),
    ]


def _distances(norm: str, results: dict[str, Any]) -> str:
    compared, c = results[norm]["compared"], results["scale"]
    names = {
        "scaled": f"weights times {c:g}, rate times {c * c:g}, decay over {c * c:g}",
        "growing": "a growing rate in place of the decay",
        "no decay": "no decay",
        "weights only": f"weights times {c:g} only",
    }
    told = "; ".join(
        f"{label} {over_seeds(compared[name]['distance'], '.2g', of='')}"
        for name, label in names.items()
    )
    evaluated = over_seeds(compared["growing"]["evaluated"], ".2g", of="")
    together = compared["growing"]["together"]
    told_together = (
        f" Its distance stays below 1e-5 on every image up to step {listed(together)} (by seed)."
        if min(together)
        else ""
    )
    return (
        f"The distances {NORM_LABELS[norm]}: {told}. In evaluation the growing rate is at "
        f"{evaluated}.{told_together}"
    )


def _turns(results: dict[str, Any], norm: str) -> list[float]:
    by_product = results[norm]["turns"].values()
    return [turn for by_rate in by_product for turns in by_rate.values() for turn in turns]


def _turning(norm: str, results: dict[str, Any]) -> str:
    told = "; ".join(
        f"{product}: "
        + ", ".join(f"{mean(turns, '.2f')} at rate {rate}" for rate, turns in by_rate.items())
        for product, by_rate in results[norm]["turns"].items()
    )
    return (
        f"The angle of a step at the end over sqrt(2 rate decay), {NORM_LABELS[norm]}, mean over "
        f"layers and seeds, by rate times decay: {told}."
    )


def _norms(norm: str, results: dict[str, Any]) -> str:
    norms = results[norm]["norms"]
    return (
        f"Norms of the weights at the end, {NORM_LABELS[norm]}: "
        f"{over_seeds(norms['reference'], '.2f', of='over layers and seeds')}, and from weights "
        f"{results['scale']:g} times as large {over_seeds(norms['weights only'], '.2f', of='')}."
    )


def _accuracy(norm: str, results: dict[str, Any]) -> str:
    accuracy = results[norm]["accuracy"]
    reference, growing, plain = (over_seeds(values, ".1%", of="") for values in accuracy.values())
    return (
        f"Test accuracy {NORM_LABELS[norm]}: {reference} with weight decay, {growing} with a "
        f"growing rate in its place, {plain} with neither."
    )
