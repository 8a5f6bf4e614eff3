"""Features of mean zero and variance one."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.preprocessing._samples import (
    as_floating,
    check_features,
    flatten_samples,
    stack,
    state_dtype,
)
from jaxnorm.stats import Moments, moments, pool
from jaxnorm.typing import Array, ArrayLike, DTypeLike, Shape


class StandardState(NamedTuple):
    """The moments of each feature about a pivot: a mean too large for its dtype loses no digits.

    Examples:
        >>> state = StandardScaler().fit(jnp.array([[10.0], [12.0]]))
        >>> state.mean, state.var
        (Array([11.], dtype=float32), Array([1.], dtype=float32))
    """

    pivot: Array  # [*features], the first valid value of each feature, zero before any
    shifted: Moments  # [*features] each, the moments of x - pivot, without a tail

    @property
    def mean(self) -> Array:
        """The mean of each feature, zero before any sample.

        Returns:
            [*features], rounded to the state's dtype.

        Examples:
            >>> StandardScaler().fit(jnp.array([[1.0, 4.0], [3.0, 4.0]])).mean
            Array([2., 4.], dtype=float32)
        """
        return self.pivot + self.shifted.mean

    @property
    def var(self) -> Array:
        """The biased variance of each feature, zero before any sample.

        Returns:
            [*features], of the state's dtype.

        Examples:
            >>> StandardScaler().fit(jnp.array([[1.0, 4.0], [3.0, 4.0]])).var
            Array([1., 0.], dtype=float32)
        """
        return self.shifted.var

    @property
    def count(self) -> Array:
        """The number (or total weight) of the valid values of each feature.

        Returns:
            [*features], of the state's dtype.

        Examples:
            >>> StandardScaler().fit(jnp.array([[1.0, 4.0], [3.0, jnp.nan]])).count
            Array([2., 1.], dtype=float32)
        """
        return self.shifted.count


@dataclasses.dataclass(frozen=True)
class StandardScaler:
    """Scales each feature to mean zero and variance one: y = (x - mean) / sqrt(var).

    A configuration with pure methods over an explicit `StandardState`: `fit` for data in memory,
    `init` and `update` for a stream, `merge` and `pool` for shards. Any way of cutting the data
    gives the same statistics up to rounding.

    Missing values are NaN: they take no part in the statistics and stay NaN. A constant feature is
    divided by one, and so is one of which no sample was seen. Statistics are float32 or wider.

    Args:
        with_mean: whether the mean is subtracted.
        with_std: whether it is divided by the standard deviation.

    Examples:
        >>> scaler = StandardScaler()
        >>> state = scaler.init((1,))
        >>> for batch in (jnp.array([[1.0], [2.0]]), jnp.array([[6.0], [7.0]])):
        ...     state = scaler.update(state, batch)
        >>> print(scaler.transform(state, jnp.array([[4.0]])))
        [[0.]]

    Notes:
        Equal to scikit-learn's class of this name up to rounding, with two differences: data in
        float32 keep their digits at any offset, and only a feature whose values are all equal
        counts as constant.
    """

    with_mean: bool = True
    with_std: bool = True

    def init(self, shape: Shape, dtype: DTypeLike = jnp.float32) -> StandardState:
        """Returns the state before any sample, with which `transform` changes nothing.

        Args:
            shape: the shape of one sample, [*features].
            dtype: the dtype of the features; the statistics are float32 or wider.

        Returns:
            A state of zeros.

        Raises:
            TypeError: `dtype` is not real and floating.

        Examples:
            >>> StandardScaler().init((3,)).count
            Array([0., 0., 0.], dtype=float32)
        """
        dtype = state_dtype(dtype)
        pivot, mean, var, count = (jnp.zeros(shape, dtype) for _ in range(4))
        return StandardState(pivot, Moments(mean, var, count))

    def fit(
        self, x: ArrayLike, *, mask: ArrayLike | None = None, weights: ArrayLike | None = None
    ) -> StandardState:
        """Returns the state of a data set in memory.

        Args:
            x: [N, *features], real; NaN where a value is missing.
            mask: boolean, broadcastable to `x`, true where a value is valid.
            weights: [N], real, not negative: the weight of each sample.

        Returns:
            The state of these samples, in the dtype of `x` or float32, whichever is wider.

        Raises:
            ValueError: a shape does not fit.
            TypeError: `x` is not real or the mask not boolean.

        Examples:
            >>> x = jnp.array([[1.0], [2.0], [6.0]])
            >>> StandardScaler().fit(x, weights=jnp.array([1.0, 1.0, 0.0])).mean
            Array([1.5], dtype=float32)
        """
        x = as_floating(x)
        return self.update(self.init(x.shape[1:], x.dtype), x, mask=mask, weights=weights)

    def update(
        self,
        state: StandardState,
        x: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        weights: ArrayLike | None = None,
    ) -> StandardState:
        """Returns the state that has seen `x` as well.

        Args:
            state: of the samples seen before.
            x: [*batch, *features], real; NaN where a value is missing.
            mask: boolean, broadcastable to `x`, true where a value is valid.
            weights: [*batch], real, not negative: the weight of each sample.

        Returns:
            The state of the union, of the dtypes of `state`.

        Raises:
            ValueError: a shape does not fit.
            TypeError: `x` is not real or the mask not boolean.

        Examples:
            >>> scaler = StandardScaler()
            >>> scaler.update(scaler.init((2,)), jnp.array([3.0, 4.0])).mean
            Array([3., 4.], dtype=float32)
        """
        features = state.pivot.shape
        samples, valid = flatten_samples(x, mask, features, state.pivot.dtype)
        shares = valid.astype(samples.dtype)
        if weights is not None:
            weights = jnp.asarray(weights, samples.dtype)
            batch = jnp.shape(x)[: jnp.ndim(x) - len(features)]
            if weights.shape != batch:
                raise ValueError(
                    f"weights {list(weights.shape)} must have one entry per sample of x "
                    f"{list(jnp.shape(x))}, so the shape {list(batch)}"
                )
            shares = shares * weights.reshape(-1, *(1,) * len(features))
        taken = shares > 0
        pivot = _first(samples, taken)
        new = moments(samples - pivot, (1, *features), mask=taken, weights=shares)
        new = jax.tree.map(lambda part: jnp.broadcast_to(part, (1, *features))[0], new)
        return self.merge(state, StandardState(pivot, new._replace(tail=None)))

    def merge(self, first: StandardState, second: StandardState) -> StandardState:
        """Returns the state of the union of two sets of samples.

        Args:
            first: a state of [*features].
            second: a state of the same features.

        Returns:
            The state of the union.

        Raises:
            ValueError: the features differ.

        Examples:
            >>> scaler = StandardScaler()
            >>> one, two = scaler.fit(jnp.array([[1.0], [3.0]])), scaler.fit(jnp.array([[5.0]]))
            >>> scaler.merge(one, two).mean
            Array([3.], dtype=float32)
        """
        return self.pool(stack(first, second))

    def pool(self, states: StandardState) -> StandardState:
        """Returns the state of the union of many sets of samples.

        Args:
            states: stacked states [S, *features], as `jax.vmap(scaler.fit)` over shards gives, or
                `jax.lax.all_gather(state, axis_name)` inside a `shard_map`.

        Returns:
            The state of the union, [*features].

        Examples:
            >>> scaler = StandardScaler()
            >>> shards = jnp.array([[[1.0], [3.0]], [[5.0], [7.0]]])
            >>> scaler.pool(jax.vmap(scaler.fit)(shards)).var
            Array([5.], dtype=float32)
        """
        pivot = _first(states.pivot, states.count > 0)
        mean = states.shifted.mean + (states.pivot - pivot)
        pooled = pool(states.shifted._replace(mean=mean), (1, *pivot.shape))
        pooled = jax.tree.map(lambda part: part[0], pooled)
        # The pivot holds the leading digits of a large mean, so that the rest needs no tail.
        return StandardState(pivot, pooled._replace(tail=None))

    def transform(self, state: StandardState, x: ArrayLike) -> Array:
        """Returns `x` scaled.

        Args:
            state: of the fitted samples.
            x: [*batch, *features], real.

        Returns:
            [*batch, *features], in the dtype of `x` if that is floating; NaN stays NaN.

        Raises:
            ValueError: `x` does not end in the features of the state.
            TypeError: `x` is not real.

        Examples:
            >>> scaler = StandardScaler()
            >>> scaler.transform(scaler.fit(jnp.array([[1.0], [3.0]])), jnp.array([[5.0]]))
            Array([[3.]], dtype=float32)
        """
        x = as_floating(x)
        check_features(x, state.pivot.shape)
        y = x.astype(jnp.promote_types(x.dtype, state.pivot.dtype))
        if self.with_mean:
            y = (y - state.pivot) - state.shifted.mean
        return (y / self._scale(state)).astype(x.dtype)

    def inverse_transform(self, state: StandardState, y: ArrayLike) -> Array:
        """Returns what `transform` turned into `y`.

        Args:
            state: of the fitted samples.
            y: [*batch, *features], scaled.

        Returns:
            [*batch, *features], in the dtype of `y` if that is floating.

        Raises:
            ValueError: `y` does not end in the features of the state.
            TypeError: `y` is not real.

        Examples:
            >>> scaler = StandardScaler()
            >>> scaler.inverse_transform(scaler.fit(jnp.array([[1.0], [3.0]])), jnp.array([[3.0]]))
            Array([[5.]], dtype=float32)
        """
        y = as_floating(y)
        check_features(y, state.pivot.shape)
        x = y.astype(jnp.promote_types(y.dtype, state.pivot.dtype)) * self._scale(state)
        if self.with_mean:
            x = (x + state.shifted.mean) + state.pivot
        return x.astype(y.dtype)

    def _scale(self, state: StandardState) -> Array:
        if not self.with_std:
            return jnp.ones_like(state.var)
        return jnp.where(state.var > 0, jnp.sqrt(state.var), 1)


def _first(values: Array, valid: Array) -> Array:
    """Returns the first valid entry along axis 0, zero where there is none."""
    if values.shape[0] == 0:
        return jnp.zeros(values.shape[1:], values.dtype)
    at = jnp.argmax(valid, axis=0, keepdims=True)
    first = jnp.take_along_axis(values, at, axis=0)[0]
    return jnp.where(jnp.any(valid, axis=0), first, 0)
