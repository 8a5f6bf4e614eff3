"""Population statistics as the average of batch statistics.

Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015, algorithm 2.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype, real_dtype
from jaxnorm.stats import Estimator, Moments, unbiased_var, whole_mean
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
    return Estimator.of(_AverageOfBatches(unbiased))


@dataclasses.dataclass(frozen=True)
class _AverageOfBatches:
    unbiased: bool

    state_type = AverageState

    def init(self, shape: Shape, dtype: DTypeLike = jnp.float32) -> AverageState:
        dtype = accumulation_dtype(dtype)
        var, batches = (jnp.zeros(shape, real_dtype(dtype)) for _ in range(2))
        return AverageState(jnp.zeros(shape, dtype), var, batches)

    def update(self, state: AverageState, batch: Moments) -> AverageState:
        seen = batch.count > 0
        batches = state.batches + seen
        share = jnp.where(seen, 1 / jnp.maximum(batches, 1), 0)
        mean = whole_mean(batch, state.mean.dtype)
        var = unbiased_var(batch) if self.unbiased else batch.var
        new = AverageState(
            state.mean + share * (mean - state.mean),
            state.var + share * (var - state.var),
            batches,
        )
        return jax.tree.map(lambda old, new: new.astype(old.dtype), state, new)

    def read(self, state: AverageState) -> Moments:
        return Moments(state.mean, jnp.where(state.batches > 0, state.var, 1), state.batches)

    def __repr__(self) -> str:
        return f"average_of_batches(unbiased={self.unbiased})"
