"""Group normalization as a linen module.

Wu, He: Group Normalization, arXiv:1803.08494, 2018.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import group_norm
from jaxnorm.functional._drop_in import (
    errors_naming,
    normalizable,
    result_dtype,
    sample_of,
    variance_of,
)
from jaxnorm.linen._variables import affine, layer_name
from jaxnorm.typing import ArrayLike, Axes, DTypeLike


class GroupNorm(nn.Module):
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
        >>> layer = GroupNorm(num_groups=2)
        >>> x = jnp.array([[1.0, 3.0, 8.0, 4.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> layer.apply(variables, x).round(3)
        Array([[-1.,  1.,  1., -1.]], dtype=float32)
    """

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

    @nn.compact
    def __call__(self, x: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
        """Returns `x` with mean 0 and variance 1 in each group, then scaled and shifted.

        Args:
            x: [N, *spatial, C], of any rank from 1.
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            [N, *spatial, C].

        Raises:
            ValueError: the groups do not divide the channels, the axes leave out the channels, a
                shape does not fit, or `axis_name` is not bound.
        """
        valid, weights = sample_of(mask)
        with errors_naming(layer_name(self)):
            scale, bias = affine(self, jnp.shape(x)[-1:])
            return group_norm(
                normalizable(x, self.dtype),
                scale,
                bias,
                num_groups=self.num_groups,
                group_size=self.group_size,
                reduction_axes=self.reduction_axes,
                epsilon=self.epsilon,
                mask=valid,
                weights=weights,
                variance=variance_of(self.use_fast_variance),
                axis_name=None if self.is_initializing() else self.axis_name,
                axis_index_groups=self.axis_index_groups,
                dtype=result_dtype(x, scale, bias, dtype=self.dtype),
            )
