"""Cases of the pointwise functions."""

import jax.numpy as jnp

from jaxnorm import dynamic_tanh
from tests.zoo.cases import Case


def dynamic_tanh_oracle(x, alpha, scale, bias):
    return scale * jnp.tanh(alpha * x) + bias


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
]
