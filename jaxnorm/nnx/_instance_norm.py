"""Instance normalization as an nnx module.

Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv:1607.08022, 2016.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import PromoteDtypeFn
from jax.nn import initializers

from jaxnorm.functional import instance_norm
from jaxnorm.functional._drop_in import errors_naming, sample_of, variance_of
from jaxnorm.nnx._variables import affine, feature_shape, feature_sizes, parameter, promoted
from jaxnorm.typing import ArrayLike, Axes, DTypeLike


class InstanceNorm(nnx.Module):
    """Normalizes each channel of each example over its positions: `flax.nnx.InstanceNorm`.

    Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv:1607.08022, 2016. Statistics in
    float32 or wider, of the input as it came, about a member of the sample.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        epsilon: added to the variance.
        dtype: the output's dtype; if None the promotion of input and parameters, so that bfloat16
            with float32 parameters gives float32.
        param_dtype: the dtype of scale and bias.
        use_bias: whether a bias is learned.
        use_scale: whether a scale is learned.
        bias_init: initializer of the bias.
        scale_init: initializer of the scale.
        feature_axes: the axes that are kept besides the first, and that scale and bias belong to.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: one pass over the shifted values if true, two if false; both are right
            at every offset.
        promote_dtype: (inputs, scale, bias), dtype -> the same promoted; decides the dtypes of the
            result and of the parameters, not of the statistics.
        rngs: keys.
        bias_metadata: metadata of the bias.
        scale_metadata: metadata of the scale.

    Examples:
        >>> layer = InstanceNorm(2, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[1.0, 8.0], [3.0, 4.0]]])).round(3)
        Array([[[-1.,  1.],
                [ 1., -1.]]], dtype=float32)
    """

    def __init__(
        self,
        num_features: int | Sequence[int],
        *,
        epsilon: float = 1e-6,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: initializers.Initializer = initializers.zeros,
        scale_init: initializers.Initializer = initializers.ones,
        feature_axes: Axes = -1,
        axis_name: str | None = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: PromoteDtypeFn = dtypes.promote_dtype,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
        scale_metadata: Mapping[str, Any] = MappingProxyType({}),
    ):
        shape = feature_shape(num_features)
        self.scale = parameter(use_scale, scale_init, shape, param_dtype, rngs, scale_metadata)
        self.bias = parameter(use_bias, bias_init, shape, param_dtype, rngs, bias_metadata)
        self.num_features = num_features
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.feature_axes = feature_axes
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

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
        with errors_naming(f"InstanceNorm({self.num_features})"):
            sizes = feature_sizes(jnp.shape(x), self.feature_axes)
            scale, bias = affine(self, sizes)
            sample, dtype, (scale, bias) = promoted(self.promote_dtype, self.dtype, x, scale, bias)
            return instance_norm(
                sample,
                scale,
                bias,
                feature_axes=self.feature_axes,
                single_value="allow",
                epsilon=self.epsilon,
                mask=valid,
                weights=weights,
                variance=variance_of(self.use_fast_variance),
                axis_name=self.axis_name,
                axis_index_groups=self.axis_index_groups,
                dtype=dtype,
            )
