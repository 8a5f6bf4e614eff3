"""What a kernel does before and behind a normalization, beside scale and bias."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxnorm.ops._activations import activated, slope
from jaxnorm.ops._quantization import counted, step_of
from jaxnorm.typing import Array


class Forward(NamedTuple):
    """What the forward pass takes into its own passes.

    Arrays are of the shape that the kernels see: `residual` that of x, `step` that of a statistic.
    """

    residual: Any = None  # added to x
    total: jnp.dtype | None = None  # of the sum, which is written; None where nothing is added
    activation: str | None = None
    quantized: bool = False  # whether y counts steps
    step: Any = None  # float32; None for one of each sample, which is written

    @property
    def own_step(self) -> bool:
        """Whether each sample has a step of its own, which is written."""
        return self.quantized and self.step is None

    @property
    def static(self) -> "Forward":
        """The same, with True in the place of each array."""
        residual, step = (None if v is None else True for v in (self.residual, self.step))
        return self._replace(residual=residual, step=step)


class Backward(NamedTuple):
    """What the backward pass takes into its own passes; arrays as in `Forward`."""

    residual: Any = None  # added to x
    ct_total: Any = None  # the cotangent of the sum
    bias: Any = None  # float32, like the scale, where an activation has a slope to be taken
    activation: str | None = None
    dtypes: tuple = ()  # in which the cotangent of the sum is wanted; that of x if empty


def finished(
    around: Forward, dtype, z: Array, step: Array | None, largest: Callable
) -> tuple[Array, Array | None]:
    """Returns what is stored as y, and the step of each sample.

    Args:
        around: what is done.
        dtype: of y.
        z: [*shape], scaled and shifted.
        step: broadcasts to `z`; None where none is given.
        largest: gives the largest of values [*shape] within each sample.
    """
    y = activated(around.activation, z)
    if not around.quantized:
        return y, None
    if step is None:
        step = step_of(largest(jnp.abs(y)), dtype)
    return counted(y, step, dtype), step


def behind_activation(activation: str | None, ct: Array, xhat: Array, scale, bias) -> Array:
    """Returns the cotangent of what was activated.

    Args:
        activation: its name, or None.
        ct: [*shape], the cotangent of y.
        xhat: [*shape].
        scale: broadcasts to `xhat`, or None.
        bias: broadcasts to `xhat`, or None.
    """
    if activation is None:
        return ct
    z = xhat if scale is None else xhat * scale
    return ct * slope(activation, z if bias is None else z + bias)
