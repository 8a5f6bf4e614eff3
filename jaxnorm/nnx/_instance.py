"""Norms of channels, or of groups of channels, in each example, as nnx modules."""

import dataclasses
from collections.abc import Mapping, Sequence
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
from jaxnorm.ops import Activation
from jaxnorm.stats import Variance
from jaxnorm.typing import Axes, AxisIndexGroups, AxisName, DTypeLike


@nnx.dataclass(eq=False)
class GroupNorm(Norm):
    """Normalizes each group of channels of each example: `flax.nnx.GroupNorm`, for any axes.

    Wu, He: Group Normalization, arXiv:1803.08494, 2018. Statistics in float32 or wider, of the
    input as it came, about a member of the sample.

    Args:
        num_features: the number of channels.
        num_groups, group_size: how many groups of contiguous channels, or how large; one is None.
        epsilon: added to the variance.
        dtype: the output's dtype; if None what input and parameters promote to.
        param_dtype: the dtype of scale and bias.
        use_bias, use_scale: whether a bias and a scale are learned.
        bias_init, scale_init: initializers of the bias and of the scale.
        reduction_axes: the axes of the statistics, the last among them; all but the first if None.
        axis_name, axis_index_groups: mapped axes over which shards share statistics, in groups.
        use_fast_variance: whether one pass is taken, not two; both are right at every offset.
        promote_dtype: (x, scale, bias), dtype -> all of the dtype that the result gets.
        rngs: keys.
        bias_metadata, scale_metadata: metadata of the bias and of the scale.
        activation: "relu", "silu" or "gelu" of the output, in the same pass; None for none.

    Examples:
        >>> layer = GroupNorm(4, num_groups=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 3.0, 8.0, 4.0]])).round(3)
        Array([[-1.,  1.,  1., -1.]], dtype=float32)
    """

    # The constructor makes one number of the two that say what a group is.
    spec = SPECS["group_norm"]._replace(
        options=tuple(name for name in SPECS["group_norm"].options if name != "group_size")
    )

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
    activation: Activation | None = None

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


@nnx.dataclass(eq=False)
class InstanceNorm(Norm):
    """Normalizes each channel of each example over its positions: `flax.nnx.InstanceNorm`.

    Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv:1607.08022, 2016. Statistics in
    float32 or wider, of the input as it came, about a member of the sample.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        epsilon: added to the variance.
        dtype: the output's dtype; if None what input and parameters promote to.
        param_dtype: the dtype of scale and bias.
        use_bias, use_scale: whether a bias and a scale are learned.
        bias_init, scale_init: initializers of the bias and of the scale.
        feature_axes: the axes that are kept besides the first, and that scale and bias belong to.
        axis_name, axis_index_groups: mapped axes over which shards share statistics, in groups.
        use_fast_variance: whether one pass is taken, not two; both are right at every offset.
        promote_dtype: (x, scale, bias), dtype -> all of the dtype that the result gets.
        rngs: keys.
        bias_metadata, scale_metadata: metadata of the bias and of the scale.
        activation: "relu", "silu" or "gelu" of the output, in the same pass; None for none.

    Examples:
        >>> layer = InstanceNorm(2, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[1.0, 8.0], [3.0, 4.0]]])).round(3)
        Array([[[-1.,  1.],
                [ 1., -1.]]], dtype=float32)
    """

    spec = SPECS["instance_norm"]

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: InitVar[initializers.Initializer] = initializers.zeros
    scale_init: InitVar[initializers.Initializer] = initializers.ones
    feature_axes: Axes = -1
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype
    rngs: InitVar[nnx.Rngs]
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})
    activation: Activation | None = None


@nnx.dataclass(eq=False)
class FilterResponseNorm(Norm):
    """Divides each channel of each example by its root mean square, and cuts off from below.

    Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019. The learned
    threshold takes the place of a ReLU. The mean square is taken in float32 or wider.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        feature_axes: the axes that are kept besides the first, and that the parameters belong to.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.

    Examples:
        >>> layer = FilterResponseNorm(1, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[3.0], [-3.0]]])).round(2).ravel()
        Array([1., 0.], dtype=float32)
    """

    spec = SPECS["filter_response_norm"]

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-6  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    use_threshold: bool = True  # whether the output is cut off
    threshold_init: InitVar[initializers.Initializer] = initializers.zeros  # of the threshold
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    feature_axes: Axes = -1
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"
    rngs: InitVar[nnx.Rngs]  # keys
    threshold_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the threshold
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale
