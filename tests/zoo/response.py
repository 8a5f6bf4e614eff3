"""Cases of the norms by windows and by the responses of other channels."""

import jax.numpy as jnp
import numpy as np

from jaxnorm import (
    divisive_norm,
    global_response_norm,
    local_contrast_norm,
    local_response_norm,
)
from tests.zoo.cases import Case


def valid(x, mask):
    return jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)


def window_sum(values, axis, taps):
    """Returns the weighted sum of the window around each entry, of what is there."""
    taps = np.asarray(taps)
    n, low = values.shape[axis], len(taps) // 2
    offsets = np.arange(n)[None, :] - np.arange(n)[:, None] + low
    inside = (offsets >= 0) & (offsets < len(taps))
    band = np.where(inside, taps[np.clip(offsets, 0, len(taps) - 1)], 0)
    return jnp.moveaxis(jnp.moveaxis(values, axis, -1) @ band.T, -1, axis)


def window_mean(values, w, taps_by_axis):
    total, count = w * values, w
    for axis, taps in taps_by_axis.items():
        total, count = window_sum(total, axis, taps), window_sum(count, axis, taps)
    return total / jnp.where(count > 0, count, 1)


def local_response_oracle(x, mask=None):
    return x / (1 + 0.5 * window_sum(valid(x, mask) * x**2, -1, np.ones(4))) ** 0.75


def local_contrast_oracle(x, mask=None):
    w = valid(x, mask)
    gaussian = np.exp(-0.5 * ((np.arange(5) - 2) / 1.5) ** 2)
    # All channels lie in a window of twice their number less one.
    windows = {1: gaussian, 2: gaussian, 3: np.ones(5)}
    v = x - window_mean(x, w, windows)
    square = window_mean(v**2, w, windows)[..., :1]
    spread = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    some = (w.sum(-1, keepdims=True) > 0).astype(x.dtype)
    usual = (some * spread).sum((1, 2), keepdims=True) / some.sum((1, 2), keepdims=True)
    return v / jnp.maximum(usual, spread)


def divisive_oracle(x, scale, bias, mask=None):
    w = valid(x, mask)
    v = x - window_mean(x, w, {1: np.ones(3), 2: np.ones(2)})
    energy = window_mean(v**2, w, {1: np.ones(2), 2: np.ones(4)})
    return v / jnp.sqrt(0.5**2 + energy) * scale + bias


def global_response_oracle(x, scale, bias, mask=None):
    square = (valid(x, mask) * x**2).sum((1, 2), keepdims=True)
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return x + scale * (x * length / (length.mean(-1, keepdims=True) + 1e-6)) + bias


def affine(rng, n):
    return {"scale": rng.normal(1, 0.3, n), "bias": rng.normal(size=n)}


def windows_of(function, **options):
    def call(x, scale=None, bias=None, mask=None):
        given = {} if scale is None else {"scale": scale, "bias": bias}
        return function(x, **given, mask=mask, **options)

    return call


RESPONSE = {"size": 4, "alpha": 0.5, "k": 1.0}
CONTRAST = {"window": 5, "std": 1.5, "epsilon": 0.0}
DIVISIVE = {"window": (3, 2), "suppression": (2, 4), "smoother": 0.5}

CASES = [
    Case(
        "local_response_norm",
        call=windows_of(local_response_norm, **RESPONSE),
        oracle=local_response_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(3, 2, 7))},
        module=RESPONSE,
    ),
    Case(
        "local_contrast_norm",
        call=windows_of(local_contrast_norm, **CONTRAST),
        oracle=local_contrast_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(2, 5, 6, 3))},
        module=CONTRAST,
    ),
    Case(
        "divisive_norm",
        call=windows_of(divisive_norm, **DIVISIVE),
        oracle=divisive_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(2, 5, 6, 3)), **affine(rng, 3)},
        module=DIVISIVE,
        features=3,
    ),
    Case(
        "global_response_norm",
        call=windows_of(global_response_norm),
        oracle=global_response_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(2, 4, 3, 5)), **affine(rng, 5)},
        module={},
        features=5,
    ),
]
