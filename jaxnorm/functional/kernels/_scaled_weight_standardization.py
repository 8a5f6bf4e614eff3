"""Scaled weight standardization: a kernel that keeps the variance of its input.

Brock, De, Smith: Characterizing signal propagation to close the performance gap in unnormalized
ResNets, arXiv:2101.08692, 2021.
"""

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, place
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import moments, sample_size
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def scaled_weight_standardization(
    kernel: ArrayLike,
    scale: ArrayLike | None = None,
    *,
    gain: float = 1.0,
    feature_axes: Axes = -1,
    epsilon: float = 1e-4,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `kernel` with mean 0 and a sum of squares of 1 for each feature, times the gains.

    `w = gain * scale * (kernel - mean) / sqrt(max(n var, epsilon))` with the fan-in n; statistics
    shape `(1, 1, 1, O)` for a kernel `[h, w, I, O]`, float32 or wider (Brock et al.,
    arXiv:2101.08692, 2021). Independent inputs of variance 1 give outputs of variance
    `gain^2`, and no statistic of an activation is needed.

    Args:
        kernel: [*receptive, in, out], floating.
        scale: [*features], learned, or None for one.
        gain: that of the activation before the layer, such as `activation_gain("relu")`.
        feature_axes: the output axes, each with statistics of its own.
        epsilon: what the sum of squared deviations counts as at least; the authors' code has 1e-4.
        dtype: the output's dtype; that of `kernel` if None.

    Returns:
        The shape of `kernel`, of `dtype`.

    Raises:
        ValueError: an axis or a shape does not fit, or `epsilon` is not positive.
        TypeError: `kernel` is not floating or complex.

    Examples:
        >>> w = scaled_weight_standardization(jnp.array([[3.0, 1.0], [5.0, 2.0]]))
        >>> w.round(3), (w**2).sum(0).round(3)
        (Array([[-0.707, -0.707],
               [ 0.707,  0.707]], dtype=float32), Array([1., 1.], dtype=float32))

    Notes:
        The authors' code multiplies the activation by its gain instead of the kernel, which is the
        same. timm adds an epsilon of 1e-6 to the variance and has no lower bound.
    """
    kernel = as_array(kernel)
    axes = canonical_axes(feature_axes, kernel.ndim, "feature_axes")
    if epsilon <= 0:
        raise ValueError(f"epsilon={epsilon} must be positive: constant kernels have no variance")
    stats_shape = kept_shape(kernel.shape, axes)
    found = moments(kernel, stats_shape)
    squares = jnp.maximum(sample_size(kernel.shape, stats_shape) * found.var, epsilon)
    learned = jnp.ones((), found.var.dtype) if scale is None else jnp.asarray(scale)
    return normalize(
        kernel,
        found._replace(var=squares),
        scale=place(learned * gain, kernel.shape, axes, "scale"),
        epsilon=0.0,
        dtype=dtype,
    )
