"""Running statistics: how the moments of batches become the statistics of a population.

The pattern is optax's: an `Estimator` is three pure functions over an explicit state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype, real_dtype
from jaxnorm.stats._moments import Moments, merge, pool, unbiased_var
from jaxnorm.typing import Array, DTypeLike, Shape


class BatchStats(NamedTuple):
    """The running mean and variance of a batch normalizer, as Flax keeps them in `batch_stats`.

    Examples:
        >>> BatchStats(jnp.zeros(2), jnp.ones(2)).mean
        Array([0., 0.], dtype=float32)
    """

    mean: Array  # [*features], float32 or wider
    var: Array  # [*features], float32 or wider


class Estimator(NamedTuple):
    """How the moments of successive batches become running statistics.

    A batch without samples changes nothing, and no update changes a dtype.

    Attributes:
        init: `init(shape, dtype=float32)` makes the state before any batch, whose reading is the
            identity (mean 0, variance 1) and whose mean has `dtype`, at least float32, and complex
            for complex data.
        update: `update(state, moments)` returns the state after one more batch.
        read: `read(state)` returns the running statistics as `Moments`.

    Examples:
        >>> average = ema(0.9)
        >>> average.read(average.init((2,))).var
        Array([1., 1.], dtype=float32)
    """

    init: Callable[..., Any]
    update: Callable[[Any, Moments], Any]
    read: Callable[[Any], Moments]


class DebiasedState(NamedTuple):
    """An average that started at zero, and the weight it has gathered.

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


class GuardedState(NamedTuple):
    """The state of the guarded estimator, and how many batches it was spared.

    Examples:
        >>> guarded(ema(0.9)).init((2,)).skipped
        Array(0, dtype=int32)
    """

    inner: Any  # the state of the guarded estimator
    skipped: Array  # [], int32


def ema(decay: float = 0.99, *, unbiased: bool = False) -> Estimator:
    """Returns the exponential moving average `new = decay * old + (1 - decay) * batch`.

    Starts at mean 0 and variance 1, as Flax does. `decay` weighs the old value: PyTorch's momentum
    is one minus it (Ioffe and Szegedy, arXiv:1502.03167, 2015, section 3.1, "moving averages").

    Args:
        decay: weight of the old value, from 0 to 1.
        unbiased: whether the batch variance is multiplied by n / (n - 1) first, as PyTorch does.

    Returns:
        An `Estimator` whose state is a `BatchStats`.

    Raises:
        ValueError: `decay` is outside [0, 1].

    Examples:
        >>> average = ema(0.9)
        >>> batch = Moments(jnp.array([10.0]), jnp.array([1.0]), jnp.array(8.0))
        >>> average.update(average.init((1,)), batch).mean
        Array([1.], dtype=float32)
    """
    _check_decay(decay)

    def update(state: BatchStats, moments: Moments) -> BatchStats:
        var = unbiased_var(moments) if unbiased else moments.var
        return _where_sampled(moments, _blend(state, BatchStats(moments.mean, var), decay), state)

    return Estimator(_identity_stats, update, _read_stats)


def debiased(decay: float = 0.99, *, unbiased: bool = False) -> Estimator:
    """Returns an exponential moving average without the pull of its start.

    The average starts at zero and is divided by the weight it has gathered, `1 - decay^t`, when it
    is read (Kingma and Ba, Adam, arXiv:1412.6980, 2014, section 3): after one batch it is that
    batch.

    Args:
        decay: weight of the old value, from 0 to 1.
        unbiased: whether the batch variance is multiplied by n / (n - 1) first.

    Returns:
        An `Estimator` whose state is a `DebiasedState`.

    Raises:
        ValueError: `decay` is outside [0, 1].

    Examples:
        >>> average = debiased(0.9)
        >>> batch = Moments(jnp.array([10.0]), jnp.array([4.0]), jnp.array(8.0))
        >>> average.read(average.update(average.init((1,)), batch)).mean
        Array([10.], dtype=float32)
    """
    _check_decay(decay)

    def init(shape: Shape, dtype: DTypeLike = jnp.float32) -> DebiasedState:
        return DebiasedState(*_no_samples(shape, dtype))

    def update(state: DebiasedState, moments: Moments) -> DebiasedState:
        var = unbiased_var(moments) if unbiased else moments.var
        batch = DebiasedState(moments.mean, var, jnp.ones_like(var))
        return _where_sampled(moments, _blend(state, batch, decay), state)

    def read(state: DebiasedState) -> Moments:
        started = state.weight > 0
        share = 1 / jnp.where(started, state.weight, 1)
        var = jnp.where(started, state.var * share, 1)
        return Moments(state.mean * share, var, state.weight)

    return Estimator(init, update, read)


def cumulative(*, unbiased: bool = False) -> Estimator:
    """Returns the estimator of the population: all batches pooled, weighted by their counts.

    Exact: the reading is the mean and variance of the union of all batches, with what lies between
    them (Wu and Johnson, Rethinking "Batch" in BatchNorm, arXiv:2105.07576, 2021, section 3.1).

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
    """

    def init(shape: Shape, dtype: DTypeLike = jnp.float32) -> Moments:
        return _no_samples(shape, dtype)

    def update(state: Moments, moments: Moments) -> Moments:
        return _as_stored(merge(state, moments), state)

    def read(state: Moments) -> Moments:
        var = unbiased_var(state) if unbiased else state.var
        return state._replace(var=jnp.where(state.count > 0, var, 1))

    return Estimator(init, update, read)


def window(n: int, *, unbiased: bool = False) -> Estimator:
    """Returns the estimator that pools the last `n` batches.

    Args:
        n: how many batches are kept; the state is n times as large as the statistics.
        unbiased: whether the reading has Bessel's correction of the pooled sample.

    Returns:
        An `Estimator` whose state is a `WindowState`.

    Raises:
        ValueError: `n` is less than 1.

    Examples:
        >>> last_two = window(2)
        >>> state = last_two.init((1,))
        >>> for mean in (1.0, 2.0, 4.0):
        ...     batch = Moments(jnp.array([mean]), jnp.array([0.0]), jnp.array(8.0))
        ...     state = last_two.update(state, batch)
        >>> last_two.read(state).mean
        Array([3.], dtype=float32)
    """
    if n < 1:
        raise ValueError(f"window({n}) must keep at least one batch; use n >= 1")

    def init(shape: Shape, dtype: DTypeLike = jnp.float32) -> WindowState:
        return WindowState(_no_samples((n, *shape), dtype), jnp.zeros((), jnp.int32))

    def update(state: WindowState, moments: Moments) -> WindowState:
        count = jnp.broadcast_to(moments.count, moments.mean.shape)
        batch = moments._replace(count=count)
        slot = state.updates % n
        placed = jax.tree.map(lambda kept, new: kept.at[slot].set(new), state.moments, batch)
        # A wholly empty batch must not push a real one out of the window.
        seen = jnp.any(count > 0)
        kept = jax.tree.map(lambda new, old: jnp.where(seen, new, old), placed, state.moments)
        return WindowState(kept, state.updates + seen.astype(jnp.int32))

    def read(state: WindowState) -> Moments:
        pooled = pool(state.moments, (1, *state.moments.mean.shape[1:]))
        pooled = jax.tree.map(lambda v: v[0], pooled)
        var = unbiased_var(pooled) if unbiased else pooled.var
        return pooled._replace(var=jnp.where(pooled.count > 0, var, 1))

    return Estimator(init, update, read)


def guarded(estimator: Estimator) -> Estimator:
    """Returns `estimator` with batches that hold an inf or a NaN left out and counted.

    One overflow must not ruin the running statistics for good.

    Args:
        estimator: what takes in the finite batches.

    Returns:
        An `Estimator` whose state is a `GuardedState`.

    Examples:
        >>> average = guarded(ema(0.9))
        >>> batch = Moments(jnp.array([jnp.inf]), jnp.array([jnp.nan]), jnp.array(8.0))
        >>> state = average.update(average.init((1,)), batch)
        >>> state.inner.mean, state.skipped
        (Array([0.], dtype=float32), Array(1, dtype=int32))
    """

    def init(shape: Shape, dtype: DTypeLike = jnp.float32) -> GuardedState:
        return GuardedState(estimator.init(shape, dtype), jnp.zeros((), jnp.int32))

    def update(state: GuardedState, moments: Moments) -> GuardedState:
        finite = jnp.all(jnp.isfinite(moments.mean)) & jnp.all(jnp.isfinite(moments.var))
        new = estimator.update(state.inner, moments)
        inner = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state.inner)
        return GuardedState(inner, state.skipped + ~finite)

    return Estimator(init, update, lambda state: estimator.read(state.inner))


def frozen(estimator: Estimator) -> Estimator:
    """Returns `estimator` with updates that change nothing.

    Args:
        estimator: what reads the state.

    Returns:
        An `Estimator` with the same state.

    Examples:
        >>> still = frozen(ema(0.9))
        >>> batch = Moments(jnp.array([10.0]), jnp.array([4.0]), jnp.array(8.0))
        >>> still.update(still.init((1,)), batch).mean
        Array([0.], dtype=float32)
    """
    return estimator._replace(update=lambda state, moments: state)


def _check_decay(decay: float) -> None:
    if not 0 <= decay <= 1:
        raise ValueError(
            f"decay={decay} must be from 0 to 1: it weighs the old value, so that "
            "PyTorch's momentum=0.1 is decay=0.9"
        )


def _identity_stats(shape: Shape, dtype: DTypeLike = jnp.float32) -> BatchStats:
    dtype = accumulation_dtype(dtype)
    return BatchStats(jnp.zeros(shape, dtype), jnp.ones(shape, real_dtype(dtype)))


def _no_samples(shape: Shape, dtype: DTypeLike) -> Moments:
    dtype = accumulation_dtype(dtype)
    var, count = (jnp.zeros(shape, real_dtype(dtype)) for _ in range(2))
    return Moments(jnp.zeros(shape, dtype), var, count)


def _read_stats(state: BatchStats) -> Moments:
    return Moments(state.mean, state.var, jnp.ones_like(state.var))


def _as_stored(new: Any, old: Any) -> Any:
    """Returns `new` in the dtypes of `old`: a state that changes its dtype breaks `scan`."""

    def store(new, old):  # NumPy arrays too: statistics restored from a checkpoint are
        if jnp.iscomplexobj(new) and not jnp.iscomplexobj(old):
            raise TypeError(
                f"the batch has {new.dtype} means, but the running mean is {old.dtype}; make the "
                "state with init(shape, dtype=jnp.complex64)"
            )
        return new.astype(old.dtype)

    return jax.tree.map(store, new, old)


def _blend(old: Any, new: Any, decay: float) -> Any:
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, old, new)


def _where_sampled(moments: Moments, new: Any, old: Any) -> Any:
    seen = moments.count > 0
    return _as_stored(jax.tree.map(lambda new, old: jnp.where(seen, new, old), new, old), old)
