"""Features in a given range."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from jaxnorm.preprocessing._samples import (
    as_floating,
    check_features,
    flatten_samples,
    stack,
    state_dtype,
)
from jaxnorm.typing import Array, ArrayLike, DTypeLike, Shape


class MinMaxState(NamedTuple):
    """The extremes of each feature; before any sample the minimum is inf and the maximum -inf.

    Examples:
        >>> MinMaxScaler().fit(jnp.array([[1.0], [3.0]])).minimum
        Array([1.], dtype=float32)
    """

    minimum: Array  # [*features]
    maximum: Array  # [*features]


@dataclasses.dataclass(frozen=True)
class MinMaxScaler:
    """Scales each feature to a range: y = low + (x - min) / (max - min) * (high - low).

    A configuration with pure methods over an explicit `MinMaxState`: `fit` for data in memory,
    `init` and `update` for a stream, `merge` and `pool` for shards. Any way of cutting the data
    gives the same state, bit for bit.

    Missing values are NaN: they take no part in the extremes and stay NaN. A constant feature
    becomes `low`; one of which no sample was seen is taken to reach from 0 to 1.

    Args:
        feature_range: (low, high), what the smallest and the largest fitted value become.
        clip: whether values outside the fitted range are clipped to `feature_range`.

    Raises:
        ValueError: `feature_range` is not increasing.

    Examples:
        >>> scaler = MinMaxScaler(feature_range=(-1.0, 1.0))
        >>> state = scaler.fit(jnp.array([[2.0], [6.0]]))
        >>> print(scaler.transform(state, jnp.array([[2.0], [5.0], [8.0]])).ravel())
        [-1.   0.5  2. ]

    Notes:
        Equal to scikit-learn's class of this name up to rounding, with one difference: only a
        feature whose values are all equal counts as constant, however small its range.
    """

    feature_range: tuple[float, float] = (0.0, 1.0)
    clip: bool = False

    def __post_init__(self) -> None:
        low, high = self.feature_range
        if not low < high:
            raise ValueError(
                f"feature_range={self.feature_range} must be (low, high) with low < high"
            )

    def init(self, shape: Shape, dtype: DTypeLike = jnp.float32) -> MinMaxState:
        """Returns the state before any sample.

        Args:
            shape: the shape of one sample, [*features].
            dtype: the dtype of the features; the extremes are float32 or wider.

        Returns:
            A state of minima inf and maxima -inf.

        Raises:
            TypeError: `dtype` is not real and floating.

        Examples:
            >>> MinMaxScaler().init((2,)).minimum
            Array([inf, inf], dtype=float32)
        """
        dtype = state_dtype(dtype)
        return MinMaxState(jnp.full(shape, jnp.inf, dtype), jnp.full(shape, -jnp.inf, dtype))

    def fit(self, x: ArrayLike, *, mask: ArrayLike | None = None) -> MinMaxState:
        """Returns the state of a data set in memory.

        Args:
            x: [N, *features], real; NaN where a value is missing.
            mask: boolean, broadcastable to `x`, true where a value is valid.

        Returns:
            The state of these samples, in the dtype of `x` or float32, whichever is wider.

        Raises:
            ValueError: a shape does not fit.
            TypeError: `x` is not real or the mask not boolean.

        Examples:
            >>> MinMaxScaler().fit(jnp.array([[1.0, 5.0], [3.0, jnp.nan]])).maximum
            Array([3., 5.], dtype=float32)
        """
        x = as_floating(x)
        return self.update(self.init(x.shape[1:], x.dtype), x, mask=mask)

    def update(
        self, state: MinMaxState, x: ArrayLike, *, mask: ArrayLike | None = None
    ) -> MinMaxState:
        """Returns the state that has seen `x` as well.

        Args:
            state: of the samples seen before.
            x: [*batch, *features], real; NaN where a value is missing.
            mask: boolean, broadcastable to `x`, true where a value is valid.

        Returns:
            The state of the union, of the dtypes of `state`.

        Raises:
            ValueError: a shape does not fit.
            TypeError: `x` is not real or the mask not boolean.

        Examples:
            >>> scaler = MinMaxScaler()
            >>> scaler.update(scaler.init((2,)), jnp.array([3.0, 4.0])).minimum
            Array([3., 4.], dtype=float32)
        """
        samples, valid = flatten_samples(x, mask, state.minimum.shape, state.minimum.dtype)
        low = jnp.min(samples, axis=0, where=valid, initial=jnp.inf)
        high = jnp.max(samples, axis=0, where=valid, initial=-jnp.inf)
        return self.merge(state, MinMaxState(low, high))

    def merge(self, first: MinMaxState, second: MinMaxState) -> MinMaxState:
        """Returns the state of the union of two sets of samples.

        Args:
            first: a state of [*features].
            second: a state of the same features.

        Returns:
            The state of the union.

        Raises:
            ValueError: the features differ.

        Examples:
            >>> scaler = MinMaxScaler()
            >>> one, two = scaler.fit(jnp.array([[1.0], [3.0]])), scaler.fit(jnp.array([[5.0]]))
            >>> scaler.merge(one, two).maximum
            Array([5.], dtype=float32)
        """
        return self.pool(stack(first, second))

    def pool(self, states: MinMaxState) -> MinMaxState:
        """Returns the state of the union of many sets of samples.

        Args:
            states: stacked states [S, *features], as `jax.vmap(scaler.fit)` over shards gives, or
                `jax.lax.all_gather(state, axis_name)` inside a `shard_map`.

        Returns:
            The state of the union, [*features].

        Examples:
            >>> scaler = MinMaxScaler()
            >>> states = MinMaxState(jnp.array([[0.0], [2.0]]), jnp.array([[1.0], [4.0]]))
            >>> scaler.pool(states)
            MinMaxState(minimum=Array([0.], dtype=float32), maximum=Array([4.], dtype=float32))
        """
        return MinMaxState(jnp.min(states.minimum, axis=0), jnp.max(states.maximum, axis=0))

    def transform(self, state: MinMaxState, x: ArrayLike) -> Array:
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
            >>> scaler = MinMaxScaler(clip=True)
            >>> scaler.transform(scaler.fit(jnp.array([[1.0], [3.0]])), jnp.array([[2.0], [9.0]]))
            Array([[0.5],
                   [1. ]], dtype=float32)
        """
        x = as_floating(x)
        check_features(x, state.minimum.shape)
        low, high = self.feature_range
        minimum, scale = self._affine(state)
        y = x.astype(jnp.promote_types(x.dtype, scale.dtype))
        y = (y - minimum) * scale + low
        if self.clip:
            y = jnp.clip(y, low, high)
        return y.astype(x.dtype)

    def inverse_transform(self, state: MinMaxState, y: ArrayLike) -> Array:
        """Returns what `transform` turned into `y`, unless it was clipped.

        Args:
            state: of the fitted samples.
            y: [*batch, *features], scaled.

        Returns:
            [*batch, *features], in the dtype of `y` if that is floating.

        Raises:
            ValueError: `y` does not end in the features of the state.
            TypeError: `y` is not real.

        Examples:
            >>> scaler = MinMaxScaler()
            >>> scaler.inverse_transform(scaler.fit(jnp.array([[1.0], [3.0]])), jnp.array([[0.5]]))
            Array([[2.]], dtype=float32)
        """
        y = as_floating(y)
        check_features(y, state.minimum.shape)
        minimum, scale = self._affine(state)
        x = y.astype(jnp.promote_types(y.dtype, scale.dtype))
        return ((x - self.feature_range[0]) / scale + minimum).astype(y.dtype)

    def _affine(self, state: MinMaxState) -> tuple[Array, Array]:
        low, high = self.feature_range
        seen = state.maximum >= state.minimum
        minimum = jnp.where(seen, state.minimum, 0)
        extent = jnp.where(seen, state.maximum, 1) - minimum
        return minimum, (high - low) / jnp.where(extent > 0, extent, 1)
