"""Root mean square normalization as an nnx module.

Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019.
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

from jaxnorm.functional import rms_norm
from jaxnorm.functional._drop_in import errors_naming, sample_of, variance_of
from jaxnorm.nnx._variables import affine, feature_shape, feature_sizes, parameter, promoted
from jaxnorm.typing import ArrayLike, Axes, DTypeLike


class RMSNorm(nnx.Module):
    """Divides each position by the root mean square of its features: `flax.nnx.RMSNorm`.

    Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019. The mean square
    is taken in float32 or wider, of the input as it came.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        epsilon: added to the mean square, inside the root.
        dtype: the output's dtype; if None the promotion of input and scale, so that bfloat16 with
            a float32 scale gives float32.
        param_dtype: the dtype of the scale.
        use_scale: whether a scale is learned.
        scale_init: initializer of the scale.
        reduction_axes: the axes that the mean square is taken over.
        feature_axes: the axes that the scale belongs to.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: without effect, a mean square needs one pass.
        promote_dtype: (inputs, scale), dtype -> the same promoted; decides the dtypes of the result
            and of the scale, not of the statistics.
        rngs: keys.
        scale_metadata: metadata of the scale.

    Examples:
        >>> layer = RMSNorm(2, scale_init=initializers.constant(5.0), rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, -1.0], [5.0, 5.0]])).round(3)
        Array([[ 5., -5.],
               [ 5.,  5.]], dtype=float32)
    """

    def __init__(
        self,
        num_features: int | Sequence[int],
        *,
        epsilon: float = 1e-6,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        use_scale: bool = True,
        scale_init: initializers.Initializer = initializers.ones,
        reduction_axes: Axes = -1,
        feature_axes: Axes = -1,
        axis_name: str | None = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: PromoteDtypeFn = dtypes.promote_dtype,
        rngs: nnx.Rngs,
        scale_metadata: Mapping[str, Any] = MappingProxyType({}),
    ):
        shape = feature_shape(num_features)
        self.scale = parameter(use_scale, scale_init, shape, param_dtype, rngs, scale_metadata)
        self.num_features = num_features
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_scale = use_scale
        self.reduction_axes = reduction_axes
        self.feature_axes = feature_axes
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def __call__(self, x: ArrayLike, mask: ArrayLike | None = None) -> jax.Array:
        """Returns `x` with mean square 1 over `reduction_axes`, then scaled.

        Args:
            x: [*batch, C], of any rank from 1.
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            [*batch, C].

        Raises:
            ValueError: an axis or a shape does not fit, or `axis_name` is not bound.
        """
        valid, weights = sample_of(mask)
        with errors_naming(f"RMSNorm({self.num_features})"):
            sizes = feature_sizes(jnp.shape(x), self.feature_axes)
            scale, _ = affine(self, sizes)
            sample, dtype, (scale,) = promoted(self.promote_dtype, self.dtype, x, scale)
            return rms_norm(
                sample,
                scale,
                reduction_axes=self.reduction_axes,
                feature_axes=self.feature_axes,
                epsilon=self.epsilon,
                mask=valid,
                weights=weights,
                variance=variance_of(self.use_fast_variance),
                axis_name=self.axis_name,
                axis_index_groups=self.axis_index_groups,
                dtype=dtype,
            )
