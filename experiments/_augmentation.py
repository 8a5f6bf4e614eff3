"""Distortions of training images on the device."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Images = dict[str, jax.Array]


def photometric(strength: float) -> Callable[[jax.Array, Images], Images]:
    """Return an augmentation that changes brightness, contrast and saturation of each image.

    Brightness multiplies the pixels. Contrast multiplies their distance from the image's mean.
    Saturation multiplies their distance from the pixel's grey. Each factor is drawn uniformly
    between `1 - strength` and `1 + strength`.

    Args:
        strength: largest relative change, from 0 to 1.

    Returns:
        (key, batch) -> batch, whose `inputs` [N, H, W, C], 0 to 255, become float32.
    """

    def augment(key: jax.Array, batch: Images) -> Images:
        x = batch["inputs"].astype(jnp.float32)
        shape = (3, x.shape[0], 1, 1, 1)
        factors = jax.random.uniform(key, shape, minval=1 - strength, maxval=1 + strength)
        brightness, contrast, saturation = factors
        x = x * brightness
        x = _spread(x, jnp.mean(x, axis=(1, 2, 3), keepdims=True), contrast)
        x = _spread(x, jnp.mean(x, axis=3, keepdims=True), saturation)
        return {**batch, "inputs": jnp.clip(x, 0, 255)}

    return augment


def _spread(x: jax.Array, centre: jax.Array, factor: jax.Array) -> jax.Array:
    return centre + factor * (x - centre)
