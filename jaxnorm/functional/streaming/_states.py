"""What the norms of streams remember from step to step.

The new value of what the backward pass remembers comes out as the gradient with respect to it.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxnorm.typing import Array, DTypeLike, Shape


class PowerState(NamedTuple):
    """The running statistics of power normalization.

    Examples:
        >>> PowerState.start((2,)).backward
        Array([0., 0.], dtype=float32)
    """

    mean_square: Array  # [*features], float32 or wider; starts at ones
    backward: Array  # [*features], float32 or wider; starts at zeros

    @classmethod
    def start(cls, features: Shape, dtype: DTypeLike = jnp.float32) -> "PowerState":
        """Returns the state before any step, for [*features]."""
        return cls(jnp.ones(features, dtype), jnp.zeros(features, dtype))


class OnlineState(NamedTuple):
    """The running statistics of online normalization, forward and backward.

    Examples:
        >>> OnlineState.start((2,)).var
        Array([1., 1.], dtype=float32)
    """

    mean: Array  # [*features], float32 or wider; starts at zeros
    var: Array  # likewise; starts at ones
    gradient: Array  # likewise, remembers mean gradients; starts at zeros
    product: Array  # likewise, remembers mean products of gradient and output; starts at zeros

    @classmethod
    def start(cls, features: Shape, dtype: DTypeLike = jnp.float32) -> "OnlineState":
        """Returns the state before any sample, for [*features]."""
        zeros = jnp.zeros(features, dtype)
        return cls(zeros, jnp.ones(features, dtype), zeros, zeros)


class MovingAverageState(NamedTuple):
    """The last batches and the running statistic of moving average batch normalization.

    Examples:
        >>> MovingAverageState.start((2,), window=3).products.shape
        (3, 2)
    """

    mean_square: Array  # [*features], float32 or wider, the exponential average; starts at ones
    mean_squares: Array  # [window, *features], of the last batches, the newest first
    products: Array  # likewise, mean products of gradient and output
    updates: Array  # [*features], batches seen; floats, so that the state can be differentiated

    @classmethod
    def start(
        cls, features: Shape, window: int, dtype: DTypeLike = jnp.float32
    ) -> "MovingAverageState":
        """Returns the state before any batch, for [*features] and `window` batches."""
        zeros = jnp.zeros((window, *features), dtype)
        return cls(jnp.ones(features, dtype), zeros, zeros, jnp.zeros(features, dtype))


class CrossIterationState(NamedTuple):
    """The last batches and the running statistics of cross-iteration batch normalization.

    Examples:
        >>> CrossIterationState.start((3, 3, 8, 2), window=4).mean_slopes.shape
        (3, 3, 3, 8, 2)
    """

    mean: Array  # [C], float32 or wider, running; starts at zeros
    var: Array  # [C], likewise; starts at ones
    kernels: Array  # [window - 1, ..., C], of the last batches, the newest first
    means: Array  # [window - 1, C], of the batches
    vars: Array  # [window - 1, C]
    mean_slopes: Array  # [window - 1, ..., C], derivatives of the means by the kernels
    var_slopes: Array  # [window - 1, ..., C]
    updates: Array  # [C], batches seen; floats, so that the state can be differentiated

    @classmethod
    def start(
        cls, kernel: Shape, window: int, dtype: DTypeLike = jnp.float32
    ) -> "CrossIterationState":
        """Returns the state before any batch, for a kernel [..., C] and `window` batches."""
        features = jnp.zeros(kernel[-1:], dtype)
        rows, kernels = (jnp.zeros((window - 1, *s), dtype) for s in (kernel[-1:], kernel))
        one = jnp.ones_like(features)
        return cls(features, one, kernels, rows, rows, kernels, kernels, features)
