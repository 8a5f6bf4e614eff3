"""The domain of each example of a batch, and the moments of each domain."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm.stats import Moments, moments
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.typing import Array, ArrayLike, Shape


def domains_of(domain: ArrayLike, shape: Shape) -> Array:
    """Returns one domain for each example, [N], after checking that they are integers.

    Examples:
        >>> domains_of(3, (2, 5))
        Array([3, 3], dtype=int32, weak_type=True)
    """
    ids = jnp.asarray(domain)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"domain must be integers, got {ids.dtype} {list(ids.shape)}")
    if ids.shape not in ((), shape[:1]):
        raise ValueError(
            f"domain {list(ids.shape)} must have one number for each of the {shape[0]} examples of "
            f"x {list(shape)}; give it shape {list(shape[:1])}, or [] for all alike"
        )
    return jnp.broadcast_to(ids, shape[:1])


def domain_moments(
    x: Array, stats_shape: Shape, ids: Array, count: int, sample: dict[str, Any]
) -> Moments:
    """Returns the moments of the examples of each of `count` domains, [count, *stats_shape].

    Examples:
        >>> x, ids = jnp.array([[1.0], [10.0], [3.0]]), jnp.array([0, 1, 0])
        >>> domain_moments(x, (1, 1), ids, 2, {"mask": None}).mean.ravel()
        Array([ 2., 10.], dtype=float32)
    """
    mask, others = sample["mask"], {name: v for name, v in sample.items() if name != "mask"}
    valid = True if mask is None else broadcasting(mask, x.shape, "mask")

    def taken(domain: Array) -> Moments:
        member = (ids == domain).reshape(-1, *(1,) * (x.ndim - 1))
        return moments(x, stats_shape, mask=member & valid, **others)

    return jax.vmap(taken)(jnp.arange(count))
