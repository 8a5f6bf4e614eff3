"""The networks of the paper, and how they train."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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

from .._augmentation import photometric
from .._classification import Classifier, centred
from .._hosts import spread
from ..data import Batch, Crop, ImageFolder, stream, training_batches, validation_batches

_PAPERS_BATCH = 32  # learning rates and steps are given for this batch size
_EVALUATED_AT_A_TIME = 256
_STEPS_AT_A_TIME = 25  # at most, so that a signal to end is heard soon


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


class Network(NamedTuple):
    """Functions that are compiled once for models that differ only in learning rate and seed."""

    start: Callable[[jax.Array], TrainState]
    train_step: TrainStep
    eval_step: EvalStep


def make_model(config: Any, classes: int, recipe: Recipe) -> Inception:
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


def learning_rate(config: Any, recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step. With batch norm the rate falls six times as fast."""
    halvings = step / config.half_life * (6 if recipe.norm else 1)
    return config.learning_rate * recipe.rate * config.batch_size / _PAPERS_BATCH / 2**halvings


def compiled(config: Any, classes: int, recipe: Recipe) -> Network:
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


def make_classifier(
    config: Any,
    recipe: Recipe,
    network: Network,
    train: ImageFolder,
    validation: ImageFolder,
    seed: int,
) -> Classifier:
    """Return a model with its data in the order that one seed gives.

    The metrics of an `advance` are those of all steps since the last evaluation.
    """
    mesh = Mesh(np.array(jax.devices()), ("data",))
    process = (jax.process_index(), jax.process_count())
    batches = training_batches(
        train,
        Crop(config.pixels, config.least_area),
        batch_size=config.batch_size,
        seed=seed,
        reshuffle=recipe.norm,
        process=process,
    )
    reading = {"threads": config.threads, "workers": config.workers}
    ahead: dict[int, Any] = {}  # the next step -> the stream whose next batch is for that step
    between = config.steps // config.points
    steps = max(n for n in range(1, _STEPS_AT_A_TIME + 1) if between % n == 0)
    log: list[Metrics] = []

    def advance(state: TrainState) -> tuple[TrainState, Metrics]:
        first = int(state.step)
        left = ahead.pop(first, None) or stream(batches, first, **reading)
        if first % between == 0:
            log.clear()
        for step in range(first, first + steps):
            state = _with_rate(state, learning_rate(config, recipe, step))
            state, metrics = network.train_step(state, _placed(next(left), mesh))
            log.append(metrics)
        ahead[step + 1] = left
        log[-steps:] = jax.device_get(log[-steps:])
        return state, jax.tree.map(lambda *values: np.stack(values), *log)

    def evaluate(state: TrainState) -> Metrics:
        every = validation_batches(
            validation,
            size=config.pixels,
            batch_size=_EVALUATED_AT_A_TIME,
            threads=config.threads,
            process=process,
        )
        sums = [network.eval_step(state, _placed(batch, mesh)) for batch in every]
        total = jax.tree.map(lambda *parts: sum(parts), *sums)
        return {name: total[name] / total["images"] for name in ("loss", "accuracy")}

    return Classifier(
        start=lambda key: spread(network.start(key)),
        advance=advance,
        evaluate=evaluate,
        steps=steps,
        between=between,
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
