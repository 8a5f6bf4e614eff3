"""Cases of the norms of kernels that have no oracle in `tests.oracles`: x is the kernel."""

import jax.numpy as jnp
import numpy as np

from jaxnorm import scaled_weight_standardization, weight_centralization
from tests.zoo.cases import Case


def scaled_weight_standardization_oracle(x, scale=1.0, epsilon=1e-4, gain=1.0):
    fan_in = x.size // x.shape[-1]
    mean = x.mean(tuple(range(x.ndim - 1)))
    var = ((x - mean) ** 2).mean(tuple(range(x.ndim - 1)))
    return (
        gain
        * scale
        * (x - mean)
        / jnp.sqrt(jnp.where(var * fan_in > epsilon, var * fan_in, epsilon))
    )


def weight_centralization_oracle(x):
    matrix = x.reshape(-1, x.shape[-1])
    n = len(matrix)
    return ((jnp.eye(n) - jnp.ones((n, n)) / n) @ matrix).reshape(x.shape)


CASES = [
    Case(
        "scaled_weight_standardization",
        call=lambda x, scale: scaled_weight_standardization(x, scale, gain=1.7),
        oracle=lambda x, scale: scaled_weight_standardization_oracle(x, scale, gain=1.7),
        arrays=lambda rng: {"x": rng.normal(size=(3, 2, 4, 5)), "scale": rng.normal(size=5)},
    ),
    Case(
        "scaled_weight_standardization",
        variant="lower_bound",
        # Three of the outputs deviate less than the bound, two more.
        call=lambda x: scaled_weight_standardization(x, epsilon=10.0),
        oracle=lambda x: scaled_weight_standardization_oracle(x, epsilon=10.0),
        arrays=lambda rng: {"x": rng.normal(size=(6, 5)) * np.array([0.1, 3.0, 0.2, 4.0, 0.3])},
    ),
    Case(
        "weight_centralization",
        call=lambda x: weight_centralization(x),
        oracle=weight_centralization_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(3, 2, 4, 5))},
    ),
]
