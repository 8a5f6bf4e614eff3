"""Norms that take correlations away, as linen modules."""

import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import RunningNorm
from jaxnorm.stats import Variance
from jaxnorm.typing import AxisIndexGroups, AxisName, DTypeLike


class IterativeNorm(RunningNorm):
    """Whitens groups of channels by a few of Newton's steps.

    Huang et al.: Iterative Normalization, arXiv:1904.03441, 2019. The running statistics are `mean`
    and `covariance`.

    Examples:
        >>> import jax
        >>> layer = IterativeNorm(use_running_average=False)
        >>> x = jnp.array([[1.0, 0.0], [3.0, 0.0], [2.0, 1.0], [2.0, -1.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, _ = layer.apply(variables, x, mutable=["batch_stats"])
        >>> y[1].round(2)
        Array([1.41, 0.  ], dtype=float32)
    """

    spec = SPECS["iterative_norm"]

    use_running_average: bool | None = None  # whether running statistics normalize
    num_groups: int = 1  # contiguous groups of channels
    iterations: int = 5  # Newton's steps
    axis: int = -1  # the channel axis
    decay: float = 0.9  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the diagonal of the covariance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"


class DecorrelatedBatchNorm(RunningNorm):
    """Whitens groups of channels by the inverse root of their covariance.

    Huang et al.: Decorrelated Batch Normalization, arXiv:1804.08450, 2018. The running statistics
    are `mean` and `covariance`.

    Examples:
        >>> import jax
        >>> layer = DecorrelatedBatchNorm(use_running_average=False)
        >>> x = jnp.array([[1.0, 0.0], [3.0, 0.0], [2.0, 1.0], [2.0, -1.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, _ = layer.apply(variables, x, mutable=["batch_stats"])
        >>> y[1].round(2)
        Array([1.41, 0.  ], dtype=float32)
    """

    spec = SPECS["decorrelated_batch_norm"]

    use_running_average: bool | None = None  # whether running statistics normalize
    num_groups: int = 1  # contiguous groups of channels
    axis: int = -1  # the channel axis
    decay: float = 0.9  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the diagonal of the covariance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"


class ComplexBatchNorm(RunningNorm):
    """Whitens real and imaginary part of each channel together.

    Trabelsi et al.: Deep Complex Networks, arXiv:1705.09792, 2017. The running statistics are
    `mean` and `covariance`; the parameters are real.

    Examples:
        >>> import jax
        >>> layer = ComplexBatchNorm(use_running_average=False)
        >>> x = jnp.array([[1.0 + 0j], [-1.0 + 0j], [2j], [-2j]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, _ = layer.apply(variables, x, mutable=["batch_stats"])
        >>> y.ravel().round(2)[::2]
        Array([1.+0.j, 0.+1.j], dtype=complex64)
    """

    spec = SPECS["complex_batch_norm"]

    use_running_average: bool | None = None  # whether running statistics normalize
    axis: int = -1  # the channel axis
    decay: float = 0.9  # the weight of the old running statistics
    epsilon: float = 1e-4  # added to both variances
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether the diagonal of a scale is learned
    use_cross: bool = True  # whether the rest of the scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer | None = None  # of the scale; 1 / sqrt(2) if None
    cross_init: initializers.Initializer = initializers.zeros  # of the rest
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
