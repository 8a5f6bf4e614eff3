"""Weight centralization: a kernel with mean 0 for each output, of the deviation that it has.

Yan, Wan, Zhang, Zhang, Wei, Sun: Towards Stabilizing Batch Statistics in Backward Propagation of
Batch Normalization, arXiv:2001.06838, 2020.
"""

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import moments
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def weight_centralization(
    kernel: ArrayLike, *, feature_axes: Axes = -1, dtype: DTypeLike | None = None
) -> Array:
    """Returns `kernel` with mean 0 for each feature.

    `w = kernel - mean`; statistics shape `(1, 1, 1, O)` for a kernel `[h, w, I, O]`, float32 or
    wider (Yan et al., arXiv:2001.06838, 2020). Moving average batch norm, which does not
    center its input, has centered kernels before it in its place.

    Args:
        kernel: [*receptive, in, out], floating.
        feature_axes: the output axes, each with a mean of its own.
        dtype: the output's dtype; that of `kernel` if None.

    Returns:
        The shape of `kernel`, of `dtype`.

    Raises:
        ValueError: an axis does not fit.
        TypeError: `kernel` is not floating or complex.

    Examples:
        >>> weight_centralization(jnp.array([[3.0, 1.0], [5.0, 2.0]]))
        Array([[-1. , -0.5],
               [ 1. ,  0.5]], dtype=float32)
    """
    kernel = as_array(kernel)
    axes = canonical_axes(feature_axes, kernel.ndim, "feature_axes")
    found = moments(kernel, kept_shape(kernel.shape, axes))
    # The deviation is not divided by, so its gradient is never asked for.
    return normalize(kernel, found._replace(var=jnp.ones_like(found.var)), epsilon=0.0, dtype=dtype)
