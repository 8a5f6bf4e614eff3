"""Norms with running statistics as nnx modules."""

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

from jaxnorm.functional import SPECS
from jaxnorm.nnx._base import RunningNorm
from jaxnorm.ops import Activation
from jaxnorm.stats import Estimator, Variance
from jaxnorm.typing import Axes, AxisIndexGroups, AxisName, DTypeLike


@nnx.dataclass(eq=False)
class BatchNorm(RunningNorm):
    """Normalizes each feature over the batch: `flax.nnx.BatchNorm` with right statistics.

    Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015. Statistics in float32 or wider, of
    the input as it came, about a member of the sample, pooled over shards by their counts.

    Running statistics are the `nnx.BatchStat`s `mean` and `var`, of the shape of the parameters.
    Which statistics normalize is `use_running_average`, as set by `train()`, `eval()`, `nnx.view`
    or the call. Whether the batch updates them is the attribute `update_stats`: None for "where it
    normalizes", or a boolean (`nnx.view(model, update_stats=False)`).

    Args:
        num_features: the size of the feature axis, or one for each of several.
        use_running_average: whether the running statistics normalize.
        axis: the feature axes; all others are reduced.
        momentum: the weight of the old running statistics; one minus PyTorch's.
        epsilon: added to the variance.
        dtype: the output's, complex for complex inputs; if None that of input and parameters.
        param_dtype: the dtype of scale and bias.
        use_bias, use_scale: whether a bias and a scale are learned.
        bias_init, scale_init: initializers of the bias and of the scale.
        axis_name, axis_index_groups: mapped axes over which shards share statistics, in groups.
        use_fast_variance: whether one pass is taken, not two; both are right at every offset.
        promote_dtype: (x, mean, var, scale, bias), dtype -> all of the result's dtype.
        rngs: keys.
        bias_metadata, scale_metadata: metadata of the bias and of the scale.
        estimator: how a batch enters the running statistics, such as `jaxnorm.window(8)`; an
            exponential moving average by `momentum` if None. `mean` and `var` are its reading, and
            `estimator_state` has its state, each array an `nnx.BatchStat`.
        activation: "relu", "silu" or "gelu" of the output, in the same pass; None for none.

    Examples:
        >>> layer = BatchNorm(2, momentum=0.9, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 10.0], [3.0, 30.0]])).round(3)
        Array([[-1., -1.],
               [ 1.,  1.]], dtype=float32)
        >>> layer.mean[...]
        Array([0.2, 2. ], dtype=float32)
    """

    spec = SPECS["batch_norm"]

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False
    axis: Axes = -1
    momentum: float = 0.99
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: InitVar[initializers.Initializer] = initializers.zeros
    scale_init: InitVar[initializers.Initializer] = initializers.ones
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype
    rngs: InitVar[nnx.Rngs]
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})
    estimator: Estimator | None = None
    activation: Activation | None = None


@nnx.dataclass(eq=False)
class GhostBatchNorm(RunningNorm):
    """Normalizes each feature over small parts of the batch, one by one.

    Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017. Axis 0 is cut
    into contiguous ghost batches; the running statistics take in the whole batch, its ghost batches
    pooled. All else is as in `jaxnorm.nnx.BatchNorm`, evaluation too.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        ghost_batch_size: examples in a ghost batch, a divisor of the batch or more than all of it.
        decay: the weight of the old running statistics.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.

    Examples:
        >>> layer = GhostBatchNorm(1, ghost_batch_size=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0], [3.0], [10.0], [30.0]])).ravel().round(2)
        Array([-1.,  1., -1.,  1.], dtype=float32)
    """

    spec = SPECS["ghost_batch_norm"]

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    ghost_batch_size: int
    use_running_average: bool | None = False  # whether running statistics normalize
    axis: Axes = -1  # the feature axes, not the first
    decay: float = 0.99
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of scale and bias
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # its initializer
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None
