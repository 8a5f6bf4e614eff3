"""The paper's Inception with and without batch norm, at five learning rates and activations."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np

from .._classification import train_classifier
from .._run import Run, RunError
from .._seeds import listed, mean, over_seeds, per_seed
from .._tables import read_table
from ..data import ImageFolder, part_of, write_images
from ._figures import PAPER
from ._figures import figures as figures
from ._training import RECIPES, compiled, make_classifier


@dataclasses.dataclass(frozen=True)
class Config:
    """The paper's Inception, batch norm and more learning rate: five models on ImageNet.

    Command: `python -m experiments inception`. It takes ten classes of Tiny ImageNet, half the
    modules and a quarter of the width. `--preset tiny` takes Tiny ImageNet and half the width, on
    one GPU. `--preset paper` takes ImageNet at 224 pixels, on all devices of the machine.

    Expected: with batch norm a model reaches Inception's final accuracy in a part of Inception's
    steps, and then exceeds it. With sigmoids in place of ReLUs the network still learns. In the
    paper 5 and 30 times the learning rate take the fewest steps, and 30 times ends highest. In 300
    steps 5 times the rate is both the fastest and the most accurate, and 30 times is neither.

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


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train the models; the table `curves` has a row per evaluation, seed and model."""
    devices = jax.device_count()
    if config.batch_size % devices:
        raise RunError(
            f"batch_size={config.batch_size} cannot be shared by {devices} devices; use a multiple"
        )
    train, validation = _images(config, run)
    networks = functools.cache(functools.partial(compiled, config, len(train.classes)))
    for name in config.models:
        recipe = RECIPES[name]
        network = networks(recipe._replace(rate=1))
        for seed in config.seeds:
            classifier = make_classifier(config, recipe, network, train, validation, seed)
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


def _reached(table: dict[str, np.ndarray], name: str, baseline: str) -> dict[str, Any]:
    """Return a model's numbers, each with one entry per seed. Steps are None for never."""
    accuracies = per_seed(table, "validation_accuracy", network=name)
    goals = [values.max() for values in per_seed(table, "validation_accuracy", network=baseline)]
    steps = per_seed(table, "step", network=name)
    return {
        "best": [float(values.max()) for values in accuracies],
        "best_at": [int(at[values.argmax()]) for at, values in zip(steps, accuracies, strict=True)],
        "steps_to_baseline": [
            int(at[np.argmax(values >= goal)]) if np.any(values >= goal) else None
            for at, values, goal in zip(steps, accuracies, goals, strict=True)
        ],
    }


def _record_models(run: Run, config: Config, models: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [
        {
            "network": name,
            "seed": seed,
            "best": reached["best"][i],
            "best_at": reached["best_at"][i],
            "steps_to_baseline": reached["steps_to_baseline"][i] or math.nan,
        }
        for name, reached in models.items()
        for i, seed in enumerate(config.seeds)
    ]
    run.replace("models", rows)


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the paper's claims the numbers show, of those about models that were run."""
    models, baseline = results["models"], results["models"][results["baseline"]]
    best = {name: float(np.mean(reached["best"])) for name, reached in models.items()}
    normed = [name for name in models if RECIPES[name].norm and name != results["baseline"]]
    never = math.inf
    shares = {
        name: float(
            np.mean([(own or never) / other for own, other in _pairs(models[name], baseline)])
        )
        for name in normed
    }
    above = [float(np.subtract(models[n]["best"], baseline["best"]).min()) for n in normed]
    claimed = {}
    if normed:
        goal = "the baseline's best accuracy"
        claimed[f"every model with batch norm needs fewer steps to {goal}"] = (
            max(shares.values()) < 1
        )
        claimed["every model with batch norm ends above the baseline"] = min(above) > 0
    if {"BN-x5", "BN-x30"} < {*normed}:
        fastest = sorted(normed, key=lambda name: shares[name])[:2]
        claimed["5 and 30 times the learning rate take the fewest steps"] = {*fastest} == {
            "BN-x5",
            "BN-x30",
        }
        claimed["30 times the rate ends highest"] = max(best.values()) == best["BN-x30"]
    if "BN-x5-Sigmoid" in best:
        claim = "with sigmoids and batch norm the network still learns"
        claimed[claim] = best["BN-x5-Sigmoid"] > 1.5 / results["classes"]
    return claimed


def _pairs(
    reached: Mapping[str, Any], baseline: Mapping[str, Any]
) -> list[tuple[float | None, float]]:
    """Return a model's steps to the goal, None for never, and the baseline's, of each seed."""
    return list(zip(reached["steps_to_baseline"], baseline["steps_to_baseline"], strict=True))


def summary(results: dict[str, Any]) -> list[str]:
    """Say each model's steps to the baseline's best, and its own best, beside the paper's."""
    models, baseline = results["models"], results["baseline"]
    of_baseline = models[baseline]
    lines = []
    for name, reached in models.items():
        steps, best = PAPER[name]
        papers = f"{steps:g}M steps" if steps else "never"
        lines.append(
            f"{name}: {_steps_said(reached, of_baseline)}; best "
            f"{over_seeds(reached['best'], '.1%')}. The paper: {papers}, best {best:g}%."
        )
    ranks = sorted(models, key=lambda name: -np.mean(models[name]["best"]))
    return [
        f"Best validation accuracy of {results['classes']} classes after {results['steps']} steps "
        f"of {results['batch_size']} images, in order: "
        + ", ".join(f"{name} {mean(models[name]['best'], '.1%')}" for name in ranks)
        + f". Below: steps to the best accuracy of {baseline}, and the best.",
        *lines,
    ]


def _steps_said(reached: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Return in words after how many steps a model reached the baseline's best accuracy."""
    said = listed(reached["steps_to_baseline"])
    shares = [own / other for own, other in _pairs(reached, baseline) if own is not None]
    if reached is baseline or not shares:
        return f"{said} steps" if shares else "never"
    return f"{said} steps, {mean(shares, '.2f')} of the baseline's"
