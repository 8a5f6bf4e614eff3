"""Weight normalization: a kernel's direction and length as separate parameters.

Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016.
"""

import math

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, place
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import standardize
from jaxnorm.stats import moments, sample_size
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike, Shape


def weight_norm(
    kernel: ArrayLike,
    scale: ArrayLike | None = None,
    *,
    feature_axes: Axes | None = -1,
    epsilon: float = 1e-12,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `kernel` with Euclidean norm `scale` for each feature.

    `w = scale * kernel / sqrt(sum(kernel^2) + epsilon)`, the sum over all but the feature axes, in
    float32 or wider (Salimans, Kingma, arXiv:1602.07868, 2016, equation 2). A pure
    reparametrization: `scale=weight_norm_scale(kernel)` leaves the kernel as it is.

    Args:
        kernel: [*receptive, in, out], floating.
        scale: [*features], or None for one.
        feature_axes: the axes that have a norm each; None for one norm of the whole kernel.
        epsilon: added to the squared norm.
        dtype: the output's dtype; that of `kernel` if None.

    Returns:
        The shape of `kernel`, of `dtype`.

    Raises:
        ValueError: an axis or a shape does not fit.
        TypeError: `kernel` is not floating or complex.

    Examples:
        >>> weight_norm(jnp.array([[3.0, 1.0], [4.0, 0.0]]), jnp.array([10.0, 2.0])).round(4)
        Array([[6., 2.],
               [8., 0.]], dtype=float32)
    """
    kernel = as_array(kernel)
    axes, stats_shape = _features(kernel.shape, feature_axes)
    # The squared norm is n mean squares: the core's statistic, with its derivative.
    n = sample_size(kernel.shape, stats_shape)
    length = jnp.ones((), jnp.float32) if scale is None else jnp.asarray(scale)
    w, _ = standardize(
        kernel,
        stats_shape,
        center=False,
        scale=place(length / math.sqrt(n), kernel.shape, axes, "scale"),
        epsilon=epsilon / n,
        dtype=dtype,
    )
    return w


def weight_norm_scale(kernel: ArrayLike, *, feature_axes: Axes | None = -1) -> Array:
    """Returns the norm of `kernel` for each feature: the scale that leaves the kernel as it is.

    Args:
        kernel: [*receptive, in, out], floating.
        feature_axes: the axes that have a norm each; None for one norm of the whole kernel.

    Returns:
        [*features], float32 or wider.

    Raises:
        ValueError: an axis does not fit.
        TypeError: `kernel` is not floating or complex.

    Examples:
        >>> weight_norm_scale(jnp.array([[3.0, 1.0], [4.0, 0.0]]))
        Array([5., 1.], dtype=float32)
    """
    kernel = as_array(kernel)
    axes, stats_shape = _features(kernel.shape, feature_axes)
    square = moments(kernel, stats_shape, center=False).var * sample_size(kernel.shape, stats_shape)
    return jnp.sqrt(square).reshape(tuple(kernel.shape[a] for a in axes))


def _features(shape: Shape, feature_axes: Axes | None) -> tuple[tuple[int, ...], Shape]:
    axes = canonical_axes(() if feature_axes is None else feature_axes, len(shape), "feature_axes")
    return axes, kept_shape(shape, axes)
