"""EvoNorms as linen modules."""

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import Norm, RunningNorm
from jaxnorm.stats import Estimator, Variance
from jaxnorm.typing import Axes, AxisIndexGroups, AxisName, DTypeLike


class EvoNormB0(RunningNorm):
    """Divides by a deviation of the batch or, where it is larger, one of the example.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one. The running variance is in `batch_stats`, as in `BatchNorm`.

    Examples:
        >>> import jax
        >>> layer, x = EvoNormB0(use_running_average=True), jnp.array([[[0.5, 8.0], [0.5, 8.0]]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(1)
        Array([[[0.5, 1. ],
                [0.5, 1. ]]], dtype=float32)
    """

    spec = SPECS["evo_norm_b0"]

    use_running_average: bool | None = None  # here or at the call
    axis: Axes = -1  # the feature axes, not the first
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variances
    variance: Variance = "one_pass"  # "one_pass", "two_pass" or "fast"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_gate: bool = True  # whether there is a gate
    use_scale: bool = True  # whether there is a scale
    use_bias: bool = True  # whether there is a bias
    gate_init: initializers.Initializer = initializers.ones  # its initializer
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    bias_init: initializers.Initializer = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class EvoNormB1(RunningNorm):
    """Divides by a deviation of the batch or, where it is larger, a mean square of the example.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one. The running variance is in `batch_stats`, as in `BatchNorm`.

    Examples:
        >>> import jax
        >>> layer, x = EvoNormB1(use_running_average=True), jnp.array([[[0.5, 8.0], [0.5, 8.0]]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(1)
        Array([[[0.5, 0.1],
                [0.5, 0.1]]], dtype=float32)
    """

    spec = SPECS["evo_norm_b1"]

    use_running_average: bool | None = None  # here or at the call
    axis: Axes = -1  # the feature axes, not the first
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variances
    variance: Variance = "one_pass"  # "one_pass", "two_pass" or "fast"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_scale: bool = True  # whether there is a scale
    use_bias: bool = True  # whether there is a bias
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    bias_init: initializers.Initializer = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class EvoNormB2(RunningNorm):
    """Divides by a deviation of the batch or, where it is larger, a root mean square less x.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one. The running variance is in `batch_stats`, as in `BatchNorm`.

    Examples:
        >>> import jax
        >>> layer, x = EvoNormB2(use_running_average=True), jnp.array([[[0.5, 8.0], [0.5, 8.0]]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(1)
        Array([[[0.5, 8. ],
                [0.5, 8. ]]], dtype=float32)
    """

    spec = SPECS["evo_norm_b2"]

    use_running_average: bool | None = None  # here or at the call
    axis: Axes = -1  # the feature axes, not the first
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variances
    variance: Variance = "one_pass"  # "one_pass", "two_pass" or "fast"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_scale: bool = True  # whether there is a scale
    use_bias: bool = True  # whether there is a bias
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    bias_init: initializers.Initializer = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class EvoNormS0(Norm):
    """Divides a gated input by the deviation of its group of channels.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one, without a batch.

    Examples:
        >>> import jax
        >>> layer, x = EvoNormS0(num_groups=1), jnp.array([[1.0, 3.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[0.731, 2.858]], dtype=float32)
    """

    spec = SPECS["evo_norm_s0"]

    num_groups: int | None = 32  # how many groups of contiguous channels, or None
    group_size: int | None = None  # how large they are, or None
    axis: int = -1  # the channel axis
    epsilon: float = 1e-5  # added to the variances
    variance: Variance = "one_pass"  # "one_pass", "two_pass" or "fast"
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_gate: bool = True  # whether there is a gate
    use_scale: bool = True  # whether there is a scale
    use_bias: bool = True  # whether there is a bias
    gate_init: initializers.Initializer = initializers.ones  # its initializer
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    bias_init: initializers.Initializer = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class EvoNormS1(Norm):
    """Divides the SiLU of the input by the deviation of its group of channels.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one, without a batch.

    Examples:
        >>> import jax
        >>> layer, x = EvoNormS1(num_groups=1), jnp.array([[1.0, 3.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[0.731, 2.858]], dtype=float32)
    """

    spec = SPECS["evo_norm_s1"]

    num_groups: int | None = 32  # how many groups of contiguous channels, or None
    group_size: int | None = None  # how large they are, or None
    axis: int = -1  # the channel axis
    epsilon: float = 1e-5  # added to the variances
    variance: Variance = "one_pass"  # "one_pass", "two_pass" or "fast"
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_scale: bool = True  # whether there is a scale
    use_bias: bool = True  # whether there is a bias
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    bias_init: initializers.Initializer = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class EvoNormS2(Norm):
    """Divides the SiLU of the input by the root mean square of its group of channels.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one, without a batch.

    Examples:
        >>> import jax
        >>> layer, x = EvoNormS2(num_groups=1), jnp.array([[1.0, 3.0]])
        >>> (10 * layer.apply(layer.init(jax.random.key(0), x), x)).astype(int)
        Array([[ 3, 12]], dtype=int32)
    """

    spec = SPECS["evo_norm_s2"]

    num_groups: int | None = 32  # how many groups of contiguous channels, or None
    group_size: int | None = None  # how large they are, or None
    axis: int = -1  # the channel axis
    epsilon: float = 1e-5  # added to the variances
    variance: Variance = "one_pass"  # "one_pass", "two_pass" or "fast"
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_scale: bool = True  # whether there is a scale
    use_bias: bool = True  # whether there is a bias
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    bias_init: initializers.Initializer = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
