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

    feature_axes: Axes = -1  # the axes that the parameters belong to
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_alpha: bool = True  # whether there is a factor of the input
    use_shift: bool = True  # whether there is a shift of the input
    use_scale: bool = True  # whether there is a scale
    use_bias: bool = True  # whether there is a bias
    alpha_init: initializers.Initializer = initializers.constant(0.5)  # its initializer
    shift_init: initializers.Initializer = initializers.zeros  # its initializer
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    bias_init: initializers.Initializer = initializers.zeros  # its initializer


class ThresholdedLinearUnit(PointwiseNorm):
    """Cuts each entry off from below at a threshold that is learned for each channel.

    Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019.

    Examples:
        >>> layer, x = ThresholdedLinearUnit(), jnp.array([[-1.0, 2.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[0., 2.]], dtype=float32)
    """

    spec = SPECS["thresholded_linear_unit"]

    feature_axes: Axes = -1  # the axes that the parameters belong to
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_threshold: bool = True  # whether there is a threshold
    threshold_init: initializers.Initializer = initializers.zeros  # its initializer


class LayerScale(PointwiseNorm):
    """Scales the branch of a residual block per channel.

    Touvron et al.: Going deeper with Image Transformers, arXiv:2103.17239, 2021. The scale starts
    as for 24 layers; the authors take 0.1 up to 18 layers, and 1e-6 beyond 24.

    Examples:
        >>> layer, x = LayerScale(scale_init=initializers.constant(0.5)), jnp.array([[1.0, 2.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[0.5, 1. ]], dtype=float32)
    """

    spec = SPECS["layer_scale"]

    feature_axes: Axes = -1  # the axes that the parameters belong to
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_scale: bool = True  # whether there is a scale
    scale_init: initializers.Initializer = initializers.constant(1e-5)  # its initializer


class ReZero(PointwiseNorm):
    """Adds the branch of a residual block behind one learned number, which starts at zero.

    Bachlechner et al.: ReZero is All You Need, arXiv:2003.04887, 2020.

    Examples:
        >>> layer, x = ReZero(), jnp.array([[1.0, 2.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x, x), x, 5 * x)
        Array([[1., 2.]], dtype=float32)
    """

    spec = SPECS["re_zero"]

    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_alpha: bool = True  # whether there is a gate
    alpha_init: initializers.Initializer = initializers.zeros  # its initializer

    @nn.compact
    def __call__(self, x: ArrayLike, branch: ArrayLike) -> jax.Array:
        """Returns the sum of a block's input and its gated branch.

        Args:
            x: [*shape], the block's input.
            branch: [*shape], what the block's layers make of `x`.

        Returns:
            The shape of `x`.
        """
        return run(self.spec, self, Store(self), x, branch=branch)


class SkipInit(PointwiseNorm):
    """Multiplies the branch of a residual block by one learned number, which starts at zero.

    De, Smith: Batch Normalization Biases Residual Blocks, arXiv:2002.10444, 2020.

    Examples:
        >>> layer, x = SkipInit(alpha_init=initializers.constant(0.5)), jnp.array([[1.0, 2.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[0.5, 1. ]], dtype=float32)
    """

    spec = SPECS["skip_init"]

    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_alpha: bool = True  # whether there is a gate
    alpha_init: initializers.Initializer = initializers.zeros  # its initializer
