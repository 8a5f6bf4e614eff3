"""Spectral normalization: a kernel divided by its largest singular value.

Miyato, Kataoka, Koyama, Yoshida: Spectral Normalization for Generative Adversarial Networks,
arXiv:1802.05957, 2018.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm.numerics import accumulation_dtype, require_inexact
from jaxnorm.typing import Array, ArrayLike, DTypeLike


class SpectralState(NamedTuple):
    """What power iteration remembers of a kernel."""

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
    kernel = jnp.asarray(kernel)
    dtype = accumulation_dtype(kernel.dtype)
    u = jax.random.normal(key, kernel.shape[-1:], dtype)
    return SpectralState(u, jnp.ones((), dtype))


def spectral_norm(
    kernel: ArrayLike,
    state: SpectralState,
    *,
    n_steps: int = 1,
    epsilon: float = 1e-12,
    dtype: DTypeLike | None = None,
) -> tuple[Array, SpectralState]:
    """Returns `kernel / sigma` with its largest singular value `sigma`, and the state after it.

    The kernel is seen as a matrix `[-1, out]`; `sigma = v^T W u` after `n_steps` of power
    iteration, whose vectors are constants for derivatives (Miyato et al., arXiv:1802.05957, 2018,
    algorithm 1). `n_steps=0` uses the stored vector as it is, which is what evaluation needs.

    Args:
        kernel: [..., out], of rank 2 or more, floating.
        state: what the last call returned, or `spectral_norm_init`.
        n_steps: steps of power iteration.
        epsilon: added to the squared norm of the vectors.
        dtype: the output's dtype; that of `kernel` if None.

    Returns:
        The kernel, of the shape of `kernel` and of `dtype`, and a `SpectralState`.

    Raises:
        ValueError: the rank is below 2, the state is of another kernel, or `n_steps` is negative.
        TypeError: `kernel` is not floating.

    Examples:
        >>> kernel = jnp.array([[4.0, 0.0], [0.0, 1.0]])
        >>> w, state = spectral_norm(kernel, SpectralState(jnp.ones(2), jnp.ones(())), n_steps=20)
        >>> w.round(3), state.sigma.round(3)
        (Array([[1.  , 0.  ],
               [0.  , 0.25]], dtype=float32), Array(4., dtype=float32))
    """
    kernel = jnp.asarray(kernel)
    require_inexact(kernel, "kernel")
    if kernel.ndim < 2:
        raise ValueError(
            f"spectral_norm needs a kernel of rank 2 or more, got {list(kernel.shape)}; leave "
            "vectors and scalars as they are"
        )
    if state.u.shape != kernel.shape[-1:]:
        raise ValueError(
            f"the state has u {list(state.u.shape)}, but the kernel {list(kernel.shape)} needs "
            f"[{kernel.shape[-1]}]; make one with spectral_norm_init(key, kernel)"
        )
    if n_steps < 0:
        raise ValueError(f"n_steps={n_steps} must not be negative; 0 uses the stored vector")
    matrix = kernel.reshape(-1, kernel.shape[-1]).astype(accumulation_dtype(kernel.dtype))
    fixed = lax.stop_gradient(matrix)
    u = state.u.astype(matrix.dtype)
    v = _unit(fixed @ u, epsilon)
    for step in range(n_steps):
        v = _unit(fixed @ u, epsilon) if step else v
        u = _unit(v @ fixed, epsilon)
    u, v = lax.stop_gradient((u, v))
    sigma = v @ matrix @ (u if n_steps else _unit(u, epsilon))
    w = matrix / jnp.where(sigma != 0, sigma, 1)
    state = SpectralState(u.astype(state.u.dtype), sigma.astype(state.sigma.dtype))
    return w.reshape(kernel.shape).astype(dtype or kernel.dtype), state


def _unit(vector: Array, epsilon: float) -> Array:
    return vector * lax.rsqrt(jnp.sum(vector * vector) + epsilon)
