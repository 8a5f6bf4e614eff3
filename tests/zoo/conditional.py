"""Cases of the norms that follow a condition."""

import jax.numpy as jnp

from jaxnorm import (
    ada_layer_norm,
    ada_layer_norm_zero,
    adaptive_instance_norm,
    conditional_batch_norm,
    film,
    modulated_rms_norm,
    moments,
    spade,
)
from jaxnorm.stats import ema
from tests.zoo.cases import Case


def sampled(x, mask, axes, center=True):
    """Returns mean and variance over some axes, in which masked entries have no part."""
    w = jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)
    count = w.sum(axes, keepdims=True)
    mean = (w * x).sum(axes, keepdims=True) / count if center else 0.0
    return mean, (w * (x - mean) ** 2).sum(axes, keepdims=True) / count


def rows(parameter, x):
    """Returns [N, C] with the rank of `x`."""
    return parameter.reshape(x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])


def batch_oracle(x, scale, bias, mask=None):
    m, v = sampled(x, mask, tuple(range(x.ndim - 1)))
    return (x - m) / jnp.sqrt(v + 1e-5) * (1 + scale) + bias


def conditional_batch_norm_oracle(x, scale, bias, mask=None):
    return batch_oracle(x, rows(scale, x), rows(bias, x), mask)


def in_training(function):
    """Returns the output in training mode, without the running statistics."""

    def call(x, scale, bias, mask=None):
        stats = ema().init(x.shape[-1:])
        return function(x, stats, scale, bias, use_running_average=False, mask=mask)[0]

    return call


def film_oracle(x, scale, bias):
    return x * rows(scale, x) + rows(bias, x)


def adaptive_instance_norm_oracle(x, style, mask=None):
    m, v = sampled(x, mask, (1, 2))
    wanted, spread = sampled(style, None, (1, 2))
    return (x - m) / jnp.sqrt(v + 1e-5) * jnp.sqrt(spread + 1e-5) + wanted


def by_moments(x, style, mask=None):
    """Returns the norm by the style's moments, which are taken outside."""
    taken = moments(style, (x.shape[0], 1, 1, x.shape[-1]))
    return adaptive_instance_norm(x, taken, mask=mask)


def ada_layer_norm_oracle(x, scale, bias, mask=None):
    m, v = sampled(x, mask, -1)
    return (x - m) / jnp.sqrt(v + 1e-6) * (1 + rows(scale, x)) + rows(bias, x)


def ada_layer_norm_zero_oracle(x, scale, bias, gate, mask=None):
    return ada_layer_norm_oracle(x, scale, bias, mask), rows(gate, x)


def modulated_rms_norm_oracle(x, scale, bias, mask=None):
    _, v = sampled(x, mask, -1, center=False)
    return x / jnp.sqrt(v + 1e-6) * (1 + rows(scale, x)) + rows(bias, x)


def affine(rng, *names, shape=(4, 6)):
    return {name: rng.normal(0.2, 0.5, shape) for name in names}


CASES = [
    Case(
        "conditional_batch_norm",
        call=in_training(conditional_batch_norm),
        oracle=conditional_batch_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 6)),
            **affine(rng, "scale", "bias"),
        },
    ),
    Case(
        "film",
        call=film,
        oracle=film_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(4, 3, 6)), **affine(rng, "scale", "bias")},
    ),
    Case(
        "adaptive_instance_norm",
        call=adaptive_instance_norm,
        oracle=adaptive_instance_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(2, 3, 2, 4)),
            "style": rng.normal(3, 2, size=(2, 2, 4, 4)),
        },
    ),
    Case(
        "adaptive_instance_norm",
        variant="moments",
        call=by_moments,
        oracle=adaptive_instance_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(2, 3, 2, 4)),
            "style": rng.normal(3, 2, size=(2, 2, 4, 4)),
        },
    ),
    Case(
        "spade",
        call=in_training(spade),
        oracle=batch_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(2, 2, 3, 6)),
            **affine(rng, "scale", "bias", shape=(2, 2, 3, 6)),
        },
    ),
    Case(
        "ada_layer_norm",
        call=ada_layer_norm,
        oracle=ada_layer_norm_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(4, 3, 6)), **affine(rng, "scale", "bias")},
    ),
    Case(
        "ada_layer_norm_zero",
        call=ada_layer_norm_zero,
        oracle=ada_layer_norm_zero_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 6)),
            **affine(rng, "scale", "bias", "gate"),
        },
    ),
    Case(
        "modulated_rms_norm",
        call=modulated_rms_norm,
        oracle=modulated_rms_norm_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(4, 3, 6)), **affine(rng, "scale", "bias")},
    ),
]
