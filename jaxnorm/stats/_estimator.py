"""Estimators as values, and those that change another one.

The pattern is optax's: an `Estimator` is three pure functions over an explicit state. The
estimators of this package are values: equal arguments make equal estimators with equal hashes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.stats._moments import Moments
from jaxnorm.typing import Array, DTypeLike, Shape


class Estimator(NamedTuple):
    """How the moments of successive batches become running statistics.

    A batch without samples changes no statistic, and no update changes a dtype. Two estimators are
    equal where their three functions are. `Estimator.of` makes equal functions of equal options.

    Attributes:
        init: `init(shape, dtype=float32)` makes the state before any batch. Its reading is the
            identity, mean 0 and variance 1. Its mean has `dtype`, or float32 where `dtype` is
            narrower; complex data need a complex `dtype`.
        update: `update(state, moments)` returns the state after one more batch.
        read: `read(state)` returns the running statistics as `Moments`.

    Examples:
        >>> from jaxnorm.stats import ema
        >>> average = ema(0.9)
        >>> average.read(average.init((2,))).var
        Array([1., 1.], dtype=float32)
        >>> average == ema(0.9), average == ema(0.99)
        (True, False)
    """

    init: Callable[..., Any]
    update: Callable[[Any, Moments], Any]
    read: Callable[[Any], Moments]

    @classmethod
    def of(cls, rule: Any) -> "Estimator":
        """Returns the estimator whose functions are the methods of `rule`.

        Equal rules make equal estimators, as bound methods of equal objects do not. A rule that is
        a frozen dataclass of a module makes an estimator that can be hashed, pickled and copied.

        Args:
            rule: an object with the methods `init`, `update` and `read`. If it has a `state_type`,
                `update` and `read` raise a `TypeError` for a state of another type.

        Returns:
            An `Estimator` that is shown as `rule` is.

        Examples:
            >>> @dataclasses.dataclass(frozen=True)
            ... class Last:
            ...     init = staticmethod(lambda shape: Moments(*jnp.zeros((3, *shape))))
            ...     update = staticmethod(lambda state, moments: moments)
            ...     read = staticmethod(lambda state: state)
            >>> Estimator.of(Last()), Estimator.of(Last()) == Estimator.of(Last())
            (Last(), True)
        """
        return cls(*(_Method(rule, name) for name in cls._fields))

    def __repr__(self) -> str:
        rule = getattr(self.update, "rule", None)
        if rule is not None and self == Estimator.of(rule):
            return repr(rule)
        return f"Estimator(init={self.init!r}, update={self.update!r}, read={self.read!r})"


@dataclasses.dataclass(frozen=True)
class _Method:
    """A bound method that is a value: Python's own are equal for one and the same object only."""

    rule: Any
    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state_type = getattr(self.rule, "state_type", None)
        if self.name != "init" and state_type is not None and args:
            _check_state(self.rule, args[0], state_type)
        return getattr(self.rule, self.name)(*args, **kwargs)


def _check_state(rule: Any, state: Any, expected: type) -> None:
    if not isinstance(state, expected):
        raise TypeError(
            f"the estimator {rule!r} keeps its state as {expected.__name__}, got "
            f"{type(state).__name__}; make the state with {rule!r}.init(features), and give every "
            "call the estimator that made it"
        )


class GuardedState(NamedTuple):
    """The state of the guarded estimator, and the number of batches that were left out.

    Examples:
        >>> from jaxnorm.stats import ema
        >>> guarded(ema(0.9)).init((2,)).skipped
        Array(0, dtype=int32)
    """

    inner: Any  # the state of the guarded estimator
    skipped: Array  # [], int32


def guarded(estimator: Estimator) -> Estimator:
    """Returns `estimator` without the batches that hold an inf or a NaN, which are counted.

    One overflow would otherwise ruin the running statistics for good.

    Args:
        estimator: takes in the finite batches.

    Returns:
        An `Estimator` whose state is a `GuardedState`.

    Raises:
        TypeError: `estimator` is not an `Estimator`.

    Examples:
        >>> from jaxnorm.stats import ema
        >>> average = guarded(ema(0.9))
        >>> batch = Moments(jnp.array([jnp.inf]), jnp.array([jnp.nan]), jnp.array(8.0))
        >>> state = average.update(average.init((1,)), batch)
        >>> state.inner.mean, state.skipped
        (Array([0.], dtype=float32), Array(1, dtype=int32))
    """
    return Estimator.of(_Guarded(_checked_estimator(estimator, "guarded")))


@dataclasses.dataclass(frozen=True)
class _Guarded:
    estimator: Estimator

    state_type = GuardedState

    def init(self, shape: Shape, dtype: DTypeLike = jnp.float32) -> GuardedState:
        return GuardedState(self.estimator.init(shape, dtype), jnp.zeros((), jnp.int32))

    def update(self, state: GuardedState, moments: Moments) -> GuardedState:
        statistics = jax.tree.leaves((moments.mean, moments.var, moments.tail))
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(v)) for v in statistics]))
        new = self.estimator.update(state.inner, moments)
        inner = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state.inner)
        return GuardedState(inner, state.skipped + ~finite)

    def read(self, state: GuardedState) -> Moments:
        return self.estimator.read(state.inner)

    def __repr__(self) -> str:
        return call_text("guarded", self.estimator)


def frozen(estimator: Estimator) -> Estimator:
    """Returns `estimator` with updates that change nothing.

    Args:
        estimator: makes and reads the state.

    Returns:
        An `Estimator` with the same state.

    Raises:
        TypeError: `estimator` is not an `Estimator`.

    Examples:
        >>> from jaxnorm.stats import ema
        >>> still = frozen(ema(0.9))
        >>> batch = Moments(jnp.array([10.0]), jnp.array([4.0]), jnp.array(8.0))
        >>> still.update(still.init((1,)), batch).mean
        Array([0.], dtype=float32)
    """
    return Estimator.of(_Frozen(_checked_estimator(estimator, "frozen")))


@dataclasses.dataclass(frozen=True)
class _Frozen:
    estimator: Estimator

    def init(self, shape: Shape, dtype: DTypeLike = jnp.float32) -> Any:
        return self.estimator.init(shape, dtype)

    def update(self, state: Any, moments: Moments) -> Any:
        return state

    def read(self, state: Any) -> Moments:
        return self.estimator.read(state)

    def __repr__(self) -> str:
        return call_text("frozen", self.estimator)


def call_text(name: str, *arguments: Any, unbiased: bool = False) -> str:
    """Returns the call that makes an estimator.

    Args:
        name: of the function.
        *arguments: the positional arguments.
        unbiased: the flag, which is shown where it is true.

    Returns:
        For example "ema(0.9, unbiased=True)".

    Examples:
        >>> call_text("ema", 0.9)
        'ema(0.9)'
    """
    shown = [*map(repr, arguments), *(["unbiased=True"] if unbiased else [])]
    return f"{name}({', '.join(shown)})"


def _checked_estimator(estimator: Any, name: str) -> Estimator:
    if not isinstance(estimator, Estimator):
        raise TypeError(
            f"{name}({estimator!r}) needs an Estimator, got {type(estimator).__name__}; use one "
            f"such as {name}(ema(0.9)), or make one with Estimator(init, update, read)"
        )
    return estimator
