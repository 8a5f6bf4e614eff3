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

from ._figures import new_figure, save, style, subplots
from ._run import Run
from ._sweep import (
    NORM_LABELS,
    NORMS,
    Group,
    Hyper,
    compare_speed,
    final,
    make_sweep,
    speed_sentence,
    splits,
    train_group,
)
from ._tables import read_table, select

_RULES = {"Xavier": 1.0, "He": math.sqrt(2)}  # standard deviation times the root of the fan-in


@dataclasses.dataclass(frozen=True)
class Config:
    """Five ReLU layers of 100 units on 1 000 MNIST images, 16 weight scales from 1 to 1e-4.

    Command: `python -m experiments initialization`. `--preset smoke` takes digits. `--preset paper`
    takes ten seeds.

    Expected: with batch norm most of the 16 scales learn. Without batch norm only the few near
    Xavier's and He's learn.

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
    speed = {}
    for norm in NORMS:
        group = _group(config, norm)
        sweep = make_sweep(
            group.build,
            train["inputs"].shape[1],
            batch_size=config.batch_size,
            steps=per_epoch,
        )
        train_group(run, group, sweep, train, test, points=config.epochs)
        speed[norm] = compare_speed(group, sweep, train)
    return {
        "per_epoch": per_epoch,
        "learns_at": config.learns_at,
        "train_accuracy": final(run.folder, "train_accuracy"),
        "test_accuracy": final(run.folder, "test_accuracy"),
        "speed": speed,
    }


def _group(config: Config, norm: str) -> Group:
    """Return one trial for each scale, one for Xavier and one for He.

    The standard deviation of the weights is `gain * fan_in ** -power`. A scale has the power 0.
    """
    scales = scale_grid(config.scales)
    rules = list(_RULES.values())
    return Group(
        norm,
        functools.partial(_build, config, norm),
        (*(f"{scale:.3g}" for scale in scales), *_RULES),
        {
            "gain": np.array([*scales, *rules]),
            "power": np.array([0.0] * len(scales) + [0.5] * len(rules)),
        },
        config.seeds,
    )


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
    trials = [str(trial) for trial in dict.fromkeys(table["trial"].tolist())]
    scales = [trial for trial in trials if trial not in _RULES]
    columns = math.ceil(math.sqrt(len(scales)))
    rows = math.ceil(len(scales) / columns)
    figure = new_figure(2.4 * columns, 2.0 * rows + 0.6)
    grid = subplots(figure, rows, columns, sharex=True, sharey=True)
    for axes, trial in zip(grid.flat, scales, strict=False):
        for position, norm in enumerate(NORMS):
            _draw_curve(axes, select(table, group=norm, trial=trial), norm, position)
        axes.set(title=f"scale {trial}", ylim=(0, 1.02))
        axes.title.set_fontsize(10)
    figure.supxlabel("epoch")
    figure.supylabel("training accuracy")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(NORMS))
    return save(figure, folder / "grid.png")


def _draw_curve(axes: Any, rows: dict[str, np.ndarray], norm: str, position: int) -> None:
    runs = [select(rows, seed=seed)["train_accuracy"] for seed in np.unique(rows["seed"])]
    values = np.stack(runs)
    epochs = np.arange(values.shape[1])
    line = style(norm, position)
    axes.plot(epochs, values.mean(0), label=NORM_LABELS[norm], **line)
    axes.fill_between(epochs, values.min(0), values.max(0), color=line["color"], alpha=0.2, lw=0)


def _draw_final(folder: Path) -> Path:
    measured = final(folder, "train_accuracy")
    figure = new_figure(7.0, 4.8)
    axes = subplots(figure, 1, 1)[0, 0]
    for position, norm in enumerate(NORMS):
        trials = measured[norm]
        scales = [float(trial) for trial in trials if trial not in _RULES]
        values = np.stack([trials[trial] for trial in trials if trial not in _RULES])
        line = style(norm, position)
        axes.plot(scales, values.mean(1), marker="o", ms=4, label=NORM_LABELS[norm], **line)
        axes.fill_between(
            scales, values.min(1), values.max(1), color=line["color"], alpha=0.2, lw=0
        )
        for rule in _RULES:
            axes.axhline(
                trials[rule].mean(),
                color=line["color"],
                lw=0.8,
                ls=(0, (1, 1)) if rule == "Xavier" else (0, (5, 1.5)),
                label=f"{rule}, {NORM_LABELS[norm]}",
            )
    axes.set(
        xscale="log",
        ylim=(0, 1.02),
        xlabel="standard deviation of the initial weights",
        ylabel="final training accuracy",
    )
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return save(figure, folder / "final.png")


def summary(results: dict[str, Any]) -> list[str]:
    """Say how many scales learn, how Xavier and He do, and how fast training at once was."""
    accuracy, limit = results["train_accuracy"], results["learns_at"]
    scales = [trial for trial in accuracy["none"] if trial not in _RULES]
    learned = {
        norm: np.sum([np.array(accuracy[norm][scale]) >= limit for scale in scales], axis=0)
        for norm in NORMS
    }
    counts = ", ".join(
        f"{learned[norm].mean():.1f} ({learned[norm].min()} to {learned[norm].max()} over seeds) "
        f"{NORM_LABELS[norm]}"
        for norm in NORMS
    )
    rules = "; ".join(
        f"{rule} {np.mean(accuracy['none'][rule]):.3f} without and "
        f"{np.mean(accuracy['batch'][rule]):.3f} with batch norm"
        for rule in _RULES
    )
    return [
        f"Of {len(scales)} scales learn (training accuracy of {limit:g} or more): {counts}.",
        *(_range_sentence(norm, accuracy[norm], scales, limit) for norm in NORMS),
        f"Final training accuracy, mean over seeds: {rules}.",
        *(f"{NORM_LABELS[norm]}: {speed_sentence(results['speed'][norm])}" for norm in NORMS),
    ]


def _range_sentence(
    norm: str, accuracy: dict[str, list[float]], scales: list[str], limit: float
) -> str:
    means = {scale: float(np.mean(accuracy[scale])) for scale in scales}
    learning = [scale for scale in scales if means[scale] >= limit]
    if not learning:
        return f"{NORM_LABELS[norm].capitalize()} no scale learns in the mean over seeds."
    best = max(learning, key=means.__getitem__)
    return (
        f"{NORM_LABELS[norm].capitalize()} scales from {learning[-1]} to {learning[0]} learn in "
        f"the mean over seeds; the best is {best} with {means[best]:.3f}."
    )
