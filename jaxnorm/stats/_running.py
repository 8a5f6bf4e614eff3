"""Running statistics: how the moments of batches become the statistics of a population."""

import dataclasses
import numbers
import operator
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnorm import _explicit
from jaxnorm.numerics import accumulation_dtype, real_dtype
from jaxnorm.stats._estimator import Estimator, call_text
from jaxnorm.stats._moments import Moments, merge, pool, unbiased_var, with_tail
from jaxnorm.typing import Array, DTypeLike, Shape


class BatchStats(NamedTuple):
    """The running mean and variance of a batch normalizer, as Flax keeps them in `batch_stats`.

    Examples:
        >>> BatchStats(jnp.zeros(2), jnp.ones(2)).mean
        Array([0., 0.], dtype=float32)
    """

    mean: Array  # [*features], float32 or wider
    var: Array  # [*features], float32 or wider


class DebiasedState(NamedTuple):
    """An average that started at zero, and the sum of the weights of its batches.

    Examples:
        >>> debiased(0.9).init((2,)).weight
        Array([0., 0.], dtype=float32)
    """

    mean: Array  # [*features]
    var: Array  # [*features]
    weight: Array  # [*features], 1 - decay^t after t batches


class WindowState(NamedTuple):
    """The moments of the last n batches.

    Examples:
        >>> window(4).init((2,)).moments.mean.shape
        (4, 2)
    """

    moments: Moments  # [n, *features] each
    updates: Array  # [], int32, batches seen


def ema(decay: SupportsFloat = 0.99, *, unbiased: bool = False) -> Estimator:
    """Returns the exponential moving average `new = decay * old + (1 - decay) * batch`.

    The average starts at mean 0 and variance 1, as Flax's does. `decay` weighs the old value:
    PyTorch's momentum is one minus it (Ioffe and Szegedy, arXiv:1502.03167, 2015, section 3.1,
    "moving averages").

    Args:
        decay: weight of the old value, from 0 to 1.
        unbiased: whether the batch variance is multiplied by n / (n - 1) first, as PyTorch does.

    Returns:
        An `Estimator` whose state is a `BatchStats`.

    Raises:
        ValueError: `decay` is outside [0, 1] or NaN.
        TypeError: `decay` is not a number.

    Examples:
        >>> average = ema(0.9)
        >>> batch = Moments(jnp.array([10.0]), jnp.array([1.0]), jnp.array(8.0))
        >>> average.update(average.init((1,)), batch).mean
        Array([1.], dtype=float32)
    """
    return Estimator.of(_Ema(_checked_decay(decay), unbiased))


@dataclasses.dataclass(frozen=True)
class _Ema:
    decay: float
    unbiased: bool

    state_type = BatchStats

    def init(self, shape: Shape, dtype: DTypeLike = jnp.float32) -> BatchStats:
        dtype = accumulation_dtype(dtype)
        return BatchStats(jnp.zeros(shape, dtype), jnp.ones(shape, real_dtype(dtype)))

    def update(self, state: BatchStats, moments: Moments) -> BatchStats:
        _require_fit(moments, state.mean.shape)
        batch = BatchStats(whole_mean(moments, state.mean.dtype), _var(moments, self.unbiased))
        return _where_sampled(moments, _blend(state, batch, self.decay), state)

    def read(self, state: BatchStats) -> Moments:
        return Moments(state.mean, state.var, jnp.ones_like(state.var))

    def __repr__(self) -> str:
        return call_text("ema", self.decay, unbiased=self.unbiased)


def debiased(decay: SupportsFloat = 0.99, *, unbiased: bool = False) -> Estimator:
    """Returns an exponential moving average without the pull of its start.

    The average starts at zero. Its reading is the average divided by `1 - decay^t`, the sum of the
    weights of the t batches so far (Kingma and Ba, Adam, arXiv:1412.6980, 2014, section 3). The
    reading after one batch is that batch.

    Args:
        decay: weight of the old value, from 0 to 1.
        unbiased: whether the batch variance is multiplied by n / (n - 1) first.

    Returns:
        An `Estimator` whose state is a `DebiasedState`.

    Raises:
        ValueError: `decay` is outside [0, 1] or NaN.
        TypeError: `decay` is not a number.

    Examples:
        >>> average = debiased(0.9)
        >>> batch = Moments(jnp.array([10.0]), jnp.array([4.0]), jnp.array(8.0))
        >>> average.read(average.update(average.init((1,)), batch)).mean
        Array([10.], dtype=float32)
    """
    return Estimator.of(_Debiased(_checked_decay(decay), unbiased))


@dataclasses.dataclass(frozen=True)
class _Debiased:
    decay: float
    unbiased: bool

    state_type = DebiasedState

    def init(self, shape: Shape, dtype: DTypeLike = jnp.float32) -> DebiasedState:
        mean, var, weight, _ = _no_samples(shape, dtype)
        return DebiasedState(mean, var, weight)

    def update(self, state: DebiasedState, moments: Moments) -> DebiasedState:
        _require_fit(moments, state.mean.shape)
        var = _var(moments, self.unbiased)
        batch = DebiasedState(whole_mean(moments, state.mean.dtype), var, jnp.ones_like(var))
        return _where_sampled(moments, _blend(state, batch, self.decay), state)

    def read(self, state: DebiasedState) -> Moments:
        started = state.weight > 0
        share = 1 / jnp.where(started, state.weight, 1)
        var = jnp.where(started, state.var * share, 1)
        return Moments(state.mean * share, var, state.weight)

    def __repr__(self) -> str:
        return call_text("debiased", self.decay, unbiased=self.unbiased)


def cumulative(*, unbiased: bool = False) -> Estimator:
    """Returns the estimator of the population: all batches pooled, weighted by their counts.

    The reading is the mean and the variance of the union of all batches. The variance holds the
    differences between the means of the batches (Wu and Johnson, Rethinking "Batch" in BatchNorm,
    arXiv:2105.07576, 2021, section 3.1). State and reading keep the mean as `mean + tail`.

    Args:
        unbiased: whether the reading has Bessel's correction of the whole population.

    Returns:
        An `Estimator` whose state is a `Moments`.

    Examples:
        >>> population = cumulative()
        >>> batch = Moments(jnp.array([10.0]), jnp.array([4.0]), jnp.array(8.0))
        >>> state = population.update(population.init((1,)), batch)
        >>> population.read(population.update(state, batch._replace(mean=jnp.array([20.0])))).var
        Array([29.], dtype=float32)

    Notes:
        A float32 count is exact up to 2^24 entries per statistic. Beyond, the count has a relative
        precision of 6e-8, and so has the weight of the past. A batch that holds less than that
        share of the total does not raise the count any more; mean and variance stay right.
        `init(shape, jnp.float64)` makes a state that is exact up to 2^53 entries.
    """
    return Estimator.of(_Cumulative(unbiased))


@dataclasses.dataclass(frozen=True)
class _Cumulative:
    unbiased: bool

    state_type = Moments

    def init(self, shape: Shape, dtype: DTypeLike = jnp.float32) -> Moments:
        return _no_samples(shape, dtype)

    def update(self, state: Moments, moments: Moments) -> Moments:
        _require_fit(moments, state.mean.shape)
        return _as_stored(merge(state, with_tail(moments)), state)

    def read(self, state: Moments) -> Moments:
        return _identity_where_empty(state, self.unbiased)

    def __repr__(self) -> str:
        return call_text("cumulative", unbiased=self.unbiased)


def window(n: SupportsIndex, *, unbiased: bool = False) -> Estimator:
    """Returns the estimator that pools the last `n` batches.

    Args:
        n: how many batches are kept; the state is n times as large as the statistics.
        unbiased: whether the reading has Bessel's correction of the pooled sample.

    Returns:
        An `Estimator` whose state is a `WindowState`.

    Raises:
        ValueError: `n` is less than 1.
        TypeError: `n` is not an integer.

    Examples:
        >>> last_two = window(2)
        >>> state = last_two.init((1,))
        >>> for mean in (1.0, 2.0, 4.0):
        ...     batch = Moments(jnp.array([mean]), jnp.array([0.0]), jnp.array(8.0))
        ...     state = last_two.update(state, batch)
        >>> last_two.read(state).mean
        Array([3.], dtype=float32)

    Notes:
        The count of the reading is exact up to 2^24 entries in float32 and has a relative precision
        of 6e-8 beyond. The counts of the batches are kept one by one, so that no batch is lost
        beside the others.
    """
    return Estimator.of(_Window(_checked_length(n), unbiased))


@dataclasses.dataclass(frozen=True)
class _Window:
    n: int
    unbiased: bool

    state_type = WindowState

    def init(self, shape: Shape, dtype: DTypeLike = jnp.float32) -> WindowState:
        return WindowState(_no_samples((self.n, *shape), dtype), jnp.zeros((), jnp.int32))

    def update(self, state: WindowState, moments: Moments) -> WindowState:
        _require_fit(moments, state.moments.mean.shape[1:])
        count = jnp.broadcast_to(moments.count, moments.mean.shape)
        batch = _as_stored(with_tail(moments)._replace(count=count), state.moments)
        slot = state.updates % self.n
        placed = jax.tree.map(lambda kept, new: kept.at[slot].set(new), state.moments, batch)
        # A wholly empty batch must not push a real one out of the window.
        seen = jnp.any(count > 0)
        kept = jax.tree.map(lambda new, old: jnp.where(seen, new, old), placed, state.moments)
        return WindowState(kept, state.updates + seen.astype(jnp.int32))

    def read(self, state: WindowState) -> Moments:
        pooled = pool(state.moments, (1, *state.moments.mean.shape[1:]))
        return _identity_where_empty(jax.tree.map(lambda v: v[0], pooled), self.unbiased)

    def __repr__(self) -> str:
        return call_text("window", self.n, unbiased=self.unbiased)


def whole_mean(moments: Moments, dtype: DTypeLike = jnp.float32) -> Array:
    """Returns the mean of `moments` as one array, `mean + tail` rounded.

    Args:
        moments: of [*stats_shape].
        dtype: the sum is taken in this dtype if it is wider than that of the mean.

    Returns:
        [*stats_shape].

    Examples:
        >>> batch = Moments(jnp.array([2.0]), jnp.array([1.0]), jnp.array(8.0), jnp.array([0.5]))
        >>> whole_mean(batch)
        Array([2.5], dtype=float32)
    """
    if moments.tail is None:
        return moments.mean
    return moments.mean.astype(jnp.promote_types(moments.mean.dtype, dtype)) + moments.tail


def _checked_decay(decay: Any) -> float:
    """Returns `decay` as a Python float: equal floats have equal hashes, and arrays have none."""
    value = decay
    if isinstance(decay, np.generic | np.ndarray | jax.Array) and np.ndim(decay) == 0:
        value = decay if isinstance(decay, Tracer) else decay.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"decay={decay!r} must be a number from 0 to 1, got {type(decay).__name__}; use a "
            "Python or NumPy number such as 0.9"
        )
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(
            f"decay={decay} must be from 0 to 1: it weighs the old value, so that "
            "PyTorch's momentum=0.1 is decay=0.9"
        )
    return number


def _checked_length(n: Any) -> int:
    try:
        length = None if isinstance(n, bool) else operator.index(n)
    except TypeError:
        length = None
    if length is None:
        raise TypeError(
            f"window({n!r}) must keep a whole number of batches, got {type(n).__name__}; use an "
            "integer such as 8"
        )
    if length < 1:
        raise ValueError(f"window({n}) must keep at least one batch; use n >= 1")
    return length


def _require_fit(moments: Moments, shape: Shape) -> None:
    got = moments.mean.shape
    if got != shape:
        raise ValueError(
            f"running statistics of shape {list(shape)} cannot take in moments of shape "
            f"{list(got)}; make the state with init({got})"
        )


def _no_samples(shape: Shape, dtype: DTypeLike) -> Moments:
    dtype = accumulation_dtype(dtype)
    mean, tail = (jnp.zeros(shape, dtype) for _ in range(2))
    var, count = (jnp.zeros(shape, real_dtype(dtype)) for _ in range(2))
    return Moments(mean, var, count, tail)


def _var(moments: Moments, unbiased: bool) -> Array:
    return unbiased_var(moments) if unbiased else moments.var


def _identity_where_empty(moments: Moments, unbiased: bool) -> Moments:
    """Returns a reading: the mean of an empty sample is 0 already, and its variance becomes 1."""
    var = jnp.where(moments.count > 0, _var(moments, unbiased), 1)
    return moments._replace(var=var)


def _as_stored(new: Any, old: Any) -> Any:
    """Returns `new` in the dtypes of `old`, and lying as it: a state that changes breaks `scan`."""

    def store(new, old):  # also for the NumPy arrays that a restored checkpoint may hold
        if jnp.iscomplexobj(new) and not jnp.iscomplexobj(old):
            raise TypeError(
                f"the batch has {new.dtype} means, but the running mean is {old.dtype}; make the "
                "state with init(shape, dtype=jnp.complex64)"
            )
        return _explicit.like(new.astype(old.dtype), old)

    return jax.tree.map(store, new, old)


def _blend(old: Any, new: Any, decay: float) -> Any:
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, old, new)


def _where_sampled(moments: Moments, new: Any, old: Any) -> Any:
    seen = moments.count > 0

    def chosen(new, old):
        here = _explicit.like(seen, old) if seen.shape == old.shape else seen
        return jnp.where(here, _explicit.like(new, old), old)

    return _as_stored(jax.tree.map(chosen, new, old), old)
