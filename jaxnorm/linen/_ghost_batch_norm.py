"""Ghost batch normalization as a linen module.

Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017.
"""

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import RunningNorm
from jaxnorm.stats import Estimator, Variance
from jaxnorm.typing import Axes, AxisIndexGroups, AxisName, DTypeLike


class GhostBatchNorm(RunningNorm):
    """Normalizes each feature over small parts of the batch, one by one.

    Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017. Axis 0 is cut
    into contiguous ghost batches; the running statistics take in the whole batch, its ghost batches
    pooled. Variables, modes and updates are those of `jaxnorm.linen.BatchNorm`; evaluation is the
    same.

    Attributes:
        ghost_batch_size: examples in a ghost batch, which divides the batch; a batch of fewer
            examples is one ghost batch.
        use_running_average: whether the running statistics normalize; here or at the call.
        axis: the feature axes, not the first; all others are reduced.
        decay: the weight of the old running statistics.
        epsilon: added to the variance.
        dtype: the output's dtype; if None the promotion of input and parameters.
        param_dtype: the dtype of scale and bias.
        use_bias: whether a bias is learned.
        use_scale: whether a scale is learned.
        bias_init: initializer of the bias.
        scale_init: initializer of the scale.
        axis_name: mapped axes over which the statistics are shared; not during initialization.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        estimator: how a batch enters the running statistics; an exponential moving average by
            `decay` if None.

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
    use_running_average: bool | None = None
    axis: Axes = -1
    decay: float = 0.99
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: initializers.Initializer = initializers.zeros
    scale_init: initializers.Initializer = initializers.ones
    axis_name: AxisName | None = None
    axis_index_groups: AxisIndexGroups = None
    variance: Variance = "one_pass"
    estimator: Estimator | None = None
