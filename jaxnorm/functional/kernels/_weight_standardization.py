"""Weight standardization: a kernel with mean 0 and variance 1 for each output.

Qiao, Wang, Liu, Shen, Yuille: Micro-Batch Training with Batch-Channel Normalization and Weight
Standardization, arXiv:1903.10520, 2019.
"""

from jaxnorm.functional._parameters import kept_shape, place
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import standardize
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def weight_standardization(
    kernel: ArrayLike,
    scale: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    epsilon: float = 1e-6,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `kernel` with mean 0 and variance 1 for each feature, times `scale`.

    `w = scale * (kernel - mean) / sqrt(var + epsilon)`; statistics shape `(1, 1, 1, O)` for a
    kernel `[h, w, I, O]`, float32 or wider (Qiao et al., arXiv:1903.10520, 2019, equation 7).

    Args:
        kernel: [*receptive, in, out], floating.
        scale: [*features], or None for one.
        feature_axes: the output axes, each with statistics of its own.
        epsilon: added to the variance.
        dtype: the output's dtype; that of `kernel` if None.

    Returns:
        The shape of `kernel`, of `dtype`.

    Raises:
        ValueError: an axis or a shape does not fit.
        TypeError: `kernel` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> weight_standardization(jnp.array([[3.0, 1.0], [5.0, 2.0]])).round(3)
        Array([[-1., -1.],
               [ 1.,  1.]], dtype=float32)
    """
    kernel = as_array(kernel)
    axes = canonical_axes(feature_axes, kernel.ndim, "feature_axes")
    w, _ = standardize(
        kernel,
        kept_shape(kernel.shape, axes),
        scale=place(scale, kernel.shape, axes, "scale"),
        epsilon=epsilon,
        dtype=dtype,
    )
    return w
