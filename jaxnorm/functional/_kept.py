"""What an estimator remembers beside the running mean and variance that a module keeps."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.stats import BatchStats, Estimator, Moments, ema, whole_mean
from jaxnorm.typing import Array, DTypeLike, Shape

STATE = "estimator_state"
"""The leaf of `batch_stats` that holds the memory of an estimator."""


class Kept(NamedTuple):
    """Running statistics, and what an estimator remembers beside them.

    Examples:
        >>> Kept(jnp.zeros(2), jnp.ones(2), memory=None).var
        Array([1., 1.], dtype=float32)
    """

    mean: Array  # [*features], the last reading
    var: Array  # [*features], the last reading
    memory: Any  # the state of the estimator


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Update:
    """What one update from collected moments does; a constant in a tree of arrays.

    Attributes:
        estimator: how the moments enter.

    Examples:
        >>> batch = Moments(jnp.array([4.0]), jnp.array([3.0]), jnp.array([8.0]))
        >>> new = Update(ema(0.5))({"mean": jnp.zeros(1), "var": jnp.ones(1)}, batch)
        >>> new["mean"], new["var"]
        (Array([2.], dtype=float32), Array([2.], dtype=float32))
    """

    estimator: Estimator

    def __call__(self, stats: Mapping[str, Any], moments: Moments) -> dict[str, Any]:
        """Returns the running statistics of a layer after one update.

        Args:
            stats: the collection `batch_stats` of the layer: `mean`, `var` and, where the estimator
                has a state of its own, `estimator_state`.
            moments: of [*features].

        Returns:
            The structure and dtypes of `stats`.
        """
        state = BatchStats(stats["mean"], stats["var"])
        if not has_memory(self.estimator):
            return {**stats, **self.estimator.update(state, moments)._asdict()}
        kept = Kept(state.mean, state.var, stats[STATE])
        new = beside(self.estimator).update(kept, moments)
        return {**stats, "mean": new.mean, "var": new.var, STATE: new.memory}


def has_memory(estimator: Estimator | None) -> bool:
    """Returns whether an estimator needs more than the running mean and variance.

    Args:
        estimator: None for a moving average.

    Returns:
        Whether its state is another one than `BatchStats`.

    Examples:
        >>> from jaxnorm.stats import cumulative
        >>> has_memory(ema(0.9)), has_memory(cumulative())
        (False, True)
    """
    return estimator is not None and not isinstance(estimator.init((0,)), BatchStats)


def beside(estimator: Estimator) -> Estimator:
    """Returns an estimator that keeps its last reading, and reads it.

    Args:
        estimator: takes in the batches; its state is the memory.

    Returns:
        An `Estimator` whose state is a `Kept`.

    Examples:
        >>> batch = Moments(jnp.array([4.0]), jnp.array([3.0]), jnp.array([8.0]))
        >>> from jaxnorm.stats import cumulative
        >>> population = beside(cumulative())
        >>> population.update(population.init((1,)), batch).mean
        Array([4.], dtype=float32)
    """

    def init(shape: Shape, dtype: DTypeLike = jnp.float32) -> Kept:
        identity = ema().init(shape, dtype)
        return Kept(identity.mean, identity.var, estimator.init(shape, dtype))

    def update(kept: Kept, moments: Moments) -> Kept:
        memory = estimator.update(kept.memory, moments)
        reading = estimator.read(memory)

        def stored(new: Array, old: Array) -> Array:
            # What has no samples yet keeps the statistics of a checkpoint.
            return jnp.where(reading.count > 0, new, old).astype(old.dtype)

        mean = whole_mean(reading, kept.mean.dtype)
        return Kept(stored(mean, kept.mean), stored(reading.var, kept.var), memory)

    def read(kept: Kept) -> Moments:
        return Moments(kept.mean, kept.var, jnp.ones_like(kept.var))

    return Estimator(init, update, read)


def of_shape(estimator: Estimator, shape: Shape) -> Estimator:
    """Returns an estimator whose state has another shape than the features of the input.

    Args:
        estimator: takes in the moments in the shape of its state.
        shape: that shape.

    Returns:
        An `Estimator` that takes moments of any shape of as many entries.

    Examples:
        >>> batch = Moments(jnp.ones((2, 2)), jnp.ones((2, 2)), jnp.array(8.0))
        >>> of_shape(ema(0.5), (4,)).update(ema(0.5).init((4,)), batch).mean
        Array([0.5, 0.5, 0.5, 0.5], dtype=float32)
    """

    def update(state: Any, moments: Moments) -> Any:
        fitting = jax.tree.map(lambda v: v.reshape(shape) if v.ndim else v, moments)
        return estimator.update(state, fitting)

    return Estimator(estimator.init, update, estimator.read)
