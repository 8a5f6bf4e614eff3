"""Image classifiers that train one after another: checkpoints, curves, evaluation on the device.

Seeds take turns. With `vmap` over seeds, convolutions become grouped convolutions, which are slow.
A network is compiled once for all its seeds instead.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnorm.training import (
    Metrics,
    TrainState,
    create_train_state,
    cross_entropy,
    make_eval_step,
    make_evaluation,
    make_scan_steps,
    make_train_step,
)

from ._hosts import Hosts
from ._run import Run
from ._trainer import Measured, Point, every, train
from .data import Dataset

Images = dict[str, jax.Array]
"""`inputs` [N, H, W, C] uint8 from 0 to white and `labels` [N], on the device."""

_EVALUATED_AT_A_TIME = 250


class Classifier(NamedTuple):
    """A network with its data, compiled once for all of its seeds."""

    start: Callable[[jax.Array], TrainState]  # key -> state
    advance: Callable[[TrainState], tuple[TrainState, Metrics]]  # metrics since the last point
    evaluate: Callable[[TrainState], Metrics]  # -> loss and accuracy of validation
    steps: int  # of one advance
    between: int  # training steps between two points


def on_device(
    dataset: Dataset, train: int | None, test: int | None, *, half_size: bool = False
) -> tuple[Images, Images]:
    """Return the training and the test images.

    Args:
        dataset: a data set in memory.
        train: how many training images, from the first on; None for all.
        test: how many test images, from the first on; None for all.
        half_size: whether images are averaged over 2 x 2 pixels.
    """
    resized = _halved if half_size else jnp.asarray
    return (
        {
            "inputs": resized(dataset.train_images[:train]),
            "labels": jnp.asarray(dataset.train_labels[:train]),
        },
        {
            "inputs": resized(dataset.test_images[:test]),
            "labels": jnp.asarray(dataset.test_labels[:test]),
        },
    )


def _halved(images: np.ndarray) -> jax.Array:
    n, height, width, channels = images.shape
    cells = images.reshape(n, height // 2, 2, width // 2, 2, channels)
    return jnp.asarray(np.round(cells.mean((2, 4), dtype=np.float32)).astype(np.uint8))


def centred(white: int) -> Callable[[Mapping[str, jax.Array]], jax.Array]:
    """Return a function that maps a batch to its images, float32, from black at -1 to 1.

    Examples:
        >>> centred(16)({"inputs": jnp.array([0, 8, 16], jnp.uint8)})
        Array([-1.,  0.,  1.], dtype=float32)
    """
    return lambda batch: batch["inputs"].astype(jnp.float32) / (white / 2) - 1


def shift_and_flip(margin: int) -> Callable[[jax.Array, Images], Images]:
    """Return an augmentation: each image moved by up to `margin` pixels, and half of them mirrored.

    Reflected pixels fill the part that the move uncovers.
    """

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        of_shift, of_flip = jax.random.split(key)
        padded = jnp.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
        corner = jax.random.randint(of_shift, (2,), 0, 2 * margin + 1)
        moved = jax.lax.dynamic_slice(padded, (*corner, 0), image.shape)
        return jnp.where(jax.random.bernoulli(of_flip), moved[:, ::-1], moved)

    def augment(key: jax.Array, batch: Images) -> Images:
        keys = jax.random.split(key, len(batch["inputs"]))
        return {**batch, "inputs": jax.vmap(one)(keys, batch["inputs"])}

    return augment


def make_classifier(
    model: nn.Module,
    tx: optax.GradientTransformation,
    train: Images,
    validation: Images,
    *,
    white: int,
    batch_size: int,
    steps: int,
    augment: Callable[[jax.Array, Images], Images] | None = None,
    hosts: Hosts = Hosts(),
) -> Classifier:
    """Return a network that trains on data in memory.

    Args:
        model: a network of images from -1 to 1.
        tx: the optimizer.
        train: data to train on.
        validation: data to evaluate on.
        white: largest value that a pixel can have.
        batch_size: images of a training batch.
        steps: training steps of one `advance`.
        augment: function (key, batch) -> batch, applied to training batches.
        hosts: whose devices share each batch.
    """
    of_batch = centred(white)

    def scaled(batch: Images) -> jax.Array:
        return hosts.shared(of_batch(batch))

    train, validation = hosts.everywhere((train, validation))
    sample = of_batch({"inputs": train["inputs"][:1]})
    # A network that diverges is a result, so its steps are not undone.
    step = make_train_step(
        model, tx, cross_entropy, inputs=scaled, augment=augment, guard_non_finite=False
    )
    scan = make_scan_steps(step, batch_size=batch_size, num_steps=steps)
    evaluate = make_evaluation(
        make_eval_step(model, cross_entropy, inputs=scaled), batch_size=_EVALUATED_AT_A_TIME
    )
    return Classifier(
        start=jax.jit(
            lambda key: create_train_state(model, key, sample, tx), out_shardings=hosts.whole
        ),
        advance=lambda state: scan(state, train),
        evaluate=lambda state: evaluate(state, validation),
        steps=steps,
        between=steps,
    )


def train_classifier(
    run: Run, network: str, seed: int, classifier: Classifier, *, points: int
) -> TrainState:
    """Train a network from one seed, record the table `curves`, and return the last state.

    A row has training metrics, means over the steps since the last row, and validation metrics.

    Args:
        run: takes tables and checkpoints, and shows progress.
        network: the network's name in the table.
        seed: gives the initialization and the order of the data.
        classifier: the compiled network.
        points: number of rows.
    """

    def measure(point: Point) -> Measured:
        measured = classifier.evaluate(point.state)
        row = {
            **{f"train_{name}": jnp.mean(point.metrics[name]) for name in ("loss", "accuracy")},
            **{f"validation_{name}": measured[name] for name in ("loss", "accuracy")},
        }
        return Measured({"curves": [row]}, f"accuracy {row['validation_accuracy']:.3f}")

    return train(
        run,
        f"{network}-{seed}",
        lambda: classifier.start(jax.random.key(seed)),
        classifier.advance,
        measure,
        points=every(classifier.between, points),
        where={"network": network, "seed": seed},
        steps=classifier.steps,
    )
