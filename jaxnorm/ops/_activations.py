"""Activations behind a normalization, and their slopes, as plain JAX and the kernels compute them.

Elfwing, Uchibe, Doya: Sigmoid-Weighted Linear Units, arXiv:1702.03118, 2017. Hendrycks, Gimpel:
Gaussian Error Linear Units, arXiv:1606.08415, 2016.
"""

import math
from typing import Literal, get_args

import jax.numpy as jnp
from jax import lax

from jaxnorm.typing import Array

Activation = Literal["relu", "silu", "gelu"]
"""`jax.nn.relu`, `jax.nn.silu` or `jax.nn.gelu`, the last in its usual form with tanh."""

# Of the form with tanh (arXiv:1606.08415, section 2).
INNER, CUBE = math.sqrt(2 / math.pi), 0.044715
# From there on what is let pass is zero or one, in float64 too. No cube below overflows.
FLAT = 32.0


def check_activation(activation: str | None, *arrays: Array | None) -> None:
    """Raises where an activation is unknown, or what it is taken of is complex.

    Args:
        activation: "relu", "silu", "gelu" or None.
        *arrays: what enters; None where something is missing.

    Returns:
        Nothing.

    Raises:
        ValueError: it is none of these.
        TypeError: there is an activation, and an array is complex.

    Examples:
        >>> check_activation("silu", jnp.ones(2))
    """
    if activation not in (None, *get_args(Activation)):
        raise ValueError(
            f"activation={activation!r} is unknown; use 'relu', 'silu', 'gelu' or None, and call "
            "any other function on the output"
        )
    if activation is not None and any(map(jnp.iscomplexobj, arrays)):
        raise TypeError(
            f"activation={activation!r} takes real numbers, but the input or a parameter is "
            "complex; leave it out, and call a complex function on the output"
        )


def activated(activation: str | None, z: Array) -> Array:
    """Returns the activation of each entry.

    Args:
        activation: its name; None leaves `z` as it is.
        z: [*shape], real, of float32 or wider.

    Returns:
        [*shape].

    Examples:
        >>> activated("relu", jnp.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """
    if activation is None:
        return z
    if activation == "relu":
        return jnp.maximum(z, 0)
    return z * (lax.logistic(z) if activation == "silu" else _share(z)[0])


def slope(activation: str | None, z: Array) -> Array | float:
    """Returns the derivative of the activation at each entry.

    Args:
        activation: its name; None for the identity.
        z: [*shape], real, of float32 or wider.

    Returns:
        [*shape], or the number one.

    Examples:
        >>> slope("relu", jnp.array([-1.0, 2.0]))
        Array([0., 1.], dtype=float32)
    """
    if activation is None:
        return 1.0
    if activation == "relu":
        return jnp.where(z > 0, jnp.ones_like(z), jnp.zeros_like(z))
    if activation == "silu":
        share = lax.logistic(z)
        return share + (z * share) * (1 - share)
    share, of_inner, z = _share(z)
    return share + 2 * z * share * (1 - share) * of_inner


def _share(z: Array) -> tuple[Array, Array, Array]:
    """Returns what GELU lets pass of each entry, the slope of tanh's argument, and `z` within FLAT.

    `(1 + tanh(v)) / 2` is `logistic(2 v)`, which loses no digits where tanh is near -1.
    """
    z = jnp.clip(z, -FLAT, FLAT)
    inner = INNER * (z + CUBE * (z * z * z))
    return lax.logistic(2 * inner), INNER * (1 + 3 * CUBE * (z * z)), z
