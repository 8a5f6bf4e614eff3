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
    on_device,
    speed_sentence,
    splits,
)
from ._tables import read_table, select
from ._trainer import Measured, Point

METHODS = ("nothing", "weight decay", "dropout", "batch norm")


@dataclasses.dataclass(frozen=True)
class Config:
    """Seven ReLU layers of 100 units on 300 MNIST images, with what is said to help.

    Command: `python -m experiments overfitting`. `--preset smoke` takes digits. `--preset paper`
    takes ten seeds and all test images.

    Weight decay is L2 regularization: `weight_decay * w` is added to the gradient of a kernel. An
    ensemble is the mean of the class probabilities of the networks of all seeds. It is taken at
    test time and shown for each method.

    With `--rates 0.003 0.01 0.03 0.1 0.3 1 3` each method also trains at each of these learning
    rates, and is compared at the rate at which it is best on the `validation_examples` images after
    the training images. The learning rate of the comparison above is that of the book's network
    without batch norm.

    Expected: nothing and batch norm learn the training images by heart, batch norm in the fewest
    steps and with the widest gap to test images. Weight decay and dropout narrow the gap by holding
    training back, and lose test accuracy. The ensemble is better on test images than its members.
    Each at its own rate, dropout is the best. Batch norm is as good as nothing in place of 26
    points behind, and its gap is narrower by less than a point, and not for every seed.

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
        rates: Learning rates of which each method gets the one that is best for it; none for the
            comparison at one rate alone.
        validation_examples: How many images choose the rate.
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
    rates: tuple[float, ...] = ()
    validation_examples: int = 2000


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
    data_after = slice(len(train["labels"]), len(train["labels"]) + config.validation_examples)
    validation = on_device(data.train_images[data_after], data.train_labels[data_after], data.white)
    speed, ensembles, own = {}, {}, {}
    for method in METHODS:
        build = functools.partial(_build, config, method)
        sweep = make_sweep(build, train, batch_size=config.batch_size, steps=steps // config.points)
        decay = config.weight_decay if method == "weight decay" else 0.0
        hyper = {"weight_decay": decay, "learning_rate": config.learning_rate}
        group = Group(method, sweep, config.seeds, (method,), hyper)
        states = group.train_curves(run, test, points=config.points)
        ensembles[method] = _ensemble(group, states, test)
        speed[method] = group.compare_speed()
        if config.rates:
            hyper = {"weight_decay": decay, "learning_rate": config.rates}
            rates = tuple(f"{rate:g}" for rate in config.rates)
            tried = Group(_group_of_rates(method), sweep, config.seeds, rates, hyper)
            own[method] = _at_own_rate(run, tried, validation, test, steps=steps)
    return {
        "learning_rate": config.learning_rate,
        "own_rate": own,
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
    return model, optax.chain(
        decay_kernels(hyper["weight_decay"]), optax.sgd(hyper["learning_rate"])
    )


def _at_own_rate(
    run: Run, group: Group, validation: Data, test: Data, *, steps: int
) -> dict[str, Any]:
    """Train a method at each rate, and return its accuracies [S] at the rate it is best at.

    The table `rates` has a row per rate and seed. The test images have no part in the choice.
    """
    data = {"train": group.sweep.data, "validation": validation, "test": test}

    def measure(point: Point) -> Measured:
        found = {name: group.evaluate(point.state, part) for name, part in data.items()}
        columns = {f"{name}_accuracy": metrics["accuracy"] for name, metrics in found.items()}
        means = {name: float(np.mean(values)) for name, values in columns.items()}
        return Measured({"rates": group.rows(**columns)}, "", means)

    group.train(run, measure, points=[steps])
    rows = select(read_table(run.table("rates")), group=group.name)
    best = _best_rate(rows)
    own = select(rows, trial=best)
    return {
        "rate": best,
        **{name: own[f"{name}_accuracy"].tolist() for name in ("train", "test")},
    }


def _group_of_rates(method: str) -> str:
    return f"{method}, each rate"


def _best_rate(rows: dict[str, np.ndarray]) -> float:
    """Return the learning rate of the greatest validation accuracy, a mean over seeds."""
    rates = np.unique(rows["trial"])
    means = [select(rows, trial=rate)["validation_accuracy"].mean() for rate in rates]
    return float(rates[np.argmax(means)])


def _ensemble(group: Group, states: TrainState, test: Data) -> float:
    """Return the test accuracy of the mean of the probabilities over all seeds."""
    probabilities = group.predict(states, test["inputs"])
    chosen = jnp.argmax(jnp.mean(probabilities, axis=(0, 1)), axis=-1)
    return float(jnp.mean(chosen == test["labels"]))


def figures(folder: Path) -> list[Path]:
    """Draw accuracy against steps, and against the learning rate where rates were tried."""
    pictures = [_draw_steps(folder)]
    return [*pictures, _draw_rates(folder)] if (folder / "rates.csv").exists() else pictures


def _draw_steps(folder: Path) -> Path:
    table = read_table(folder / "curves.csv")
    figure = new_figure(9.5, 4.0)
    grid = subplots(figure, 1, 2, sharex=True, sharey=True)
    for axes, split in zip(grid.flat, ("train", "test"), strict=True):
        draw_curves(axes, table, y=f"{split}_accuracy", by="trial")
        name = "training images" if split == "train" else "test images"
        axes.set(title=name, xlabel="step", ylim=(0, 1.02))
    grid[0, 0].set_ylabel("accuracy")
    legend(figure, grid[0, 0])
    return save(figure, folder / "overfitting.png")


def _draw_rates(folder: Path) -> Path:
    """Draw accuracy after the last step against the learning rate, a panel per split."""
    table = read_table(folder / "rates.csv")
    labels = {_group_of_rates(method): method for method in METHODS}
    figure = new_figure(9.5, 4.0)
    grid = subplots(figure, 1, 2, sharex=True, sharey=True)
    for axes, split in zip(grid.flat, ("train", "test"), strict=True):
        y = f"{split}_accuracy"
        draw_curves(axes, table, y=y, by="group", x="trial", labels=labels)
        name = "training images" if split == "train" else "test images"
        axes.set(title=name, xlabel="learning rate", xscale="log", ylim=(0, 1.02))
        for line, group in zip(axes.get_lines(), labels, strict=True):
            rate = _best_rate(select(table, group=group))
            own = select(table, group=group, trial=rate)
            picked = {"marker": "o", "ls": "", "color": line.get_color()}
            axes.plot([rate], [own[y].mean()], label="validation's choice", **picked)
    grid[0, 0].set_ylabel("accuracy after the last step")
    legend(figure, grid[0, 0])
    return save(figure, folder / "rates.png")


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
    own = _gaps_at_own_rates(results)
    surviving = {
        f"at the rate that is best for each, {method} narrows the gap for every seed": bool(
            np.all(own[method] < own["nothing"])
        )
        for method in METHODS[1:]
        if own
    }
    return {
        **narrower,
        **surviving,
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


def _gaps_at_own_rates(results: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the same per seed at the rates that validation chose, if any were tried."""
    return {
        method: points(found["train"], found["test"])
        for method, found in results.get("own_rate", {}).items()
    }


def _both_ways(results: dict[str, Any]) -> str:
    """Return a table of the comparison at one rate and at the rate that is best for each method."""
    one, own = _gaps(results), _gaps_at_own_rates(results)
    lines = [
        f"| method | test accuracy at {results['learning_rate']:g} | gap | own rate "
        "| test accuracy | gap |",
        "|---|---|---|---|---|---|",
    ]
    for method, found in results["own_rate"].items():
        test, gap = over_seeds(found["test"], ".1%", of=""), own[method].mean()
        lines.append(
            f"| {method} | {mean(_of(results, 'test', method), '.1%')} | {one[method]:.1f} | "
            f"{found['rate']:g} | {test} | {gap:.1f} |"
        )
    return "\n  ".join(["Both ways of comparing, gaps in points:", "", *lines])


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
        *([_both_ways(results)] if results.get("own_rate") else []),
    ]
