"""A small residual network on CIFAR-10 at batch sizes from 32 to 2, with nine norms."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax

from jaxnorm.linen import (
    BatchNorm,
    BatchRenorm,
    EvoNormS0,
    FilterResponseNorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
)
from jaxnorm.models import NormFactory, ResNet

from ._classification import (
    Classifier,
    Images,
    make_classifier,
    on_device,
    shift_and_flip,
    train_classifier,
)
from ._figures import band, legend, new_figure, save, style, subplots
from ._run import Run, RunError
from ._seeds import last, mean, over_seeds, points
from ._tables import ordered, read_table

_LARGEST = 32
# Wu and He 2018 (arXiv:1803.08494), tables 1 and 2: validation error of ResNet-50 on ImageNet in
# percent, by images per GPU.
_PUBLISHED = {
    "batch": {32: 23.6, 16: 23.7, 8: 24.8, 4: 27.3, 2: 34.7},
    "group": {32: 24.1, 16: 24.2, 8: 24.0, 4: 24.2, 2: 24.1},
    "layer": {32: 25.3},
    "instance": {32: 28.4},
}
# What the other contenders' papers claim of small batches: that they are better than which norm
# (Ioffe 2017; Singh and Krishnan 2020; Liu et al. 2020; Qiao et al. 2019).
_BETTER = {
    "batch_renorm": "batch",
    "filter_response": "group",
    "evo_s0": "group",
    "standardized_group": "group",
}
_NAMES = {
    **{norm: f"{norm} norm" for norm in ("batch", "group", "layer", "instance")},
    "ghost": "ghost batch norm",
    "batch_renorm": "batch renormalization",
    "filter_response": "filter response norm",
    "evo_s0": "EvoNorm S0",
    "standardized_group": "group norm, standardized kernels",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Error against the batch size: batch norm degrades where it normalizes over few images.

    Command: `python -m experiments small_batch`. It takes 2 000 images at 16 x 16 pixels and a
    network of 8 layers. `--preset paper` takes ResNet-20 on all of CIFAR-10: days on two cores,
    some hours on a GPU.

    Every run sees the same number of images. The learning rate is proportional to the batch size,
    and so is the share of the running statistics that a step forgets. So both are the same per
    image. Layer norm is over each image's positions and channels, as by Wu and He. Ghost batch norm
    always normalizes over `ghost_batch_size` images. It has batch norm's statistics of that size
    with the gradient steps of a large batch. Four further contenders are batch_renorm (batch
    renormalization), filter_response and evo_s0, which use no batch statistics, and
    standardized_group, which is group norm behind convolutions with standardized kernels.

    With `--steps N` every run takes N steps instead, at one learning rate and one decay of the
    running statistics, so that more steps do not hide what a small batch costs. A batch of 2 then
    sees a sixteenth of the images that a batch of 32 sees.

    Expected: batch norm's error grows as the batch shrinks, most at 2 (Wu and He 2018 on ImageNet:
    23.6% at 32, 34.7% at 2). They find group norm's error level (about 24%). In a short training
    the errors of group and layer norm fall, since a small batch takes more steps.

    Attributes:
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are used, from the first on; None for all.
        test_examples: How many test images are used, from the first on; None for all.
        half_size: Whether images are averaged over 2 x 2 pixels first.
        augment: Whether training images are moved by up to 4 pixels and mirrored.
        norms: Names of the norms.
        batch_sizes: Images in a step, at most 32 each.
        seeds: Each gives an initialization and an order of the data.
        blocks: Residual blocks of each stage.
        widths: Channels of each stage.
        groups: Number of groups of group norm.
        ghost_batch_size: Images that ghost batch norm normalizes over.
        epochs: Passes over the training images.
        evaluate_every: Epochs between two measurements.
        steps: Training steps at every batch size, in place of epochs; None for `epochs` passes.
        learning_rate: Learning rate of SGD with momentum 0.9, for a batch of 32. It falls to zero
            along a cosine.
        weight_decay: Weight decay of every parameter.
        decay: Weight of the old running statistics for a batch of 32.
    """

    dataset: str = "cifar10"
    train_examples: int | None = 2000
    test_examples: int | None = 1000
    half_size: bool = True
    augment: bool = False
    norms: tuple[str, ...] = (
        "batch",
        "group",
        "layer",
        "instance",
        "ghost",
        "batch_renorm",
        "filter_response",
        "evo_s0",
        "standardized_group",
    )
    batch_sizes: tuple[int, ...] = (32, 16, 8, 4, 2)
    seeds: tuple[int, ...] = (0, 1, 2)
    blocks: tuple[int, ...] = (1, 1, 1)
    widths: tuple[int, ...] = (8, 16, 32)
    groups: int = 4
    ghost_batch_size: int = 2
    epochs: int = 8
    evaluate_every: int = 4
    steps: int | None = None
    learning_rate: float = 0.1
    weight_decay: float = 1e-4
    decay: float = 0.9


PRESETS = {
    "smoke": Config(
        dataset="digits",
        train_examples=640,
        test_examples=250,
        half_size=False,
        norms=("batch", "group"),
        batch_sizes=(32, 2),
        seeds=(0,),
        blocks=(1,),
        widths=(8,),
        epochs=2,
        evaluate_every=2,
    ),
    "default": Config(),
    "paper": Config(
        train_examples=None,
        test_examples=None,
        half_size=False,
        augment=True,
        blocks=(3, 3, 3),
        widths=(16, 32, 64),
        epochs=30,
        evaluate_every=1,
        learning_rate=0.025,
        decay=0.99,
    ),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train every norm at every batch size; the table `curves` has a row per measurement."""
    data = run.dataset(config.dataset)
    train, test = on_device(
        data, config.train_examples, config.test_examples, half_size=config.half_size
    )
    for norm in config.norms:
        of_size = {
            size: _classifier(
                config, norm, size, train, test, classes=len(data.classes), white=data.white
            )
            for size in config.batch_sizes
        }
        # Start and evaluation do not depend on the batch size, so both are compiled once.
        first = of_size[config.batch_sizes[0]]
        for size, classifier in of_size.items():
            shared = classifier._replace(start=first.start, evaluate=first.evaluate)
            for seed in config.seeds:
                train_classifier(run, f"{norm}-{size}", seed, shared, points=_measurements(config))
    return {
        "norms": list(config.norms),
        "batch_sizes": list(config.batch_sizes),
        "errors": _errors(run.table("curves")),
    }


def _classifier(
    config: Config, norm: str, size: int, train: Images, test: Images, *, classes: int, white: int
) -> Classifier:
    plan = plan_of(config, size, len(train["labels"]))
    rate = optax.cosine_decay_schedule(
        config.learning_rate * plan.share, plan.steps * _measurements(config)
    )
    return make_classifier(
        network_of(config, norm, plan.share, classes),
        optax.chain(optax.add_decayed_weights(config.weight_decay), optax.sgd(rate, momentum=0.9)),
        train,
        test,
        white=white,
        batch_size=size,
        steps=plan.steps,
        augment=shift_and_flip(4) if config.augment else None,
    )


class Plan(NamedTuple):
    """How long a network trains at a batch size."""

    steps: int  # between two measurements
    share: float  # of the learning rate for a batch of 32, and of what a step forgets then


def plan_of(config: Config, size: int, images: int) -> Plan:
    """Return the plan of a batch size: equal epochs and equal rates per image, or equal steps.

    Raises:
        RunError: the measurements do not divide the steps.

    Examples:
        >>> plan_of(Config(epochs=8, evaluate_every=4), 8, 2000)
        Plan(steps=1000, share=0.25)
        >>> plan_of(Config(epochs=8, evaluate_every=4, steps=500), 8, 2000)
        Plan(steps=250, share=1.0)
    """
    if config.steps is None:
        return Plan(images // size * config.evaluate_every, size / _LARGEST)
    times = _measurements(config)
    if config.steps < 1 or config.steps % times:
        raise RunError(
            f"steps={config.steps} must be a multiple of the {times} measurements; change steps, "
            "epochs or evaluate_every"
        )
    return Plan(config.steps // times, 1.0)


def _measurements(config: Config) -> int:
    return config.epochs // config.evaluate_every


def network_of(config: Config, norm: str, share: float, classes: int) -> ResNet:
    """Return the network with a norm for batches of the given share of 32 images."""
    return ResNet(
        config.blocks,
        config.widths,
        classes,
        norm=norm_of(config, norm, share),
        kernel_norm="weight_standardization" if norm == "standardized_group" else None,
    )


def norm_of(config: Config, name: str, share: float) -> NormFactory:
    """Return a norm for batches of the given share of 32 images."""
    # As many images, rather than as many steps, are forgotten at every batch size.
    decay = config.decay**share
    norms: dict[str, NormFactory] = {
        "batch": functools.partial(BatchNorm, momentum=decay),
        "group": functools.partial(GroupNorm, num_groups=config.groups),
        "layer": functools.partial(LayerNorm, reduction_axes=(-3, -2, -1)),
        "instance": InstanceNorm,
        "batch_renorm": functools.partial(BatchRenorm, decay=decay),
        "filter_response": FilterResponseNorm,
        "evo_s0": functools.partial(EvoNormS0, num_groups=config.groups),
        "standardized_group": functools.partial(GroupNorm, num_groups=config.groups),
        "ghost": functools.partial(
            GhostBatchNorm, ghost_batch_size=config.ghost_batch_size, decay=decay
        ),
    }
    return norms[name]


def _errors(path: Path) -> dict[str, dict[str, list[float]]]:
    """Return the final test errors, one per seed, by norm and batch size."""
    table = read_table(path)
    errors: dict[str, dict[str, list[float]]] = {}
    for network in ordered(table["network"]):
        norm, size = network.split("-")
        accuracy = last(table, "validation_accuracy", network=network)
        errors.setdefault(norm, {})[size] = [1 - share for share in accuracy]
    return errors


def figures(folder: Path) -> list[Path]:
    """Draw the error against the batch size, beside the published one."""
    errors = _errors(folder / "curves.csv")
    figure = new_figure(11, 5)
    known, later, published = subplots(figure, 1, 3)[0]
    # Batch norm is what all are compared with.
    panels = {known: [n for n in errors if n not in _BETTER], later: ["batch", *_BETTER]}
    for axes, norms in panels.items():
        for position, norm in enumerate(norm for norm in norms if norm in errors):
            values = 100 * np.array(list(errors[norm].values()))
            line = {**style(norm, position), "marker": "o", "ms": 4, "label": _NAMES[norm]}
            band(axes, [int(size) for size in errors[norm]], values, **line)
        legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    later.sharey(known)
    for position, norm in enumerate(norm for norm in _PUBLISHED if norm in errors):
        sizes, values = zip(*_PUBLISHED[norm].items(), strict=True)
        published.plot(sizes, values, marker="o", ms=4, **style(norm, position))
    known.set(title="measured: mean over seeds", ylabel="test error (%)")
    later.set(title="measured: later norms")
    published.set(title="Wu and He 2018 on ImageNet", ylabel="validation error (%)")
    for axes in (known, later, published):
        axes.set_xscale("log", base=2)
        axes.set_xticks([32, 16, 8, 4, 2], ["32", "16", "8", "4", "2"])
        axes.invert_xaxis()
        axes.set_xlabel("batch size (images)")
    return [save(figure, folder / "small_batch.png")]


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the paper's claims the numbers show, of those about norms that were run."""
    large, small = _ends(results)
    errors = {norm: (by[large], by[small]) for norm, by in results["errors"].items()}
    change = {norm: points(at_small, at_large) for norm, (at_large, at_small) in errors.items()}
    claimed = {}
    if "batch" in change:
        most = max(change, key=lambda norm: change[norm].mean())
        claimed["batch norm's error grows as the batch shrinks"] = bool(change["batch"].min() > 0)
        claimed["no other norm's error grows as much"] = most == "batch"
    if "group" in change:
        claimed["group norm's error stays level"] = bool(abs(change["group"].mean()) < 1)
    if {"batch", "group"} <= {*change}:
        claim = f"at a batch size of {small} group norm is better than batch norm"
        claimed[claim] = bool(np.mean(errors["group"][1]) < np.mean(errors["batch"][1]))
    for better, worse in _BETTER.items():
        if {better, worse} <= {*errors}:
            claim = f"at a batch size of {small} {_NAMES[better]} is better than {_NAMES[worse]}"
            claimed[claim] = bool(np.mean(errors[better][1]) < np.mean(errors[worse][1]))
    return claimed


def _ends(results: dict[str, Any]) -> tuple[str, str]:
    """Return the largest and the smallest batch size, as in the errors."""
    return str(max(results["batch_sizes"])), str(min(results["batch_sizes"]))


def summary(results: dict[str, Any]) -> list[str]:
    """Say each norm's error at the largest and the smallest batch, and the published errors."""
    large, small = _ends(results)
    lines = [
        f"{_NAMES[norm]}: error {mean(by_size[large], '.1%')} at a batch size of {large}, "
        f"{mean(by_size[small], '.1%')} at {small}: "
        f"{over_seeds(points(by_size[small], by_size[large]), '+.1f', ' points')}."
        for norm, by_size in results["errors"].items()
    ]
    published = "; ".join(
        f"{_NAMES[norm]} " + ", ".join(f"{values[s]}% at {s}" for s in (32, 2) if s in values)
        for norm, values in _PUBLISHED.items()
    )
    return [*lines, f"Wu and He 2018 (ResNet-50 on ImageNet): {published}."]
