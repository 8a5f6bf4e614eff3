"""The inverse root of a covariance of two numbers in closed form.

Trabelsi et al.: Deep Complex Networks, arXiv:1705.09792, 2017.
"""

import jax
import jax.numpy as jnp

from jaxnorm.numerics import power_of_two
from jaxnorm.typing import Array


def pair_root(cov: Array, epsilon: Array) -> Array:
    """Returns the inverse roots of 2x2 matrices, for an epsilon that is positive."""
    trace = cov[..., 0, 0] + cov[..., 1, 1] + 2 * epsilon[..., 0, 0]
    unit = power_of_two(jax.lax.stop_gradient(trace))[..., None, None]
    v, e = cov / unit, epsilon[..., 0, 0] / unit[..., 0, 0]
    a, b, c = v[..., 0, 0] + e, v[..., 1, 1] + e, v[..., 0, 1]
    # Rounding may take the determinant below that of epsilon alone.
    s = jnp.sqrt(jnp.maximum(a * b - c * c, e * e))
    t = jnp.sqrt(a + b + 2 * s)
    rows = jnp.stack([jnp.stack([b + s, -c], -1), jnp.stack([-c, a + s], -1)], -2)
    return rows / (s * t)[..., None, None] / jnp.sqrt(unit)
