"""Population statistics as the average of batch statistics.

Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015, algorithm 2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.stats import Estimator, Moments, cumulative, unbiased_var
from jaxnorm.typing import Array, DTypeLike, Shape


class AverageState(NamedTuple):
    """The average of the batch means and variances so far.

    Examples:
        >>> average_of_batches().init((2,)).batches
        Array([0., 0.], dtype=float32)
    """

    mean: Array  # [*features]
    var: Array  # [*features]
    batches: Array  # [*features], batches that had samples


def average_of_batches(*, unbiased: bool = True) -> Estimator:
    """Returns the estimator of algorithm 2, `E[x] = E_B[mean_B]`, `Var[x] = m/(m-1) E_B[var_B]`.

    Every batch weighs the same (Ioffe and Szegedy, arXiv:1502.03167, 2015, algorithm 2). With
    equally large batches drawn at random the variance is an unbiased estimate; what lies between
    batches enters through the correction only, so that batches sorted by class lose it.
    `jaxnorm.cumulative()` pools exactly and needs neither.

    Args:
        unbiased: whether the batch variance is multiplied by m / (m - 1), m being the samples of
            the batch behind the statistic.

    Returns:
        An `Estimator` whose state is an `AverageState`.

    Examples:
        >>> population = average_of_batches()
        >>> batch = Moments(jnp.array([10.0]), jnp.array([4.0]), jnp.array(5.0))
        >>> state = population.update(population.init((1,)), batch)
        >>> population.read(state).var
        Array([5.], dtype=float32)
    """

    def init(shape: Shape, dtype: DTypeLike = jnp.float32) -> AverageState:
        return AverageState(*cumulative().init(shape, dtype))

    def update(state: AverageState, batch: Moments) -> AverageState:
        seen = batch.count > 0
        batches = state.batches + seen
        share = jnp.where(seen, 1 / jnp.maximum(batches, 1), 0)
        var = unbiased_var(batch) if unbiased else batch.var
        new = AverageState(
            state.mean + share * (batch.mean - state.mean),
            state.var + share * (var - state.var),
            batches,
        )
        return _in_dtypes_of(state, new)

    def read(state: AverageState) -> Moments:
        return Moments(state.mean, jnp.where(state.batches > 0, state.var, 1), state.batches)

    return Estimator(init, update, read)


def _in_dtypes_of(old: Any, new: Any) -> Any:
    return jax.tree.map(lambda old, new: new.astype(old.dtype), old, new)
