"""The same small network with each norm and with none: the quickstart."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.table import Table

from jaxnorm.linen import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from jaxnorm.models import CNN, NormFactory
from jaxnorm.training import (
    Metrics,
    TrainState,
    create_train_state,
    cross_entropy,
    make_scan_steps,
    make_train_step,
)

from ._figures import draw_curves, legend, log_axis, new_figure, save, style, subplots
from ._run import Run
from ._seeds import last_rows
from ._tables import ordered, read_table, select
from ._trainer import Measured, Point, every, train
from .data import Dataset

Batch = dict[str, jax.Array]
"""`inputs` [N, H, W, C] from 0 to 1 and `labels` [N]."""

# A decay of 0.9 forgets the initial statistics within the two hundred steps of a run.
NORMS: dict[str, NormFactory | None] = {
    "none": None,
    "batch": functools.partial(BatchNorm, momentum=0.9),
    "layer": LayerNorm,
    "rms": RMSNorm,
    "group": functools.partial(GroupNorm, num_groups=4),
    "instance": InstanceNorm,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a small convolutional network on digits with each norm and with none.

    Command: `python -m experiments quickstart`. It needs no data directory: the digits are
    scikit-learn's. `--preset paper` takes ten seeds.

    Expected: every norm ends near 98% test accuracy, batch norm among the fastest. The accuracy of
    batch norm with running statistics (eval mode) equals that with batch statistics (train mode)
    within a percent or two.

    Attributes:
        dataset: Name of a data set that is in memory.
        norms: Names of the norms.
        seeds: Each gives an initialization and an order of the data.
        stages: Widths of the convolutions of each stage.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        learning_rate: Learning rate of SGD with momentum 0.9.
    """

    dataset: str = "digits"
    norms: tuple[str, ...] = tuple(NORMS)
    seeds: tuple[int, ...] = (0, 1, 2)
    stages: tuple[tuple[int, ...], ...] = ((16,), (32,))
    epochs: int = 6
    batch_size: int = 64
    learning_rate: float = 0.05


PRESETS = {
    "smoke": Config(norms=("none", "batch", "layer"), seeds=(0,), epochs=2),
    "default": Config(),
    "paper": Config(seeds=tuple(range(10)), epochs=12),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train every norm with every seed; the table `curves` has a row per epoch."""
    run.hosts.check_batch(config.batch_size)
    data = run.dataset(config.dataset)
    images, test = run.hosts.everywhere((_on_device(data, "train"), _on_device(data, "test")))
    seconds = {}
    for norm in config.norms:
        began = time.perf_counter()
        _train_norm(config, run, norm, images, test)
        seconds[norm] = round(time.perf_counter() - began, 1)
    table = read_table(run.table("curves"))
    results = {norm: {**_final(table, norm), "seconds": seconds[norm]} for norm in config.norms}
    run.console.print(_printed(results))
    return {"chance": 1 / len(data.classes), "epochs": config.epochs, "norms": results}


def _train_norm(config: Config, run: Run, norm: str, images: Batch, test: Batch) -> None:
    """Train one norm's network, compiled once, with all seeds."""
    model = CNN(num_outputs=10, stages=config.stages, features=(), norm=NORMS[norm])
    tx = optax.sgd(config.learning_rate, momentum=0.9)

    def inputs(batch: Batch) -> jax.Array:
        return run.hosts.shared(batch["inputs"])

    def fresh(key: jax.Array) -> TrainState:
        return create_train_state(model, key, images["inputs"][:1], tx)

    start = jax.jit(fresh, out_shardings=run.hosts.whole)
    step = make_train_step(model, tx, cross_entropy, inputs=inputs, donate=False)
    epoch = make_scan_steps(step, batch_size=config.batch_size)
    evaluate = jax.jit(functools.partial(_in_both_modes, model, inputs))

    def measure(point: Point) -> Measured:
        row = {"train_loss": point.metrics["loss"].mean(), **evaluate(point.state, test)}
        return Measured({"curves": [row]}, f"accuracy {row['test_accuracy']:.3f}")

    for seed in config.seeds:
        train(
            run,
            f"{norm}-{seed}",
            lambda seed=seed: start(jax.random.key(seed)),
            lambda state: epoch(state, images),
            measure,
            points=every(1, config.epochs),
            where={"norm": norm, "seed": seed},
        )


def _in_both_modes(
    model: nn.Module, inputs: Callable[[Batch], jax.Array], state: TrainState, batch: Batch
) -> Metrics:
    """Evaluate with running and with batch statistics, and leave the state as it is."""
    x = inputs(batch)
    logits: Any = model.apply(state.variables, x, train=False)
    loss, metrics = cross_entropy(logits, batch)
    own, _ = model.apply(state.variables, x, train=True, mutable=["batch_stats"])
    return {
        "test_loss": loss,
        "test_accuracy": metrics["accuracy"],
        "test_accuracy_train_mode": cross_entropy(own, batch)[1]["accuracy"],
    }


def _on_device(data: Dataset, split: str) -> Batch:
    images, labels = getattr(data, f"{split}_images"), getattr(data, f"{split}_labels")
    inputs = jnp.asarray(images, jnp.float32) / data.white
    return {"inputs": inputs, "labels": jnp.asarray(labels)}


def _final(table: dict[str, np.ndarray], norm: str) -> dict[str, float]:
    """Return the means over seeds at the last epoch, and the spread of the test accuracy."""
    rows = last_rows(table, norm=norm)
    columns = [name for name in table if name.startswith(("train_", "test_"))]
    means = {name: round(float(rows[name].mean()), 5) for name in columns}
    return {**means, "test_accuracy_spread": round(float(np.ptp(rows["test_accuracy"])), 5)}


def _printed(results: dict[str, dict[str, float]]) -> Table:
    printed = Table(title="test images after the last epoch, means over seeds")
    columns = ("norm", "train loss", "test loss", "accuracy", "in train mode", "seconds")
    for column in columns:
        printed.add_column(column, justify="left" if column == "norm" else "right")
    for norm, row in results.items():
        printed.add_row(
            norm,
            f"{row['train_loss']:.4f}",
            f"{row['test_loss']:.4f}",
            f"{row['test_accuracy']:.1%} (seeds apart by {row['test_accuracy_spread']:.1%})",
            f"{row['test_accuracy_train_mode']:.1%}",
            f"{row['seconds']:.1f}",
        )
    return printed


def figures(folder: Path) -> list[Path]:
    """Draw loss and accuracy against epochs, and the final accuracy in both modes."""
    table = read_table(folder / "curves.csv")
    figure = new_figure(11, 3.6)
    loss, accuracy, modes = subplots(figure, 1, 3)[0]
    draw_curves(loss, table, y="train_loss", by="norm")
    loss.set(yscale="log", xlabel="epoch", ylabel="training loss (nats)")
    log_axis(loss.yaxis)
    draw_curves(accuracy, table, y="test_accuracy", by="norm")
    accuracy.set(xlabel="epoch", ylabel="test accuracy", ylim=(None, 1.0))
    _draw_modes(modes, table)
    legend(figure, loss)
    return [save(figure, folder / "quickstart.png")]


def _draw_modes(axes: Any, table: dict[str, np.ndarray]) -> None:
    last = last_rows(table)
    norms = ordered(last["norm"])
    columns = {"test_accuracy": "eval mode", "test_accuracy_train_mode": "train mode"}
    for offset, (column, label) in zip((-0.15, 0.15), columns.items(), strict=True):
        marker = "o" if column == "test_accuracy" else "D"
        for position, norm in enumerate(norms):
            values = select(last, norm=norm)[column]
            colour = style(norm, position)["color"]
            at = np.full(len(values), position + offset)
            shown = label if position == 0 else None
            fill = colour if marker == "o" else "none"
            axes.plot(at, values, marker, color=colour, mfc=fill, ls="none", label=shown)
    axes.set_xticks(range(len(norms)), norms, fontsize=8.5)
    axes.set_ylabel("final test accuracy")
    legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which expectations the numbers show."""
    norms = results["norms"]
    lowest = min(row["test_accuracy"] for row in norms.values())
    claimed = {"every network learns the digits": lowest > 0.9}
    if "batch" in norms:
        claim = "batch norm classifies alike with running and with batch statistics"
        claimed[claim] = abs(_gap(norms["batch"])) < 0.02
    return claimed


def _gap(row: dict[str, float]) -> float:
    return row["test_accuracy"] - row["test_accuracy_train_mode"]


def summary(results: dict[str, Any]) -> list[str]:
    """Say the final test accuracy of each norm, and the gap between the two modes."""
    norms = results["norms"]
    accuracies = ", ".join(f"{name} {row['test_accuracy']:.1%}" for name, row in norms.items())
    losses = ", ".join(f"{name} {row['train_loss']:.3f}" for name, row in norms.items())
    apart = max(norms, key=lambda name: abs(_gap(norms[name])))
    return [
        f"Test accuracy after {results['epochs']} epochs: {accuracies}.",
        f"Training loss after these epochs: {losses} nats.",
        "The test accuracies in eval and train mode differ by at most "
        f"{abs(_gap(norms[apart])):.1%} ({apart} norm).",
    ]
