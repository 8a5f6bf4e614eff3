"""A backward pass that steers a mean towards zero from sample to sample, by what it remembers.

Chiley et al.: Online Normalization for Training Neural Networks, arXiv:1905.05894, 2019.
"""

import functools
from typing import cast

import jax
import jax.numpy as jnp

from jaxnorm import _explicit
from jaxnorm.stats import moments, whole_mean
from jaxnorm.typing import Array, ArrayLike, Shape


def controlled(
    x: Array,
    along: Array | None,
    kept: Array,
    rate: Array,
    *,
    stats_shape: Shape,
    mask: ArrayLike | None,
) -> Array:
    """Returns `x`, whose gradient loses its part along a direction, sample after sample.

    The gradient `g` of a sample is passed on as `h = g - rate kept along`, and `kept` grows by the
    mean of `h along` over the sample. That has no other way out than the derivative: what stands
    for the gradient with respect to `kept` is its value after the last sample.

    Args:
        x: [N, *shape], samples in their order.
        along: [N, *shape], the direction, constant for derivatives; None for ones.
        kept: [*features], what earlier backward passes left.
        rate: [], the share of `kept` that is taken away.
        stats_shape: [N, ...] of the rank of `x`, of the means of the samples.
        mask: boolean, broadcastable to `x`; true where an entry takes part.

    Returns:
        `x`.

    Examples:
        >>> how = {"stats_shape": (2, 1), "mask": None}
        >>> run = lambda x, kept: (3 * controlled(x, None, kept, jnp.array(0.5), **how)).sum()
        >>> jax.grad(run, argnums=(0, 1))(jnp.ones((2, 1)), jnp.array([2.0]))
        (Array([[2.],
               [1.]], dtype=float32), Array([5.], dtype=float32))
    """
    return cast(Array, _controlled(stats_shape, x, along, kept, rate, mask))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _controlled(stats_shape, x, along, kept, rate, mask):
    return x


def _forward(stats_shape, x, along, kept, rate, mask):
    return x, (along, kept, rate, mask)


def _backward(stats_shape, residuals, g):
    along, kept, rate, mask = residuals
    along = jnp.ones_like(g) if along is None else along

    def step(kept: Array, means: tuple[Array, Array]) -> tuple[Array, Array]:
        product, square = means
        return kept + (product - rate * kept * square), kept

    def mean(values: Array) -> Array:
        return whole_mean(moments(values, stats_shape, mask=mask))

    product, square = _explicit.gathered((mean(g * along), mean(along * along)), [0])
    last, before = jax.lax.scan(step, kept.reshape(stats_shape[1:]), (product, square))
    change = rate * before * along
    change = change if mask is None else jnp.where(mask, change, 0)
    return g - change, None, last.reshape(kept.shape), None, None


_controlled.defvjp(_forward, _backward)
