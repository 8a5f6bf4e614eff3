"""Pointwise functions as linen modules."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS, run
from jaxnorm.linen._base import PointwiseNorm, Store
from jaxnorm.typing import ArrayLike, Axes, DTypeLike


class DynamicTanh(PointwiseNorm):
    """Squashes each entry by a learned tanh, in the place of a norm.

    Zhu et al.: Transformers without Normalization, arXiv:2503.10622, 2025. No statistics.

    Examples:
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


class DynamicErf(PointwiseNorm):
    """Squashes each entry by a learned error function, in the place of a norm.

    Chen et al.: Stronger Normalization-Free Transformers, arXiv:2512.10938, 2025. No statistics.

    Examples:
        >>> layer, x = DynamicErf(), jnp.array([[0.0, 2.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(2)
        Array([[0.  , 0.84]], dtype=float32)
    """

    spec = SPECS["dynamic_erf"]

    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_alpha: bool = True  # whether the input is scaled
    use_shift: bool = True  # whether the input is shifted
    use_scale: bool = True  # whether a scale is learned
    use_bias: bool = True  # whether a bias is learned
    alpha_init: initializers.Initializer = initializers.constant(0.5)  # of alpha []
    shift_init: initializers.Initializer = initializers.zeros  # of the shift []
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    feature_axes: Axes = -1  # the axes that scale and bias belong to


class ThresholdedLinearUnit(PointwiseNorm):
    """Cuts each feature off from below at a learned threshold.

    Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019. As it starts the
    layer is a ReLU.

    Examples:
        >>> layer = ThresholdedLinearUnit(threshold_init=initializers.constant(-1.0))
        >>> x = jnp.array([[-3.0, 2.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x)
        Array([[-1.,  2.]], dtype=float32)
    """

    spec = SPECS["thresholded_linear_unit"]

    dtype: DTypeLike | None = None  # the output's dtype; if None what input and threshold give
    param_dtype: DTypeLike = jnp.float32  # of the threshold
    use_threshold: bool = True  # whether a threshold is learned; a ReLU if not
    threshold_init: initializers.Initializer = initializers.zeros  # of the threshold
    feature_axes: Axes = -1  # the axes that the threshold belongs to


class LayerScale(PointwiseNorm):
    """Multiplies a residual branch by a small learned scale for each feature.

    Touvron et al.: Going deeper with Image Transformers, arXiv:2103.17239, 2021. To be added to
    what the branch was computed of; `jaxnorm.layer_scale_start` has the start for each depth.

    Examples:
        >>> layer, x = LayerScale(scale_init=initializers.constant(0.1)), jnp.array([[10.0, 20.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x)
        Array([[1., 2.]], dtype=float32)
    """

    spec = SPECS["layer_scale"]

    dtype: DTypeLike | None = None  # the output's dtype; if None what input and scale give
    param_dtype: DTypeLike = jnp.float32  # of the scale
    use_scale: bool = True  # whether the branch is scaled
    scale_init: initializers.Initializer = initializers.constant(1e-5)  # of the scale, at depth 24
    feature_axes: Axes = -1  # the axes that the scale belongs to


class ReZero(PointwiseNorm):
    """Adds a residual branch with a learned weight that starts at zero.

    Bachlechner et al.: ReZero is All You Need, arXiv:2003.04887, 2020.

    Examples:
        >>> layer, x = ReZero(), jnp.array([[1.0, 2.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x, x**2), x, x**2)
        Array([[1., 2.]], dtype=float32)
    """

    spec = SPECS["re_zero"]

    dtype: DTypeLike | None = None  # the output's dtype; if None what x and alpha give
    param_dtype: DTypeLike = jnp.float32  # of alpha
    use_alpha: bool = True  # whether the branch is weighted
    alpha_init: initializers.Initializer = initializers.zeros  # of alpha []

    @nn.compact
    def __call__(self, x: ArrayLike, branch: ArrayLike) -> jax.Array:
        """Returns `x` plus the weighted branch.

        Args:
            x: [*shape], what the branch was computed of.
            branch: [*shape], its output.

        Returns:
            The shape of `x`.
        """
        return run(self.spec, self, Store(self), x, branch=branch)


class SkipInit(PointwiseNorm):
    """Multiplies a residual branch by one learned factor that starts at zero.

    De, Smith: Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep
    Networks, arXiv:2002.10444, 2020. To be added to what the branch was computed of.

    Examples:
        >>> layer, x = SkipInit(alpha_init=initializers.constant(0.5)), jnp.array([[1.0, 2.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x)
        Array([[0.5, 1. ]], dtype=float32)
    """

    spec = SPECS["skip_init"]

    dtype: DTypeLike | None = None  # the output's dtype; if None what the branch and alpha give
    param_dtype: DTypeLike = jnp.float32  # of alpha
    use_alpha: bool = True  # whether the branch is weighted
    alpha_init: initializers.Initializer = initializers.zeros  # of alpha []
