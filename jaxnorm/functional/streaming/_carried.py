"""The moments of earlier batches, carried over to the current kernel to first order.

Yao et al.: Cross-Iteration Batch Normalization, arXiv:2002.05712, 2020.
"""

import jax
import jax.numpy as jnp

from jaxnorm import _explicit
from jaxnorm.functional.streaming._last import entered
from jaxnorm.functional.streaming._states import CrossIterationState
from jaxnorm.stats import BatchStats, Moments, ema, pool, rescaled, whole_mean
from jaxnorm.typing import Array


def with_earlier(
    own: Moments, state: CrossIterationState, kernel: Array, unit: Array, burn_in_steps: int
) -> Moments:
    """Returns the moments of a batch and of the earlier ones as one sample, all of one weight.

    Args:
        own: of [C], of this batch, in its units.
        state: what is known of the earlier ones, constant for derivatives.
        kernel: [..., C], to which they are carried over.
        unit: [C], powers of two: the unit of the batch.
        burn_in_steps: how many batches have to be past before they count.

    Returns:
        `Moments` of [C], in units of the batch.

    Examples:
        >>> own = Moments(jnp.array([3.0]), jnp.zeros(1), jnp.ones(1), jnp.zeros(1))
        >>> state = CrossIterationState.start((1, 1), window=2)
        >>> state = state._replace(updates=jnp.ones(1), mean_slopes=jnp.full((1, 1, 1), 2.0))
        >>> with_earlier(own, state, jnp.array([[0.5]]), jnp.ones(1), 0).mean
        Array([2.], dtype=float32)
    """
    moved = kernel - state.kernels
    by_mean, by_var = (
        jnp.einsum("k...c,k...c->kc", slopes, moved)
        for slopes in (state.mean_slopes, state.var_slopes)
    )
    var = jnp.maximum(state.vars + by_var - by_mean**2, 0)
    age = jnp.arange(len(state.means))[:, None]
    counts = (age < state.updates) & (state.updates >= burn_in_steps)
    earlier = Moments(state.means + by_mean, var, counts, jnp.zeros_like(var))
    earlier = rescaled(earlier, 1 / unit)
    own = own._replace(count=jnp.broadcast_to(own.count, own.var.shape) > 0)
    rows = jax.tree.map(_before, own, earlier)
    rows = rows._replace(count=rows.count.astype(rows.var.dtype))
    return jax.tree.map(lambda v: v[0], pool(rows, (1, *own.mean.shape)))


def _before(new: Array, old: Array) -> Array:
    """Returns [1 + window, C], lying on devices as what is `old`."""
    return jnp.concatenate([_explicit.like(new, old[0])[None], old])


def after(
    state: CrossIterationState,
    own: Moments,
    kernel: Array,
    slopes: BatchStats,
    decay: float,
) -> CrossIterationState:
    """Returns the state after a batch.

    Args:
        state: before it.
        own: of [C], of the batch.
        kernel: [..., C].
        slopes: derivatives of mean and variance by the filter of the feature, [..., C] each.
        decay: the weight of the old running statistics.

    Returns:
        The state, with the batch as its newest.

    Examples:
        >>> own = Moments(jnp.array([3.0]), jnp.zeros(1), jnp.ones(1))
        >>> state, one = CrossIterationState.start((1, 1), window=2), jnp.ones((1, 1))
        >>> after(state, own, one, BatchStats(one, one), 0.5).mean
        Array([1.5], dtype=float32)
    """
    seen = jnp.broadcast_to(own.count, own.var.shape) > 0
    running = ema(decay).update(BatchStats(state.mean, state.var), own)
    new = {"kernels": kernel, "means": whole_mean(own), "vars": own.var}
    new |= {"mean_slopes": slopes.mean, "var_slopes": slopes.var}
    last = {name: entered(getattr(state, name), value, seen) for name, value in new.items()}
    return state._replace(**running._asdict(), **last, updates=state.updates + seen)
