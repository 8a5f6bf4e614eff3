"""How batch norm changes the loss along a step, and whether it changes what the layers below do."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax

from jaxnorm.linen import BatchNorm
from jaxnorm.models import NormFactory, vgg_small
from jaxnorm.training import TrainState, cross_entropy

from .._classification import Classifier, Images, centred, make_classifier, on_device
from .._figures import draw_curves, legend, log_axis, new_figure, save, subplots
from .._run import Run
from .._seeds import last, over_seeds, per_seed
from .._sweep import NORM_LABELS
from .._tables import read_table
from .._trainer import Measured, Point, every, train
from ._measures import Along, Shift, look_around
from ._noise import NoisyBatchNorm

LABELS = {**NORM_LABELS, "noisy": "with batch norm and noise after it"}
_PANELS = {
    "train_loss": "training loss (nats)",
    "loss_range": "greatest minus least loss (nats)",
    "change": "greatest change of the gradient",
    "smoothness": "greatest effective beta",
    "difference": "difference over the gradient",
    "cosine": "cosine",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """A VGG-like network without batch norm, with it, and with noise after it, by plain SGD.

    Command: `python -m experiments smoothness`. It takes 10 000 images of 16 x 16 pixels and half
    of the width, and seven minutes of processor time.

    Expected: with batch norm the loss varies less along the gradient, the gradient changes less
    there, and the effective beta is smaller, as the paper says. The paper also says that noise
    after batch norm, which moves the inputs of the next layer at every step, costs little, and that
    the internal covariate shift is not smaller with batch norm. At this size the noise takes most
    of what batch norm gains, and the shift is smaller.

    Attributes:
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are used, from the first on; None for all.
        test_examples: How many test images are used as validation, from the first on; None for all.
        half_size: Whether images are averaged over 2 x 2 pixels first.
        seeds: Each gives an initialization and an order of the data.
        stages: Widths of the convolutions of each stage.
        steps: Training steps.
        measure_every: Training steps between measurements.
        batch_size: Images in a step, and in a measurement.
        learning_rate: Learning rate of plain SGD.
        lengths: Where the loss is measured along the gradient, as multiples of the learning rate.
        shift: Greatest mean of the noise of a channel, in standard deviations.
        stretch: Greatest factor by which the noise scales a channel.
        spread: How far the noise of the examples of a channel lies apart.
    """

    dataset: str = "cifar10"
    train_examples: int | None = 10_000
    test_examples: int | None = 2000
    half_size: bool = True
    seeds: tuple[int, ...] = (0, 1, 2)
    stages: tuple[tuple[int, ...], ...] = ((16, 16), (32, 32), (64, 64))
    steps: int = 300
    measure_every: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    lengths: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 4.0)
    shift: float = 0.5
    stretch: float = 1.25
    spread: float = 0.1


PRESETS = {
    "smoke": Config(
        dataset="digits",
        train_examples=640,
        test_examples=360,
        half_size=False,
        seeds=(0,),
        stages=((8, 8), (16,)),
        steps=40,
        measure_every=10,
        lengths=(0.5, 4.0),
    ),
    "default": Config(),
    "paper": Config(
        train_examples=None,
        test_examples=None,
        half_size=False,
        stages=((64,), (128,), (256, 256), (512, 512), (512, 512)),
        steps=15_000,
        measure_every=100,
        batch_size=128,
    ),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train the three networks, and measure the loss around them on their way."""
    data = run.dataset(config.dataset)
    images = on_device(
        data, config.train_examples, config.test_examples, half_size=config.half_size
    )
    noise = {name: getattr(config, name) for name in ("shift", "stretch", "spread")}
    norms: dict[str, NormFactory | None] = {
        "none": None,
        "batch": functools.partial(BatchNorm, momentum=0.9),
        "noisy": functools.partial(NoisyBatchNorm, **noise),
    }
    for name, norm in norms.items():
        # The bias of the norm takes the place of the convolution's.
        model = vgg_small(len(data.classes), stages=config.stages, norm=norm, use_bias=norm is None)
        classifier = make_classifier(
            model,
            optax.sgd(config.learning_rate),
            *images,
            white=data.white,
            batch_size=config.batch_size,
            steps=config.measure_every,
        )
        look = _make_look(config, model, centred(data.white))
        for seed in config.seeds:
            _train(config, run, name, seed, classifier, look, images[0])
    return {"steps": config.steps, **_numbers(run)}


Look = Callable[[TrainState, Images, jax.Array], tuple[Along, Shift]]
"""(state, batch, key of the noise) -> what lies around the state."""


def _make_look(config: Config, model: nn.Module, scaled: Callable[[Any], jax.Array]) -> Look:
    """Return a function that looks around a state. It compiles one gradient."""
    convolutions = sum(len(stage) for stage in config.stages)
    hidden = [(f"hidden_{i}", f"norm_{i}") for i in range(convolutions)]

    @jax.jit
    @jax.value_and_grad
    def gradient(params: Any, state: TrainState, batch: Images, key: jax.Array) -> jax.Array:
        logits: Any = model.apply(
            state._replace(params=params).variables,
            scaled(batch),
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        return cross_entropy(logits[0], batch)[0]

    def look(state: TrainState, batch: Images, key: jax.Array) -> tuple[Along, Shift]:
        layers = [tuple(name for name in names if name in state.params) for names in hidden]
        return look_around(
            lambda params: gradient(params, state, batch, key),
            state.params,
            learning_rate=config.learning_rate,
            lengths=config.lengths,
            layers=(*layers, ("output",)),
        )

    return look


def _train(
    config: Config,
    run: Run,
    network: str,
    seed: int,
    classifier: Classifier,
    look: Look,
    images: Images,
) -> None:
    """Train one network from one seed, and record three tables."""

    def measure(point: Point) -> Measured:
        # The networks of a seed are measured on the same images. The noise stays along the step.
        key = jax.random.fold_in(jax.random.key(seed), point.step)
        rows = jax.random.choice(key, len(images["labels"]), (config.batch_size,), replace=False)
        along, shift = look(point.state, jax.tree.map(lambda a: a[rows], images), key)
        validation = classifier.evaluate(point.state)
        curve = {
            "train_loss": point.metrics["loss"].mean() if point.metrics else along.value,
            "validation_accuracy": validation["accuracy"],
            "gradient": along.norm,
            "loss_range": np.ptp(along.loss),
            "change": along.change.max(),
            "smoothness": along.smoothness.max(),
            # The first layer has none before it.
            "difference": shift.difference[1:].mean(),
            "cosine": shift.cosine[1:].mean(),
        }
        columns = zip(config.lengths, along.loss, along.change, along.smoothness, strict=True)
        lengths = [
            {"length": length, "loss": loss, "change": change, "smoothness": smoothness}
            for length, loss, change, smoothness in columns
        ]
        layers = [
            {"layer": layer, "difference": difference, "cosine": cosine}
            for layer, (difference, cosine) in enumerate(zip(*shift, strict=True))
        ]
        tables = {"curves": [curve], "along": lengths, "layers": layers}
        return Measured(tables, f"loss {curve['train_loss']:.3f}", curve)

    train(
        run,
        f"{network}-{seed}",
        lambda: classifier.start(jax.random.key(seed)),
        classifier.advance,
        measure,
        points=every(config.measure_every, config.steps // config.measure_every, start=True),
        where={"network": network, "seed": seed},
        steps=config.measure_every,
    )


def _numbers(run: Run) -> dict[str, Any]:
    """Return the numbers of each network by seed: means over all points but the start."""
    table = read_table(run.table("curves"))
    later = {name: column[table["step"] > 0] for name, column in table.items()}

    def over_points(network: str, column: str) -> list[float]:
        return [float(values.mean()) for values in per_seed(later, column, network=network)]

    measures = ("gradient", "loss_range", "change", "smoothness", "difference", "cosine")
    return {
        network: {
            **{name: over_points(network, name) for name in measures},
            "train_loss": last(table, "train_loss", network=network),
            "accuracy": last(table, "validation_accuracy", network=network),
        }
        for network in LABELS
    }


def figures(folder: Path) -> list[Path]:
    """Draw the training loss, what lies along a step, and the shift, against training steps."""
    table = read_table(folder / "curves.csv")
    figure = new_figure(11.0, 6.0)
    grid = subplots(figure, 2, 3, sharex=True)
    titles = (
        "training",
        "loss along the gradient",
        "gradient along the gradient",
        "effective smoothness",
        "internal covariate shift, size",
        "internal covariate shift, direction",
    )
    for axes, title, (column, label) in zip(grid.flat, titles, _PANELS.items(), strict=True):
        draw_curves(axes, table, y=column, by="network", labels=LABELS)
        axes.set(title=title, ylabel=label)
        axes.title.set_fontsize(10)
        if column not in ("cosine", "train_loss"):
            axes.set_yscale("log")
            log_axis(axes.yaxis)
    for axes in grid[1]:
        axes.set_xlabel("training step")
    legend(figure, grid[0, 0])
    return [save(figure, folder / "smoothness.png")]


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the paper's claims the numbers show, each for every pair of seeds."""
    none, batch, noisy = (results[name] for name in LABELS)

    def smaller(column: str) -> bool:
        return max(batch[column]) < min(none[column])

    cost = np.mean(noisy["train_loss"]) - np.mean(batch["train_loss"])
    return {
        "with batch norm the loss varies less along the gradient": smaller("loss_range"),
        "the gradient changes less along itself": smaller("change"),
        "the effective beta is smaller": smaller("smoothness"),
        "with noise after it the training loss still falls faster than without batch norm": max(
            noisy["train_loss"]
        )
        < min(none["train_loss"]),
        "the noise costs less than half of what batch norm gains in training loss": (
            bool(cost < (np.mean(none["train_loss"]) - np.mean(batch["train_loss"])) / 2)
        ),
        "the internal covariate shift is not smaller with batch norm": min(batch["difference"])
        >= max(none["difference"]),
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say what lies along the step, what the noise costs, and the covariate shift."""

    def each(column: str, form: str) -> str:
        of = ("over seeds", "", "")
        none, batch, noisy = (
            over_seeds(results[name][column], form, of=told)
            for name, told in zip(LABELS, of, strict=True)
        )
        return f"{none} without batch norm, {batch} with it, {noisy} with noise after it"

    return [
        f"Training loss in nats, the mean of the last steps before step {results['steps']}: "
        f"{each('train_loss', '.2f')}. Validation accuracy: {each('accuracy', '.1%')}.",
        f"Greatest minus least loss along the gradient, in nats: {each('loss_range', '.3g')}.",
        f"Greatest change of the gradient: {each('change', '.3g')}. Its norm at the start of the "
        f"step: {each('gradient', '.3g')}.",
        f"Greatest effective beta: {each('smoothness', '.3g')}.",
        "Internal covariate shift, the change of a layer's gradient over its norm: "
        f"{each('difference', '.2f')}; cosine of the angle: {each('cosine', '.2f')}.",
        "A number is the mean over all measurements but the one before the first step. The shift "
        "is also a mean over all layers but the first.",
    ]
