"""How the axes of a leaf are ordered elsewhere; Flax has channels last, kernels `[*, in, out]`."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxnorm.typing import Shape


class Layout(NamedTuple):
    """A change of an array's axes between another framework and Flax, in both directions.

    Attributes:
        text: what a report says of it, such as "OIHW -> HWIO".
        to_ours: `to_ours(theirs, shape)` returns the array as Flax has it; `shape` is what `like`
            asks for.
        to_theirs: `to_theirs(ours, shape)` is the inverse.
        roles: which leaves of a layer the layout is for.

    Examples:
        >>> swap = Layout("[out, in] -> [in, out]", lambda a, _: a.T, lambda a, _: a.T)
        >>> swap.to_ours(np.ones((4, 3)), (3, 4)).shape
        (3, 4)
    """

    text: str
    to_ours: Callable[[np.ndarray, Shape], np.ndarray]
    to_theirs: Callable[[np.ndarray, Shape], np.ndarray]
    roles: tuple[str, ...] = ("kernel",)


def moved(
    text: str, theirs: tuple[int, ...], ours: tuple[int, ...], *, flip: bool = False
) -> Layout:
    """Returns the layout that moves axes `theirs` to `ours`, and may turn a kernel's positions.

    Args:
        text: for reports.
        theirs: axes of the other framework's array.
        ours: where Flax has them.
        flip: whether every axis but the last two of Flax's kernel runs backwards.

    Returns:
        A `Layout` of kernels.
    """

    def turned(kernel: np.ndarray) -> np.ndarray:
        return np.flip(kernel, tuple(range(kernel.ndim - 2))) if flip else kernel

    return Layout(
        text,
        lambda array, shape: turned(np.moveaxis(array, theirs, ours)),
        lambda array, shape: np.moveaxis(turned(array), ours, theirs),
    )


SAME = Layout("same", lambda array, shape: array, lambda array, shape: array)

# A linear layer and a convolution that store the output's features first.
OUT_FIRST = {
    "dense": moved("[out, in] -> [in, out]", (0, 1), (1, 0)),
    "conv": moved("[out, in, *] -> [*, in, out]", (1, 0), (-2, -1)),
}


def _without_ones(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Returns the array in `shape` if the two differ by axes of size one, or else as it is."""
    same = [n for n in array.shape if n != 1] == [n for n in shape if n != 1]
    return array.reshape(shape) if same else array


KEEPDIMS = Layout("axes of size one", _without_ones, _without_ones)
"""Of vectors that are stored as `[1, 1, 1, C]`, or as `[C, 1, 1]`."""

CHANNELS_FIRST = Layout(
    "[C, *] -> [*, C]",
    lambda array, shape: np.moveaxis(array, 0, -1),
    lambda array, shape: np.moveaxis(array, -1, 0),
    ("scale", "bias"),
)
"""Of a layer norm over channels and positions."""

ZERO_CENTERED = Layout(
    "1 + scale",
    lambda array, shape: (1 + array.astype(np.float64)).astype(array.dtype),
    lambda array, shape: (array.astype(np.float64) - 1).astype(array.dtype),
    ("scale",),
)
"""Of a scale that is stored less one there and whole here; `zero_centered=True` needs none."""


def after_flatten(*shape: int) -> Layout:
    """Returns the layout of the linear layer behind a flattened image with channels first.

    Its input runs over `[C, *positions]` there and over `[*positions, C]` in Flax, so that a
    transposed kernel has the right shape and the wrong order.

    Args:
        *shape: of the image that is flattened, channels first, such as `64, 7, 7`.

    Returns:
        A `Layout` of the kernel `[out, C * positions]`, for the argument `layouts`.

    Raises:
        ValueError: fewer than two sizes.

    Examples:
        >>> layout = after_flatten(2, 3)  # two channels, three positions
        >>> layout.to_ours(np.arange(6.0).reshape(1, 6), (6, 1)).ravel()
        array([0., 3., 1., 4., 2., 5.])
    """
    if len(shape) < 2:
        raise ValueError(f"after_flatten{shape} needs the channels and at least one position")
    last = (*shape[1:], shape[0])

    def to_ours(kernel: np.ndarray, like: Shape) -> np.ndarray:
        if kernel.ndim != 2 or kernel.shape[1] != np.prod(shape):
            return kernel.T  # of another size: the converter names it with both shapes
        return np.moveaxis(kernel.T.reshape(*shape, -1), 0, -2).reshape(kernel.shape[::-1])

    def to_theirs(kernel: np.ndarray, like: Shape) -> np.ndarray:
        if kernel.ndim != 2 or kernel.shape[0] != np.prod(shape):
            return kernel.T
        return np.moveaxis(kernel.reshape(*last, -1), -2, 0).reshape(kernel.shape).T

    return Layout(f"[out, {shape}] -> [{last}, out]", to_ours, to_theirs)
