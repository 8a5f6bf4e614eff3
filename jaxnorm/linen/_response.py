"""Norms by windows around each entry, and by other channels, as linen modules."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import Norm
from jaxnorm.typing import Axes, DTypeLike


class LocalResponseNorm(Norm):
    """Divides each entry by a power of the squares of the channels around it.

    Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks,
    NeurIPS, 2012. Nothing is learned.

    Examples:
        >>> import jax
        >>> layer = LocalResponseNorm(size=3, alpha=1.0, beta=1.0, k=1.0)
        >>> x = jnp.array([[1.0, 0.0, 1.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[0.5, 0. , 0.5]], dtype=float32)
    """

    spec = SPECS["local_response_norm"]

    size: int = 5  # how many channels
    alpha: float = 1e-4  # the weight of the sum
    beta: float = 0.75  # the exponent
    k: float = 2.0  # added to the weighted sum, positive
    average: bool = False  # whether alpha is divided by the size, as in PyTorch
    axis: int = -1  # the channel axis
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give


class LocalContrastNorm(Norm):
    """Takes the Gaussian mean around each position away, and divides by the spread around it.

    Jarrett, Kavukcuoglu, Ranzato, LeCun: What is the Best Multi-Stage Architecture for Object
    Recognition?, ICCV, 2009. Nothing is learned.

    Examples:
        >>> import jax
        >>> layer = LocalContrastNorm(window=3, std=1e3)
        >>> x = jnp.array([[[1.0], [3.0]]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3).ravel()
        Array([-1.,  1.], dtype=float32)
    """

    spec = SPECS["local_contrast_norm"]

    window: int = 9  # entries along each axis, odd
    std: float | None = None  # of the Gaussian, in entries; a quarter of the window if None
    axes: Axes | None = None  # of the window; all but the first and `axis` if None
    axis: int = -1  # the channel axis
    epsilon: float = 1e-5  # the least divisor
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give


class DivisiveNorm(Norm):
    """Takes the mean around each entry away, and divides by the energy around it.

    Ren, Liao, Urtasun, Sinz, Zemel: Normalizing the Normalizers, arXiv:1611.04520, 2016.

    Examples:
        >>> import jax
        >>> layer = DivisiveNorm(window=3, suppression=1, smoother=3.0)
        >>> x = jnp.array([[[4.0], [12.0], [20.0]]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3).ravel()
        Array([-0.8,  0. ,  0.8], dtype=float32)
    """

    spec = SPECS["divisive_norm"]

    window: int | Sequence[int | None]  # entries around each, one for all axes or one for each
    suppression: int | Sequence[int | None] | None = None  # of the energy; `window` if None
    axes: Axes | None = None  # of the windows; all between the first and the last if None
    smoother: float = 1.0  # the energy that is added to the root, positive
    feature_axes: Axes = -1  # the axes that scale and bias belong to
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of scale and bias
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale


class GlobalResponseNorm(Norm):
    """Weighs each channel by its length beside the mean length of all, and adds that to the input.

    Woo et al.: ConvNeXt V2: Co-designing and Scaling ConvNets, arXiv:2301.00808, 2023. At the start
    scale and bias are zero and the output is the input.

    Examples:
        >>> import jax
        >>> layer = GlobalResponseNorm(epsilon=0.0, scale_init=initializers.ones)
        >>> x = jnp.array([[[3.0, 1.0]]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x)
        Array([[[7.5, 1.5]]], dtype=float32)
    """

    spec = SPECS["global_response_norm"]

    axis: int = -1  # the channel axis
    epsilon: float = 1e-6  # added to the mean length
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of scale and bias
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.zeros  # of the scale
