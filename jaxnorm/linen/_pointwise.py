"""Pointwise functions as linen modules."""

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import PointwiseNorm
from jaxnorm.typing import Axes, DTypeLike


class DynamicTanh(PointwiseNorm):
    """Squashes each entry by a learned tanh, in the place of a norm.

    Zhu et al.: Transformers without Normalization, arXiv:2503.10622, 2025. No statistics.

    Examples:
        >>> import jax
        >>> layer, x = DynamicTanh(), jnp.array([[0.0, 2.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[0.   , 0.762]], dtype=float32)
    """

    spec = SPECS["dynamic_tanh"]

    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_alpha: bool = True  # whether the input is scaled
    use_scale: bool = True  # whether a scale is learned
    use_bias: bool = True  # whether a bias is learned
    alpha_init: initializers.Initializer = initializers.constant(0.5)  # of alpha []
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    feature_axes: Axes = -1  # the axes that scale and bias belong to
