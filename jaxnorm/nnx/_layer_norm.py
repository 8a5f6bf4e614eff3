"""Layer normalization as an nnx module.

Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import PromoteDtypeFn
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.nnx._base import Norm
from jaxnorm.typing import Axes, DTypeLike


@nnx.dataclass(eq=False)
class LayerNorm(Norm):
    """Normalizes each position over its features: `flax.nnx.LayerNorm` with right statistics.

    Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016. Statistics in float32 or wider,
    of the input as it came, about a member of the sample.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        epsilon: added to the variance.
        dtype: the output's dtype; if None the promotion of input and parameters, so that bfloat16
            with float32 parameters gives float32.
        param_dtype: the dtype of scale and bias.
        use_bias: whether a bias is learned.
        use_scale: whether a scale is learned.
        bias_init: initializer of the bias.
        scale_init: initializer of the scale.
        reduction_axes: the axes that the statistics are taken over.
        feature_axes: the axes that scale and bias belong to.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: one pass over the shifted values if true, two if false; both are right
            at every offset.
        promote_dtype: (inputs, scale, bias), dtype -> the same promoted; decides the dtype of the
            result, and of nothing else.
        rngs: keys.
        bias_metadata: metadata of the bias.
        scale_metadata: metadata of the scale.

    Examples:
        >>> layer = LayerNorm(2, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 3.0], [5e6, 5e6 + 1]])).round(3)
        Array([[-1.,  1.],
               [-1.,  1.]], dtype=float32)
    """

    spec = SPECS["layer_norm"]

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: InitVar[initializers.Initializer] = initializers.zeros
    scale_init: InitVar[initializers.Initializer] = initializers.ones
    reduction_axes: Axes = -1
    feature_axes: Axes = -1
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype
    rngs: InitVar[nnx.Rngs]
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})
