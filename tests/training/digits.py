"""Real data and small models for the tests of training."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from jaxnorm.linen import BatchNorm
from jaxnorm.models import MLP
from jaxnorm.training import TrainState, cross_entropy, make_train_step
from tests.models.reference import random_variables

DECAY = 0.9
batch_norm = functools.partial(BatchNorm, momentum=DECAY)


def small_model(norm=batch_norm, **fields) -> MLP:
    """Returns a network of one hidden layer whose norm sees a linear function of the data."""
    return MLP(features=(12,), num_outputs=10, norm=norm, activation=nn.tanh, **fields)


def digits() -> dict[str, np.ndarray]:
    """Returns the 1797 digits of scikit-learn as images [N, 8, 8, 1] in 0..1, and their labels."""
    images, labels = load_digits(return_X_y=True)
    inputs = images.reshape(-1, 8, 8, 1).astype(np.float32) / 16
    return {"inputs": inputs, "labels": labels.astype(np.int32)}


def rows(data: dict[str, np.ndarray], start: int, stop: int) -> dict[str, np.ndarray]:
    """Returns a slice of the data."""
    return {name: array[start:stop] for name, array in data.items()}


# Compiling dominates these tests, so most share one model, one optimizer and one batch size.
BATCH = rows(digits(), 0, 32)
MODEL = small_model()
TX = optax.sgd(0.2, momentum=0.9)
STEP = make_train_step(MODEL, TX, cross_entropy, donate=False)


@functools.cache
def start(model: nn.Module = MODEL, tx: Any = TX, seed: int = 0) -> TrainState:
    """Returns a fresh state, with nothing compiled. Tests share it: never donate it."""
    variables = random_variables(model, BATCH["inputs"], seed=seed, affine=0.0)
    params, stats = variables["params"], variables.get("batch_stats", {})
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, params, stats, tx.init(params), jax.random.key(seed), zero)


def bits(tree) -> list[bytes]:
    """Returns the bytes of every array, so that equality is equality of bits."""

    def raw(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()

    return [raw(leaf) for leaf in jax.tree.leaves(tree)]
