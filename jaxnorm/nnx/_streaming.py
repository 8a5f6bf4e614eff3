"""Norms that see their samples one after another, as nnx modules."""

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
from jaxnorm.nnx._base import Norm, RunningNorm, Store
from jaxnorm.stats import Moments, Variance
from jaxnorm.typing import ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


@nnx.dataclass(eq=False)
class CumulativeLayerNorm(Norm):
    """Normalizes each step by all channels of the steps up to it.

    Luo, Mesgarani: Conv-TasNet, arXiv:1809.07454, 2018. Statistics in float32 or wider.

    Examples:
        >>> layer = CumulativeLayerNorm(2, rngs=nnx.Rngs(0))
        >>> x = jnp.array([[[1.0, 3.0], [3.0, 5.0]]])
        >>> layer(x)[0].round(2)
        Array([[-1.  ,  1.  ],
               [ 0.  ,  1.41]], dtype=float32)
    """

    spec = SPECS["cumulative_layer_norm"]

    num_features: int | Sequence[int]  # the number of channels
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-6  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    axis: int = -1  # the channel axis, behind the steps
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale

    def __call__(
        self, x: ArrayLike, *, mask: ArrayLike | None = None, before: Moments | None = None
    ) -> jax.Array | tuple[jax.Array, Moments]:
        """Returns `x` normalized step by step, and the moments so far where earlier ones are given.

        Args:
            x: [N, T, *spatial, C].
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.
            before: moments of the steps before the first, or None.

        Returns:
            The shape of `x`; with `before` also the moments of all steps up to the last.
        """
        return run(self.spec, self, Store(self), x, mask=mask, before=before)


@nnx.dataclass(eq=False)
class CumulativeGroupNorm(Norm):
    """Normalizes each step by each group of channels in the steps up to it.

    Ma et al.: Megalodon, arXiv:2404.08801, 2024: timestep normalization. Statistics in float32 or
    wider.

    Examples:
        >>> layer = CumulativeGroupNorm(2, num_groups=1, rngs=nnx.Rngs(0))
        >>> x = jnp.array([[[1.0, 3.0], [3.0, 5.0]]])
        >>> layer(x)[0].round(2)
        Array([[-1.  ,  1.  ],
               [ 0.  ,  1.41]], dtype=float32)
    """

    spec = SPECS["cumulative_group_norm"]

    num_features: int | Sequence[int]  # the number of channels
    _: dataclasses.KW_ONLY
    num_groups: int  # groups of contiguous channels
    epsilon: float = 1e-6  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    axis: int = -1  # the channel axis, behind the steps
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale

    def __call__(
        self, x: ArrayLike, *, mask: ArrayLike | None = None, before: Moments | None = None
    ) -> jax.Array | tuple[jax.Array, Moments]:
        """Returns `x` normalized step by step, and the moments so far where earlier ones are given.

        Args:
            x: [N, T, *spatial, C].
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.
            before: moments of the steps before the first, or None.

        Returns:
            The shape of `x`; with `before` also the moments of all steps up to the last.
        """
        return run(self.spec, self, Store(self), x, mask=mask, before=before)


@nnx.dataclass(eq=False)
class PowerNorm(RunningNorm):
    """Divides each feature by its running root mean square.

    Shen et al.: PowerNorm, arXiv:2003.07845, 2020. The backward pass has a running statistic of its
    own: differentiate also with respect to the `nnx.BatchStat` named `backward`, which the gradient
    then replaces.

    Examples:
        >>> layer = PowerNorm(1, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0], [3.0]])).round(2).ravel()
        Array([1., 3.], dtype=float32)
        >>> layer.mean_square[...].round(2)
        Array([1.4], dtype=float32)
    """

    spec = SPECS["power_norm"]

    num_features: int | Sequence[int]  # the size of the feature axis, or of several
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether the statistics stay as they are
    axis: Axes = -1  # the feature axes
    decay: float = 0.9  # the weight of the old mean square
    backward_decay: float = 0.9  # the weight of the old statistic of the backward pass
    epsilon: float = 1e-5  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale


@nnx.dataclass(eq=False)
class OnlineNorm(RunningNorm):
    """Normalizes each sample by the running statistics of the samples before it.

    Chiley et al.: Online Normalization, arXiv:1905.05894, 2019. The backward pass has running
    statistics of its own: differentiate also with respect to the `nnx.BatchStat`s named
    `gradient` and `product`, which their gradients then replace.

    Examples:
        >>> layer = OnlineNorm(1, decay=0.5, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[2.0], [0.0]])).round(2).ravel()
        Array([ 1., -1.], dtype=float32)
        >>> layer.mean[...]
        Array([0.5], dtype=float32)
    """

    spec = SPECS["online_norm"]

    num_features: int | Sequence[int]  # the size of the feature axis, or of several
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether the statistics stay as they are
    axis: Axes = -1  # the feature axes
    decay: float = 0.999  # the weight of the old mean and variance, for each sample
    backward_decay: float = 0.99  # one minus the share of remembered errors that is taken away
    layer_scaling: bool = True  # whether each sample is divided by its root mean square at last
    epsilon: float = 1e-5  # added to the variance and to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale


@nnx.dataclass(eq=False)
class MovingAverageBatchNorm(RunningNorm):
    """Divides each feature by its root mean square over the last batches.

    Yan et al., arXiv:2001.06838, 2020: MABN. For layers whose kernels are centred, as
    `WeightCentralization` does. Differentiate also with respect to the `nnx.BatchStat` named
    `products`, which the gradient then replaces.

    Examples:
        >>> layer = MovingAverageBatchNorm(1, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[0.0], [2.0]])).round(2).ravel()
        Array([0.  , 1.41], dtype=float32)
        >>> layer.mean_squares[0]
        Array([2.], dtype=float32)
    """

    spec = SPECS["moving_average_batch_norm"]

    num_features: int | Sequence[int]  # the size of the feature axis, or of several
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether the statistics stay as they are
    axis: Axes = -1  # the feature axes
    window: int = 16  # how many batches are averaged
    decay: float = 0.98  # the weight of the old mean square
    r_max: float = 5.0  # the largest factor towards the running mean square
    warmup_steps: int = 100  # before this step each batch is by itself
    correction_steps: int = 1000  # up to this step there is no such factor
    epsilon: float = 1e-5  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale
