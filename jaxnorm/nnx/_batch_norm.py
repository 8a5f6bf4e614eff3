"""Batch normalization as an nnx module.

Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015.
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
from jaxnorm.stats import Estimator
from jaxnorm.typing import Axes, DTypeLike


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
        dtype: the output's dtype; if None the promotion of input and parameters, so that bfloat16
            with float32 parameters gives float32. For complex inputs a complex one.
        param_dtype: the dtype of scale and bias.
        use_bias: whether a bias is learned.
        use_scale: whether a scale is learned.
        bias_init: initializer of the bias.
        scale_init: initializer of the scale.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: one pass over the shifted values if true, two if false; both are right
            at every offset.
        promote_dtype: (inputs, mean, var, scale, bias), dtype -> the same promoted; decides the
            dtype of the result, and of nothing else.
        rngs: keys.
        bias_metadata: metadata of the bias.
        scale_metadata: metadata of the scale.
        estimator: how a batch enters the running statistics, such as `jaxnorm.window(8)`; an
            exponential moving average by `momentum` if None. `mean` and `var` are its reading, and
            `estimator_state` has its state, each array an `nnx.BatchStat`.

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
