"""EvoNorms as nnx modules."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.nnx._base import Norm, RunningNorm
from jaxnorm.stats import Estimator, Variance
from jaxnorm.typing import Axes, AxisIndexGroups, AxisName, DTypeLike


@nnx.dataclass(eq=False)
class EvoNormB0(RunningNorm):
    """Divides by a deviation of the batch or, where it is larger, one of the example.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one. The running variance is in `batch_stats`, as in `BatchNorm`.

    Examples:
        >>> layer = EvoNormB0(2, use_running_average=True, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[0.5, 8.0], [0.5, 8.0]]])).round(1)
        Array([[[0.5, 1. ],
                [0.5, 1. ]]], dtype=float32)
    """

    spec = SPECS["evo_norm_b0"]

    num_features: int | Sequence[int]  # the size of the feature axis, or one for each of several
    _: dataclasses.KW_ONLY
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
    gate_init: InitVar[initializers.Initializer] = initializers.ones  # its initializer
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # its initializer
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    gate_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable


@nnx.dataclass(eq=False)
class EvoNormB1(RunningNorm):
    """Divides by a deviation of the batch or, where it is larger, a mean square of the example.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one. The running variance is in `batch_stats`, as in `BatchNorm`.

    Examples:
        >>> layer = EvoNormB1(2, use_running_average=True, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[0.5, 8.0], [0.5, 8.0]]])).round(1)
        Array([[[0.5, 0.1],
                [0.5, 0.1]]], dtype=float32)
    """

    spec = SPECS["evo_norm_b1"]

    num_features: int | Sequence[int]  # the size of the feature axis, or one for each of several
    _: dataclasses.KW_ONLY
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
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # its initializer
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable


@nnx.dataclass(eq=False)
class EvoNormB2(RunningNorm):
    """Divides by a deviation of the batch or, where it is larger, a root mean square less x.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one. The running variance is in `batch_stats`, as in `BatchNorm`.

    Examples:
        >>> layer = EvoNormB2(2, use_running_average=True, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[0.5, 8.0], [0.5, 8.0]]])).round(1)
        Array([[[0.5, 8. ],
                [0.5, 8. ]]], dtype=float32)
    """

    spec = SPECS["evo_norm_b2"]

    num_features: int | Sequence[int]  # the size of the feature axis, or one for each of several
    _: dataclasses.KW_ONLY
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
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # its initializer
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable


@nnx.dataclass(eq=False)
class EvoNormS0(Norm):
    """Divides a gated input by the deviation of its group of channels.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one, without a batch.

    Examples:
        >>> layer = EvoNormS0(2, num_groups=1, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 3.0]])).round(3)
        Array([[0.731, 2.858]], dtype=float32)
    """

    spec = SPECS["evo_norm_s0"]

    num_features: int | Sequence[int]  # the size of the feature axis, or one for each of several
    _: dataclasses.KW_ONLY
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
    gate_init: InitVar[initializers.Initializer] = initializers.ones  # its initializer
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # its initializer
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    gate_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable


@nnx.dataclass(eq=False)
class EvoNormS1(Norm):
    """Divides the SiLU of the input by the deviation of its group of channels.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one, without a batch.

    Examples:
        >>> layer = EvoNormS1(2, num_groups=1, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 3.0]])).round(3)
        Array([[0.731, 2.858]], dtype=float32)
    """

    spec = SPECS["evo_norm_s1"]

    num_features: int | Sequence[int]  # the size of the feature axis, or one for each of several
    _: dataclasses.KW_ONLY
    num_groups: int | None = 32  # how many groups of contiguous channels, or None
    group_size: int | None = None  # how large they are, or None
    axis: int = -1  # the channel axis
    epsilon: float = 1e-5  # added to the variances
    variance: Variance = "one_pass"  # "one_pass", "two_pass" or "fast"
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_scale: bool = True  # whether there is a scale
    use_bias: bool = True  # whether there is a bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # its initializer
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable


@nnx.dataclass(eq=False)
class EvoNormS2(Norm):
    """Divides the SiLU of the input by the root mean square of its group of channels.

    Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020. The
    norm and its activation in one, without a batch.

    Examples:
        >>> layer = EvoNormS2(2, num_groups=1, rngs=nnx.Rngs(0))
        >>> (10 * layer(jnp.array([[1.0, 3.0]]))).astype(int)
        Array([[ 3, 12]], dtype=int32)
    """

    spec = SPECS["evo_norm_s2"]

    num_features: int | Sequence[int]  # the size of the feature axis, or one for each of several
    _: dataclasses.KW_ONLY
    num_groups: int | None = 32  # how many groups of contiguous channels, or None
    group_size: int | None = None  # how large they are, or None
    axis: int = -1  # the channel axis
    epsilon: float = 1e-5  # added to the variances
    variance: Variance = "one_pass"  # "one_pass", "two_pass" or "fast"
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_scale: bool = True  # whether there is a scale
    use_bias: bool = True  # whether there is a bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # its initializer
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # its initializer
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of its variable
