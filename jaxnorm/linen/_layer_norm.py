"""Layer normalization as a linen module.

Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016.
"""

from typing import Any

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import Norm
from jaxnorm.typing import Axes, DTypeLike


class LayerNorm(Norm):
    """Normalizes each position over its features: `flax.linen.LayerNorm` with right statistics.

    Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016. Statistics in float32 or wider,
    about a member of the sample.

    Attributes:
        epsilon: added to the variance.
        dtype: the output's dtype; if None the promotion of input and parameters, so that bfloat16
            with float32 parameters gives float32.
        param_dtype: the dtype of scale and bias.
        use_bias: whether a bias is learned.
        use_scale: whether a scale is learned.
        bias_init: initializer of the bias.
        scale_init: initializer of the scale.
        reduction_axes: the axes that the statistics are taken over.
        feature_axes: the axes that scale and bias belong to.
        axis_name: mapped axes over which the statistics are shared; not during initialization.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: one pass over the shifted values if true, two if false; both are right
            at every offset.
        force_float32_reductions: without effect, sums are always float32 or wider.

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
