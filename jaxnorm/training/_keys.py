"""The keys of a run as functions of its one key and a counter."""

import jax

from jaxnorm.typing import Array


def noise_key(rng: Array, step: Array) -> Array:
    """Returns the key of a step's noise (dropout, augmentation).

    Args:
        rng: [], the run's key.
        step: [], int32, the step's number.

    Returns:
        [], a key, distinct for each step and from all keys of `order_key`.

    Examples:
        >>> rng = jax.random.key(0)
        >>> bool(noise_key(rng, 1) == noise_key(rng, 2))
        False
    """
    return jax.random.fold_in(jax.random.fold_in(rng, 0), step)


def order_key(rng: Array, epoch: Array) -> Array:
    """Returns the key of the order in which an epoch visits the data.

    Args:
        rng: [], the run's key.
        epoch: [], int32, the epoch's number.

    Returns:
        [], a key, distinct for each epoch and from all keys of `noise_key`.

    Examples:
        >>> rng = jax.random.key(0)
        >>> bool(order_key(rng, 1) == noise_key(rng, 1))
        False
    """
    return jax.random.fold_in(jax.random.fold_in(rng, 1), epoch)
