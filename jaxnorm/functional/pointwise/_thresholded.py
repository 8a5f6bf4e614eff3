"""Thresholded linear unit: a rectifier whose corner is learned for each feature.

Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019.
"""

import jax.numpy as jnp

from jaxnorm.functional._parameters import place
from jaxnorm.functional.pointwise._widened import widened
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def thresholded_linear_unit(
    x: ArrayLike,
    threshold: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` cut off from below at a threshold for each feature.

    `y = max(x, threshold)`, compared in float32 or wider and rounded once (Singh, Krishnan,
    arXiv:1911.09737, 2019, equation 4). The gradient of the threshold is summed in float32 or wider
    whatever the dtype of `x`. At equality `x` and the threshold get half of the gradient each.

    Args:
        x: [*shape], floating.
        threshold: [*features], or of the rank of `x` and broadcastable to it; None for zero, which
            is a ReLU.
        feature_axes: the axes that the threshold belongs to.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `x` is not floating.

    Examples:
        >>> thresholded_linear_unit(jnp.array([[-3.0, -3.0]]), jnp.array([0.0, -1.0]))
        Array([[ 0., -1.]], dtype=float32)

    Notes:
        `jaxnorm.filter_response_norm` has the threshold as an argument.
    """
    x = as_array(x)
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    wide = widened(x, ordered_for="thresholded_linear_unit")
    floor = place(0.0 if threshold is None else threshold, x.shape, features, "threshold")
    return jnp.maximum(wide, jnp.asarray(floor, wide.dtype)).astype(dtype or x.dtype)
