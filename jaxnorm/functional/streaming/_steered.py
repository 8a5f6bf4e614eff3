"""A backward pass with running statistics of its own, whose new values are gradients.

Shen, Yao, Gholami, Mahoney, Keutzer: PowerNorm, arXiv:2003.07845, 2020.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jaxnorm.stats import moments, whole_mean
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, Shape


class Over(NamedTuple):
    """What the means of a backward pass are taken over.

    Examples:
        >>> Over((1, 4), (4,)).stats_shape
        (1, 4)
    """

    stats_shape: Shape  # of the array
    kept: Shape  # [*features], of the running statistics
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


Rule = Callable[[Array, Array, Array, Any], tuple[Array, Array]]
"""Kept, mean(g z), mean(z z) and further arrays -> what `z` is multiplied by, and newly kept."""


def steered(
    rule: Rule, over: Over, z: Array, mask: ArrayLike | None, kept: Array, more: Any
) -> Array:
    """Returns `z`, whose gradient `g` is passed on as `g - share z`.

    The share is a statistic over this backward pass and earlier ones. Its memory has no other way
    out than the derivative: what stands for the gradient with respect to `kept` is its new value.

    Args:
        rule: returns the share, of [*features], and the new value of `kept`.
        over: what means are taken over.
        z: [*shape], normalized.
        mask: boolean, broadcastable to `z`; true where an entry takes part in the means.
        kept: the memory of earlier backward passes.
        more: further arrays for `rule`, constant for derivatives.

    Returns:
        `z`.

    Examples:
        >>> def rule(kept, gz, zz, more):
        ...     return kept, gz
        >>> run = lambda z, kept: (3 * steered(rule, Over((1,), ()), z, None, kept, ())).sum()
        >>> jax.grad(run, argnums=(0, 1))(jnp.array([1.0, -2.0]), jnp.array(0.5))
        (Array([2.5, 4. ], dtype=float32), Array(-1.5, dtype=float32))
    """
    return cast(Array, _steered(rule, over, z, mask, kept, more))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _steered(rule, over, z, mask, kept, more):
    return z


def _forward(rule, over, z, mask, kept, more):
    return z, (z, mask, kept, more)


def _backward(rule, over, residuals, g):
    z, mask, kept, more = residuals

    def average(values: Array) -> Array:
        shared = {"axis_name": over.axis_name, "axis_index_groups": over.axis_index_groups}
        taken = moments(values, over.stats_shape, mask=mask, **shared)
        return whole_mean(taken).reshape(over.kept)

    share, new = rule(kept, average(g * z), average(z * z), more)
    change = share.reshape(over.stats_shape) * z
    # An entry outside the sample has no part in its statistics, so nothing comes back from them.
    change = change if mask is None else jnp.where(mask, change, 0)
    return g - change, None, jnp.asarray(new, kept.dtype), None


_steered.defvjp(_forward, _backward)
