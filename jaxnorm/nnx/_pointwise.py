"""Pointwise functions as nnx modules."""

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
from jaxnorm.nnx._base import PointwiseNorm, Store
from jaxnorm.typing import ArrayLike, Axes, DTypeLike


@nnx.dataclass(eq=False)
class DynamicTanh(PointwiseNorm):
    """Squashes each entry by a learned tanh, in the place of a norm.

    Zhu et al.: Transformers without Normalization, arXiv:2503.10622, 2025. No statistics.

    Examples:
        >>> DynamicTanh(2, rngs=nnx.Rngs(0))(jnp.array([[0.0, 2.0]])).round(3)
        Array([[0.   , 0.762]], dtype=float32)
    """

    spec = SPECS["dynamic_tanh"]

    num_features: int | Sequence[int]  # the size of the feature axis, or one for each of several
    _: dataclasses.KW_ONLY
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_alpha: bool = True  # whether the input is scaled
    use_scale: bool = True  # whether a scale is learned
    use_bias: bool = True  # whether a bias is learned
    alpha_init: InitVar[initializers.Initializer] = initializers.constant(0.5)  # of alpha []
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    feature_axes: Axes = -1  # the axes that scale and bias belong to
    rngs: InitVar[nnx.Rngs]  # keys
    alpha_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of alpha
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias


@nnx.dataclass(eq=False)
class DynamicErf(PointwiseNorm):
    """Squashes each entry by a learned error function, in the place of a norm.

    Chen et al.: Stronger Normalization-Free Transformers, arXiv:2512.10938, 2025. No statistics.

    Examples:
        >>> DynamicErf(2, rngs=nnx.Rngs(0))(jnp.array([[0.0, 2.0]])).round(2)
        Array([[0.  , 0.84]], dtype=float32)
    """

    spec = SPECS["dynamic_erf"]

    num_features: int | Sequence[int]  # the size of the feature axis, or one for each of several
    _: dataclasses.KW_ONLY
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_alpha: bool = True  # whether the input is scaled
    use_shift: bool = True  # whether the input is shifted
    use_scale: bool = True  # whether a scale is learned
    use_bias: bool = True  # whether a bias is learned
    alpha_init: InitVar[initializers.Initializer] = initializers.constant(0.5)  # of alpha []
    shift_init: InitVar[initializers.Initializer] = initializers.zeros  # of the shift []
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    feature_axes: Axes = -1  # the axes that scale and bias belong to
    rngs: InitVar[nnx.Rngs]  # keys
    alpha_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of alpha
    shift_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the shift
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias


@nnx.dataclass(eq=False)
class ThresholdedLinearUnit(PointwiseNorm):
    """Cuts each feature off from below at a learned threshold.

    Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019. As it starts the
    layer is a ReLU.

    Examples:
        >>> start = initializers.constant(-1.0)
        >>> layer = ThresholdedLinearUnit(2, threshold_init=start, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[-3.0, 2.0]]))
        Array([[-1.,  2.]], dtype=float32)
    """

    spec = SPECS["thresholded_linear_unit"]

    num_features: int | Sequence[int]  # the size of the feature axis, or one for each of several
    _: dataclasses.KW_ONLY
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and threshold give
    param_dtype: DTypeLike = jnp.float32  # of the threshold
    use_threshold: bool = True  # whether a threshold is learned; a ReLU if not
    threshold_init: InitVar[initializers.Initializer] = initializers.zeros  # of the threshold
    feature_axes: Axes = -1  # the axes that the threshold belongs to
    rngs: InitVar[nnx.Rngs]  # keys
    threshold_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the threshold


@nnx.dataclass(eq=False)
class LayerScale(PointwiseNorm):
    """Multiplies a residual branch by a small learned scale for each feature.

    Touvron et al.: Going deeper with Image Transformers, arXiv:2103.17239, 2021. To be added to
    what the branch was computed of; `jaxnorm.layer_scale_start` has the start for each depth.

    Examples:
        >>> layer = LayerScale(2, scale_init=initializers.constant(0.1), rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[10.0, 20.0]]))
        Array([[1., 2.]], dtype=float32)
    """

    spec = SPECS["layer_scale"]

    num_features: int | Sequence[int]  # the size of the feature axis, or one for each of several
    _: dataclasses.KW_ONLY
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and scale give
    param_dtype: DTypeLike = jnp.float32  # of the scale
    use_scale: bool = True  # whether the branch is scaled
    scale_init: InitVar[initializers.Initializer] = initializers.constant(1e-5)  # of the scale
    feature_axes: Axes = -1  # the axes that the scale belongs to
    rngs: InitVar[nnx.Rngs]  # keys
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale


@nnx.dataclass(eq=False)
class ReZero(PointwiseNorm):
    """Adds a residual branch with a learned weight that starts at zero.

    Bachlechner et al.: ReZero is All You Need, arXiv:2003.04887, 2020.

    Examples:
        >>> x = jnp.array([[1.0, 2.0]])
        >>> ReZero(rngs=nnx.Rngs(0))(x, x**2)
        Array([[1., 2.]], dtype=float32)
    """

    spec = SPECS["re_zero"]

    _: dataclasses.KW_ONLY
    dtype: DTypeLike | None = None  # the output's dtype; if None what x and alpha give
    param_dtype: DTypeLike = jnp.float32  # of alpha
    use_alpha: bool = True  # whether the branch is weighted
    alpha_init: InitVar[initializers.Initializer] = initializers.zeros  # of alpha []
    rngs: InitVar[nnx.Rngs]  # keys
    alpha_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of alpha

    def __call__(self, x: ArrayLike, branch: ArrayLike) -> jax.Array:
        """Returns `x` plus the weighted branch.

        Args:
            x: [*shape], what the branch was computed of.
            branch: [*shape], its output.

        Returns:
            The shape of `x`.
        """
        return run(self.spec, self, Store(self), x, branch=branch)


@nnx.dataclass(eq=False)
class SkipInit(PointwiseNorm):
    """Multiplies a residual branch by one learned factor that starts at zero.

    De, Smith: Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep
    Networks, arXiv:2002.10444, 2020. To be added to what the branch was computed of.

    Examples:
        >>> layer = SkipInit(alpha_init=initializers.constant(0.5), rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 2.0]]))
        Array([[0.5, 1. ]], dtype=float32)
    """

    spec = SPECS["skip_init"]

    _: dataclasses.KW_ONLY
    dtype: DTypeLike | None = None  # the output's dtype; if None what the branch and alpha give
    param_dtype: DTypeLike = jnp.float32  # of alpha
    use_alpha: bool = True  # whether the branch is weighted
    alpha_init: InitVar[initializers.Initializer] = initializers.zeros  # of alpha []
    rngs: InitVar[nnx.Rngs]  # keys
    alpha_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of alpha
