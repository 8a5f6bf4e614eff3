"""Norms of each position over its features, as linen modules."""

from typing import Any, Literal

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import Norm
from jaxnorm.ops import Activation
from jaxnorm.typing import Axes, DTypeLike


class LayerNorm(Norm):
    """Normalizes each position over its features: `flax.linen.LayerNorm` with right statistics.

    Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016. Statistics in float32 or wider,
    about a member of the sample.

    Attributes:
        epsilon: added to the variance.
        dtype: the output's dtype; if None what input and parameters promote to.
        param_dtype: the dtype of scale and bias.
        use_bias, use_scale: whether a bias and a scale are learned.
        bias_init, scale_init: initializers of the bias and of the scale.
        reduction_axes: the axes that the statistics are taken over.
        feature_axes: the axes that scale and bias belong to.
        axis_name, axis_index_groups: mapped axes over which shards share statistics, in groups.
        use_fast_variance: whether one pass is taken, not two; both are right at every offset.
        force_float32_reductions: without effect, sums are always float32 or wider.
        zero_centered: whether `1 + scale` multiplies; start the scale at zeros then.
        activation: "relu", "silu" or "gelu" of the output, in the same pass; None for none.

    Examples:
        >>> import jax
        >>> layer = LayerNorm()
        >>> x = jnp.array([[1.0, 3.0], [5e6, 5e6 + 1]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> layer.apply(variables, x).round(3)
        Array([[-1.,  1.],
               [-1.,  1.]], dtype=float32)
    """

    spec = SPECS["layer_norm"]

    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: initializers.Initializer = initializers.zeros
    scale_init: initializers.Initializer = initializers.ones
    reduction_axes: Axes = -1
    feature_axes: Axes = -1
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True
    zero_centered: bool = False
    activation: Activation | None = None


class RMSNorm(Norm):
    """Divides each position by the root mean square of its features: `flax.linen.RMSNorm`.

    Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019. The mean square
    is taken in float32 or wider.

    Attributes:
        epsilon: added to the mean square, inside the root.
        dtype: the output's dtype; if None what input and scale promote to.
        param_dtype: the dtype of scale and bias.
        use_scale: whether a scale is learned.
        scale_init: initializer of the scale.
        reduction_axes: the axes that the mean square is taken over.
        feature_axes: the axes that scale and bias belong to.
        axis_name, axis_index_groups: mapped axes over which shards share statistics, in groups.
        use_fast_variance, force_float32_reductions: without effect; the sums are always right.
        zero_centered: whether `1 + scale` multiplies; start the scale at zeros then.
        cast: "after" or "before" the scale, when the output is rounded; see `jaxnorm.rms_norm`.
        use_bias: whether a bias is learned, as by default in Equinox.
        bias_init: initializer of the bias.
        activation: "relu", "silu" or "gelu" of the output, in the same pass; None for none.

    Examples:
        >>> import jax
        >>> layer = RMSNorm(scale_init=initializers.constant(5.0))
        >>> x = jnp.array([[1.0, -1.0], [5.0, 5.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> layer.apply(variables, x).round(3)
        Array([[ 5., -5.],
               [ 5.,  5.]], dtype=float32)
    """

    spec = SPECS["rms_norm"]

    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_scale: bool = True
    scale_init: initializers.Initializer = initializers.ones
    reduction_axes: Axes = -1
    feature_axes: Axes = -1
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True
    zero_centered: bool = False
    cast: Literal["after", "before"] = "after"
    use_bias: bool = False
    bias_init: initializers.Initializer = initializers.zeros
    activation: Activation | None = None
