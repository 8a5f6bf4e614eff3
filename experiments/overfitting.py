"""Methods that keep a network of seven layers from learning 300 images by heart."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

from jaxnorm.models import MLP
from jaxnorm.training import TrainState

from ._figures import draw_curves, new_figure, save, subplots
from ._run import Run
from ._sweep import (
    NORMS,
    Data,
    Group,
    Hyper,
    Point,
    Sweep,
    compare_speed,
    decay_kernels,
    final,
    make_sweep,
    record_curves,
    speed_sentence,
    splits,
    trained,
    training,
)
from ._tables import read_table

METHODS = ("nothing", "weight decay", "dropout", "batch norm")


@dataclasses.dataclass(frozen=True)
class Config:
    """Seven ReLU layers of 100 units on 300 MNIST images, with what is said to help.

    Command: `python -m experiments overfitting`. `--preset smoke` takes digits. `--preset paper`
    takes ten seeds and all test images.

    Weight decay is L2 regularization: `weight_decay * w` is added to the gradient of a kernel. An
    ensemble is the mean of the class probabilities of the networks of all seeds. It is taken at
    test time and shown for each method.

    Expected: every method learns the training images by heart, or nearly so. Weight decay and
    dropout narrow the gap between training and test accuracy by holding training back. Batch norm
    learns fastest. The ensemble is better on test images than its members.

    In the kept run of the default preset batch norm has the widest gap, and weight decay loses test
    accuracy. See docs/ledger.md.

    Attributes:
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are used, from the first on.
        test_examples: How many test images are used, from the first on.
        seeds: Each gives an initialization and an order of the data, and a member of the ensemble.
        features: Widths of the hidden layers.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        learning_rate: Learning rate of plain SGD.
        weight_decay: Strength of the L2 regularization.
        dropout_rate: Share of the hidden units that are dropped.
        points: How often accuracy is measured.
    """

    dataset: str = "mnist"
    train_examples: int = 300
    test_examples: int = 2000
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    features: tuple[int, ...] = (100,) * 7
    epochs: int = 200
    batch_size: int = 100
    learning_rate: float = 0.01
    weight_decay: float = 0.1
    dropout_rate: float = 0.2
    points: int = 50


PRESETS = {
    "smoke": Config(dataset="digits", test_examples=360, seeds=(0, 1, 2), epochs=40, points=5),
    "default": Config(),
    "paper": Config(test_examples=10000, seeds=tuple(range(10)), points=100),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train every method with every seed, and average the networks of each method at the end."""
    data = run.dataset(config.dataset)
    train, test = splits(data, config.train_examples, config.test_examples)
    steps = config.epochs * (len(train["labels"]) // config.batch_size)
    speed, ensembles = {}, {}
    for method in METHODS:
        group = _group(config, method)
        sweep = make_sweep(
            group.build,
            train["inputs"].shape[1],
            batch_size=config.batch_size,
            steps=steps // config.points,
        )
        for point in training(run, group, sweep, train, points=config.points):
            _measure(run, group, sweep, point, train, test)
        states = trained(run, group, sweep.start(group.numbers, group.keys))
        ensembles[method] = _ensemble(group, sweep, states, test)
        speed[method] = compare_speed(group, sweep, train)
    return {
        "train_accuracy": final(run.folder, "train_accuracy"),
        "test_accuracy": final(run.folder, "test_accuracy"),
        "ensemble_accuracy": ensembles,
        "speed": speed,
    }


def _group(config: Config, method: str) -> Group:
    decay = config.weight_decay if method == "weight decay" else 0.0
    build = functools.partial(_build, config, method)
    return Group(method, build, (method,), {"weight_decay": np.array([decay])}, config.seeds)


def _build(config: Config, method: str, hyper: Hyper) -> tuple[MLP, optax.GradientTransformation]:
    model = MLP(
        features=config.features,
        num_outputs=10,
        norm=NORMS["batch" if method == "batch norm" else "none"],
        dropout_rate=config.dropout_rate if method == "dropout" else 0.0,
        kernel_init=nn.initializers.he_normal(),
    )
    return model, optax.chain(decay_kernels(hyper["weight_decay"]), optax.sgd(config.learning_rate))


def _measure(run: Run, group: Group, sweep: Sweep, point: Point, train: Data, test: Data) -> None:
    record_curves(
        run,
        group,
        point.step,
        train=sweep.evaluate(group.numbers, point.states, train),
        test=sweep.evaluate(group.numbers, point.states, test),
    )


def _ensemble(group: Group, sweep: Sweep, states: TrainState, test: Data) -> float:
    """Return the test accuracy of the mean of the probabilities over all seeds."""
    probabilities = sweep.predict(group.numbers, states, test["inputs"])
    chosen = jnp.argmax(jnp.mean(probabilities, axis=(0, 1)), axis=-1)
    return float(jnp.mean(chosen == test["labels"]))


def figures(folder: Path) -> list[Path]:
    """Draw training and test accuracy against steps, a panel each, a line per method."""
    table = read_table(folder / "curves.csv")
    figure = new_figure(9.5, 4.0)
    grid = subplots(figure, 1, 2, sharex=True, sharey=True)
    for axes, split in zip(grid.flat, ("train", "test"), strict=True):
        draw_curves(axes, table, y=f"{split}_accuracy", by="trial")
        name = "training images" if split == "train" else "test images"
        axes.set(title=name, xlabel="step", ylim=(0, 1.02))
    grid[0, 0].set_ylabel("accuracy")
    grid[0, 1].legend(loc="lower right")
    return [save(figure, folder / "overfitting.png")]


def summary(results: dict[str, Any]) -> list[str]:
    """Say the gap between training and test accuracy of each method, and its ensemble's."""
    lines = []
    for method in METHODS:
        train = np.mean(results["train_accuracy"][method][method])
        test = np.array(results["test_accuracy"][method][method])
        ensemble = results["ensemble_accuracy"][method]
        lines.append(
            f"{method.capitalize()}: training accuracy {train:.1%}, test {test.mean():.1%} "
            f"({test.min():.1%} to {test.max():.1%} over {len(test)} seeds), a gap of "
            f"{100 * (train - test.mean()):.1f} points; the ensemble {ensemble:.1%}."
        )
    lines.append(f"The seeds with batch norm: {speed_sentence(results['speed']['batch norm'])}")
    return lines
