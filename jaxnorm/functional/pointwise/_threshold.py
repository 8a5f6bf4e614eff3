"""Thresholded linear unit: a ReLU whose corner is learned for each channel.

Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019.
"""

import jax.numpy as jnp

from jaxnorm.functional._parameters import place
from jaxnorm.functional.pointwise._parts import widened
from jaxnorm.numerics import as_array, canonical_axes, require_inexact
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def thresholded_linear_unit(
    x: ArrayLike,
    threshold: ArrayLike,
    *,
    feature_axes: Axes = -1,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` cut off from below at a learned threshold.

    `y = max(x, threshold)` (Singh, Krishnan, arXiv:1911.09737, 2019, equation 4). The comparison is
    in float32 or wider, so that the threshold's gradient is summed there.

    Args:
        x: [*shape], real.
        threshold: [*features], or of the rank of `x` and broadcastable to it.
        feature_axes: the axes that the threshold belongs to.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `x` is not real and floating.

    Examples:
        >>> thresholded_linear_unit(jnp.array([[-2.0, 3.0]]), jnp.array([-1.0, 4.0]))
        Array([[-1.,  4.]], dtype=float32)
    """
    x = as_array(x)
    require_inexact(x)
    if jnp.iscomplexobj(x):
        raise TypeError(
            f"thresholded_linear_unit needs a real x, got {x.dtype} {list(x.shape)}: complex "
            "numbers have no order; use their real part"
        )
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    wide = widened(x)
    floor = place(threshold, x.shape, features, "threshold")
    return jnp.maximum(wide, jnp.asarray(floor, wide.dtype)).astype(dtype or x.dtype)
