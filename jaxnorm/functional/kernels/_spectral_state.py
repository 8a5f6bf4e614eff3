"""What spectral normalization remembers from call to call, and what it starts with."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype, as_array
from jaxnorm.typing import Array, ArrayLike


class SpectralState(NamedTuple):
    """What power iteration remembers of a kernel.

    Examples:
        >>> SpectralState(jnp.ones(2), jnp.ones(())).u
        Array([1., 1.], dtype=float32)
    """

    u: Array  # [out], float32 or wider: an estimate of the right singular vector
    sigma: Array  # [], float32 or wider: the singular value last found


def spectral_norm_init(key: Array, kernel: ArrayLike) -> SpectralState:
    """Returns the state before any iteration: a random direction and `sigma = 1`.

    Args:
        key: a PRNG key.
        kernel: [..., out], of rank 2 or more.

    Returns:
        A `SpectralState`, float32 or wider.

    Examples:
        >>> spectral_norm_init(jax.random.key(0), jnp.ones((3, 2))).u.shape
        (2,)
    """
    kernel = as_array(kernel)
    dtype = accumulation_dtype(kernel.dtype)
    u = jax.random.normal(key, kernel.shape[-1:], dtype)
    return SpectralState(u, jnp.ones((), dtype))
