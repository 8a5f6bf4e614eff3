"""Variants of batch normalization as nnx modules."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from jaxnorm.functional import SPECS, run
from jaxnorm.nnx._base import RunningNorm, Store, averages
from jaxnorm.stats import Estimator, Variance
from jaxnorm.typing import ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


@nnx.dataclass(eq=False)
class BatchRenorm(RunningNorm):
    """Normalizes each feature by the batch, corrected towards the running statistics.

    Ioffe: Batch Renormalization, arXiv:1702.03275, 2017. The bounds of the correction are fields or
    arguments of the call, which may be traced: `jaxnorm.batch_renorm_schedule(step)` has the
    paper's.

    Examples:
        >>> layer = BatchRenorm(1, d_max=2.5, rngs=nnx.Rngs(0))
        >>> y = layer(jnp.array([[1.0], [5.0]]))
        >>> y.ravel().round(2)
        Array([0.5, 4.5], dtype=float32)
    """

    spec = SPECS["batch_renorm"]

    num_features: int | Sequence[int]  # the size of the feature axis, or of several
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether running statistics normalize
    r_max: float = 3.0  # the largest ratio of standard deviations, at least 1
    d_max: float = 5.0  # the largest shift of the mean in running standard deviations
    axis: Axes = -1  # the feature axes
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None

    def __call__(
        self,
        x: ArrayLike,
        use_running_average: bool | None = None,
        *,
        mask: ArrayLike | None = None,
        r_max: ArrayLike | None = None,
        d_max: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns `x` normalized per feature, and updates the running statistics by the batch.

        Args:
            x: [N, *spatial, *features] (or features at `axis`).
            use_running_average: whether the running statistics normalize.
            mask: broadcastable to `x`; an entry's part in the statistics, or its weight.
            r_max: [], the bound of the ratio in this call; the field if None.
            d_max: [], the bound of the shift in this call; the field if None.

        Returns:
            The shape of `x`.
        """
        bounds = {
            "r_max": self.r_max if r_max is None else r_max,
            "d_max": self.d_max if d_max is None else d_max,
        }
        average = averages(self, use_running_average)
        store = Store(self)
        return run(self.spec, self, store, x, mask=mask, use_running_average=average, **bounds)


@nnx.dataclass(eq=False)
class EMABatchNorm(RunningNorm):
    """Normalizes each feature by running statistics that hold the batch, in training too.

    Kidger, Garcia: Equinox: neural networks in JAX via callable PyTrees, arXiv:2111.00254, 2021
    (`mode="ema"` of its batch norm). The gradient sees the batch by the share `1 - decay`.

    Examples:
        >>> layer = EMABatchNorm(1, decay=0.5, rngs=nnx.Rngs(0))
        >>> y = layer(jnp.array([[1.0], [3.0]]))
        >>> y.ravel().round(2)
        Array([0., 2.], dtype=float32)
    """

    spec = SPECS["ema_batch_norm"]

    num_features: int | Sequence[int]  # the size of the feature axis, or of several
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether running statistics normalize
    axis: Axes = -1  # the feature axes
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None


@nnx.dataclass(eq=False)
class MeanOnlyBatchNorm(RunningNorm):
    """Subtracts from each feature its mean over the batch, beside weight-normalized kernels.

    Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016, section 4. The running variance
    is kept, as every estimator has one, but normalizes nothing.

    Examples:
        >>> layer = MeanOnlyBatchNorm(1, rngs=nnx.Rngs(0))
        >>> y = layer(jnp.array([[1.0], [5.0]]))
        >>> y.ravel()
        Array([-2.,  2.], dtype=float32)
    """

    spec = SPECS["mean_only_batch_norm"]

    num_features: int | Sequence[int]  # the size of the feature axis, or of several
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether running statistics normalize
    axis: Axes = -1  # the feature axes
    decay: float = 0.99  # the weight of the old running statistics
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None
