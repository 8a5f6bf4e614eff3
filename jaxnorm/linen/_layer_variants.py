"""Relatives of layer norm and RMS norm as linen modules."""

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import Norm
from jaxnorm.typing import Axes, AxisIndexGroups, AxisName, DTypeLike


class PRMSNorm(Norm):
    """Divides each position by the root mean square of its first features.

    Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019, section 3.2. The
    mean square is taken in float32 or wider.

    Examples:
        >>> import jax
        >>> layer, x = PRMSNorm(share=0.5), jnp.array([[2.0, 2.0, 4.0, -8.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[ 1.,  1.,  2., -4.]], dtype=float32)
    """

    spec = SPECS["p_rms_norm"]

    share: float = 0.0625  # of the features that are measured
    epsilon: float = 1e-6  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = False  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis: int = -1  # the feature axis
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class ScaleNorm(Norm):
    """Divides each position by its length and multiplies by one learned number.

    Nguyen, Salazar: Transformers without Tears, arXiv:1910.05895, 2019. The length is taken in
    float32 or wider.

    Attributes:
        epsilon: the smallest length that is divided by.
        scale_init: initializer of the scale []; None starts it at the root of the number of
            features, as the authors do.

    Examples:
        >>> import jax
        >>> layer, x = ScaleNorm(), jnp.array([[3.0, -4.0, 0.0, 0.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[ 1.2, -1.6,  0. ,  0. ]], dtype=float32)
    """

    spec = SPECS["scale_norm"]

    epsilon: float = 1e-5
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and scale give
    param_dtype: DTypeLike = jnp.float32  # of the scale
    use_scale: bool = True  # whether a scale is learned
    scale_init: initializers.Initializer | None = None
    reduction_axes: Axes = -1  # the axes that the length is taken over
    axis_name: AxisName | None = None  # of shards that share the length
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class PixelNorm(Norm):
    """Divides each position by the root mean square of its features; nothing is learned.

    Karras et al.: Progressive Growing of GANs, arXiv:1710.10196, 2017. The mean square is taken in
    float32 or wider.

    Examples:
        >>> PixelNorm().apply({}, jnp.array([[4.0, 0.0, 0.0, 0.0]])).round(3)
        Array([[2., 0., 0., 0.]], dtype=float32)
    """

    spec = SPECS["pixel_norm"]

    epsilon: float = 1e-8  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; that of the input if None
    reduction_axes: Axes = -1  # the axes that the mean square is taken over
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
