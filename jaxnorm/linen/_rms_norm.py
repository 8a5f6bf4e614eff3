"""Root mean square normalization as a linen module.

Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import rms_norm
from jaxnorm.functional._drop_in import (
    errors_naming,
    normalizable,
    result_dtype,
    sample_of,
    variance_of,
)
from jaxnorm.linen._variables import layer_name
from jaxnorm.numerics import canonical_axes
from jaxnorm.typing import ArrayLike, Axes, DTypeLike


class RMSNorm(nn.Module):
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
        >>> layer = RMSNorm(scale_init=nn.initializers.constant(5.0))
        >>> x = jnp.array([[1.0, -1.0], [5.0, 5.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> layer.apply(variables, x).round(3)
        Array([[ 5., -5.],
               [ 5.,  5.]], dtype=float32)
    """

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

    @nn.compact
    def __call__(self, x: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
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
        with errors_naming(layer_name(self)):
            shape = jnp.shape(x)
            axes = canonical_axes(self.feature_axes, len(shape), "feature_axes")
            features = tuple(shape[axis] for axis in axes)
            scale = None
            if self.use_scale:
                scale = self.param("scale", self.scale_init, features, self.param_dtype)
            return rms_norm(
                normalizable(x, self.dtype),
                scale,
                reduction_axes=self.reduction_axes,
                feature_axes=axes,
                epsilon=self.epsilon,
                mask=valid,
                weights=weights,
                variance=variance_of(self.use_fast_variance),
                axis_name=None if self.is_initializing() else self.axis_name,
                axis_index_groups=self.axis_index_groups,
                dtype=result_dtype(x, scale, dtype=self.dtype),
            )
