"""Four optimizers, with and without batch norm."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import optax

from jaxnorm.models import MLP

from ._figures import draw_curves, legend, log_axis, new_figure, save, subplots
from ._run import Run
from ._seeds import mean
from ._sweep import (
    NORM_LABELS,
    NORMS,
    Group,
    Hyper,
    every,
    final,
    make_sweep,
    on_device,
    speed_sentence,
    splits,
)
from ._tables import read_table, select
from ._trainer import Measured, Point

OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "SGD": optax.sgd,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "AdaGrad": functools.partial(optax.adagrad, initial_accumulator_value=0.0),
    "Adam": optax.adam,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Five ReLU layers of 100 units on MNIST under SGD, momentum, AdaGrad and Adam.

    Command: `python -m experiments optimizers`. `--preset smoke` takes digits. `--preset paper`
    takes ten seeds and 10 000 steps.

    Expected: plain SGD is the slowest by far, and AdaGrad and Adam are the fastest. With batch norm
    all four optimizers end lower, and about as far apart as without.

    Attributes:
        dataset: Name of a data set that is in memory.
        seeds: Each gives an initialization and an order of the data.
        features: Widths of the hidden layers.
        batch_size: Images in a step.
        steps: Training steps.
        points: How often the loss is written down on the way.
        test_examples: How many test images are used, from the first on.
        learning_rates: Learning rates of SGD, momentum, AdaGrad and Adam, in this order. They are
            those of the chapter.
        low_loss: Steps are counted until the training loss, in nats, is below this.
    """

    dataset: str = "mnist"
    seeds: tuple[int, ...] = (0, 1, 2)
    features: tuple[int, ...] = (100,) * 5
    batch_size: int = 128
    steps: int = 2000
    points: int = 40
    test_examples: int = 2000
    learning_rates: tuple[float, float, float, float] = (0.01, 0.01, 0.01, 0.001)
    low_loss: float = 0.2


PRESETS = {
    "smoke": Config(dataset="digits", steps=200, points=10, test_examples=360),
    "default": Config(),
    "paper": Config(seeds=tuple(range(10)), steps=10000, points=100, test_examples=10000),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train every optimizer with every seed, without and with batch norm."""
    data = run.dataset(config.dataset)
    train = on_device(data.train_images, data.train_labels, data.white)
    few, test = splits(data, config.test_examples, config.test_examples)
    speed = {}
    for norm in NORMS:
        for name, rate in zip(OPTIMIZERS, config.learning_rates, strict=True):
            build = functools.partial(_build, config, norm, name)
            steps = config.steps // config.points
            sweep = make_sweep(build, train, batch_size=config.batch_size, steps=steps)
            group = Group(f"{norm}-{name}", sweep, config.seeds, (name,), {"learning_rate": rate})

            def measure(point: Point, group: Group = group) -> Measured:
                # The loss is a mean over the steps since the last point.
                trained = point.metrics or group.evaluate(point.state, few)
                return group.curves(train=trained, test=group.evaluate(point.state, test))

            group.train(run, measure, points=every(steps, config.points))
        speed[norm] = group.compare_speed()
    return {
        "low_loss": config.low_loss,
        "train_loss": final(run.folder, "train_loss"),
        "test_accuracy": final(run.folder, "test_accuracy"),
        "steps_to_low_loss": _steps_to(run.folder, config.low_loss),
        "speed": speed,
    }


def _build(
    config: Config, norm: str, optimizer: str, hyper: Hyper
) -> tuple[MLP, optax.GradientTransformation]:
    he = nn.initializers.he_normal()
    model = MLP(features=config.features, num_outputs=10, norm=NORMS[norm], kernel_init=he)
    return model, OPTIMIZERS[optimizer](hyper["learning_rate"])


def _steps_to(folder: Path, loss: float) -> dict[str, dict[str, float]]:
    """Return the steps until the loss is below `loss`, by norm and optimizer.

    The loss is a mean over seeds. The steps are infinite where the loss was never so low.
    """
    table = read_table(folder / "curves.csv")

    def steps_of(group: str) -> float:
        rows = select(table, group=group)
        steps = np.unique(rows["step"])
        below = [s for s in steps if select(rows, step=s)["train_loss"].mean() < loss]
        return float(min(below, default=np.inf))

    return {norm: {name: steps_of(f"{norm}-{name}") for name in OPTIMIZERS} for norm in NORMS}


def figures(folder: Path) -> list[Path]:
    """Draw the loss against steps, without and with batch norm side by side."""
    table = read_table(folder / "curves.csv")
    figure = new_figure(9.5, 4.0)
    grid = subplots(figure, 1, 2, sharex=True, sharey=True)
    for axes, norm in zip(grid.flat, NORMS, strict=True):
        own = np.char.startswith(table["group"], f"{norm}-")
        rows = {name: column[own] for name, column in table.items()}
        draw_curves(axes, rows, y="train_loss", by="trial")
        axes.set(title=NORM_LABELS[norm], xlabel="step", yscale="log")
        log_axis(axes.yaxis)
    grid[0, 0].set_ylabel("training loss (nats)")
    legend(figure, grid[0, 0])
    return [save(figure, folder / "optimizers.png")]


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the book's claims the numbers show."""
    steps = results["steps_to_low_loss"]
    never = float("inf")
    none, batch = ([steps[norm][name] or never for name in OPTIMIZERS] for norm in NORMS)
    ends = {
        norm: [np.mean(results["train_loss"][f"{norm}-{name}"][name]) for name in OPTIMIZERS]
        for norm in NORMS
    }
    apart = {norm: max(losses) / min(losses) for norm, losses in ends.items()}
    return {
        "with batch norm every optimizer ends at a lower loss": bool(
            np.all(np.less(ends["batch"], ends["none"]))
        ),
        "with batch norm every optimizer needs fewer steps to a low loss": bool(
            np.all(np.less(batch, none))
        ),
        "with batch norm the optimizers end closer together": apart["batch"] < 0.8 * apart["none"],
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say the final loss of each optimizer, and its steps to a low loss."""
    loss, accuracy = results["train_loss"], results["test_accuracy"]
    steps, low = results["steps_to_low_loss"], results["low_loss"]
    lines = []
    for norm, said in NORM_LABELS.items():
        each = [
            f"{name} {mean(loss[f'{norm}-{name}'][name], '.4f')} "
            f"({mean(accuracy[f'{norm}-{name}'][name], '.1%')})"
            for name in OPTIMIZERS
        ]
        counts = [f"{name} {_count(steps[norm][name])}" for name in OPTIMIZERS]
        lines += [
            f"Final loss in nats (test accuracy) {said}: {', '.join(each)}.",
            f"Steps to a loss of {low:g} {said}: {', '.join(counts)}.",
        ]
    speeds = [
        f"The seeds of Adam {NORM_LABELS[norm]}: {speed_sentence(results['speed'][norm])}"
        for norm in NORMS
    ]
    return lines + speeds


def _count(steps: float | None) -> str:
    return "never" if steps is None or np.isinf(steps) else f"{steps:.0f}"
