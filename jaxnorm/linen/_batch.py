"""Norms with running statistics as linen modules."""

from typing import Any

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import RunningNorm
from jaxnorm.ops import Activation
from jaxnorm.stats import Estimator, Variance
from jaxnorm.typing import Axes, AxisIndexGroups, AxisName, DTypeLike


class BatchNorm(RunningNorm):
    """Normalizes each feature over the batch: `flax.linen.BatchNorm` with right statistics.

    Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015. Statistics in float32 or wider,
    about a member of the sample, pooled over shards by their counts.

    Running statistics are in the collection `batch_stats`, as `mean` and `var` [*features]. Where
    that is not mutable the batch normalizes and nothing is updated. Where the collection
    `batch_moments` is named mutable, `batch_stats` stays as it is and the layer writes `moments`
    there, the `jaxnorm.Moments` of this batch merged with those that were passed in, and `decay`
    (`update` where there is an estimator): enough for one exact update from many micro-batches.

    Attributes:
        use_running_average: whether the running statistics normalize; here or at the call.
        axis: the feature axes; all others are reduced.
        momentum: the weight of the old running statistics; one minus PyTorch's.
        epsilon: added to the variance.
        dtype: the output's dtype; if None what input and parameters promote to.
        param_dtype: the dtype of scale and bias.
        use_bias, use_scale: whether a bias and a scale are learned.
        bias_init, scale_init: initializers of the bias and of the scale.
        axis_name, axis_index_groups: mapped axes over which shards share statistics, in groups.
        use_fast_variance: whether one pass is taken, not two; both are right at every offset.
        force_float32_reductions: if false, running statistics are kept in `param_dtype`; one
            narrower than float32 makes them stall, of which a warning tells.
        estimator: how a batch enters the running statistics, such as `jaxnorm.window(8)`; an
            exponential moving average by `momentum` if None. `mean` and `var` are its reading, and
            `batch_stats` has its state beside them as `estimator_state`.
        activation: "relu", "silu" or "gelu" of the output, in the same pass; None for none.

    Examples:
        >>> import jax
        >>> layer = BatchNorm(use_running_average=False, momentum=0.9)
        >>> x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
        >>> y, updated = layer.apply(layer.init(jax.random.key(0), x), x, mutable=["batch_stats"])
        >>> y.round(3), updated["batch_stats"]["mean"]
        (Array([[-1., -1.],
               [ 1.,  1.]], dtype=float32), Array([0.2, 2. ], dtype=float32))
    """

    spec = SPECS["batch_norm"]

    use_running_average: bool | None = None
    axis: Axes = -1
    momentum: float = 0.99
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: initializers.Initializer = initializers.zeros
    scale_init: initializers.Initializer = initializers.ones
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True
    estimator: Estimator | None = None
    activation: Activation | None = None


class GhostBatchNorm(RunningNorm):
    """Normalizes each feature over small parts of the batch, one by one.

    Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017. Axis 0 is cut
    into contiguous ghost batches; the running statistics take in the whole batch, its ghost batches
    pooled. All else is as in `jaxnorm.linen.BatchNorm`, evaluation too.

    Attributes:
        ghost_batch_size: examples in a ghost batch, a divisor of the batch or more than all of it.
        decay: the weight of the old running statistics.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.

    Examples:
        >>> import jax
        >>> layer = GhostBatchNorm(ghost_batch_size=2, use_running_average=False)
        >>> x = jnp.array([[1.0], [3.0], [10.0], [30.0]])
        >>> y, _ = layer.apply(layer.init(jax.random.key(0), x), x, mutable=["batch_stats"])
        >>> y.ravel().round(2)
        Array([-1.,  1., -1.,  1.], dtype=float32)
    """

    spec = SPECS["ghost_batch_norm"]

    ghost_batch_size: int
    use_running_average: bool | None = None  # here or at the call
    axis: Axes = -1  # the feature axes, not the first
    decay: float = 0.99
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of scale and bias
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # its initializer
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None
