"""Batch norm as a regularizer, alone and with dropout and weight decay."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import optax

from jaxnorm.models import MLP

from ._figures import band, legend, new_figure, save, style, subplots
from ._run import Run
from ._seeds import last_rows, sentence
from ._sweep import (
    NORM_LABELS,
    NORMS,
    Group,
    Hyper,
    decay_kernels,
    final,
    make_sweep,
    speed_sentence,
    splits,
)
from ._tables import read_table, select

SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Config:
    """Three ReLU layers of 200 units on 1 000 MNIST images, dropout and weight decay varied.

    Command: `python -m experiments regularization`. `--preset smoke` takes digits. `--preset paper`
    takes ten seeds and all test images.

    The strengths of weight decay train at once. The rates of dropout train one after the other.
    Ioffe and Szegedy 2015 found that with batch norm dropout can be removed and a fifth of the
    weight decay is enough (arXiv:1502.03167, section 4.2.1).

    Expected: batch norm alone narrows the gap between training and test accuracy a little. Dropout
    adds less to a network with batch norm than to one without. Strong weight decay hurts the
    network without batch norm first, since with batch norm the scale of the weights does not
    matter.

    Attributes:
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are used, from the first on.
        test_examples: How many test images are used, from the first on.
        seeds: Each gives an initialization and an order of the data.
        features: Widths of the hidden layers.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        learning_rate: Learning rate of SGD with momentum 0.9.
        weight_decays: Strengths of the L2 regularization of kernels.
        dropout_rates: Shares of the hidden units that are dropped.
    """

    dataset: str = "mnist"
    train_examples: int = 1000
    test_examples: int = 2000
    seeds: tuple[int, ...] = (0, 1, 2)
    features: tuple[int, ...] = (200,) * 3
    epochs: int = 60
    batch_size: int = 50
    learning_rate: float = 0.02
    weight_decays: tuple[float, ...] = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
    dropout_rates: tuple[float, ...] = (0.0, 0.2, 0.5)


PRESETS = {
    "smoke": Config(
        dataset="digits",
        train_examples=400,
        test_examples=360,
        epochs=20,
        weight_decays=(0.0, 1e-1),
        dropout_rates=(0.0, 0.5),
    ),
    "default": Config(),
    "paper": Config(test_examples=10000, seeds=tuple(range(10)), epochs=120),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train every strength of weight decay with every seed, for each dropout rate and norm."""
    data = run.dataset(config.dataset)
    train, test = splits(data, config.train_examples, config.test_examples)
    steps = config.epochs * (len(train["labels"]) // config.batch_size)
    trials, hyper = tuple(map(_trial, config.weight_decays)), {"weight_decay": config.weight_decays}
    speed = {}
    for norm in NORMS:
        for rate in config.dropout_rates:
            build = functools.partial(_build, config, norm, rate)
            sweep = make_sweep(build, train, batch_size=config.batch_size, steps=steps // 4)
            group = Group(_name(norm, rate), sweep, config.seeds, trials, hyper)
            group.train_curves(run, test, points=4)
        speed[norm] = group.compare_speed()
    return {
        "weight_decays": config.weight_decays,
        "dropout_rates": config.dropout_rates,
        "train_accuracy": final(run.folder, "train_accuracy"),
        "test_accuracy": final(run.folder, "test_accuracy"),
        "speed": speed,
    }


def _name(norm: str, rate: float) -> str:
    return f"{norm}-{rate}"


def _trial(weight_decay: float) -> str:
    return f"decay {weight_decay:g}"


def _build(
    config: Config, norm: str, rate: float, hyper: Hyper
) -> tuple[MLP, optax.GradientTransformation]:
    model = MLP(
        features=config.features,
        num_outputs=10,
        norm=NORMS[norm],
        dropout_rate=rate,
        kernel_init=nn.initializers.he_normal(),
    )
    descent = optax.sgd(config.learning_rate, momentum=0.9)
    return model, optax.chain(decay_kernels(hyper["weight_decay"]), descent)


def figures(folder: Path) -> list[Path]:
    """Draw final training and test accuracy against weight decay, a panel per dropout rate."""
    last = last_rows(read_table(folder / "curves.csv"))
    rates = sorted({float(str(group).rsplit("-", 1)[1]) for group in last["group"]})
    figure = new_figure(3.6 * len(rates) + 0.6, 4.0)
    grid = subplots(figure, 1, len(rates), sharex=True, sharey=True)
    for axes, rate in zip(grid.flat, rates, strict=True):
        for position, norm in enumerate(NORMS):
            _draw(axes, select(last, group=_name(norm, rate)), norm, position)
        axes.set(title=f"dropout {rate:g}", xlabel="weight decay")
        # On the log axis, zero is drawn left of the smallest strength.
        axes.set_xscale("symlog", linthresh=1e-4, linscale=0.5)
    grid[0, 0].set_ylabel("final accuracy")
    legend(figure, grid[0, 0])
    return [save(figure, folder / "regularization.png")]


def _draw(axes: Any, rows: dict[str, np.ndarray], norm: str, position: int) -> None:
    strengths = np.array([float(str(trial).removeprefix("decay ")) for trial in rows["trial"]])
    at = np.unique(strengths)
    colour = style(norm, position)["color"]
    for split, line in zip(SPLITS, ("--", "-"), strict=True):
        values = [rows[f"{split}_accuracy"][strengths == strength] for strength in at]
        label = f"{'training' if split == 'train' else 'test'}, {NORM_LABELS[norm]}"
        band(axes, at, values, color=colour, linestyle=line, marker="o", ms=4, label=label)


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the literature's claims the numbers show."""
    decays, rates = map(_trial, results["weight_decays"]), results["dropout_rates"]
    none, *_, strongest = decays
    train, test = (
        {
            (norm, rate): _means(results[f"{split}_accuracy"], _name(norm, rate))
            for norm in NORMS
            for rate in rates
        }
        for split in SPLITS
    )
    gap = {norm: train[norm, 0.0][none] - test[norm, 0.0][none] for norm in NORMS}
    gain = {norm: max(test[norm, r][none] for r in rates) - test[norm, 0.0][none] for norm in NORMS}
    loss = {norm: test[norm, 0.0][none] - test[norm, 0.0][strongest] for norm in NORMS}
    return {
        "batch norm alone narrows the gap between training and test accuracy": gap["batch"]
        < gap["none"],
        "dropout adds less to a network with batch norm": gain["batch"] < gain["none"],
        "the strongest weight decay costs more without batch norm": loss["none"] > loss["batch"],
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say for each dropout rate the gap without weight decay and the best test accuracy."""
    lines = []
    for norm in NORMS:
        for rate in results["dropout_rates"]:
            train, test = (_means(results[f"{s}_accuracy"], _name(norm, rate)) for s in SPLITS)
            none, best = _trial(results["weight_decays"][0]), max(test, key=test.__getitem__)
            lines.append(
                f"{sentence(NORM_LABELS[norm])}, dropout {rate:g}: test accuracy "
                f"{test[none]:.1%} and a gap of {100 * (train[none] - test[none]):.1f} points at "
                f"{none}; best {test[best]:.1%}, a gap of "
                f"{100 * (train[best] - test[best]):.1f}, at {best}."
            )
    return [
        *lines,
        *(
            f"Strengths of weight decay {NORM_LABELS[norm]}: "
            f"{speed_sentence(results['speed'][norm])}"
            for norm in NORMS
        ),
    ]


def _means(accuracy: dict[str, dict[str, Any]], group: str) -> dict[str, float]:
    return {trial: float(np.mean(values)) for trial, values in accuracy[group].items()}
