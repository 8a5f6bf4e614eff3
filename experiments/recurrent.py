"""An LSTM that reads images a few pixels at a time, without a norm and with two norms.

The norms are layer norm and batch norm. The statistics of batch norm are kept for each time step,
or shared over time.
"""

import dataclasses
import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import tree_map_with_path

from jaxnorm.linen import BatchNorm, LayerNorm
from jaxnorm.models import LSTM, NormFactory
from jaxnorm.training import TrainState

from ._figures import BAND, COLOURS, draw_curves, fill, legend, new_figure, save, subplots
from ._run import Run
from ._seeds import mean, over_seeds, sentence
from ._sweep import Data, Group, Hyper, make_sweep, on_device
from ._tables import Row, ordered, read_table, select
from ._trainer import Measured, Point, every
from .data import Dataset

ORDERS = {"sequential": "pixels in order", "permuted": "pixels permuted"}
PER_STEP, SHARED = "batch, per step", "batch, shared"
PLACES = {
    "norm_input": "of the input, W_x x",
    "norm_hidden": "of the hidden state, W_h h",
    "norm_cell": "of the cell, c",
}
_QUANTILES = (10, 50, 90)
# Cooijmans et al. (2016), table 1: test accuracy with 784 steps, without and with batch norm.
PUBLISHED = {"sequential": (0.989, 0.990), "permuted": (0.902, 0.954)}


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains an LSTM that sees an image as a sequence of pixels and names the digit at the end.

    Command: `python -m experiments recurrent`. It shrinks MNIST to 14 x 14 pixels and reads them in
    28 steps of 7. `--preset paper` reads 784 steps and needs an accelerator.

    Expected: batch norm with statistics for each step learns in fewer epochs than no norm, above
    all on permuted pixels (the paper: 90.2% without, 95.4% with). Sharing the running statistics
    over time does not change training, since every step of a batch is normalized with its own
    statistics. In evaluation, shared statistics lose most of the accuracy.

    In the kept run of the default preset, shared statistics lose accuracy but keep most of it. See
    docs/ledger.md.

    Attributes:
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are used, from the first on.
        test_examples: How many test images are used, from the first on.
        shrink: Side of the blocks of pixels that are averaged first.
        pixels_per_step: How many pixels a step reads. Of a single pixel, layer norm keeps only the
            sign.
        noise: Standard deviation of the Gaussian noise on the pixels, where white is one. Many
            steps are black in every image. Without noise their variance is zero, and layer and
            batch norm divide by nearly zero in their gradients.
        orders: "sequential" reads pixels row by row, "permuted" in one fixed random order.
        seeds: Each gives an initialization and an order of the data.
        features: Width of the LSTM.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        learning_rate: Learning rate of Adam. Gradients are clipped to a norm of 1.
        decay: Weight of the old running statistics.
    """

    dataset: str = "mnist"
    train_examples: int = 6000
    test_examples: int = 2000
    shrink: int = 2
    pixels_per_step: int = 7
    noise: float = 0.1
    orders: tuple[str, ...] = tuple(ORDERS)
    seeds: tuple[int, ...] = (0, 1, 2)
    features: int = 64
    epochs: int = 10
    batch_size: int = 100
    learning_rate: float = 3e-3
    decay: float = 0.9


PRESETS = {
    "smoke": Config(
        dataset="digits",
        test_examples=360,
        shrink=1,
        pixels_per_step=4,
        orders=("sequential",),
        features=32,
        epochs=20,
        batch_size=50,
    ),
    "default": Config(),
    "paper": Config(
        train_examples=60_000,
        test_examples=10_000,
        shrink=1,
        pixels_per_step=1,
        features=100,
        epochs=100,
        learning_rate=1e-3,
    ),
}


class Reader(nn.Module):
    """Reads the pixels [N, P] of images in steps, and returns logits [N, 10] after the last."""

    features: int
    pixels_per_step: int
    norm: NormFactory | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = x.reshape(len(x), -1, self.pixels_per_step)
        lstm = LSTM(self.features, norm=self.norm, stats_steps=x.shape[1], name="lstm")
        return nn.Dense(10, name="output")(lstm(x, train=train)[:, -1])


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train every norm in every order.

    The table `curves` has a row per epoch, seed and kind of statistics. The tables `statistics` and
    `spread` say how statistics move over time. The table `shared` says what sharing them costs.
    """
    data = run.dataset(config.dataset).head(config.train_examples, config.test_examples)
    for order in config.orders:
        train, test = (_sequences(data, split, config, order) for split in ("train", "test"))
        for norm in ("none", "layer", "batch"):
            build = functools.partial(_build, config, norm)
            steps = len(train["labels"]) // config.batch_size
            sweep = make_sweep(build, train, batch_size=config.batch_size, steps=steps)
            hyper = {"learning_rate": config.learning_rate}
            group = Group(f"{order}-{norm}", sweep, config.seeds, hyper=hyper)
            group.train(
                run,
                functools.partial(_measure, config, group, test),
                points=every(steps, config.epochs, start=True),
            )
    return _results(run.folder, config)


def _build(config: Config, norm: str, hyper: Hyper) -> tuple[Reader, optax.GradientTransformation]:
    small = nn.initializers.constant(0.1)  # Cooijmans et al., section 4
    norms: dict[str, NormFactory | None] = {
        "none": None,
        "layer": LayerNorm,
        "batch": functools.partial(BatchNorm, momentum=config.decay, scale_init=small),
    }
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(hyper["learning_rate"]))
    return Reader(config.features, config.pixels_per_step, norms[norm]), tx


def _sequences(data: Dataset, split: str, config: Config, order: str) -> Data:
    """Return images as rows of pixels in the order in which they are read."""
    images = getattr(data, f"{split}_images")
    n, h, w, _ = images.shape
    by = config.shrink
    blocks = images[..., 0].reshape(n, h // by, by, w // by, by).mean((2, 4))
    pixels = blocks.reshape(n, -1)
    seed = ("train", "test").index(split)
    noise = np.random.default_rng(seed).standard_normal(pixels.shape, np.float32)
    pixels = pixels + config.noise * data.white * noise
    if order == "permuted":
        pixels = pixels[:, np.random.default_rng(2).permutation(pixels.shape[1])]
    return on_device(pixels, getattr(data, f"{split}_labels"), data.white)


def _measure(config: Config, group: Group, test: Data, point: Point) -> Measured:
    order, norm = group.name.split("-")
    epoch = point.step // group.sweep.steps
    kinds = {norm: point.state}
    if norm == "batch":
        kinds = {PER_STEP: point.state, SHARED: with_statistics(point.state, 1)}
    curves: list[Row] = []
    for name, states in kinds.items():
        measured = group.evaluate(states, test)
        columns = {
            "train_loss": point.metrics.get("loss", np.full_like(measured["loss"], np.nan)),
            "test_loss": measured["loss"],
            "test_accuracy": measured["accuracy"],
        }
        own = {"order": order, "norm": name, "epoch": epoch}
        curves += [{**own, **row} for row in group.rows(**columns)]
    tables = {"curves": curves}
    if norm == "batch" and epoch == config.epochs:
        tables |= _statistics(group, point.state)
        tables["shared"] = _shared(group, order, point.state, test)
    shown = {
        f"{column}/{row['norm']}/seed{row['seed']}": row[column]
        for row in curves
        for column in ("test_loss", "test_accuracy")
    }
    accuracy = mean([row["test_accuracy"] for row in curves[: len(group.seeds)]], ".3f")
    return Measured(tables, f"accuracy {accuracy}", shown)


def with_statistics(
    states: TrainState, kept: int, places: Collection[str] = tuple(PLACES)
) -> TrainState:
    """Return states in which only the first `kept` steps have statistics of their own.

    The last of these statistics serves all later steps, and is the mean over them. An LSTM with
    `stats_steps=kept` has the same states, since training does not depend on `stats_steps`.

    Args:
        states: of groups [S, T] of networks, statistics [S, T, steps, features].
        kept: how many steps, at least 1. One set is then shared over time.
        places: names of the norms whose statistics are changed.
    """

    def cut(path: Any, leaf: jax.Array) -> jax.Array:
        if not any(entry.key in places for entry in path):
            return leaf
        own, later = leaf[:, :, : kept - 1], leaf[:, :, kept - 1 :]
        shared = jnp.broadcast_to(later.mean(2, keepdims=True), later.shape)
        return jnp.concatenate([own, shared], 2)

    return states._replace(batch_stats=tree_map_with_path(cut, states.batch_stats))


def _statistics(group: Group, states: TrainState) -> dict[str, list[Row]]:
    """Return the mean and the deviation at each step, of one unit and of quantiles over units."""
    cell: Any = jax.tree.map(lambda leaf: np.asarray(leaf[:, 0]), states.batch_stats)
    tables: dict[str, list[Row]] = {"statistics": [], "spread": []}
    for place in PLACES:
        stats = cell["lstm"]["cell"][place]
        means, deviations = stats["mean"], np.sqrt(stats["var"])  # [S, steps, units]
        for i, seed in enumerate(group.seeds):
            own = {"place": place, "seed": seed}
            tables["statistics"] += [
                {
                    **own,
                    "time": time,
                    "unit_mean": mean[0],
                    "unit_deviation": deviation[0],
                    **_quantiles("mean", mean),
                    **_quantiles("deviation", deviation),
                }
                for time, (mean, deviation) in enumerate(zip(means[i], deviations[i], strict=True))
            ]
            spread = {
                "mean_spread": np.median(_mean_spread(means[i], deviations[i])),
                "deviation_ratio": np.median(_deviation_ratio(deviations[i])),
            }
            tables["spread"].append({**own, **spread})
    return tables


def _quantiles(name: str, values: np.ndarray) -> dict[str, float]:
    return {f"{name}_p{q}": float(np.percentile(values, q)) for q in _QUANTILES}


def _mean_spread(means: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Return for each unit how far its mean moves over time, in standard deviations of a step."""
    return means.std(0) / np.sqrt(np.mean(deviations**2, 0))


def _deviation_ratio(deviations: np.ndarray) -> np.ndarray:
    """Return each unit's ninth over first decile of its standard deviation over time."""
    low, high = np.percentile(deviations, (10, 90), axis=0)
    return high / np.maximum(low, np.finfo(np.float32).tiny)


def _shared(group: Group, order: str, states: TrainState, test: Data) -> list[Row]:
    """Return the accuracy by the number of steps with own statistics, and by the place."""
    steps = jax.tree.leaves(states.batch_stats)[0].shape[2]
    counts = [2**i for i in range(steps.bit_length()) if 2**i < steps]
    cases = [("all", tuple(PLACES), kept) for kept in [*counts, steps]]
    cases += [(place, (place,), 1) for place in PLACES]
    rows: list[Row] = []
    for name, places, kept in cases:
        accuracy = group.evaluate(with_statistics(states, kept, places), test)["accuracy"]
        own = {"order": order, "places": name, "kept": kept}
        rows += [{**own, **row} for row in group.rows(test_accuracy=accuracy)]
    return rows


def _results(folder: Path, config: Config) -> dict[str, Any]:
    curves, spread, shared = (
        read_table(folder / f"{name}.csv") for name in ("curves", "spread", "shared")
    )
    steps = len(np.unique(read_table(folder / "statistics.csv")["time"]))
    results: dict[str, Any] = {"epochs": config.epochs, "steps": steps, "orders": {}}
    for order in config.orders:
        rows, half = select(curves, order=order), float(config.epochs // 2)
        results["orders"][order] = {
            "test_accuracy": _by_norm(select(rows, epoch=float(config.epochs))),
            "test_accuracy_half_way": _by_norm(select(rows, epoch=half)),
            "spread": {
                place: {
                    name: select(spread, group=f"{order}-batch", place=place)[name].tolist()
                    for name in ("mean_spread", "deviation_ratio")
                }
                for place in PLACES
            },
            "test_accuracy_shared_in": {
                place: select(shared, order=order, places=place)["test_accuracy"].tolist()
                for place in PLACES
            },
        }
    return results


def _by_norm(rows: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {
        norm: select(rows, norm=norm)["test_accuracy"].tolist() for norm in ordered(rows["norm"])
    }


def figures(folder: Path) -> list[Path]:
    """Draw accuracy against epochs, and the statistics of a unit over time."""
    curves = read_table(folder / "curves.csv")
    orders = ordered(curves["order"])
    return [
        _draw_accuracy(folder, curves, orders),
        *(_draw_statistics(folder, order) for order in orders),
    ]


def _draw_accuracy(folder: Path, curves: dict[str, np.ndarray], orders: list[str]) -> Path:
    kept = select(read_table(folder / "shared.csv"), places="all")
    figure = new_figure(3.6 * (len(orders) + 1), 3.6)
    *panels, shared = subplots(figure, 1, len(orders) + 1)[0]
    for axes, order in zip(panels, orders, strict=True):
        draw_curves(axes, select(curves, order=order), x="epoch", y="test_accuracy", by="norm")
        axes.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1), title=ORDERS[order])
    draw_curves(shared, kept, x="kept", y="test_accuracy", by="order", labels=ORDERS)
    shared.set(xscale="log", ylim=(0, 1), ylabel="test accuracy after training")
    counts = np.unique(kept["kept"])
    told = [*counts[:-1][counts[:-1] <= counts[-1] / 1.7], counts[-1]]  # no two that overlap
    shared.set_xticks(told, [f"{count:.0f}" for count in told])
    shared.minorticks_off()
    shared.set(xlabel="steps with statistics of their own", title="batch norm")
    legend(shared, loc="lower right", fontsize=9)
    legend(figure, panels[0])
    return save(figure, folder / "accuracy.png")


def _draw_statistics(folder: Path, order: str) -> Path:
    rows = select(read_table(folder / "statistics.csv"), group=f"{order}-batch")
    rows = select(rows, seed=float(rows["seed"].min()))
    figure = new_figure(11, 5.6)
    grid = subplots(figure, 2, len(PLACES), sharex=True)
    for column, (place, words) in enumerate(PLACES.items()):
        one = select(rows, place=place)
        for axes, name in zip(grid[:, column], ("mean", "deviation"), strict=True):
            low, middle, high = (one[f"{name}_p{q}"] for q in _QUANTILES)
            fill(axes, one["time"], low, high, color=COLOURS[0])
            axes.plot(one["time"], middle, color=COLOURS[0], label="median unit")
            axes.plot(
                one["time"], one[f"unit_{name}"], color=COLOURS[1], ls=(0, (5, 1.5)), label="unit 0"
            )
        grid[0, column].set_title(words, fontsize=10)
        grid[1, column].set_xlabel("time step")
    grid[0, 0].set_ylabel("running mean")
    grid[1, 0].set_ylabel("running standard deviation")
    legend(figure, grid[0, 0], labels={BAND: "units from decile 1 to 9"})
    return save(figure, folder / f"statistics_{order}.png")


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the papers' claims the numbers show."""
    orders = results["orders"]
    ends, half = (
        {
            order: {norm: np.mean(v) for norm, v in measured[when].items()}
            for order, measured in orders.items()
        }
        for when in ("test_accuracy", "test_accuracy_half_way")
    )
    gain = {order: by[PER_STEP] - by["none"] for order, by in ends.items()}
    permuted = {
        "batch norm gains most on permuted pixels": gain.get("permuted") == max(gain.values())
    }
    return {
        "batch norm with statistics per time step learns faster": all(
            by[PER_STEP] > by["none"] for by in half.values()
        ),
        "batch norm with statistics per time step ends more accurate": min(gain.values()) > 0,
        **(permuted if len(gain) > 1 else {}),
        "statistics shared over time lose accuracy in evaluation": all(
            by[SHARED] < by[PER_STEP] for by in ends.values()
        ),
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say the accuracies, the cost of sharing statistics, and how far they move over time."""
    sentences = []
    for order, measured in results["orders"].items():
        pixels, epochs = sentence(ORDERS[order]), results["epochs"]
        for when, count in (("test_accuracy", epochs), ("test_accuracy_half_way", epochs // 2)):
            by_norm = "; ".join(
                f"{norm} {over_seeds(values, '.1%', of='')}"
                for norm, values in measured[when].items()
            )
            sentences.append(
                f"{pixels}, {results['steps']} steps, test accuracy after {count} epochs, mean and "
                f"range over seeds: {by_norm}."
            )
        spread, alone = measured["spread"], measured["test_accuracy_shared_in"]
        moved = "; ".join(
            f"{words} {mean(spread[place]['mean_spread'], '.2f')} and "
            f"{mean(spread[place]['deviation_ratio'], '.1f')}"
            for place, words in PLACES.items()
        )
        cost = ", ".join(f"{words} {mean(alone[place], '.1%')}" for place, words in PLACES.items())
        sentences += [
            f"{pixels}: how far a unit's running mean moves over time (in standard deviations of a "
            "step), and by which factor its standard deviation does (first to ninth decile over "
            f"time), median unit: {moved}.",
            f"{pixels}: test accuracy where only these statistics are shared over time: {cost}.",
        ]
    published = "; ".join(
        f"{order} {none:.1%} without and {batch:.1%} with batch norm"
        for order, (none, batch) in PUBLISHED.items()
    )
    return [*sentences, f"Published with 784 steps (Cooijmans et al., 2016): {published}."]
