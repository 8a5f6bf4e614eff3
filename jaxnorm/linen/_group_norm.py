"""Group normalization as a linen module.

Wu, He: Group Normalization, arXiv:1803.08494, 2018.
"""

from typing import Any

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import Norm
from jaxnorm.typing import Axes, DTypeLike


class GroupNorm(Norm):
    """Normalizes each group of channels of each example: `flax.linen.GroupNorm`, with any mask.

    Wu, He: Group Normalization, arXiv:1803.08494, 2018. Statistics in float32 or wider, about a
    member of the sample.

    Attributes:
        num_groups: the number of groups of contiguous channels; None if `group_size` is given.
        group_size: the number of channels in a group; give this or `num_groups`.
        epsilon: added to the variance.
        dtype: the output's dtype; if None the promotion of input and parameters, so that bfloat16
            with float32 parameters gives float32.
        param_dtype: the dtype of scale and bias.
        use_bias: whether a bias is learned.
        use_scale: whether a scale is learned.
        bias_init: initializer of the bias.
        scale_init: initializer of the scale.
        reduction_axes: the axes that the statistics are taken over, the last among them; all but
            the first if None.
        axis_name: mapped axes over which the statistics are shared; not during initialization.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: one pass over the shifted values if true, two if false; both are right
            at every offset.
        force_float32_reductions: without effect, sums are always float32 or wider.

    Examples:
        >>> import jax
        >>> layer = GroupNorm(num_groups=2)
        >>> x = jnp.array([[1.0, 3.0, 8.0, 4.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> layer.apply(variables, x).round(3)
        Array([[-1.,  1.,  1., -1.]], dtype=float32)
    """

    spec = SPECS["group_norm"]

    num_groups: int | None = 32
    group_size: int | None = None
    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: initializers.Initializer = initializers.zeros
    scale_init: initializers.Initializer = initializers.ones
    reduction_axes: Axes | None = None
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True
