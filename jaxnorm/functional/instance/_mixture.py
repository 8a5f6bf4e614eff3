"""A learned mixture of the statistics of several norms.

Luo et al.: Differentiable Learning-to-Normalize via Switchable Normalization,
arXiv:1806.10779, 2018.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from jaxnorm.numerics import sum_of_two
from jaxnorm.stats import Moments, mix
from jaxnorm.typing import Array, ArrayLike

Candidate = Literal["instance", "layer", "batch"]
"""A norm whose statistics take part in a mixture."""


def softmaxed(logits: ArrayLike, name: str, candidates: Sequence[str]) -> Array:
    """Returns the weights of the K candidates from their logits [K], called `name` in the error.

    Examples:
        >>> softmaxed(jnp.zeros(2), "mean_logits", ("layer", "batch"))
        Array([0.5, 0.5], dtype=float32)
    """
    unknown = sorted({*candidates} - {"instance", "layer", "batch"})
    if unknown or not candidates:
        raise ValueError(
            f"candidates={tuple(candidates)} must be some of 'instance', 'layer' and 'batch'"
        )
    logits = jnp.asarray(logits)
    if logits.shape != (len(candidates),):
        raise ValueError(
            f"{name} {list(logits.shape)} must have one entry for each of the {len(candidates)} "
            f"candidates {tuple(candidates)}; give it shape [{len(candidates)}]"
        )
    return jax.nn.softmax(logits)


def mixed(mean_weights: Array, var_weights: Array, found: Sequence[Moments]) -> Moments:
    """Returns the mixture about the first of the means.

    Weights sum to one up to a rounding, which would move a mean far from zero by whole deviations.

    Examples:
        >>> parts = [(1.0, 4.0, 2.0), (3.0, 8.0, 2.0)]
        >>> found = [Moments(*(jnp.array([n]) for n in part)) for part in parts]
        >>> both = mixed(jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75]), found)
        >>> both.mean, both.var
        (Array([2.], dtype=float32), Array([7.], dtype=float32))
    """
    pivot = jax.lax.stop_gradient(found[0].mean)

    def about_pivot(moments: Moments) -> Moments:
        tail = 0 if moments.tail is None else moments.tail
        near = (moments.mean - pivot) + tail
        return moments._replace(mean=near, tail=jnp.zeros_like(near))

    mixed = mix(mean_weights, [about_pivot(moments) for moments in found], var_weights)
    mean, tail = sum_of_two(jnp.broadcast_to(pivot, mixed.mean.shape), mixed.mean)
    return mixed._replace(mean=mean, tail=tail if mixed.tail is None else tail + mixed.tail)
