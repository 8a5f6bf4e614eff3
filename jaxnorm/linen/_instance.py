"""Norms of channels, or of groups of channels, in each example, as linen modules."""

from typing import Any

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import Norm
from jaxnorm.ops import Activation
from jaxnorm.stats import Variance
from jaxnorm.typing import Axes, AxisIndexGroups, AxisName, DTypeLike


class GroupNorm(Norm):
    """Normalizes each group of channels of each example: `flax.linen.GroupNorm`, with any mask.

    Wu, He: Group Normalization, arXiv:1803.08494, 2018. Statistics in float32 or wider, about a
    member of the sample.

    Attributes:
        num_groups, group_size: how many groups of contiguous channels, or how large; one is None.
        epsilon: added to the variance.
        dtype: the output's dtype; if None what input and parameters promote to.
        param_dtype: the dtype of scale and bias.
        use_bias, use_scale: whether a bias and a scale are learned.
        bias_init, scale_init: initializers of the bias and of the scale.
        reduction_axes: the axes of the statistics, the last among them; all but the first if None.
        axis_name, axis_index_groups: mapped axes over which shards share statistics, in groups.
        use_fast_variance: whether one pass is taken, not two; both are right at every offset.
        force_float32_reductions: without effect, sums are always float32 or wider.
        activation: "relu", "silu" or "gelu" of the output, in the same pass; None for none.

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
    activation: Activation | None = None


class InstanceNorm(Norm):
    """Normalizes each channel of each example over its positions: `flax.linen.InstanceNorm`.

    Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv:1607.08022, 2016. Statistics in
    float32 or wider, about a member of the sample.

    Attributes:
        epsilon: added to the variance.
        dtype: the output's dtype; if None what input and parameters promote to.
        param_dtype: the dtype of scale and bias.
        use_bias, use_scale: whether a bias and a scale are learned.
        bias_init, scale_init: initializers of the bias and of the scale.
        feature_axes: the axes that are kept besides the first, and that scale and bias belong to.
        axis_name, axis_index_groups: mapped axes over which shards share statistics, in groups.
        use_fast_variance: whether one pass is taken, not two; both are right at every offset.
        force_float32_reductions: without effect, sums are always float32 or wider.
        activation: "relu", "silu" or "gelu" of the output, in the same pass; None for none.

    Examples:
        >>> import jax
        >>> layer = InstanceNorm()
        >>> x = jnp.array([[[1.0, 8.0], [3.0, 4.0]]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> layer.apply(variables, x).round(3)
        Array([[[-1.,  1.],
                [ 1., -1.]]], dtype=float32)
    """

    spec = SPECS["instance_norm"]

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
    activation: Activation | None = None


class FilterResponseNorm(Norm):
    """Divides each channel of each example by its root mean square, and cuts off from below.

    Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019. The learned
    threshold takes the place of a ReLU. The mean square is taken in float32 or wider.

    Attributes:
        feature_axes: the axes that are kept besides the first, and that the parameters belong to.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.

    Examples:
        >>> import jax
        >>> layer, x = FilterResponseNorm(), jnp.array([[[3.0], [-3.0]]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(2).ravel()
        Array([1., 0.], dtype=float32)
    """

    spec = SPECS["filter_response_norm"]

    epsilon: float = 1e-6  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    use_threshold: bool = True  # whether the output is cut off
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    threshold_init: initializers.Initializer = initializers.zeros  # of the threshold
    feature_axes: Axes = -1
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"
