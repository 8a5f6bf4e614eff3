"""The paper's Inception with and without batch norm, at five learning rates and activations."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from matplotlib.lines import Line2D

from jaxnorm import local_response_norm
from jaxnorm.linen import BatchNorm
from jaxnorm.models import INCEPTION_MODULES, Inception, inception_64, inception_224
from jaxnorm.training import (
    EvalStep,
    Metrics,
    TrainState,
    TrainStep,
    create_train_state,
    cross_entropy,
    make_eval_step,
    make_train_step,
)

from ._augmentation import photometric
from ._classification import Classifier, centred, per_seed, train_classifier
from ._figures import draw_curves, new_figure, save, style, subplots
from ._run import Run, RunError
from ._tables import ordered, read_table, select
from .data import (
    Batch,
    Crop,
    ImageFolder,
    part_of,
    stream,
    training_batches,
    validation_batches,
    write_images,
)

_PAPERS_BATCH = 32  # learning rates and steps are given for this batch size
_EVALUATED_AT_A_TIME = 256


class Recipe(NamedTuple):
    """How one of the models differs from the others."""

    rate: float  # in multiples of the baseline's
    norm: bool
    sigmoid: bool = False


RECIPES = {
    "Inception": Recipe(1, norm=False),
    "BN-Baseline": Recipe(1, norm=True),
    "BN-x5": Recipe(5, norm=True),
    "BN-x30": Recipe(30, norm=True),
    "BN-x5-Sigmoid": Recipe(5, norm=True, sigmoid=True),
    "Sigmoid": Recipe(1, norm=False, sigmoid=True),
}

# Figure 3 of the paper: millions of steps to 72.2 %, and the best accuracy in percent. The network
# of sigmoids without batch norm stayed at chance (section 4.2.2).
_PAPER = {
    "Inception": (31.0, 72.2),
    "BN-Baseline": (13.3, 72.7),
    "BN-x5": (2.1, 73.0),
    "BN-x30": (2.7, 74.8),
    "BN-x5-Sigmoid": (None, 69.8),
    "Sigmoid": (None, 0.1),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The paper's Inception, batch norm and more learning rate: five models on ImageNet.

    Command: `python -m experiments inception`. It takes ten classes of Tiny ImageNet, half the
    modules and a quarter of the width. `--preset tiny` takes Tiny ImageNet and half the width, on
    one GPU. `--preset paper` takes ImageNet at 224 pixels, on all devices of the machine.

    Expected: with batch norm a model reaches Inception's final accuracy in a part of Inception's
    steps, and then exceeds it. 5 and 30 times the learning rate take the fewest steps. 30 times
    ends highest. With sigmoids in place of ReLUs the network still learns, to a lower accuracy.
    In the kept run of the default preset, 5 times the rate is both the fastest and the most
    accurate, and 30 times is neither. See docs/ledger.md.

    As in section 4.2.1 of the paper, the models with batch norm differ from the baseline in more.
    They have no dropout, no local response norm, a fifth of the weight decay, weaker distortions,
    a learning rate that falls six times as fast, and a new order of the images in every epoch.

    Attributes:
        dataset: Name of a data set of image folders, or digits. A run writes digits as folders.
        classes: How many classes are used, from the first on; None for all.
        per_class: Largest number of training images of a class.
        validation_per_class: Largest number of validation images of a class.
        models: Names of the models. The first is the baseline.
        seeds: Each gives an initialization and an order of the data.
        network: Name of the network: inception_64 or inception_224.
        modules: Names of the Inception modules that are kept; None for all ten.
        width: Factor of the widths of the published network.
        stem_strides: Strides of the first convolution.
        pixels: Height and width of the images.
        least_area: Smallest share of an image that a training example shows.
        batch_size: Images in a step, on all devices together.
        steps: Training steps.
        points: How many times the network is evaluated, equally spaced.
        learning_rate: The baseline's learning rate for batches of 32. It grows with the batch size.
        half_life: Steps in which the baseline's learning rate halves.
        weight_decay: The baseline's weight decay of kernels (an L2 loss).
        dropout_rate: The baseline's dropout rate.
        photometric: The baseline's largest relative change of brightness, contrast and saturation.
        decay: Weight of the old running statistics.
        dtype: Dtype in which convolutions and norms compute.
        threads: Threads that decode images.
        workers: Further processes that decode images; 0 for none.
    """

    dataset: Literal["digits", "tiny-imagenet", "imagenet"] = "tiny-imagenet"
    classes: int | None = 10
    per_class: int | None = 500
    validation_per_class: int | None = 50
    models: tuple[str, ...] = ("Inception", "BN-Baseline", "BN-x5", "BN-x30", "BN-x5-Sigmoid")
    seeds: tuple[int, ...] = (0, 1, 2)
    network: Literal["inception_64", "inception_224"] = "inception_64"
    modules: tuple[str, ...] | None = ("3a", "3c", "4a", "4e", "5b")
    width: float = 0.25
    stem_strides: int = 2
    pixels: int = 32
    least_area: float = 0.35
    batch_size: int = 32
    steps: int = 300
    points: int = 15
    learning_rate: float = 0.01
    half_life: int = 600
    weight_decay: float = 2e-4
    dropout_rate: float = 0.4
    photometric: float = 0.4
    decay: float = 0.9
    dtype: Literal["float32", "bfloat16"] = "float32"
    threads: int = 2
    workers: int = 0


_SMOKE = Config(
    dataset="digits",
    classes=None,
    per_class=64,
    validation_per_class=20,
    seeds=(0,),
    modules=("3a", "3c"),
    width=0.0625,
    stem_strides=1,
    pixels=16,
    steps=60,
    points=3,
    half_life=90,
)
_TINY = Config(
    classes=None,
    per_class=None,
    validation_per_class=None,
    modules=None,
    width=0.5,
    stem_strides=1,
    pixels=64,
    batch_size=128,
    steps=24_000,
    points=24,
    learning_rate=0.0015,
    half_life=36_000,
    decay=0.99,
    dtype="bfloat16",
    threads=16,
)
_PAPER_PRESET = dataclasses.replace(
    _TINY,
    dataset="imagenet",
    seeds=(0,),
    network="inception_224",
    width=1.0,
    stem_strides=2,
    pixels=224,
    least_area=0.08,
    batch_size=256,
    steps=3_900_000,
    points=390,
    half_life=680_000,
    workers=16,
)
PRESETS = {"smoke": _SMOKE, "default": Config(), "tiny": _TINY, "paper": _PAPER_PRESET}


class Network(NamedTuple):
    """Functions that are compiled once for models that differ only in learning rate and seed."""

    start: Callable[[jax.Array], TrainState]
    train_step: TrainStep
    eval_step: EvalStep


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train the models; the table `curves` has a row per evaluation, seed and model."""
    devices = jax.device_count()
    if config.batch_size % devices:
        raise RunError(
            f"batch_size={config.batch_size} cannot be shared by {devices} devices; use a multiple"
        )
    train, validation = _images(config, run)
    networks = functools.cache(functools.partial(_compiled, config, len(train.classes)))
    for name in config.models:
        recipe = RECIPES[name]
        network = networks(recipe._replace(rate=1))
        for seed in config.seeds:
            classifier = _classifier(config, recipe, network, train, validation, seed)
            train_classifier(run, name, seed, classifier, points=config.points)
    table = read_table(run.table("curves"))
    models = {name: _reached(table, name, config.models[0]) for name in config.models}
    _record_models(run, config, models)
    return {
        "baseline": config.models[0],
        "classes": len(train.classes),
        "batch_size": config.batch_size,
        "steps": config.steps,
        "models": models,
    }


def _images(config: Config, run: Run) -> tuple[ImageFolder, ImageFolder]:
    if config.dataset == "digits":
        folders = write_images(run.dataset("digits"), run.folder / "images")
    else:
        folders = run.image_folders(config.dataset)
    limits = (config.per_class, config.validation_per_class)
    parts = zip(folders, limits, strict=True)
    train, validation = (part_of(images, config.classes, limit) for images, limit in parts)
    run.data_notes[config.dataset] += (
        f"; of these {len(train.classes)} classes, {len(train.paths)} training and "
        f"{len(validation.paths)} validation images"
    )
    return train, validation


def make_model(config: Config, classes: int, recipe: Recipe) -> Inception:
    """Return the network of a model. Without batch norm it has dropout and local response norm."""
    sizes = {"inception_64": inception_64, "inception_224": inception_224}
    kept = [b for b in INCEPTION_MODULES if config.modules is None or b.name in config.modules]
    return sizes[config.network](
        classes,
        norm=functools.partial(BatchNorm, momentum=config.decay) if recipe.norm else None,
        activation=nn.sigmoid if recipe.sigmoid else nn.relu,
        modules=tuple(kept),
        width=config.width,
        stem_strides=config.stem_strides,
        stem_norm=None if recipe.norm else lambda: local_response,
        dropout_rate=0.0 if recipe.norm else config.dropout_rate,
        dtype=jnp.dtype(config.dtype),
    )


def local_response(x: jax.Array) -> jax.Array:
    """Return `x` divided by a power of the mean square of the five channels around each one.

    Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, 2012,
    section 3.3, with the constants of GoogLeNet: `x / (1 + 1e-4 mean(x^2)) ** 0.75`.
    """
    return local_response_norm(x, k=1.0, average=True)


def learning_rate(config: Config, recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step. With batch norm the rate falls six times as fast."""
    halvings = step / config.half_life * (6 if recipe.norm else 1)
    return config.learning_rate * recipe.rate * config.batch_size / _PAPERS_BATCH / 2**halvings


def _compiled(config: Config, classes: int, recipe: Recipe) -> Network:
    model = make_model(config, classes, recipe)
    weight_decay = config.weight_decay / (5 if recipe.norm else 1)
    of_kernels = functools.partial(jax.tree.map, lambda a: a.ndim > 1)

    def optimizer(learning_rate: float) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(weight_decay, mask=of_kernels),
            optax.sgd(learning_rate, momentum=0.9),
        )

    # The rate lies in the state, so that one compiled step serves all rates.
    tx = optax.inject_hyperparams(optimizer)(learning_rate=0.0)
    inputs = centred(255)
    sample = jnp.zeros((1, config.pixels, config.pixels, 3))
    augment = photometric(config.photometric / (4 if recipe.norm else 1))
    # A network that diverges is a result, so its steps are not undone.
    step = make_train_step(
        model, tx, cross_entropy, inputs=inputs, augment=augment, guard_non_finite=False
    )
    # XLA on CPU takes a minute to optimize random numbers of many shapes, and 5 s without that.
    start = jax.jit(
        lambda key: create_train_state(model, key, sample, tx),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    return Network(start, step, make_eval_step(model, _weighted, inputs=inputs))


def _weighted(logits: jax.Array, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, Metrics]:
    """Return weighted sums, not means: the loss, the correct images and all images."""
    labels, weight = batch["labels"], batch["weight"]
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = jnp.argmax(logits, axis=-1) == labels
    return weight @ nats, {"accuracy": weight @ correct, "images": jnp.sum(weight)}


def _classifier(
    config: Config,
    recipe: Recipe,
    network: Network,
    train: ImageFolder,
    validation: ImageFolder,
    seed: int,
) -> Classifier:
    """Return a model with its data in the order that one seed gives."""
    mesh = Mesh(np.array(jax.devices()), ("data",))
    batches = training_batches(
        train,
        Crop(config.pixels, config.least_area),
        batch_size=config.batch_size // jax.process_count(),
        seed=seed,
        reshuffle=recipe.norm,
        process=(jax.process_index(), jax.process_count()),
    )
    reading = {"threads": config.threads, "workers": config.workers}
    ahead: dict[int, Any] = {}  # the next step -> the stream whose next batch is for that step

    def advance(state: TrainState) -> tuple[TrainState, Metrics]:
        first = int(state.step)
        left = ahead.pop(first, None) or stream(batches, first, **reading)
        log = []
        for step in range(first, first + config.steps // config.points):
            state = _with_rate(state, learning_rate(config, recipe, step))
            state, metrics = network.train_step(state, _placed(next(left), mesh))
            log.append(metrics)
        ahead[step + 1] = left
        return state, jax.tree.map(lambda *values: jnp.stack(values), *log)

    def evaluate(state: TrainState) -> Metrics:
        every = validation_batches(
            validation,
            size=config.pixels,
            batch_size=_EVALUATED_AT_A_TIME,
            threads=config.threads,
        )
        sums = [network.eval_step(state, _placed(batch, mesh)) for batch in every]
        total = jax.tree.map(lambda *parts: sum(parts), *sums)
        return {name: total[name] / total["images"] for name in ("loss", "accuracy")}

    replicated = NamedSharding(mesh, PartitionSpec())
    return Classifier(
        start=lambda key: jax.device_put(network.start(key), replicated),
        advance=advance,
        evaluate=evaluate,
        steps=config.steps // config.points,
    )


def _with_rate(state: TrainState, rate: float) -> TrainState:
    optimizer: Any = state.opt_state
    settings = {**optimizer.hyperparams, "learning_rate": jnp.float32(rate)}
    return state._replace(opt_state=optimizer._replace(hyperparams=settings))


def _placed(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """Return a batch on the devices. Each device has its share of the images."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def _reached(table: dict[str, np.ndarray], name: str, baseline: str) -> dict[str, Any]:
    """Return a model's numbers, each with one entry per seed. Steps are None for never."""
    accuracies = per_seed(table, name, "validation_accuracy")
    goals = [values.max() for values in per_seed(table, baseline, "validation_accuracy")]
    steps = per_seed(table, name, "step")
    return {
        "best": [float(values.max()) for values in accuracies],
        "best_at": [int(at[values.argmax()]) for at, values in zip(steps, accuracies, strict=True)],
        "steps_to_baseline": [
            int(at[np.argmax(values >= goal)]) if np.any(values >= goal) else None
            for at, values, goal in zip(steps, accuracies, goals, strict=True)
        ],
    }


def _record_models(run: Run, config: Config, models: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the table `models` anew, also in a run that was stopped and resumed."""
    run.table("models").unlink(missing_ok=True)
    rows = [
        {
            "network": name,
            "seed": seed,
            "best": reached["best"][i],
            "best_at": reached["best_at"][i],
            "steps_to_baseline": _or_nan(reached["steps_to_baseline"][i]),
        }
        for name, reached in models.items()
        for i, seed in enumerate(config.seeds)
    ]
    run.record("models", rows)


def _or_nan(steps: float | None) -> float:
    return float("nan") if steps is None else steps


def figures(folder: Path) -> list[Path]:
    """Draw accuracy against steps, and both relative to the baseline's."""
    curves, models = read_table(folder / "curves.csv"), read_table(folder / "models.csv")
    names = ordered(models["network"])
    figure = new_figure(12.5, 4.6)
    axes = subplots(figure, 1, 3, width_ratios=(1.5, 1, 1))[0]
    draw_curves(axes[0], curves, y="validation_accuracy", by="network")
    axes[0].set(
        title="validation accuracy, one crop (mean and range of seeds)",
        xlabel="training step",
        ylabel="accuracy",
    )
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3)
    baseline = select(models, network=names[0])
    for row, name in enumerate(names):
        of_model = select(models, network=name)
        shares = of_model["steps_to_baseline"] / baseline["steps_to_baseline"]
        measured = (shares, 100 * (of_model["best"] - baseline["best"]))
        for panel, values, paper in zip(axes[1:], measured, _papers(name, names[0]), strict=True):
            panel.plot(values, np.full(len(values), row), "o", color=style(name, row)["color"])
            panel.plot(paper, row, "D", color="black", mfc="none", ms=8)
        if np.isnan(shares).any():
            never = f"not reached: {np.isnan(shares).sum()} of {len(shares)} seeds"
            axes[1].annotate(never, (0.03, row + 0.3), xycoords=("axes fraction", "data"), size=8)
    for panel in axes[1:]:
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
    axes[2].set_yticklabels([])
    axes[1].set(title=f"steps to {names[0]}'s best", xlabel=f"steps / {names[0]}'s steps")
    axes[1].set_xscale("log")
    axes[1].xaxis.set_major_formatter("{x:g}")
    axes[2].set(title="best accuracy", xlabel=f"points above {names[0]}")
    key = [
        Line2D([], [], marker="o", ls="", color="grey", label="here, one seed each"),
        Line2D([], [], marker="D", ls="", color="black", mfc="none", label="the paper, ImageNet"),
    ]
    figure.legend(handles=key, loc="outside lower right", ncols=2)
    return [save(figure, folder / "inception.png")]


def _papers(name: str, baseline: str) -> tuple[float, float]:
    """Return the paper's steps as a share of its baseline's, and its gain in points."""
    (steps, best), (of_baseline, best_of_baseline) = _PAPER[name], _PAPER[baseline]
    return _or_nan(steps) / _or_nan(of_baseline), best - best_of_baseline


def summary(results: dict[str, Any]) -> list[str]:
    """Say each model's steps to the baseline's best, and its own best, beside the paper's."""
    models, baseline = results["models"], results["baseline"]
    of_baseline = models[baseline]
    lines = []
    for name, reached in models.items():
        steps, best = _PAPER[name]
        papers = f"{steps:g}M steps" if steps else "never"
        lines.append(
            f"{name}: {_steps_said(reached, of_baseline)}; best {np.mean(reached['best']):.1%} "
            f"({np.min(reached['best']):.1%} to {np.max(reached['best']):.1%} over seeds). The "
            f"paper: {papers}, best {best:g} %."
        )
    ranks = sorted(models, key=lambda name: -np.mean(models[name]["best"]))
    return [
        f"Best validation accuracy of {results['classes']} classes after {results['steps']} steps "
        f"of {results['batch_size']} images, in order: "
        + ", ".join(f"{name} {np.mean(models[name]['best']):.1%}" for name in ranks)
        + f". Below: steps to the best accuracy of {baseline}, and the best.",
        *lines,
    ]


def _steps_said(reached: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Return in words after how many steps a model reached the baseline's best accuracy."""
    steps, own = reached["steps_to_baseline"], baseline["steps_to_baseline"]
    said = ", ".join("never" if s is None else str(s) for s in steps)
    shares = [s / b for s, b in zip(steps, own, strict=True) if s is not None]
    if reached is baseline or not shares:
        return f"{said} steps" if shares else "never"
    return f"{said} steps, {np.mean(shares):.2f} of the baseline's"
