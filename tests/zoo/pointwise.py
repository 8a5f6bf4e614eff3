"""Cases of the pointwise functions."""

import jax
import jax.numpy as jnp

from jaxnorm import (
    dynamic_erf,
    dynamic_tanh,
    layer_scale,
    re_zero,
    skip_init,
    thresholded_linear_unit,
)
from tests.zoo.cases import Case


def dynamic_tanh_oracle(x, alpha, scale, bias):
    return scale * jnp.tanh(alpha * x) + bias


def dynamic_erf_oracle(x, alpha, shift, scale, bias):
    return scale * (1 - jax.scipy.special.erfc(alpha * x + shift)) + bias


def thresholded_linear_unit_oracle(x, threshold):
    return jnp.where(x > threshold, x, threshold)


def layer_scale_oracle(x, scale):
    return x @ jnp.diag(scale)


def re_zero_oracle(x, branch, alpha):
    return x + alpha * branch


def skip_init_oracle(x, alpha):
    return alpha * x


CASES = [
    Case(
        "dynamic_tanh",
        call=dynamic_tanh,
        oracle=dynamic_tanh_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 6)),
            "alpha": rng.uniform(0.3, 0.7),
            "scale": rng.normal(size=6),
            "bias": rng.normal(size=6),
        },
        module={},
        features=6,
    ),
    Case(
        "dynamic_erf",
        call=dynamic_erf,
        oracle=dynamic_erf_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 6)),
            "alpha": rng.uniform(0.3, 0.7),
            "shift": rng.uniform(-0.3, 0.3),
            "scale": rng.normal(size=6),
            "bias": rng.normal(size=6),
        },
        module={},
        features=6,
    ),
    Case(
        "thresholded_linear_unit",
        call=thresholded_linear_unit,
        oracle=thresholded_linear_unit_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 6)),
            "threshold": rng.normal(size=6),
        },
        module={},
        features=6,
    ),
    Case(
        "layer_scale",
        call=layer_scale,
        oracle=layer_scale_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(4, 3, 6)), "scale": rng.normal(size=6)},
        module={},
        features=6,
    ),
    Case(
        "re_zero",
        call=re_zero,
        oracle=re_zero_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 6)),
            "branch": rng.normal(size=(4, 6)),
            "alpha": rng.normal(),
        },
        module={},
        given=("branch",),
    ),
    Case(
        "skip_init",
        call=skip_init,
        oracle=skip_init_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(4, 6)), "alpha": rng.normal()},
        module={},
    ),
]
