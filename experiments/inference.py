"""Statistics that a trained batch norm can use when examples come one at a time."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnorm
from jaxnorm.diagnostics import statistics_distance
from jaxnorm.linen import BatchNorm
from jaxnorm.models import MLP
from jaxnorm.surgery import average_of_batches, fold_batch_norm, recalibrate
from jaxnorm.training import cross_entropy

from ._figures import COLOURS, DASHES, band, legend, log_axis, new_figure, save, subplots
from ._run import Run
from ._seeds import points
from ._sweep import Data, Group, Hyper, make_sweep, splits
from ._tables import Row, ordered, read_table, select
from ._trainer import Measured, Point

Variables = dict[str, Any]

MOVING, POOLED, ALGORITHM_2, FOLDED = (
    "moving average",
    "population, pooled",
    "algorithm 2",
    "folded",
)
ONE, OWN_BATCH = "one example's statistics", "its batch's statistics"
_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains with moving averages, then evaluates one example at a time with other statistics.

    Command: `python -m experiments inference`. `--preset smoke` takes digits.

    Expected: an example's own statistics give chance, 10%. With one value per feature, every unit
    outputs its bias. Statistics of the population are at least as good as the moving average
    (decay 0.99, Flax's default). After 50 steps they are better by 4 points of test accuracy, since
    the moving average still remembers its start at mean 0 and variance 1. Later they are better by
    a few tenths of a point, since the moving average lags behind the weights. Folding changes
    nothing but rounding.

    Attributes:
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are used, from the first on.
        test_examples: How many test images are used, from the first on.
        seeds: Each gives an initialization and an order of the data.
        features: Widths of the hidden layers.
        decay: Weight of the old value in the moving average.
        learning_rate: Learning rate of plain SGD.
        batch_size: Images in a training step, and in a batch whose statistics are taken.
        points: Training steps after which statistics are compared, multiples of the first.
        windows: How many of the last batches are averaged.
        batches: Batches that population statistics are taken from.
        reference_batches: Further batches that stand for the population.
    """

    dataset: str = "mnist"
    train_examples: int = 60000
    test_examples: int = 10000
    seeds: tuple[int, ...] = (0, 1, 2)
    features: tuple[int, ...] = (100, 100)
    decay: float = 0.99
    learning_rate: float = 0.1
    batch_size: int = 60
    points: tuple[int, ...] = (50, 100, 200, 400, 800, 1600)
    windows: tuple[int, ...] = (10, 100)
    batches: int = 200
    reference_batches: int = 300


PRESETS = {
    "smoke": Config(
        dataset="digits",
        test_examples=360,
        points=(20, 40, 160),
        batch_size=40,
        windows=(5,),
        batches=10,
        reference_batches=20,
    ),
    "default": Config(),
    "paper": Config(seeds=tuple(range(5)), points=(50, 100, 200, 400, 800, 1600, 6400, 25600)),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train all seeds at once, and compare the statistics at the points."""
    data = run.dataset(config.dataset)
    train, test = splits(data, config.train_examples, config.test_examples)
    build = functools.partial(_build, config)
    sweep = make_sweep(build, train, batch_size=config.batch_size, steps=config.points[0])
    group = Group("batch", sweep, config.seeds)
    compared = _Compared(config, train, test)

    def measure(point: Point) -> Measured:
        of_seeds = jax.tree.map(
            lambda leaf: leaf[:, 0], (point.state.params, point.state.batch_stats)
        )
        rows: list[Row] = []
        for index, seed in enumerate(config.seeds):
            params, stats = jax.tree.map(lambda leaf, i=index: leaf[i], of_seeds)
            methods = compared({"params": params, "batch_stats": stats})
            rows += [{"seed": seed, **row} for row in methods]
        accuracy = {f"{row['method']}/seed{row['seed']}": row["accuracy"] for row in rows}
        loss = f"loss {float(point.metrics['loss'].mean()):.3g}"
        return Measured({"methods": rows}, loss, accuracy)

    group.train(run, measure, points=config.points)
    return _results(run.folder, config)


def _build(config: Config, hyper: Hyper) -> tuple[MLP, optax.GradientTransformation]:
    return _model(config), optax.sgd(config.learning_rate)


def _model(config: Config) -> MLP:
    return MLP(config.features, 10, norm=functools.partial(BatchNorm, momentum=config.decay))


class _Compared:
    """Accuracy and loss of one network with every kind of statistics, compiled once."""

    def __init__(self, config: Config, train: Data, test: Data) -> None:
        self._config = config
        self._test = test
        self._model = _model(config)
        self._bare = self._model.clone(norm=None)
        self._apply = functools.partial(self._model.apply, train=True)
        rows = np.random.default_rng(0).permutation(len(train["labels"]))
        total = config.batches + config.reference_batches
        rows = rows[: total * config.batch_size].reshape(total, config.batch_size)
        self._batches = [train["inputs"][chosen] for chosen in rows[: config.batches]]
        self._reference = [train["inputs"][chosen] for chosen in rows[config.batches :]]
        self._estimators = {
            **{f"last {n} batches": jaxnorm.window(n) for n in config.windows},
            ALGORITHM_2: average_of_batches(),
            POOLED: jaxnorm.cumulative(),
        }
        self._one_at_a_time = jax.jit(_one_at_a_time(self._model))
        self._folded_one_at_a_time = jax.jit(_one_at_a_time(self._bare))
        # Flax's layer: ours takes the running statistics where a feature has one value.
        self._own_statistics = jax.jit(_own_statistics(self._model.clone(norm=nn.BatchNorm)))
        self._in_batches = jax.jit(_in_batches(self._model, config.batch_size))

    def __call__(self, variables: Variables) -> list[Row]:
        """Return a row per kind of statistics."""
        images = self._test["inputs"]
        truth = recalibrate(self._apply, variables, self._reference)
        kinds = {MOVING: variables}
        for name, estimator in self._estimators.items():
            last = self._config.batches
            if name.startswith("last"):
                last = int(name.split()[1])
            batches = self._batches[-last:]
            kinds[name] = recalibrate(self._apply, variables, batches, estimator=estimator)
        rows = [
            self._row(name, self._one_at_a_time(kind, images), kind, truth)
            for name, kind in kinds.items()
        ]
        folding = fold_batch_norm(self._model, kinds[POOLED], images[:1], remove=True)
        folded = self._folded_one_at_a_time(folding.variables, images)
        return [
            self._row(ONE, self._own_statistics(variables, images), None, truth),
            self._row(OWN_BATCH, self._in_batches(variables, images), None, truth),
            *rows,
            self._row(FOLDED, folded, None, truth)
            | {"apart": _largest_difference(folded, self._one_at_a_time(kinds[POOLED], images))},
        ]

    def _row(
        self, name: str, logits: jax.Array, kind: Variables | None, truth: Variables
    ) -> dict[str, Any]:
        loss, metrics = cross_entropy(logits, {"labels": self._test["labels"][: len(logits)]})
        shift = log_ratio = np.nan
        if kind is not None:
            layers = statistics_distance(
                kind["batch_stats"], truth["batch_stats"], epsilon=_EPSILON
            ).values()
            shift = max(float(layer.shift) for layer in layers)
            log_ratio = max(float(layer.log_ratio) for layer in layers)
        return {
            "method": name,
            "accuracy": metrics["accuracy"],
            "loss": loss,
            "shift": shift,
            "log_ratio": log_ratio,
            "apart": np.nan,
        }


def _one_at_a_time(model: MLP) -> Any:
    def predict(variables: Variables, images: jax.Array) -> jax.Array:
        return jax.vmap(lambda image: model.apply(variables, image[None])[0])(images)

    return predict


def _own_statistics(model: MLP) -> Any:
    def one(variables: Variables, image: jax.Array) -> jax.Array:
        y, _ = model.apply(variables, image[None], train=True, mutable=["batch_stats"])
        return y[0]

    return jax.vmap(one, in_axes=(None, 0))


def _in_batches(model: MLP, size: int) -> Any:
    def one(variables: Variables, images: jax.Array) -> jax.Array:
        return model.apply(variables, images, train=True, mutable=["batch_stats"])[0]

    def predict(variables: Variables, images: jax.Array) -> jax.Array:
        whole = images[: len(images) // size * size].reshape(-1, size, images.shape[1])
        return jax.vmap(one, in_axes=(None, 0))(variables, whole).reshape(-1, 10)

    return predict


def _largest_difference(one: jax.Array, other: jax.Array) -> float:
    return float(jnp.max(jnp.abs(one - other)) / jnp.max(jnp.abs(other)))


def _results(folder: Path, config: Config) -> dict[str, Any]:
    table = read_table(folder / "methods.csv")
    measured = {
        method: {
            str(step): {
                column: select(table, method=method, step=step)[column].tolist()
                for column in ("accuracy", "loss", "shift", "log_ratio", "apart")
            }
            for step in config.points
        }
        for method in ordered(table["method"])
    }
    return {"points": config.points, "decay": config.decay, "methods": measured}


def figures(folder: Path) -> list[Path]:
    """Draw the error, and the distance from the population, against training steps."""
    table = read_table(folder / "methods.csv")
    table["error"] = 100 * (1 - table["accuracy"])
    steps = np.unique(table["step"])
    figure = new_figure(11.5, 4.4)
    panels = subplots(figure, 1, 3)[0]
    for position, method in enumerate(ordered(table["method"])):
        rows = select(table, method=method)
        for panel, column in zip(panels, ("error", "shift", "log_ratio"), strict=True):
            values = np.stack([select(rows, step=step)[column] for step in steps])
            if not np.isnan(values).any():
                _draw_method(panel, method, position, steps, values)
    panels[0].set_ylabel("test error (%)")
    panels[1].set_ylabel("mean: distance from the population\n(standard deviations)")
    panels[2].set_ylabel("variance: distance from the population\n(|ln ratio|)")
    for panel in panels:
        panel.set(xlabel="training step", xscale="log", yscale="log")
        panel.set_xticks(steps, [f"{step:.0f}" for step in steps], fontsize=9)
        panel.minorticks_off()
        log_axis(panel.yaxis)
    legend(figure, panels[0], fontsize=9)
    return [save(figure, folder / "inference.png")]


def _draw_method(
    axes: Any, method: str, position: int, steps: np.ndarray, values: np.ndarray
) -> None:
    """Draw the mean over seeds and the range. "Folded" lies on "pooled", so it is crosses only."""
    marks: dict[str, Any] = (
        {"marker": "x", "ms": 8, "linestyle": "none"}
        if method == FOLDED
        else {"marker": "o", "ms": 3, "linestyle": DASHES[position % len(DASHES)]}
    )
    band(axes, steps, values, label=method, color=COLOURS[position % len(COLOURS)], **marks)


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the paper's claims the numbers show."""
    methods, last = results["methods"], str(results["points"][-1])
    worst = min(gain.min() for gain in _gains(results).values())
    return {
        "the statistics of one example alone fail": np.max(methods[ONE][last]["accuracy"]) < 0.15,
        "population statistics are at least as good as the moving average": worst >= 0,
        "folding into the weights changes nothing but rounding": _apart(results) < 1e-4,
    }


def _gains(results: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the points [S] that population statistics gain on the moving average, by step."""
    methods = results["methods"]
    return {
        step: points(methods[POOLED][step]["accuracy"], methods[MOVING][step]["accuracy"])
        for step in map(str, results["points"])
    }


def _apart(results: dict[str, Any]) -> float:
    folded = results["methods"][FOLDED]
    return max(max(folded[str(step)]["apart"]) for step in results["points"])


def summary(results: dict[str, Any]) -> list[str]:
    """Say the accuracy of each kind of statistics and its distance from the population."""
    methods, steps = results["methods"], [str(step) for step in results["points"]]
    first, last = steps[0], steps[-1]
    gains = _gains(results)
    better = sum(int(np.sum(gain >= 0)) for gain in gains.values())
    compared = sum(gain.size for gain in gains.values())
    accuracies = "; ".join(
        f"{method} {_mean(methods, method, first, 'accuracy'):.1%} and "
        f"{_mean(methods, method, last, 'accuracy'):.1%}"
        for method in methods
    )
    distances = "; ".join(
        f"{method} {_mean(methods, method, last, 'shift'):.4f} and "
        f"{_mean(methods, method, last, 'log_ratio'):.4f}"
        for method in methods
        if methods[method][last]["shift"][0] is not None
        and not np.isnan(methods[method][last]["shift"][0])
    )
    return [
        f"One example's own statistics give {_mean(methods, ONE, last, 'accuracy'):.1%}, chance; "
        f"population statistics {_mean(methods, POOLED, last, 'accuracy'):.1%} and the moving "
        f"average {_mean(methods, MOVING, last, 'accuracy'):.1%} after {last} steps.",
        f"Test accuracy after {first} and after {last} steps, mean over seeds: {accuracies}.",
        f"Population statistics (pooled) minus moving average (decay {results['decay']:g}): "
        + ", ".join(f"{gain.mean():+.1f} points after {p} steps" for p, gain in gains.items())
        + f"; equal or better in {better} of {compared} cases, at worst "
        f"{min(gain.min() for gain in gains.values()):+.1f} points.",
        f"Distance from the population after {last} steps, in the worst layer (mean in standard "
        f"deviations, |ln ratio| of variances): {distances}.",
        f"Folding into the weights changes the logits by at most {_apart(results):.1e} of the "
        "largest.",
    ]


def _mean(methods: dict[str, Any], method: str, point: str, column: str) -> float:
    return float(np.mean(methods[method][point][column]))
