"""A segmentation at the resolution of the layer that it conditions."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp

from jaxnorm import _explicit
from jaxnorm.numerics import as_array
from jaxnorm.typing import Array, ArrayLike


def resize_segmentation(segmentation: ArrayLike, sizes: Sequence[int]) -> Array:
    """Returns a segmentation at another resolution, its values chosen and not averaged.

    Position `i` of `n` takes the value at `floor(i * m / n)` of `m`, as PyTorch's "nearest" does.

    Args:
        segmentation: [N, *spatial, classes], of any dtype.
        sizes: the new spatial sizes.

    Returns:
        [N, *sizes, classes], of the dtype of `segmentation`.

    Raises:
        ValueError: there is not one size for each spatial axis.

    Examples:
        >>> resize_segmentation(jnp.arange(4).reshape(1, 4, 1), (2,)).ravel()
        Array([0, 2], dtype=int32)
    """
    resized = as_array(segmentation)
    if len(sizes) != resized.ndim - 2:
        raise ValueError(
            f"segmentation {list(resized.shape)} must be [N, *spatial, classes] with "
            f"{len(sizes)} spatial axes, to be resized to {list(sizes)}"
        )
    for axis, n in enumerate(sizes, 1):
        chosen = jnp.arange(n) * resized.shape[axis] // n
        take = functools.partial(jnp.take, indices=chosen, axis=axis)
        given = _explicit.whole_groups(resized, n, axis)
        resized = _explicit.left_to_xla(take, _explicit.explicit_axes(given), given)
    return resized
