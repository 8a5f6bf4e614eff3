"""How the bounds of batch renormalization are relaxed in the course of training.

Ioffe: Batch Renormalization, arXiv:1702.03275, 2017.
"""

import jax.numpy as jnp

from jaxnorm.typing import Array, ArrayLike


def batch_renorm_schedule(step: ArrayLike) -> tuple[Array, Array]:
    """Returns the bounds that the paper relaxes in the course of training.

    Batch normalization for 5000 steps; then `r_max` rises from 1 to 3 at step 40000, and `d_max`
    from 0 to 5 at step 25000 (Ioffe, arXiv:1702.03275, 2017, section 4). Linear in between, where
    the paper says "gradually".

    Args:
        step: [], the number of training steps before this one; may be traced.

    Returns:
        `r_max` and `d_max`, [] of float32.

    Examples:
        >>> batch_renorm_schedule(15_000)[1]
        Array(2.5, dtype=float32)
    """
    step = jnp.asarray(step, jnp.float32)
    share = jnp.clip((step - 5e3) / 35e3, 0, 1), jnp.clip((step - 5e3) / 20e3, 0, 1)
    return 1 + 2 * share[0], 5 * share[1]
