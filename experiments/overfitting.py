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

from ._figures import draw_curves, legend, new_figure, save, subplots
from ._run import Run
from ._seeds import mean, over_seeds, points
from ._sweep import (
    NORMS,
    Data,
    Group,
    Hyper,
    decay_kernels,
    final,
    make_sweep,
    speed_sentence,
    splits,
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

    Expected: nothing and batch norm learn the training images by heart, batch norm in the fewest
    steps and with the widest gap to test images. Weight decay and dropout narrow the gap by holding
    training back, and lose test accuracy. The ensemble is better on test images than its members.

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
        build = functools.partial(_build, config, method)
        sweep = make_sweep(build, train, batch_size=config.batch_size, steps=steps // config.points)
        decay = config.weight_decay if method == "weight decay" else 0.0
        group = Group(method, sweep, config.seeds, (method,), {"weight_decay": decay})
        states = group.train_curves(run, test, points=config.points)
        ensembles[method] = _ensemble(group, states, test)
        speed[method] = group.compare_speed()
    return {
        "train_accuracy": final(run.folder, "train_accuracy"),
        "test_accuracy": final(run.folder, "test_accuracy"),
        "ensemble_accuracy": ensembles,
        "speed": speed,
    }


def _build(config: Config, method: str, hyper: Hyper) -> tuple[MLP, optax.GradientTransformation]:
    model = MLP(
        features=config.features,
        num_outputs=10,
        norm=NORMS["batch" if method == "batch norm" else "none"],
        dropout_rate=config.dropout_rate if method == "dropout" else 0.0,
        kernel_init=nn.initializers.he_normal(),
    )
    return model, optax.chain(decay_kernels(hyper["weight_decay"]), optax.sgd(config.learning_rate))


def _ensemble(group: Group, states: TrainState, test: Data) -> float:
    """Return the test accuracy of the mean of the probabilities over all seeds."""
    probabilities = group.predict(states, test["inputs"])
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
    legend(figure, grid[0, 0])
    return [save(figure, folder / "overfitting.png")]


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the book's claims the numbers show."""
    gaps, ensemble = _gaps(results), results["ensemble_accuracy"]
    test = {method: float(np.mean(_of(results, "test", method))) for method in METHODS}
    narrower = {
        f"{method} narrows the gap between training and test accuracy": (
            gaps[method] < gaps["nothing"]
        )
        for method in METHODS[1:]
    }
    return {
        **narrower,
        "an ensemble is better than its members on average": all(
            ensemble[method] > test[method] for method in METHODS
        ),
    }


def _of(results: dict[str, Any], split: str, method: str) -> list[float]:
    return results[f"{split}_accuracy"][method][method]


def _gaps(results: dict[str, Any]) -> dict[str, float]:
    """Return the points between training and test accuracy, means over seeds by method."""
    train, test = ({m: _of(results, split, m) for m in METHODS} for split in ("train", "test"))
    return {method: float(points(train[method], test[method]).mean()) for method in METHODS}


def summary(results: dict[str, Any]) -> list[str]:
    """Say the gap between training and test accuracy of each method, and its ensemble's."""
    gaps = _gaps(results)
    lines = [
        f"{method.capitalize()}: training accuracy {mean(_of(results, 'train', method), '.1%')}, "
        f"test {over_seeds(_of(results, 'test', method), '.1%')}, a gap of {gaps[method]:.1f} "
        f"points; the ensemble {results['ensemble_accuracy'][method]:.1%}."
        for method in METHODS
    ]
    return [
        *lines,
        f"The seeds with batch norm: {speed_sentence(results['speed']['batch norm'])}",
    ]
