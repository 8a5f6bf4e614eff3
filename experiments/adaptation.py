"""Batch norm adapted to corrupted test images without labels: statistics, then scale and bias."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnorm.linen import BatchNorm
from jaxnorm.models import CNN
from jaxnorm.surgery import adapt_statistics, tent
from jaxnorm.training import create_train_state, cross_entropy, make_scan_steps, make_train_step

from ._figures import COLOURS, band, legend, new_figure, save, subplots
from ._run import Run
from ._tables import Row, ordered, read_table, select
from ._trainer import Measured, Point, train

Variables = dict[str, Any]
Images = jax.Array
"""[N, H, W, 1], from 0 to 1 if they are clean."""

SOURCE, TARGET, MIXTURE, TENT = "source", "target", "mixture", "tent"


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains on clean digits, then meets corrupted ones with four kinds of adaptation.

    Command: `python -m experiments adaptation`. It needs no data directory: the digits are
    scikit-learn's. `--preset paper` takes ten seeds.

    The statistics are those of the source, those of n images of the target (Nado et al. 2020,
    arXiv:2006.10963), and their mixture, in which the source counts as 16 images (Schneider et al.
    2020, arXiv:2006.16971). Tent (Wang et al. 2021, arXiv:2006.10726) starts from the statistics of
    each batch and moves scales and biases down the entropy of the predictions.

    Expected: statistics of many images of the target recover most of the accuracy that a corruption
    costs. On clean images, those of few images lose accuracy, and the mixture loses none. On
    corrupted images the statistics of a single one, over its 64 and 16 positions, are far better
    than those of the source, of which the mixture keeps too much. Tent adds a little to the
    statistics of the target.

    Attributes:
        dataset: Name of a data set that is in memory.
        seeds: Each gives an initialization, an order of the data and the noise of a corruption.
        stages: Widths of the convolutions of each stage.
        epochs: Passes over the clean training images.
        batch_size: Images in a training step.
        learning_rate: Learning rate of SGD with momentum 0.9.
        examples: How many images of the target are there at once, divisors of the test images used.
        test_examples: How many test images are used, from the first on.
        prior_count: As how many images the source counts in the mixture.
        tent_examples: Images in a step of Tent.
        tent_epochs: Passes of Tent over the test images.
        tent_learning_rate: Learning rate of Adam in Tent.
    """

    dataset: str = "digits"
    seeds: tuple[int, ...] = (0, 1, 2)
    stages: tuple[tuple[int, ...], ...] = ((16,), (32,))
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.05
    examples: tuple[int, ...] = (1, 4, 12, 60, 360)
    test_examples: int = 360
    prior_count: float = 16.0
    tent_examples: int = 60
    tent_epochs: int = 5
    tent_learning_rate: float = 1e-2


PRESETS = {
    "smoke": Config(seeds=(0,), epochs=4, examples=(1, 360), tent_epochs=1),
    "default": Config(),
    "paper": Config(seeds=tuple(range(10))),
}


def clean(images: Images, key: jax.Array) -> Images:
    """Return the images as they are."""
    return images


def noise(images: Images, key: jax.Array) -> Images:
    """Return the images with normal noise of standard deviation 0.4."""
    return images + 0.4 * jax.random.normal(key, images.shape)


def contrast(images: Images, key: jax.Array) -> Images:
    """Return the images with a quarter of the contrast."""
    return 0.5 + 0.25 * (images - 0.5)


def fog(images: Images, key: jax.Array) -> Images:
    """Return the images behind a bright veil, which leaves the half of them."""
    return 0.5 * images + 0.5


def blur(images: Images, key: jax.Array) -> Images:
    """Return the means over 3 by 3 pixels."""
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.mean(jnp.stack(shifted), axis=0)


CORRUPTIONS: dict[str, Callable[[Images, jax.Array], Images]] = {
    "clean": clean,
    "noise": noise,
    "contrast": contrast,
    "fog": fog,
    "blur": blur,
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train one network per seed; the table `accuracy` has a row per corruption and method."""
    data = run.dataset(config.dataset)
    images = jnp.asarray(data.test_images[: config.test_examples], jnp.float32) / data.white
    labels = jnp.asarray(data.test_labels[: config.test_examples])
    source = {
        "inputs": jnp.asarray(data.train_images, jnp.float32) / data.white,
        "labels": jnp.asarray(data.train_labels),
    }
    model, tx = _model(config), optax.sgd(config.learning_rate, momentum=0.9)
    start = jax.jit(lambda key: create_train_state(model, key, source["inputs"][:1], tx))
    step = make_train_step(model, tx, cross_entropy, donate=False)
    epoch = make_scan_steps(step, batch_size=config.batch_size)
    adapted = _Adapted(config)
    for seed in config.seeds:

        def measure(point: Point, seed: int = seed) -> Measured:
            rows: list[Row] = []
            for name, corrupt in CORRUPTIONS.items():
                corrupted = corrupt(images, jax.random.key(seed))
                methods = adapted(point.state.variables, corrupted, labels)
                rows += [{"corruption": name, **row} for row in methods]
            shown = {f"{row['corruption']}/{row['method']}": row["accuracy"] for row in rows}
            return Measured({"accuracy": rows}, f"clean {rows[0]['accuracy']:.3f}", shown)

        train(
            run,
            f"source-{seed}",
            lambda seed=seed: start(jax.random.key(seed)),
            lambda state: epoch(state, source),
            measure,
            points=[config.epochs],
            where={"seed": seed},
        )
    return _results(run.folder, config)


def _model(config: Config) -> CNN:
    norm = functools.partial(BatchNorm, momentum=0.9)
    return CNN(num_outputs=10, stages=config.stages, features=(), norm=norm)


class _Adapted:
    """The accuracy of a trained network with each kind of adaptation, compiled once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.model = _model(config)
        self.apply = functools.partial(self.model.apply, train=True)
        self.predict = jax.jit(self.model.apply)
        self.by_parts = jax.jit(self._by_parts, static_argnums=(2, 3))
        self.steps = tent(self.apply, optax.adam(config.tent_learning_rate))
        self.tent_epoch = jax.jit(self._tent_epoch)

    def __call__(self, variables: Variables, images: Images, labels: jax.Array) -> list[Row]:
        """Return a row per method and number of images."""

        def row(method: str, examples: int, logits: jax.Array) -> Row:
            right = jnp.mean(jnp.argmax(logits, axis=-1) == labels)
            return {"method": method, "examples": examples, "accuracy": float(right)}

        rows = [row(SOURCE, 0, self.predict(variables, images))]
        for method, prior in ((TARGET, 0.0), (MIXTURE, self.config.prior_count)):
            for n in self.config.examples:
                rows.append(row(method, n, self.by_parts(variables, images, n, prior)))
        rows.append(row(TENT, self.config.tent_examples, self._tent(variables, images)))
        return rows

    def _by_parts(self, variables: Variables, images: Images, n: int, prior: float) -> jax.Array:
        """Return the logits of n images at a time, with statistics of these n."""

        def one(part: Images) -> jax.Array:
            new = adapt_statistics(self.apply, variables, [part], prior_count=prior)
            return self.model.apply(new, part)  # type: ignore[reportReturnType]  # of the CNN

        parts = images.reshape(-1, n, *images.shape[1:])
        return jax.lax.map(one, parts).reshape(len(images), -1)

    def _tent(self, variables: Variables, images: Images) -> jax.Array:
        """Return the logits of the last pass, each from before the step on its own batch."""
        state = (variables, self.steps.init(variables))
        logits = None
        for _ in range(self.config.tent_epochs):
            state, logits = self.tent_epoch(state, images)
        assert logits is not None
        return logits

    def _tent_epoch(self, state: Any, images: Images) -> tuple[Any, jax.Array]:
        def step(state: Any, part: Images) -> tuple[Any, jax.Array]:
            variables, opt_state = state
            done = self.steps.update(variables, opt_state, part)
            return (done.variables, done.opt_state), done.logits

        parts = images.reshape(-1, self.config.tent_examples, *images.shape[1:])
        state, logits = jax.lax.scan(step, state, parts)
        return state, logits.reshape(len(images), -1)


def _results(folder: Path, config: Config) -> dict[str, Any]:
    table = read_table(folder / "accuracy.csv")
    measured: dict[str, Any] = {}
    for corruption in ordered(table["corruption"]):
        rows = select(table, corruption=corruption)
        measured[corruption] = {
            f"{method} {examples:g}": select(rows, method=method, examples=examples)[
                "accuracy"
            ].tolist()
            for method, examples in dict.fromkeys(
                zip(rows["method"].tolist(), rows["examples"].tolist(), strict=True)
            )
        }
    return {
        "examples": config.examples,
        "prior_count": config.prior_count,
        "tent_examples": config.tent_examples,
        "accuracy": measured,
    }


def figures(folder: Path) -> list[Path]:
    """Draw the accuracy against the number of images of the target, a panel per corruption."""
    table = read_table(folder / "accuracy.csv")
    corruptions = ordered(table["corruption"])
    figure = new_figure(1.9 * len(corruptions) + 0.8, 3.2)
    grid = subplots(figure, 1, len(corruptions), sharey=True)[0]
    for axes, corruption in zip(grid, corruptions, strict=True):
        rows = select(table, corruption=corruption)
        for position, method in enumerate((TARGET, MIXTURE)):
            own = select(rows, method=method)
            at = np.unique(own["examples"])
            values = [select(own, examples=n)["accuracy"] for n in at]
            band(axes, at, values, color=COLOURS[position], marker="o", ms=4, label=method)
        source = select(rows, method=SOURCE)["accuracy"].mean()
        axes.axhline(source, color=COLOURS[2], linestyle="--", label=SOURCE)
        steps = select(rows, method=TENT)
        axes.plot(
            steps["examples"][:1], [steps["accuracy"].mean()], "x", color=COLOURS[3], label=TENT
        )
        axes.set(title=corruption, xscale="log", xlabel="images of the target")
    grid[0].set_ylabel("test accuracy")
    legend(figure, grid[0])
    return [save(figure, folder / "adaptation.png")]


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the papers' claims the numbers show."""
    accuracy, examples = results["accuracy"], results["examples"]
    few, many = examples[0], examples[-1]

    def mean(method: str, n: int) -> float:
        """Return the accuracy over all corruptions."""
        return float(np.mean([by[f"{method} {n:g}"] for k, by in accuracy.items() if k != "clean"]))

    lost = float(np.mean(accuracy["clean"][f"{SOURCE} 0"])) - mean(SOURCE, 0)
    return {
        "statistics of many target images recover most of the accuracy that a corruption costs": (
            mean(TARGET, many) - mean(SOURCE, 0) > lost / 2
        ),
        "statistics of few target images need the source as a prior": mean(MIXTURE, few)
        > mean(TARGET, few),
        "Tent adds to the statistics of the target": (
            mean(TENT, results["tent_examples"]) > mean(TARGET, many)
        ),
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say the accuracy of each kind of adaptation for each corruption."""
    few, many = results["examples"][0], results["examples"][-1]
    names = {
        f"{SOURCE} 0": "statistics of the source",
        f"{TARGET} {many:g}": f"of {many} images of the target",
        f"{TARGET} {few:g}": f"of {few} of them",
        f"{MIXTURE} {few:g}": f"of {few}, the source counting as {results['prior_count']:g}",
        f"{TENT} {results['tent_examples']:g}": f"Tent on {results['tent_examples']} at a time",
    }
    measured = results["accuracy"]
    corrupted = [name for name in measured if name != "clean"]
    overall = ", ".join(
        f"{told} {np.mean([measured[name][key] for name in corrupted]):.1%}"
        for key, told in names.items()
    )
    return [
        f"Test accuracy, mean over {len(corrupted)} corruptions: {overall}.",
        *(
            f"{name.capitalize()}: "
            + ", ".join(f"{told} {np.mean(by[key]):.1%}" for key, told in names.items())
            + f" (seeds apart by up to {100 * max(np.ptp(by[key]) for key in names):.1f} points)."
            for name, by in measured.items()
        ),
    ]
