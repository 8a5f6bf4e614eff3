"""Spectral normalization: a kernel divided by its largest singular value.

Miyato, Kataoka, Koyama, Yoshida: Spectral Normalization for Generative Adversarial Networks,
arXiv:1802.05957, 2018.
"""

import jax.numpy as jnp
from jax import lax

from jaxnorm.functional.kernels._spectral_state import SpectralState
from jaxnorm.numerics import accumulation_dtype, as_array, power_of_two, quotient, require_inexact
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def spectral_norm(
    kernel: ArrayLike,
    state: SpectralState,
    *,
    n_steps: int = 1,
    update_state: bool = True,
    epsilon: float = 1e-12,
    dtype: DTypeLike | None = None,
) -> tuple[Array, SpectralState]:
    """Returns `kernel / sigma` with its largest singular value `sigma`, and the state after it.

    `w = kernel / sigma`. The kernel is seen as a matrix W, `[-1, out]`; `sigma = v^T W u` after
    `n_steps` of power iteration, whose vectors are constants for derivatives (Miyato et al.,
    arXiv:1802.05957, 2018, algorithm 1). Evaluation is `update_state=False`: the stored vector as
    it is, and no step.

    Args:
        kernel: [..., out], of rank 2 or more, floating.
        state: what the last call returned, or `spectral_norm_init`.
        n_steps: steps of power iteration; 0 uses the stored vector as it is.
        update_state: whether the state moves. If not, the stored vector serves. Before the first
            step (`sigma` is exactly 1) the stored vector is a random direction; then `n_steps` are
            taken from it, and their result serves but is not stored.
        epsilon: added to the squared norm of the vectors, whose largest entries are near 1.
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
    kernel = as_array(kernel)
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
    u, v = lax.stop_gradient(_vectors(fixed, state, n_steps, update_state, epsilon))
    sigma = v @ matrix @ u
    w = quotient(matrix, jnp.where(sigma != 0, sigma, 1))
    w = w.reshape(kernel.shape).astype(dtype or kernel.dtype)
    if not update_state:
        return w, state
    if n_steps:
        state = state._replace(u=u.astype(state.u.dtype))
    return w, state._replace(sigma=sigma.astype(state.sigma.dtype))


def _vectors(
    matrix: Array, state: SpectralState, n_steps: int, update_state: bool, epsilon: float
) -> tuple[Array, Array]:
    """Returns the right and the left vector, of length one."""
    stored = state.u.astype(matrix.dtype)
    u, v = _unit(stored, epsilon), _unit(matrix @ stored, epsilon)
    if not n_steps:
        return u, v
    stepped, left = _unit(v @ matrix, epsilon), v
    for _ in range(n_steps - 1):
        left = _unit(matrix @ stepped, epsilon)
        stepped = _unit(left @ matrix, epsilon)
    if update_state:
        return stepped, left
    fresh = state.sigma == 1
    return jnp.where(fresh, stepped, u), jnp.where(fresh, left, v)


def _unit(vector: Array, epsilon: float) -> Array:
    # In a unit of its own, or epsilon would outweigh the square of a small kernel and sigma vanish.
    vector = vector / power_of_two(jnp.max(jnp.abs(vector), initial=0))
    return vector * lax.rsqrt(jnp.sum(vector * vector) + epsilon)
