"""Layers that are linear in their input, and what a norm before them meets."""

from typing import Any

import flax.linen as nn
import numpy as np
from flax import nnx
from jax import lax

from jaxnorm.typing import Shape

LINEAR = (nn.Dense, nn.Conv, nn.ConvTranspose, nnx.Linear, nnx.Conv, nnx.ConvTranspose)
"""Layers whose output is linear in the kernel, feature by feature along the last axis."""

_TRANSPOSED = (nn.ConvTranspose, nnx.ConvTranspose)
_WITHOUT_ZEROS = ("VALID", "CIRCULAR", "REFLECT")


def kernel_axis(layer: Any) -> int:
    """Returns the axis of a layer's kernel that holds the features of its output.

    Args:
        layer: one of `LINEAR`.

    Returns:
        -1, or -2 for a transposed convolution with a transposed kernel.

    Examples:
        >>> kernel_axis(nn.ConvTranspose(3, (2,), transpose_kernel=True))
        -2
    """
    return -2 if getattr(layer, "transpose_kernel", False) else -1


def input_fault(layer: Any, shape: Shape) -> str:
    """Returns why a constant added to the input is not a constant added to the output.

    Args:
        layer: one of `LINEAR`.
        shape: of its input.

    Returns:
        A reason, empty for a dense layer and for a convolution that adds no zeros.

    Examples:
        >>> input_fault(nn.Conv(3, (2, 2)), (1, 8, 8, 4))
        'adds zeros to the normalized input, which the shift would have to reach as well'
        >>> input_fault(nn.Conv(3, (2, 2), padding="VALID"), (1, 8, 8, 4))
        ''
    """
    if isinstance(layer, _TRANSPOSED):
        return "is transposed, whose outputs see the shift unequally often"
    if isinstance(layer, nn.Dense | nnx.Linear):
        return ""
    if layer.mask is not None:
        return "masks its kernel"
    if _widest(layer.input_dilation) > 1 or _adds_zeros(layer, shape):
        return "adds zeros to the normalized input, which the shift would have to reach as well"
    return ""


def _adds_zeros(conv: Any, shape: Shape) -> bool:
    given = conv.kernel_size
    kernel = (given,) if isinstance(given, int) else tuple(given)
    dilation = _each(conv.kernel_dilation, kernel)
    reach = [1 + (size - 1) * step for size, step in zip(kernel, dilation, strict=True)]
    padding = conv.padding
    if isinstance(padding, str):
        if padding == "CAUSAL":
            return max(reach) > 1
        if padding in _WITHOUT_ZEROS:
            return False
        spatial = shape[-1 - len(kernel) : -1]
        padding = lax.padtype_to_pads(spatial, reach, _each(conv.strides, kernel), padding)
    return _widest(padding) > 0


def _each(value: Any, kernel: Shape) -> Shape:
    value = 1 if value is None else value
    return (value,) * len(kernel) if isinstance(value, int) else tuple(value)


def _widest(value: Any) -> int:
    """Returns the largest of integers in nested sequences, 0 for None."""
    if value is None or np.ndim(value) == 0:  # JAX before 0.9 pads by integers of NumPy
        return int(value or 0)
    return max(map(_widest, value), default=0)
