"""Feed-forward style transfer with batch norm, instance norm and adaptive instance norm."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_sample_images

from jaxnorm.linen import BatchNorm, InstanceNorm
from jaxnorm.models import NormFactory, StyleNet
from jaxnorm.training import (
    Metrics,
    TrainState,
    create_train_state,
    make_eval_step,
    make_train_step,
)

from .._figures import draw_curves, legend, log_axis, new_figure, save, subplots
from .._run import Run
from .._seeds import last, mean, over_seeds
from .._tables import read_table
from .._trainer import Measured, Point, every, train
from ._features import Of, Stages, random_features, trained_features

NORMS: dict[str, NormFactory] = {
    "batch": functools.partial(BatchNorm, momentum=0.9),
    "instance": InstanceNorm,
    "adaptive": InstanceNorm,  # and an adaptive one before the residual blocks
}
LABELS = {"batch": "batch norm", "instance": "instance norm", "adaptive": "adaptive instance norm"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Renders a photograph of a temple in the style of a photograph of a flower.

    Command: `python -m experiments style`. The two photographs are scikit-learn's.
    `--preset paper` trains the published network on crops of 256 pixels and needs a GPU.

    The losses are those of Gatys et al. (arXiv:1508.06576, 2015): squared differences of features
    (content) and of their Gram matrices (style). The features are those of a small VGG-like network
    that the run first trains on CIFAR-10, since the weights of a published one would have to be
    downloaded. `--trained-on None` leaves it at its random initial weights, and needs no data
    directory: He, Wang and Hopcroft (arXiv:1606.04801, 2016) show that random weights serve for
    style transfer, and Ustyuzhaninov et al. (arXiv:1606.00021, 2016) that they serve for textures.

    Expected: the style loss falls faster and ends lower with instance norm than with batch norm,
    most of all in evaluation (Ulyanov et al., arXiv:1607.08022, 2016). Adaptive instance norm is
    close to instance norm. With these features a style weight of 10 leaves little of the content
    with any norm.

    Attributes:
        norms: Names of the norms.
        seeds: Each gives an initialization and an order of the crops. All share the features.
        widths: Channels of the generator at full, half and quarter resolution.
        blocks: Residual blocks of the generator.
        crop: Pixels along a side of a training image.
        shrink: Side of the blocks of pixels that the photographs are averaged over.
        batch_size: Crops in a step.
        steps: Training steps.
        points: How often the losses are measured.
        learning_rate: Learning rate of Adam.
        style_weight: Weight of the style loss. The weight of the content loss is one.
        trained_on: Name of the data set of colour images, in memory, that the network of the
            features classifies; None for random weights.
        stages: Widths of the convolutions of each stage of that network.
        feature_examples: How many images it trains on, from the first on; None for all.
        feature_epochs: Passes over these images.
    """

    norms: tuple[str, ...] = tuple(NORMS)
    seeds: tuple[int, ...] = (0, 1, 2)
    widths: tuple[int, ...] = (8, 16, 32)
    blocks: int = 2
    crop: int = 48
    shrink: int = 4
    batch_size: int = 4
    steps: int = 400
    points: int = 20
    learning_rate: float = 3e-3
    style_weight: float = 1.0
    trained_on: str | None = "cifar10"
    stages: Stages = ((16, 16), (32, 32), (64, 64))
    feature_examples: int | None = None
    feature_epochs: int = 3


PRESETS = {
    "smoke": Config(
        norms=("batch", "instance"),
        seeds=(0,),
        widths=(4, 8, 8),
        blocks=1,
        crop=24,
        shrink=8,
        steps=20,
        points=2,
        trained_on=None,
    ),
    "default": Config(),
    "paper": Config(
        widths=(32, 64, 128),
        blocks=5,
        crop=256,
        shrink=1,
        steps=20_000,
        points=100,
        learning_rate=1e-3,
        stages=((32, 32), (64, 64), (128, 128)),
        feature_epochs=30,
    ),
}


class Photographs(NamedTuple):
    """The photographs of content and style, from -1 to 1."""

    content: jax.Array  # [H, W, 3]
    style: jax.Array  # [1, H, W, 3]
    held_out: jax.Array  # [1, H, W', 3], a third of the content that is not trained on


def photographs(shrink: int) -> Photographs:
    """Return scikit-learn's two photographs. The temple is split into two thirds and one third."""
    temple, flower = (
        _shrunk(np.asarray(image, np.float32) / 127.5 - 1, shrink)
        for image in load_sample_images().images
    )
    cut = temple.shape[1] * 2 // 3 // 4 * 4
    held_out = temple[:, cut:][:, : (temple.shape[1] - cut) // 4 * 4]
    return Photographs(
        jnp.asarray(temple[:, :cut]), jnp.asarray(flower)[None], jnp.asarray(held_out)[None]
    )


def _shrunk(image: np.ndarray, by: int) -> np.ndarray:
    height, width = (n // by // 4 * 4 * by for n in image.shape[:2])
    cells = image[:height, :width].reshape(height // by, by, width // by, by, 3)
    return cells.mean((1, 3))


def gram(features: jax.Array) -> jax.Array:
    """Return the Gram matrices [N, C, C] of images, means over positions.

    Examples:
        >>> gram(jnp.array([[[[1.0, 2.0]], [[3.0, 0.0]]]]))
        Array([[[5., 1.],
                [1., 2.]]], dtype=float32)
    """
    flat = features.reshape(len(features), -1, features.shape[-1])
    return jnp.einsum("npc,npd->ncd", flat, flat) / flat.shape[1]


def perceptual_loss(
    features: Of, style: jax.Array, style_weight: float
) -> Callable[[jax.Array, Any], tuple[jax.Array, Metrics]]:
    """Return the loss of rendered images, and its parts `content` and `style`.

    Both parts are relative: an image whose features are zero has the loss one.

    Args:
        features: function of images to features on several scales.
        style: the image [1, H, W, C] that gives the style.
        style_weight: weight of the style loss.
    """
    wanted = [gram(each) for each in features(style)]

    def loss(rendered: jax.Array, batch: Any) -> tuple[jax.Array, Metrics]:
        got, original = features(rendered), features(batch["inputs"])
        middle, target = got[1], original[1]
        content = jnp.mean((middle - target) ** 2) / jnp.mean(target**2)
        of_style = [
            jnp.mean((gram(each) - want) ** 2) / jnp.mean(want**2)
            for each, want in zip(got, wanted, strict=True)
        ]
        style = jnp.mean(jnp.stack(of_style))
        return content + style_weight * style, {"content": content, "style": style}

    return loss


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train a generator per norm and seed; `losses` has a row per measurement."""
    photos = photographs(config.shrink)
    features, told = _features(config, run, photos)
    loss = perceptual_loss(features, photos.style, config.style_weight)
    for norm in config.norms:
        trainer = _make_trainer(config, photos, loss, norm)
        for seed in config.seeds:
            state = _trained(run, config, trainer, norm, seed)
            if seed == config.seeds[0]:
                rendered: Any = trainer.model.apply(state.variables, photos.held_out, train=False)
                run.keep(f"rendered_{norm}", rendered[0])
    run.keep("content", photos.held_out[0])
    run.keep("style", photos.style[0])
    table = read_table(run.table("losses"))
    columns = ("content", "style", "train_content", "train_style")
    measured = {
        norm: {name: last(table, name, norm=norm) for name in columns} for norm in config.norms
    }
    return {"features": told, "norms": measured}


def _features(config: Config, run: Run, photos: Photographs) -> tuple[Of, dict[str, Any]]:
    """Return the features of the losses, and what is to be told of their network."""
    if config.trained_on is None:
        return random_features(config.stages, photos.style), {"trained_on": None}
    features, accuracy = trained_features(
        run,
        config.trained_on,
        config.stages,
        epochs=config.feature_epochs,
        examples=config.feature_examples,
    )
    return features, {"trained_on": config.trained_on, "accuracy": accuracy}


class _Styled(nn.Module):
    """A generator. An adaptive generator takes the style as an input."""

    config: Config
    norm: str
    style: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        config = self.config
        generator = StyleNet(config.widths, config.blocks, NORMS[self.norm], name="generator")
        if self.norm != "adaptive":
            return generator(x, train=train)
        return generator(x, jnp.asarray(self.style), train=train)


class _Trainer(NamedTuple):
    """A generator with its compiled steps, which all seeds share."""

    model: nn.Module
    start: Callable[[jax.Array], TrainState]  # key -> state
    advance: Callable[[TrainState], tuple[TrainState, Metrics]]
    evaluate: Callable[[TrainState], Metrics]  # -> losses of the held-out part


def _make_trainer(config: Config, photos: Photographs, loss: Any, norm: str) -> _Trainer:
    model = _Styled(config, norm, np.asarray(photos.style))
    tx = optax.adam(config.learning_rate)
    step = make_train_step(model, tx, loss, augment=_crops(photos.content, config))
    evaluate = make_eval_step(model, loss)
    batch = {"inputs": jnp.zeros((config.batch_size, config.crop, config.crop, 3))}
    return _Trainer(
        model=model,
        start=lambda key: create_train_state(model, key, batch["inputs"], tx),
        advance=lambda state: step(state, batch),
        evaluate=lambda state: evaluate(state, {"inputs": photos.held_out}),
    )


def _trained(run: Run, config: Config, trainer: _Trainer, norm: str, seed: int) -> TrainState:
    """Train a generator, and return its last state."""

    def measure(point: Point) -> Measured:
        parts = {"train_": point.metrics, "": trainer.evaluate(point.state)}
        row = {f"{of}{part}": parts[of][part] for of in parts for part in ("content", "style")}
        return Measured({"losses": [row]}, f"style {row['style']:.3g}")

    return train(
        run,
        f"{norm}-{seed}",
        lambda: trainer.start(jax.random.key(seed)),
        trainer.advance,
        measure,
        points=every(config.steps // config.points, config.points),
        where={"norm": norm, "seed": seed},
    )


def _crops(content: jax.Array, config: Config) -> Callable[[jax.Array, Any], Any]:
    """Return an augmentation that fills a batch with random crops of the photograph."""
    height, width, channels = content.shape
    size = (config.crop, config.crop, channels)

    def crop(key: jax.Array) -> jax.Array:
        limits = jnp.array([height - config.crop + 1, width - config.crop + 1])
        corner = jax.random.randint(key, (2,), 0, limits)
        return jax.lax.dynamic_slice(content, (*corner, 0), size)

    def augment(key: jax.Array, batch: Any) -> Any:
        return {"inputs": jax.vmap(crop)(jax.random.split(key, config.batch_size))}

    return augment


def figures(folder: Path) -> list[Path]:
    """Draw the photographs beside each other, and the losses against steps."""
    return [_draw_pictures(folder), _draw_losses(folder)]


def _draw_pictures(folder: Path) -> Path:
    norms = [norm for norm in NORMS if (folder / f"rendered_{norm}.npy").exists()]
    shown = {"content": "held-out content", "style": "style"}
    shown |= {f"rendered_{norm}": LABELS[norm] for norm in norms}
    figure = new_figure(3 * len(shown), 3.6)
    for axes, (name, title) in zip(subplots(figure, 1, len(shown))[0], shown.items(), strict=True):
        image = np.load(folder / f"{name}.npy").astype(np.float32)
        axes.imshow(np.clip((image + 1) / 2, 0, 1), interpolation="nearest")
        axes.set_title(title, fontsize=14)
        axes.axis("off")
    return save(figure, folder / "pictures.png")


def _draw_losses(folder: Path) -> Path:
    table = read_table(folder / "losses.csv")
    figure = new_figure(9.5, 4.0)
    grid = subplots(figure, 1, 2, sharex=True)
    for axes, part in zip(grid.flat, ("style", "content"), strict=True):
        draw_curves(axes, table, y=part, by="norm", labels=LABELS)
        axes.set(xlabel="step", ylabel=f"{part} loss of the held-out part, relative")
    grid[0, 0].set_yscale("log")
    log_axis(grid[0, 0].yaxis)
    legend(figure, grid[0, 0])
    return save(figure, folder / "losses.png")


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the papers' claims the numbers show."""
    style = {norm: measured["style"] for norm, measured in results["norms"].items()}
    if "batch" not in style:
        return {}
    lower = {norm: max(style[norm]) < min(style["batch"]) for norm in style if norm != "batch"}
    return {
        f"the style loss ends lower with {LABELS[norm]} than with batch norm": is_so
        for norm, is_so in lower.items()
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say what the features know, and each norm's style loss and content loss after training."""
    told = results["features"]
    features = (
        "The losses compare features of a network with random weights."
        if told["trained_on"] is None
        else "The losses compare features of a network that was trained here: "
        f"{told['accuracy']:.1%} of the test images of {told['trained_on']}."
    )
    losses = [
        f"{LABELS[norm].capitalize()}: style loss of the held-out part "
        f"{over_seeds(measured['style'], '.4f')}, of training crops "
        f"{mean(measured['train_style'], '.4f')}; content loss {mean(measured['content'], '.3f')}."
        for norm, measured in results["norms"].items()
    ]
    return [features, *losses]
