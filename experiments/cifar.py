"""A small VGG-like network on CIFAR-10, with batch norm and without."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import optax

from jaxnorm.linen import BatchNorm
from jaxnorm.models import NormFactory, vgg_small

from ._classification import make_classifier, on_device, train_classifier
from ._figures import draw_curves, legend, log_axis, new_figure, save, subplots
from ._run import Run
from ._seeds import listed, mean, over_seeds, per_seed, points
from ._sweep import NORM_LABELS
from ._tables import read_table

# The post's numbers: batch norm gains about 4 points. Without batch norm the validation loss turns
# up from about the 15th epoch of 30.
_POST = {"points": 4.0, "turns_up_at_epoch": 15}
# At a constant learning rate, accuracy moves by points from epoch to epoch.
_LATE = 3
# How many epochs from the post's count as about the same.
_ABOUT = 5


@dataclasses.dataclass(frozen=True)
class Config:
    """Convolution-ReLU against convolution-batch norm-ReLU on CIFAR-10, otherwise the same.

    Command: `python -m experiments cifar`. It takes 10 000 images of 16 x 16 pixels and half of the
    width. `--train-examples None --test-examples None --epochs 30` takes all images and the post's
    30 epochs, an hour for each seed. `--preset paper` takes the full size of images and network,
    too, and needs a GPU.

    Expected: with batch norm the training loss falls faster. The post says that validation accuracy
    ends about 4 points higher, and that without batch norm the validation loss turns up from about
    epoch 15 of 30. With all images for 30 epochs, accuracy ends 5 to 6 points higher at a quarter
    of the pixels and half of the width. With a fifth of the images for 10 epochs it ends less
    than one point higher. In both, the validation loss turns up at about epoch 6, also with batch
    norm, and rises more without it.

    Attributes:
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are used, from the first on; None for all.
        test_examples: How many test images are used as validation, from the first on; None for all.
        half_size: Whether images are averaged over 2 x 2 pixels first.
        seeds: Each gives an initialization and an order of the data.
        stages: Widths of the convolutions of each stage.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        learning_rate: Learning rate of Adam. The post does not give its own.
        decay: Weight of the old running statistics.
    """

    dataset: str = "cifar10"
    train_examples: int | None = 10_000
    test_examples: int | None = 2000
    half_size: bool = True
    seeds: tuple[int, ...] = (0, 1, 2)
    stages: tuple[tuple[int, ...], ...] = ((16, 16), (32, 32), (64, 64))
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    decay: float = 0.9


PRESETS = {
    "smoke": Config(
        dataset="digits",
        train_examples=640,
        test_examples=360,
        half_size=False,
        seeds=(0,),
        stages=((8,), (16,)),
        epochs=4,
    ),
    "default": Config(),
    "paper": Config(
        train_examples=None,
        test_examples=None,
        half_size=False,
        stages=((32, 32), (64, 64), (128, 128)),
        epochs=30,
        decay=0.99,
    ),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train both networks; the table `curves` has a row per epoch, seed and network."""
    run.hosts.check_batch(config.batch_size)
    data = run.dataset(config.dataset)
    train, validation = on_device(
        data, config.train_examples, config.test_examples, half_size=config.half_size
    )
    norms: dict[str, NormFactory | None] = {
        "none": None,
        "batch": functools.partial(BatchNorm, momentum=config.decay),
    }
    for name, norm in norms.items():
        classifier = make_classifier(
            vgg_small(len(data.classes), stages=config.stages, norm=norm),
            optax.adam(config.learning_rate),
            train,
            validation,
            white=data.white,
            batch_size=config.batch_size,
            steps=len(train["labels"]) // config.batch_size,
            hosts=run.hosts,
        )
        for seed in config.seeds:
            train_classifier(run, name, seed, classifier, points=config.epochs)
    table = read_table(run.table("curves"))
    return {"epochs": config.epochs, **{name: _network(table, name) for name in norms}}


def _network(table: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """Return a network's numbers, each with one entry per seed."""
    accuracy, loss, train_accuracy, train_loss = (
        per_seed(table, f"{split}_{quantity}", network=name)
        for split in ("validation", "train")
        for quantity in ("accuracy", "loss")
    )
    return {
        "accuracy": [float(values[-1]) for values in accuracy],
        "late_accuracy": [float(np.mean(values[-_LATE:])) for values in accuracy],
        "best_accuracy": [float(values.max()) for values in accuracy],
        "train_accuracy": [float(values[-1]) for values in train_accuracy],
        "train_loss": [float(values[-1]) for values in train_loss],
        "train_loss_halfway": [float(values[(len(values) - 1) // 2]) for values in train_loss],
        "loss": [float(values[-1]) for values in loss],
        "least_loss": [float(values.min()) for values in loss],
        "least_loss_at_epoch": [int(values.argmin()) + 1 for values in loss],
    }


def figures(folder: Path) -> list[Path]:
    """Draw loss and accuracy against epochs, in training and validation, for both networks."""
    table = read_table(folder / "curves.csv")
    per_epoch = table["step"].min()
    shown = {**table, "epoch": table["step"] / per_epoch}
    figure = new_figure(9.5, 6.2)
    grid = subplots(figure, 2, 2, sharex=True, sharey="row")
    for column, part in enumerate(("train", "validation")):
        for row, quantity in enumerate(("loss", "accuracy")):
            y, axes = f"{part}_{quantity}", grid[row, column]
            draw_curves(axes, shown, y=y, by="network", x="epoch", labels=NORM_LABELS)
        grid[1, column].set_xlabel("epoch")
    grid[0, 0].set(title="training, mean of the epoch", ylabel="cross-entropy (nats)")
    grid[0, 1].set_title("validation, at the end of the epoch")
    grid[1, 0].set_ylabel("accuracy")
    grid[0, 0].set_yscale("log")
    log_axis(grid[0, 0].yaxis)
    legend(figure, grid[0, 0])
    return [save(figure, folder / "cifar.png")]


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the post's claims the numbers show."""
    none, batch = results["none"], results["batch"]
    turns = results["none"]["least_loss_at_epoch"]
    return {
        "with batch norm the training loss falls faster": max(batch["train_loss_halfway"])
        < min(none["train_loss_halfway"]),
        "validation loss without batch norm turns up and rises more than with it": max(turns)
        < results["epochs"]
        and _rise(none) > _rise(batch),
        f"it turns up at about epoch {_POST['turns_up_at_epoch']}": all(
            abs(epoch - _POST["turns_up_at_epoch"]) <= _ABOUT for epoch in turns
        ),
        "with batch norm it rises only slightly": _rise(batch) < _rise(none) / 4,
        f"accuracy ends about {_POST['points']:g} points higher": min(
            points(batch["accuracy"], none["accuracy"])
        )
        > _POST["points"] / 2,
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say the gain in accuracy and the epoch where the loss turns up, beside the post's."""
    none, batch = results["none"], results["batch"]

    def both(column: str, form: str, *, gain: bool = False) -> str:
        more = points(batch[column], none[column])
        gained = f": {over_seeds(more, '+.1f', ' points')}" if gain else ""
        return f"{mean(batch[column], form)} with, {mean(none[column], form)} without{gained}"

    return [
        f"Validation accuracy after {results['epochs']} epochs: "
        f"{both('accuracy', '.1%', gain=True)}; the post: about {_POST['points']:+.0f}.",
        f"Mean of the last {_LATE} epochs: {both('late_accuracy', '.1%', gain=True)}.",
        f"Best accuracy of any epoch: {both('best_accuracy', '.1%')}.",
        "Without batch norm, validation loss is least at epoch "
        f"{listed(none['least_loss_at_epoch'])} and then rises by {_rise(none):.2f} nats to the "
        f"end. With batch norm it is least at epoch {listed(batch['least_loss_at_epoch'])} and "
        f"rises by {_rise(batch):.2f}. In the post it rises from about epoch "
        f"{_POST['turns_up_at_epoch']} without batch norm, and only slightly with it.",
        f"Training loss in nats, halfway: {both('train_loss_halfway', '.3f')}; at the end: "
        f"{both('train_loss', '.3f')}.",
    ]


def _rise(network: dict[str, Any]) -> float:
    return float(np.mean(np.subtract(network["loss"], network["least_loss"])))
