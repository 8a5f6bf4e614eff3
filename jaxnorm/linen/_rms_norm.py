"""Root mean square normalization as a linen module.

Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019.
"""

from typing import Any

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import Norm
from jaxnorm.typing import Axes, DTypeLike


class RMSNorm(Norm):
    """Divides each position by the root mean square of its features: `flax.linen.RMSNorm`.

    Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019. The mean square
    is taken in float32 or wider.

    Attributes:
        epsilon: added to the mean square, inside the root.
        dtype: the output's dtype; if None the promotion of input and scale, so that bfloat16 with
            a float32 scale gives float32.
        param_dtype: the dtype of the scale.
        use_scale: whether a scale is learned.
        scale_init: initializer of the scale.
        reduction_axes: the axes that the mean square is taken over.
        feature_axes: the axes that the scale belongs to.
        axis_name: mapped axes over which the statistics are shared; not during initialization.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: without effect, a mean square needs one pass.
        force_float32_reductions: without effect, sums are always float32 or wider.

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
