"""What takes a batch's normalized values to those that running statistics would give.

Ioffe: Batch Renormalization, arXiv:1702.03275, 2017.
"""

import jax
import jax.numpy as jnp

from jaxnorm.stats import Moments
from jaxnorm.typing import Array, ArrayLike


def corrections(
    batch: Moments, running: Moments, r_max: ArrayLike, d_max: ArrayLike, epsilon: float
) -> tuple[Array, Array]:
    """Returns r and d of `batch_renorm`, one and zero for an empty sample, as constants.

    Examples:
        >>> batch, running = (Moments(*map(jnp.array, m)) for m in [(3.0, 4.0, 9), (2.0, 1.0, 9)])
        >>> [float(part) for part in corrections(batch, running, 3.0, 5.0, 0.0)]
        [2.0, 1.0]
    """
    tails = [0 if part.tail is None else part.tail for part in (batch, running)]
    sd = jnp.sqrt(running.var + epsilon)
    # The difference of the heads first: the means may be large and close to each other.
    moved = (batch.mean - running.mean) + (tails[0] - tails[1])
    r_max, d_max, seen = jnp.asarray(r_max), jnp.asarray(d_max), batch.count > 0
    r = jnp.clip(jnp.sqrt(batch.var + epsilon) / sd, 1 / r_max, r_max)
    d = jnp.clip(moved / sd, -d_max, d_max)
    return jax.lax.stop_gradient((jnp.where(seen, r, 1), jnp.where(seen, d, 0)))
