"""Pointwise functions as nnx modules."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.nnx._base import PointwiseNorm
from jaxnorm.typing import Axes, DTypeLike


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
