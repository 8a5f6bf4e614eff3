"""Instance normalization as a linen module.

Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv:1607.08022, 2016.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import instance_norm
from jaxnorm.functional._drop_in import (
    errors_naming,
    normalizable,
    result_dtype,
    sample_of,
    variance_of,
)
from jaxnorm.linen._variables import affine, layer_name
from jaxnorm.numerics import canonical_axes
from jaxnorm.typing import ArrayLike, Axes, DTypeLike


class InstanceNorm(nn.Module):
    """Normalizes each channel of each example over its positions: `flax.linen.InstanceNorm`.

    Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv:1607.08022, 2016. Statistics in
    float32 or wider, about a member of the sample.

    Attributes:
        epsilon: added to the variance.
        dtype: the output's dtype; if None the promotion of input and parameters, so that bfloat16
            with float32 parameters gives float32.
        param_dtype: the dtype of scale and bias.
        use_bias: whether a bias is learned.
        use_scale: whether a scale is learned.
        bias_init: initializer of the bias.
        scale_init: initializer of the scale.
        feature_axes: the axes that are kept besides the first, and that scale and bias belong to.
        axis_name: mapped axes over which the statistics are shared; not during initialization.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: one pass over the shifted values if true, two if false; both are right
            at every offset.
        force_float32_reductions: without effect, sums are always float32 or wider.

    Examples:
        >>> layer = InstanceNorm()
        >>> x = jnp.array([[[1.0, 8.0], [3.0, 4.0]]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> layer.apply(variables, x).round(3)
        Array([[[-1.,  1.],
                [ 1., -1.]]], dtype=float32)
    """

    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: initializers.Initializer = initializers.zeros
    scale_init: initializers.Initializer = initializers.ones
    feature_axes: Axes = -1
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True

    @nn.compact
    def __call__(self, x: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
        """Returns `x` with mean 0 and variance 1 over positions, then scaled and shifted.

        Args:
            x: [N, *spatial, *features] (or features at `feature_axes`). Without a spatial axis the
                output is the bias, as in Flax.
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            [N, *spatial, *features].

        Raises:
            ValueError: the batch axis is among the features, a shape does not fit, or `axis_name`
                is not bound.
        """
        valid, weights = sample_of(mask)
        with errors_naming(layer_name(self)):
            shape = jnp.shape(x)
            axes = canonical_axes(self.feature_axes, len(shape), "feature_axes")
            scale, bias = affine(self, tuple(shape[axis] for axis in axes))
            return instance_norm(
                normalizable(x, self.dtype),
                scale,
                bias,
                feature_axes=axes,
                epsilon=self.epsilon,
                mask=valid,
                weights=weights,
                variance=variance_of(self.use_fast_variance),
                axis_name=None if self.is_initializing() else self.axis_name,
                axis_index_groups=self.axis_index_groups,
                single_value="allow",
                dtype=result_dtype(x, scale, bias, dtype=self.dtype),
            )
