"""What the norms with a backward pass of their own remember from step to step.

The forward pass returns the new value of what is forward; that of what is backward comes out as the
gradient with respect to it.
"""

from typing import NamedTuple

from jaxnorm.typing import Array


class PowerState(NamedTuple):
    """The running statistics of power normalization.

    Examples:
        >>> import jax.numpy as jnp
        >>> PowerState(jnp.ones(2), jnp.zeros(2)).backward
        Array([0., 0.], dtype=float32)
    """

    mean_square: Array  # [*features], float32 or wider; starts at ones
    backward: Array  # [*features], float32 or wider; starts at zeros


class OnlineState(NamedTuple):
    """The running statistics of online normalization, forward and backward.

    Examples:
        >>> import jax.numpy as jnp
        >>> OnlineState(jnp.zeros(2), jnp.ones(2), jnp.zeros(2), jnp.zeros(2)).var
        Array([1., 1.], dtype=float32)
    """

    mean: Array  # [*features], float32 or wider; starts at zeros
    var: Array  # likewise; starts at ones
    gradient: Array  # likewise, remembers mean gradients; starts at zeros
    product: Array  # likewise, remembers mean products of gradient and output; starts at zeros
