"""The network whose features the losses compare: a small VGG-like one, trained here or random."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import optax

from jaxnorm.linen import BatchNorm

from .._classification import make_classifier, on_device, train_classifier
from .._run import Run, RunError

Stages = tuple[tuple[int, ...], ...]

Of = Callable[[jax.Array], list[jax.Array]]
"""Images [N, H, W, 3] from -1 to 1 -> their features [N, H, W, C] at the end of each stage."""

_SEED = 0
_BATCH_SIZE = 64
_LEARNING_RATE = 1e-3


class Features(nn.Module):
    """Stages of 3 x 3 convolutions, each with batch norm and ReLU, and pooling between stages.

    The pooling averages, as Gatys et al. advise for pictures. Returns the features [N, H, W, C] at
    the end of each stage.
    """

    stages: Stages

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> list[jax.Array]:
        features = []
        for i, widths in enumerate(self.stages):
            x = x if i == 0 else nn.avg_pool(x, (2, 2), (2, 2))
            for j, width in enumerate(widths):
                conv = nn.Conv(
                    width,
                    (3, 3),
                    use_bias=False,
                    kernel_init=nn.initializers.he_normal(),
                    name=f"conv_{i}_{j}",
                )
                norm = BatchNorm(use_running_average=not train, momentum=0.99, name=f"norm_{i}_{j}")
                x = nn.relu(norm(conv(x)))
            features.append(x)
        return features


class Classifier(nn.Module):
    """A dense layer on the means over positions of the last features, which has no image size."""

    num_outputs: int
    stages: Stages

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        features = Features(self.stages, name="features")(x, train=train)
        return nn.Dense(self.num_outputs)(features[-1].mean((1, 2)))


def random_features(stages: Stages, image: jax.Array) -> Of:
    """Return the features of a network with initial weights, for images like `image`."""
    network = Features(stages)
    return _applied(network, network.init(jax.random.key(_SEED), image))


def trained_features(
    run: Run, dataset: str, stages: Stages, *, epochs: int, examples: int | None
) -> tuple[Of, float]:
    """Train a classifier; return its features, and its accuracy on the test images.

    The table `curves` has a row per epoch. A resumed run takes the network from its checkpoints.

    Args:
        run: takes the table and the checkpoints.
        dataset: name of a data set of colour images that is in memory.
        stages: widths of the convolutions of each stage.
        epochs: passes over the training images.
        examples: how many training images are used, from the first on; None for all.

    Raises:
        RunError: the images have no three channels.
    """
    data = run.dataset(dataset)
    channels = data.train_images.shape[-1]
    if channels != 3:
        raise RunError(
            f"the photographs have three channels, and the images of {dataset} have {channels}; "
            "train the features on cifar10, or leave them random with --trained-on None"
        )
    train, test = on_device(data, examples, None)
    classifier = make_classifier(
        Classifier(len(data.classes), stages),
        optax.adam(_LEARNING_RATE),
        train,
        test,
        white=data.white,
        batch_size=_BATCH_SIZE,
        steps=len(train["labels"]) // _BATCH_SIZE,
    )
    state = train_classifier(run, "features", _SEED, classifier, points=epochs)
    variables = {kind: tree["features"] for kind, tree in state.variables.items()}
    accuracy = float(classifier.evaluate(state)["accuracy"])
    return _applied(Features(stages), variables), accuracy


def _applied(network: Features, variables: Any) -> Of:
    apply: Any = functools.partial(network.apply, variables)
    return apply
