"""Norms of each position over its features, as nnx modules."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import PromoteDtypeFn
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.nnx._base import Norm
from jaxnorm.ops import Activation
from jaxnorm.typing import ArrayLike, Axes, DTypeLike


@nnx.dataclass(eq=False)
class LayerNorm(Norm):
    """Normalizes each position over its features: `flax.nnx.LayerNorm` with right statistics.

    Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016. Statistics in float32 or wider,
    of the input as it came, about a member of the sample.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        epsilon: added to the variance.
        dtype: the output's dtype; if None what input and parameters promote to.
        param_dtype: the dtype of scale and bias.
        use_bias, use_scale: whether a bias and a scale are learned.
        bias_init, scale_init: initializers of the bias and of the scale.
        reduction_axes: the axes that the statistics are taken over.
        feature_axes: the axes that scale and bias belong to.
        axis_name, axis_index_groups: mapped axes over which shards share statistics, in groups.
        use_fast_variance: whether one pass is taken, not two; both are right at every offset.
        promote_dtype: (x, scale, bias), dtype -> all of the dtype that the result gets.
        rngs: keys.
        bias_metadata, scale_metadata: metadata of the bias and of the scale.
        zero_centered: whether `1 + scale` multiplies; start the scale at zeros then.
        activation: "relu", "silu" or "gelu" of the output, in the same pass; None for none.

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
    zero_centered: bool = False
    activation: Activation | None = None


@nnx.dataclass(eq=False)
class RMSNorm(Norm):
    """Divides each position by the root mean square of its features: `flax.nnx.RMSNorm`.

    Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019. The mean square
    is taken in float32 or wider, of the input as it came.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        epsilon: added to the mean square, inside the root.
        dtype: the output's dtype; if None what input and scale promote to.
        param_dtype: the dtype of scale and bias.
        use_scale: whether a scale is learned.
        scale_init: initializer of the scale.
        reduction_axes: the axes that the mean square is taken over.
        feature_axes: the axes that scale and bias belong to.
        axis_name, axis_index_groups: mapped axes over which shards share statistics, in groups.
        use_fast_variance: without effect, a mean square needs one pass.
        promote_dtype: (x, scale, bias), dtype -> all of the dtype that the result gets.
        rngs: keys.
        scale_metadata: metadata of the scale.
        zero_centered: whether `1 + scale` multiplies; start the scale at zeros then.
        cast: "after" or "before" the scale, when the output is rounded; see `jaxnorm.rms_norm`.
        use_bias: whether a bias is learned, as by default in Equinox.
        bias_init: initializer of the bias.
        bias_metadata: metadata of the bias.
        activation: "relu", "silu" or "gelu" of the output, in the same pass; None for none.

    Examples:
        >>> layer = RMSNorm(2, scale_init=initializers.constant(5.0), rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, -1.0], [5.0, 5.0]])).round(3)
        Array([[ 5., -5.],
               [ 5.,  5.]], dtype=float32)
    """

    spec = SPECS["rms_norm"]

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_scale: bool = True
    scale_init: InitVar[initializers.Initializer] = initializers.ones
    reduction_axes: Axes = -1
    feature_axes: Axes = -1
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype
    rngs: InitVar[nnx.Rngs]
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})
    zero_centered: bool = False
    cast: Literal["after", "before"] = "after"
    use_bias: bool = False
    bias_init: InitVar[initializers.Initializer] = initializers.zeros
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})
    activation: Activation | None = None

    # As in Flax, whose only norm with a positional mask this is.
    def __call__(self, x: ArrayLike, mask: ArrayLike | None = None) -> jax.Array:
        """Returns `x` with mean square 1 over `reduction_axes`, then scaled.

        Args:
            x: [*batch, C], of any rank from 1.
            mask: see `jaxnorm.nnx.LayerNorm`.

        Returns:
            [*batch, C].
        """
        return super().__call__(x, mask=mask)
