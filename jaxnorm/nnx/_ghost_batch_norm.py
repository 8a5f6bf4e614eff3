"""Ghost batch normalization as an nnx module.

Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017.
"""

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
from jaxnorm.stats import Estimator, Variance
from jaxnorm.typing import Axes, AxisIndexGroups, AxisName, DTypeLike


@nnx.dataclass(eq=False)
class GhostBatchNorm(RunningNorm):
    """Normalizes each feature over small parts of the batch, one by one.

    Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017. Axis 0 is cut
    into contiguous ghost batches; the running statistics take in the whole batch, its ghost batches
    pooled. Variables, modes and updates are those of `jaxnorm.nnx.BatchNorm`; evaluation is the
    same.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        ghost_batch_size: examples in a ghost batch, which divides the batch; a batch of fewer
            examples is one ghost batch.
        use_running_average: whether the running statistics normalize.
        axis: the feature axes, not the first; all others are reduced.
        decay: the weight of the old running statistics.
        epsilon: added to the variance.
        dtype: the output's dtype; if None the promotion of input and parameters.
        param_dtype: the dtype of scale and bias.
        use_bias: whether a bias is learned.
        use_scale: whether a scale is learned.
        bias_init: initializer of the bias.
        scale_init: initializer of the scale.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        promote_dtype: (inputs, mean, var, scale, bias), dtype -> the same promoted; decides the
            dtype of the result, and of nothing else.
        rngs: keys.
        bias_metadata: metadata of the bias.
        scale_metadata: metadata of the scale.
        estimator: how a batch enters the running statistics; an exponential moving average by
            `decay` if None.

    Examples:
        >>> layer = GhostBatchNorm(1, ghost_batch_size=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0], [3.0], [10.0], [30.0]])).ravel().round(2)
        Array([-1.,  1., -1.,  1.], dtype=float32)
    """

    spec = SPECS["ghost_batch_norm"]

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    ghost_batch_size: int
    use_running_average: bool | None = False
    axis: Axes = -1
    decay: float = 0.99
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: InitVar[initializers.Initializer] = initializers.zeros
    scale_init: InitVar[initializers.Initializer] = initializers.ones
    axis_name: AxisName | None = None
    axis_index_groups: AxisIndexGroups = None
    variance: Variance = "one_pass"
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype
    rngs: InitVar[nnx.Rngs]
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})
    estimator: Estimator | None = None
