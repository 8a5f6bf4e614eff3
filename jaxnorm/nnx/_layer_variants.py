"""Relatives of layer norm and RMS norm as nnx modules."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.nnx._base import Norm
from jaxnorm.typing import Axes, AxisIndexGroups, AxisName, DTypeLike


@nnx.dataclass(eq=False)
class PRMSNorm(Norm):
    """Divides each position by the root mean square of its first features.

    Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019, section 3.2. The
    mean square is taken in float32 or wider.

    Examples:
        >>> layer = PRMSNorm(4, share=0.5, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[2.0, 2.0, 4.0, -8.0]])).round(3)
        Array([[ 1.,  1.,  2., -4.]], dtype=float32)
    """

    spec = SPECS["p_rms_norm"]

    num_features: int  # the size of the feature axis
    _: dataclasses.KW_ONLY
    share: float = 0.0625  # of the features that are measured
    epsilon: float = 1e-6  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = False  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    axis: int = -1  # the feature axis
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale


@nnx.dataclass(eq=False)
class ScaleNorm(Norm):
    """Divides each position by its length and multiplies by one learned number.

    Nguyen, Salazar: Transformers without Tears, arXiv:1910.05895, 2019. The length is taken in
    float32 or wider.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        epsilon: the smallest length that is divided by.
        scale_init: initializer of the scale []; None starts it at the root of the number of
            features, as the authors do.

    Examples:
        >>> layer = ScaleNorm(4, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[3.0, -4.0, 0.0, 0.0]])).round(3)
        Array([[ 1.2, -1.6,  0. ,  0. ]], dtype=float32)
    """

    spec = SPECS["scale_norm"]

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and scale give
    param_dtype: DTypeLike = jnp.float32  # of the scale
    use_scale: bool = True  # whether a scale is learned
    scale_init: InitVar[initializers.Initializer | None] = None
    reduction_axes: Axes = -1  # the axes that the length is taken over
    axis_name: AxisName | None = None  # of shards that share the length
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale


@nnx.dataclass(eq=False)
class PixelNorm(Norm):
    """Divides each position by the root mean square of its features; nothing is learned.

    Karras et al.: Progressive Growing of GANs, arXiv:1710.10196, 2017. The mean square is taken in
    float32 or wider.

    Examples:
        >>> PixelNorm()(jnp.array([[4.0, 0.0, 0.0, 0.0]])).round(3)
        Array([[2., 0., 0., 0.]], dtype=float32)
    """

    spec = SPECS["pixel_norm"]

    _: dataclasses.KW_ONLY
    epsilon: float = 1e-8  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; that of the input if None
    reduction_axes: Axes = -1  # the axes that the mean square is taken over
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs | None] = None  # no keys are drawn
