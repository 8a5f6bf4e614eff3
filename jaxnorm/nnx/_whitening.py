"""Norms that take correlations away, as nnx modules."""

import dataclasses
from collections.abc import Mapping
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.nnx._base import RunningNorm
from jaxnorm.stats import Variance
from jaxnorm.typing import AxisIndexGroups, AxisName, DTypeLike


@nnx.dataclass(eq=False)
class IterativeNorm(RunningNorm):
    """Whitens groups of channels by a few of Newton's steps.

    Huang et al.: Iterative Normalization, arXiv:1904.03441, 2019. The running statistics are `mean`
    and `covariance`.

    Examples:
        >>> layer = IterativeNorm(2, rngs=nnx.Rngs(0))
        >>> y = layer(jnp.array([[1.0, 0.0], [3.0, 0.0], [2.0, 1.0], [2.0, -1.0]]))
        >>> y[1].round(2)
        Array([1.41, 0.  ], dtype=float32)
    """

    spec = SPECS["iterative_norm"]

    num_features: int  # the channels
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether running statistics normalize
    num_groups: int = 1  # contiguous groups of channels
    iterations: int = 5  # Newton's steps
    axis: int = -1  # the channel axis
    decay: float = 0.9  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the diagonal of the covariance
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


@nnx.dataclass(eq=False)
class DecorrelatedBatchNorm(RunningNorm):
    """Whitens groups of channels by the inverse root of their covariance.

    Huang et al.: Decorrelated Batch Normalization, arXiv:1804.08450, 2018. The running statistics
    are `mean` and `covariance`.

    Examples:
        >>> layer = DecorrelatedBatchNorm(2, rngs=nnx.Rngs(0))
        >>> y = layer(jnp.array([[1.0, 0.0], [3.0, 0.0], [2.0, 1.0], [2.0, -1.0]]))
        >>> y[1].round(2)
        Array([1.41, 0.  ], dtype=float32)
    """

    spec = SPECS["decorrelated_batch_norm"]

    num_features: int  # the channels
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether running statistics normalize
    num_groups: int = 1  # contiguous groups of channels
    axis: int = -1  # the channel axis
    decay: float = 0.9  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the diagonal of the covariance
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


@nnx.dataclass(eq=False)
class ComplexBatchNorm(RunningNorm):
    """Whitens real and imaginary part of each channel together.

    Trabelsi et al.: Deep Complex Networks, arXiv:1705.09792, 2017. The running statistics are
    `mean` and `covariance`; the parameters are real.

    Examples:
        >>> layer = ComplexBatchNorm(1, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0 + 0j], [-1.0 + 0j], [2j], [-2j]])).ravel().round(2)[::2]
        Array([1.+0.j, 0.+1.j], dtype=complex64)
    """

    spec = SPECS["complex_batch_norm"]

    num_features: int  # the channels
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether running statistics normalize
    axis: int = -1  # the channel axis
    decay: float = 0.9  # the weight of the old running statistics
    epsilon: float = 1e-4  # added to both variances
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether the diagonal of a scale is learned
    use_cross: bool = True  # whether the rest of the scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer | None] = None  # of the scale; 1 / sqrt(2)
    cross_init: InitVar[initializers.Initializer] = initializers.zeros  # of the rest
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale
    cross_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the rest
