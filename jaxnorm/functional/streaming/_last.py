"""Values of the last batches, the newest first."""

import jax.numpy as jnp

from jaxnorm import _explicit
from jaxnorm.typing import Array


def entered(kept: Array, new: Array, seen: Array) -> Array:
    """Returns the values of the last batches after one more.

    Args:
        kept: [window, *shape], the newest first.
        new: [*shape].
        seen: broadcasts to [*shape]; false where the batch had no sample, so that nothing enters.

    Returns:
        [window, *shape], of the dtype of `kept`, and lying on devices as that.

    Examples:
        >>> entered(jnp.array([1.0, 2.0]), jnp.array(5.0), jnp.array(True))
        Array([5., 1.], dtype=float32)
    """
    last = kept[0]
    new, seen = (_explicit.like(jnp.broadcast_to(v, last.shape), last) for v in (new, seen))
    return jnp.where(seen, jnp.concatenate([new[None].astype(kept.dtype), kept[:-1]]), kept)
