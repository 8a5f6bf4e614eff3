"""Group normalization as an nnx module.

Wu, He: Group Normalization, arXiv:1803.08494, 2018.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import PromoteDtypeFn
from jax.nn import initializers

from jaxnorm.functional import SPECS, errors_naming, group_stats_shape
from jaxnorm.nnx._base import Norm, Store
from jaxnorm.typing import Axes, DTypeLike


@nnx.dataclass(eq=False)
class GroupNorm(Norm):
    """Normalizes each group of channels of each example: `flax.nnx.GroupNorm`, for any axes.

    Wu, He: Group Normalization, arXiv:1803.08494, 2018. Statistics in float32 or wider, of the
    input as it came, about a member of the sample.

    Args:
        num_features: the number of channels.
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
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: one pass over the shifted values if true, two if false; both are right
            at every offset.
        promote_dtype: (inputs, scale, bias), dtype -> the same promoted; decides the dtype of the
            result, and of nothing else.
        rngs: keys.
        bias_metadata: metadata of the bias.
        scale_metadata: metadata of the scale.

    Examples:
        >>> layer = GroupNorm(4, num_groups=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 3.0, 8.0, 4.0]])).round(3)
        Array([[-1.,  1.,  1., -1.]], dtype=float32)
    """

    # The constructor makes one number of the two that say what a group is.
    spec = SPECS["group_norm"]._replace(options=("num_groups", "reduction_axes", "epsilon"))

    num_features: int
    num_groups: int | None = 32
    group_size: int | None = None
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: InitVar[initializers.Initializer] = initializers.zeros
    scale_init: InitVar[initializers.Initializer] = initializers.ones
    reduction_axes: Axes | None = None
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype
    rngs: InitVar[nnx.Rngs]
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(self, *given: Any) -> None:
        with errors_naming(Store(self).label):
            sizes = (self.num_features,)
            (groups,) = group_stats_shape(sizes, self.num_groups, self.group_size)
        self.num_groups, self.group_size = groups, self.num_features // groups
        self.feature_axis = -1
        super().__post_init__(*given)

    @property
    def axis(self) -> int:
        """The channel axis, under the name that the function has for it."""
        return self.feature_axis
