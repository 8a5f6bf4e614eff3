"""Cases of the norms of each position over its features."""

import jax.numpy as jnp

from jaxnorm import p_rms_norm, pixel_norm, scale_norm
from tests.zoo.cases import Case


def sums(values, mask):
    """Returns the sum over the last axis, and how many entries it has."""
    w = jnp.ones(values.shape) if mask is None else jnp.broadcast_to(mask, values.shape)
    w = w.astype(values.dtype)
    return (w * values).sum(-1, keepdims=True), w.sum(-1, keepdims=True)


def over_rms(x, epsilon, mask=None):
    total, count = sums(x**2, mask)
    root = jnp.sqrt(total / jnp.where(count > 0, count, 1) + epsilon)
    return x / jnp.where(count > 0, root, 1)


def p_rms_norm_oracle(x, scale, bias, mask=None):
    first = x[..., :2]  # a quarter of seven, rounded up
    total, count = sums(first**2, None if mask is None else mask[..., :2])
    root = jnp.sqrt(total / jnp.where(count > 0, count, 1) + 1e-6)
    return x / jnp.where(count > 0, root, 1) * scale + bias


def scale_norm_oracle(x, scale, mask=None):
    length = jnp.sqrt(sums(x**2, mask)[0])
    return scale * x / jnp.maximum(length, 1e-5)


def pixel_norm_oracle(x, mask=None):
    return over_rms(x, 1e-8, mask)


CASES = [
    Case(
        "p_rms_norm",
        call=lambda x, scale, bias, mask=None: p_rms_norm(x, scale, bias, share=0.25, mask=mask),
        oracle=p_rms_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(5, 3, 7)),
            "scale": rng.normal(size=7),
            "bias": rng.normal(size=7),
        },
        module={"share": 0.25},
        features=7,
    ),
    Case(
        "scale_norm",
        call=scale_norm,
        oracle=scale_norm_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(4, 7)), "scale": rng.uniform(2, 3)},
        module={},
        features=7,
    ),
    Case(
        "pixel_norm",
        call=pixel_norm,
        oracle=pixel_norm_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(5, 3, 7))},
        module={},
    ),
]
