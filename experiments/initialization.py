"""How much training depends on the scale of the initial weights, with and without batch norm."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxnorm.models import MLP

from ._figures import band, draw_curves, legend, new_figure, save, style, subplots
from ._run import Run
from ._seeds import mean, over_seeds, sentence
from ._sweep import NORM_LABELS, NORMS, Group, Hyper, final, make_sweep, speed_sentence, splits
from ._tables import ordered, read_table, select

_RULES = {"Xavier": 1.0, "He": math.sqrt(2)}  # standard deviation times the root of the fan-in


@dataclasses.dataclass(frozen=True)
class Config:
    """Five ReLU layers of 100 units on 1 000 MNIST images, 16 weight scales from 1 to 1e-4.

    Command: `python -m experiments initialization`. `--preset smoke` takes digits. `--preset paper`
    takes ten seeds.

    Expected: with batch norm most of the 16 scales learn. Without batch norm only those from
    He's to twice He's learn.

    Attributes:
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are used, from the first on.
        test_examples: How many test images are used, from the first on.
        scales: How many weight scales, on a log grid from 1 to 1e-4.
        seeds: Each gives an initialization and an order of the data.
        features: Widths of the hidden layers.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        learning_rate: Learning rate of plain SGD.
        learns_at: Final training accuracy from which on a network counts as having learned.
    """

    dataset: str = "mnist"
    train_examples: int = 1000
    test_examples: int = 2000
    scales: int = 16
    seeds: tuple[int, ...] = (0, 1, 2)
    features: tuple[int, ...] = (100,) * 5
    epochs: int = 20
    batch_size: int = 100
    learning_rate: float = 0.01
    learns_at: float = 0.5


PRESETS = {
    "smoke": Config(dataset="digits", test_examples=360),
    "default": Config(),
    "paper": Config(test_examples=10000, seeds=tuple(range(10))),
}


def scale_grid(count: int) -> np.ndarray:
    """Return the weight scales, from 1 to 1e-4 [count].

    Examples:
        >>> scale_grid(5)
        array([1.e+00, 1.e-01, 1.e-02, 1.e-03, 1.e-04])
    """
    return np.logspace(0, -4, count)


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train every scale, Xavier and He with every seed, without and with batch norm."""
    data = run.dataset(config.dataset)
    train, test = splits(data, config.train_examples, config.test_examples)
    per_epoch = len(train["labels"]) // config.batch_size
    scales, rules = scale_grid(config.scales), list(_RULES.values())
    # The standard deviation is gain * fan_in ** -power. A scale has the power 0.
    hyper = {"gain": [*scales, *rules], "power": [0.0] * len(scales) + [0.5] * len(rules)}
    trials = (*(f"{scale:.3g}" for scale in scales), *_RULES)
    speed = {}
    for norm in NORMS:
        build = functools.partial(_build, config, norm)
        sweep = make_sweep(build, train, batch_size=config.batch_size, steps=per_epoch)
        group = Group(norm, sweep, config.seeds, trials, hyper)
        group.train_curves(run, test, points=config.epochs)
        speed[norm] = group.compare_speed()
    return {
        "per_epoch": per_epoch,
        "learns_at": config.learns_at,
        "train_accuracy": final(run.folder, "train_accuracy"),
        "test_accuracy": final(run.folder, "test_accuracy"),
        "speed": speed,
    }


def _build(config: Config, norm: str, hyper: Hyper) -> tuple[MLP, optax.GradientTransformation]:
    def kernel_init(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jax.random.normal(key, shape, dtype) * hyper["gain"] * shape[0] ** -hyper["power"]

    model = MLP(features=config.features, num_outputs=10, norm=NORMS[norm], kernel_init=kernel_init)
    return model, optax.sgd(config.learning_rate)


def figures(folder: Path) -> list[Path]:
    """Draw training accuracy against epochs per scale, and final accuracy against the scale."""
    return [_draw_grid(folder), _draw_final(folder)]


def _draw_grid(folder: Path) -> Path:
    table = read_table(folder / "curves.csv")
    scales = [trial for trial in ordered(table["trial"]) if trial not in _RULES]
    columns = math.ceil(math.sqrt(len(scales)))
    rows = math.ceil(len(scales) / columns)
    figure = new_figure(2.4 * columns, 2.0 * rows + 0.6)
    grid = subplots(figure, rows, columns, sharex=True, sharey=True)
    per_epoch = table["step"][table["step"] > 0].min()
    epochs = {**table, "epoch": table["step"] / per_epoch}
    for axes, trial in zip(grid.flat, scales, strict=False):
        one = select(epochs, trial=trial)
        draw_curves(axes, one, x="epoch", y="train_accuracy", by="group", labels=NORM_LABELS)
        axes.set(ylim=(0, 1.02))
        axes.set_title(f"scale {trial}", fontsize=10)
    figure.supxlabel("epoch")
    figure.supylabel("training accuracy")
    legend(figure, grid[0, 0], loc="outside upper center")
    return save(figure, folder / "grid.png")


def _draw_final(folder: Path) -> Path:
    measured = final(folder, "train_accuracy")
    figure = new_figure(7.0, 4.8)
    axes = subplots(figure, 1, 1)[0, 0]
    for position, norm in enumerate(NORMS):
        by_scale = {float(k): v for k, v in measured[norm].items() if k not in _RULES}
        line = {**style(norm, position), "marker": "o", "ms": 4, "label": NORM_LABELS[norm]}
        band(axes, list(by_scale), list(by_scale.values()), **line)
        for rule, dashes in zip(_RULES, ((0, (1, 1)), (0, (5, 1.5))), strict=True):
            label = f"{rule}, {NORM_LABELS[norm]}"
            height = np.mean(measured[norm][rule])
            axes.axhline(height, color=line["color"], lw=0.8, ls=dashes, label=label)
    axes.set(
        xscale="log",
        ylim=(0, 1.02),
        xlabel="standard deviation of the initial weights",
        ylabel="final training accuracy",
    )
    legend(figure, axes)
    return save(figure, folder / "final.png")


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the book's claims the numbers show."""
    learned = _learned(results)
    count = len(_scales(results))
    return {
        "with batch norm most weight scales learn": learned["batch"].min() > count / 2,
        "without batch norm most weight scales do not learn": learned["none"].max() < count / 2,
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say how many scales learn, how Xavier and He do, and how fast training at once was."""
    accuracy, limit = results["train_accuracy"], results["learns_at"]
    scales, learned = _scales(results), _learned(results)
    counts = ", ".join(f"{over_seeds(learned[norm], '.3g')} {NORM_LABELS[norm]}" for norm in NORMS)
    rules = "; ".join(
        f"{rule} {mean(accuracy['none'][rule], '.1%')} without and "
        f"{mean(accuracy['batch'][rule], '.1%')} with batch norm"
        for rule in _RULES
    )
    return [
        f"Of {len(scales)} scales learn (training accuracy of {limit:.0%} or more): {counts}.",
        *(_range_sentence(norm, accuracy[norm], scales, limit) for norm in NORMS),
        f"Final training accuracy, mean over seeds: {rules}.",
        *(
            f"{sentence(NORM_LABELS[norm])}: {speed_sentence(results['speed'][norm])}"
            for norm in NORMS
        ),
    ]


def _scales(results: dict[str, Any]) -> list[str]:
    return [trial for trial in results["train_accuracy"]["none"] if trial not in _RULES]


def _learned(results: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return how many scales learn, [S] by norm."""
    return {
        norm: np.sum([np.array(by[s]) >= results["learns_at"] for s in _scales(results)], axis=0)
        for norm, by in results["train_accuracy"].items()
    }


def _range_sentence(
    norm: str, accuracy: dict[str, list[float]], scales: list[str], limit: float
) -> str:
    means = {scale: float(np.mean(accuracy[scale])) for scale in scales}
    learning = [scale for scale in scales if means[scale] >= limit]
    if not learning:
        return f"{sentence(NORM_LABELS[norm])} no scale learns in the mean over seeds."
    best = max(learning, key=means.__getitem__)
    return (
        f"{sentence(NORM_LABELS[norm])} scales from {learning[-1]} to {learning[0]} learn in "
        f"the mean over seeds; the best is {best} with {means[best]:.1%}."
    )
